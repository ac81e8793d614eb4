//! An operator in this process, restricted to a namespace of its own in the cluster and in Temporal.

use std::{net::TcpListener, sync::Arc, time::Duration};

use gtm_sync::{
    crd::{self, Connector, TenantSchedule},
    operator,
    settings::{HealthSettings, OperatorSettings, RetentionSettings, StoreSettings, TemporalSettings},
    store::{self, Store},
    temporal::Temporal,
};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::{
    schedule::v1::{Schedule, SchedulePatch, TriggerImmediatelyRequest},
    workflow::v1::NewWorkflowExecutionInfo,
    workflowservice::v1::{
        DescribeScheduleRequest, DescribeScheduleResponse, ListWorkflowExecutionsRequest, PatchScheduleRequest,
        UpdateScheduleRequest,
    },
};
use tokio::{sync::watch, task::JoinHandle};

use super::gate;
use crate::{
    crds,
    support::{self, eventually, kstatus, stack},
};

/// Generous: the machine may be busy. A deadline, not a measurement.
pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) type Described = DescribeScheduleResponse;

/// One installation: Kubernetes namespace, Temporal namespace, store.
pub(super) struct Installation {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) temporal: Temporal,
    pub(super) settings: OperatorSettings,
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: tempfile::TempDir,
    /// Where operators of this process find the API server.
    cluster: kube::Config,
}

