//! Whether workers are there, as tenants are told. Pure.

use crate::{
    crd::conditions::{WORKERS_AVAILABLE, reason},
    operator::status_part::Wish,
};

/// A pool as seen from outside. Numbers of pods are in metrics of Kubernetes, not in our conditions: they would churn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    /// Those of the build that takes new runs.
    pub pods: Pods,
    /// The wanted build does not get ready, or does not poll.
    pub is_stalled: bool,
}

/// The pods of the build that takes new runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    /// Not seen yet.
    Pending,
    /// There are none: the API server does not take their Deployment.
    Refused,
    /// None is ready.
    Missing,
    /// One at least is ready.
    Ready,
    /// There are some whenever there is something to do. One state whether or not there are any now, so that a pool which
    /// rests between ticks does not rewrite every tenant's status at each of them.
    OnDemand,
}

impl Availability {
    /// Before anything was seen.
    pub const PENDING: Self = Self { pods: Pods::Pending, is_stalled: false };

    /// The condition `WorkersAvailable`. A rollout that stalls takes no work from the build that does it.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match (self.pods, self.is_stalled) {
            (Pods::Pending, _) => {
                Wish::unknown(WORKERS_AVAILABLE, reason::DEPLOYMENT_PENDING, "the workers are being deployed")
            }
            (Pods::Refused, _) => {
                let message = "the API server refuses the workers' Deployment: check spec.workers";
                Wish::no(WORKERS_AVAILABLE, reason::DEPLOYMENT_REFUSED, message)
            }
            (Pods::Missing, _) => {
                Wish::no(WORKERS_AVAILABLE, reason::NO_PODS_READY, "no worker pod is ready: syncs wait until one is")
            }
            (Pods::Ready | Pods::OnDemand, true) => Wish::yes(
                WORKERS_AVAILABLE,
                reason::ROLLOUT_STALLED,
                "workers are ready; a newer build does not get ready and takes no work",
            ),
            (Pods::Ready, false) => Wish::yes(WORKERS_AVAILABLE, reason::PODS_READY, "workers are ready"),
            (Pods::OnDemand, false) => {
                Wish::yes(WORKERS_AVAILABLE, reason::ON_DEMAND, "workers are started when there is something to do")
            }
        }
    }
}
