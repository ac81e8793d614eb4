//! What a reconcile leaves to its shell: when to come back, and what to tell. Pure values.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::error::{Dependency, Error};
use crate::{
    crd::conditions::{READY, reason},
    error_class::Class,
    temporal,
};

/// When to look at the object again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is settled: after this long, or when something changes.
    After(Duration),
    /// It could not be settled: with the object's back-off, but not before this long.
    BackOff(Duration),
    /// Never: it is gone.
    Never,
}

/// An Event for people, on a transition only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether it deserves a look.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// What was being done, CamelCase.
    pub action: &'static str,
    /// One sentence, no values of secrets or records.
    pub message: String,
}

impl Note {
    /// A normal one.
    #[must_use]
    pub fn normal(reason: &'static str, action: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, action, message: message.into() }
    }

    /// A warning.
    #[must_use]
    pub fn warning(reason: &'static str, action: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, action, message: message.into() }
    }
}

/// What a reconcile leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When to look again.
    pub again: Again,
    /// What to tell.
    pub notes: Vec<Note>,
    /// Why it is not settled, for log and metric.
    pub failed: Option<Error>,
}

impl Outcome {
    /// Settled.
    #[must_use]
    pub fn settled(after: Duration) -> Self {
        Self { again: Again::After(after), notes: Vec::new(), failed: None }
    }

    /// Not settled, because of `error`.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        let least = match error.class() {
            Class::RateLimited(least) => least,
            _ => Duration::ZERO,
        };
        Self { again: Again::BackOff(least), notes: Vec::new(), failed: Some(error) }
    }
}

/// Reason and message of `Ready=False` while a dependency keeps the desired state from being applied.
/// The message is stable, so that a flapping dependency does not rewrite status.
#[must_use]
pub fn waiting(error: &Error) -> (&'static str, String) {
    if let Error::Temporal(another @ temporal::Error::AnotherInstallation { .. }) = error {
        return (reason::TEMPORAL_UNAVAILABLE, another.to_string());
    }
    match (error.dependency(), error.is_outage()) {
        (Some(Dependency::Temporal), true) => (
            reason::TEMPORAL_UNAVAILABLE,
            "Temporal cannot be reached; this spec is applied as soon as it can".to_owned(),
        ),
        (Some(Dependency::Store), true) => (
            reason::STORE_UNAVAILABLE,
            "the store cannot be reached; this spec is applied as soon as it can".to_owned(),
        ),
        _ => (reason::INTERNAL_ERROR, format!("{error}; it is tried again")),
    }
}

/// Whether `Ready` does not say this yet: Events tell transitions, not states.
#[must_use]
pub fn is_news(conditions: &[Condition], reason: &str) -> bool {
    !conditions.iter().any(|condition| condition.type_ == READY && condition.reason == reason)
}
