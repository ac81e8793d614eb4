//! What a run gives and gets while it holds a connector's lease: from taking it to the run's end.

use serde::{Deserialize, Serialize};

use super::RunOutcome;
use crate::{
    contract::{
        activities::Lease,
        workflows::{FailedRecord, SyncStats},
    },
    ids::{ConnectorId, TenantId},
    model::cursor::{Cursor, Load},
};

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
    /// The revision it was read at: account, load and streams of this wish are that one's.
    pub revision: i64,
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
    /// Syncs of the tenant that may be at work at once (R42); `None` = any number.
    pub tenant_syncs: Option<u32>,
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
