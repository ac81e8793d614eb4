//! The seam of every reconciler (R36): a pure `Step` asks, a `World` answers, `drive` carries between them.
//! One enumerator can therefore lose, delay, repeat or falsify any answer of any reconciler. Holds no reconciler.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    error::{Dependency, Error},
    worker_deployment::requests::{WorkerAnswer, WorkerRequest},
};
use crate::{
    clock,
    credentials::Sealer,
    ids::{ConnectorId, TenantId},
    model::config::SecretFields,
    store::{ClaimOutcome, ConnectorAnswer, ConnectorProjection, Owner, TenantClaim, TenantProjection, TenantVerb},
    temporal::{
        StartOutcome,
        client::IdReuse,
        cron_workflows::CronWorkflow,
        schedules::{Backfill, ListedSchedule, ScheduleUpdate, SeenSchedule, WantedSchedule},
    },
};

/// The kinds of objects the operator reconciles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `TenantSchedule`.
    TenantSchedule,
    /// `Connector`.
    Connector,
}

impl Kind {
    /// As in `kind:`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TenantSchedule => "TenantSchedule",
            Self::Connector => "Connector",
        }
    }
}

/// An object of ours in the cluster; the uid tells one life of a name from the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// One call to the outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `Store::put_tenant` → `Claim`.
    PutTenant(TenantProjection),
    /// `Store::remove_tenant` → `Done`.
    RemoveTenant(TenantId, Owner),
    /// `Store::tenant_claim` → `Claimant`.
    TenantClaim(TenantId),
    /// `Store::record_tenant_tokens`, by the life with this uid → `Recorded`.
    RecordTenantTokens(TenantId, String, BTreeMap<TenantVerb, String>),
    /// `Store::put_connector` → `Connector`.
    PutConnector(Box<ConnectorProjection>),
    /// `Store::remove_connector`, of the life with this uid → `Done`.
    RemoveConnector(TenantId, ConnectorId, String),
    /// `Temporal::describe_schedule` → `Schedule`.
    DescribeSchedule(String),
    /// `Temporal::create_schedule` → `Started`.
    CreateSchedule(Box<WantedSchedule>),
    /// `Temporal::update_schedule` with a conflict token → `Done`.
    UpdateSchedule(Box<ScheduleUpdate>),
    /// `Temporal::delete_schedule` → `Done`.
    DeleteSchedule(String),
    /// `Temporal::leave_schedule` with a conflict token → `Done`.
    LeaveSchedule(String, Vec<u8>),
    /// `Temporal::backfill_schedule` → `Done`.
    BackfillSchedule(Box<Backfill>),
    /// `Temporal::list_schedules` → `Schedules`.
    ListSchedules,
    /// `CronWorkflows::find` → `CronWorkflow`.
    FindCronWorkflow(TenantId),
    /// `Temporal::terminate_cron` → `Ended`.
    TerminateCron(Box<CronWorkflow>),
    /// `Temporal::start_workflow` → `Started`.
    StartWorkflow(StartWorkflow),
    /// GET of one Secret by name → `Secret`.
    GetSecret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// GET of an object of this kind, namespace and name, whatever its uid → `Tenant`.
    TenantOf(Kind, String, String),
    /// The recipient of a tenant's own workers, whose identity is made where there is none → `Recipient`.
    EnsurePool(TenantId),
    /// Adds our finalizer → `Done`; a `Conflict` if the object (by uid) is gone: nothing may be made for it.
    AddFinalizer(ObjectKey),
    /// Removes our finalizer → `Done`; `Done` too if the object (by uid) is gone.
    RemoveFinalizer(ObjectKey),
    /// Server-side apply of our part of the status → `Done`.
    ApplyStatus(ObjectKey, StatusPart),
    /// Of a rollout of workers → `Workers`.
    Workers(WorkerRequest),
}

