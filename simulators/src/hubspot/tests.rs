//! The simulated API as a client meets it, without HTTP: what is listed, found, refused and damaged.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Defect, Effect, Fault, Kind, Limits, OauthOptions, Options, Visibility,
    account::Account,
    answer::Answer,
    request::{Request, decode_pairs},
    state::{Edits, StateHandle},
};
use crate::clock::Clock;

fn start(options: Options) -> StateHandle {
    StateHandle::new(Account::new(&options, Arc::new(Clock::default())))
}

fn account(records: u32) -> StateHandle {
    start(Options { records, limits: Limits::unlimited(), ..Options::default() })
}

fn request(method: &str, target: &str, body: Value) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: decode_pairs(query),
        url_bytes: target.len(),
        bearer: Some("pat-simulated".to_owned()),
        body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
    }
}

fn send(state: &StateHandle, request: &Request) -> Answer {
    state.with(|account| account.serve(request)).answer
}

/// Status and body of an answer.
fn ask(state: &StateHandle, method: &str, target: &str, body: Value) -> (u16, Value) {
    let answer = send(state, &request(method, target, body));
    (answer.status.as_u16(), answer.body.unwrap_or_default())
}

fn get(state: &StateHandle, target: &str) -> Value {
    let (status, body) = ask(state, "GET", target, Value::Null);
    assert_eq!(status, 200, "{target}: {body}");
    body
}

fn search(state: &StateHandle, kind: Kind, body: Value) -> Value {
    let (status, body) = ask(state, "POST", &format!("/crm/objects/2026-03/{}/search", kind.plural()), body);
    assert_eq!(status, 200, "{body}");
    body
}