/// An operator at work; `stop` ends it, dropping it kills it.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.ended.await.expect("no panic").expect("ends well");
    }

    /// Waits for it to give up.
    pub(super) async fn failed(self) -> anyhow::Error {
        let ended = tokio::time::timeout(SOON, self.ended).await.expect("in time").expect("no panic");
        ended.expect_err("gives up")
    }

    /// Whether it has given up.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }

    /// As a crash: nothing is given back.
    pub(super) async fn kill(self) {
        self.ended.abort();
        assert!(self.ended.await.is_err(), "aborted");
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Installation {
    pub(super) async fn new() -> Self {
        Self::at(&support::temporal_address()).await
    }

    /// On the Temporal server at this address.
    pub(super) async fn at(temporal_address: &str) -> Self {
        let client = crds::client().await;
        crds::install_definitions(&client).await;
        let namespace = crds::namespace(&client, "operator").await;
        let (temporal, temporal_settings) = stack::temporal_namespace(temporal_address).await;
        let directory = tempfile::tempdir().expect("temporary directory");
        let database_url = format!("sqlite:{}", directory.path().join("store.db").display());
        let store = store::open(&database_url).await.expect("store opens");
        let settings = OperatorSettings {
            store: StoreSettings::of(database_url),
            temporal: temporal_settings,
            health: HealthSettings { health_address: ([127, 0, 0, 1], free_port()).into() },
            namespace: namespace.clone(),
            watch_namespaces: vec![namespace.clone()],
            worker_template: None,
            worker_max_replicas: None,
            recipient: None,
            pool_grace_seconds: 3_600,
            no_leader_election: true,
            lease_seconds: 15,
            temporal_requests_per_second: 200,
            temporal_request_burst: 400,
            resync_seconds: 600,
            overdue_seconds: 600,
            orphan_grace_seconds: 3_600,
            retention: RetentionSettings {
                runs_days: 90,
                dead_letter_payloads_days: 30,
                tombstones_days: 0,
                purge_grace_seconds: 86_400,
            },
        };
        Self { client, namespace, temporal, settings, store, directory, cluster: gate::direct().await }
    }

    /// Another, empty API server in place of the one so far, as after the loss of its data; store and Temporal stay.
    pub(super) async fn rebuild_on(&mut self, cluster: kube::Config) {
        self.rebuild_with(cluster, crd::definitions()).await;
    }

    /// The same with these definitions.
    pub(super) async fn rebuild_with(
        &mut self,
        cluster: kube::Config,
        definitions: impl IntoIterator<Item = CustomResourceDefinition>,
    ) {
        self.client = Client::try_from(cluster.clone()).expect("a client");
        self.cluster = cluster;
        crds::install(&self.client, definitions).await;
        let namespace = json!({"metadata": {"name": self.namespace}});
        let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
        Api::all(self.client.clone()).create(&Default::default(), &namespace).await.expect("the namespace is made");
    }

    /// Another cluster, with a namespace of the same name, on the same store and Temporal.
    pub(super) async fn in_another_cluster(&self, cluster_id: &str, cluster: kube::Config) -> Self {
        let mut other = Self {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            temporal: self.temporal.clone(),
            settings: self.settings.clone(),
            store: Arc::clone(&self.store),
            directory: tempfile::tempdir().expect("temporary directory"),
            cluster: self.cluster.clone(),
        };
        other.settings.temporal.cluster_id = Some(cluster_id.to_owned());
        other.settings.health.health_address.set_port(free_port());
        other.rebuild_on(cluster).await;
        other
    }

    /// Starts an operator with these settings.
    pub(super) async fn operator(&self) -> Running {
        self.operator_with(|_| {}).await
    }

    /// Starts an operator whose Temporal is at another address.
    pub(super) async fn operator_at(&self, temporal_address: &str) -> Running {
        self.operator_with(|settings| {
            settings.temporal =
                TemporalSettings { temporal_address: temporal_address.to_owned(), ..settings.temporal.clone() };
        })
        .await
    }

    /// Starts an operator with other settings.
    pub(super) async fn operator_with(&self, change: impl FnOnce(&mut OperatorSettings)) -> Running {
        self.operator_in(self.cluster.clone(), change).await
    }

    /// Starts an operator whose API server is reached so.
    pub(super) async fn operator_in(
        &self,
        cluster: kube::Config,
        change: impl FnOnce(&mut OperatorSettings),
    ) -> Running {
        let mut settings = self.settings.clone();
        change(&mut settings);
        let (stop, stopped) = watch::channel(false);
        let ended = tokio::spawn(operator::run_in(cluster, settings, stopped));
        Running { stop, ended }
    }

    pub(super) fn tenants(&self) -> Api<TenantSchedule> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn connectors(&self) -> Api<Connector> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn apply_tenant(&self, name: &str, spec: Value) {
        let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": "TenantSchedule",
            "metadata": {"name": name}, "spec": spec});
        self.tenants().patch(name, &user(), &Patch::Apply(object)).await.expect("the API server takes it");
    }

    pub(super) async fn apply_connector(&self, name: &str, spec: Value) {
        let mut whole = json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
            "credentials": {"secretRef": {"name": "crm"}}});
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": "Connector",
            "metadata": {"name": name}, "spec": whole});
        self.connectors().patch(name, &user(), &Patch::Apply(object)).await.expect("the API server takes it");
    }

    pub(super) async fn apply_secret(&self, name: &str, content: Value) {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content});
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets.patch(name, &user(), &Patch::Apply(object)).await.expect("the API server takes it");
    }

    pub(super) async fn delete_tenant(&self, name: &str) {
        self.tenants().delete(name, &DeleteParams::default()).await.expect("the API server takes it");
    }

    /// As docs/operations.md says it.
    pub(super) async fn force_delete_tenant(&self, name: &str) {
        let force = json!({"metadata": {"annotations": {"sync.gtmclarity.io/force-delete": "true"}}});
        let patched = self.tenants().patch(name, &PatchParams::default(), &Patch::Merge(force)).await;
        patched.expect("annotated");
    }

    pub(super) async fn delete_connector(&self, name: &str) {
        self.connectors().delete(name, &DeleteParams::default()).await.expect("the API server takes it");
    }

    /// Waits until the TenantSchedule's `Ready` has this status and reason, for its latest generation.
    pub(super) async fn tenant_ready(&self, name: &str, status: &str, reason: &str) -> TenantSchedule {
        self.tenant_ready_within(SOON, name, status, reason).await
    }

    /// The same with another deadline.
    pub(super) async fn tenant_ready_within(
        &self,
        deadline: Duration,
        name: &str,
        status: &str,
        reason: &str,
    ) -> TenantSchedule {
        let last = std::sync::Mutex::new(String::new());
        let api = self.tenants();
        eventually(&format!("TenantSchedule {name} Ready={status}/{reason}"), deadline, || async {
            let object = api.get(name).await.ok()?;
            let of = object.status.clone()?;
            *last.lock().expect("no panic") = format!("{of:?}");
            let current = Some(of.observed_generation) == object.metadata.generation;
            keeps_the_rules(&object);
            (current && is(&of.conditions, "Ready", status, reason)).then_some(object)
        })
        .await
    }

    /// Waits until the Connector's `Ready` has this status and reason, for its latest generation.
    pub(super) async fn connector_ready(&self, name: &str, status: &str, reason: &str) -> Connector {
        self.connector_condition(name, "Ready", status, reason).await
    }

    /// Waits until a condition of the Connector has this status and reason.
    pub(super) async fn connector_condition(&self, name: &str, of: &str, status: &str, reason: &str) -> Connector {
        let api = self.connectors();
        eventually(&format!("Connector {name} {of}={status}/{reason}"), SOON, || async {
            let object = api.get(name).await.ok()?;
            let found = object.status.clone()?;
            let current = Some(found.observed_generation) == object.metadata.generation;
            keeps_the_rules(&object);
            (current && is(&found.conditions, of, status, reason)).then_some(object)
        })
        .await
    }

    pub(super) async fn describe(&self, schedule_id: &str) -> Option<DescribeScheduleResponse> {
        let client = self.temporal.sdk_client().expect("client");
        let request = DescribeScheduleRequest {
            namespace: self.temporal.namespace().to_owned(),
            schedule_id: schedule_id.to_owned(),
        };
        client.connection().clone().describe_schedule(request.into_request()).await.ok().map(|found| found.into_inner())
    }

    /// Edits a schedule as a person with the Temporal CLI would.
    pub(super) async fn edit_by_hand(&self, schedule_id: &str, edit: impl FnOnce(&mut Schedule)) {
        let mut schedule = self.describe(schedule_id).await.and_then(|found| found.schedule).expect("a schedule");
        edit(&mut schedule);
        let client = self.temporal.sdk_client().expect("client");
        let request = UpdateScheduleRequest {
            namespace: self.temporal.namespace().to_owned(),
            schedule_id: schedule_id.to_owned(),
            schedule: Some(schedule),
            request_id: support::fresh("edit"),
            ..Default::default()
        };
        client.connection().clone().update_schedule(request.into_request()).await.expect("edited");
    }

    /// As the Web UI and `temporal schedule toggle` do it.
    pub(super) async fn patch_schedule(&self, schedule_id: &str, patch: SchedulePatch) {
        let client = self.temporal.sdk_client().expect("client");
        let request = PatchScheduleRequest {
            namespace: self.temporal.namespace().to_owned(),
            schedule_id: schedule_id.to_owned(),
            patch: Some(patch),
            request_id: support::fresh("patch"),
            ..Default::default()
        };
        client.connection().clone().patch_schedule(request.into_request()).await.expect("patched");
    }

    /// As the Web UI's "Trigger" does it.
    pub(super) async fn trigger(&self, schedule_id: &str) {
        let trigger_immediately = Some(TriggerImmediatelyRequest::default());
        self.patch_schedule(schedule_id, SchedulePatch { trigger_immediately, ..Default::default() }).await;
    }

    /// Waits until a schedule is as `expected` says.
    pub(super) async fn schedule(&self, id: &str, what: &str, expected: impl Fn(&Schedule) -> bool) -> Schedule {
        eventually(&format!("schedule {id}: {what}"), SOON, || async {
            self.describe(id).await?.schedule.filter(&expected)
        })
        .await
    }

    /// Workflow ids of a type, in any state.
    pub(super) async fn workflows(&self, workflow_type: &str) -> Vec<String> {
        let client = self.temporal.sdk_client().expect("client");
        let request = ListWorkflowExecutionsRequest {
            namespace: self.temporal.namespace().to_owned(),
            query: format!("WorkflowType = '{workflow_type}'"),
            ..Default::default()
        };
        let listed =
            client.connection().clone().list_workflow_executions(request.into_request()).await.expect("listed");
        listed.into_inner().executions.into_iter().filter_map(|run| run.execution).map(|run| run.workflow_id).collect()
    }

    /// Waits until exactly one workflow of a type is listed, and returns its id.
    pub(super) async fn one_workflow(&self, workflow_type: &str) -> String {
        eventually(&format!("a {workflow_type}"), SOON, || async {
            let mut listed = self.workflows(workflow_type).await;
            assert!(listed.len() < 2, "{listed:?}");
            listed.pop()
        })
        .await
    }

    /// How many reconciles of a kind have ended in success, as the operator's metrics count them.
    pub(super) async fn reconciles(&self, kind: &str) -> Option<u64> {
        self.reconciles_with(kind, "Success").await
    }

    /// The same with another result.
    pub(super) async fn reconciles_with(&self, kind: &str, result: &str) -> Option<u64> {
        self.metric(&format!("gtm_sync_reconciles_total{{kind=\"{kind}\",result=\"{result}\"}}")).await
    }

    /// A metric of the operator.
    pub(super) async fn metric(&self, name: &str) -> Option<u64> {
        metric_at(self.settings.health.health_address, name).await
    }

    /// Waits until the operator has looked at objects of a kind `times` more.
    pub(super) async fn looked_again(&self, kind: &str, times: u64) {
        let before = eventually("metrics", SOON, || self.reconciles(kind)).await;
        eventually(&format!("{times} more reconciles of {kind}"), SOON, || async {
            (self.reconciles(kind).await? >= before + times).then_some(())
        })
        .await;
    }

    /// What /readyz says.
    pub(super) async fn readiness(&self) -> Option<(bool, String)> {
        self.probe("readyz").await
    }

    /// What /livez says.
    pub(super) async fn liveness(&self) -> Option<(bool, String)> {
        self.probe("livez").await
    }

    async fn probe(&self, of: &str) -> Option<(bool, String)> {
        let answer = reqwest::get(format!("http://{}/{of}", self.settings.health.health_address)).await.ok()?;
        Some((answer.status().is_success(), answer.text().await.ok()?))
    }

    /// Reasons of the Events about an object, or all of the namespace.
    pub(super) async fn events(&self, about: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = api.list(&Default::default()).await.expect("events");
        let of = |event: &k8s_openapi::api::events::v1::Event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.clone()).as_deref() == Some(about)
        };
        listed.items.iter().filter(|event| of(event)).filter_map(|event| event.reason.clone()).collect()
    }

    /// Waits for an Event.
    pub(super) async fn event(&self, about: &str, reason: &str) {
        eventually(&format!("Event {reason} about {about}"), SOON, || async {
            self.events(about).await.iter().any(|found| found == reason).then_some(())
        })
        .await;
    }
}

