//! A simulated account: everything behind its lock, and the order in which a request is judged:
//! URL length, credential, limits, faults, then the resource.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    answer::{self, Answer},
    directory::{Owner, owners},
    faults::{Defect, Effect, Faults},
    kind::Kind,
    limits::Counters,
    oauth::{Bearer, Tokens},
    options::Options,
    properties::Generator,
    records::Records,
    request::{Request, Resource},
};
use crate::clock::Clock;

/// Longest URL: Airbyte chunks properties at 15,000 characters because 414 follows soon after.
const MAX_URL_BYTES: usize = 16_000;

/// Seeded records were last changed before this, whenever the simulator starts: the same seed, the same bytes.
const ANCHOR: &str = "2026-06-01T00:00:00Z";

/// What the simulator was asked so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Requests by `METHOD path` (ids as `{id}`) and then by status.
    pub requests: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Records shown by list, read and search, by type.
    pub records_served: BTreeMap<String, u64>,
    /// Faults carried out.
    pub faults: u64,
}

impl Stats {
    pub(super) fn served(&mut self, kind: Kind, count: u64) {
        *self.records_served.entry(kind.plural().to_owned()).or_default() += count;
    }

    fn asked(&mut self, request: &Request, status: u16) {
        let is_id = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let path: Vec<&str> = request.path.split('/').map(|part| if is_id(part) { "{id}" } else { part }).collect();
        let name = format!("{} {}", request.method, path.join("/"));
        *self.requests.entry(name).or_default().entry(status).or_default() += 1;
    }

    /// All requests, whatever their path and status.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.requests.values().flat_map(BTreeMap::values).sum()
    }
}

/// An answer and what the connection does with it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) answer: Answer,
    pub(super) transport: Option<Effect>,
}

/// A simulated account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) clock: Arc<Clock>,
    pub(super) records: Records,
    pub(super) owners: Vec<Owner>,
    pub(super) tokens: Tokens,
    pub(super) counters: Counters,
    pub(super) faults: Faults,
    pub(super) stats: Stats,
    pub(super) portal_id: u64,
    pub(super) search_lag_seconds: u32,
}

impl Account {
    pub(super) fn new(options: &Options, clock: Arc<Clock>) -> Self {
        let anchor: jiff::Timestamp = ANCHOR.parse().expect("a constant time");
        let owners = owners(options.seed, options.records, anchor);
        let generator = Generator { seed: options.seed, anchor_ms: anchor.as_millisecond(), owners: owners.clone() };
        let mut account = Self {
            records: Records::seed(generator, options.records),
            owners,
            tokens: Tokens::new(options.token.clone(), options.oauth.clone()),
            counters: Counters::new(options.limits),
            faults: Faults::default(),
            stats: Stats::default(),
            portal_id: options.portal_id,
            search_lag_seconds: options.visibility.search_lag_seconds,
            clock,
        };
        account.seed_late(options.visibility.late_records, options.visibility.late_seconds);
        account
    }

