//! The simulated API as a client meets it, without HTTP: these helpers, and the tests by what they look at.

mod reading;
mod refusals;
mod seeds;
mod writing;

use std::sync::Arc;

use serde_json::Value;

use super::{
    Kind, Limits, Options,
    account::Account,
    answer::Answer,
    request::{Request, decode_pairs},
    state::StateHandle,
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
