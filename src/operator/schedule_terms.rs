//! What all schedules of a tenant have in common: its own and those of its Connectors. Pure values from the spec.

use jiff::Timestamp;

use super::maintenance;
use crate::{
    crd::{ConflictPolicy, DriftPolicy, PausePolicy, TenantScheduleSpec},
    temporal::schedules::Calendar,
};

/// How to get along with people who work in Temporal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policies {
    /// Whose pauses stay.
    pub pause: PausePolicy,
    /// Whether edits stay.
    pub drift: DriftPolicy,
    /// Whether a schedule that is not ours is taken over.
    pub conflict: ConflictPolicy,
}

/// What all schedules of a tenant have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// The policies.
    pub policies: Policies,
    /// The server pauses a schedule whose run failed.
    pub pause_on_failure: bool,
    /// No ticks before.
    pub start_at: Option<Timestamp>,
    /// No ticks after.
    pub end_at: Option<Timestamp>,
    /// Ticks that are left out.
    pub excluded: Vec<Calendar>,
}

impl From<&TenantScheduleSpec> for Terms {
    fn from(spec: &TenantScheduleSpec) -> Self {
        let policies = Policies { pause: spec.pause_policy, drift: spec.drift_policy, conflict: spec.conflict_policy };
        Self {
            policies,
            pause_on_failure: spec.pause_on_failure,
            start_at: spec.start_at,
            end_at: spec.end_at,
            excluded: maintenance::calendars(&spec.maintenance_windows),
        }
    }
}
