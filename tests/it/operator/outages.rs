//! Bad days: Temporal or the store away at start, at deletion; a Temporal namespace of another installation.

use serde_json::json;
use temporalio_common::protos::temporal::api::schedule::v1::Schedule;

use super::harness::{Installation, SOON, is};
use crate::support::{self, eventually, proxy::Proxy};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn with_temporal_away_at_the_start_the_operator_waits_says_so_and_goes_on_by_itself() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    proxy.cut();
    let operator = installation.operator_at(&proxy.address.to_string()).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let object = installation.tenant_ready("acme", "False", "TemporalUnavailable").await;
    assert!(is(&object.status.expect("status").conditions, "Reconciling", "True", "ProgressingWithRetry"));
    let (ready, report) = eventually("readiness", SOON, || installation.readiness()).await;
    assert!(!ready && report.contains("temporal: Temporal unavailable"), "{report}");
    proxy.mend();
    installation.tenant_ready("acme", "True", "Scheduled").await;
    eventually("ready", SOON, || async { installation.readiness().await?.0.then_some(()) }).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn with_temporal_away_an_edit_is_accepted_waits_says_so_and_arrives_by_itself() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    let operator = installation.operator_at(&proxy.address.to_string()).await;
    let spec = |cron: &str| json!({"tenantId": "acme", "schedules": [cron]});
    installation.apply_tenant("acme", spec("0 5 * * *")).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    proxy.cut();
    installation.apply_tenant("acme", spec("0 6 * * *")).await;
    let object = installation.tenant_ready("acme", "False", "TemporalUnavailable").await;
    assert!(is(&object.status.expect("status").conditions, "Reconciling", "True", "ProgressingWithRetry"));
    let hour = |schedule: &Schedule| schedule.spec.as_ref().map(|spec| spec.structured_calendar[0].hour[0].start);
    installation.schedule("scheduled-sync-acme", "as before", |schedule| hour(schedule) == Some(5)).await;
    proxy.mend();
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.schedule("scheduled-sync-acme", "as edited", |schedule| hour(schedule) == Some(6)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn with_temporal_away_deletion_waits_says_so_and_ends_by_itself() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    let operator = installation.operator_at(&proxy.address.to_string()).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    proxy.cut();
    installation.delete_tenant("acme").await;
    eventually("deletion says why it waits", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        is(&status.conditions, "Ready", "False", "CleanupBlocked").then_some(())
    })
    .await;
    installation.event("acme", "CleanupBlocked").await;
    assert!(installation.describe("scheduled-sync-acme").await.is_some());
    proxy.mend();
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("acme").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(installation.describe("scheduled-sync-acme").await.is_none());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn with_temporal_away_the_annotation_ends_a_deletion_and_applied_objects_keep_their_conditions() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    let operator = installation
        .operator_with(|settings| {
            settings.temporal.temporal_address = proxy.address.to_string();
            settings.resync_seconds = 1;
        })
        .await;
    for tenant in ["stays", "goes"] {
        installation.apply_tenant(tenant, json!({"tenantId": tenant})).await;
        installation.tenant_ready(tenant, "True", "Scheduled").await;
    }
    proxy.cut();
    installation.delete_tenant("goes").await;
    eventually("deletion waits", SOON, || async {
        let status = installation.tenants().get("goes").await.ok()?.status?;
        is(&status.conditions, "Ready", "False", "CleanupBlocked").then_some(())
    })
    .await;
    installation.event(&installation.namespace, "DependencyUnavailable").await;
    let stays = installation.tenants().get("stays").await.expect("there");
    assert!(is(&stays.status.expect("status").conditions, "Ready", "True", "Scheduled"), "R28: no flip");
    let force = json!({"metadata": {"annotations": {"sync.gtmclarity.io/force-delete": "true"}}});
    let patched = installation.tenants().patch("goes", &Default::default(), &kube::api::Patch::Merge(force)).await;
    patched.expect("annotated");
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("goes").await.ok()?.is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_temporal_namespace_of_another_installation_is_not_touched() {
    let installation = Installation::new().await;
    installation.temporal.ensure_installation("somebody-else").await.expect("marked");
    let operator = installation.operator().await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "False", "TemporalUnavailable").await;
    let (ready, report) = eventually("readiness", SOON, || async {
        installation.readiness().await.filter(|(_, report)| report.contains("somebody-else"))
    })
    .await;
    assert!(!ready, "{report}");
    assert!(installation.describe("scheduled-sync-acme").await.is_none());
    operator.stop().await;
}
