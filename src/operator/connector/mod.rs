//! Connector: projects it into the store with its sealed credential, keeps its own schedule, starts what its tokens ask
//! for and checks its connection. No finalizer: `remove` follows the delete event, the sweep is the safety net (R11).

pub mod build;
pub mod check;
pub mod dereference;
pub mod health;
pub mod observe;
pub mod reconcile;
pub mod remove;
pub mod restart;
pub mod status;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource as _;

use super::{
    names::Installation,
    schedule_overdue::Punctuality,
    schedule_terms::Terms,
    world::{Kind, ObjectKey},
};
use crate::{
    contract::workflows::ConnectionStatus,
    crd::{
        Connector, ConnectorSpec, ConnectorStatus, DataPolicy, NOT_OBSERVED, REQUESTED_AT_ANNOTATION, TenantSchedule,
    },
    credentials::Sealer,
};

/// All that a reconcile of one Connector starts from.
#[derive(Debug, Clone)]
pub struct Input {
    /// The object.
    pub key: ObjectKey,
    /// Its generation.
    pub generation: i64,
    /// What is wanted.
    pub spec: ConnectorSpec,
    /// What was last written.
    pub status: ConnectorStatus,
    /// Token of the annotation that asks for a sync.
    pub requested_at: Option<String>,
    /// The time of this reconcile.
    pub now: Timestamp,
    /// How late a tick may be.
    pub punctuality: Punctuality,
    /// Who we are.
    pub installation: Installation,
    /// Its TenantSchedule, of the same namespace.
    pub tenant: Option<TenantView>,
    /// Seals to the workers.
    pub vault: Vault,
    /// The connection as workers last reported it.
    pub connection: Option<ConnectionSeen>,
    /// What is remembered of checks of the connection.
    pub checks: Option<check::Memory>,
    /// How long a check that is asked for now waits for its start.
    pub check_wait: Duration,
}

/// What a Connector takes from its TenantSchedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantView {
    /// Its name.
    pub name: String,
    /// Its reconcile has said something.
    pub is_observed: bool,
    /// Time zone of its own schedules.
    pub time_zone: String,
    /// Their jitter, at least.
    pub spread: Duration,
    /// Their catch-up window.
    pub catch_up_window: Duration,
    /// Everything is paused.
    pub suspend: bool,
    /// What its own schedules have in common with the tenant's.
    pub terms: Terms,
    /// What becomes of rows where a Connector does not say.
    pub data_policy: DataPolicy,
}

impl From<&TenantSchedule> for TenantView {
    fn from(object: &TenantSchedule) -> Self {
        let observed = object.status.as_ref().map(|status| status.observed_generation);
        Self {
            name: object.meta().name.clone().unwrap_or_default(),
            is_observed: observed.is_some_and(|observed| observed != NOT_OBSERVED),
            time_zone: object.spec.time_zone.clone(),
            spread: object.spec.spread.window.duration(),
            catch_up_window: object.spec.catch_up_window.duration(),
            suspend: object.spec.suspend,
            terms: Terms::from(&object.spec),
            data_policy: object.spec.data_policy,
        }
    }
}

/// The connection as workers last reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSeen {
    /// Its state.
    pub status: ConnectionStatus,
    /// When it was last checked.
    pub checked_at: Option<Timestamp>,
}

/// What is needed to seal a credential.
#[derive(Clone)]
pub struct Vault {
    /// Seals to the workers' recipient.
    pub sealer: Sealer,
    /// Key of the digest that tells whether a credential's content changed (R7).
    digest_key: [u8; 32],
}

impl Vault {
    /// The digest's key is derived from the installation id, not drawn: it must survive a rebuild of the cluster on the
    /// same store, or every rotated token would be dropped (R7, R45). Who reads the store could test a guess against a
    /// digest; vendors' tokens are too long to guess.
    #[must_use]
    pub fn new(sealer: Sealer, installation_id: &str) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        hash.update(b"gtm-sync credential digest\0");
        hash.update(installation_id.as_bytes());
        Self { sealer, digest_key: hash.finalize().into() }
    }

    /// The same digests under another recipient.
    #[must_use]
    pub fn for_recipient(&self, sealer: Sealer) -> Self {
        Self { sealer, digest_key: self.digest_key }
    }

    fn digest_key(&self) -> &[u8] {
        &self.digest_key
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sealer.fmt(formatter)
    }
}

/// A Connector's place in the cluster.
#[must_use]
pub fn key_of(object: &Connector) -> ObjectKey {
    let meta = object.meta();
    ObjectKey {
        kind: Kind::Connector,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// Token of the annotation that asks for a sync; an empty one asks for nothing.
#[must_use]
pub fn requested_at(object: &Connector) -> Option<String> {
    let annotations = object.meta().annotations.as_ref()?;
    annotations.get(REQUESTED_AT_ANNOTATION).filter(|token| !token.is_empty()).cloned()
}
