//! A small installation for tests: a store, a Temporal namespace of its own, worker processes of the real binary, and a
//! client that starts, queries and reads workflows by name and JSON, as any client in any language would.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use gtm_sync::{
    credentials::{Envelope, Sealer, seal::generate_identity},
    ids::{ConnectorId, TenantId},
    key_files::KeyFiles,
    model::config::{ConnectorConfig, DataPolicy, SecretFields, SourceConfig},
    settings::TemporalSettings,
    store::{self, BaseCredential, ConnectorProjection, DesiredState, Owner, Store, TenantProjection},
    temporal::{
        Temporal,
        client::{CloseStatus, IdReuse, WorkflowState},
    },
};
use serde_json::Value;
use temporalio_client::{
    Client, UntypedQuery, UntypedWorkflow, WorkflowCancelOptions, WorkflowGetResultOptions, WorkflowQueryOptions,
    errors::WorkflowGetResultError, grpc::WorkflowService as _, tonic::IntoRequest as _,
};
use temporalio_common::{
    data_converters::RawValue,
    error::IncomingError,
    protos::temporal::api::{
        common::v1::WorkflowExecution,
        history::v1::HistoryEvent,
        workflowservice::v1::{
            DescribeNamespaceRequest, DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest,
            RegisterNamespaceRequest,
        },
    },
};

use super::{databases::fresh_database, eventually, fresh, postgres_url, resume_point, temporal_address};

/// The planted secret: every access token holds it, so that it can be looked for where no secret may be.
pub const CANARY: &str = "canary-5d1c0f";

pub struct Stack {
    pub temporal: Temporal,
    pub client: Client,
    pub settings: TemporalSettings,
    pub store: Arc<dyn Store>,
    pub database_url: String,
    pub sealer: Sealer,
    pub directory: tempfile::TempDir,
}

/// How a workflow ended.
#[derive(Debug)]
pub enum Ended {
    Completed(Value),
    Failed { type_name: String, message: String },
}

impl Ended {
    /// # Panics
    /// When it failed.
    pub fn completed(self) -> Value {
        match self {
            Self::Completed(value) => value,
            failed => panic!("{failed:?}"),
        }
    }
}

/// A worker of the real binary; killed when dropped.
pub struct Worker(Child);

impl Worker {
    /// Starts the binary with these variables as a worker; its log goes there.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("log file");
        command.arg("worker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().expect("the worker starts"))
    }

    pub fn kill(&mut self) {
        self.0.kill().expect("kill -9");
        self.0.wait().expect("reaped");
    }

    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Stops it where it stands; it does not notice.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen one go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
    }

    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().expect("wait")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.0.try_wait().ok().flatten().is_none() {
            self.kill();
        }
    }
}

/// Registers a Temporal namespace of its own and waits until the server serves it.
pub async fn temporal_namespace(address: &str) -> (Temporal, TemporalSettings) {
    register_namespace(address, &fresh("test")).await
}

/// Registers this Temporal namespace and waits until the server serves it.
pub async fn register_namespace(address: &str, namespace: &str) -> (Temporal, TemporalSettings) {
    let settings = |namespace: &str| TemporalSettings {
        temporal_address: address.to_owned(),
        temporal_namespace: namespace.to_owned(),
        cluster_id: None,
        tls: Default::default(),
    };
    let temporal =
        Temporal::connect(&settings(namespace), "tests", &KeyFiles::default()).await.expect("Temporal is up");
    let client = temporal.sdk_client().expect("client");
    let day = Some(Duration::from_secs(24 * 3600).try_into().expect("a day"));
    let request = RegisterNamespaceRequest {
        namespace: namespace.to_owned(),
        workflow_execution_retention_period: day,
        ..Default::default()
    };
    client.connection().clone().register_namespace(request.into_request()).await.expect("registered");
    eventually("the namespace is served", Duration::from_secs(60), || async {
        let request = DescribeNamespaceRequest { namespace: namespace.to_owned(), ..Default::default() };
        let described = client.connection().clone().describe_namespace(request.into_request()).await;
        let listed = temporal.workflow_state("none").await;
        (described.is_ok() && listed.is_ok()).then_some(())
    })
    .await;
    (temporal, settings(namespace))
}

