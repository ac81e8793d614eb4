//! Where a page starts, in a form that any later run can rebuild a request from (R16).
//! Sends nothing; `source` turns positions into requests.

use serde::{Deserialize, Serialize};

use super::config::SYSTEM;
use crate::connectors::{Error, Fetch};

/// A position in a stream. The first load lists and increments search; both then look at what was archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pass", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Position {
    /// Live records by list; `after` is HubSpot's, which is the last id of the page before.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Changed records by search, in the order of their ids, above this one.
    Search {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_id: Option<u64>,
    },
    /// Archived records by list.
    Archived {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
}

impl Position {
    /// Where a request starts. `searchable` streams read increments by search, the others are listed whole each time.
    ///
    /// # Errors
    /// `UnreadablePage` for a position of another build.
    pub(super) fn of(request: &Fetch<'_>, searchable: bool) -> Result<Self, Error> {
        match request.after {
            Some(stored) => serde_json::from_value(stored.clone()).map_err(|_| Error::UnreadablePage {
                system: SYSTEM,
                detail: format!("{}: stored position", request.stream),
            }),
            None if searchable && request.lower.is_some() => Ok(Self::Search { after_id: None }),
            None => Ok(Self::List { after: None }),
        }
    }

    /// The page after this one in the same list, or the next pass (`None` after the last one).
    ///
    /// # Errors
    /// `UnreadablePage` when the list does not move on: its cursor would be followed for ever.
    pub(super) fn advance(&self, stream: &str, next: Option<&str>) -> Result<Option<Self>, Error> {
        let (Self::List { after } | Self::Archived { after }) = self else { return Ok(None) };
        let Some(next) = next else {
            return Ok(matches!(self, Self::List { .. }).then_some(Self::Archived { after: None }));
        };
        if after.as_deref().is_some_and(|after| !moves_on(after, next)) {
            return Err(endless(stream));
        }
        let after = Some(next.to_owned());
        Ok(Some(if matches!(self, Self::List { .. }) { Self::List { after } } else { Self::Archived { after } }))
    }
}

/// The error of a cursor that stands still.
pub(super) fn endless(stream: &str) -> Error {
    Error::UnreadablePage { system: SYSTEM, detail: format!("{stream}: the cursor does not move on") }
}

/// List cursors are ids in rising order; one that is no number must at least change.
fn moves_on(after: &str, next: &str) -> bool {
    match (after.parse::<u64>(), next.parse::<u64>()) {
        (Ok(after), Ok(next)) => next > after,
        _ => after != next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_small_readable_json() {
        let json = |position: &Position| serde_json::to_string(position).expect("plain values");
        assert_eq!(json(&Position::Search { after_id: Some(123) }), r#"{"pass":"search","afterId":123}"#);
        assert_eq!(json(&Position::List { after: None }), r#"{"pass":"list"}"#);
        assert_eq!(json(&Position::Archived { after: Some("7".to_owned()) }), r#"{"pass":"archived","after":"7"}"#);
    }

    #[test]
    fn lists_end_in_the_archive_and_cursors_must_rise() {
        let at = |after: &str| Position::List { after: Some(after.to_owned()) };
        assert_eq!(at("9").advance("deals", Some("10")), Ok(Some(at("10"))));
        assert_eq!(at("9").advance("deals", None), Ok(Some(Position::Archived { after: None })));
        assert_eq!(Position::Archived { after: None }.advance("deals", None), Ok(None));
        for (after, next) in [("10", "10"), ("10", "9"), ("x", "x")] {
            assert_eq!(at(after).advance("deals", Some(next)), Err(endless("deals")), "{after} {next}");
        }
        assert_eq!(at("b").advance("deals", Some("a")), Ok(Some(at("a"))), "opaque cursors need only change");
    }
}
