//! Dedicated pools as the operator makes them: identity, recipient, sealing, Deployment, conditions, and their end.

use std::time::Duration;

use gtm_sync::{
    credentials::Sealer,
    store::{ClaimOutcome, MAX_DEDICATED_POOLS, Owner, TenantProjection},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    harness::{Installation, Running, SOON, is},
    workers::on_postgres,
};
use crate::support::eventually;

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
const POOL: &str = "gtm-sync-worker-pool-acme";

async fn operator(installation: &Installation, directory: &tempfile::TempDir) -> Running {
    let template = directory.path().join("worker.yaml");
    std::fs::write(&template, TEMPLATE).expect("template");
    let change = |settings: &mut gtm_sync::settings::OperatorSettings| {
        settings.worker_template = Some(template);
        settings.pool_grace_seconds = 1;
    };
    installation.operator_with(change).await
}

fn deployments(installation: &Installation) -> Api<Deployment> {
    Api::namespaced(installation.client.clone(), &installation.namespace)
}

async fn make_ready(installation: &Installation, name: &str) {
    let ready = Patch::Merge(json!({"status": {"replicas": 1, "readyReplicas": 1}}));
    let api = deployments(installation);
    eventually("its Deployment", SOON, || async { api.patch_status(name, &PatchParams::default(), &ready).await.ok() })
        .await;
}

async fn workers_available(installation: &Installation, status: &str, reason: &str) {
    let api = installation.tenants();
    eventually(&format!("WorkersAvailable={status}/{reason}"), SOON, || async {
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
    let (installation, _proxy) = on_postgres().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let operator = operator(&installation, &directory).await;
    installation.apply_secret("crm", json!({"accessToken": "canary"})).await;
    installation.apply_tenant("acme", acme(json!({"mode": "Shared"}))).await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let shared = recipients(&installation).await["recipient"].clone();
    sealed_with(&installation, &shared).await;
    make_ready(&installation, "gtm-sync-worker").await;
    workers_available(&installation, "True", "PodsReady").await;

    let dedicated = acme(json!({"mode": "Dedicated", "replicas": 2, "nodeSelector": {"pool": "acme"}}));
    installation.apply_tenant("acme", dedicated).await;
    workers_available(&installation, "False", "NoPodsReady").await;
    let own = recipients(&installation).await["recipient.acme"].clone();
    sealed_with(&installation, &own).await;
    let pool = serde_json::to_value(deployments(&installation).get(POOL).await.expect("deployed")).expect("JSON");
    let pod = &pool["spec"]["template"]["spec"];
    assert_eq!((&pool["spec"]["replicas"], &pod["nodeSelector"]), (&json!(2), &json!({"pool": "acme"})));
    assert_eq!(pod["containers"][0]["env"], json!([{"name": "GTM_POOL", "value": "acme"}]));
    let secret = pod["volumes"][0]["secret"]["secretName"].as_str().expect("a Secret").to_owned();
    assert!(secret.starts_with("gtm-sync-identity-acme-"), "{secret}");
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let identity = secrets.get(&secret).await.expect("made").data.expect("data").remove("identity").expect("a key");
    assert!(String::from_utf8(identity.0).expect("text").contains(&own), "the recipient is that identity's");
    make_ready(&installation, POOL).await;
    workers_available(&installation, "True", "PodsReady").await;

    installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    eventually("one pod again, on any node", SOON, || async {
        let spec = deployments(&installation).get(POOL).await.ok()?.spec?;
        (spec.replicas == Some(1) && spec.template.spec?.node_selector.is_none()).then_some(())
    })
    .await;
    operator.stop().await;

    // Another process finds the identity that is there.
    let operator = self::operator(&installation, &directory).await;
    installation.apply_tenant("acme", acme(json!({"mode": "Shared"}))).await;
    sealed_with(&installation, &shared).await;
    eventually("its own workers are taken away", SOON, || async {
        deployments(&installation).get_opt(POOL).await.ok()?.is_none().then_some(())
    })
    .await;
    let of_acme = ListParams::default().labels("sync.gtmclarity.io/tenant=acme");
    assert_eq!(secrets.list(&of_acme).await.expect("listed").items.len(), 1, "one identity, and it stays");
    workers_available(&installation, "True", "PodsReady").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn a_deleted_tenants_own_workers_are_taken_away() {
    let (installation, _proxy) = on_postgres().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let operator = operator(&installation, &directory).await;
    installation.apply_tenant("acme", acme(json!({"mode": "Dedicated"}))).await;
    make_ready(&installation, POOL).await;
    installation.delete_tenant("acme").await;
    eventually("its own workers are taken away", SOON, || async {
        deployments(&installation).get_opt(POOL).await.ok()?.is_none().then_some(())
    })
    .await;
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
