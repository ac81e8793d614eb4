//! Rows and arguments of the store, by who writes them: the operator (projection), workers (state, runs), nobody twice.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::model::budget::{Grant as BudgetGrant, Key as BudgetKey, Limit as BudgetLimit};
use crate::{
    contract::{
        activities::{Lease, Parked},
        workflows::{ConnectionStatus, FailedRecord, SyncStats},
    },
    credentials::Sealed,
    ids::{ConnectorId, TenantId},
    model::{
        config::ConnectorConfig,
        cursor::{Cursor, Load},
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
}

/// Whether a tenant's claim was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Ours; the projection is written.
    Held,
    /// Somebody else's; nothing is written.
    HeldBy(Owner),
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
    /// Verb → token as the spec (or annotation) shows them now; empty ones left out.
    pub tokens: BTreeMap<Verb, String>,
}

/// A sealed base credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCredential {
    /// Sealed to the workers' recipient.
    pub sealed: Sealed,
    /// Keyed digest of the plaintext: age's output differs each time, this does not (R7).
    pub digest: String,
}

/// A one-shot verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Sync now.
    Sync,
    /// Sync everything now.
    FullSync,
    /// Forget the cursor (and the account binding).
    ResetCursor,
    /// Apply dead letters again.
    Replay,
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

/// A handled verb token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandledToken {
    /// The token.
    pub token: String,
    /// When it was recorded.
    pub at: Timestamp,
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
}

/// What the operator derives a Connector's status from.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorStatusRow {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which.
    pub connector_id: ConnectorId,
    /// The credential's state.
    pub connection_status: ConnectionStatus,
    /// Class and names; empty when connected.
    pub connection_reason: String,
    /// When it was last checked.
    pub connection_checked_at: Option<Timestamp>,
    /// The vendor account the rows belong to.
    pub account_id: Option<String>,
    /// Watermarks.
    pub cursor: Cursor,
    /// The newest run, if any.
    pub last_run: Option<RunRow>,
    /// When a run last completed.
    pub last_success_at: Option<Timestamp>,
    /// Records kept as dead letters now.
    pub dead_letters: i64,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

/// A run, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its workflow id.
    pub workflow_id: String,
    /// Ordered number of the lease under which it last worked.
    pub run_no: i64,
    /// Whether it was started as a full sync.
    pub full_sync: bool,
    /// When it took its first lease.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended; `None` while at work.
    pub outcome: Option<RunOutcome>,
    /// Class and names, when it failed.
    pub error: Option<String>,
    /// The stream being read.
    pub entity_type: String,
    /// Counts.
    pub stats: SyncStats,
    /// Set while it waits.
    pub parked: Option<Parked>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunOutcome {
    /// All streams read.
    Complete,
    /// At its budget; the next one goes on (R21).
    More,
    /// Could not go on; resumable.
    Failed,
    /// Found dead by its successor (R12).
    Terminated,
}

/// One answer of the incremental status query.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusPage {
    /// Rows changed since.
    pub rows: Vec<ConnectorStatusRow>,
    /// The database's time at the query: the next `since`, less the overlap.
    pub as_of: Timestamp,
}

/// A tenant's listing for a tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantListing {
    /// Running and connected connectors, by id, and whether each has its own schedule.
    pub connectors: Vec<(ConnectorId, bool)>,
    /// As projected.
    pub wait_seconds: Option<u32>,
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
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    /// Its workflow id, to be looked up in Temporal.
    pub workflow_id: String,
    /// Its epoch.
    pub epoch: String,
}

/// A wish for the lease.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRequest {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which.
    pub connector_id: ConnectorId,
    /// The uid it was read with; part of the fence.
    pub uid: String,
    /// The vendor account the credential reaches.
    pub account_id: String,
    /// The run's workflow id.
    pub workflow_id: String,
    /// Whether it was started as a full sync.
    pub full_sync: bool,
    /// The holder that was looked up and found dead or ourselves; `None` = the lease was free.
    pub expected_epoch: Option<String>,
    /// How to close the former holder's run row.
    pub former_outcome: RunOutcome,
    /// The load to begin when none is in progress (or when `restart_load`).
    pub load: Load,
    /// Throw the load in progress away: it is incremental and a full one is asked for.
    pub restart_load: bool,
}

/// A lease taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGranted {
    /// The lease.
    pub lease: Lease,
    /// Position of the next commit.
    pub next_seq: i64,
    /// Counts of this run so far.
    pub stats: SyncStats,
}

/// The committed state of a connector.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncState {
    /// Position of the next commit.
    pub next_seq: i64,
    /// The load in progress, standing where the next batch starts.
    pub load: Load,
    /// Watermarks of finished loads.
    pub cursor: Cursor,
}

/// A batch to stage.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStaged {
    /// Its position.
    pub seq: i64,
    /// Where the batch after it starts; what `sync_state.load` becomes when this one is applied.
    pub next: Load,
    /// The stream read last.
    pub entity_type: String,
    /// `BatchWriter::finish`; empty batches are staged too, for their position.
    pub payload: Vec<u8>,
    /// Rows, tombstones and rejected records in it.
    pub record_count: u32,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Position of the next commit.
    pub next_seq: i64,
    /// Counts of the run so far.
    pub stats: SyncStats,
    /// One entry per batch of this call with a rejected record.
    pub failed: Vec<FailedRecord>,
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// The load is complete.
    Complete,
    /// At its budget.
    More,
    /// With class and names.
    Failed(String),
}

/// The recorded end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Position of the next commit.
    pub next_seq: i64,
    /// Counts of the run.
    pub stats: SyncStats,
    /// Streams that could not be read.
    pub failed_streams: Vec<String>,
}
