//! A schedule as the server describes it, in our words.

use std::time::SystemTime;

use jiff::Timestamp;
use temporalio_common::protos::temporal::api::{
    schedule::v1::{Schedule, ScheduleActionResult, ScheduleInfo, ScheduleListInfo},
    workflowservice::v1::DescribeScheduleResponse,
};

use super::{
    HASH_KEY, LEFT_KEY, OWNER_KEY, ScheduleOwner, ScheduleState,
    echo::{echo, start_workflow},
    read_memo,
};
use crate::{contract::workflows::ScheduledSyncInput, ids::TenantId, temporal::Error};

/// A schedule as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSchedule {
    /// Whose it is; `None` = not made by gtm-sync.
    pub owner: Option<ScheduleOwner>,
    /// Hash of what was wanted when it was last written by gtm-sync.
    pub wanted_hash: Option<String>,
    /// It was left on purpose when its object was deleted.
    pub left: bool,
    /// The tenant for which it starts what it starts.
    pub tenant_id: Option<TenantId>,
    /// Digests of what the server made of it; change when somebody edits it by hand. A pause is not part of it.
    pub echo: String,
    /// Proves to an update that it knows this state.
    pub conflict_token: Vec<u8>,
    /// Paused or not, and what people wrote beside.
    pub state: ScheduleState,
    /// The next tick, jitter included; `None` = it never fires again.
    pub next_run: Option<Timestamp>,
    /// The newest tick that started something.
    pub last_run: Option<Timestamp>,
    /// The newest runs that it started, a few of them.
    pub recent: Vec<RecentRun>,
    /// Workflow ids at work.
    pub running: Vec<String>,
    /// Ticks lost because they were older than the catch-up window.
    pub missed_catch_up: i64,
    /// Ticks skipped because the former run was at work.
    pub overlap_skipped: i64,
    /// Ticks dropped because too many waited.
    pub buffer_dropped: i64,
    /// Ticks that wait for the former run to end.
    pub buffered: i64,
}

pub(super) fn seen(described: DescribeScheduleResponse) -> Result<SeenSchedule, Error> {
    let schedule = described.schedule.ok_or(Error::Unreadable { what: "the schedule" })?;
    let info = described.info.unwrap_or_default();
    let action_memo = start_workflow(&schedule).and_then(|start| start.memo.as_ref());
    Ok(SeenSchedule {
        owner: read_memo(action_memo, OWNER_KEY).or_else(|| read_memo(described.memo.as_ref(), OWNER_KEY)),
        wanted_hash: read_memo(action_memo, HASH_KEY),
        left: read_memo(action_memo, LEFT_KEY).unwrap_or_default(),
        tenant_id: tenant_id(&schedule),
        echo: echo(&schedule),
        conflict_token: described.conflict_token,
        state: ScheduleState::from_proto(schedule.state.clone().unwrap_or_default()),
        next_run: timestamp(info.future_action_times.first().copied()),
        last_run: info.recent_actions.iter().filter_map(|action| timestamp(action.actual_time)).max(),
        recent: info.recent_actions.iter().filter_map(recent_run).collect(),
        running: running(&info),
        missed_catch_up: info.missed_catchup_window,
        overlap_skipped: info.overlap_skipped,
        buffer_dropped: info.buffer_dropped,
        buffered: info.buffer_size,
    })
}

/// A run that a schedule started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentRun {
    /// The tick for which it was, spread included.
    pub tick: Timestamp,
    /// When it started.
    pub started: Timestamp,
}

impl SeenSchedule {
    /// Whether a run that started at `asked` or later was for a tick of this range: somebody made up for it.
    #[must_use]
    pub fn has_made_up_for(&self, from: Timestamp, to: Timestamp, asked: Timestamp) -> bool {
        self.recent.iter().any(|run| (from..to).contains(&run.tick) && run.started >= asked)
    }
}

fn recent_run(action: &ScheduleActionResult) -> Option<RecentRun> {
    Some(RecentRun { tick: timestamp(action.schedule_time)?, started: timestamp(action.actual_time)? })
}

fn tenant_id(schedule: &Schedule) -> Option<TenantId> {
    let input: ScheduledSyncInput =
        serde_json::from_slice(&start_workflow(schedule)?.input.as_ref()?.payloads.first()?.data).ok()?;
    Some(input.tenant_id)
}

/// The next ticks of a schedule in a list.
pub(super) fn upcoming(info: ScheduleListInfo) -> Vec<Timestamp> {
    info.future_action_times.into_iter().filter_map(|at| timestamp(Some(at))).collect()
}

fn running(info: &ScheduleInfo) -> Vec<String> {
    info.running_workflows.iter().map(|execution| execution.workflow_id.clone()).collect()
}

/// A protobuf timestamp.
fn timestamp(at: Option<impl TryInto<SystemTime>>) -> Option<Timestamp> {
    Timestamp::try_from(at?.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::schedule::v1::schedule_action::Action;

    use super::*;
    use crate::temporal::{
        client::json_payload,
        schedules::{memo, wanted::tests::wanted},
    };

    #[test]
    fn a_description_gives_owner_hash_state_and_counts_back() {
        let described = DescribeScheduleResponse {
            schedule: Some(wanted().to_proto()),
            info: Some(ScheduleInfo {
                missed_catchup_window: 1,
                overlap_skipped: 2,
                buffer_dropped: 3,
                buffer_size: 4,
                ..Default::default()
            }),
            conflict_token: vec![7],
            ..Default::default()
        };
        let seen = seen(described).expect("whole");
        assert_eq!(seen.owner, Some(wanted().owner));
        assert_eq!(seen.wanted_hash, Some(wanted().hash()));
        assert_eq!((seen.left, seen.tenant_id.as_ref().map(TenantId::as_str)), (false, Some("acme")));
        assert_eq!((seen.conflict_token, seen.next_run, seen.state.paused), (vec![7], None, false));
        let counts = (seen.missed_catch_up, seen.overlap_skipped, seen.buffer_dropped, seen.buffered);
        assert_eq!(counts, (1, 2, 3, 4));
    }

    #[test]
    fn the_owner_of_the_action_goes_before_the_owner_at_creation() {
        let creator = ScheduleOwner { name: "creator".to_owned(), ..wanted().owner };
        let mut described = DescribeScheduleResponse {
            schedule: Some(wanted().to_proto()),
            memo: Some(memo([(OWNER_KEY, json_payload(&creator))])),
            ..Default::default()
        };
        assert_eq!(seen(described.clone()).expect("whole").owner, Some(wanted().owner), "taken over");
        let action = described.schedule.as_mut().and_then(|schedule| schedule.action.as_mut()).expect("an action");
        let Some(Action::StartWorkflow(start)) = &mut action.action else { panic!("it starts a workflow") };
        start.memo = None;
        assert_eq!(seen(described).expect("whole").owner, Some(creator));
    }
}