impl Request {
    /// Whom it is for.
    #[must_use]
    pub fn dependency(&self) -> Dependency {
        match self {
            Self::PutTenant(_)
            | Self::RemoveTenant(..)
            | Self::TenantClaim(_)
            | Self::RecordTenantTokens(..)
            | Self::PutConnector(_)
            | Self::RemoveConnector(..) => Dependency::Store,
            Self::Workers(request) if request.is_for_temporal() => Dependency::Temporal,
            Self::DescribeSchedule(_)
            | Self::CreateSchedule(_)
            | Self::UpdateSchedule(_)
            | Self::DeleteSchedule(_)
            | Self::LeaveSchedule(..)
            | Self::BackfillSchedule(_)
            | Self::ListSchedules
            | Self::FindCronWorkflow(_)
            | Self::TerminateCron(_)
            | Self::StartWorkflow(_) => Dependency::Temporal,
            Self::GetSecret { .. }
            | Self::TenantOf(..)
            | Self::EnsurePool(_)
            | Self::AddFinalizer(_)
            | Self::RemoveFinalizer(_)
            | Self::ApplyStatus(..)
            | Self::Workers(_) => Dependency::Kubernetes,
        }
    }
}

/// The fields of a status that one writer owns, as they should be.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusPart {
    /// Field manager.
    pub manager: &'static str,
    /// The owned fields, whole.
    pub fields: Value,
}

/// A workflow to start on the shared queue.
#[derive(Debug, Clone, PartialEq)]
pub struct StartWorkflow {
    /// Type name.
    pub workflow_type: &'static str,
    /// Its id.
    pub workflow_id: String,
    /// Its one argument.
    pub input: Value,
    /// Whether the id may be used again.
    pub reuse: IdReuse,
}

/// What the outside said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is so.
    Done,
    /// To `PutTenant`.
    Claim(ClaimOutcome),
    /// To `TenantClaim`.
    Claimant(Option<TenantClaim>),
    /// To `PutConnector`.
    Connector(Box<ConnectorAnswer>),
    /// To `RecordTenantTokens`.
    Recorded(BTreeMap<TenantVerb, Timestamp>),
    /// To `DescribeSchedule`.
    Schedule(Option<Box<SeenSchedule>>),
    /// To `ListSchedules`.
    Schedules(Vec<ListedSchedule>),
    /// To `TenantOf`: its `spec.tenantId`, empty if it cannot be read; `None` = there is no such object.
    Tenant(Option<String>),
    /// To `CreateSchedule` and `StartWorkflow`.
    Started(StartOutcome),
    /// To `FindCronWorkflow`.
    CronWorkflow(Option<Box<CronWorkflow>>),
    /// To `TerminateCron`: whether it was there.
    Ended(bool),
    /// To `GetSecret`: its text values; `None` = there is no such Secret.
    Secret(Option<SecretFields>),
    /// To `Workers`.
    Workers(WorkerAnswer),
    /// To `EnsurePool`: seals to it.
    Recipient(Sealer),
}

/// What a step learns from a call.
pub type Reply = Result<Answer, Error>;

/// A reconciler: no clock, no I/O, no randomness; the next request follows from what it was made of and the replies.
pub trait Step: Send {
    /// What is left to do when nothing is left to ask.
    type Outcome;

    /// The next request; `None` = finished. `reply` answers the former request, `None` only at the beginning.
    fn next(&mut self, reply: Option<Reply>) -> Option<Request>;

    /// The outcome, once `next` said `None`.
    fn outcome(self) -> Self::Outcome;
}

/// Answers requests: Kubernetes, Temporal and the store in production, an enumerator in tests.
#[async_trait]
pub trait World: Send + Sync {
    /// Sends one request and waits for its answer, within a deadline.
    async fn call(&self, request: Request) -> Reply;

    /// The time by which reconciles decide.
    fn now(&self) -> Timestamp {
        clock::now()
    }
}

#[async_trait]
impl<W: World + ?Sized> World for Arc<W> {
    async fn call(&self, request: Request) -> Reply {
        W::call(self, request).await
    }

    fn now(&self) -> Timestamp {
        W::now(self)
    }
}

/// Runs a step to its end.
///
/// # Cancellation
/// May be dropped at any await: the next run of the same step starts from the world as it then is.
pub async fn drive<S: Step>(world: &dyn World, mut step: S) -> S::Outcome {
    let mut reply = None;
    while let Some(request) = step.next(reply.take()) {
        reply = Some(world.call(request).await);
    }
    step.outcome()
}
