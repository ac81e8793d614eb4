//! One-shot wishes: what is asked for, and what is recorded of it (R8).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LetterSelection;
use crate::model::cursor::Window;

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

/// A one-shot verb of a tenant: what it asks for is done in Temporal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TenantVerb {
    /// Tick now, by the spec.
    Trigger,
    /// Tick now, by the annotation.
    RequestedAt,
    /// Tick for a time range.
    Backfill,
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