impl Stack {
    /// On SQLite, in a directory of its own.
    pub async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let url = format!("sqlite:{}", directory.path().join("store.db").display());
        Self::on(&url, directory).await
    }

    /// On the database of this URL, which may lead through a proxy.
    pub async fn on(database_url: &str, directory: tempfile::TempDir) -> Self {
        Self::at(&temporal_address(), database_url, directory).await
    }

    /// On a fresh database of the shared PostgreSQL server.
    pub async fn on_postgres() -> Self {
        let url = fresh_database(&postgres_url()).await;
        Self::on(&url, tempfile::tempdir().expect("temporary directory")).await
    }

    /// On the Temporal server at this address. PostgreSQL gets the tests' constraint on the resume point.
    pub async fn at(temporal_address: &str, database_url: &str, directory: tempfile::TempDir) -> Self {
        let (temporal, settings) = temporal_namespace(temporal_address).await;
        let store = store::open(database_url).await.expect("store opens");
        store.migrate().await.expect("migrated");
        if database_url.starts_with("postgres") {
            resume_point::guard(database_url).await;
        }
        let installation = store.installation_id().await.expect("installation id");
        temporal.ensure_installation(&installation).await.expect("marked");
        let (identity, recipient) = generate_identity();
        std::fs::write(directory.path().join("identity"), identity).expect("identity file");
        Self {
            client: temporal.sdk_client().expect("client"),
            temporal,
            settings,
            store,
            database_url: database_url.to_owned(),
            sealer: Sealer::new(&recipient).expect("recipient"),
            directory,
        }
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("worker.log")
    }

    /// Starts a worker process; its log goes to `log_path`.
    pub fn worker(&self) -> Worker {
        self.worker_with(&[])
    }

    /// A worker with other variables, e.g. an address that leads through a proxy.
    pub fn worker_with(&self, variables: &[(&str, &str)]) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gtm-sync"));
        // One or the other: the binary refuses both.
        if !variables.iter().any(|(name, _)| *name == "GTM_DATABASE_URL_FILE") {
            command.env("GTM_DATABASE_URL", &self.database_url);
        }
        command
            .env("TEMPORAL_ADDRESS", &self.settings.temporal_address)
            .env("TEMPORAL_NAMESPACE", &self.settings.temporal_namespace)
            .env("GTM_HEALTH_ADDRESS", "127.0.0.1:0")
            .env("GTM_IDENTITY_FILE", self.directory.path().join("identity"))
            .env("GTM_ALLOWED_PRIVATE_HOSTS", "127.0.0.1")
            .env("GTM_LOG", "info,temporalio_sdk_core=warn")
            .env("GTM_DRAIN_SECONDS", "10")
            .envs(variables.iter().copied());
        Worker::start(command, &self.log_path())
    }

    /// Projects a tenant, as the operator would.
    pub async fn tenant(&self, tenant: &str, wait_seconds: Option<u32>) {
        let projection = TenantProjection {
            tenant_id: tenant.parse().expect("tenant id"),
            owner: owner(tenant),
            uid: "uid".to_owned(),
            wait_seconds,
            dedicated: false,
        };
        self.store.put_tenant(&projection).await.expect("projected");
    }

    /// Projects a HubSpot connector with this access token, as the operator would, changed by `edit`.
    pub async fn connector(
        &self,
        tenant: &str,
        connector: &str,
        base_url: &str,
        token: &str,
        edit: impl FnOnce(&mut ConnectorProjection),
    ) {
        let (tenant_id, connector_id): (TenantId, ConnectorId) =
            (tenant.parse().expect("tenant id"), connector.parse().expect("connector id"));
        let source = SourceConfig::Hubspot { base_url: Some(base_url.to_owned()) };
        let envelope = Envelope {
            tenant_id: tenant_id.clone(),
            connector_id: connector_id.clone(),
            allowed_hosts: vec![gtm_sync::connectors::registry::host(&source)],
            key_id: String::new(),
            fields: SecretFields([("accessToken".to_owned(), token.to_owned())].into()),
        };
        let mut projection = ConnectorProjection {
            tenant_id,
            connector_id,
            owner: Owner { name: connector.to_owned(), ..owner(tenant) },
            uid: "uid".to_owned(),
            generation: 1,
            desired_state: DesiredState::Running,
            config: ConnectorConfig {
                source,
                streams: Vec::new(),
                batch_size: 500,
                requests_per_second: None,
                quota_reserve_percent: 0,
                max_rejected_percent: 20,
                max_swept_percent: 10,
                data_policy: DataPolicy::Retain,
            },
            credential: Some(BaseCredential { sealed: self.sealer.seal(envelope), digest: token.to_owned() }),
            own_schedule: false,
            wishes: Default::default(),
        };
        edit(&mut projection);
        self.store.put_connector(&projection).await.expect("projected");
    }

    /// Starts a workflow by type name and JSON.
    pub async fn start(&self, workflow_type: &str, id: &str, input: Value) {
        let started = self.temporal.start_workflow(workflow_type, id, &input, IdReuse::OneAtATime).await;
        started.expect("started");
    }

    /// Starts a sync.
    pub async fn start_sync(&self, id: &str, tenant: &str, connector: &str, full: bool) {
        let input = serde_json::json!({"tenantId": tenant, "connectorId": connector, "fullSync": full});
        self.start("connectorSyncWorkflow", id, input).await;
    }

    /// Waits for a workflow's end.
    pub async fn end(&self, id: &str) -> Ended {
        let handle = self.client.get_workflow_handle::<UntypedWorkflow>(id);
        let result =
            tokio::time::timeout(Duration::from_secs(240), handle.get_result(WorkflowGetResultOptions::default()));
        match result.await.unwrap_or_else(|_| panic!("{id} did not end; log:\n{}", self.log_tail())) {
            Ok(raw) => Ended::Completed(json(&raw)),
            Err(WorkflowGetResultError::Failed(error)) => match *error {
                IncomingError::Application(failure) => Ended::Failed {
                    type_name: failure.type_name().unwrap_or_default().to_owned(),
                    message: failure.failure().map(|failure| failure.message.clone()).unwrap_or_default(),
                },
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{id}: {other:?}"),
        }
    }

    /// Runs a sync to its end.
    pub async fn sync(&self, id: &str, tenant: &str, connector: &str, full: bool) -> Ended {
        self.start_sync(id, tenant, connector, full).await;
        self.end(id).await
    }

    /// The answer of `getSyncProgress`, `None` while no worker answers.
    pub async fn progress(&self, id: &str) -> Option<Value> {
        let handle = self.client.get_workflow_handle::<UntypedWorkflow>(id);
        let query = UntypedQuery::new("getSyncProgress");
        let answer = handle.query(query, RawValue::new(vec![]), WorkflowQueryOptions::default());
        tokio::time::timeout(Duration::from_secs(10), answer).await.ok()?.ok().map(|raw| json(&raw))
    }

    /// A history as the server keeps it, as text, and the size of its largest event in bytes.
    pub async fn history(&self, id: &str) -> (String, usize) {
        let events: Vec<Vec<u8>> = self.events(id).await.iter().map(prost::Message::encode_to_vec).collect();
        let largest = events.iter().map(Vec::len).max().unwrap_or(0);
        (events.iter().map(|event| String::from_utf8_lossy(event) + "\n").collect(), largest)
    }

    /// The events of the latest run of a workflow id.
    pub async fn events(&self, id: &str) -> Vec<HistoryEvent> {
        self.events_of_run(id, "").await
    }

    /// The events of one run; an empty run id is the latest.
    pub async fn events_of_run(&self, id: &str, run_id: &str) -> Vec<HistoryEvent> {
        let execution = Some(WorkflowExecution { workflow_id: id.to_owned(), run_id: run_id.to_owned() });
        let namespace = self.settings.temporal_namespace.clone();
        let mut request = GetWorkflowExecutionHistoryRequest { namespace, execution, ..Default::default() };
        let mut events = Vec::new();
        loop {
            let mut service = self.client.connection().clone();
            let page = service.get_workflow_execution_history(request.clone().into_request()).await.expect("history");
            let page = page.into_inner();
            events.extend(page.history.unwrap_or_default().events);
            if page.next_page_token.is_empty() {
                return events;
            }
            request.next_page_token = page.next_page_token;
        }
    }

    /// The attempts of the activities that a workflow waits for.
    pub async fn pending_attempts(&self, id: &str) -> Vec<i32> {
        let execution = Some(WorkflowExecution { workflow_id: id.to_owned(), run_id: String::new() });
        let namespace = self.settings.temporal_namespace.clone();
        let request = DescribeWorkflowExecutionRequest { namespace, execution };
        let mut service = self.client.connection().clone();
        let described = service.describe_workflow_execution(request.into_request()).await.expect("Temporal answers");
        described.into_inner().pending_activities.iter().map(|activity| activity.attempt).collect()
    }

    /// Asks a workflow to stop and waits until it has.
    pub async fn cancel(&self, id: &str) {
        let handle = self.client.get_workflow_handle::<UntypedWorkflow>(id);
        handle.cancel(WorkflowCancelOptions::default()).await.expect("asked");
        eventually("the workflow is cancelled", Duration::from_secs(120), || async {
            let state = self.temporal.workflow_state(id).await.expect("Temporal answers");
            (state == WorkflowState::Closed(CloseStatus::Cancelled)).then_some(())
        })
        .await;
    }

    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn json(raw: &RawValue) -> Value {
    raw.payloads.first().map_or(Value::Null, |payload| serde_json::from_slice(&payload.data).unwrap_or(Value::Null))
}

fn owner(tenant: &str) -> Owner {
    Owner { cluster_id: String::new(), namespace: format!("tenant-{tenant}"), name: tenant.to_owned() }
}
