//! What needs a store that pods can share: the workers' Deployment, and a store that is away at the start.

use gtm_sync::{settings::StoreSettings, store};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{
    harness::{Installation, SOON, is},
    kubelet::Kubelet,
};
use crate::support::{self, eventually, proxy::Proxy};

const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: gtm-sync-worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec: {containers: [{name: worker, image: example/gtm-sync, args: [worker]}]}
";

/// An installation on a PostgreSQL database of its own, reached through a proxy.
pub(super) async fn on_postgres() -> (Installation, Proxy) {
    let mut installation = Installation::new().await;
    let name = support::fresh("operator").replace('-', "_");
    let base = support::postgres_url();
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.expect("PostgreSQL");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("created");
    drop(client);
    connection.await.expect("no panic").expect("closed");
    let mut url = url::Url::parse(&base).expect("a URL");
    let target = format!("{}:{}", url.host_str().expect("host"), url.port().unwrap_or(5432));
    let proxy = Proxy::to(&target).await;
    url.set_host(Some("127.0.0.1")).expect("host");
    url.set_port(Some(proxy.address.port())).expect("port");
    url.set_path(&name);
    installation.settings.store = StoreSettings::of(url.to_string());
    installation.store = store::open(url.as_str()).await.expect("opens");
    (installation, proxy)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn the_workers_deployment_is_applied_and_their_absence_is_shown_on_tenants() {
    let (installation, _proxy) = on_postgres().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let template = directory.path().join("worker.yaml");
    std::fs::write(&template, TEMPLATE).expect("template");
    let operator = installation.operator_with(|settings| settings.worker_template = Some(template)).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let shown = |status: &'static str, reason: &'static str| {
        let api = installation.tenants();
        eventually(reason, SOON, move || {
            let api = api.clone();
            async move {
                let found = api.get("acme").await.ok()?.status?;
                is(&found.conditions, "WorkersAvailable", status, reason).then_some(found)
            }
        })
    };
    let status = shown("False", "NoPodsReady").await;
    assert!(!is(&status.conditions, "Ready", "False", "NoPodsReady"), "Ready never depends on pods");
    let deployments: Api<Deployment> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let one = || async { deployments.list(&Default::default()).await.ok()?.items.pop() };
    let applied = eventually("it is applied", SOON, one).await;
    deployments.delete(&applied.name_any(), &Default::default()).await.expect("deleted by hand");
    let again =
        eventually("it is applied again", SOON, || async { one().await.filter(|it| it.uid() != applied.uid()) });
    assert_eq!(again.await.name_any(), applied.name_any());
    let kubelet = Kubelet::start(&installation);
    shown("True", "PodsReady").await;
    drop(kubelet);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn pods_on_sqlite_are_refused_with_the_way_out() {
    let installation = Installation::new().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let template = directory.path().join("worker.yaml");
    std::fs::write(&template, TEMPLATE).expect("template");
    let operator = installation.operator_with(|settings| settings.worker_template = Some(template)).await;
    let error = format!("{:#}", operator.failed().await);
    assert!(error.contains("workers cannot be deployed on SQLite") && error.contains("PostgreSQL"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn with_the_store_away_at_the_start_and_later_the_operator_waits_says_so_and_goes_on_by_itself() {
    let (installation, proxy) = on_postgres().await;
    proxy.cut();
    let operator = installation.operator().await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    eventually("readiness names the store", SOON, || async {
        let (ready, report) = installation.readiness().await?;
        (!ready && report.contains("store: store unavailable")).then_some(())
    })
    .await;
    proxy.mend();
    installation.tenant_ready("acme", "True", "Scheduled").await;

    proxy.cut();
    installation.apply_tenant("acme", json!({"tenantId": "acme", "schedules": ["0 5 * * *"]})).await;
    installation.tenant_ready("acme", "False", "StoreUnavailable").await;
    proxy.mend();
    installation.tenant_ready("acme", "True", "Scheduled").await;
    operator.stop().await;
}
