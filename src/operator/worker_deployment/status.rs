//! Whether workers are there, from their Deployment. Pure.

use k8s_openapi::api::apps::v1::Deployment;

use crate::{
    crd::conditions::{WORKERS_AVAILABLE, reason},
    operator::status_part::Wish,
};

/// The pool's pods. Their number is in metrics of Kubernetes, not in our conditions: it would churn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Its Deployment was not seen yet.
    Pending,
    /// The API server does not take it.
    Refused,
    /// Pods that are ready.
    Pods {
        /// How many.
        ready: i32,
    },
}

impl Availability {
    /// From the Deployment, if it is there.
    #[must_use]
    pub fn of(deployment: Option<&Deployment>) -> Self {
        match deployment.and_then(|deployment| deployment.status.as_ref()) {
            Some(status) => Self::Pods { ready: status.ready_replicas.unwrap_or_default() },
            None => Self::Pending,
        }
    }

    /// Whether syncs can run.
    #[must_use]
    pub fn is_available(self) -> bool {
        matches!(self, Self::Pods { ready } if ready > 0)
    }

    /// The condition `WorkersAvailable`.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match self {
            Self::Pending => {
                Wish::unknown(WORKERS_AVAILABLE, reason::DEPLOYMENT_PENDING, "the workers are being deployed")
            }
            Self::Refused => {
                let message = "the API server refuses the workers' Deployment: check spec.workers";
                Wish::no(WORKERS_AVAILABLE, reason::DEPLOYMENT_REFUSED, message)
            }
            Self::Pods { ready } if *ready > 0 => Wish::yes(WORKERS_AVAILABLE, reason::PODS_READY, "workers are ready"),
            Self::Pods { .. } => {
                Wish::no(WORKERS_AVAILABLE, reason::NO_PODS_READY, "no worker pod is ready: syncs wait until one is")
            }
        }
    }
}