fn ids(body: &Value) -> Vec<String> {
    body["results"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Follows a list to its end.
fn list_all(state: &StateHandle, target: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut page = get(state, target);
    loop {
        all.extend(page["results"].as_array().expect("a page").iter().cloned());
        let Some(after) = page["paging"]["next"]["after"].as_str() else { return all };
        page = get(state, &format!("{target}&after={after}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_records_and_another_seed_others() {
    let all = |seed| {
        let visibility = Visibility { late_records: 0, ..Visibility::default() };
        start(Options { seed, records: 500, visibility, ..Options::default() }).truth()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

#[test]
fn records_are_split_over_all_types_and_none_is_left_out() {
    for records in [10, 99, 12_345] {
        let counts = super::records::split(records);
        assert_eq!(counts.iter().sum::<u32>(), records);
        assert!(counts[..3].iter().all(|&count| count > 0), "companies, contacts and deals at any size");
    }
}

#[test]
fn a_list_shows_every_live_record_once_and_the_archive_the_others() {
    let state = account(3_000);
    for kind in Kind::ALL {
        let name = kind.plural();
        let live = list_all(&state, &format!("/crm/objects/2026-03/{name}?limit=100"));
        let archived = list_all(&state, &format!("/crm/v3/objects/{name}?limit=7&archived=true"));
        let merged = state.truth().iter().filter(|one| one.stream == name && one.merged_into.is_some()).count();
        let hidden = state.truth().iter().filter(|one| one.stream == name && one.visible_from.is_some()).count();
        let distinct: BTreeSet<_> = live.iter().chain(&archived).map(|one| one["id"].to_string()).collect();
        assert_eq!(distinct.len(), live.len() + archived.len(), "{name}: none twice");
        assert_eq!(distinct.len() + merged + hidden, state.count(kind) as usize, "{name}: none missing");
        assert!(archived.iter().all(|one| one["archived"] == true && one["archivedAt"].is_string()));
    }
}

#[test]
fn the_data_are_as_messy_as_real_ones() {
    let truths = account(20_000).truth();
    let has = |what: &str, test: &dyn Fn(&super::Truth) -> bool| assert!(truths.iter().any(test), "{what}");
    let value = |truth: &super::Truth, name: &str| truth.properties.get(name).cloned();
    has("archived", &|truth| truth.archived_at.is_some());
    has("merged", &|truth| truth.merged_into.is_some());
    has("late", &|truth| truth.visible_from.is_some());
    has("no name", &|truth| truth.stream == "companies" && value(truth, "name").is_none());
    has("not ASCII", &|truth| value(truth, "firstname").is_some_and(|name| !name.is_ascii()));
    has("empty text", &|truth| value(truth, "amount").as_deref() == Some(""));
    has("an exponent", &|truth| value(truth, "amount").as_deref() == Some("1e3"));
    has("a negative amount", &|truth| value(truth, "amount").is_some_and(|amount| amount.starts_with('-')));
    has("a long note", &|truth| value(truth, "hs_note_body").is_some_and(|note| note.len() > 20_000));
    has("a date far ahead", &|truth| value(truth, "closedate").is_some_and(|date| date.starts_with("2099")));
    let doubles = |name: &str| {
        let all: Vec<_> = truths.iter().filter_map(|truth| value(truth, name)).collect();
        all.len() - all.iter().collect::<BTreeSet<_>>().len()
    };
    assert!(doubles("domain") > 50 && doubles("email") == 0, "companies share domains, contacts no address");
    let mut times = std::collections::BTreeMap::new();
    for truth in truths.iter().filter(|truth| truth.stream == "contacts") {
        *times.entry(truth.updated_at).or_insert(0) += 1;
    }
    let most = times.into_values().max();
    assert!(most > Some(100), "many contacts share a time of change, got {most:?}");
}

#[test]
fn properties_are_those_asked_for_and_the_systems_own() {
    let state = account(100);
    let page = get(&state, "/crm/objects/2026-03/contacts?limit=1&properties=jobtitle,nonsense&properties=lastname");
    let names: Vec<_> = page["results"][0]["properties"].as_object().expect("an object").keys().cloned().collect();
    assert_eq!(names, ["createdate", "hs_object_id", "jobtitle", "lastmodifieddate", "lastname"]);
    let page = get(&state, "/crm/objects/2026-03/companies?limit=1");
    let names: Vec<_> = page["results"][0]["properties"].as_object().expect("an object").keys().cloned().collect();
    assert_eq!(names, ["createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"]);
}

#[test]
fn search_compares_by_the_propertys_type() {
    let state = account(2_000);
    let all = list_all(&state, "/crm/objects/2026-03/deals?limit=100&properties=amount,dealname");
    let amount = |one: &Value| one["properties"]["amount"].as_str().and_then(|text| text.parse::<f64>().ok());
    let wanted = |test: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
        all.iter().filter(|one| test(one)).map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    };
    let found = |filter: Value| -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        loop {
            let body = json!({"filters": [filter], "limit": 200, "after": found.len().to_string()});
            let page = search(&state, Kind::Deals, body);
            found.extend(ids(&page));
            if page["paging"].is_null() {
                return found;
            }
        }
    };
    let filter = |operator: &str, value: &str| json!({"propertyName": "amount", "operator": operator, "value": value});
    assert_eq!(found(filter("GT", "1e3")), wanted(&|one| amount(one).is_some_and(|amount| amount > 1000.0)));
    assert_eq!(found(filter("LTE", "0")), wanted(&|one| amount(one).is_some_and(|amount| amount <= 0.0)));
    assert_eq!(found(filter("HAS_PROPERTY", "")), wanted(&|one| amount(one).is_some()));
    let between = json!({"propertyName": "amount", "operator": "BETWEEN", "value": "1000", "highValue": "2000.5"});
    assert_eq!(found(between), wanted(&|one| amount(one).is_some_and(|amount| (1000.0..=2000.5).contains(&amount))));
    let some: Vec<_> = all.iter().take(3).map(|one| one["id"].clone()).collect();
    let by_id = json!({"propertyName": "hs_object_id", "operator": "IN", "values": some});
    assert_eq!(found(by_id).len(), 3);
    let changed = &all[5]["updatedAt"];
    let since = json!({"propertyName": "hs_lastmodifieddate", "operator": "GTE", "value": changed});
    let changed = changed.as_str().expect("a time");
    assert_eq!(found(since), wanted(&|one| one["updatedAt"].as_str() >= Some(changed)), "times as ISO 8601 text");
}

#[test]
fn search_sorts_by_time_with_ties_in_the_order_of_ids() {
    let state = account(1_000);
    let sorts = json!([{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}]);
    let page = search(&state, Kind::Contacts, json!({"sorts": sorts, "limit": 200}));
    let keys: Vec<_> = page["results"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|one| {
            let id: u64 = one["id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
            (one["updatedAt"].as_str().expect("a time").to_owned(), id)
        })
        .collect();
    assert!(keys.is_sorted() && keys.len() == 200);
}

#[test]
fn search_ends_at_ten_thousand_and_goes_on_above_the_last_id() {
    let state = account(30_000);
    let (path, total) = ("/crm/v3/objects/contacts/search", 11_000);
    let above = |id: u64, after: usize| {
        json!({
            "filterGroups": [{"filters": [{"propertyName": "hs_object_id", "operator": "GT", "value": id.to_string()}]}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "limit": 200, "after": after.to_string(),
        })
    };
    let last = search(&state, Kind::Contacts, above(0, 9_800));
    assert!(last["total"].as_u64() > Some(total), "{}", last["total"]);
    assert_eq!(last["paging"]["next"]["after"], "10000", "the trap: a next page is offered");
    assert_eq!(ask(&state, "POST", path, above(0, 10_000)).0, 400);
    let id = ids(&last).pop().and_then(|id| id.parse().ok()).expect("a number");
    let next = search(&state, Kind::Contacts, above(id, 0));
    assert_eq!(next["total"].as_u64().expect("a total") + 10_000, last["total"].as_u64().expect("a total"));
    let filter = json!({"propertyName": "email", "operator": "HAS_PROPERTY"});
    for refused in [
        json!({"limit": 201}),
        json!({"filterGroups": vec![json!({"filters": [filter]}); 6]}),
        json!({"filters": vec![filter.clone(); 11]}),
        json!({"filters": [{"propertyName": "nonsense", "operator": "EQ", "value": "1"}]}),
        json!({"filters": [{"propertyName": "createdate", "operator": "GT", "value": "yesterday"}]}),
        json!({"sorts": ["email", "lastname"]}),
    ] {
        assert_eq!(ask(&state, "POST", path, refused.clone()).0, 400, "{refused}");
    }
}

#[test]
fn late_and_unindexed_records_show_only_later() {
    let visibility = Visibility { late_records: 2, late_seconds: 60, search_lag_seconds: 10 };
    let state = start(Options { records: 200, visibility, limits: Limits::unlimited(), ..Options::default() });
    let total = || search(&state, Kind::Contacts, json!({}))["total"].as_u64().expect("a total");
    let listed = || list_all(&state, "/crm/objects/2026-03/contacts?limit=100").len();
    let before = (total(), listed());
    state.advance_clock(Duration::from_secs(61));
    assert_eq!((total(), listed()), (before.0 + 2, before.1 + 2));
    let id = state.create(Kind::Contacts, [("email".to_owned(), Some("new@mail.example".to_owned()))].into());
    assert_eq!((total(), listed()), (before.0 + 2, before.1 + 3), "the list shows it at once, the index not yet");
    state.advance_clock(Duration::from_secs(11));
    assert_eq!(total(), before.0 + 3);
    assert!(state.hold(Kind::Contacts, &id));
    assert_eq!(total(), before.0 + 2);
    assert!(state.release(Kind::Contacts, &id));
    assert_eq!(total(), before.0 + 3);
}

#[test]
fn associations_are_the_same_from_both_ends_and_name_one_primary_company() {
    let state = account(1_000);
    let (status, forward) = ask(
        &state,
        "POST",
        "/crm/associations/2026-03/contacts/companies/batch/read",
        json!({"inputs": state.live_ids(Kind::Contacts).iter().map(|id| json!({"id": id})).collect::<Vec<_>>()}),
    );
    assert_eq!(status, 200);
    let mut pairs = BTreeSet::new();
    let mut with_two = 0;
    for result in forward["results"].as_array().expect("results") {
        let to = result["to"].as_array().expect("a list");
        let primary = to.iter().filter(|one| one["associationTypes"][0]["label"] == "Primary").count();
        assert!(primary <= 1 && (primary == 1 || to.len() == 1), "{result}");
        with_two += usize::from(to.len() > 1);
        pairs.extend(to.iter().map(|one| (one["toObjectId"].to_string(), result["from"]["id"].to_string())));
    }
    assert!(with_two > 5, "some contacts have two companies");
    let inputs: Vec<_> = state.live_ids(Kind::Companies).iter().map(|id| json!({"id": id})).collect();
    let path = "/crm/associations/2026-09/companies/contacts/batch/read";
    let (_, backward) = ask(&state, "POST", path, json!({"inputs": inputs}));
    let back: BTreeSet<_> = backward["results"]
        .as_array()
        .expect("results")
        .iter()
        .flat_map(|result| {
            let from = result["from"]["id"].to_string();
            result["to"]
                .as_array()
                .expect("a list")
                .iter()
                .map(move |one| (from.clone(), one["toObjectId"].to_string()))
        })
        .collect();
    assert_eq!(pairs, back);
    let (status, body) = ask(&state, "POST", path, json!({"inputs": [{"id": "1001"}, {"id": "2"}]}));
    assert_eq!((status, &body["errors"][0]["context"]["fromObjectId"][0]), (207, &json!("2")));
}

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

#[test]
fn credentials_scopes_and_long_urls_are_refused_in_the_vendors_shape() {
    let oauth = OauthOptions {
        client_id: "app".into(),
        client_secret: "secret".into(),
        refresh_token: "refresh".into(),
        access_token_seconds: 60,
        rotate: false,
    };
    let state = start(Options { records: 50, oauth: Some(oauth), ..Options::default() });
    let path = "/crm/objects/2026-03/contacts";
    let category = |bearer: Option<&str>| {
        let answer = send(&state, &Request { bearer: bearer.map(str::to_owned), ..request("GET", path, Value::Null) });
        let body = answer.body.expect("a body");
        assert!(body["correlationId"].is_string() || answer.status == 200, "{body}");
        (answer.status.as_u16(), body["category"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(category(None), (401, "INVALID_AUTHENTICATION".into()));
    assert_eq!(category(Some("guess")), (401, "INVALID_AUTHENTICATION".into()));
    assert_eq!(category(Some("pat-simulated")).0, 200);

    let form = "grant_type=refresh_token&client_id=app&client_secret=secret&refresh_token=refresh";
    let grant = |target: &str| {
        send(&state, &Request { bearer: None, body: form.into(), ..request("POST", target, Value::Null) })
    };
    assert_eq!(grant("/oauth/2026-03/token?grant_type=refresh_token").status, 400, "nothing belongs into the URL");
    let tokens = grant("/oauth/2026-03/token").body.expect("tokens");
    assert_eq!((&tokens["expires_in"], &tokens["token_type"]), (&json!(60), &json!("bearer")));
    let access = tokens["access_token"].as_str();
    assert_eq!(category(access).0, 200);
    let answer = send(&state, &Request { bearer: access.map(str::to_owned), ..request("GET", path, Value::Null) });
    assert!(answer.headers.iter().all(|(name, _)| !name.contains("daily")), "OAuth answers have no daily figures");
    state.advance_clock(Duration::from_secs(61));
    assert_eq!(category(access), (401, "EXPIRED_AUTHENTICATION".into()));

    state.add_fault(Fault::always("", Effect::MissingScope { object: Kind::Contacts }));
    assert_eq!(category(Some("pat-simulated")), (403, "MISSING_SCOPES".into()));
    assert_eq!(ask(&state, "GET", "/crm/objects/2026-03/deals", Value::Null).0, 200, "other types are not hit");
    let long = format!("/crm/objects/2026-03/deals?properties={}", "x".repeat(16_000));
    assert_eq!(ask(&state, "GET", &long, Value::Null).0, 414);
}

#[test]
fn limits_are_told_and_kept() {
    let limits = Limits { per_ten_seconds: 3, search_per_second: 1, daily: 1_000 };
    let state = start(Options { records: 50, limits, ..Options::default() });
    let send = |target: &str, method: &str| send(&state, &request(method, target, json!({})));
    let value = |answer: &Answer, name: &str| {
        answer.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.clone())
    };
    let first = send("/crm/objects/2026-03/deals", "GET");
    assert_eq!(value(&first, "x-hubspot-ratelimit-remaining").as_deref(), Some("2"));
    assert_eq!(value(&first, "x-hubspot-ratelimit-daily-remaining").as_deref(), Some("999"));
    let search = "/crm/objects/2026-03/deals/search";
    assert_eq!(value(&send(search, "POST"), "x-hubspot-ratelimit-max"), None, "none on search");
    let refused = send(search, "POST");
    assert_eq!((refused.status.as_u16(), value(&refused, "retry-after").as_deref()), (429, Some("1")));
    assert_eq!(refused.body.expect("a body")["policyName"], "SECONDLY");
    assert_eq!(send("/crm/objects/2026-03/deals", "GET").status, 200);
    let refused = send("/crm/objects/2026-03/deals", "GET");
    assert_eq!((refused.status.as_u16(), value(&refused, "retry-after")), (429, None), "to be survived without");
    assert_eq!(refused.body.expect("a body")["policyName"], "TEN_SECONDLY_ROLLING");
    state.advance_clock(Duration::from_secs(10));
    assert_eq!(send("/crm/objects/2026-03/deals", "GET").status, 200);
}

#[test]
fn pages_are_damaged_repeated_or_endless_on_demand() {
    let state = account(1_000);
    let target = "/crm/objects/2026-03/contacts?limit=100&properties=email";
    let whole = list_all(&state, target).len();
    let first = |defect| {
        state.add_fault(Fault::new("contacts", 1, Effect::MalformedRecord { defect }));
        get(&state, target)["results"][0].clone()
    };
    assert!(first(Defect::MissingId)["id"].is_null());
    assert!(first(Defect::PropertiesNotAnObject)["properties"].is_array());
    assert!(first(Defect::NulCharacter)["properties"]["email"].as_str().is_some_and(|email| email.ends_with('\0')));
    assert!(first(Defect::BadTimestamp)["updatedAt"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_err()));
    state.add_fault(Fault::new("contacts", 1, Effect::DuplicatePage).after(1));
    assert_eq!(list_all(&state, target).len(), whole + 100, "the second page came twice");
    state.add_fault(Fault::always("contacts", Effect::EndlessCursor));
    let last = get(&state, &format!("{target}&after=999999"));
    assert_eq!(
        (last["results"].as_array().map(Vec::len), &last["paging"]["next"]["after"]),
        (Some(0), &json!("999999"))
    );
    assert_eq!(state.stats().faults, 6);
    state.clear_faults();
    assert_eq!(list_all(&state, target).len(), whole);
}

#[test]
fn requests_are_counted_by_path_and_status() {
    let state = account(50);
    let id = state.live_ids(Kind::Deals).remove(0);
    get(&state, &format!("/crm/objects/2026-03/deals/{id}"));
    assert_eq!(ask(&state, "GET", "/crm/objects/2026-03/deals/3", Value::Null).0, 404);
    let stats = state.stats();
    assert_eq!(stats.requests["GET /crm/objects/2026-03/deals/{id}"], [(200, 1), (404, 1)].into());
    assert_eq!((stats.request_count(), stats.records_served["deals"]), (2, 1));
}
