//! Who is there, as the operator projects it and as a worker reads it: tenants, connectors, credentials.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Findings, HandledToken, Verb, Wish};
use crate::{
    contract::workflows::ConnectionStatus,
    credentials::Sealed,
    ids::{ConnectorId, TenantId},
    model::{
        config::{ConnectorConfig, DataPolicy},
        cursor::{Cursor, Load, Window},
    },
};

/// Durable ownership of a tenant: survives a rebuild of the cluster, where every uid is new (R45).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Configured, never derived; empty when none is configured.
    pub cluster_id: String,
    /// The TenantSchedule's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// Of a claim that was given up: whoever asks next has it.
    #[must_use]
    pub fn nobody() -> Self {
        Self { cluster_id: String::new(), namespace: String::new(), name: String::new() }
    }
}

/// Dedicated pools a Temporal namespace, and with it a store, may have: the server takes 100 Worker Deployments
/// (`matching.maxDeployments`), and the shared pool and pools that are being drained need some (R22).
pub const MAX_DEDICATED_POOLS: i64 = 90;

/// Which workers run a tenant's activities (R22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pool {
    /// The shared ones.
    Shared,
    /// Its own.
    Dedicated,
    /// The shared ones again; tokens refreshed before may still be sealed to its own.
    Left,
}

/// What `resolve` starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where the tenant's activities go.
    pub pool: Pool,
    /// Revision of the base credential, 0 if there is none.
    pub credential_revision: i64,
    /// The key that the base credential is sealed with.
    pub credential_key: Option<String>,
    /// The key that its refreshed tokens are sealed with, if there are any.
    pub overlay_key: Option<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self { pool: Pool::Shared, credential_revision: 0, credential_key: None, overlay_key: None }
    }
}

impl Route {
    /// The keys that refreshed tokens are and should be sealed with, where they differ: the base was sealed anew.
    #[must_use]
    pub fn reseal(&self) -> Option<(&str, &str)> {
        let keys = self.overlay_key.as_deref().zip(self.credential_key.as_deref());
        keys.filter(|(overlay, credential)| overlay != credential)
    }
}

/// A tenant that has, or had, workers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedicatedPool {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Its TenantSchedule.
    pub owner: Owner,
    /// Its workers have work: the tenant is dedicated, or left and some refreshed token is still sealed to them.
    pub needed: bool,
}

/// A TenantSchedule as the workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantProjection {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Who claims it.
    pub owner: Owner,
    /// The CR's uid: tells one life of a CR from the next.
    pub uid: String,
    /// How long a tick waits for its children: smallest gap between ticks − jitter − a tenth (R50); `None` = until all end.
    pub wait_seconds: Option<u32>,
    /// Its activities run on workers of its own.
    pub dedicated: bool,
}

/// A tenant's claim as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantClaim {
    /// Who holds it.
    pub owner: Owner,
    /// Where its activities go, and so to whom its credentials are sealed.
    pub pool: Pool,
    /// Its TenantSchedule is gone, as far as anybody told.
    pub removed: bool,
}

/// Whether a tenant's claim was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Ours; the projection is written.
    Held,
    /// Somebody else's; nothing is written.
    HeldBy(Owner),
    /// It wants workers of its own, and there are `MAX_DEDICATED_POOLS` already; nothing is written.
    NoPoolLeft,
}

/// A tenant's listing for a tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantListing {
    /// Running and connected connectors, by id, and whether each has its own schedule.
    pub connectors: Vec<(ConnectorId, bool)>,
    /// As projected.
    pub wait_seconds: Option<u32>,
}

/// What the user wants of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DesiredState {
    /// Sync on every tick.
    Running,
    /// No new run; the current one ends at its next batch.
    Paused,
    /// As Paused.
    Stopped,
}

/// A Connector as the workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorProjection {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which: the CR's name.
    pub connector_id: ConnectorId,
    /// Where its CR lives; `name` is the CR's own.
    pub owner: Owner,
    /// The CR's uid.
    pub uid: String,
    /// The CR's generation.
    pub generation: i64,
    /// What the user wants.
    pub desired_state: DesiredState,
    /// Source, streams and limits.
    pub config: ConnectorConfig,
    /// The base credential; `None` leaves the stored one (the Secret could not be read now).
    pub credential: Option<BaseCredential>,
    /// The connector has a schedule of its own: not started by the tenant's tick.
    pub own_schedule: bool,
    /// Verb → wish as the spec (or annotation) shows them now; empty tokens left out.
    pub wishes: BTreeMap<Verb, Wish>,
}

/// A sealed base credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCredential {
    /// Sealed to the workers' recipient.
    pub sealed: Sealed,
    /// Keyed digest of the content: age's output differs each time, this does not (R7). The key is no part of it.
    pub digest: String,
}

/// Answer to a connector's projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorAnswer {
    /// The projection's revision: increments with every change.
    pub revision: i64,
    /// The credential's revision, 0 if there is none.
    pub credential_revision: i64,
    /// Tokens that were not handled before and are now recorded, with the time of recording: the caller starts what
    /// they ask for under an id made of that time, so a repeated start is one run (R8).
    pub fresh_tokens: BTreeMap<Verb, HandledToken>,
    /// The last handled token per verb.
    pub handled: BTreeMap<Verb, HandledToken>,
    /// Another connector holds the joined name `sync-{tenant}-{connector}`; nothing was written.
    pub name_taken: bool,
}

/// A projected connector, for compare and sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectedConnector {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which.
    pub connector_id: ConnectorId,
    /// Where its CR lives.
    pub owner: Owner,
    /// The CR's uid.
    pub uid: String,
    /// The CR's generation.
    pub generation: i64,
    /// Set when its CR is gone.
    pub removed_at: Option<Timestamp>,
    /// What becomes of its rows then.
    pub data_policy: DataPolicy,
}

/// A connector as a worker reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorRecord {
    /// The CR's uid; part of the fence (R30).
    pub uid: String,
    /// What the user wants.
    pub desired_state: DesiredState,
    /// The projection's revision; a run pins the one it began with (R29).
    pub revision: i64,
    /// Source, streams and limits.
    pub config: ConnectorConfig,
    /// The base credential, if there is one.
    pub credential: Option<BaseCredential>,
    /// Its revision.
    pub credential_revision: i64,
    /// The credential's state.
    pub connection_status: ConnectionStatus,
    /// The vendor account the rows belong to.
    pub account_id: Option<String>,
    /// The cursor of that account; default when there is none.
    pub cursor: Cursor,
    /// The load in progress of that account.
    pub load: Option<Load>,
    /// Number of the last full load.
    pub generation: i64,
    /// A time range to be read again by the next load.
    pub resync: Option<Window>,
    /// Counts and sweeps.
    pub findings: Findings,
}
