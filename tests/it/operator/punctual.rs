//! Ticks that do not start, and how many are planned.

use gtm_sync::clock;
use jiff::{Timestamp, ToSpan as _};
use kube::{Api, api::Patch};
use serde_json::json;

use super::harness::{Installation, SOON, is};
use crate::support::eventually;

/// As if the server had promised a tick an hour ago and not started it; until the operator has seen that, since a look
/// that is under way tells the true tick again.
async fn promise<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let tick = Timestamp::from_second(clock::now().as_second()).expect("a time") - 1.hour();
    let patch = Patch::Merge(json!({"status": {"nextRunTime": tick.to_string()}}));
    eventually("an overdue tick is seen", SOON, || async {
        let object = serde_json::to_value(api.get(name).await.ok()?).expect("an object");
        if object["status"]["overdueSince"].is_string() {
            return Some(());
        }
        api.patch_status(name, &Default::default(), &patch).await.expect("patched");
        None
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_tick_that_does_not_start_is_overdue_until_a_run_starts() {
    let installation = Installation::new().await;
    let operator =
        installation.operator_with(|settings| (settings.resync_seconds, settings.overdue_seconds) = (1, 1)).await;
    let spread = json!({"window": "0s"});
    installation.apply_tenant("acme", json!({"tenantId": "acme", "spread": spread})).await;
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    installation.apply_connector("hubspot", json!({"sync": {"schedules": ["0 */6 * * *"]}})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_condition("hubspot", "Synced", "True", "InSync").await;
    promise(&installation.tenants(), "acme").await;
    promise(&installation.connectors(), "hubspot").await;
    let tenant_healthy = |status: &'static str, reason: &'static str| {
        let api = installation.tenants();
        async move {
            eventually(&format!("Healthy={status}/{reason}"), SOON, || async {
                is(&api.get("acme").await.ok()?.status?.conditions, "Healthy", status, reason).then_some(())
            })
            .await;
        }
    };
    tenant_healthy("False", "Overdue").await;
    installation.connector_condition("hubspot", "Healthy", "False", "Overdue").await;
    for name in ["acme", "hubspot"] {
        installation.event(name, "RunOverdue").await;
    }
    eventually("the metric counts both", SOON, || async {
        (installation.metric("gtm_sync_schedules_overdue").await? == 2).then_some(())
    })
    .await;
    eventually("and when the next one comes", SOON, || async {
        let next = installation.tenants().get("acme").await.ok()?.status?.next_run_time?;
        (next.0 > clock::now()).then_some(())
    })
    .await;

    installation.trigger("scheduled-sync-acme").await;
    installation.trigger("sync-acme-hubspot").await;
    installation.connector_condition("hubspot", "Healthy", "Unknown", "NoSyncYet").await;
    eventually("the tenant is not overdue any more", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        (status.overdue_since.is_none() && !is(&status.conditions, "Healthy", "False", "Overdue")).then_some(())
    })
    .await;
    let told = installation.events("acme").await.into_iter().filter(|reason| reason == "RunOverdue").count();
    assert_eq!(told, 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn planned_starts_are_added_up_as_the_server_plans_them() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let every_minute = json!({"tenantId": "acme", "schedules": ["* * * * *"], "spread": {"window": "0s"}});
    installation.apply_tenant("acme", every_minute).await;
    installation
        .apply_tenant("paused", json!({"tenantId": "paused", "schedules": ["* * * * *"], "suspend": true}))
        .await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let planned = || async {
        let url = format!("http://{}/metrics", installation.settings.health.health_address);
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let of = "gtm_sync_planned_starts_per_second{by=\"schedules\"} ";
        text.lines().find_map(|line| line.strip_prefix(of)?.parse::<f64>().ok())
    };
    eventually("one start a minute", SOON, || async { planned().await.filter(|of| (of * 60.0 - 1.0).abs() < 0.01) })
        .await;
    operator.stop().await;
}
