//! What a worker process must find before it polls (R17, R25), and what becomes of its runs when it ends by itself, or when its
//! code is not the one that began them (R21).

use std::net::TcpListener;

use gtm_sync::{store, temporal::WorkflowState};
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::{
    command::v1::{Command, StartTimerCommandAttributes, command::Attributes},
    enums::v1::CommandType,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{
        DescribeTaskQueueRequest, PollWorkflowTaskQueueRequest, RespondWorkflowTaskCompletedRequest,
    },
};

use super::*;

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: gtm_sync::contract::TASK_QUEUE.to_owned(), ..Default::default() })
}

async fn is_polled(stack: &Stack) -> bool {
    let request = DescribeTaskQueueRequest {
        namespace: stack.settings.temporal_namespace.clone(),
        task_queue: queue(),
        ..Default::default()
    };
    let mut service = stack.client.connection().clone();
    let described = service.describe_task_queue(request.into_request()).await.expect("Temporal answers");
    !described.into_inner().pollers.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_worker_polls_nothing_and_is_not_ready_until_the_schema_is_in_its_range() {
    let stack = Stack::on_sqlite().await;
    let supported = stack.store.schema_version().await.expect("a version");
    let set = |version: i32| texts(&stack, &format!("UPDATE meta SET schema_version = {version} RETURNING 'set'"));
    set(supported + 1_000);
    stack.tenant("acme", None).await;
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let readiness = async || reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok();
    let _worker = stack.worker_with(&[("GTM_HEALTH_ADDRESS", &format!("127.0.0.1:{port}"))]);
    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    let report = eventually("readiness tells of the schema", LONG, || async {
        let answer = readiness().await?;
        let ready = answer.status().is_success();
        let report = answer.text().await.ok()?;
        (!ready && report.contains("schema version")).then_some(report)
    })
    .await;
    assert!(report.contains(&format!("schema version {}, this build works with", supported + 1_000)), "{report}");
    assert!(!is_polled(&stack).await);
    set(supported);
    assert_eq!(stack.end("tick").await.completed()["processed"], 0, "it waited, and nothing failed");
    assert!(is_polled(&stack).await && readiness().await.expect("it serves").status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_worker_whose_store_is_another_than_the_namespaces_says_so_and_leaves() {
    let stack = Stack::on_sqlite().await;
    let other = format!("sqlite:{}", stack.directory.path().join("other.db").display());
    store::open(&other).await.expect("opens").migrate().await.expect("migrated");
    let mut worker = stack.worker_with(&[("GTM_DATABASE_URL", &other)]);
    let exit = leaves(&mut worker).await;
    assert!(!exit.success(), "{exit}");
    let ours = stack.store.installation_id().await.expect("an id");
    let said = std::fs::read_to_string(stack.log_path()).expect("worker log");
    assert!(said.contains(&format!("this Temporal namespace belongs to installation {ours}, the store to")), "{said}");
    // The server remembers for minutes who has polled.
    assert!(!is_polled(&stack).await);
}

async fn leaves(worker: &mut Worker) -> std::process::ExitStatus {
    eventually("the worker leaves", LONG, || {
        let exited = worker.exited();
        async move { exited }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_worker_that_has_done_its_number_of_activities_leaves_and_the_next_one_completes_its_run() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(1_000).await);
    let mut recycled = stack.worker_with(&[("GTM_RECYCLE_AFTER_ACTIVITIES", "3")]);
    stack.tenant("acme", None).await;
    let token = format!("pat-{CANARY}");
    stack.connector("acme", "hubspot", &crm.base_url(), &token, |of| of.config.batch_size = 100).await;
    stack.start_sync("recycled", "acme", "hubspot", true).await;
    let exit = leaves(&mut recycled).await;
    assert!(exit.success(), "{exit}: {}", stack.log_tail());
    assert_eq!(stack.temporal.workflow_state("recycled").await, Ok(WorkflowState::Running), "in the middle");
    let _next = stack.worker();
    let done = stack.end("recycled").await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(0)), "{done}");
    let count = |name: &str| done["stats"][name].as_u64().expect("a count");
    assert_eq!(count("recordsProcessed"), count("recordsWritten") + count("recordsUnchanged"), "once each: {done}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

/// Takes a run's first workflow task, as a worker of other code would, and waits where ours does not.
async fn begin_otherwise(stack: &Stack) {
    let namespace = stack.settings.temporal_namespace.clone();
    let request = PollWorkflowTaskQueueRequest {
        namespace: namespace.clone(),
        task_queue: queue(),
        identity: "other code".to_owned(),
        ..Default::default()
    };
    let mut service = stack.client.connection().clone();
    let task = service.poll_workflow_task_queue(request.into_request()).await.expect("a task").into_inner();
    let timer = StartTimerCommandAttributes {
        timer_id: "other".to_owned(),
        start_to_fire_timeout: Some(Duration::from_secs(1).try_into().expect("a second")),
    };
    let command = Command {
        command_type: CommandType::StartTimer as i32,
        attributes: Some(Attributes::StartTimerCommandAttributes(timer)),
        ..Default::default()
    };
    let request = RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token,
        namespace,
        commands: vec![command],
        identity: "other code".to_owned(),
        ..Default::default()
    };
    service.respond_workflow_task_completed(request.into_request()).await.expect("taken");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_that_other_code_began_otherwise_fails_instead_of_waiting_for_ever_and_the_next_one_syncs() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    stack.start_sync("otherwise", "acme", "hubspot", true).await;
    begin_otherwise(&stack).await;
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    let Ended::Failed { message, .. } = stack.end("otherwise").await else { panic!("it went on") };
    assert!(message.to_lowercase().contains("nondetermini"), "{message}");
    assert_eq!(stack.sync("next", "acme", "hubspot", true).await.completed()["outcome"], "complete");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}
