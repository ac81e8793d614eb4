//! Schedules by raw gRPC: the high-level API knows neither memo nor catch-up window nor conflict token
//! (docs/facts.md, Temporal). Compares nothing and repairs nothing: `operator` does.
//!
//! Where things are kept: *the hash of the wanted spec* in the memo of the action, because servers up to 1.29 ignore the
//! schedule's memo in an update (tried with 1.29.1); *who owns it* in the schedule's memo, set at creation, for lists, and
//! in the action's memo, which goes first, so that a schedule can be taken over; *that it stays without its object*
//! (`leave_schedule`) in the action's memo, too, where every later write of ours takes it away.

mod backfill;
mod echo;
mod seen;
mod wanted;

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use temporalio_common::protos::temporal::api::{
    common::v1::{Memo, Payload},
    schedule::v1::Schedule,
    workflowservice::v1::{
        CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest, DescribeScheduleResponse,
        ListSchedulesRequest, UpdateScheduleRequest,
    },
};

pub use backfill::Backfill;
pub use echo::edited_parts;
pub use seen::{RecentRun, SeenSchedule};
pub use wanted::{Calendar, Overlap, ScheduleOwner, ScheduleState, ScheduleUpdate, WantedSchedule};

use self::echo::start_workflow_mut;
use super::{
    Error, StartOutcome, Temporal,
    client::{call, json_payload, request_id, timed},
};

/// Key of the owner in the schedule's memo and in the action's.
const OWNER_KEY: &str = "gtmSyncOwner";
/// Key of the wanted spec's hash in the action's memo.
const HASH_KEY: &str = "gtmSyncSpecHash";
/// Key of the mark on a schedule that was left on purpose when its object was deleted, in the action's memo.
const LEFT_KEY: &str = "gtmSyncLeft";
/// Entries a page of the list.
const PAGE_SIZE: i32 = 500;

/// A schedule in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSchedule {
    /// Its id.
    pub id: String,
    /// Who made it, which somebody who took it over does not change; `None` = not gtm-sync.
    pub owner: Option<ScheduleOwner>,
    /// Its next ticks, a few of them; none while it is paused.
    pub upcoming: Vec<Timestamp>,
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
            memo: Some(memo([(OWNER_KEY, json_payload(&wanted.owner))])),
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
        match self.described(id).await {
            Ok(described) => Ok(Some(seen::seen(described)?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a schedule if it still is what the update's conflict token proves. Servers drop a lost race quietly
    /// (sdk-rust#1157), so describe afterwards and compare.
    ///
    /// # Errors
    /// `Conflict` when it changed, `NotFound` when it is gone.
    ///
    /// # Idempotency
    /// By content; but a needless update can lose a due tick (docs/facts.md, Temporal).
    pub async fn update_schedule(&self, update: &ScheduleUpdate) -> Result<(), Error> {
        let schedule = match &update.content {
            Some(wanted) => wanted.to_proto(),
            None => self.as_it_is(&update.id, &update.conflict_token).await?,
        };
        let schedule = Schedule { state: Some(update.state.to_proto()), ..schedule };
        let owner = update.content.as_ref().map(|wanted| &wanted.owner);
        self.write(&update.id, schedule, &update.conflict_token, owner).await
    }

    /// Marks a schedule that stays without its object, and leaves the rest of it word for word.
    ///
    /// # Errors
    /// As `update_schedule`.
    ///
    /// # Idempotency
    /// By content.
    pub async fn leave_schedule(&self, id: &str, conflict_token: &[u8]) -> Result<(), Error> {
        let mut schedule = self.as_it_is(id, conflict_token).await?;
        let start = start_workflow_mut(&mut schedule).ok_or(Error::Unreadable { what: "the schedule's action" })?;
        start.memo.get_or_insert_default().fields.insert(LEFT_KEY.to_owned(), json_payload(&true));
        self.write(id, schedule, conflict_token, None).await
    }

    async fn write(
        &self,
        id: &str,
        schedule: Schedule,
        conflict_token: &[u8],
        owner: Option<&ScheduleOwner>,
    ) -> Result<(), Error> {
        let request = UpdateScheduleRequest {
            namespace: self.namespace().to_owned(),
            schedule_id: id.to_owned(),
            schedule: Some(schedule),
            conflict_token: conflict_token.to_owned(),
            identity: self.identity().to_owned(),
            request_id: request_id(),
            // Newer servers keep it, so that lists show who took it over.
            memo: owner.map(|owner| memo([(OWNER_KEY, json_payload(owner))])),
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
                upcoming: entry.info.filter(|info| !info.paused).map(seen::upcoming).unwrap_or_default(),
                id: entry.schedule_id,
            }));
            if page.next_page_token.is_empty() {
                return Ok(listed);
            }
            next_page_token = page.next_page_token;
        }
    }

    async fn described(&self, id: &str) -> Result<DescribeScheduleResponse, Error> {
        let request = DescribeScheduleRequest { namespace: self.namespace().to_owned(), schedule_id: id.to_owned() };
        let mut service = self.connection().workflow_service();
        call("describe a schedule", service.describe_schedule(timed(request))).await
    }

    /// What the server has, word for word, if it still is what the token proves.
    async fn as_it_is(&self, id: &str, conflict_token: &[u8]) -> Result<Schedule, Error> {
        let described = self.described(id).await?;
        if described.conflict_token != conflict_token {
            return Err(Error::Conflict { attempted: "update a schedule", code: "token".to_owned() });
        }
        described.schedule.ok_or(Error::Unreadable { what: "the schedule" })
    }
}

fn memo<const N: usize>(fields: [(&str, Payload); N]) -> Memo {
    Memo { fields: HashMap::from(fields.map(|(key, value)| (key.to_owned(), value))) }
}

fn read_memo<T: for<'de> Deserialize<'de>>(memo: Option<&Memo>, key: &str) -> Option<T> {
    serde_json::from_slice(&memo?.fields.get(key)?.data).ok()
}

/// The parts of a digest that is kept as text.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON of a value of ours.
fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and JSON values serialise")
}
