//! A schedule as it should be, its hash, and what an update writes.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use temporalio_common::protos::temporal::api::{
    common::v1::{Payloads, WorkflowType},
    enums::v1::ScheduleOverlapPolicy,
    schedule::v1::{self as proto, schedule_action::Action as ProtoAction},
    workflow::v1::NewWorkflowExecutionInfo,
};

use super::{HASH_KEY, OWNER_KEY, bytes, hexadecimal, memo};
use crate::temporal::client::{json_payload, shared_queue};

/// Durable ownership of a schedule: survives a rebuild of the cluster, where every uid is new (R45).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleOwner {
    /// The store's installation id.
    pub installation_id: String,
    /// Of several clusters on one store; empty when none is configured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    /// `TenantSchedule` or `Connector`.
    pub kind: String,
    /// The CR's namespace.
    pub namespace: String,
    /// The CR's name.
    pub name: String,
}

/// What happens to a tick while the former run is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Overlap {
    /// It is skipped.
    Skip,
    /// One is kept for later.
    BufferOne,
    /// All are kept for later.
    BufferAll,
    /// The former run is cancelled.
    CancelOther,
    /// The former run is terminated.
    TerminateOther,
    /// Both run.
    AllowAll,
}

impl Overlap {
    pub(super) fn to_proto(self) -> i32 {
        let policy = match self {
            Self::Skip => ScheduleOverlapPolicy::Skip,
            Self::BufferOne => ScheduleOverlapPolicy::BufferOne,
            Self::BufferAll => ScheduleOverlapPolicy::BufferAll,
            Self::CancelOther => ScheduleOverlapPolicy::CancelOther,
            Self::TerminateOther => ScheduleOverlapPolicy::TerminateOther,
            Self::AllowAll => ScheduleOverlapPolicy::AllowAll,
        };
        policy as i32
    }
}

/// Ticks that are left out: every minute that matches all three fields, by the schedule's time zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Calendar {
    /// First and last minute of the hour.
    pub minutes: (u8, u8),
    /// First and last hour of the day.
    pub hours: (u8, u8),
    /// Days of the week, 0 = Sunday.
    pub days_of_week: Vec<u8>,
}

impl Calendar {
    fn to_proto(&self) -> proto::StructuredCalendarSpec {
        let range = |start: u8, end: u8| proto::Range { start: start.into(), end: end.into(), step: 1 };
        proto::StructuredCalendarSpec {
            second: vec![range(0, 59)],
            minute: vec![range(self.minutes.0, self.minutes.1)],
            hour: vec![range(self.hours.0, self.hours.1)],
            day_of_month: vec![range(1, 31)],
            month: vec![range(1, 12)],
            day_of_week: self.days_of_week.iter().map(|&day| range(day, day)).collect(),
            ..Default::default()
        }
    }
}

/// A schedule as it should be. Hashed whole but for its pause: any difference means an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WantedSchedule {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub owner: ScheduleOwner,
    /// Five-field cron strings or macros.
    pub crons: Vec<String>,
    /// IANA name.
    pub time_zone: String,
    /// Each tick is delayed by a part of this, drawn by the server.
    pub jitter: Duration,
    /// What happens to a tick while the former run is at work.
    pub overlap: Overlap,
    /// How long after a missed tick it is made up for.
    pub catch_up_window: Duration,
    /// The server pauses the schedule when a run fails.
    pub pause_on_failure: bool,
    /// No ticks: the note under which we pause. Not hashed: what is paused is decided beside people (`operator`).
    #[serde(skip)]
    pub suspended: Option<&'static str>,
    /// Type of the workflow to start, on the shared queue.
    pub workflow_type: String,
    /// Its id, to which the server appends the tick's time.
    pub workflow_id: String,
    /// Its one argument.
    pub input: serde_json::Value,
    // Fields that came later are hashed only where they are used: a new build must not rewrite every schedule.
    /// No ticks before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// No ticks after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Timestamp>,
    /// Ticks that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Calendar>,
}

impl WantedSchedule {
    /// Hash of everything that is wanted; kept in the action's memo.
    #[must_use]
    pub fn hash(&self) -> String {
        hexadecimal(&Sha256::digest(bytes(self))[..8])
    }

