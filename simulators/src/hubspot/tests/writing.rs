//! What writes do, and what they refuse.

use serde_json::{Value, json};

use super::{account, ask};
use crate::hubspot::{Kind, state::Edits};

#[test]
fn writes_are_checked_and_one_bad_value_refuses_a_batch() {
    let state = account(100);
    let deals = state.live_ids(Kind::Deals);
    let update =
        |inputs: Value| ask(&state, "POST", "/crm/objects/2026-03/deals/batch/update", json!({"inputs": inputs}));
    let input = |id: &str, properties: Value| json!({"id": id, "properties": properties, "objectWriteTraceId": id});
    for (properties, code) in [
        (json!({"nonsense": "1"}), "PROPERTY_DOESNT_EXIST"),
        (json!({"amount": "a lot"}), "INVALID_LONG"),
        (json!({"dealstage": "nowhere"}), "INVALID_OPTION"),
        (json!({"closedate": "soon"}), "INVALID_DATE"),
        (json!({"hs_object_id": "5"}), "READ_ONLY_VALUE"),
    ] {
        let (status, body) =
            update(json!([input(&deals[0], json!({"dealname": "not written"})), input(&deals[1], properties)]));
        assert_eq!(
            (status, &body["category"], &body["errors"][0]["code"]),
            (400, &json!("VALIDATION_ERROR"), &json!(code))
        );
    }
    assert_ne!(state.property(Kind::Deals, &deals[0], "dealname").as_deref(), Some("not written"));
    let (status, body) = update(json!([input("1", json!({})), input(&deals[0], json!({"gtm_score": 7}))]));
    assert_eq!((status, &body["results"][0]["objectWriteTraceId"]), (207, &json!(deals[0])));
    assert_eq!(body["errors"][0]["context"]["objectWriteTraceId"], json!(["1"]));
    assert_eq!(state.property(Kind::Deals, &deals[0], "gtm_score").as_deref(), Some("7"));
    assert_eq!(update(json!(vec![input("1", json!({})); 101])).0, 400, "a hundred inputs at most");
}

#[test]
fn an_upsert_refuses_row_by_row_and_emails_are_unique() {
    let state = account(100);
    let input = |id: &str, properties: Value| json!({"id": id, "idProperty": "email", "properties": properties, "objectWriteTraceId": format!("trace {id}")});
    let inputs =
        json!([input("a@x.example", json!({"gtm_score": "1"})), input("b@x.example", json!({"gtm_score": "?"}))]);
    let (status, body) = ask(&state, "POST", "/crm/v3/objects/contacts/batch/upsert", json!({"inputs": inputs}));
    assert_eq!((status, &body["results"][0]["new"], &body["numErrors"]), (207, &json!(true), &json!(1)));
    assert_eq!(body["errors"][0]["context"]["objectWriteTraceId"], json!(["trace b@x.example"]));
    let again = json!({"properties": {"email": "A@x.example"}});
    let (status, body) = ask(&state, "POST", "/crm/objects/2026-03/contacts", again);
    assert_eq!((status, &body["category"]), (409, &json!("CONFLICT")));
}

#[test]
fn creating_with_associations_makes_the_first_company_primary() {
    let state = account(100);
    let companies = state.live_ids(Kind::Companies);
    let to = |id: &str, type_id: u16| json!({"to": {"id": id}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}]});
    let body =
        json!({"properties": {"lastname": "x"}, "associations": [to(&companies[0], 279), to(&companies[1], 279)]});
    let (status, created) = ask(&state, "POST", "/crm/objects/2026-03/contacts", body);
    assert_eq!(status, 201, "{created}");
    let id = created["id"].as_str().expect("an id");
    assert_eq!(state.property(Kind::Contacts, id, "associatedcompanyid").as_ref(), Some(&companies[0]));
    assert!(state.associate((Kind::Contacts, id), (Kind::Companies, &companies[1]), true));
    assert_eq!(state.property(Kind::Contacts, id, "associatedcompanyid").as_ref(), Some(&companies[1]));
    assert!(state.archive(Kind::Companies, &companies[1]));
    assert_eq!(
        state.property(Kind::Contacts, id, "associatedcompanyid"),
        None,
        "archived records have no associations"
    );
}

#[test]
fn every_change_is_a_newer_version() {
    let state = account(100);
    let id = state.live_ids(Kind::Notes).remove(0);
    let mut last = None;
    for round in 0..5 {
        assert!(state.update(Kind::Notes, &id, [("hs_note_body".to_owned(), Some(round.to_string()))].into()));
        let version = state.property(Kind::Notes, &id, "hs_lastmodifieddate");
        assert!(version > last, "even within a millisecond");
        last = version;
    }
}

#[test]
fn random_edits_are_repeatable_and_are_what_they_say() {
    let edits = Edits { seed: 5, create: 4, update: 6, archive: 3, merge: 2 };
    let (state, twin) = (account(500), account(500));
    let edited = state.edit_random(edits);
    assert_eq!(edited, twin.edit_random(edits));
    assert_eq!((edited.created.len(), edited.updated.len(), edited.archived.len()), (4, 6, 3));
    let truths = state.truth();
    let find = |name: &String| {
        let (stream, id) = name.split_once(':').expect("type and id");
        truths.iter().find(|truth| truth.stream == stream && truth.id == id).expect("a record")
    };
    assert!(edited.archived.iter().all(|name| !find(name).is_live()));
    assert!(edited.merged.iter().all(|name| find(name).merged_into.is_some()));
    assert!(edited.created.iter().all(|name| find(name).is_live()));
}
