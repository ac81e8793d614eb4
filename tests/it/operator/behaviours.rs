//! The scenarios of `src/operator/behaviour`, which the fake world passes in the unit tests, on the real servers.

#[path = "../../../src/operator/behaviour/mod.rs"]
mod behaviour;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use behaviour::{
    FOREIGN_FINALIZER, Found, Servers, every_behaviour,
    workers::{Pool, every_behaviour_of_workers},
};
use gtm_sync::{
    crd::{Connector, GROUP, TenantSchedule, VERSION},
    health::Readiness,
    metrics::Metrics,
    operator::{
        dependencies::Dependencies,
        events::Announcer,
        leadership::Leadership,
        live_world::LiveWorld,
        pool_identity::PoolIdentities,
        world::{Kind, ObjectKey, World},
    },
    temporal::{Pacer, WorkerVersion},
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution,
    deployment::v1::WorkerDeploymentOptions,
    enums::v1::WorkerVersioningMode,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{PollWorkflowTaskQueueRequest, TerminateWorkflowExecutionRequest},
};
use tokio::{sync::watch, task::JoinSet};

use super::{cron_workflows::start_cron, harness::Installation};

const MOMENT: Duration = Duration::from_millis(100);

struct Live {
    installation: Installation,
    world: LiveWorld,
}

impl Live {
    async fn new() -> Self {
        let installation = Installation::new().await;
        installation.store.migrate().await.expect("migrated");
        let metrics = Metrics::default();
        // Events are not sent: nobody runs the future that would.
        let (announcer, _) = Announcer::new(installation.client.clone(), &installation.namespace);
        let world = LiveWorld {
            client: installation.client.clone(),
            leadership: Leadership::unbounded(),
            store: installation.store.clone(),
            temporal: watch::channel(Ok(installation.temporal.clone())).1,
            pacer: Arc::new(Pacer::new(200, 400)),
            cron_workflows: Arc::default(),
            pools: PoolIdentities::new(installation.client.clone(), installation.namespace.clone(), None),
            dependencies: Dependencies::new(Readiness::new(metrics.clone()), announcer),
            metrics,
        };
        Self { installation, world }
    }

    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = match kind {
            Kind::TenantSchedule => ApiResource::erase::<TenantSchedule>(&()),
            Kind::Connector => ApiResource::erase::<Connector>(&()),
        };
        Api::namespaced_with(self.installation.client.clone(), &self.installation.namespace, &resource)
    }
}

#[async_trait]
impl Servers for Live {
    fn world(&self) -> &dyn World {
        &self.world
    }

    fn namespace(&self) -> &str {
        &self.installation.namespace
    }

    async fn moment(&self) {
        tokio::time::sleep(MOMENT).await;
    }

    async fn create(&self, kind: Kind, name: &str) -> ObjectKey {
        let object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.name(),
            "metadata": {"name": name}, "spec": {"tenantId": "acme"}});
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let made = self.objects(kind).create(&PostParams::default(), &object).await.expect("created");
        let uid = made.metadata.uid.expect("a uid");
        ObjectKey { kind, namespace: self.installation.namespace.clone(), name: name.to_owned(), uid }
    }

    async fn delete(&self, key: &ObjectKey) {
        self.objects(key.kind).delete(&key.name, &DeleteParams::default()).await.expect("taken");
    }

    async fn hold(&self, key: &ObjectKey, held: bool) {
        let found = self.objects(key.kind).get(&key.name).await.expect("there");
        let mut finalizers = found.metadata.finalizers.unwrap_or_default();
        finalizers.retain(|of| of != FOREIGN_FINALIZER);
        finalizers.extend(held.then(|| FOREIGN_FINALIZER.to_owned()));
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        self.objects(key.kind).patch(&key.name, &PatchParams::default(), &patch).await.expect("patched");
    }

    async fn object(&self, key: &ObjectKey) -> Option<Found> {
        let found = self.objects(key.kind).get_opt(&key.name).await.expect("answered")?;
        let meta = found.metadata;
        (meta.uid.as_deref() == Some(&key.uid)).then(|| Found {
            generation: meta.generation.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            finalizers: meta.finalizers.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            status: found.data["status"].clone(),
        })
    }

    async fn put_secret(&self, name: &str, key: &str, value: &str) {
        self.installation.apply_secret(name, json!({key: value})).await;
    }

    async fn end_workflow(&self, id: &str) {
        let client = self.installation.temporal.sdk_client().expect("client");
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.installation.temporal.namespace().to_owned(),
            workflow_execution: Some(WorkflowExecution { workflow_id: id.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        client.connection().clone().terminate_workflow_execution(request.into_request()).await.expect("ended");
    }

    async fn start_cron(&self, id: &str) {
        start_cron(&self.installation, id, "acme").await;
    }
}

/// The real binary's way of polling, without its work: a poll names its build, and lasts until it is dropped.
struct Polled {
    live: Live,
    deployment: String,
    polls: Mutex<JoinSet<()>>,
}

#[async_trait]
impl Pool for Polled {
    fn world(&self) -> &dyn World {
        &self.live.world
    }

    fn deployment(&self) -> String {
        self.deployment.clone()
    }

    async fn moment(&self) {
        self.live.moment().await;
    }

    async fn poll(&self, version: &WorkerVersion) {
        let client = self.live.installation.temporal.sdk_client().expect("client");
        let request = PollWorkflowTaskQueueRequest {
            namespace: self.live.installation.temporal.namespace().to_owned(),
            task_queue: Some(TaskQueue { name: "connector-sync".to_owned(), ..Default::default() }),
            identity: version.build.clone(),
            deployment_options: Some(WorkerDeploymentOptions {
                deployment_name: version.deployment.clone(),
                build_id: version.build.clone(),
                worker_versioning_mode: WorkerVersioningMode::Versioned as i32,
            }),
            ..Default::default()
        };
        self.polls.lock().expect("whole").spawn(async move {
            loop {
                // The server answers a poll without a task after a minute; it may refuse one while it registers the build.
                let poll = client.connection().clone().poll_workflow_task_queue(request.clone().into_request()).await;
                if poll.is_err() {
                    tokio::time::sleep(MOMENT).await;
                }
            }
        });
    }
}

macro_rules! workers_on_a_real_server {
    ($($scenario:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs kube-apiserver, temporal"]
        async fn $scenario() {
            let (live, deployment) = (Live::new().await, crate::support::fresh("workers"));
            behaviour::workers::$scenario(&Polled { live, deployment, polls: Mutex::default() }).await;
        }
    )* };
}
every_behaviour_of_workers!(workers_on_a_real_server);

macro_rules! on_real_servers {
    ($($part:ident::$scenario:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs kube-apiserver, temporal"]
        async fn $scenario() {
            behaviour::$part::$scenario(&Live::new().await).await;
        }
    )* };
}
every_behaviour!(on_real_servers);
