//! Runs and where connectors stand, as the operator and people on call read them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Findings;
use crate::{
    contract::{
        activities::Parked,
        workflows::{ConnectionStatus, SyncStats},
    },
    ids::{ConnectorId, TenantId},
    model::cursor::Cursor,
};

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
    /// Runs that failed since one last completed.
    pub failed_in_row: u32,
    /// The last 24 hours.
    pub day: Day,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

/// What a connector's runs came to within 24 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Runs that failed or ended without a word.
    pub failures: u32,
    /// Attempts of activities of the newest runs (`stored::RUNS_OF_A_DAY` at most).
    pub attempts: u64,
    /// Those that were not an activity's first.
    pub retries: u64,
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
    /// Ended without a word: found dead by its successor, by one who waits for its place, or by the operator (R12).
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
