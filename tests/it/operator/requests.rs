//! One-shot requests of tenants on a real store and Temporal: once, whatever dies between request, effect and record.

use std::sync::LazyLock;

use gtm_sync::{
    clock,
    crd::{Handled, TenantSchedule},
};
use jiff::{Timestamp, ToSpan as _};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    gate::Gate,
    harness::{Installation, SOON},
};
use crate::support::{self, eventually, proxy::Proxy};

const SCHEDULE: &str = "scheduled-sync-acme";

/// Hourly, and not while a test runs.
static HOURLY: LazyLock<String> = LazyLock::new(|| format!("{} * * * *", (clock::now().as_second() / 60 + 30) % 60));

/// Hourly ticks without spread, and a request.
async fn ask(installation: &Installation, requests: Value) {
    let spec = json!({"tenantId": "acme", "schedules": [*HOURLY], "spread": {"window": "0s"},
        "overlapPolicy": "AllowAll", "requests": requests});
    installation.apply_tenant("acme", spec).await;
}

/// The three hourly ticks before the last hour.
fn three_hours(token: &str) -> Value {
    let hour = clock::now().as_second() / 3_600 * 3_600;
    let to = Timestamp::from_second(hour).expect("a time") - 1.hour();
    json!({"backfill": {"token": token, "from": (to - 3.hours()).to_string(), "to": to.to_string()}})
}

fn handled(object: &TenantSchedule) -> Option<Handled> {
    object.status.as_ref()?.last_handled.as_ref()?.backfill.clone()
}

async fn mirrored(installation: &Installation, token: &str) -> Handled {
    let api = installation.tenants();
    eventually(&format!("{token} is mirrored"), SOON, || async {
        handled(&api.get("acme").await.ok()?).filter(|handled| handled.token == token)
    })
    .await
}

async fn actions(installation: &Installation) -> i64 {
    installation.describe(SCHEDULE).await.and_then(|found| found.info).map_or(0, |info| info.action_count)
}

/// Waits until so many runs were started, and sees that there are no more after the operator has looked again.
async fn started(installation: &Installation, count: i64) {
    eventually(&format!("{count} runs"), SOON, || async { (actions(installation).await >= count).then_some(()) }).await;
    installation.looked_again("TenantSchedule", 2).await;
    assert_eq!(actions(installation).await, count);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_backfill_runs_the_ticks_of_its_range_once_and_nothing_repeats_it() {
    let installation = Installation::new().await;
    let looking = |settings: &mut gtm_sync::settings::OperatorSettings| settings.resync_seconds = 1;
    let operator = installation.operator_with(looking).await;
    // What a new object brings along is noted, not done.
    ask(&installation, three_hours("from-git")).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    mirrored(&installation, "from-git").await;
    assert_eq!(actions(&installation).await, 0);

    ask(&installation, three_hours("outage-1")).await;
    let done = mirrored(&installation, "outage-1").await;
    assert!(done.time.is_some() && done.outcome.is_none(), "{done:?}");
    installation.event("acme", "BackfillStarted").await;
    started(&installation, 3).await;

    // A status that was lost, whole or in part, repeats nothing ...
    operator.stop().await;
    let lost = Patch::Merge(json!({"status": {"lastHandled": null}}));
    installation.tenants().patch_status("acme", &PatchParams::default(), &lost).await.expect("status lost");
    let operator = installation.operator_with(looking).await;
    mirrored(&installation, "outage-1").await;
    started(&installation, 3).await;
    operator.stop().await;

    // ... nor does a cluster that is rebuilt from Git on the same store and Temporal.
    let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    installation.delete_tenant("acme").await;
    installation.tenants().patch("acme", &PatchParams::default(), &released).await.expect("gone");
    ask(&installation, three_hours("outage-1")).await;
    let operator = installation.operator_with(looking).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    started(&installation, 3).await;

    ask(
        &installation,
        json!({"backfill": {"token": "tomorrow",
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}}),
    )
    .await;
    mirrored(&installation, "tomorrow").await;
    started(&installation, 27).await;
    let future = Timestamp::from_second(clock::now().as_second()).expect("a time") + 2.hours();
    let (from, to) = ((future - 1.hour()).to_string(), future.to_string());
    ask(&installation, json!({"backfill": {"token": "too-early", "from": from, "to": to}})).await;
    assert_eq!(mirrored(&installation, "too-early").await.outcome.as_deref(), Some("InFuture"));
    installation.event("acme", "BackfillRefused").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn an_operator_killed_between_the_effect_of_a_request_and_its_record_repeats_nothing() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    ask(&installation, json!({"trigger": {"token": "old"}})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    operator.stop().await;

    let gate = Gate::open().await;
    gate.hold(Some(axum::http::Method::PATCH), "/tenantschedules/acme/status");
    let mut requests = three_hours("outage-1");
    requests["trigger"] = json!({"token": "now"});
    ask(&installation, requests).await;
    let operator = installation.operator_in(gate.config(), |settings| settings.resync_seconds = 1).await;
    gate.holds_one().await;
    eventually("its effects", SOON, || async { (actions(&installation).await == 3).then_some(()) }).await;
    operator.kill().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    mirrored(&installation, "outage-1").await;
    started(&installation, 3).await;
    let ticks = installation.workflows("scheduledSyncWorkflow").await;
    assert_eq!(ticks.iter().filter(|id| id.ends_with("-now")).count(), 1, "{ticks:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_backfill_whose_answers_are_lost_is_one_on_the_server_and_one_asked_for_in_an_outage_comes_after_it() {
    let installation = Installation::new().await;
    let proxy = Proxy::to(&support::temporal_address()).await;
    let operator = installation
        .operator_with(|settings| {
            settings.temporal.temporal_address = proxy.address.to_string();
            settings.resync_seconds = 1;
        })
        .await;
    ask(&installation, json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    proxy.cut();
    ask(&installation, three_hours("in-the-outage")).await;
    eventually("the outage is known", SOON, || async { (!installation.readiness().await?.0).then_some(()) }).await;
    proxy.mend();
    mirrored(&installation, "in-the-outage").await;
    started(&installation, 3).await;

    // As if every answer but the last had been lost.
    let hour = Timestamp::from_second(clock::now().as_second() / 3_600 * 3_600).expect("a time") - 24.hours();
    let twice = gtm_sync::temporal::schedules::Backfill {
        schedule_id: SCHEDULE.to_owned(),
        from: hour - 2.hours(),
        to: hour,
        overlap: None,
        request_id: "one wish".to_owned(),
    };
    for _ in 0..3 {
        installation.temporal.backfill_schedule(&twice).await.expect("taken");
    }
    started(&installation, 5).await;
    operator.stop().await;
}