    /// As the server takes it, in the state of a new schedule.
    pub(super) fn to_proto(&self) -> proto::Schedule {
        let start = NewWorkflowExecutionInfo {
            workflow_id: self.workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: self.workflow_type.clone() }),
            task_queue: Some(shared_queue()),
            input: Some(Payloads { payloads: vec![json_payload(&self.input)] }),
            memo: Some(memo([(HASH_KEY, json_payload(&self.hash())), (OWNER_KEY, json_payload(&self.owner))])),
            ..Default::default()
        };
        let paused =
            self.suspended.map(|note| ScheduleState { paused: true, note: note.to_owned(), ..Default::default() });
        proto::Schedule {
            spec: Some(proto::ScheduleSpec {
                cron_string: self.crons.clone(),
                jitter: self.jitter.try_into().ok(),
                timezone_name: self.time_zone.clone(),
                start_time: self.start_at.map(|at| SystemTime::from(at).into()),
                end_time: self.end_at.map(|at| SystemTime::from(at).into()),
                exclude_structured_calendar: self.excluded.iter().map(Calendar::to_proto).collect(),
                ..Default::default()
            }),
            action: Some(proto::ScheduleAction { action: Some(ProtoAction::StartWorkflow(start)) }),
            policies: Some(proto::SchedulePolicies {
                overlap_policy: self.overlap.to_proto(),
                catchup_window: self.catch_up_window.try_into().ok(),
                pause_on_failure: self.pause_on_failure,
                ..Default::default()
            }),
            state: Some(paused.unwrap_or_default().to_proto()),
        }
    }
}

/// What may change beside the spec: by people, and by the server itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleState {
    /// No ticks now.
    pub paused: bool,
    /// The server's, a person's or our note.
    pub note: String,
    /// Only so many ticks are left.
    pub limited_actions: bool,
    /// How many.
    pub remaining_actions: i64,
}

impl ScheduleState {
    pub(super) fn from_proto(state: proto::ScheduleState) -> Self {
        let proto::ScheduleState { notes, paused, limited_actions, remaining_actions } = state;
        Self { paused, note: notes, limited_actions, remaining_actions }
    }

    pub(super) fn to_proto(&self) -> proto::ScheduleState {
        proto::ScheduleState {
            notes: self.note.clone(),
            paused: self.paused,
            limited_actions: self.limited_actions,
            remaining_actions: self.remaining_actions,
        }
    }
}

/// One write to a schedule. A server replaces all of it, so the state is always said, never left to a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleUpdate {
    /// Its id.
    pub id: String,
    /// What it becomes; `None` = only the state changes, the rest stays word for word.
    pub content: Option<WantedSchedule>,
    /// The state it is left in.
    pub state: ScheduleState,
    /// Proves that the schedule is known as it was.
    pub conflict_token: Vec<u8>,
}

#[cfg(test)]
pub(in crate::temporal) mod tests {
    use super::*;

    pub(in crate::temporal) fn wanted() -> WantedSchedule {
        WantedSchedule {
            id: "scheduled-sync-acme".to_owned(),
            owner: ScheduleOwner {
                installation_id: "i".to_owned(),
                cluster_id: String::new(),
                kind: "TenantSchedule".to_owned(),
                namespace: "acme".to_owned(),
                name: "acme".to_owned(),
            },
            crons: vec!["0 */4 * * *".to_owned()],
            time_zone: "UTC".to_owned(),
            jitter: Duration::from_secs(60),
            overlap: Overlap::Skip,
            catch_up_window: Duration::from_secs(3_600),
            pause_on_failure: false,
            suspended: None,
            workflow_type: "scheduledSyncWorkflow".to_owned(),
            workflow_id: "scheduled-sync-acme".to_owned(),
            input: serde_json::json!({"tenantId": "acme"}),
            start_at: None,
            end_at: None,
            excluded: Vec::new(),
        }
    }

    #[test]
    fn any_wish_changes_the_hash() {
        let at = |text: &str| Some(text.parse().expect("a time"));
        let calendar = Calendar { minutes: (0, 59), hours: (2, 3), days_of_week: vec![0] };
        let wishes = [
            WantedSchedule { crons: vec!["0 */5 * * *".to_owned()], ..wanted() },
            WantedSchedule { time_zone: "Europe/Berlin".to_owned(), ..wanted() },
            WantedSchedule { jitter: Duration::from_secs(61), ..wanted() },
            WantedSchedule { overlap: Overlap::BufferOne, ..wanted() },
            WantedSchedule { catch_up_window: Duration::from_secs(3_601), ..wanted() },
            WantedSchedule { pause_on_failure: true, ..wanted() },
            WantedSchedule { input: serde_json::json!({"tenantId": "other"}), ..wanted() },
            WantedSchedule { start_at: at("2026-11-23T00:00:00Z"), ..wanted() },
            WantedSchedule { end_at: at("2026-11-23T00:00:00Z"), ..wanted() },
            WantedSchedule { excluded: vec![calendar], ..wanted() },
        ];
        let hashes: std::collections::BTreeSet<_> = wishes.iter().map(WantedSchedule::hash).collect();
        assert_eq!(hashes.len(), wishes.len());
        assert!(!hashes.contains(&wanted().hash()));
        assert_eq!(wanted().hash(), wanted().hash());
    }

    /// Pinned: another value here means that an upgrade rewrites every schedule, each of which may lose a due tick.
    #[test]
    fn the_hash_of_a_spec_without_new_fields_never_changes() {
        assert_eq!(wanted().hash(), "9bb3686ece68562c");
        let suspended = WantedSchedule { suspended: Some("a note"), ..wanted() };
        assert_eq!(suspended.hash(), wanted().hash(), "a pause is no edit");
    }
}
