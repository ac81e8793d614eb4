//! Schedules that people work on beside the operator: pauses, edits, foreign ones, ends, windows and clock changes.

use std::time::{Duration, SystemTime};

use gtm_sync::{
    crd::{PausedBy, TenantSchedule},
    temporal::schedules::{Overlap, ScheduleOwner, WantedSchedule},
};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::{
    schedule::v1::{Schedule, SchedulePatch},
    workflowservice::v1::ListScheduleMatchingTimesRequest,
};

use super::harness::{Installation, Running, SOON, is};
use crate::support::eventually;

const SCHEDULE: &str = "scheduled-sync-acme";

/// An operator that looks every second, and a tenant.
async fn with_tenant(spec: Value) -> (Installation, Running) {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    apply(&installation, spec).await;
    installation.schedule(SCHEDULE, "there", |_| true).await;
    (installation, operator)
}

async fn apply(installation: &Installation, mut spec: Value) {
    spec["tenantId"] = json!("acme");
    installation.apply_tenant("acme", spec).await;
}

async fn pause(installation: &Installation, note: &str) {
    installation.patch_schedule(SCHEDULE, SchedulePatch { pause: note.to_owned(), ..Default::default() }).await;
}

fn is_paused(schedule: &Schedule) -> bool {
    schedule.state.as_ref().is_some_and(|state| state.paused)
}

fn every_hours(schedule: &Schedule) -> i32 {
    schedule.spec.as_ref().and_then(|spec| spec.structured_calendar.first()).map_or(0, |calendar| calendar.hour[0].step)
}

async fn synced(installation: &Installation, status: &str, reason: &str) -> TenantSchedule {
    let api = installation.tenants();
    eventually(&format!("Synced={status}/{reason}"), SOON, || async {
        let object = api.get("acme").await.ok()?;
        is(&object.status.as_ref()?.conditions, "Synced", status, reason).then_some(object)
    })
    .await
}

