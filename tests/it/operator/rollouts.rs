//! Rollouts of workers on a real API server and a real Temporal, with processes of the real binary for pods. The server looks
//! at drainage and forgets pollers within seconds here, not minutes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use gtm_sync::temporal::{
    client::{CloseStatus, IdReuse, WorkflowState},
    worker_deployments::{SeenDeployment, VersionState},
};
use k8s_openapi::api::{apps::v1::Deployment, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use temporalio_client::{UntypedWorkflow, WorkflowTerminateOptions};

use super::{
    harness::{Installation, Running, is},
    kubelet::Kubelet,
    workers::on_postgres,
};
use crate::support::{self, eventually, proxy::Proxy, servers::TemporalServer, stack};

/// Several rounds of the operator, and of the server, on a busy machine.
const SOON: Duration = Duration::from_secs(180);

/// Drainage is looked at, and pollers are forgotten, within seconds.
pub(super) const QUICK: &[&str] = &[
    "matching.wv.VersionDrainageStatusVisibilityGracePeriod=\"2s\"",
    "matching.wv.VersionDrainageStatusRefreshInterval=\"2s\"",
    "matching.PollerHistoryTTL=\"4s\"",
];

struct House {
    installation: Installation,
    directory: tempfile::TempDir,
    _proxy: Proxy,
    _server: TemporalServer,
}

/// The pool's template with this image.
fn template(image: &str, spec: Value) -> Value {
    let mut whole = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "gtm-sync-worker",
            "labels": {"app": "worker"},
            "annotations": {"sync.gtmclarity.io/disruption-budget": "true"},
        },
        "spec": {
            "replicas": 1,
            "progressDeadlineSeconds": 5,
            "selector": {"matchLabels": {"app": "worker"}},
            "template": {
                "metadata": {"labels": {"app": "worker"}},
                "spec": {"containers": [{"name": "worker", "image": image, "args": ["worker"]}]},
            },
        },
    });
    for (key, value) in spec.as_object().expect("an object") {
        whole["spec"][key] = value.clone();
    }
    whole
}

impl House {
    async fn new() -> Self {
        let server = TemporalServer::with(QUICK).await;
        let (mut installation, proxy) = on_postgres().await;
        let (temporal, settings) = stack::temporal_namespace(&server.address).await;
        installation.temporal = temporal;
        installation.settings.temporal = settings;
        let directory = tempfile::tempdir().expect("temporary directory");
        Self { installation, directory, _proxy: proxy, _server: server }
    }

    /// An operator that wants this image.
    async fn operator(&self, image: &str) -> Running {
        self.operator_with(template(image, json!({})), None).await
    }

