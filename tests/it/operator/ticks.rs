//! What real ticks leave in status: a pause because a run failed, ticks left out, the last one.

use gtm_sync::crd::{PauseStatus, PausedBy, ScheduleCounts};
use serde_json::json;
use simulators::hubspot::{Effect, Fault};
use temporalio_common::protos::temporal::api::schedule::v1::SchedulePatch;

use super::{
    harness::{Installation, SOON, is},
    house::{Program, crm, from},
};
use crate::support::{eventually, stack::CANARY};

const SCHEDULE: &str = "scheduled-sync-acme";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_tick_all_of_whose_syncs_fail_pauses_its_schedule_until_somebody_resumes_it_and_so_does_a_connectors_own() {
    let crm = crm(20).await;
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let tenant = |cron| json!({"tenantId": "acme", "schedules": [cron], "pauseOnFailure": true});
    installation.apply_tenant("acme", tenant("0 0 1 1 *")).await;
    installation.apply_secret("crm", json!({"accessToken": format!("pat-{CANARY}")})).await;
    installation.apply_connector("hubspot", json!({"source": from(&crm)})).await;
    let own = json!({"source": from(&crm), "sync": {"schedules": ["0 0 1 1 *"]}});
    installation.apply_connector("own", own).await;
    let worker = Program::worker(&installation).await;
    for connector in ["hubspot", "own"] {
        installation.connector_condition(connector, "Connected", "True", "Authenticated").await;
    }
    installation.tenant_ready("acme", "True", "Scheduled").await;
    crm.state().add_fault(Fault::always("", Effect::Status { status: 403 }));
    installation.trigger(SCHEDULE).await;
    installation.trigger("sync-acme-own").await;

    let by_failure = |pause: Option<PauseStatus>| {
        let pause = pause?;
        (pause.by == PausedBy::Failure).then_some(pause.note)
    };
    let status = installation.tenant_ready("acme", "True", "PausedByFailure").await.status.expect("status");
    let note = by_failure(status.pause).expect("Temporal's own pause");
    assert!(note.contains("all 1 connectors failed"), "{note}");
    assert!(status.paused && status.next_run_time.is_none() && status.last_run_time.is_some());
    installation.event("acme", "PausedByFailure").await;
    eventually("the connector's own schedule is paused, too", SOON, || async {
        by_failure(installation.connectors().get("own").await.ok()?.status?.pause)
    })
    .await;
    eventually("a tenant that rests because of it is not healthy", SOON, || async {
        let conditions = installation.tenants().get("acme").await.ok()?.status?.conditions;
        is(&conditions, "Healthy", "False", "PausedByFailure").then_some(())
    })
    .await;

    installation.apply_tenant("acme", tenant("0 0 2 1 *")).await;
    installation.tenant_ready("acme", "True", "PausedByFailure").await;
    installation.patch_schedule(SCHEDULE, SchedulePatch { unpause: "mended".to_owned(), ..Default::default() }).await;
    let status = installation.tenant_ready("acme", "True", "Scheduled").await.status.expect("status");
    assert!(status.pause.is_none() && status.next_run_time.is_some());
    drop(worker);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn ticks_left_out_and_waiting_behind_a_run_that_hangs_are_counted_and_the_last_one_is_told() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let tenant = |overlap| json!({"tenantId": "acme", "schedules": ["0 0 1 1 *"], "overlapPolicy": overlap});
    let shown = |counts: ScheduleCounts| {
        let api = installation.tenants();
        async move {
            eventually(&format!("{counts:?}"), SOON, || async {
                let status = api.get("acme").await.ok()?.status?;
                (status.counts == Some(counts)).then_some(status.last_run_time)
            })
            .await
        }
    };
    installation.apply_tenant("acme", tenant("Skip")).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    assert_eq!(shown(ScheduleCounts::default()).await, None);
    // There is no worker: the first one hangs.
    installation.trigger(SCHEDULE).await;
    installation.one_workflow("scheduledSyncWorkflow").await;
    installation.trigger(SCHEDULE).await;
    let last = shown(ScheduleCounts { skipped: 1, ..Default::default() }).await.expect("the one that hangs");

    installation.apply_tenant("acme", tenant("BufferOne")).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.trigger(SCHEDULE).await;
    assert_eq!(shown(ScheduleCounts { skipped: 1, buffered: 1, ..Default::default() }).await, Some(last));
    operator.stop().await;
}