fn paused_by(object: &TenantSchedule) -> Option<(PausedBy, String)> {
    object.status.as_ref()?.pause.clone().map(|pause| (pause.by, pause.note))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_pause_made_in_the_web_ui_survives_every_edit_and_is_told() {
    let (installation, operator) = with_tenant(json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    pause(&installation, "Kim: importing").await;
    let object = installation.tenant_ready("acme", "True", "PausedByPerson").await;
    assert_eq!(paused_by(&object), Some((PausedBy::Person, "Kim: importing".to_owned())));
    installation.event("acme", "PausedByPerson").await;

    apply(&installation, json!({"schedules": ["0 */6 * * *"]})).await;
    let edited = installation.schedule(SCHEDULE, "edited", |schedule| every_hours(schedule) == 6).await;
    assert_eq!(edited.state.map(|state| (state.paused, state.notes)), Some((true, "Kim: importing".to_owned())));
    installation
        .edit_by_hand(SCHEDULE, |schedule| {
            schedule.spec.get_or_insert_default().timezone_name = "Asia/Tokyo".to_owned()
        })
        .await;
    let restored = installation
        .schedule(SCHEDULE, "restored", |schedule| {
            schedule.spec.as_ref().is_some_and(|spec| spec.timezone_name == "UTC")
        })
        .await;
    assert!(is_paused(&restored), "an edit that is undone ends no pause");
    installation.looked_again("TenantSchedule", 3).await;
    assert!(
        installation.describe(SCHEDULE).await.and_then(|found| found.schedule).is_some_and(|found| is_paused(&found))
    );

    installation
        .patch_schedule(SCHEDULE, SchedulePatch { unpause: "Kim: done".to_owned(), ..Default::default() })
        .await;
    let object = installation.tenant_ready("acme", "True", "Scheduled").await;
    assert_eq!(paused_by(&object), None);
    installation.event("acme", "Resumed").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn resuming_the_spec_does_not_resume_what_a_person_paused() {
    let (installation, operator) = with_tenant(json!({"suspend": true})).await;
    let object = installation.tenant_ready("acme", "True", "Suspended").await;
    assert_eq!(paused_by(&object), Some((PausedBy::Spec, "gtm-sync: spec.suspend".to_owned())));
    pause(&installation, "Kim: not yet").await;
    operator.stop().await;

    // A lost status forgets neither whose pause it was ...
    let lost = Patch::Merge(json!({"status": {"observedGeneration": -1, "pause": null, "schedule": null}}));
    installation.tenants().patch_status("acme", &PatchParams::default(), &lost).await.expect("status lost");
    apply(&installation, json!({"suspend": false})).await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let object = installation.tenant_ready("acme", "True", "PausedByPerson").await;
    assert_eq!(paused_by(&object), Some((PausedBy::Person, "Kim: not yet".to_owned())));
    installation.patch_schedule(SCHEDULE, SchedulePatch { unpause: "now".to_owned(), ..Default::default() }).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;

    // ... nor that it was the operator's.
    apply(&installation, json!({"suspend": true})).await;
    installation.tenant_ready("acme", "True", "Suspended").await;
    operator.stop().await;
    installation.tenants().patch_status("acme", &PatchParams::default(), &lost).await.expect("status lost");
    apply(&installation, json!({"suspend": false})).await;
    let operator = installation.operator().await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.schedule(SCHEDULE, "resumed", |schedule| !is_paused(schedule)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn an_authoritative_tenant_takes_the_pause_away() {
    let (installation, operator) = with_tenant(json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    pause(&installation, "Kim").await;
    installation.tenant_ready("acme", "True", "PausedByPerson").await;
    apply(&installation, json!({"pausePolicy": "Authoritative"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    pause(&installation, "Kim, again").await;
    installation.schedule(SCHEDULE, "resumed", |schedule| !is_paused(schedule)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn drift_is_reported_and_left_where_the_policy_says_so() {
    let (installation, operator) = with_tenant(json!({"driftPolicy": "Report"})).await;
    synced(&installation, "True", "InSync").await;
    let zone = |schedule: &Schedule| schedule.spec.as_ref().map(|spec| spec.timezone_name.clone()).unwrap_or_default();
    let to_tokyo =
        |schedule: &mut Schedule| schedule.spec.get_or_insert_default().timezone_name = "Asia/Tokyo".to_owned();
    installation.edit_by_hand(SCHEDULE, to_tokyo).await;
    let object = synced(&installation, "False", "DriftReported").await;
    let conditions = object.status.expect("status").conditions;
    let message = &conditions.iter().find(|condition| condition.type_ == "Synced").expect("Synced").message;
    assert!(message.ends_with(": spread or timeZone"), "{message}");
    assert!(is(&conditions, "Ready", "True", "Scheduled"));
    installation.event("acme", "DriftReported").await;

    apply(&installation, json!({"driftPolicy": "Report", "suspend": true})).await;
    installation.tenant_ready("acme", "True", "Suspended").await;
    let suspended = installation.schedule(SCHEDULE, "paused", is_paused).await;
    assert_eq!(zone(&suspended), "Asia/Tokyo", "a pause leaves the edit as it is");
    installation.looked_again("TenantSchedule", 2).await;
    synced(&installation, "False", "DriftReported").await;

    apply(&installation, json!({"driftPolicy": "Report", "schedules": ["0 */6 * * *"]})).await;
    synced(&installation, "True", "InSync").await;
    installation.schedule(SCHEDULE, "as the new spec says", |schedule| zone(schedule) == "UTC").await;

    apply(&installation, json!({"schedules": ["0 */6 * * *"]})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.looked_again("TenantSchedule", 2).await;
    installation.edit_by_hand(SCHEDULE, to_tokyo).await;
    installation.schedule(SCHEDULE, "corrected", |schedule| zone(schedule) == "UTC").await;
    installation.event("acme", "DriftCorrected").await;
    operator.stop().await;
}

/// A schedule of the tenant's id that another installation made.
fn foreign() -> WantedSchedule {
    WantedSchedule {
        id: SCHEDULE.to_owned(),
        owner: ScheduleOwner {
            installation_id: "another".to_owned(),
            cluster_id: String::new(),
            kind: "TenantSchedule".to_owned(),
            namespace: "elsewhere".to_owned(),
            name: "acme".to_owned(),
        },
        crons: vec!["0 */3 * * *".to_owned()],
        time_zone: "UTC".to_owned(),
        jitter: Duration::ZERO,
        overlap: Overlap::Skip,
        catch_up_window: Duration::from_secs(60),
        pause_on_failure: false,
        suspended: None,
        workflow_type: "somebodyElses".to_owned(),
        workflow_id: "somebody-elses".to_owned(),
        input: Value::Null,
        start_at: None,
        end_at: None,
        excluded: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_foreign_schedule_is_refused_and_adopted_on_request_only() {
    let installation = Installation::new().await;
    installation.temporal.create_schedule(&foreign()).await.expect("created");
    pause(&installation, "theirs").await;
    let before = installation.schedule(SCHEDULE, "paused", is_paused).await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    apply(&installation, json!({})).await;
    installation.tenant_ready("acme", "False", "ScheduleConflict").await;
    installation.event("acme", "ScheduleConflict").await;
    let found = installation.describe(SCHEDULE).await.and_then(|found| found.schedule);
    assert_eq!(found, Some(before), "not touched");

    apply(&installation, json!({"conflictPolicy": "Adopt"})).await;
    installation.tenant_ready("acme", "True", "PausedByPerson").await;
    installation.event("acme", "ScheduleAdopted").await;
    let seen = installation.temporal.describe_schedule(SCHEDULE).await.expect("described").expect("there");
    assert_eq!(seen.owner.map(|owner| owner.namespace), Some(installation.namespace.clone()));
    assert_eq!((seen.state.paused, seen.state.note.as_str()), (true, "theirs"), "paused as it was");
    apply(&installation, json!({})).await;
    installation.tenant_ready("acme", "True", "PausedByPerson").await;
    installation.looked_again("TenantSchedule", 2).await;
    installation.tenant_ready("acme", "True", "PausedByPerson").await;
    installation.delete_tenant("acme").await;
    eventually("deleted, as it is ours", SOON, || async {
        installation.describe(SCHEDULE).await.is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_schedule_created_suspended_never_fires() {
    let every_minute = || json!({"schedules": ["* * * * *"], "spread": {"window": "0s"}, "suspend": true});
    let (installation, operator) = with_tenant(every_minute()).await;
    let mut witness = every_minute();
    (witness["tenantId"], witness["suspend"]) = (json!("witness"), json!(false));
    installation.apply_tenant("witness", witness).await;
    let started = |id: &'static str| {
        let installation = &installation;
        async move { Some(installation.describe(id).await?.info?.action_count) }
    };
    eventually("a tick of the witness", Duration::from_secs(150), || async {
        started("scheduled-sync-witness").await.filter(|count| *count > 0)
    })
    .await;
    assert_eq!(started(SCHEDULE).await, Some(0));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_finished_schedule_is_complete_and_not_made_again() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    apply(&installation, json!({"endAt": "2026-01-01T00:00:00Z"})).await;
    installation.tenant_ready("acme", "True", "Completed").await;
    installation.looked_again("TenantSchedule", 2).await;
    assert!(installation.describe(SCHEDULE).await.is_none());
    apply(&installation, json!({"startAt": "2098-01-01T00:00:00Z", "endAt": "2099-01-01T00:00:00Z"})).await;
    let object = installation.tenant_ready("acme", "True", "Scheduled").await;
    let next = object.status.expect("status").next_run_time.expect("a next tick").0;
    assert!(next >= time("2098-01-01T00:00:00Z"), "{next}");
    apply(&installation, json!({"endAt": "2026-01-01T00:00:00Z"})).await;
    installation.tenant_ready("acme", "True", "Completed").await;
    operator.stop().await;
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The ticks that the server will fire after `from` and until `to`.
async fn ticks(installation: &Installation, tenant: &str, from: &str, to: &str) -> Vec<Timestamp> {
    let client = installation.temporal.sdk_client().expect("client");
    let request = ListScheduleMatchingTimesRequest {
        namespace: installation.temporal.namespace().to_owned(),
        schedule_id: format!("scheduled-sync-{tenant}"),
        start_time: Some(SystemTime::from(time(from)).into()),
        end_time: Some(SystemTime::from(time(to)).into()),
    };
    let found = client.connection().clone().list_schedule_matching_times(request.into_request()).await.expect("listed");
    let seconds = found.into_inner().start_time.into_iter().map(|at| at.seconds);
    seconds.map(|at| Timestamp::from_second(at).expect("a time")).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn the_hour_that_clocks_skip_and_the_one_they_repeat() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let (berlin, new_york) = ("Europe/Berlin", "America/New_York");
    let autumn = ["2027-10-30T00:00:00Z", "2027-11-01T12:00:00Z"];
    /// Zone, expression, from and to, and when it fires.
    type Case<'a> = (&'a str, &'a str, &'a str, [&'a str; 2], &'a [&'a str]);
    let table: [Case<'_>; 5] = [
        // In Berlin there is no 02:30 on 2027-03-28.
        (
            "berlin-skips",
            berlin,
            "30 2 * * *",
            ["2027-03-27T00:00:00Z", "2027-03-30T00:00:00Z"],
            &["2027-03-27T01:30:00Z", "2027-03-29T00:30:00Z"],
        ),
        // There are two on 2027-10-31; the server takes the second, and repeats the hour before, too.
        (
            "berlin-repeats",
            berlin,
            "30 2 * * *",
            autumn,
            &["2027-10-30T00:30:00Z", "2027-10-31T01:30:00Z", "2027-11-01T01:30:00Z"],
        ),
        (
            "berlin-before",
            berlin,
            "30 1 * * *",
            autumn,
            &["2027-10-30T23:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T00:30:00Z"],
        ),
        // In New York there is no 02:30 on 2027-03-14, and 01:30 comes twice on 2027-11-07.
        (
            "new-york-skips",
            new_york,
            "30 2 * * *",
            ["2027-03-13T00:00:00Z", "2027-03-16T00:00:00Z"],
            &["2027-03-13T07:30:00Z", "2027-03-15T06:30:00Z"],
        ),
        (
            "new-york-repeats",
            new_york,
            "30 1 * * *",
            ["2027-11-06T00:00:00Z", "2027-11-09T00:00:00Z"],
            &["2027-11-06T05:30:00Z", "2027-11-07T05:30:00Z", "2027-11-07T06:30:00Z", "2027-11-08T06:30:00Z"],
        ),
    ];
    for (tenant, zone, cron, [from, to], expected) in table {
        let spec = json!({"tenantId": tenant, "schedules": [cron], "timeZone": zone, "spread": {"window": "0s"}});
        installation.apply_tenant(tenant, spec).await;
        installation.tenant_ready(tenant, "True", "Scheduled").await;
        let expected: Vec<_> = expected.iter().map(|at| time(at)).collect();
        assert_eq!(ticks(&installation, tenant, from, to).await, expected, "{tenant}");
    }
    let hourly =
        json!({"tenantId": "hourly", "schedules": ["@hourly"], "timeZone": berlin, "spread": {"window": "0s"}});
    installation.apply_tenant("hourly", hourly).await;
    installation.tenant_ready("hourly", "True", "Scheduled").await;
    for (from, to, hours) in
        [("2027-03-27T22:59:59Z", "2027-03-28T21:59:59Z", 23), ("2027-10-30T21:59:59Z", "2027-10-31T22:59:59Z", 24)]
    {
        assert_eq!(ticks(&installation, "hourly", from, to).await.len(), hours, "{from}: of 23 and 25 hours");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn no_tick_fires_in_a_maintenance_window() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    // 2027-06-05 is a Saturday.
    let windows = json!([{"schedule": "45 22 * * sat", "duration": "3h20m"}]);
    let spec = json!({"schedules": ["*/15 * * * *"], "spread": {"window": "0s"}, "maintenanceWindows": windows});
    apply(&installation, spec).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let found = ticks(&installation, "acme", "2027-06-05T22:00:00Z", "2027-06-06T02:30:00Z").await;
    let expected = ["2027-06-05T22:15:00Z", "2027-06-05T22:30:00Z", "2027-06-06T02:15:00Z", "2027-06-06T02:30:00Z"];
    assert_eq!(found, expected.map(time));
    assert_eq!(ticks(&installation, "acme", "2027-06-06T22:00:00Z", "2027-06-07T02:30:00Z").await.len(), 18, "Sunday");

    let all_day = json!([{"schedule": "0 0 * * *", "duration": "24h"}]);
    apply(&installation, json!({"schedules": ["*/15 * * * *"], "maintenanceWindows": all_day})).await;
    installation.tenant_ready("acme", "False", "InvalidSpec").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_connectors_schedule_whose_status_was_lost_is_found_and_removed() {
    let (installation, operator) = with_tenant(json!({})).await;
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    installation.apply_connector("hubspot", json!({"sync": {"schedules": ["0 * * * *"]}})).await;
    let object = installation.connector_condition("hubspot", "Synced", "True", "InSync").await;
    assert!(object.status.is_some_and(|status| status.next_run_time.is_some() && status.counts.is_some()));
    operator.stop().await;
    let lost = Patch::Merge(json!({"status": {"observedGeneration": -1, "schedule": null, "conditions": null}}));
    installation.connectors().patch_status("hubspot", &PatchParams::default(), &lost).await.expect("status lost");
    installation.apply_connector("hubspot", json!({})).await;
    let operator = installation.operator().await;
    let object = installation.connector_ready("hubspot", "True", "Configured").await;
    assert!(object.status.is_some_and(|status| status.next_run_time.is_none() && status.counts.is_none()));
    assert!(installation.describe("sync-acme-hubspot").await.is_none());
    operator.stop().await;
}
