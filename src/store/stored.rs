//! How typed values stand in columns of both stores: enums by their serde name, structures as JSON.
//! Does no I/O; a value that this build did not write is `Error::Unreadable`, naming the value's kind and not its text.

use serde::{Serialize, de::DeserializeOwned};

use super::Error;
use crate::model::entity::Entity;

/// Version of the canonical schema, written into each row's `schema_version`.
pub(super) const CANONICAL_SCHEMA: i32 = 1;
/// How long a recorded result of an applied batch, or an orphaned staged batch, is kept (R13).
pub(super) const KEPT_HOURS: i64 = 24;
/// Runs of a day whose attempts are added up: more would say little more, and each is a row to read.
pub(super) const RUNS_OF_A_DAY: i64 = 20;
/// Entities whose rows are persons.
pub(super) const PEOPLE: [Entity; 3] = [Entity::Contact, Entity::Lead, Entity::Owner];
/// A refresh lock is void this long after it was taken: a token request ends after 30 s (`credentials::token`).
pub(super) const REFRESH_LOCK_SECONDS: i64 = 60;

/// The serde name of a unit variant or id.
pub(super) fn name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("only unit variants and ids are stored by name"),
    }
}

/// The value with this serde name.
pub(super) fn from_name<T: DeserializeOwned>(what: &'static str, name: &str) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|_| Error::Unreadable { what })
}

/// A structure as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored structures have string keys and finite numbers")
}

/// A structure from JSON.
pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::Unreadable { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DesiredState, RunOutcome, Verb};

    #[test]
    fn names_are_the_serde_names_and_an_unknown_one_is_unreadable_without_its_text() {
        assert_eq!(
            (name(&Verb::FullSync), name(&RunOutcome::Complete)),
            ("fullSync".to_owned(), "complete".to_owned())
        );
        assert_eq!(from_name::<DesiredState>("desired state", "paused"), Ok(DesiredState::Paused));
        let error = from_name::<DesiredState>("desired state", "canary").expect_err("unknown");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
