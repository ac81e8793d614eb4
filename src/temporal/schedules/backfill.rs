//! Ticks of a time range, made up for now: Temporal's own backfill of a schedule.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use temporalio_common::protos::temporal::api::{
    schedule::v1::{BackfillRequest, SchedulePatch},
    workflowservice::v1::PatchScheduleRequest,
};

use super::Overlap;
use crate::temporal::{
    Error, Temporal,
    client::{call, timed},
};

/// Ticks to make up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The schedule's id.
    pub schedule_id: String,
    /// Ticks at this time or later, spread included …
    pub from: Timestamp,
    /// … and before this one.
    pub to: Timestamp,
    /// What becomes of a tick that meets a running one; `None` = as the schedule says.
    pub overlap: Option<Overlap>,
    /// Names the wish: of two requests of one name the server drops the second, while it remembers the first (until the
    /// schedule's own workflow continues as new).
    pub request_id: String,
}

impl Temporal {
    /// Makes up for ticks; a paused schedule does it, too.
    ///
    /// # Errors
    /// `NotFound` without the schedule; when Temporal is away or refuses.
    ///
    /// # Idempotency
    /// By `request_id`, while the server remembers it; after that `SeenSchedule::has_made_up_for` tells.
    pub async fn backfill_schedule(&self, backfill: &Backfill) -> Result<(), Error> {
        // The server leaves out the start of a range and takes its end in; its API says that this may change.
        let moment = SignedDuration::from_millis(1);
        let before = |at: Timestamp| SystemTime::from(at.checked_sub(moment).unwrap_or(at));
        let range = BackfillRequest {
            start_time: Some(before(backfill.from).into()),
            end_time: Some(before(backfill.to).into()),
            overlap_policy: backfill.overlap.map(Overlap::to_proto).unwrap_or_default(),
        };
        let request = PatchScheduleRequest {
            namespace: self.namespace().to_owned(),
            schedule_id: backfill.schedule_id.clone(),
            patch: Some(SchedulePatch { backfill_request: vec![range], ..Default::default() }),
            identity: self.identity().to_owned(),
            request_id: backfill.request_id.clone(),
        };
        let mut service = self.connection().workflow_service();
        call("backfill a schedule", service.patch_schedule(timed(request))).await.map(drop)
    }
}
