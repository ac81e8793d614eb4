//! Inputs, results and progress of the workflows.
//! Unknown fields are ignored; missing or wrong ones fail the execution at once as `InvalidInput`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::activities::Effort;
use crate::ids::{ConnectorId, TenantId};

/// How long a run may go on, from the start of its first execution, however it spends the time: it stays on the build that
/// it began with, and an old build must drain (R21, ADR 7).
pub const RUN_BUDGET: Duration = Duration::from_secs(6 * 3_600);
/// Most entries of the dead-letter array; further ones are only counted (seed).
pub const MAX_FAILED_RECORDS: usize = 1_000;

/// Input of `connectorSyncWorkflow` (seed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorSyncInput {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
    /// true = re-import all data; false = incremental from the cursor.
    pub full_sync: bool,
}

/// The same as an execution passes it on to the next of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContinuedSyncInput {
    /// The run's own input.
    #[serde(flatten)]
    pub input: ConnectorSyncInput,
    /// When the run's first execution began: its budget does not begin anew (R21).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// What its activities took so far.
    #[serde(default)]
    pub effort: Effort,
}

/// Input of `scheduledSyncWorkflow` (seed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledSyncInput {
    /// Whose connectors to sync.
    pub tenant_id: TenantId,
}

/// Input of `checkConnectionWorkflow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckConnectionInput {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
}

/// Where a sync is (seed).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Opens stored credentials and validates access.
    #[default]
    Authenticating,
    /// Fetches batches.
    Syncing,
    /// A write is in flight.
    Writing,
    /// Updates cursor and statistics.
    Finalizing,
    /// Could not go on.
    Failed,
    /// Finished.
    Complete,
}

/// Answer of the query `getSyncProgress` (seed).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncProgress {
    /// The stream being read, e.g. `companies`; empty before the first and after the last.
    pub entity_type: String,
    /// Records written, unchanged or rejected so far.
    pub records_processed: u64,
    /// Records that could not be written so far.
    pub errors_count: u64,
    /// The phase.
    pub phase: Phase,
}

/// An entry of the dead-letter array (seed): one for each batch with a rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRecord {
    /// The batch's index in its run, from 0.
    pub batch_index: u64,
    /// Class, code and field names; no values (R18).
    pub error: String,
    /// When it was recorded; ISO 8601.
    pub timestamp: Timestamp,
}

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SyncOutcome {
    /// All streams were read, or those that could be.
    Complete,
    /// The run ended at its budget; the next one goes on where it stood (R21).
    More,
    /// Another run of the connector was at work.
    Skipped,
}

/// Result of `connectorSyncWorkflow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorSyncResult {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which connector.
    pub connector_id: ConnectorId,
    /// How it ended.
    pub outcome: SyncOutcome,
    /// The workflow id of the run at work, when skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_for: Option<String>,
    /// Streams that could not be read (R24).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_streams: Vec<String>,
    /// Counts of the run.
    pub stats: SyncStats,
    /// The first `MAX_FAILED_RECORDS` entries of the dead-letter array.
    #[serde(default)]
    pub failed_records: Vec<FailedRecord>,
}

/// Counts of one run; kept in its run row, so they survive continue-as-new and worker loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStats {
    /// Batches applied or dead-lettered.
    pub batches: u64,
    /// Records written, unchanged or rejected.
    pub records_processed: u64,
    /// Rows inserted or updated.
    pub records_written: u64,
    /// Rows that were already stored so.
    pub records_unchanged: u64,
    /// Records that could not be written.
    pub errors_count: u64,
    /// Batches with at least one of them.
    pub failed_batches: u64,
    /// Attempts of the run's activities; counted at its end.
    #[serde(default)]
    pub activity_attempts: u64,
    /// Those that were not an activity's first.
    #[serde(default)]
    pub activity_retries: u64,
}

/// Result of `scheduledSyncWorkflow`: the aggregate of a tick.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledSyncResult {
    /// Connectors for which a child was started.
    pub processed: u32,
    /// Children that completed.
    pub successes: u32,
    /// Children that failed.
    pub failures: u32,
    /// Children that found another run at work, or were already started.
    pub skipped: u32,
    /// Children still at work when the tick had to end (R15), or ended at their budget (R21); they, or their successors, go on.
    pub still_running: u32,
    /// Connectors with a schedule of their own: listed, not started.
    pub own_schedule: u32,
}

/// Result of `checkConnectionWorkflow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckConnectionResult {
    /// What the store now says: `connected`, `disconnected` or `pending`.
    pub status: ConnectionStatus,
}

/// Whether a connector's credential is known to work; written by workers only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionStatus {
    /// Not yet checked for this credential.
    #[default]
    Pending,
    /// The last check or sync authenticated.
    Connected,
    /// The source refused this credential (R23).
    Disconnected,
}
