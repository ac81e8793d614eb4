//! Schedules in Temporal whose object is gone: told, waited for, deleted; and those that stay.

use kube::api::Patch;
use serde_json::json;

use super::harness::{Installation, Running, SOON};
use crate::support::{self, api_server::ApiServer, eventually, proxy::Proxy};

const GRACE: u64 = 4;

async fn sweeping(installation: &Installation) -> Running {
    installation.operator_with(|settings| (settings.resync_seconds, settings.orphan_grace_seconds) = (1, GRACE)).await
}

/// Tenants with a schedule each.
async fn tenants(installation: &Installation, names: &[&str]) {
    for name in names {
        installation.apply_tenant(name, json!({"tenantId": name})).await;
    }
    for name in names {
        installation.tenant_ready(name, "True", "Scheduled").await;
    }
}

/// Ends an object without a word to Temporal.
async fn lose(installation: &Installation, name: &str) {
    let without = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    installation.delete_tenant(name).await;
    installation.tenants().patch(name, &Default::default(), &without).await.expect("released by hand");
}

async fn gone(installation: &Installation, schedule: &str) {
    eventually(&format!("{schedule} is deleted"), SOON, || async {
        installation.describe(schedule).await.is_none().then_some(())
    })
    .await;
}

/// Waits for the end of the pass that deleted: all that were first seen together were judged in it.
async fn pass_over(installation: &Installation) {
    eventually("no orphan is left", SOON, || async {
        (installation.metric("gtm_sync_schedule_orphans").await? == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_schedule_that_lost_its_object_is_told_and_deleted_after_its_grace_and_others_stay() {
    let installation = Installation::new().await;
    let operator = sweeping(&installation).await;
    tenants(&installation, &["stays", "forced"]).await;
    installation.apply_tenant("left", json!({"tenantId": "left", "deletionPolicy": "Orphan"})).await;
    installation.tenant_ready("left", "True", "Scheduled").await;
    installation.delete_tenant("left").await;
    installation.event("left", "ScheduleLeft").await;
    let adopted = json!({"tenantId": "left", "conflictPolicy": "Adopt"});
    operator.stop().await;

    lose(&installation, "forced").await;
    let operator = sweeping(&installation).await;
    installation.event(&installation.namespace, "ScheduleOrphaned").await;
    gone(&installation, "scheduled-sync-forced").await;
    installation.event(&installation.namespace, "ScheduleDeleted").await;
    pass_over(&installation).await;
    for stays in ["scheduled-sync-stays", "scheduled-sync-left"] {
        assert!(installation.describe(stays).await.is_some(), "{stays}");
    }
    let claim = installation.store.tenant_claim(&"forced".parse().expect("id")).await.expect("read");
    assert_eq!(claim.map(|claim| claim.owner.name).as_deref(), Some("forced"), "the claim stays with its namespace");
    installation.apply_tenant("another-name", json!({"tenantId": "forced"})).await;
    installation.tenant_ready("another-name", "True", "Scheduled").await;

    // The object is back: what was left is its own again, and goes with it.
    installation.apply_tenant("left", adopted).await;
    installation.tenant_ready("left", "True", "Scheduled").await;
    installation.delete_tenant("left").await;
    gone(&installation, "scheduled-sync-left").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn with_no_object_in_view_no_schedule_is_deleted() {
    let installation = Installation::new().await;
    let operator = sweeping(&installation).await;
    tenants(&installation, &["one", "two"]).await;
    operator.stop().await;
    lose(&installation, "one").await;
    lose(&installation, "two").await;
    let operator = sweeping(&installation).await;
    installation.event(&installation.namespace, "SweepSuspicious").await;
    installation.apply_tenant("one", json!({"tenantId": "one"})).await;
    installation.tenant_ready("one", "True", "Scheduled").await;
    gone(&installation, "scheduled-sync-two").await;
    assert!(installation.describe("scheduled-sync-one").await.is_some(), "its object came back");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_connectors_schedule_whose_row_is_gone_already_is_deleted_and_a_taken_over_one_is_not() {
    let installation = Installation::new().await;
    let operator = sweeping(&installation).await;
    tenants(&installation, &["acme"]).await;
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    for name in ["stays", "leaks"] {
        installation.apply_connector(name, json!({"sync": {"schedules": ["0 * * * *"]}})).await;
        installation.connector_condition(name, "Synced", "True", "InSync").await;
    }
    operator.stop().await;
    // As a removal that failed between the registry and Temporal left it.
    let uid = installation.connectors().get("leaks").await.expect("there").metadata.uid.expect("a uid");
    let ids = ("acme".parse().expect("id"), "leaks".parse().expect("id"));
    installation.store.remove_connector(&ids.0, &ids.1, &uid).await.expect("marked");
    installation.delete_connector("leaks").await;
    // Made by one name, taken over by another.
    lose(&installation, "acme").await;
    let claim = installation.store.tenant_claim(&ids.0).await.expect("read").expect("held");
    installation.store.remove_tenant(&ids.0, &claim.owner).await.expect("released");
    installation.apply_tenant("renamed", json!({"tenantId": "acme", "conflictPolicy": "Adopt"})).await;
    let operator = sweeping(&installation).await;
    installation.tenant_ready("renamed", "True", "Scheduled").await;
    gone(&installation, "sync-acme-leaks").await;
    pass_over(&installation).await;
    assert!(installation.describe("scheduled-sync-acme").await.is_some(), "adopted");
    assert!(installation.describe("sync-acme-stays").await.is_some());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_schedule_whose_object_was_forced_away_while_temporal_was_away_is_deleted_once_it_is_back() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    let operator = installation
        .operator_with(|settings| {
            settings.temporal.temporal_address = proxy.address.to_string();
            (settings.resync_seconds, settings.orphan_grace_seconds) = (1, 1);
        })
        .await;
    tenants(&installation, &["stays", "forced"]).await;
    proxy.cut();
    installation.force_delete_tenant("forced").await;
    installation.delete_tenant("forced").await;
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("forced").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(installation.describe("scheduled-sync-forced").await.is_some(), "nobody could delete it");
    proxy.mend();
    gone(&installation, "scheduled-sync-forced").await;
    pass_over(&installation).await;
    assert!(installation.describe("scheduled-sync-stays").await.is_some());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, etcd"]
async fn two_clusters_on_one_store_and_temporal_sweep_nothing_of_each_other_and_one_of_them_holds_a_tenant() {
    let server = ApiServer::start().await;
    let mut east = Installation::new().await;
    east.settings.temporal.cluster_id = Some("east".to_owned());
    let west = east.in_another_cluster("west", server.config()).await;
    let clusters = [(&east, "acme", "east-stray"), (&west, "globex", "west-stray")];
    let mut operators = Vec::new();
    for (cluster, tenant, stray) in clusters {
        operators.push(sweeping(cluster).await);
        tenants(cluster, &[tenant, stray]).await;
        cluster.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
        cluster.apply_connector(tenant, json!({"tenantId": tenant, "sync": {"schedules": ["0 0 1 1 *"]}})).await;
        cluster.connector_condition(tenant, "Synced", "True", "InSync").await;
    }
    for operator in operators.drain(..) {
        operator.stop().await;
    }
    // Of each, something must go: then the sweeps have looked at all that was there.
    for (cluster, _, stray) in clusters {
        lose(cluster, stray).await;
        operators.push(sweeping(cluster).await);
    }
    for (cluster, tenant, stray) in clusters {
        let prefix = if tenant == "acme" { "east" } else { "west" };
        gone(cluster, &format!("{prefix}.scheduled-sync-{stray}")).await;
        pass_over(cluster).await;
    }
    for (cluster, tenant, _) in clusters {
        let prefix = if tenant == "acme" { "east" } else { "west" };
        for schedule in [format!("{prefix}.scheduled-sync-{tenant}"), format!("{prefix}.sync-{tenant}-{tenant}")] {
            assert!(cluster.describe(&schedule).await.is_some(), "{schedule}");
        }
        let row = cluster.store.connector(&tenant.parse().expect("id"), &tenant.parse().expect("id")).await;
        assert!(row.expect("the store answers").is_some(), "the registry row of {tenant}");
    }

    west.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    west.tenant_ready("acme", "False", "TenantConflict").await;
    assert!(west.describe("west.scheduled-sync-acme").await.is_none());
    for operator in operators {
        operator.stop().await;
    }
}
