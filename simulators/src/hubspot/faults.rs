//! Faults on demand: what may go wrong, where, and how often.
//! Decides which fault a request meets; `server` and the page handlers carry it out.

use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// A fault and the requests it hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Part of the path, e.g. `/crm/objects/2026-03/contacts` or `contacts/search`; empty = every path.
    #[serde(default)]
    pub path: String,
    /// HTTP method; `None` = any.
    #[serde(default)]
    pub method: Option<String>,
    /// Matching requests let through before the first hit.
    #[serde(default)]
    pub skip: u32,
    /// How many requests it hits; `None` = all that come.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// What goes wrong.
    #[serde(flatten)]
    pub effect: Effect,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    /// `effect` on the next `times` requests whose path holds `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, times: u32, effect: Effect) -> Self {
        Self { path: path.into(), method: None, skip: 0, times: Some(times), effect }
    }

    /// `effect` on every request whose path holds `path`.
    #[must_use]
    pub fn always(path: impl Into<String>, effect: Effect) -> Self {
        Self { times: None, ..Self::new(path, 0, effect) }
    }

    /// Lets `count` matching requests through first.
    #[must_use]
    pub fn after(self, count: u32) -> Self {
        Self { skip: count, ..self }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// This status with the vendor's error body.
    Status {
        /// HTTP status.
        status: u16,
    },
    /// 429.
    RateLimited {
        /// The `policyName` in the body.
        #[serde(default = "ten_secondly")]
        policy: String,
        /// The `Retry-After` header; `None` = not sent.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// The right answer, late.
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// Half of the right body under its full length, then the connection closes.
    TruncatedBody,
    /// 200 with an HTML page.
    Html,
    /// The connection is reset without an answer; a write has happened all the same.
    Reset,
    /// No answer until the client gives up.
    Hang,
    /// The first record of the page is damaged.
    MalformedRecord {
        /// How.
        #[serde(default)]
        defect: Defect,
    },
    /// The next page starts where this one did.
    DuplicatePage,
    /// As DuplicatePage, and there is a next page even after the last.
    EndlessCursor,
    /// All OAuth access tokens end now; with `private` the static token too. Does not wait for a request.
    ExpireTokens {
        /// Also the private app's token.
        #[serde(default)]
        private: bool,
    },
    /// 403 for a type, wherever it is asked for (`path` is not looked at).
    MissingScope {
        /// The type.
        object: Kind,
    },
}

fn ten_secondly() -> String {
    "TEN_SECONDLY_ROLLING".to_owned()
}

/// How a record is damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Defect {
    /// No `id`.
    #[default]
    MissingId,
    /// `properties` is a list.
    PropertiesNotAnObject,
    /// Every property that has a value holds a NUL character.
    NulCharacter,
    /// The time of the last change is no time.
    BadTimestamp,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    pub(super) fn list(&self) -> &[Fault] {
        &self.list
    }

    /// The effect that this request meets, if any; the fault is used up by one.
    pub(super) fn meet(&mut self, method: &str, path: &str, kind: Option<Kind>) -> Option<Effect> {
        for (at, fault) in self.list.iter_mut().enumerate() {
            let hit = match fault.effect {
                Effect::MissingScope { object } => kind == Some(object),
                _ => path.contains(&fault.path),
            };
            if !hit || fault.method.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(method)) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            let effect = fault.effect.clone();
            if let Some(times) = &mut fault.times {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    self.list.remove(at);
                }
            }
            return Some(effect);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_counted_matching_requests_and_is_gone() {
        let mut faults = Faults::default();
        faults.add(Fault::new("/contacts", 2, Effect::Html).after(1));
        faults.add(Fault::always("", Effect::MissingScope { object: Kind::Deals }));
        let mut meet = |path: &str, kind| faults.meet("GET", path, Some(kind));
        assert_eq!(meet("/crm/v3/objects/companies", Kind::Companies), None);
        let contacts: Vec<_> = (0..4).map(|_| meet("/crm/v3/objects/contacts", Kind::Contacts)).collect();
        assert_eq!(contacts, [None, Some(Effect::Html), Some(Effect::Html), None]);
        for _ in 0..3 {
            assert_eq!(meet("/anything", Kind::Deals), Some(Effect::MissingScope { object: Kind::Deals }));
        }
    }

    #[test]
    fn faults_are_read_from_json() {
        let text = r#"[{"path":"contacts/search","times":3,"type":"rateLimited","retryAfterSeconds":2},
            {"type":"malformedRecord","defect":"nulCharacter"},{"times":null,"type":"status","status":503}]"#;
        let faults: Vec<Fault> = serde_json::from_str(text).expect("readable");
        let limited = Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".into(), retry_after_seconds: Some(2) };
        assert_eq!(faults[0], Fault::new("contacts/search", 3, limited));
        assert_eq!(faults[1], Fault::new("", 1, Effect::MalformedRecord { defect: Defect::NulCharacter }));
        assert_eq!(faults[2], Fault::always("", Effect::Status { status: 503 }));
    }
}