/// A metric of the process that serves there.
pub(super) async fn metric_at(address: std::net::SocketAddr, name: &str) -> Option<u64> {
    let text = reqwest::get(format!("http://{address}/metrics")).await.ok()?.text().await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

pub(super) fn user() -> PatchParams {
    PatchParams::apply("user").force()
}

pub(super) fn is(conditions: &[Condition], of: &str, status: &str, reason: &str) -> bool {
    conditions.iter().any(|found| found.type_ == of && found.status == status && found.reason == reason)
}

/// Whatever a test waits for, no state on the way there may break a rule of Flux.
fn keeps_the_rules(object: &impl serde::Serialize) {
    let object = serde_json::to_value(object).expect("JSON");
    assert_eq!(kstatus::broken(&object), [""; 0], "{object:#}");
}

/// The workflow that a schedule starts.
pub(super) fn starts(schedule: &Schedule) -> NewWorkflowExecutionInfo {
    use temporalio_common::protos::temporal::api::schedule::v1::schedule_action::Action;
    match schedule.action.clone().and_then(|action| action.action) {
        Some(Action::StartWorkflow(start)) => start,
        None => panic!("a schedule without an action"),
    }
}

/// The input of the workflow that a schedule starts, as bytes.
pub(super) fn input(schedule: &Schedule) -> String {
    let payloads = starts(schedule).input.expect("an input").payloads;
    assert_eq!(payloads.len(), 1, "one argument");
    assert_eq!(payloads[0].metadata["encoding"], b"json/plain");
    String::from_utf8(payloads[0].data.clone()).expect("JSON")
}
