//! Bad days: Temporal or the store away at start, at deletion, for a moment; a Temporal namespace of another installation.

use kube::ResourceExt as _;
use serde_json::json;
use temporalio_common::protos::temporal::api::schedule::v1::Schedule;

use super::{
    harness::{Installation, SOON, is},
    restarts::connected,
    workers::on_postgres,
};
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
    installation.force_delete_tenant("goes").await;
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("goes").await.ok()?.is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn with_temporal_and_store_away_for_a_moment_applied_objects_are_not_written_and_one_event_tells_of_each() {
    let (installation, store) = on_postgres().await;
    let temporal = Proxy::to(&support::temporal_address()).await;
    let operator = installation
        .operator_with(|settings| {
            settings.temporal.temporal_address = temporal.address.to_string();
            settings.resync_seconds = 1;
        })
        .await;
    let yearly = json!(["0 0 1 1 *"]);
    installation.apply_tenant("acme", json!({"tenantId": "acme", "schedules": yearly})).await;
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    installation.apply_connector("hubspot", json!({"sync": {"schedules": yearly}})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    connected(&installation, "hubspot").await;
    installation.connector_condition("hubspot", "Connected", "True", "Authenticated").await;
    eventually("the tenant counts it", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        (status.connectors?.connected == 1).then_some(())
    })
    .await;
    let versions = || async {
        let tenant = installation.tenants().get("acme").await.expect("there").resource_version();
        (tenant, installation.connectors().get("hubspot").await.expect("there").resource_version())
    };
    let looked_again = || async {
        for kind in ["TenantSchedule", "Connector"] {
            installation.looked_again(kind, 2).await;
        }
    };
    looked_again().await;
    let before = versions().await;

    store.cut();
    temporal.cut();
    for kind in ["TenantSchedule", "Connector"] {
        eventually(&format!("looks at the {kind} in vain"), SOON, || async {
            (installation.reconciles_with(kind, "Unavailable").await? >= 3).then_some(())
        })
        .await;
    }
    eventually("the outage is known", SOON, || async {
        let (ready, report) = installation.readiness().await?;
        (!ready && report.contains("temporal: Temporal") && report.contains("store: store")).then_some(())
    })
    .await;
    assert_eq!(versions().await, before, "in the outage");
    store.mend();
    temporal.mend();
    eventually("ready", SOON, || async { installation.readiness().await?.0.then_some(()) }).await;
    looked_again().await;
    assert_eq!(versions().await, before, "after it");
    let told = async |reason: &str| {
        installation.events(&installation.namespace).await.iter().filter(|of| *of == reason).count()
    };
    eventually("both are told to be back", SOON, || async { (told("DependencyRecovered").await == 2).then_some(()) })
        .await;
    assert_eq!(told("DependencyUnavailable").await, 2);
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
