//! TenantSchedule: its schedule in Temporal, its claim, its deletion.

use gtm_sync::crd::TenantSchedule;
use kube::ResourceExt as _;
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::ScheduleOverlapPolicy;

use super::harness::{Installation, SOON, free_port, input, metric_at, starts};
use crate::support::eventually;

const SCHEDULE: &str = "scheduled-sync-acme";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_tenant_schedule_becomes_a_schedule_with_all_that_its_spec_says() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let spec = json!({"tenantId": "acme", "schedules": ["15 */6 * * *"], "timeZone": "Europe/Berlin",
        "spread": {"window": "90s"}, "overlapPolicy": "BufferOne", "catchUpWindow": "2h", "suspend": true});
    installation.apply_tenant("acme", spec).await;
    let object = installation.tenant_ready("acme", "True", "Suspended").await;
    assert!(object.status.as_ref().is_some_and(|status| status.paused && status.next_run_time.is_none()));

    let described = installation.describe(SCHEDULE).await.expect("a schedule");
    let schedule = described.schedule.expect("its content");
    let (spec, policies) = (schedule.spec.clone().expect("spec"), schedule.policies.expect("policies"));
    let calendar = spec.structured_calendar.first().expect("the cron, as the server reads it");
    assert_eq!((calendar.minute[0].start, calendar.hour[0].step), (15, 6));
    assert_eq!(spec.timezone_name, "Europe/Berlin");
    assert_eq!(spec.jitter.expect("jitter").seconds, 90);
    assert_eq!(policies.overlap_policy, ScheduleOverlapPolicy::BufferOne as i32);
    assert_eq!(policies.catchup_window.expect("window").seconds, 7_200);
    assert!(schedule.state.as_ref().is_some_and(|state| state.paused), "suspended from the first moment");
    let start = starts(&schedule);
    assert_eq!(start.workflow_id, SCHEDULE);
    assert_eq!(start.workflow_type.expect("type").name, "scheduledSyncWorkflow");
    assert_eq!(start.task_queue.expect("queue").name, "connector-sync");
    assert_eq!(input(&schedule), r#"{"tenantId":"acme"}"#);
    let seen = installation.temporal.describe_schedule(SCHEDULE).await.expect("described").expect("there");
    let owner = seen.owner.expect("an owner in the memo");
    assert_eq!(
        (owner.kind.as_str(), owner.namespace, owner.name.as_str()),
        ("TenantSchedule", installation.namespace.clone(), "acme")
    );

    installation.apply_tenant("acme", json!({"tenantId": "acme", "schedules": ["0 3 * * 1"]})).await;
    let object = installation.tenant_ready("acme", "True", "Scheduled").await;
    assert!(object.status.as_ref().is_some_and(|status| status.next_run_time.is_some() && !status.paused));
    installation
        .schedule(SCHEDULE, "edited", |schedule| {
            let spec = schedule.spec.clone().unwrap_or_default();
            spec.structured_calendar.first().is_some_and(|calendar| calendar.hour[0].start == 3)
                && spec.timezone_name == "UTC"
                && schedule.state.as_ref().is_some_and(|state| !state.paused)
        })
        .await;
    installation.event("acme", "ScheduleCreated").await;
    installation.event("acme", "ScheduleUpdated").await;

    installation.delete_tenant("acme").await;
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("acme").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(installation.describe(SCHEDULE).await.is_none(), "the schedule went before the object");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_schedule_edited_or_deleted_by_hand_is_put_right() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation
        .edit_by_hand(SCHEDULE, |schedule| {
            let spec = schedule.spec.as_mut().expect("spec");
            spec.structured_calendar.clear();
            spec.cron_string = vec!["0 0 * * *".to_owned()];
        })
        .await;
    installation
        .schedule(SCHEDULE, "every four hours again", |schedule| {
            let calendars = schedule.spec.as_ref().map(|spec| spec.structured_calendar.as_slice()).unwrap_or_default();
            calendars.first().is_some_and(|calendar| calendar.hour[0].step == 4)
        })
        .await;
    installation.event("acme", "DriftCorrected").await;
    installation.temporal.delete_schedule(SCHEDULE).await.expect("deleted by hand");
    installation.schedule(SCHEDULE, "there again", |_| true).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn the_first_tenant_schedule_holds_the_tenant_and_the_losers_deletion_touches_nothing() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_tenant("first", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("first", "True", "Scheduled").await;
    installation.apply_tenant("second", json!({"tenantId": "acme", "schedules": ["0 1 * * *"]})).await;
    let loser = installation.tenant_ready("second", "False", "TenantConflict").await;
    let stalled = loser.status.expect("status").conditions.into_iter().find(|condition| condition.type_ == "Stalled");
    assert!(stalled.expect("kstatus sees it").message.contains("TenantSchedule first"));
    installation.event("second", "TenantConflict").await;
    installation.delete_tenant("second").await;
    eventually("the loser is gone", SOON, || async {
        installation.tenants().get_opt("second").await.ok()?.is_none().then_some(())
    })
    .await;
    let seen = installation.temporal.describe_schedule(SCHEDULE).await.expect("described").expect("still there");
    assert_eq!(seen.owner.map(|owner| owner.name), Some("first".to_owned()));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_foreign_schedule_is_refused_and_one_that_never_fires_is_said_to() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_tenant("never", json!({"tenantId": "never", "schedules": ["0 0 31 2 *"]})).await;
    installation.tenant_ready("never", "False", "NeverFires").await;

    installation.apply_tenant("acme", json!({"tenantId": "acme", "deletionPolicy": "Orphan"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.delete_tenant("acme").await;
    eventually("the object is gone", SOON, || async {
        installation.tenants().get_opt("acme").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(installation.describe(SCHEDULE).await.is_some(), "orphaned, as its policy says");
    installation.apply_tenant("other", json!({"tenantId": "acme"})).await;
    let other = installation.tenant_ready("other", "False", "TenantConflict").await;
    assert_eq!(other.name_any(), "other", "the claim never passes on by itself");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_trigger_token_starts_one_tick_even_while_suspended_and_first_sight_tokens_none() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let spec = |token: &str| json!({"tenantId": "acme", "suspend": true, "requests": {"trigger": {"token": token}}});
    installation.apply_tenant("acme", spec("from-git")).await;
    let object = installation.tenant_ready("acme", "True", "Suspended").await;
    assert_eq!(handled(&object).as_deref(), Some("from-git"));
    installation.apply_tenant("acme", spec("now-1")).await;
    assert_eq!(installation.one_workflow("scheduledSyncWorkflow").await, "scheduled-sync-acme-now-1");
    eventually("the token is mirrored", SOON, || async {
        (handled(&installation.tenants().get("acme").await.ok()?).as_deref() == Some("now-1")).then_some(())
    })
    .await;
    operator.kill().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.looked_again("TenantSchedule", 2).await;
    assert_eq!(installation.workflows("scheduledSyncWorkflow").await.len(), 1);
    operator.stop().await;
}

fn handled(object: &TenantSchedule) -> Option<String> {
    object.status.as_ref()?.last_handled.as_ref()?.trigger.clone()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn only_one_of_two_operators_leads_and_the_other_takes_over() {
    let installation = Installation::new().await;
    let with_lease = |settings: &mut gtm_sync::settings::OperatorSettings| settings.no_leader_election = false;
    let first = installation.operator_with(with_lease).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let standby: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let second = installation
        .operator_with(|settings| {
            with_lease(settings);
            settings.health.health_address = standby;
        })
        .await;
    let ready = || async { Some(reqwest::get(format!("http://{standby}/readyz")).await.ok()?.status().is_success()) };
    eventually("it stands by", SOON, || async { ready().await?.then_some(()) }).await;
    assert_eq!(metric_at(standby, "gtm_sync_leader").await, Some(0));
    assert_eq!(installation.metric("gtm_sync_leader").await, Some(1));
    first.stop().await;
    eventually("it leads", SOON, || async { (metric_at(standby, "gtm_sync_leader").await? == 1).then_some(()) }).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme", "suspend": true})).await;
    installation.tenant_ready("acme", "True", "Suspended").await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn an_idle_fleet_writes_no_status() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_condition("hubspot", "Healthy", "Unknown", "NoSyncYet").await;
    eventually("the tenant counts its connector", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        (status.connectors?.total == 1).then_some(())
    })
    .await;
    let versions = || async {
        let tenant = installation.tenants().get("acme").await.expect("there").resource_version();
        (tenant, installation.connectors().get("hubspot").await.expect("there").resource_version())
    };
    installation.looked_again("Connector", 2).await;
    let before = versions().await;
    installation.looked_again("Connector", 10).await;
    // At a schedule it looks every five seconds at most.
    for _ in 0..2 {
        installation.looked_again("TenantSchedule", 5).await;
    }
    assert_eq!(versions().await, before, "ten looks at each, no write");
    operator.stop().await;
}
