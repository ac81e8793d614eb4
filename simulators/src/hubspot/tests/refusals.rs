//! Credentials, scopes, limits and faults.

use std::time::Duration;

use serde_json::{Value, json};

use super::{account, ask, get, list_all, request, send, start};
use crate::hubspot::{Defect, Effect, Fault, Kind, Limits, OauthOptions, Options, answer::Answer, request::Request};

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
