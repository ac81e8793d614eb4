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
        config::{ConnectorConfig, DataPolicy},
        cursor::{Cursor, Load, RefusedSweep, Window},
        entity::Entity,
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
    /// Verb → wish as the spec (or annotation) shows them now; empty tokens left out.
    pub wishes: BTreeMap<Verb, Wish>,
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
    /// Read the records of dead letters back from the source.
    Replay,
    /// Forget dead letters.
    Discard,
    /// Read again what changed within a time range.
    Resync,
    /// Sync everything, and let its sweeps delete what was found when the last ones were refused (R6).
    ConfirmSweep,
}

/// A one-shot wish: its token, and what it is about where its verb needs that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The token; a new one is a new wish.
    pub token: String,
    /// `Replay`, `Discard`: which dead letters; default = all.
    pub letters: LetterSelection,
    /// `Resync`: which range; without one the wish does nothing.
    pub window: Option<Window>,
    /// `ResetCursor`: only at this position (`ConnectorStatusRow::position`).
    pub expected_position: Option<i64>,
}

impl From<&str> for Wish {
    fn from(token: &str) -> Self {
        Self { token: token.to_owned(), ..Self::default() }
    }
}

/// Which dead letters of a connector; the default selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterSelection {
    /// Those of one run.
    pub workflow_id: Option<String>,
    /// Those of this batch, counted within the run as in `FailedRecord`.
    pub batch_index: Option<u64>,
    /// Those of this entity.
    pub entity: Option<Entity>,
    /// Those of this record, by the vendor's id.
    pub source_id: Option<String>,
}

/// A dead letter: a record that the source served and that is not right in the canonical rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// Its version number; unique for the connector.
    pub observed_seq: i64,
    /// The vendor account it came from; that of a former one cannot be read back, only discarded.
    pub account_id: String,
    /// The run that met it.
    pub workflow_id: String,
    /// Its batch within that run.
    pub batch_index: u64,
    /// The table it was meant for; `None` when the whole batch was unreadable.
    pub entity: Option<Entity>,
    /// The vendor's id; `None` when it could not be read: such a letter cannot be replayed alone, a full sync resolves it.
    pub source_id: Option<String>,
    /// Why: a stable code.
    pub code: String,
    /// The field at fault, by name.
    pub field: Option<String>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Set while a replay is asked for and not yet done.
    pub replay_requested_at: Option<Timestamp>,
    /// The record; empty when it was withheld or has aged.
    pub payload: Vec<u8>,
    /// `served`: as the source served it; `staged`: one staged record (`model::batch`); `withheld`, `expired`: not kept.
    pub payload_form: String,
}

/// A dead letter to be read back from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its version number.
    pub observed_seq: i64,
    /// The table it was meant for.
    pub entity: Entity,
    /// The vendor's id.
    pub source_id: String,
}

/// What a load's sweep of one stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepScope {
    /// Live rows of the stream.
    pub live: u64,
    /// Those of them that the load did not see.
    pub unseen: u64,
}

/// What the loads found out about the connector's completeness, and what a person said to it; in its state row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// When the source last counted.
    #[serde(default)]
    pub counted_at: Option<Timestamp>,
    /// By stream, what it counted and what is here.
    #[serde(default)]
    pub counts: BTreeMap<String, StreamCount>,
    /// By stream, sweeps that the last load which read it whole did not dare (R6).
    #[serde(default)]
    pub refused_sweeps: BTreeMap<String, RefusedSweep>,
    /// By stream, how many rows that a load did not see a person has allowed its sweep to delete.
    #[serde(default)]
    pub confirmed_sweeps: BTreeMap<String, u64>,
}

/// A stream's count at the source, beside ours, for records created before the load's upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamCount {
    /// Records at the source.
    pub source: u64,
    /// Live rows here.
    pub rows: u64,
    /// Dead letters without a live row.
    pub dead_letters: u64,
    /// How many counts in a row did not agree.
    pub mismatches: u32,
}

/// How long what is only of use for a while is kept. `None` = for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows of ended runs and their dead-letter entries, in days; a connector's newest run always stays.
    pub runs_days: Option<u32>,
    /// Payloads of dead letters, in days; the letters themselves stay until they are resolved or discarded.
    pub dead_letter_payloads_days: Option<u32>,
    /// Tombstones, in days since the deletion.
    pub tombstones_days: Option<u32>,
}

/// What ageing removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aged {
    /// Run rows.
    pub runs: u64,
    /// Payloads of dead letters.
    pub payloads: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Staged batches that nobody will apply, and records of applied ones.
    pub batches: u64,
}

/// Whom to erase: the records of a tenant with this e-mail address, or with this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Person {
    /// Contacts, leads and owners with this address, whatever its case.
    Email(String),
    /// One contact, lead or owner of one connector.
    Record {
        /// Its connector.
        connector_id: ConnectorId,
        /// Its table.
        entity: Entity,
        /// The vendor's id.
        source_id: String,
    },
}

/// What erasing removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// Contacts, leads and owners, tombstones included.
    pub records: u64,
    /// Activities whose text was emptied because they are linked to one of those records.
    pub activities: u64,
    /// Dead letters about them.
    pub dead_letters: u64,
    /// Staged batches of the tenant: all of them, because they cannot be searched. Their runs read the pages again.
    pub staged_batches: u64,
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
    /// What it did, where that is known at once: `17 dead letters marked`, `PositionChanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
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

/// What one call of a purge removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Rows of all tables.
    pub rows: u64,
    /// Nothing of the connector is left.
    pub done: bool,
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
    /// Position of the next commit: moves with every batch.
    pub position: i64,
    /// Counts and sweeps.
    pub findings: Findings,
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
    /// A time range to be read again by the next load.
    pub resync: Option<Window>,
    /// Counts and sweeps.
    pub findings: Findings,
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
