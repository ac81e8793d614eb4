//! What loads find out about a connector's completeness, and what a person says to it (R6).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::cursor::RefusedSweep;

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
