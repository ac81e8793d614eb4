//! `Connector.status`: what the operator tells of a connector, derived from the store's rows.
//! Nothing here is read back to decide anything but what changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HandledConnectorTokens, PauseStatus, ScheduleCounts, ScheduleStatus, not_observed};

/// What the operator found and did; written by the operator only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    /// The generation this status is about; -1 before the operator has seen the object.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,
    /// Whether the source accepts the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// The connector's own schedule in Temporal, if `spec.sync.schedules` asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// Who paused the own schedule, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,
    /// Ticks of the own schedule that did not start what they should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ScheduleCounts>,
    /// The own schedule's next tick, spread included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_time: Option<Time>,
    /// The own schedule's last tick that started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_time: Option<Time>,
    /// The tick that should have started by now and did not; none once a sync starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Time>,
    /// The newest run: the one at work, or the last one with its final counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<LastSync>,
    /// When a run last completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// How far the stored records reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<CursorSummary>,
    /// The number of batches committed so far, of all runs: moves whenever the stored records do. For `spec.requests.resetCursor.expectedPosition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// Records that could not be written and are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,
    /// What the last loads found out about completeness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
    /// Restarts of a sync that failed, while `spec.autoRestart` asks for them; gone with the next success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_restart: Option<AutoRestartStatus>,
    /// Wishes already handled, each with what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<HandledConnectorTokens>,
    /// Ready, Synced, Connected, Healthy, Syncing; Reconciling or Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for ConnectorStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            connection: None,
            schedule: None,
            pause: None,
            counts: None,
            next_run_time: None,
            last_run_time: None,
            overdue_since: None,
            progress: None,
            last_sync: None,
            last_success_time: None,
            cursor: None,
            position: None,
            dead_letters: None,
            findings: None,
            auto_restart: None,
            last_handled: None,
            conditions: Vec::new(),
        }
    }
}

/// Whether the source accepts the credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// What the last check said.
    pub status: ConnectionState,
    /// When it was last checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
    /// The account at the source, as the source calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionState {
    /// Not yet checked with this credential.
    #[default]
    Pending,
    /// The last check or sync signed in.
    Connected,
    /// The source refused the credential.
    Disconnected,
}

/// The newest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Its workflow id in Temporal.
    pub workflow_id: String,
    /// What it does.
    pub phase: Phase,
    /// The stream it reads.
    pub entity_type: String,
    /// Records so far.
    pub records_processed: i64,
    /// Records so far that could not be written.
    pub errors_count: i64,
    /// Set while it waits: until when at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_until: Option<Time>,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Phases of a run, as the query `getSyncProgress` spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Validates access.
    Authenticating,
    /// Fetches batches.
    Syncing,
    /// A write is in flight.
    Writing,
    /// Saves cursor and statistics.
    Finalizing,
    /// Done.
    Complete,
    /// Could not go on.
    Failed,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSync {
    /// Its workflow id in Temporal.
    pub workflow_id: String,
    /// When it began.
    pub start_time: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// How it ended.
    pub outcome: LastSyncOutcome,
    /// Records written, unchanged or rejected.
    pub records_processed: i64,
    /// Rows inserted or updated.
    pub records_written: i64,
    /// Rows that were stored like this already.
    pub records_unchanged: i64,
    /// Records that could not be written.
    pub errors_count: i64,
    /// Batches with at least one of them.
    pub failed_batches: i64,
    /// Why it failed, without record values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LastSyncOutcome {
    /// Every stream that could be read was read.
    Complete,
    /// It reached its time budget; the next run goes on where it stood.
    More,
    /// It could not go on; the next run goes on where it stood.
    Failed,
    /// It ended without a word: terminated, cancelled or timed out in Temporal.
    Terminated,
}

/// Restarts since a sync last completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoRestartStatus {
    /// How many were started; ticks that failed in between count like one.
    pub count: i32,
    /// When the next one is started; absent while one is at work, and when `spec.autoRestart.maxRestarts` are used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
}

/// How far the stored records reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CursorSummary {
    /// Every change at the source up to this moment, in every stream, is stored or dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_watermark: Option<Time>,
}

/// Dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    /// Records kept now.
    pub count: i64,
}

/// What the last loads found out about completeness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// When the source last counted its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<Time>,
    /// What it counted, and what is here; only streams that the source can count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stream"]))]
    pub counts: Vec<StreamCount>,
    /// Streams of which the last full sync deleted nothing, because it would have been too much (`spec.limits.maxSweptPercent`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stream"]))]
    pub refused_sweeps: Vec<RefusedSweep>,
}

/// A stream's count at the source, beside ours: records created before the load's upper bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamCount {
    /// The stream.
    pub stream: String,
    /// Records at the source.
    pub source: i64,
    /// Rows here that are not deleted.
    pub rows: i64,
    /// Dead letters whose record has no row.
    pub dead_letters: i64,
    /// How many counts in a row did not agree: source ≠ rows + deadLetters.
    pub mismatches: i32,
}

/// A sweep that would have deleted too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedSweep {
    /// The stream.
    pub stream: String,
    /// Rows that a sync which read the stream whole did not find at the source.
    pub unseen: i64,
    /// Rows of the stream that are not deleted.
    pub live: i64,
}
