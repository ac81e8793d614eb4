//! Temporal servers that a fleet must bear with: one that allows few requests a second, one that has lost everything.

use std::time::Duration;

use serde_json::json;

use super::harness::Installation;
use crate::support::{servers::TemporalServer, stack};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal cli"]
async fn a_server_that_asks_to_slow_down_makes_progress_slow_and_fails_nobody() {
    // A burst is twice that.
    let server = TemporalServer::start_with(&["frontend.namespaceRPS=3"]).await;
    let installation = Installation::at(&server.address).await;
    let operator = installation.operator().await;
    let tenants: Vec<_> = (0..6).map(|number| format!("tenant-{number}")).collect();
    for tenant in &tenants {
        installation.apply_tenant(tenant, json!({"tenantId": tenant})).await;
    }
    for tenant in &tenants {
        let object = installation.tenant_ready_within(Duration::from_secs(180), tenant, "True", "Scheduled").await;
        assert!(object.status.is_some_and(|status| status.schedule.is_some()));
        let told = installation.events(tenant).await;
        assert!(told.iter().all(|reason| reason == "ScheduleCreated"), "{tenant}: {told:?}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal cli"]
async fn a_temporal_that_lost_everything_gets_every_schedule_back_and_paused_ones_paused() {
    let mut server = TemporalServer::start().await;
    let installation = Installation::at(&server.address).await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.apply_tenant("runs", json!({"tenantId": "runs"})).await;
    installation.apply_tenant("rests", json!({"tenantId": "rests", "suspend": true})).await;
    installation.tenant_ready("runs", "True", "Scheduled").await;
    installation.tenant_ready("rests", "True", "Suspended").await;
    server.kill();
    server.forget();
    server.resume();
    server.ready().await;
    stack::register_namespace(&server.address, installation.temporal.namespace()).await;
    let paused = |schedule: &temporalio_common::protos::temporal::api::schedule::v1::Schedule| {
        schedule.state.as_ref().is_some_and(|state| state.paused)
    };
    installation.schedule("scheduled-sync-runs", "there again", |schedule| !paused(schedule)).await;
    installation.schedule("scheduled-sync-rests", "there again, paused", paused).await;
    let info = installation.describe("scheduled-sync-rests").await.and_then(|found| found.info).expect("there");
    assert_eq!((info.update_time, info.action_count), (None, 0), "paused from its first moment");
    operator.stop().await;
}
