//! The one classification of errors. It alone drives requeue, Temporal retryability, metric label and condition reason.
//! Does not hold any error text: each module keeps its own error enum and maps it here by an exhaustive match.

use std::time::Duration;

/// What an error means for whoever has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A dependency is away or overloaded; the same call may succeed later. Never dead-letters anything (R2).
    Transient,
    /// The other side asked to wait this long. Becomes a `Parked` result, never a failed attempt (R2).
    RateLimited(Duration),
    /// The credential was refused; only a new one helps.
    Unauthorised,
    /// Input, configuration or data that will not become right by retrying.
    Invalid,
    /// Somebody else holds, owns or changed the thing; re-read before acting.
    Conflict,
    /// A broken invariant of ours.
    Bug,
}

impl Class {
    /// Label value for metrics and the type name of Temporal application failures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "Unavailable",
            Self::RateLimited(_) => "RateLimited",
            Self::Unauthorised => "Unauthorised",
            Self::Invalid => "Invalid",
            Self::Conflict => "Conflict",
            Self::Bug => "Bug",
        }
    }
}
