//! Dedicated pools as the operator makes them: identity, recipient, sealing, Deployment, conditions, and their end.

use std::time::Duration;

use gtm_sync::{
    credentials::{Sealer, seal::generate_identity},
    store::{ClaimOutcome, MAX_DEDICATED_POOLS, Owner, TenantProjection},
    temporal::{
        client::{CloseStatus, IdReuse, WorkflowState},
        worker_deployments::SeenDeployment,
    },
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    harness::{Installation, Running, SOON, is},
    house::{crm, from},
    kubelet::Kubelet,
    rollouts::QUICK,
    workers::on_postgres,
};
use crate::support::{
    eventually,
    proxy::Proxy,
    servers::TemporalServer,
    stack::{self, CANARY},
};

/// Several rounds of the operator, and of the server, on a busy machine.
const LONG: Duration = Duration::from_secs(180);

const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: gtm-sync-worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      containers: [{name: worker, image: example/gtm-sync, args: [worker]}]
      volumes: [{name: identity, secret: {secretName: gtm-sync-identity}}]
";

/// An installation whose Temporal forgets pollers within seconds.
struct House {
    installation: Installation,
    directory: tempfile::TempDir,
    _proxy: Proxy,
    _server: TemporalServer,
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

    async fn operator(&self) -> Running {
        let template = self.directory.path().join("worker.yaml");
        std::fs::write(&template, TEMPLATE).expect("template");
        let change = |settings: &mut gtm_sync::settings::OperatorSettings| {
            settings.worker_template = Some(template);
            settings.pool_grace_seconds = 1;
        };
        self.installation.operator_with(change).await
    }

    /// The Deployments of the tenant's own workers.
    async fn pool(&self) -> Vec<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.installation.client.clone(), &self.installation.namespace);
        let of_acme = ListParams::default().labels("sync.gtmclarity.io/pool=acme");
        api.list(&of_acme).await.expect("listed").items
    }

    /// What Temporal knows of them; `None` = it did not say, inside = nothing.
    async fn seen(&self) -> Option<Option<SeenDeployment>> {
        let id = self.installation.store.installation_id().await.ok()?;
        self.installation.temporal.describe_worker_deployment(&format!("gtm-sync-acme-{id}")).await.ok()
    }

    /// The build of the tenant's own that takes work, once it is another one than this.
    async fn current(&self, former: &str) -> String {
        eventually("a build of its own takes the work", LONG, || async {
            self.seen().await??.current.filter(|current| current != former)
        })
        .await
    }

    /// A sync that somebody starts by hand ends well.
    async fn sync(&self, id: &str) {
        let input = json!({"tenantId": "acme", "connectorId": "hubspot", "fullSync": false});
        let temporal = &self.installation.temporal;
        temporal.start_workflow("connectorSyncWorkflow", id, &input, IdReuse::OneAtATime).await.expect("started");
        eventually(&format!("{id} is complete"), LONG, || async {
            (temporal.workflow_state(id).await == Ok(WorkflowState::Closed(CloseStatus::Completed))).then_some(())
        })
        .await;
    }

    async fn nothing_is_left(&self) {
        eventually("nothing is left of its own workers", LONG, || async {
            (self.pool().await.is_empty() && self.seen().await?.is_none()).then_some(())
        })
        .await;
    }
}

async fn workers_available(installation: &Installation, status: &str, reason: &str) {
    let api = installation.tenants();
    eventually(&format!("WorkersAvailable={status}/{reason}"), LONG, || async {
        let found = api.get("acme").await.ok()?.status?;
        is(&found.conditions, "WorkersAvailable", status, reason).then_some(())
    })
    .await;
}

async fn recipients(installation: &Installation) -> std::collections::BTreeMap<String, String> {
    let api: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.namespace);
    api.get("gtm-sync-recipient").await.expect("published").data.expect("data")
}

/// The key that the stored credential is sealed with.
async fn sealed_with(installation: &Installation, recipient: &str) {
    let wanted = Sealer::new(recipient).expect("recipient");
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    eventually("the credential is sealed to its workers", SOON, || async {
        let route = installation.store.route(&tenant, &connector).await.ok()?;
        (route.credential_key.as_deref() == Some(wanted.key_id()) && route.credential_revision == 1).then_some(())
    })
    .await;
}

