//! How errors leave an activity: typed by class for the workflow, with class, code and names for people, never with data (R18).

use temporalio_common::error::ApplicationFailure;
use temporalio_sdk::activities::ActivityError;

use crate::{connectors, contract::failures, credentials::seal, error_class::Class, store};

/// A failure of this type; only outages and unknown refusals are worth another attempt.
pub(super) fn failure(type_name: &str, error: impl std::error::Error + Send + Sync + 'static) -> ActivityError {
    let retryable = matches!(type_name, failures::UNAVAILABLE | failures::REJECTED);
    let failure = ApplicationFailure::builder(error).type_name(type_name.to_owned()).non_retryable(!retryable);
    ActivityError::Application(Box::new(failure.build()))
}

/// A failure with a text of ours.
pub(super) fn failure_text(type_name: &str, text: String) -> ActivityError {
    failure(type_name, Text(text))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(String);

/// The failure's type, for metrics.
pub(super) fn type_name(error: &ActivityError) -> &'static str {
    let name = match error {
        ActivityError::Application(failure) => failure.type_name().unwrap_or_default(),
        _ => return "Cancelled",
    };
    let known = [
        failures::UNAVAILABLE,
        failures::INVALID_INPUT,
        failures::STALE_RUN,
        failures::STOPPED,
        failures::UNAUTHORISED,
        failures::CONFIGURATION,
        failures::REJECTED,
        failures::TOO_MANY_REJECTED,
    ];
    known.into_iter().find(|known| *known == name).unwrap_or("Other")
}

/// The failure's text: class, code and names.
pub(super) fn text(error: &ActivityError) -> String {
    match error {
        ActivityError::Application(failure) => failure.source_error().to_string(),
        _ => "cancelled".to_owned(),
    }
}

/// By the store's error.
pub(super) fn of_store(error: store::Error) -> ActivityError {
    let type_name = match &error {
        // A refused statement says nothing about the data: it is waited for like an outage, until somebody mends it.
        store::Error::Unavailable { .. } | store::Error::Refused { .. } | store::Error::NoPlace => {
            failures::UNAVAILABLE
        }
        // A staged batch that this build cannot read is fetched again by the next run. (Workers never lead.)
        store::Error::StaleRun { .. } | store::Error::Unreadable { .. } | store::Error::NotLeader => {
            failures::STALE_RUN
        }
        store::Error::Stopped => failures::STOPPED,
        store::Error::AccountChanged { .. } | store::Error::Url => failures::CONFIGURATION,
        store::Error::TooManyRejected { .. } => failures::TOO_MANY_REJECTED,
        store::Error::RefusedData { .. } => failures::REJECTED,
    };
    failure(type_name, error)
}

/// By the source's error; `RateLimited` never comes here: it is a result (R2).
pub(super) fn of_source(error: connectors::Error) -> ActivityError {
    let type_name = match error.class() {
        Class::Transient | Class::RateLimited(_) | Class::Conflict => failures::UNAVAILABLE,
        Class::Unauthorised => failures::UNAUTHORISED,
        Class::Invalid | Class::Bug => failures::CONFIGURATION,
    };
    failure(type_name, error)
}

/// A credential that cannot be opened or is for something else. A key that this worker lacks is waited for: it is being
/// rotated, or the tenant moved to other workers, whom the next session asks (R22).
pub(super) fn of_seal(error: seal::Error) -> ActivityError {
    let type_name =
        if matches!(error, seal::Error::NoIdentity(_)) { failures::UNAVAILABLE } else { failures::UNAUTHORISED };
    failure(type_name, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refused_data_leads_to_a_dead_letter() {
        let of = |error| type_name(&of_store(error));
        let code = || "22P05 contact email".to_owned();
        assert_eq!(of(store::Error::RefusedData { attempted: "apply", code: code() }), failures::REJECTED);
        // A lost grant, a column that is not there yet, a pooler that forgot a statement: waited for.
        let refused = store::Error::Refused { attempted: "apply", code: "42501 contact".to_owned() };
        assert_eq!(of(refused), failures::UNAVAILABLE);
        assert_eq!(of(store::Error::Stopped), failures::STOPPED);
    }
}
