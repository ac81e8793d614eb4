//! Schedules by raw gRPC: the high-level API knows neither memo nor catch-up window nor conflict token
//! (docs/facts.md, Temporal). Compares nothing and repairs nothing: `operator` does.
//!
//! Where things are kept: *who owns it* in the schedule's memo, set at creation; *the hash of the wanted spec* in the memo
//! of the action, because servers up to 1.29 ignore the schedule's memo in an update (tried with 1.29.1).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use temporalio_common::protos::temporal::api::{
    common::v1::{Memo, Payloads, WorkflowType},
    enums::v1::ScheduleOverlapPolicy,
    schedule::v1::{
        Schedule, ScheduleAction, ScheduleInfo, SchedulePolicies, ScheduleSpec, ScheduleState,
        schedule_action::Action as ProtoAction,
    },
    workflow::v1::NewWorkflowExecutionInfo,
    workflowservice::v1::{
        CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest, DescribeScheduleResponse,
        ListSchedulesRequest, UpdateScheduleRequest,
    },
};

use super::{
    Error, StartOutcome, Temporal,
    client::{call, json_payload, request_id, shared_queue, timed},
    schedule_echo::{digest, echo, start_workflow},
};

/// Key of the owner in the schedule's memo.
const OWNER_KEY: &str = "gtmSyncOwner";
/// Key of the wanted spec's hash in the action's memo.
const HASH_KEY: &str = "gtmSyncSpecHash";
/// Entries a page of the list.
const PAGE_SIZE: i32 = 500;

/// Durable ownership of a schedule: survives a rebuild of the cluster, where every uid is new (R45).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleOwner {
    /// The store's installation id.
    pub installation_id: String,
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
    fn to_proto(self) -> i32 {
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

/// A schedule as it should be. Hashed whole: any difference means an update.
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
    /// No ticks.
    pub paused: bool,
    /// Type of the workflow to start, on the shared queue.
    pub workflow_type: String,
    /// Its id, to which the server appends the tick's time.
    pub workflow_id: String,
    /// Its one argument.
    pub input: serde_json::Value,
}

impl WantedSchedule {
    /// Hash of everything that is wanted; kept in the action's memo.
    #[must_use]
    pub fn hash(&self) -> String {
        digest(&serde_json::to_vec(self).expect("texts, numbers and a JSON value serialise"))
    }

    fn to_proto(&self) -> Schedule {
        let start = NewWorkflowExecutionInfo {
            workflow_id: self.workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: self.workflow_type.clone() }),
            task_queue: Some(shared_queue()),
            input: Some(Payloads { payloads: vec![json_payload(&self.input)] }),
            memo: Some(memo(HASH_KEY, &self.hash())),
            ..Default::default()
        };
        Schedule {
            spec: Some(ScheduleSpec {
                cron_string: self.crons.clone(),
                jitter: self.jitter.try_into().ok(),
                timezone_name: self.time_zone.clone(),
                ..Default::default()
            }),
            action: Some(ScheduleAction { action: Some(ProtoAction::StartWorkflow(start)) }),
            policies: Some(SchedulePolicies {
                overlap_policy: self.overlap.to_proto(),
                catchup_window: self.catch_up_window.try_into().ok(),
                pause_on_failure: self.pause_on_failure,
                ..Default::default()
            }),
            state: Some(ScheduleState { paused: self.paused, ..Default::default() }),
        }
    }
}

/// A schedule as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSchedule {
    /// Whose it is; `None` = not made by gtm-sync.
    pub owner: Option<ScheduleOwner>,
    /// Hash of what was wanted when it was last written by gtm-sync.
    pub wanted_hash: Option<String>,
    /// Digest of what the server made of it; changes when somebody edits it by hand.
    pub echo: String,
    /// Proves to an update that it knows this state.
    pub conflict_token: Vec<u8>,
    /// No ticks now.
    pub paused: bool,
    /// The server's or a person's note.
    pub note: String,
    /// The next tick, jitter included; `None` = it never fires again.
    pub next_run: Option<Timestamp>,
    /// The newest tick that started something.
    pub last_run: Option<Timestamp>,
    /// Workflow ids at work.
    pub running: Vec<String>,
    /// Ticks lost because they were older than the catch-up window.
    pub missed_catch_up: i64,
    /// Ticks skipped because the former run was at work.
    pub overlap_skipped: i64,
}

