//! TenantSchedule: claims its tenant in the store and keeps the tenant's schedule in Temporal as the spec asks.
//! `build` and `status` are pure values, `reconcile` and `remove` pure steps; the controller's shell does the calls.

pub mod build;
pub mod observe;
pub mod reconcile;
pub mod remove;
pub mod status;
#[cfg(test)]
mod tests;
pub mod tokens;

use jiff::Timestamp;
use kube::Resource as _;

use super::{
    names::Installation,
    schedule_overdue::Punctuality,
    world::{Kind, ObjectKey},
};
use crate::crd::{
    FORCE_DELETE_ANNOTATION, REQUESTED_AT_ANNOTATION, SCHEDULE_FINALIZER, TenantSchedule, TenantScheduleSpec,
    TenantScheduleStatus,
};

/// All that a reconcile of one TenantSchedule starts from.
#[derive(Debug, Clone)]
pub struct Input {
    /// The object.
    pub key: ObjectKey,
    /// Its generation.
    pub generation: i64,
    /// What is wanted.
    pub spec: TenantScheduleSpec,
    /// What was last written.
    pub status: TenantScheduleStatus,
    /// Token of the annotation that asks for a sync.
    pub requested_at: Option<String>,
    /// The annotation that ends the wait for Temporal and store at deletion.
    pub force_delete: bool,
    /// Our finalizer is on it.
    pub has_finalizer: bool,
    /// A cron workflow that somebody started was listed for its tenant.
    pub cron_suspected: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// The time of this reconcile.
    pub now: Timestamp,
    /// How late a tick may be.
    pub punctuality: Punctuality,
    /// Who we are.
    pub installation: Installation,
}

/// A TenantSchedule's place in the cluster.
#[must_use]
pub fn key_of(object: &TenantSchedule) -> ObjectKey {
    let meta = object.meta();
    ObjectKey {
        kind: Kind::TenantSchedule,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

impl Input {
    /// From the watch cache.
    #[must_use]
    pub fn new(object: &TenantSchedule, now: Timestamp, punctuality: Punctuality, installation: &Installation) -> Self {
        let meta = object.meta();
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name)).cloned();
        let finalizers = meta.finalizers.as_deref().unwrap_or_default();
        Self {
            key: key_of(object),
            generation: meta.generation.unwrap_or_default(),
            spec: object.spec.clone(),
            status: object.status.clone().unwrap_or_default(),
            requested_at: annotation(REQUESTED_AT_ANNOTATION).filter(|token| !token.is_empty()),
            force_delete: annotation(FORCE_DELETE_ANNOTATION).as_deref() == Some("true"),
            has_finalizer: finalizers.iter().any(|finalizer| finalizer == SCHEDULE_FINALIZER),
            cron_suspected: false,
            deleting: meta.deletion_timestamp.is_some(),
            now,
            punctuality,
            installation: installation.clone(),
        }
    }
}
