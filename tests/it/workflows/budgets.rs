//! The end of a run at its budget (R21): at a batch boundary with everything staged applied, in the middle of a wait that the
//! source asked for, and during an outage. Runs here say that they began six hours ago, as one passes on to its next execution.

use gtm_sync::{
    contract::workflows::{RUN_BUDGET, SyncStats},
    store::RunOutcome,
};
use jiff::Timestamp;

use super::*;

/// The input of a run that has so much of its budget left.
fn with_left(left: Duration, full_sync: bool) -> Value {
    let started_at: Timestamp = gtm_sync::clock::now() - RUN_BUDGET + left;
    json!({"tenantId": "acme", "connectorId": "hubspot", "fullSync": full_sync, "startedAt": started_at})
}

async fn lease_is_free(stack: &Stack) -> bool {
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    stack.store.lease_holder(&tenant, &connector).await.expect("store answers").is_none()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_at_its_budget_ends_after_a_batch_and_the_next_ones_go_on_to_the_end() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(1_500).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.start("connectorSyncWorkflow", "over", with_left(Duration::ZERO, true)).await;
    let over = stack.end("over").await.completed();
    assert_eq!((&over["outcome"], &over["stats"]["batches"]), (&json!("more"), &json!(1)), "{over}");
    assert!(over["stats"]["recordsWritten"].as_u64() > Some(0), "what was staged is applied first: {over}");
    assert_eq!(stack.progress("over").await.expect("answered")["phase"], "complete", "parked or not is no phase");
    assert_eq!(texts(&stack, "SELECT CAST(count(*) AS TEXT) FROM staged_batch"), [Some("0".to_owned())]);
    assert!(lease_is_free(&stack).await);
    let run = status(&stack).await.last_run.expect("a run");
    assert_eq!((run.outcome, run.workflow_id.as_str()), (Some(RunOutcome::More), "over"));
    assert_eq!(run.stats.activity_attempts, 4, "authenticate, one fetch, one write, and the end itself");

    let next = stack.sync("next", "acme", "hubspot", false).await.completed();
    assert_eq!(next["outcome"], "complete");
    assert!(next["stats"]["batches"].as_u64() > Some(1), "the load goes on with a whole budget: {next}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_that_is_to_wait_beyond_its_budget_ends_with_it_and_asks_nobody() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    let an_hour = Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds: Some(3_600) };
    crm.state().add_fault(Fault::always("contacts", an_hour));
    let asked = || crm.state().stats().requests.values().flat_map(|by_status| by_status.values()).sum::<u64>();
    stack.start("connectorSyncWorkflow", "parked", with_left(Duration::from_secs(12), true)).await;
    eventually("the run waits", LONG, || async { status(&stack).await.last_run?.parked }).await;
    let before = asked();
    let parked = stack.end("parked").await.completed();
    assert_eq!((&parked["outcome"], asked()), (&json!("more"), before), "{parked}");
    assert!(lease_is_free(&stack).await);
    crm.state().clear_faults();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_that_meets_an_outage_at_its_budget_fails_and_the_next_one_goes_on() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(300).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    // The first stream: nothing is done that would count as progress.
    crm.state().add_fault(Fault::always("owners", Effect::Status { status: 503 }));
    stack.start("connectorSyncWorkflow", "waited", with_left(Duration::ZERO, true)).await;
    let Ended::Failed { type_name, .. } = stack.end("waited").await else { panic!("it waits on") };
    assert_eq!(type_name, "Unavailable");
    let run = status(&stack).await.last_run.expect("a run");
    assert_eq!(run.outcome, Some(RunOutcome::Failed));
    let SyncStats { activity_attempts, activity_retries, .. } = run.stats;
    assert_eq!((activity_attempts, activity_retries), (5, 2), "three attempts at the fetch");
    crm.state().clear_faults();
    assert_eq!(stack.sync("next", "acme", "hubspot", false).await.completed()["outcome"], "complete");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}