    async fn operator_with(&self, template: Value, most: Option<u16>) -> Running {
        let path: PathBuf = self.directory.path().join(support::fresh("worker.yaml"));
        std::fs::write(&path, template.to_string()).expect("template");
        self.installation
            .operator_with(|settings| {
                settings.worker_template = Some(path);
                settings.worker_max_replicas = most;
                settings.resync_seconds = 2;
            })
            .await
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.installation.client.clone(), &self.installation.namespace)
    }

    /// Image → (build, pods wanted) of the Deployments there are.
    async fn pods(&self) -> BTreeMap<String, (String, i32)> {
        let listed = self.deployments().list(&Default::default()).await.expect("listed");
        let of = |deployment: Deployment| {
            let build = deployment.labels().get("sync.gtmclarity.io/build").cloned().unwrap_or_default();
            let spec = deployment.spec.expect("a spec");
            let image = spec.template.spec.expect("a pod").containers[0].image.clone().expect("an image");
            (image, (build, spec.replicas.unwrap_or_default()))
        };
        listed.items.into_iter().map(of).collect()
    }

    async fn wait_for_pods(&self, expected: &[(&str, i32)]) {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let last: BTreeMap<_, _> = self.pods().await.into_iter().map(|(image, (_, pods))| (image, pods)).collect();
            let expected: BTreeMap<_, _> = expected.iter().map(|(image, pods)| ((*image).to_owned(), *pods)).collect();
            if last == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "pods are {last:?}, not {expected:?}; {:?}", self.seen().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn seen(&self) -> Option<SeenDeployment> {
        let id = self.installation.store.installation_id().await.expect("installation id");
        let name = format!("gtm-sync-shared-{id}");
        // A busy server may ask to slow down.
        self.installation.temporal.describe_worker_deployment(&name).await.ok().flatten()
    }

    /// What Temporal thinks of the build of an image.
    async fn state(&self, image: &str) -> Option<VersionState> {
        let (build, _) = self.pods().await.get(image)?.clone();
        self.seen().await?.versions.into_iter().find(|version| version.build == build).map(|version| version.state)
    }

    async fn wait_for_state(&self, image: &str, what: &str, expected: impl Fn(VersionState) -> bool) {
        eventually(&format!("{image} {what}"), SOON, || async { self.state(image).await.filter(|it| expected(*it)) })
            .await;
    }

    async fn is_current(&self, image: &str) {
        self.wait_for_state(image, "is current", |state| state == VersionState::Current).await;
    }

    async fn is_drained(&self, image: &str) {
        self.wait_for_state(image, "is drained", |state| matches!(state, VersionState::Drained { .. })).await;
    }

    async fn workers_available(&self, status: &str, reason: &str) {
        let api = self.installation.tenants();
        eventually(&format!("WorkersAvailable={status}/{reason}"), SOON, || async {
            let found = api.get("acme").await.ok()?.status?;
            is(&found.conditions, "WorkersAvailable", status, reason).then_some(())
        })
        .await;
    }

    async fn start(&self, workflow_type: &str, id: &str, input: Value) {
        let started = self.installation.temporal.start_workflow(workflow_type, id, &input, IdReuse::OneAtATime).await;
        started.expect("started");
    }

    async fn wait_for_end(&self, id: &str) -> CloseStatus {
        eventually(&format!("{id} ends"), SOON, || async {
            match self.installation.temporal.workflow_state(id).await.expect("Temporal answers") {
                WorkflowState::Closed(status) => Some(status),
                _ => None,
            }
        })
        .await
    }

    /// A run that waits for its source, pinned to the build that takes it.
    async fn a_run_that_waits(&self, id: &str) {
        let installation = &self.installation;
        installation.apply_secret("crm", json!({"accessToken": "pat"})).await;
        let hubspot = json!({"type": "HubSpot", "hubspot": {"baseUrl": "http://127.0.0.1:1"}});
        installation.apply_connector("hubspot", json!({"source": hubspot})).await;
        installation.connector_ready("hubspot", "True", "Configured").await;
        let input = json!({"tenantId": "acme", "connectorId": "hubspot", "fullSync": false});
        self.start("connectorSyncWorkflow", id, input).await;
    }

    async fn terminate(&self, id: &str) {
        let client = self.installation.temporal.sdk_client().expect("client");
        let handle = client.get_workflow_handle::<UntypedWorkflow>(id);
        handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn builds_follow_each_other_without_a_run_lost_a_bad_one_takes_nothing_and_a_rollback_is_the_old_template() {
    let house = House::new().await;
    // What an earlier chart left behind.
    let old = serde_json::from_value(template("old", json!({}))).expect("a Deployment");
    house.deployments().create(&PostParams::default(), &old).await.expect("created");
    let _kubelet = Kubelet::start(&house.installation);
    let operator = house.operator("v1").await;
    house.installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    house.is_current("v1").await;
    house.wait_for_pods(&[("v1", 1)]).await;
    house.workers_available("True", "PodsReady").await;
    let budgets: Api<PodDisruptionBudget> =
        Api::namespaced(house.installation.client.clone(), &house.installation.namespace);
    assert_eq!(budgets.list(&Default::default()).await.expect("listed").items.len(), 1, "one for the build");
    // Closed, and open on the first build.
    house.start("scheduledSyncWorkflow", "closed", json!({"tenantId": "acme"})).await;
    assert_eq!(house.wait_for_end("closed").await, CloseStatus::Completed);
    house.a_run_that_waits("waiting").await;
    operator.stop().await;

    let operator = house.operator("v2").await;
    house.is_current("v2").await;
    house.wait_for_state("v1", "drains", |state| state == VersionState::Draining).await;
    operator.stop().await;

    // A bad image.
    let operator = house.operator("broken").await;
    house.workers_available("True", "RolloutStalled").await;
    house.installation.event(&house.installation.namespace, "WorkerRolloutStalled").await;
    house.wait_for_pods(&[("broken", 1), ("v1", 1), ("v2", 1)]).await;
    house.is_current("v2").await;
    assert_eq!(house.state("broken").await, None, "it never polled");
    operator.stop().await;

    // Mended; the first build's run ends.
    let operator = house.operator("v3").await;
    house.is_current("v3").await;
    house.workers_available("True", "PodsReady").await;
    house.is_drained("v2").await;
    house.wait_for_pods(&[("v1", 1), ("v2", 0), ("v3", 1)]).await;
    assert_eq!(house.installation.temporal.workflow_state("waiting").await, Ok(WorkflowState::Running));
    house.terminate("waiting").await;
    house.is_drained("v1").await;
    house.wait_for_pods(&[("v1", 0), ("v2", 0), ("v3", 1)]).await;
    operator.stop().await;

    let operator = house.operator("v2").await;
    house.is_current("v2").await;
    house.is_drained("v3").await;
    house.wait_for_pods(&[("v1", 0), ("v2", 1), ("v3", 0)]).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn a_version_that_is_polled_for_loses_its_pods_first_and_is_then_removed() {
    let house = House::new().await;
    let _kubelet = Kubelet::start(&house.installation);
    let operator = house.operator("v1").await;
    house.is_current("v1").await;
    operator.stop().await;
    let operator = house.operator("unready").await;
    house.wait_for_state("unready", "polls", |state| state == VersionState::Inactive).await;
    let (build, _) = house.pods().await["unready"].clone();
    operator.stop().await;
    let operator = house.operator("v2").await;
    house.is_current("v2").await;
    eventually("the version is removed", SOON, || async {
        house.seen().await?.versions.iter().all(|version| version.build != build).then_some(())
    })
    .await;
    assert_eq!(house.pods().await.get("unready"), None);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn a_pool_that_rests_at_zero_is_woken_by_what_waits_for_it() {
    let house = House::new().await;
    let _kubelet = Kubelet::start(&house.installation);
    let operator = house.operator_with(template("v1", json!({"replicas": 0})), Some(2)).await;
    house.installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    house.wait_for_pods(&[("v1", 1)]).await;
    house.is_current("v1").await;
    house.workers_available("True", "OnDemand").await;
    // As after a lull, which takes minutes.
    let name = house.deployments().list(&Default::default()).await.expect("listed").items[0].name_any();
    let rest = Patch::Merge(json!({"spec": {"replicas": 0}}));
    house.deployments().patch(&name, &PatchParams::default(), &rest).await.expect("scaled");
    eventually("nobody polls", SOON, || async {
        let id = house.installation.store.installation_id().await.expect("installation id");
        let polling =
            house.installation.temporal.polling_builds(&format!("gtm-sync-shared-{id}"), "connector-sync").await;
        polling.ok()?.is_empty().then_some(())
    })
    .await;
    house.wait_for_pods(&[("v1", 0)]).await;
    house.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    assert_eq!(house.wait_for_end("tick").await, CloseStatus::Completed);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn an_autoscaler_keeps_its_word_on_replicas() {
    let house = House::new().await;
    let operator = house.operator_with(template("v1", json!({"replicas": null})), None).await;
    house.wait_for_pods(&[("v1", 1)]).await;
    let name = house.deployments().list(&Default::default()).await.expect("listed").items[0].name_any();
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}, "metadata": {"labels": {"app": "drifted"}}}));
    let autoscaler = PatchParams { field_manager: Some("autoscaler".to_owned()), ..PatchParams::default() };
    house.deployments().patch(&name, &autoscaler, &patch).await.expect("scaled");
    // Its next full compare puts the label back, and nothing else.
    eventually("the label is put back", SOON, || async {
        let found = house.deployments().get(&name).await.ok()?;
        (found.labels()["app"] == "worker").then_some(())
    })
    .await;
    house.wait_for_pods(&[("v1", 3)]).await;
    operator.stop().await;
}