    /// The last contacts were changed just now and show only later.
    fn seed_late(&mut self, count: u32, seconds: u32) {
        let now_ms = self.now_ms();
        let contacts = self.records.count(Kind::Contacts);
        for index in contacts.saturating_sub(count.min(contacts / 10))..contacts {
            let key = (Kind::Contacts, index);
            if self.records.is_live(key) {
                self.records.touch(key, now_ms);
                self.records.hide_until(key, now_ms + i64::from(seconds) * 1_000);
            }
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Answers one request.
    pub(super) fn serve(&mut self, request: &Request) -> Served {
        let served = self.judge(request);
        let status = match &served.transport {
            Some(Effect::Reset | Effect::Hang) => 0,
            Some(Effect::Html) => 200,
            _ => served.answer.status.as_u16(),
        };
        self.stats.faults += u64::from(served.transport.is_some());
        self.stats.asked(request, status);
        served
    }

    fn judge(&mut self, request: &Request) -> Served {
        let plain = |answer: Answer| Served { answer, transport: None };
        if request.url_bytes > MAX_URL_BYTES {
            return plain(Answer::error(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "the URL is too long"));
        }
        let resource = match Resource::of(&request.path) {
            Ok(resource) => resource,
            Err(answer) => return plain(answer),
        };
        let mut headers = Vec::new();
        if !matches!(resource, Resource::Token(_)) {
            match self.admit(request, resource.is_search()) {
                Ok(limits) => headers = limits,
                Err(answer) => return plain(answer),
            }
        }
        let effect = self.faults.meet(&request.method, &request.path, resource.kind());
        let mut served = self.answer_with(request, &resource, effect);
        served.answer.headers.extend(headers);
        served
    }

    /// Checks credential and limits; gives the rate-limit headers.
    fn admit(&mut self, request: &Request, search: bool) -> Result<Vec<(&'static str, String)>, Answer> {
        let now_ms = self.now_ms();
        let bearer = request.bearer.as_deref().map_or(Bearer::Unknown, |token| self.tokens.bearer(token, now_ms));
        let oauth = match bearer {
            Bearer::Private => false,
            Bearer::Oauth => true,
            Bearer::Expired => return Err(answer::unauthorised(true)),
            Bearer::Unknown => return Err(answer::unauthorised(false)),
        };
        let taken = self.counters.take(search, now_ms);
        let headers = self.counters.headers(search, oauth);
        match taken {
            Ok(()) => Ok(headers),
            Err(reached) => {
                let mut refused = answer::rate_limited(reached.policy, reached.retry_after_seconds);
                refused.headers.extend(headers);
                Err(refused)
            }
        }
    }

    fn answer_with(&mut self, request: &Request, resource: &Resource, effect: Option<Effect>) -> Served {
        let instead = match &effect {
            Some(Effect::Status { status }) => Some(status_answer(*status)),
            Some(Effect::RateLimited { policy, retry_after_seconds }) => {
                Some(answer::rate_limited(policy, *retry_after_seconds))
            }
            Some(Effect::MissingScope { object }) => Some(answer::missing_scope(&object.read_scope())),
            _ => None,
        };
        if let Some(answer) = instead {
            self.stats.faults += 1;
            return Served { answer, transport: None };
        }
        let mut answer = self.dispatch(request, resource);
        let page_fault = match &effect {
            Some(Effect::MalformedRecord { defect }) => damage(&mut answer, *defect),
            Some(Effect::DuplicatePage) => repeat_page(&mut answer, request, false),
            Some(Effect::EndlessCursor) => repeat_page(&mut answer, request, true),
            _ => return Served { answer, transport: effect },
        };
        self.stats.faults += u64::from(page_fault);
        Served { answer, transport: None }
    }

    fn dispatch(&mut self, request: &Request, resource: &Resource) -> Answer {
        match resource {
            Resource::Objects(kind, rest) => self.objects(*kind, rest, request),
            Resource::Associations(from, to, rest) => self.associations(*from, *to, rest, request),
            Resource::Owners(rest) => self.list_owners(rest, request),
            Resource::Pipelines(rest) => super::directory_api::pipelines(rest),
            Resource::Properties(kind, rest) => self.properties(*kind, rest, request),
            Resource::Schemas => super::directory_api::schemas(),
            Resource::AccountDetails => self.details(),
            Resource::Token(dated) if *dated && !request.query.is_empty() => {
                answer::invalid("parameters belong into the body, not into the URL")
            }
            Resource::Token(_) => {
                let now_ms = self.now_ms();
                self.tokens.grant(&request.form(), self.portal_id, now_ms)
            }
        }
    }

    fn objects(&mut self, kind: Kind, rest: &[String], request: &Request) -> Answer {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match (request.method.as_str(), &rest[..]) {
            ("GET", []) => self.list(kind, request),
            ("POST", ["search"]) => self.search(kind, request),
            ("POST", ["batch", "read"]) => self.batch_read(kind, request),
            ("GET", [id]) => self.read_one(kind, id, request),
            _ => self.write(kind, &rest, request).unwrap_or_else(answer::no_such_path),
        }
    }
}

/// An error status of the vendor's, or of what stands before it.
fn status_answer(status: u16) -> Answer {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Answer::error(code, if status < 500 { "VALIDATION_ERROR" } else { "INTERNAL_ERROR" }, "simulated failure")
}

/// Damages the first record of a page; false when there is none.
fn damage(answer: &mut Answer, defect: Defect) -> bool {
    let first = answer.body.as_mut().and_then(|body| body["results"].get_mut(0));
    let Some(Value::Object(record)) = first else { return false };
    match defect {
        Defect::MissingId => drop(record.remove("id")),
        Defect::PropertiesNotAnObject => drop(record.insert("properties".to_owned(), json!(["not", "an", "object"]))),
        Defect::BadTimestamp => {
            record.insert("updatedAt".to_owned(), json!("yesterday"));
            for name in ["hs_lastmodifieddate", "lastmodifieddate"] {
                if let Some(value) = record.get_mut("properties").and_then(|properties| properties.get_mut(name)) {
                    *value = json!("yesterday");
                }
            }
        }
        Defect::NulCharacter => {
            let own = |name: &str| !name.starts_with("hs_object") && !name.ends_with("date");
            let properties = record.get_mut("properties").and_then(Value::as_object_mut);
            for (_, value) in properties.into_iter().flatten().filter(|(name, _)| own(name)) {
                if let Value::String(text) = value {
                    text.push('\0');
                }
            }
        }
    }
    true
}

/// Makes the next page start where this one did; on the last page only when `endless`.
fn repeat_page(answer: &mut Answer, request: &Request, endless: bool) -> bool {
    let Some(body) = answer.body.as_mut().filter(|body| endless || !body["paging"].is_null()) else { return false };
    let in_body = || request.json().ok().and_then(|sent| sent["after"].as_str().map(str::to_owned));
    let after = request.value("after").map(str::to_owned).or_else(in_body).unwrap_or_else(|| "0".to_owned());
    body["paging"] = json!({"next": {"after": after}});
    true
}
