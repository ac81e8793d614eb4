//! Cron workflows that somebody started by hand before there was a schedule.

use gtm_sync::{clock, temporal::client::WorkflowState};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::{
    common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType},
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest},
};

use super::harness::{Installation, Running, SOON, is};
use crate::support::{self, eventually};

const SCHEDULE: &str = "scheduled-sync-acme";

/// As the product's users were told to do it: `scheduledSyncWorkflow`, registered as a Temporal cron workflow.
pub(super) async fn start_cron(installation: &Installation, workflow_id: &str, tenant: &str) {
    let client = installation.temporal.sdk_client().expect("client");
    let input = Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: json!({"tenantId": tenant}).to_string().into_bytes(),
        ..Payload::default()
    };
    let request = StartWorkflowExecutionRequest {
        namespace: installation.temporal.namespace().to_owned(),
        workflow_id: workflow_id.to_owned(),
        workflow_type: Some(WorkflowType { name: "scheduledSyncWorkflow".to_owned() }),
        task_queue: Some(TaskQueue { name: "connector-sync".to_owned(), ..TaskQueue::default() }),
        input: Some(Payloads { payloads: vec![input] }),
        request_id: support::fresh("cron"),
        cron_schedule: "0 */4 * * *".to_owned(),
        ..StartWorkflowExecutionRequest::default()
    };
    client.connection().clone().start_workflow_execution(request.into_request()).await.expect("started");
    eventually("the cron workflow is listed", SOON, || async {
        installation.workflows("scheduledSyncWorkflow").await.contains(&workflow_id.to_owned()).then_some(())
    })
    .await;
}

async fn terminate(installation: &Installation, workflow_id: &str) {
    let client = installation.temporal.sdk_client().expect("client");
    let request = TerminateWorkflowExecutionRequest {
        namespace: installation.temporal.namespace().to_owned(),
        workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
        ..TerminateWorkflowExecutionRequest::default()
    };
    client.connection().clone().terminate_workflow_execution(request.into_request()).await.expect("terminated");
}

async fn looking(installation: &Installation) -> Running {
    installation.operator_with(|settings| settings.resync_seconds = 1).await
}

async fn apply(installation: &Installation, mut spec: Value) {
    spec["tenantId"] = json!("acme");
    installation.apply_tenant("acme", spec).await;
}

async fn is_paused(installation: &Installation) -> bool {
    let schedule = installation.describe(SCHEDULE).await.and_then(|found| found.schedule).expect("a schedule");
    schedule.state.is_some_and(|state| state.paused)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_cron_workflow_started_by_hand_keeps_the_schedule_paused_until_it_ends() {
    let installation = Installation::new().await;
    start_cron(&installation, "nightly job of Kim", "acme").await;
    start_cron(&installation, "another tenant's", "other").await;
    let operator = looking(&installation).await;
    apply(&installation, json!({})).await;
    let object = installation.tenant_ready("acme", "False", "LegacyCron").await;
    let conditions = object.status.expect("status").conditions;
    let message = &conditions.iter().find(|condition| condition.type_ == "Ready").expect("Ready").message;
    assert!(message.contains("nightly job of Kim"), "{message}");
    assert!(is(&conditions, "Stalled", "True", "LegacyCron"));
    installation.event("acme", "LegacyCron").await;
    let described = installation.describe(SCHEDULE).await.expect("made, and waiting");
    assert!(described.schedule.and_then(|schedule| schedule.state).is_some_and(|state| state.paused));
    assert_eq!(described.info.map(|info| info.action_count), Some(0), "no tick beside the cron workflow's");
    installation.looked_again("TenantSchedule", 2).await;
    let state = installation.temporal.workflow_state("nightly job of Kim").await;
    assert_eq!(state, Ok(WorkflowState::Running), "not touched");

    terminate(&installation, "nightly job of Kim").await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    assert!(!is_paused(&installation).await);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_cron_workflow_is_ended_on_request_once_the_schedule_stands() {
    let installation = Installation::new().await;
    start_cron(&installation, SCHEDULE, "acme").await;
    let operator = looking(&installation).await;
    apply(&installation, json!({"conflictPolicy": "Adopt"})).await;
    let object = installation.tenant_ready("acme", "True", "Scheduled").await;
    assert!(object.status.and_then(|status| status.next_run_time).is_some_and(|next| next.0 > clock::now()));
    installation.event("acme", "LegacyCronEnded").await;
    let state = installation.temporal.workflow_state(SCHEDULE).await.expect("looked up");
    assert_ne!(state, WorkflowState::Running);
    assert!(!is_paused(&installation).await);
    assert!(installation.temporal.unscheduled_runs("scheduledSyncWorkflow").await.is_ok());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_cron_workflow_started_beside_a_schedule_is_found_by_the_next_census_and_a_lost_status_forgets_no_pause() {
    let installation = Installation::new().await;
    let operator = looking(&installation).await;
    apply(&installation, json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    start_cron(&installation, "by hand", "acme").await;
    installation.tenant_ready("acme", "False", "LegacyCron").await;
    eventually("paused", SOON, || async { is_paused(&installation).await.then_some(()) }).await;
    operator.stop().await;
    let lost = Patch::Merge(json!({"status": {"observedGeneration": -1, "conditions": null, "schedule": null}}));
    installation.tenants().patch_status("acme", &PatchParams::default(), &lost).await.expect("status lost");
    terminate(&installation, "by hand").await;
    let operator = looking(&installation).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    assert!(!is_paused(&installation).await);
    operator.stop().await;
}
