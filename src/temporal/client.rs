//! The connection, a deadline on every call, and workflows: start one, look one up.
//! The SDK connects eagerly, so `connect_patiently` waits: nothing else of a process may depend on Temporal being up.

use std::{future::Future, sync::Arc, time::Duration};

use serde::Serialize;
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, DnsLoadBalancingOptions,
    tonic::{IntoRequest as _, Request, Response, Status},
};
use temporalio_common::protos::temporal::api::{
    common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType},
    enums::v1::{WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy},
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{DescribeWorkflowExecutionRequest, StartWorkflowExecutionRequest},
};

use super::{
    Error,
    access::{Access, Plan},
};
use crate::{contract::TASK_QUEUE, key_files::KeyFiles, settings::TemporalSettings};

/// Deadline of one call. A healthy server answers in milliseconds (docs/facts.md, Temporal); a hung one must not
/// hold a reconcile.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// First and longest pause between two attempts to connect.
const CONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A connection to one Temporal namespace; cheap to clone.
#[derive(Clone)]
pub struct Temporal {
    connection: Connection,
    namespace: String,
    /// Keeps the key files of this connection watched, and the API key set.
    _access: Arc<Access>,
}

impl std::fmt::Debug for Temporal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Temporal({})", self.namespace)
    }
}

/// What became of a wish to start a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// A run began.
    Started,
    /// A run with this id exists already: the wish was fulfilled before, or by somebody else.
    AlreadyStarted,
}

/// Whether an id may be used again once its run is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdReuse {
    /// Never: the id names one run for good (sync-now: the id carries the recorded time).
    Once,
    /// Not after one of that id that completed (runs that follow others): one that failed before it left a trace is repeated.
    UntilCompleted,
    /// One at a time (connection checks).
    OneAtATime,
}

/// What Temporal knows of a workflow id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkflowState {
    /// Its latest run is open.
    Running,
    /// Its latest run is closed.
    Closed(CloseStatus),
    /// Temporal does not know it (never started, or past its retention).
    NotFound,
}

impl CloseStatus {
    /// Whether it ended by itself, and not well.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }

    /// Said of a run that did not say so itself.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Completed => "completed in Temporal, and nothing of it is recorded here",
            Self::Failed => "failed in Temporal without a word",
            Self::Cancelled => "cancelled in Temporal",
            Self::Terminated => "terminated in Temporal",
            Self::TimedOut => "timed out in Temporal",
        }
    }
}

/// How a workflow closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseStatus {
    /// It returned.
    Completed,
    /// It returned an error.
    Failed,
    /// It was asked to stop.
    Cancelled,
    /// Somebody ended it from outside.
    Terminated,
    /// Its time was up.
    TimedOut,
}

impl Temporal {
    /// Connects once.
    ///
    /// # Errors
    /// `Address` and `Setting` when settings cannot be right, `KeyFiles` when files cannot be used, `Denied` when we are
    /// refused, `Unavailable` when nobody answers.
    pub async fn connect(settings: &TemporalSettings, identity: &str, key_files: &KeyFiles) -> Result<Self, Error> {
        let plan = Plan::of(settings)?;
        let access = Access::load(&plan, key_files).await?;
        let tls = access.tls_options();
        // Endpoints of the SDK's own balancing tell no reason, and take no certificate that is asked for at each handshake.
        let balancing = tls.is_none().then(DnsLoadBalancingOptions::default);
        let options = ConnectionOptions::new(plan.target)
            .identity(identity)
            .connect_timeout(CALL_DEADLINE)
            .maybe_tls_options(tls)
            .maybe_api_key(access.api_key())
            .dns_load_balancing(balancing)
            .build();
        let connection = tokio::time::timeout(CALL_DEADLINE, Connection::connect(options))
            .await
            .map_err(|_| Error::Unavailable { attempted: "connect", code: "deadline".to_owned() })?
            .map_err(|error| access.refusal(&error))?;
        let keyed = connection.clone();
        access.follow_api_key(move |key| keyed.set_api_key(Some(key)));
        Ok(Self { connection, namespace: settings.temporal_namespace.clone(), _access: Arc::new(access) })
    }

