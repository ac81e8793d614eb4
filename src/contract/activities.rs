//! Inputs and results of the activities, and their names and timeouts (seed's tables).
//! Ids, numbers and counts only: cursors, page tokens and records stay in the store (R13).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityDefinition;

use super::workflows::{ConnectionStatus, FailedRecord, SyncStats};
use crate::ids::{ConnectorId, TenantId};

/// startToCloseTimeout of the four activities (seed).
pub const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// startToCloseTimeout of the scheduler's activity (seed).
pub const SCHEDULER_ACTIVITY_TIMEOUT: Duration = Duration::from_secs(30);
/// maximumAttempts of every activity (seed).
pub const MAXIMUM_ATTEMPTS: u32 = 3;
/// Silence after which a worker is taken for lost; heartbeats are sent every few seconds (docs/facts.md, Waiting).
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// startToCloseTimeout of `resolve`: it holds a workflow task (R41), so it answers at once or the run waits outside.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an activity waits for a dedicated tenant's own workers before the session asks anew where it belongs: they may
/// have been taken away.
pub const DEDICATED_START_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Which connector an activity works for, and under which lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
    /// Random, drawn at take-over; the holder half of the fence (R1).
    pub epoch: String,
    /// Ordered, incremented at take-over (R47).
    pub run_no: i64,
    /// The connector's revision that was authenticated; whoever finds another one has it authenticated anew (R4).
    #[serde(default)]
    pub revision: i64,
    /// Workers were lost where it was taken: starts are counted, and batches are single pages (R44).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub careful: bool,
}

/// Input of `resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveInput {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
}

/// Result of `resolve`: which workers serve the session that begins (R22).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveResult {
    /// The queue of the tenant's own workers; `None` = the shared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_queue: Option<String>,
    /// Refreshed tokens are still sealed to the workers of this queue: they `reseal` them first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reseal_on: Option<String>,
}

/// Input of `reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResealInput {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
}

/// Result of `reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResealResult {
    /// Whether there was anything to seal anew.
    pub resealed: bool,
}

/// Input of `authenticate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticateInput {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
    /// For a sync: take the lease and begin or continue a load, full or not. `None`: only check the connection.
    pub full_sync: Option<bool>,
}

/// Result of `authenticate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AuthenticateResult {
    /// Access is valid and the lease is ours.
    Ready {
        /// The lease.
        lease: Lease,
        /// Position of the next commit, the other half of the fence.
        next_seq: i64,
        /// Counts of this run so far (not zero after continue-as-new or parking).
        stats: SyncStats,
        /// The attempt that succeeded, from 1.
        attempt: u32,
    },
    /// Checked only (no lease asked for).
    Checked {
        /// What the store now says.
        status: ConnectionStatus,
    },
    /// Another run of this connector is at work (R12). A full sync is not skipped: it parks until its turn comes.
    Skipped {
        /// Its workflow id.
        holder: String,
    },
    /// Wait on a durable timer and authenticate again.
    Parked(Parked),
}

/// Why and until when a run waits; a result, never a failure (R2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// Earliest time to go on.
    pub until: Timestamp,
    /// Class and names: `RateLimited`, `QuotaExhausted`, `Unavailable`, …
    pub reason: String,
}

/// Input of `syncBatch`: stage the batch at `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncBatchInput {
    /// The lease.
    pub lease: Lease,
    /// The batch's position.
    pub seq: i64,
    /// The staged batch before it, whose next position is this one's first; `None` = start at the committed resume point.
    pub after: Option<String>,
}

/// Result of `syncBatch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SyncBatchResult {
    /// A batch was staged (it may hold no rows when only the position moved).
    Staged(Staged),
    /// Nothing was read; wait, then authenticate again.
    Parked(Parked),
}

/// A reference to a staged batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Staged {
    /// Attempt-unique id (R13).
    pub staged_id: String,
    /// Its position.
    pub seq: i64,
    /// Rows, tombstones and rejected records in it.
    pub records: u64,
    /// Size as staged, in bytes.
    pub bytes: u64,
    /// The stream read last.
    pub entity_type: String,
    /// No batch follows: the load is complete after this one.
    pub last: bool,
    /// The next batch must not be fetched before this one is applied: it looks at what the load has brought (R6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub barrier: bool,
    /// The source asked to slow down after this batch: wait before the next (R41: a smaller batch, no attempt burnt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
    /// The attempt that staged it, from 1.
    pub attempt: u32,
}

/// Input of `writeRecords`: apply these staged batches, in order, as one fenced commit;
/// after the first failed attempt one commit a batch (R49).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecordsInput {
    /// The lease.
    pub lease: Lease,
    /// What to apply, ordered by `seq` without gaps.
    pub batches: Vec<StagedRef>,
}

/// A staged batch by id and position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedRef {
    /// Its id.
    pub staged_id: String,
    /// Its position.
    pub seq: i64,
}

