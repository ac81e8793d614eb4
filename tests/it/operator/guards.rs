//! What must not spread: an object that cannot be read, a call that hangs, CRDs that are missing, an outage, and the API
//! server's death in the middle of a reconcile.

use std::time::Duration;

use axum::http::Method;
use gtm_sync::{
    health::{self, Liveness, Readiness},
    metrics::Metrics,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    connectors::with_tenant,
    gate::Gate,
    harness::{Installation, SOON, is},
};
use crate::support::{self, api_server::ApiServer, eventually, proxy::Proxy};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn one_unreadable_object_stalls_nobody() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    // As if its CRD had been applied without rules, and somebody had stored a list.
    gate.garble("\"tenantId\":\"garbled\"", "\"tenantId\":[\"garbled\"]");
    installation.apply_tenant("garbled", json!({"tenantId": "garbled"})).await;
    installation.apply_connector("garbled", json!({"tenantId": "garbled"})).await;
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    installation.tenant_ready("garbled", "False", "InvalidSpec").await;
    installation.connector_ready("garbled", "False", "InvalidSpec").await;
    installation.apply_secret("crm", json!({"accessToken": "x"})).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    installation.delete_connector("hubspot").await;
    eventually("a good one beside them also goes", SOON, || async {
        let (tenant, connector) = ("acme".parse().ok()?, "hubspot".parse().ok()?);
        installation.store.connector(&tenant, &connector).await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(installation.describe("scheduled-sync-garbled").await.is_none());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn an_object_that_became_unreadable_is_deleted_once_somebody_says_so() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    installation.apply_tenant("garbled", json!({"tenantId": "garbled"})).await;
    installation.tenant_ready("garbled", "True", "Scheduled").await;
    gate.garble("\"tenantId\":\"garbled\"", "\"tenantId\":[\"garbled\"]");
    installation.delete_tenant("garbled").await;
    eventually("it says why it waits", SOON, || async {
        let status = installation.tenants().get("garbled").await.ok()?.status?;
        is(&status.conditions, "Stalled", "True", "InvalidSpec").then_some(())
    })
    .await;
    installation.force_delete_tenant("garbled").await;
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("garbled").await.ok()?.is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_hung_call_stays_its_objects_own() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    gate.hold(None, "/tenantschedules/hung");
    installation.apply_tenant("hung", json!({"tenantId": "hung"})).await;
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    gate.holds_one().await;
    for tenant in ["one", "two"] {
        installation.apply_tenant(tenant, json!({"tenantId": tenant})).await;
        installation.tenant_ready(tenant, "True", "Scheduled").await;
    }
    assert!(installation.describe("scheduled-sync-hung").await.is_none(), "its finalizer comes first");
    gate.reopen();
    installation.tenant_ready("hung", "True", "Scheduled").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_new_operator_that_lists_connectors_first_takes_no_schedule_away() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", json!({"sync": {"schedules": ["0 */6 * * *"]}})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let before = installation.describe("sync-acme-hubspot").await.expect("its own schedule");
    operator.stop().await;
    let gate = Gate::open().await;
    // The list, not the look for CRDs, which asks for one.
    gate.hold(Some(Method::GET), "/tenantschedules?&limit=100");
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    gate.holds_one().await;
    // Another one is not reconciled either; were any, they would be now.
    installation.apply_connector("later", json!({})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = installation.connectors().get("later").await.expect("there").status.unwrap_or_default();
    assert_eq!(later.conditions, []);
    gate.reopen();
    installation.connector_ready("later", "True", "Configured").await;
    let object = installation.connectors().get("hubspot").await.expect("there");
    assert!(is(&object.status.expect("status").conditions, "Ready", "True", "Configured"));
    let after = installation.describe("sync-acme-hubspot").await.expect("still there");
    assert_eq!(after.conflict_token, before.conflict_token, "nobody touched it");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn without_crds_the_operator_waits_and_says_so() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    gate.hide("/apis/sync.gtmclarity.io/");
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    eventually("the metric says that CRDs are missing", SOON, || async {
        (installation.metric("gtm_sync_crd_missing").await? == 1).then_some(())
    })
    .await;
    let (ready, report) = installation.readiness().await.expect("it serves");
    assert!(!ready && report.contains("kubernetes: CRDs of sync.gtmclarity.io"), "{report}");
    let (live, _) = installation.liveness().await.expect("it serves");
    assert!(live && !operator.has_ended(), "waiting is no fault");
    assert_eq!(installation.events(&installation.namespace).await, [""; 0], "the API server answers");
    gate.reopen();
    installation.tenant_ready("acme", "True", "Scheduled").await;
    assert_eq!(installation.metric("gtm_sync_crd_missing").await, Some(0));
    eventually("ready", SOON, || async { installation.readiness().await?.0.then_some(()) }).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, etcd"]
async fn the_api_server_killed_between_a_schedule_and_its_status_leaves_one_schedule_and_a_right_status() {
    let mut server = ApiServer::start().await;
    let mut installation = Installation::new().await;
    installation.rebuild_on(server.config()).await;
    let gate = Gate::to(server.config()).await;
    gate.hold(Some(Method::PATCH), "/tenantschedules/acme/status");
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let operator = installation.operator_in(gate.config(), |_| {}).await;
    let created =
        eventually("the schedule", SOON, || async { installation.describe("scheduled-sync-acme").await }).await;
    gate.holds_one().await;
    let status = installation.tenants().get("acme").await.expect("there").status.unwrap_or_default();
    assert_eq!(status.conditions, [], "not written");
    server.kill();
    // The request is lost with the server; whatever is asked from now on reaches nobody.
    gate.reopen();
    eventually("not ready", SOON, || async {
        let (ready, report) = installation.readiness().await?;
        (!ready && report.contains("kubernetes")).then_some(())
    })
    .await;
    server.resume();
    server.ready().await;
    let object = installation.tenant_ready("acme", "True", "Scheduled").await;
    let shown = object.status.and_then(|status| status.schedule).map(|schedule| schedule.id);
    assert_eq!(shown.as_deref(), Some("scheduled-sync-acme"));
    let now = installation.describe("scheduled-sync-acme").await.expect("still there");
    let times = |of: &super::harness::Described| of.info.as_ref().map(|info| (info.create_time, info.update_time));
    assert_eq!(times(&now), times(&created), "the same one, and untouched");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_hung_loop_ends_liveness_and_an_outage_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    // Another test of this binary may have installed it before: that is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let (liveness, metrics) = (Liveness::default(), Metrics::default());
    let served = health::serve(address, liveness.clone(), Readiness::new(metrics.clone()), metrics.registry());
    let serving = tokio::spawn(served);
    let pulse = liveness.pulse("a loop", Duration::from_millis(50));
    let live = || async { Some(reqwest::get(format!("http://{address}/livez")).await.ok()?.status().as_u16()) };
    eventually("a loop that does not go round is told", SOON, || async { (live().await? == 503).then_some(()) }).await;
    drop(pulse);
    assert_eq!(live().await, Some(200));
    serving.abort();

    let installation = Installation::new().await;
    let (gate, temporal) = (Gate::open().await, Proxy::to(&support::temporal_address()).await);
    let change = |settings: &mut gtm_sync::settings::OperatorSettings| {
        settings.temporal.temporal_address = temporal.address.to_string();
        settings.resync_seconds = 1;
    };
    let operator = installation.operator_in(gate.config(), change).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    gate.shut();
    temporal.cut();
    eventually("the outage is known", SOON, || async {
        let (ready, report) = installation.readiness().await?;
        (!ready && report.contains("temporal: Temporal unavailable")).then_some(())
    })
    .await;
    assert_eq!(installation.liveness().await, Some((true, "ok\n".to_owned())));
    operator.stop().await;
}
