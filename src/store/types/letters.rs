//! Dead letters, and which of them somebody means.

use jiff::Timestamp;

use crate::model::entity::Entity;

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