    /// Connects, waiting for Temporal as long as it takes; `on_wait` is told each failure and the pause after it.
    ///
    /// # Errors
    /// Only what waiting does not mend (`Address`, `Setting`). Files and rights may change meanwhile, and are looked at again.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    pub async fn connect_patiently(
        settings: &TemporalSettings,
        identity: &str,
        key_files: &KeyFiles,
        mut on_wait: impl FnMut(&Error, Duration) + Send,
    ) -> Result<Self, Error> {
        let (mut pause, longest) = CONNECT_BACKOFF;
        loop {
            match Self::connect(settings, identity, key_files).await {
                Err(error) if !matches!(error, Error::Address | Error::Setting { .. }) => on_wait(&error, pause),
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The SDK's client, for a worker.
    ///
    /// # Errors
    /// `Refused` when the SDK does not take the options.
    pub fn sdk_client(&self) -> Result<Client, Error> {
        Client::new(self.connection.clone(), ClientOptions::new(self.namespace.clone()).build())
            .map_err(|_| Error::Refused { attempted: "make a client", code: "options".to_owned() })
    }

    /// The Temporal namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Starts a workflow on the shared queue.
    ///
    /// # Errors
    /// When Temporal is away or refuses; an existing run is not an error.
    ///
    /// # Idempotency
    /// By `workflow_id`, as `reuse` says.
    pub async fn start_workflow(
        &self,
        workflow_type: &str,
        workflow_id: &str,
        input: &(impl Serialize + Sync),
        reuse: IdReuse,
    ) -> Result<StartOutcome, Error> {
        let reuse_policy = match reuse {
            IdReuse::Once => WorkflowIdReusePolicy::RejectDuplicate,
            IdReuse::UntilCompleted => WorkflowIdReusePolicy::AllowDuplicateFailedOnly,
            IdReuse::OneAtATime => WorkflowIdReusePolicy::AllowDuplicate,
        };
        let request = StartWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_id: workflow_id.to_owned(),
            workflow_type: Some(WorkflowType { name: workflow_type.to_owned() }),
            task_queue: Some(shared_queue()),
            input: Some(Payloads { payloads: vec![json_payload(input)] }),
            identity: self.identity().to_owned(),
            request_id: request_id(),
            workflow_id_reuse_policy: reuse_policy as i32,
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail as i32,
            ..Default::default()
        };
        let mut service = self.connection.workflow_service();
        let answer = call("start a workflow", service.start_workflow_execution(timed(request))).await;
        match answer {
            Ok(_) => Ok(StartOutcome::Started),
            Err(Error::Conflict { .. }) => Ok(StartOutcome::AlreadyStarted),
            Err(error) => Err(error),
        }
    }

    /// Looks the latest run of a workflow id up. Only `NotFound` of the workflow itself is `NotFound`;
    /// whoever must not mistake an outage for absence relies on it (R51).
    ///
    /// # Errors
    /// When Temporal is away or answers anything else.
    pub async fn workflow_state(&self, workflow_id: &str) -> Result<WorkflowState, Error> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
        };
        let mut service = self.connection.workflow_service();
        match call("describe a workflow", service.describe_workflow_execution(timed(request))).await {
            Ok(described) => {
                let info =
                    described.workflow_execution_info.ok_or(Error::Unreadable { what: "the workflow's state" })?;
                state_of(info.status())
            }
            Err(Error::NotFound { .. }) => Ok(WorkflowState::NotFound),
            Err(error) => Err(error),
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn identity(&self) -> &str {
        self.connection.identity()
    }
}

fn state_of(status: WorkflowExecutionStatus) -> Result<WorkflowState, Error> {
    use WorkflowExecutionStatus as Status;
    Ok(match status {
        // A continued run has a successor under the same id, which an id-only look-up finds; between the two it still runs.
        Status::Running | Status::Paused | Status::ContinuedAsNew => WorkflowState::Running,
        Status::Completed => WorkflowState::Closed(CloseStatus::Completed),
        Status::Failed => WorkflowState::Closed(CloseStatus::Failed),
        Status::Canceled => WorkflowState::Closed(CloseStatus::Cancelled),
        Status::Terminated => WorkflowState::Closed(CloseStatus::Terminated),
        Status::TimedOut => WorkflowState::Closed(CloseStatus::TimedOut),
        Status::Unspecified => return Err(Error::Unreadable { what: "the workflow's state" }),
    })
}

/// Awaits a call with our deadline beside the server's.
pub(super) async fn call<T>(
    attempted: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_DEADLINE, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Error::from_status(attempted, &status)),
        Err(_) => Err(Error::Unavailable { attempted, code: "deadline".to_owned() }),
    }
}

/// A request that tells the server our deadline.
pub(super) fn timed<T>(message: T) -> Request<T> {
    let mut request = message.into_request();
    request.set_timeout(CALL_DEADLINE);
    request
}

/// A payload as every SDK's default converter writes it.
pub(super) fn json_payload(value: &impl Serialize) -> Payload {
    Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: serde_json::to_vec(value).expect("contract types and texts serialise"),
        ..Default::default()
    }
}

pub(super) fn shared_queue() -> TaskQueue {
    TaskQueue { name: TASK_QUEUE.to_owned(), ..Default::default() }
}

pub(super) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_closed_state_is_told_apart_from_running() {
        use WorkflowExecutionStatus as Status;
        assert_eq!(state_of(Status::ContinuedAsNew), Ok(WorkflowState::Running));
        assert_eq!(state_of(Status::Terminated), Ok(WorkflowState::Closed(CloseStatus::Terminated)));
        assert!(state_of(Status::Unspecified).is_err());
    }

    #[test]
    fn payloads_are_plain_json() {
        let payload = json_payload(&serde_json::json!({"tenantId": "acme"}));
        assert_eq!(payload.data, br#"{"tenantId":"acme"}"#);
        assert_eq!(payload.metadata["encoding"], b"json/plain");
    }
}
