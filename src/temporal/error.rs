//! Temporal's one error type. Its text holds what was attempted and the gRPC code; never the server's own message (R18).

use std::time::Duration;

use temporalio_client::tonic::{Code, Status};

use crate::{error_class::Class, key_files};

/// Back-off after `ResourceExhausted`, which carries no time of its own: the server's limits count per second, but every
/// object of the fleet meets them at once.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(10);

/// Why Temporal did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configured address is neither `host:port` nor a URL.
    #[error("Temporal address must be host:port or a URL")]
    Address,
    /// Settings that contradict each other.
    #[error("{flag} {problem}")]
    Setting {
        /// The flag to look at.
        flag: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Certificates or an API key that cannot be used (yet).
    #[error("{0}")]
    KeyFiles(key_files::Error),
    /// Refused or lost connection, deadline, server busy starting.
    #[error("Temporal unavailable while it had to {attempted} ({code})")]
    Unavailable {
        /// What was attempted.
        attempted: &'static str,
        /// gRPC code or transport class.
        code: String,
    },
    /// The server's limits are reached.
    #[error("Temporal asked to slow down while it had to {attempted}")]
    RateLimited {
        /// What was attempted.
        attempted: &'static str,
    },
    /// The Temporal namespace does not exist (yet).
    #[error("Temporal namespace not found while it had to {attempted}")]
    NamespaceNotFound {
        /// What was attempted.
        attempted: &'static str,
    },
    /// Our credential at Temporal was refused.
    #[error("Temporal refused access while it had to {attempted} ({code})")]
    Denied {
        /// What was attempted.
        attempted: &'static str,
        /// gRPC code.
        code: String,
    },
    /// The thing does not exist.
    #[error("not found in Temporal while it had to {attempted}")]
    NotFound {
        /// What was attempted.
        attempted: &'static str,
    },
    /// It exists already, or changed since it was read.
    #[error("changed by somebody else while it had to {attempted} ({code})")]
    Conflict {
        /// What was attempted.
        attempted: &'static str,
        /// gRPC code.
        code: String,
    },
    /// The request is not acceptable: a cron string or time zone that the server does not know, a too long id.
    #[error("Temporal refused to {attempted} ({code})")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// gRPC code.
        code: String,
    },
    /// The Temporal namespace belongs to another store (R17).
    #[error(
        "this Temporal namespace belongs to installation {found}, the store to {ours}: one store per Temporal namespace"
    )]
    AnotherInstallation {
        /// The marker's installation id.
        found: String,
        /// The store's.
        ours: String,
    },
    /// An answer without what the API promises.
    #[error("Temporal's answer lacks {what}")]
    Unreadable {
        /// Which part.
        what: &'static str,
    },
}

impl Error {
    /// The class that drives what happens next.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } | Self::NamespaceNotFound { .. } => Class::Transient,
            Self::RateLimited { .. } => Class::RateLimited(RATE_LIMIT_PAUSE),
            Self::Denied { .. } => Class::Unauthorised,
            Self::NotFound { .. } | Self::Conflict { .. } | Self::AnotherInstallation { .. } => Class::Conflict,
            Self::KeyFiles(error) => error.class(),
            Self::Address | Self::Setting { .. } | Self::Refused { .. } => Class::Invalid,
            Self::Unreadable { .. } => Class::Bug,
        }
    }

    /// A gRPC status as an error; its message is dropped (R18).
    pub(super) fn from_status(attempted: &'static str, status: &Status) -> Self {
        let code = format!("{:?}", status.code());
        match status.code() {
            Code::NotFound if names_namespace(status) => Self::NamespaceNotFound { attempted },
            Code::NotFound => Self::NotFound { attempted },
            Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict { attempted, code },
            Code::ResourceExhausted => Self::RateLimited { attempted },
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied { attempted, code },
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Self::Refused { attempted, code },
            _ => Self::Unavailable { attempted, code },
        }
    }
}

/// Whether a `NotFound` is about the namespace. A missing namespace must never be read as a missing workflow, which would
/// let a worker take a live lease over (R51). The status carries the failure's type name in its details.
fn names_namespace(status: &Status) -> bool {
    const TYPE_NAME: &[u8] = b"NamespaceNotFoundFailure";
    status.details().windows(TYPE_NAME.len()).any(|window| window == TYPE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_namespace_is_not_a_missing_workflow() {
        let details = b"\x0a(type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure".to_vec();
        let namespace = Status::with_details(Code::NotFound, "x", details.into());
        let namespace = Error::from_status("describe a workflow", &namespace);
        assert_eq!(namespace, Error::NamespaceNotFound { attempted: "describe a workflow" });
        assert_eq!(namespace.class(), Class::Transient);
        let workflow = Error::from_status("describe a workflow", &Status::not_found("x"));
        assert_eq!(workflow, Error::NotFound { attempted: "describe a workflow" });
    }

    #[test]
    fn texts_hold_no_message_of_the_server() {
        let error = Error::from_status("create a schedule", &Status::invalid_argument("canary"));
        assert_eq!(error.to_string(), "Temporal refused to create a schedule (InvalidArgument)");
        assert!(!format!("{error:?}").contains("canary"));
    }
}
