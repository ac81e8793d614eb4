//! All that was found, and figures derived from it. Pure; judges nothing.

use std::time::Duration;

use super::{
    contender::Contender,
    phases::{Cold, Edits, Idle, Restart},
    stage::Tally,
    staleness::Staleness,
    tick::Tick,
};

/// Requests by which an operator deals with a tenant's schedule, as Temporal names them …
const SCHEDULES: [&str; 6] =
    ["CreateSchedule", "DescribeSchedule", "UpdateSchedule", "PatchSchedule", "DeleteSchedule", "ListSchedules"];
/// … and those by which it has a connection checked.
const CHECKS: [&str; 2] = ["StartWorkflowExecution", "DescribeWorkflowExecution"];

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Seconds of each measurement of the floor, or why there is none.
    pub(super) floor: Vec<Result<f64, String>>,
    pub(super) contenders: Vec<Measured>,
}

/// One contender; phases after a failure are missing.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) contender: Contender,
    pub(super) cold: Option<Cold>,
    /// Seconds of writing on after all was Ready.
    pub(super) rest_seconds: Option<f64>,
    pub(super) restart: Option<Restart>,
    pub(super) edits: Option<Edits>,
    pub(super) idle: Option<Idle>,
    pub(super) connected: Option<Connected>,
    pub(super) syncing: Option<Syncing>,
    pub(super) tick: Option<Tick>,
    pub(super) failure: Option<String>,
}

/// The results of all connection checks at once.
#[derive(Debug)]
pub(super) struct Connected {
    /// Seconds until all were shown.
    pub(super) seconds: f64,
    pub(super) tally: Tally,
}

/// Many syncs at work.
#[derive(Debug)]
pub(super) struct Syncing {
    pub(super) staleness: Staleness,
    /// What the servers did while they were.
    pub(super) tally: Tally,
    pub(super) seconds: f64,
}

impl Syncing {
    /// How long the syncs are at work.
    pub(super) const LASTS: Duration = Duration::from_secs(60);

    /// Status writes a second, of both kinds.
    pub(super) fn statuses_a_second(&self) -> f64 {
        (self.tally.written("connectors") + self.tally.written("tenantschedules")) / self.seconds
    }
}

impl Findings {
    /// The mean of the floors that were measured.
    pub(super) fn floor_seconds(&self) -> Option<f64> {
        let found: Vec<_> = self.floor.iter().flatten().copied().collect();
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let count = found.len() as f64;
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / count)
    }

    /// The product's part.
    pub(super) fn product(&self) -> Option<&Measured> {
        self.contenders.iter().find(|it| it.contender == Contender::Product)
    }
}

impl Measured {
    /// Nothing yet.
    pub(super) fn of(contender: Contender) -> Self {
        Self {
            contender,
            cold: None,
            rest_seconds: None,
            restart: None,
            edits: None,
            idle: None,
            connected: None,
            syncing: None,
            tick: None,
            failure: None,
        }
    }

    /// The most resident memory of any life that was measured, in MB.
    pub(super) fn peak_megabytes(&self) -> Option<f64> {
        let cold = self.cold.as_ref().map(|it| it.memory[1]);
        let idle = self.idle.as_ref().map(|it| it.memory[1]);
        cold.into_iter().chain(idle).reduce(f64::max).map(megabytes)
    }
}

impl Idle {
    /// Writes but the Lease in ten minutes, at the rate that was seen.
    pub(super) fn writes_in_ten_minutes(&self) -> f64 {
        self.tally.all_written() / self.seconds * 600.0
    }

    /// Percent of one core.
    pub(super) fn cpu_percent(&self) -> f64 {
        self.cpu / self.seconds * 100.0
    }
}

impl Tally {
    /// Temporal's requests about schedules.
    pub(super) fn schedule_requests(&self) -> f64 {
        self.requested(&SCHEDULES)
    }

    /// Temporal's requests about connection checks.
    pub(super) fn check_requests(&self) -> f64 {
        self.requested(&CHECKS)
    }
}

/// MiB as MB.
pub(super) fn megabytes(mib: f64) -> f64 {
    mib * 1.048_576
}
