//! A tenant's share of the shared pool, and runs that somebody else closes.

use std::time::Duration;

use super::{LeaseHolder, RunOutcome};
use crate::ids::{ConnectorId, TenantId};

/// A run's wish for one of its tenant's places among the syncs at work (R42).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRequest {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which.
    pub connector_id: ConnectorId,
    /// The run's workflow id.
    pub workflow_id: String,
    /// Syncs of the tenant that may be at work at once, parked ones not counted (R46).
    pub most: u32,
    /// A run of the connector that waited before and is gone: its place in the line becomes ours.
    pub instead_of: Option<String>,
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Ours: the run may take its lease.
    Ours,
    /// Another run of the connector stands in the line; its workflow id.
    Anothers(String),
    /// All places are taken, or belong to those who asked before.
    Waits {
        /// How many of those there are.
        ahead: u32,
        /// When to ask again.
        again_in: Duration,
        /// The tenant's syncs at work.
        working: Vec<Working>,
    },
}

/// A sync at work, by its connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Working {
    /// Which connector.
    pub connector_id: ConnectorId,
    /// Its run.
    pub holder: LeaseHolder,
}

/// A run that ended without a word of its own, as Temporal tells it (R12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRun {
    /// Whose connector.
    pub tenant_id: TenantId,
    /// Which.
    pub connector_id: ConnectorId,
    /// The run, with the lease under which it was found.
    pub holder: LeaseHolder,
    /// `Failed` if it ended by itself, and is followed like any that failed; `Terminated` if somebody ended it.
    pub outcome: RunOutcome,
    /// What Temporal says of its end.
    pub error: String,
}