fn acme(workers: Value) -> Value {
    json!({"tenantId": "acme", "workers": workers})
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn a_tenants_own_workers_come_with_identity_and_recipient_and_go_when_it_leaves_them() {
    let house = House::new().await;
    let installation = &house.installation;
    let operator = house.operator().await;
    let _kubelet = Kubelet::start(installation);
    let crm = crm(20).await;
    installation.apply_secret("crm", json!({"accessToken": format!("pat-{CANARY}")})).await;
    installation.apply_tenant("acme", acme(json!({"mode": "Shared"}))).await;
    installation.apply_connector("hubspot", json!({"source": from(&crm)})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let shared = recipients(installation).await["recipient"].clone();
    sealed_with(installation, &shared).await;
    workers_available(installation, "True", "PodsReady").await;
    house.sync("shared").await;

    let dedicated = acme(json!({"mode": "Dedicated", "replicas": 2, "nodeSelector": {"pool": "acme"}}));
    installation.apply_tenant("acme", dedicated).await;
    let first = house.current("").await;
    let own = recipients(installation).await["recipient.acme"].clone();
    sealed_with(installation, &own).await;
    let pool = serde_json::to_value(house.pool().await.pop().expect("deployed")).expect("JSON");
    let pod = &pool["spec"]["template"]["spec"];
    assert_eq!((&pool["spec"]["replicas"], &pod["nodeSelector"]), (&json!(2), &json!({"pool": "acme"})));
    assert_eq!(pod["containers"][0]["env"][0], json!({"name": "GTM_POOL", "value": "acme"}));
    let secret = pod["volumes"][0]["secret"]["secretName"].as_str().expect("a Secret").to_owned();
    assert!(secret.starts_with("gtm-sync-identity-acme-"), "{secret}");
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let identity = secrets.get(&secret).await.expect("made").data.expect("data").remove("identity").expect("a key");
    assert!(String::from_utf8(identity.0).expect("text").contains(&own), "the recipient is that identity's");
    workers_available(installation, "True", "PodsReady").await;
    // Nobody else can open its credential now.
    house.sync("own").await;

    installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    let second = house.current(&first).await;
    eventually("the former build rests, the new one has one pod", LONG, || async {
        let pods = house.pool().await.into_iter().map(|found| {
            let build = found.labels().get("sync.gtmclarity.io/build").cloned().unwrap_or_default();
            (build, found.spec.and_then(|spec| spec.replicas))
        });
        let pods: std::collections::BTreeMap<_, _> = pods.collect();
        (pods == [(first.clone(), Some(0)), (second.clone(), Some(1))].into()).then_some(())
    })
    .await;
    house.sync("own-by-another-build").await;
    operator.stop().await;

    // Another process finds the identity that is there.
    let operator = house.operator().await;
    installation.apply_tenant("acme", acme(json!({"mode": "Shared"}))).await;
    sealed_with(installation, &shared).await;
    house.nothing_is_left().await;
    let of_acme = ListParams::default().labels("sync.gtmclarity.io/tenant=acme");
    assert_eq!(secrets.list(&of_acme).await.expect("listed").items.len(), 1, "one identity, and it stays");
    workers_available(installation, "True", "PodsReady").await;
    house.sync("shared-again").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn a_deleted_tenants_own_workers_are_taken_away() {
    let house = House::new().await;
    let operator = house.operator().await;
    let _kubelet = Kubelet::start(&house.installation);
    house.installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    house.current("").await;
    house.installation.delete_tenant("acme").await;
    house.nothing_is_left().await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn one_pool_too_many_is_stalled_and_granted_once_another_leaves() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_tenant("globex", json!({"tenantId": "globex"})).await;
    installation.tenant_ready("globex", "True", "Scheduled").await;
    let other = |number: i64, dedicated: bool| TenantProjection {
        tenant_id: format!("t{number}").parse().expect("id"),
        owner: Owner { cluster_id: "other".to_owned(), namespace: "n".to_owned(), name: format!("t{number}") },
        uid: "uid".to_owned(),
        wait_seconds: None,
        dedicated,
    };
    for number in 0..MAX_DEDICATED_POOLS {
        assert_eq!(installation.store.put_tenant(&other(number, true)).await, Ok(ClaimOutcome::Held));
    }
    installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    let refused = installation.tenant_ready("acme", "False", "TooManyPools").await;
    let conditions = refused.status.expect("a status").conditions;
    assert!(is(&conditions, "Stalled", "True", "TooManyPools"), "{conditions:?}");
    installation.event("acme", "TooManyPools").await;
    installation.store.put_tenant(&other(7, false)).await.expect("leaves");
    let again = json!({"metadata": {"annotations": {"sync.gtmclarity.io/requested-at": "now"}}});
    let (api, params) = (installation.tenants(), PatchParams::default());
    api.patch("acme", &params, &Patch::Merge(again)).await.expect("looked at again");
    tokio::time::timeout(Duration::from_secs(60), installation.tenant_ready("acme", "True", "Scheduled"))
        .await
        .expect("granted");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_recipient_that_is_given_stands_beside_a_tenants_own_and_follows_its_flag() {
    let installation = Installation::new().await;
    installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    let api: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let mut made = None;
    for _ in 0..2 {
        let given = generate_identity().1;
        let flag = Some(given.clone());
        let operator = installation.operator_with(|settings| settings.recipient = flag).await;
        let found = eventually("the given recipient", SOON, || async {
            let found = api.get_opt("gtm-sync-recipient").await.ok()??.data?;
            (found.get("recipient") == Some(&given)).then_some(found)
        })
        .await;
        let own = found["recipient.acme"].clone();
        assert_eq!(made.get_or_insert(own.clone()), &own, "made once");
        operator.stop().await;
    }
}
