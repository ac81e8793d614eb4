//! What the server made of a schedule, as digests of its parts: a change that is not ours is an edit by hand, and the
//! digests say of what. State and notes are no part of it: pauses have rules of their own.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use temporalio_common::protos::temporal::api::{
    schedule::v1::{Range, Schedule, StructuredCalendarSpec, schedule_action::Action as ProtoAction},
    workflow::v1::NewWorkflowExecutionInfo,
};

use super::{bytes, hexadecimal};

/// The parts, named after the fields of a spec that they come from.
const PARTS: [&str; 8] = [
    "schedules",
    "maintenanceWindows",
    "startAt or endAt",
    "spread or timeZone",
    "overlapPolicy",
    "catchUpWindow",
    "pauseOnFailure",
    "the workflow it starts",
];

/// Digests of what the server made of a schedule, in a form of our own: independent of the order of maps and of fields
/// that a newer server adds.
pub(super) fn echo(schedule: &Schedule) -> String {
    let spec = schedule.spec.clone().unwrap_or_default();
    let policies = schedule.policies.unwrap_or_default();
    let start = start_workflow(schedule).cloned().unwrap_or_default();
    let input: Vec<_> = start.input.unwrap_or_default().payloads.into_iter().map(|payload| payload.data).collect();
    let intervals: Vec<_> =
        spec.interval.iter().map(|every| (milliseconds(every.interval), milliseconds(every.phase))).collect();
    let parts: [String; PARTS.len()] = [
        part(&(calendars(&spec.structured_calendar), spec.cron_string, intervals)),
        part(&calendars(&spec.exclude_structured_calendar)),
        part(&(spec.start_time.map(|at| at.seconds), spec.end_time.map(|at| at.seconds))),
        part(&(milliseconds(spec.jitter), spec.timezone_name)),
        part(&policies.overlap_policy),
        part(&milliseconds(policies.catchup_window)),
        part(&policies.pause_on_failure),
        part(&(
            start.workflow_id,
            start.workflow_type.map(|of| of.name),
            start.task_queue.map(|queue| queue.name),
            input,
        )),
    ];
    parts.join("-")
}

/// The parts in which two echoes differ, by the names of a spec's fields.
#[must_use]
pub fn edited_parts(known: &str, seen: &str) -> Vec<&'static str> {
    let (known, seen): (Vec<_>, Vec<_>) = (known.split('-').collect(), seen.split('-').collect());
    let differs = |index: usize| known.get(index) != seen.get(index);
    PARTS.into_iter().enumerate().filter(|&(index, _)| differs(index)).map(|(_, name)| name).collect()
}

fn part(content: &impl Serialize) -> String {
    hexadecimal(&Sha256::digest(bytes(content))[..4])
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

pub(super) fn start_workflow_mut(schedule: &mut Schedule) -> Option<&mut NewWorkflowExecutionInfo> {
    match schedule.action.as_mut()?.action.as_mut()? {
        ProtoAction::StartWorkflow(start) => Some(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::schedules::wanted::tests::wanted;

    fn edited(edit: impl FnOnce(&mut Schedule)) -> Vec<&'static str> {
        let mut schedule = wanted().to_proto();
        edit(&mut schedule);
        edited_parts(&echo(&wanted().to_proto()), &echo(&schedule))
    }

    #[test]
    fn an_edit_names_its_part_and_state_and_memos_are_none() {
        assert_eq!(edited(|_| ()), [""; 0]);
        let state = edited(|schedule| {
            schedule.state.get_or_insert_default().notes = "hello".to_owned();
            schedule.state.get_or_insert_default().paused = true;
        });
        assert_eq!(state, [""; 0], "a pause is told apart from an edit");
        assert_eq!(edited(|schedule| schedule.policies.get_or_insert_default().overlap_policy = 6), ["overlapPolicy"]);
        let two = edited(|schedule| {
            schedule.spec.get_or_insert_default().timezone_name = "Asia/Tokyo".to_owned();
            schedule.spec.get_or_insert_default().cron_string.clear();
        });
        assert_eq!(two, ["schedules", "spread or timeZone"]);
        assert_eq!(edited(|schedule| schedule.action = None), ["the workflow it starts"]);
    }

    #[test]
    fn an_echo_of_another_build_differs_in_every_part() {
        assert_eq!(edited_parts("0123456789abcdef", &echo(&wanted().to_proto())).len(), PARTS.len());
    }
}
