//! What the server made of a schedule, as one digest: a change of it that is not ours is an edit by hand.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use temporalio_common::protos::temporal::api::{
    schedule::v1::{Range, Schedule, StructuredCalendarSpec, schedule_action::Action as ProtoAction},
    workflow::v1::NewWorkflowExecutionInfo,
};

/// Digest of what the server made of a schedule, in a form of our own: independent of the order of maps, of fields that
/// a newer server adds, and of the notes. A pause counts, unless the server itself may pause it (`pause_on_failure`).
pub(super) fn echo(schedule: &Schedule) -> String {
    let spec = schedule.spec.clone().unwrap_or_default();
    let policies = schedule.policies.unwrap_or_default();
    let start = start_workflow(schedule).cloned().unwrap_or_default();
    let paused = schedule.state.as_ref().is_some_and(|state| state.paused) && !policies.pause_on_failure;
    let input: Vec<_> = start.input.unwrap_or_default().payloads.into_iter().map(|payload| payload.data).collect();
    let canonical = (
        (calendars(&spec.structured_calendar), spec.cron_string, calendars(&spec.exclude_structured_calendar)),
        spec.interval.iter().map(|every| (milliseconds(every.interval), milliseconds(every.phase))).collect::<Vec<_>>(),
        (spec.start_time.map(|at| at.seconds), spec.end_time.map(|at| at.seconds)),
        (milliseconds(spec.jitter), spec.timezone_name),
        (policies.overlap_policy, milliseconds(policies.catchup_window), policies.pause_on_failure, paused),
        (start.workflow_id, start.workflow_type.map(|of| of.name), start.task_queue.map(|queue| queue.name), input),
    );
    digest(&serde_json::to_vec(&canonical).expect("texts and numbers serialise"))
}

/// A calendar's fields, each a list of (start, end, step).
type CalendarForm = [Vec<(i32, i32, i32)>; 7];

fn calendars(calendars: &[StructuredCalendarSpec]) -> Vec<CalendarForm> {
    let ranges = |ranges: &[Range]| ranges.iter().map(|range| (range.start, range.end, range.step)).collect();
    calendars
        .iter()
        .map(|of| {
            [&of.second, &of.minute, &of.hour, &of.day_of_month, &of.month, &of.year, &of.day_of_week]
                .map(|field| ranges(field))
        })
        .collect()
}

/// A protobuf duration; absent, zero and negative ones are all 0.
fn milliseconds(duration: Option<impl TryInto<Duration>>) -> u128 {
    duration.and_then(|some| some.try_into().ok()).map_or(0, |some| some.as_millis())
}

pub(super) fn start_workflow(schedule: &Schedule) -> Option<&NewWorkflowExecutionInfo> {
    match schedule.action.as_ref()?.action.as_ref()? {
        ProtoAction::StartWorkflow(start) => Some(start),
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::schedules::{
        WantedSchedule,
        tests::{proto, wanted},
    };

    #[test]
    fn an_edit_shows_and_notes_and_memos_do_not() {
        let as_made = echo(&proto(&wanted()));
        let mut edited = proto(&wanted());
        edited.state.get_or_insert_default().notes = "hello".to_owned();
        assert_eq!(echo(&edited), as_made);
        edited.state.get_or_insert_default().paused = true;
        assert_ne!(echo(&edited), as_made, "a pause by hand");
        let mut edited = proto(&wanted());
        edited.policies.get_or_insert_default().overlap_policy = 6;
        assert_ne!(echo(&edited), as_made);
        let mut edited = proto(&wanted());
        edited.spec.get_or_insert_default().timezone_name = "Asia/Tokyo".to_owned();
        assert_ne!(echo(&edited), as_made);
    }

    #[test]
    fn a_pause_that_the_server_may_make_itself_is_not_an_edit() {
        let may_pause = WantedSchedule { pause_on_failure: true, ..wanted() };
        let mut paused = proto(&may_pause);
        paused.state.get_or_insert_default().paused = true;
        assert_eq!(echo(&paused), echo(&proto(&may_pause)));
    }
}