/// Result of `writeRecords`: the run's counts after the commit, and the entries it added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecordsResult {
    /// Position of the next commit.
    pub next_seq: i64,
    /// Counts of the run so far.
    pub stats: SyncStats,
    /// One entry for each batch of this call with a rejected record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRecord>,
    /// The attempt that succeeded, from 1.
    pub attempt: u32,
}

/// Attempts of a run's activities, as the workflow counts them from their results: exact, whoever died in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effort {
    /// All attempts.
    pub attempts: u64,
    /// Those that were not an activity's first.
    pub retries: u64,
}

impl Effort {
    /// An activity that ended in its `attempts`-th attempt.
    pub fn add(&mut self, attempts: u32) {
        self.attempts += u64::from(attempts);
        self.retries += u64::from(attempts.saturating_sub(1));
    }
}

/// Input of `updateSyncState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSyncStateInput {
    /// The lease.
    pub lease: Lease,
    /// What to persist.
    pub update: StateUpdate,
}

/// What `updateSyncState` persists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StateUpdate {
    /// A batch could not be written: dead letter, counts and the step past it in one fenced commit (R10).
    DeadLetter {
        /// The batch.
        batch: StagedRef,
        /// Class and names (R18).
        error: String,
    },
    /// The run waits: shown in the run row and in status.
    Park(Parked),
    /// All positions are applied: the load's watermark, statistics and the run's end. Releases the lease.
    Finish {
        /// The load's last batch, when it holds no records and was therefore not written: only its position counts (R39).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<StagedRef>,
        /// What the run's activities took.
        effort: Effort,
    },
    /// The run ends at its budget; the next one goes on from the resume point (R21). Releases the lease.
    More {
        /// What the run's activities took.
        effort: Effort,
    },
    /// The run ends as failed; the resume point stays. Releases the lease.
    Fail {
        /// Class and names (R18).
        error: String,
        /// What the run's activities took.
        effort: Effort,
    },
}

/// Result of `updateSyncState`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSyncStateResult {
    /// Position of the next commit.
    pub next_seq: i64,
    /// Counts of the run so far.
    pub stats: SyncStats,
    /// Entries added by a dead letter; on `Finish` the run's whole array, at most `MAX_FAILED_RECORDS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRecord>,
    /// On `Finish`: streams that could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_streams: Vec<String>,
}

/// Input of `listConnectedConnectors`, the scheduler's activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListConnectedInput {
    /// Whose connectors.
    pub tenant_id: TenantId,
}

/// Result of `listConnectedConnectors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListConnectedResult {
    /// Running and connected connectors, by id.
    pub connectors: Vec<ListedConnector>,
    /// How long the tick may wait for its children (R50); `None` = until all end.
    pub wait_seconds: Option<u64>,
}

/// A connector in the tick's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedConnector {
    /// Which connector.
    pub connector_id: ConnectorId,
    /// Its runs' workflow id without the time: `sync-{tenantId}-{connectorId}`, with the cluster id where one is configured.
    pub workflow_id_base: String,
    /// It has a schedule of its own: reported, not started.
    pub own_schedule: bool,
}

/// Details of a `REJECTED` failure of `writeRecords`: the batch to dead-letter; those before it are applied (R49).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedBatch {
    /// The batch.
    pub batch: StagedRef,
    /// Class and names (R18).
    pub error: String,
    /// Counts of the run after the batches before it.
    pub stats: SyncStats,
    /// Entries that those added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRecord>,
}

macro_rules! activity {
    ($(#[$doc:meta])* $name:ident, $type_name:literal, $input:ty => $output:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl $name {
            /// The activity's type name.
            pub const NAME: &'static str = $type_name;
        }

        impl ActivityDefinition for $name {
            type Input = $input;
            type Output = $output;

            fn name(&self) -> &str {
                Self::NAME
            }
        }
    };
}

activity!(
    /// Which workers serve the tenant; a local activity: no rights, no round trip (R22).
    Resolve, "resolve", ResolveInput => ResolveResult
);
activity!(
    /// Seals refreshed tokens to the workers that the credential is sealed to, by those that can still open them (R14).
    Reseal, "reseal", ResealInput => ResealResult
);
activity!(
    /// Opens credentials, validates access, takes the lease (seed).
    Authenticate, "authenticate", AuthenticateInput => AuthenticateResult
);
activity!(
    /// Fetches pages and stages them as one batch (seed).
    SyncBatch, "syncBatch", SyncBatchInput => SyncBatchResult
);
activity!(
    /// Applies staged batches to the canonical schema (seed).
    WriteRecords, "writeRecords", WriteRecordsInput => WriteRecordsResult
);
activity!(
    /// Persists dead letters, parking, cursor and statistics (seed).
    UpdateSyncState, "updateSyncState", UpdateSyncStateInput => UpdateSyncStateResult
);
activity!(
    /// The scheduler's list of connected connectors.
    ListConnectedConnectors, "listConnectedConnectors", ListConnectedInput => ListConnectedResult
);
