//! Lists, searches and associations.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{account, ask, get, ids, list_all, request, search, start};
use crate::hubspot::{Kind, Limits, Options, Visibility, pages::KeptPages};

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
fn a_batch_read_gives_what_it_finds_and_names_what_it_does_not() {
    let state = account(500);
    let live = state.live_ids(Kind::Deals);
    assert!(state.archive(Kind::Deals, &live[0]));
    let read = |archived: bool, ids: &[&str]| {
        let inputs: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        let target = format!("/crm/objects/2026-03/deals/batch/read?archived={archived}");
        ask(&state, "POST", &target, json!({"inputs": inputs, "properties": ["dealname"]}))
    };
    let missing = |body: &Value| body["errors"][0]["context"]["ids"].clone();
    let (status, body) = read(false, &[&live[0], &live[1], "7"]);
    assert_eq!((status, ids(&body), missing(&body)), (207, vec![live[1].clone()], json!([live[0], "7"])));
    assert_eq!(body["errors"][0]["category"], "OBJECT_NOT_FOUND");
    let (status, body) = read(true, &[&live[0], &live[1]]);
    assert_eq!((status, ids(&body), missing(&body)), (207, vec![live[0].clone()], json!([live[1]])));
    assert!(body["results"][0]["archivedAt"].is_string());
    assert_eq!(read(false, &[&live[1]]).0, 200);
    let nothing = read(false, &["7"]);
    assert_eq!((nothing.0, ids(&nothing.1).len()), (207, 0));
}

#[test]
fn the_total_of_a_search_counts_beyond_the_page_and_by_time_of_creation() {
    let state = account(2_000);
    for kind in [Kind::Contacts, Kind::Notes] {
        let created = kind.created_property();
        let all = list_all(&state, &format!("/crm/objects/2026-03/{}?limit=100", kind.plural()));
        let mut times: Vec<_> = all.iter().map(|one| one["createdAt"].as_str().expect("a time").to_owned()).collect();
        times.sort_unstable();
        let median = &times[times.len() / 2];
        let before = times.iter().filter(|time| *time < median).count();
        let filter = json!({"propertyName": created, "operator": "LT", "value": median});
        let page = search(&state, kind, json!({"filterGroups": [{"filters": [filter]}], "limit": 1}));
        assert_eq!((page["total"].as_u64(), ids(&page).len()), (Some(before as u64), 1), "{created}");
    }
}

#[test]
fn a_kept_page_is_served_again_whatever_the_order_of_its_parameters_and_errors_are_not_kept() {
    let state = account(100);
    let pages = KeptPages::default();
    let keep = |target: &str| {
        let request = request("GET", target, Value::Null);
        pages.keep(&request, &state.with(|account| account.serve(&request)));
    };
    let page = |target: &str| pages.get(&request("GET", target, Value::Null));
    keep("/crm/objects/2026-03/contacts?limit=2&properties=email%2Cphone");
    let kept = page("/crm/objects/2026-03/contacts?properties=email,phone&limit=2").expect("kept");
    let fresh = get(&state, "/crm/objects/2026-03/contacts?limit=2&properties=email,phone");
    assert_eq!(serde_json::from_slice::<Value>(&kept).expect("JSON"), fresh);
    assert!(page("/crm/objects/2026-03/contacts?limit=3&properties=email,phone").is_none());
    for other in ["/crm/objects/2026-03/contacts?limit=101", "/crm/owners/2026-03?limit=2"] {
        keep(other);
        assert!(page(other).is_none(), "{other}");
    }
}
