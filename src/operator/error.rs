//! The operator's one error type: which dependency did not do what. Holds codes and names, never bodies or values (R18).

use std::time::Duration;

use crate::{error_class::Class, store, temporal};

/// What the operator depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The store.
    Store,
    /// Temporal.
    Temporal,
    /// The Kubernetes API.
    Kubernetes,
}

impl Dependency {
    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "the store",
            Self::Temporal => "Temporal",
            Self::Kubernetes => "the Kubernetes API",
        }
    }
}

/// Why a request was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store's answer.
    #[error("{0}")]
    Store(store::Error),
    /// Temporal's answer.
    #[error("{0}")]
    Temporal(temporal::Error),
    /// The Kubernetes API's answer.
    #[error("the Kubernetes API did not {attempted} ({code})")]
    Kubernetes {
        /// What was attempted.
        attempted: &'static str,
        /// HTTP status reason or transport class.
        code: String,
        /// Its class.
        class: Class,
    },
    /// A step of ours got an answer to another question, or did not settle.
    #[error("{0}")]
    Unsettled(&'static str),
}

impl Error {
    /// The class that drives what happens next.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Temporal(error) => error.class(),
            Self::Kubernetes { class, .. } => *class,
            Self::Unsettled(_) => Class::Transient,
        }
    }

    /// Whom it is about.
    #[must_use]
    pub fn dependency(&self) -> Option<Dependency> {
        match self {
            Self::Store(_) => Some(Dependency::Store),
            Self::Temporal(_) => Some(Dependency::Temporal),
            Self::Kubernetes { .. } => Some(Dependency::Kubernetes),
            Self::Unsettled(_) => None,
        }
    }

    /// Whether the dependency is of no use to anybody now, rather than of another opinion on one request.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let away = matches!(self.class(), Class::Transient | Class::RateLimited(_)) && self.dependency().is_some();
        // What refuses our key or certificate refuses it for every object.
        let refused =
            |error: &_| matches!(error, temporal::Error::AnotherInstallation { .. } | temporal::Error::Denied { .. });
        away || matches!(self, Self::Temporal(error) if refused(error))
    }

    /// The call took longer than it may.
    pub(super) fn deadline(attempted: &'static str) -> Self {
        Self::Kubernetes { attempted, code: "deadline".to_owned(), class: Class::Transient }
    }

    /// There is no such object any more.
    pub(super) fn gone(attempted: &'static str) -> Self {
        Self::Kubernetes { attempted, code: "404 NotFound".to_owned(), class: Class::Conflict }
    }

    /// The API server's answer by its status; its message is dropped, because it quotes objects.
    pub(super) fn kubernetes(attempted: &'static str, error: &kube::Error) -> Self {
        let (code, class) = match error {
            kube::Error::Api(status) => (format!("{} {}", status.code, status.reason), class_of(status.code)),
            _ => ("connection".to_owned(), Class::Transient),
        };
        Self::Kubernetes { attempted, code, class }
    }
}

fn class_of(code: u16) -> Class {
    match code {
        401 | 403 => Class::Unauthorised,
        404 | 409 | 410 => Class::Conflict,
        429 => Class::RateLimited(Duration::from_secs(2)),
        400..=499 => Class::Invalid,
        _ => Class::Transient,
    }
}