/// A schedule in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSchedule {
    /// Its id.
    pub id: String,
    /// Whose it is; `None` = not made by gtm-sync.
    pub owner: Option<ScheduleOwner>,
}

impl Temporal {
    /// Creates a schedule, paused in the same request when so wanted.
    ///
    /// # Errors
    /// When Temporal is away or refuses; an existing one is not an error.
    ///
    /// # Idempotency
    /// By id.
    pub async fn create_schedule(&self, wanted: &WantedSchedule) -> Result<StartOutcome, Error> {
        let request = CreateScheduleRequest {
            namespace: self.namespace().to_owned(),
            schedule_id: wanted.id.clone(),
            schedule: Some(wanted.to_proto()),
            identity: self.identity().to_owned(),
            request_id: request_id(),
            memo: Some(memo(OWNER_KEY, &wanted.owner)),
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        match call("create a schedule", service.create_schedule(timed(request))).await {
            Ok(_) => Ok(StartOutcome::Started),
            Err(Error::Conflict { .. }) => Ok(StartOutcome::AlreadyStarted),
            Err(error) => Err(error),
        }
    }

    /// Describes a schedule; `None` if there is none.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn describe_schedule(&self, id: &str) -> Result<Option<SeenSchedule>, Error> {
        let request = DescribeScheduleRequest { namespace: self.namespace().to_owned(), schedule_id: id.to_owned() };
        let mut service = self.connection().workflow_service();
        match call("describe a schedule", service.describe_schedule(timed(request))).await {
            Ok(described) => Ok(Some(seen(described)?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a schedule if it still is what `conflict_token` proves. Servers drop a lost race quietly
    /// (sdk-rust#1157), so describe afterwards and compare the hash.
    ///
    /// # Errors
    /// `Conflict` when it changed, `NotFound` when it is gone.
    ///
    /// # Idempotency
    /// By content; but a needless update can lose a due tick (docs/facts.md, Temporal).
    pub async fn update_schedule(&self, wanted: &WantedSchedule, conflict_token: &[u8]) -> Result<(), Error> {
        let request = UpdateScheduleRequest {
            namespace: self.namespace().to_owned(),
            schedule_id: wanted.id.clone(),
            schedule: Some(wanted.to_proto()),
            conflict_token: conflict_token.to_vec(),
            identity: self.identity().to_owned(),
            request_id: request_id(),
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        call("update a schedule", service.update_schedule(timed(request))).await.map(drop)
    }

    /// Deletes a schedule; one that is gone is fine. Runs it started go on.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    ///
    /// # Idempotency
    /// By id.
    pub async fn delete_schedule(&self, id: &str) -> Result<(), Error> {
        let request = DeleteScheduleRequest {
            namespace: self.namespace().to_owned(),
            schedule_id: id.to_owned(),
            identity: self.identity().to_owned(),
        };
        let mut service = self.connection().workflow_service();
        match call("delete a schedule", service.delete_schedule(timed(request))).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All schedules of the namespace. Visibility is eventually consistent: a new schedule may be missing for a moment.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn list_schedules(&self) -> Result<Vec<ListedSchedule>, Error> {
        let mut listed = Vec::new();
        let mut next_page_token = Vec::new();
        loop {
            let request = ListSchedulesRequest {
                namespace: self.namespace().to_owned(),
                maximum_page_size: PAGE_SIZE,
                next_page_token,
                ..Default::default()
            };
            let mut service = self.connection().workflow_service();
            let page = call("list schedules", service.list_schedules(timed(request))).await?;
            listed.extend(page.schedules.into_iter().map(|entry| ListedSchedule {
                owner: read_memo(entry.memo.as_ref(), OWNER_KEY),
                id: entry.schedule_id,
            }));
            if page.next_page_token.is_empty() {
                return Ok(listed);
            }
            next_page_token = page.next_page_token;
        }
    }
}

fn seen(described: DescribeScheduleResponse) -> Result<SeenSchedule, Error> {
    let schedule = described.schedule.ok_or(Error::Unreadable { what: "the schedule" })?;
    let info = described.info.unwrap_or_default();
    let state = schedule.state.clone().unwrap_or_default();
    let start = start_workflow(&schedule);
    Ok(SeenSchedule {
        owner: read_memo(described.memo.as_ref(), OWNER_KEY),
        wanted_hash: read_memo(start.and_then(|start| start.memo.as_ref()), HASH_KEY),
        echo: echo(&schedule),
        conflict_token: described.conflict_token,
        paused: state.paused,
        note: state.notes,
        next_run: timestamp(info.future_action_times.first().copied()),
        last_run: info.recent_actions.iter().filter_map(|action| timestamp(action.actual_time)).max(),
        running: running(&info),
        missed_catch_up: info.missed_catchup_window,
        overlap_skipped: info.overlap_skipped,
    })
}

fn running(info: &ScheduleInfo) -> Vec<String> {
    info.running_workflows.iter().map(|execution| execution.workflow_id.clone()).collect()
}

/// A protobuf timestamp.
fn timestamp(at: Option<impl TryInto<SystemTime>>) -> Option<Timestamp> {
    Timestamp::try_from(at?.try_into().ok()?).ok()
}

fn memo(key: &str, value: &impl Serialize) -> Memo {
    Memo { fields: HashMap::from([(key.to_owned(), json_payload(value))]) }
}

fn read_memo<T: for<'de> Deserialize<'de>>(memo: Option<&Memo>, key: &str) -> Option<T> {
    serde_json::from_slice(&memo?.fields.get(key)?.data).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::temporal) fn wanted() -> WantedSchedule {
        WantedSchedule {
            id: "scheduled-sync-acme".to_owned(),
            owner: ScheduleOwner {
                installation_id: "i".to_owned(),
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
            paused: false,
            workflow_type: "scheduledSyncWorkflow".to_owned(),
            workflow_id: "scheduled-sync-acme".to_owned(),
            input: serde_json::json!({"tenantId": "acme"}),
        }
    }

    pub(in crate::temporal) fn proto(wanted: &WantedSchedule) -> Schedule {
        wanted.to_proto()
    }

    #[test]
    fn any_wish_changes_the_hash() {
        let wishes = [
            WantedSchedule { crons: vec!["0 */5 * * *".to_owned()], ..wanted() },
            WantedSchedule { time_zone: "Europe/Berlin".to_owned(), ..wanted() },
            WantedSchedule { jitter: Duration::from_secs(61), ..wanted() },
            WantedSchedule { overlap: Overlap::BufferOne, ..wanted() },
            WantedSchedule { catch_up_window: Duration::from_secs(3_601), ..wanted() },
            WantedSchedule { paused: true, ..wanted() },
            WantedSchedule { input: serde_json::json!({"tenantId": "other"}), ..wanted() },
        ];
        let hashes: std::collections::BTreeSet<_> = wishes.iter().map(WantedSchedule::hash).collect();
        assert_eq!(hashes.len(), wishes.len());
        assert!(!hashes.contains(&wanted().hash()));
        assert_eq!(wanted().hash(), wanted().hash());
    }

    #[test]
    fn a_description_gives_owner_and_hash_back() {
        let described = DescribeScheduleResponse {
            schedule: Some(proto(&wanted())),
            memo: Some(memo(OWNER_KEY, &wanted().owner)),
            conflict_token: vec![7],
            ..Default::default()
        };
        let seen = seen(described).expect("whole");
        assert_eq!(seen.owner, Some(wanted().owner));
        assert_eq!(seen.wanted_hash, Some(wanted().hash()));
        assert_eq!((seen.conflict_token, seen.next_run, seen.paused), (vec![7], None, false));
    }
}
