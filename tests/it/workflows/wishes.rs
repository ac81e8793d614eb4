//! What people want of a connector while a run of it is at work (R30).

use gtm_sync::store::{DesiredState, RunOutcome};

use super::*;

/// Ends as the contract's `Stopped`, keeps what was committed, and goes on there.
async fn a_run_at_work_ends_at_a_batch(wanted: DesiredState) {
    let (stack, crm) = (Stack::on_sqlite().await, crm(1_000).await);
    let _worker = stack.worker();
    let token = format!("pat-{CANARY}");
    let want = async |state| {
        let edit = |of: &mut ConnectorProjection| (of.config.batch_size, of.desired_state) = (100, state);
        stack.connector("acme", "hubspot", &crm.base_url(), &token, edit).await;
    };
    stack.tenant("acme", None).await;
    want(DesiredState::Running).await;
    crm.state().add_fault(Fault::always("objects/2026-03", Effect::Delay { milliseconds: 200 }));
    stack.start_sync("ended", "acme", "hubspot", true).await;
    eventually("something is committed", LONG, || async {
        (status(&stack).await.last_run?.stats.records_processed > 0).then_some(())
    })
    .await;
    want(wanted).await;
    let Ended::Failed { type_name, .. } = stack.end("ended").await else { panic!("it went on") };
    assert_eq!(type_name, "Stopped");
    let run = status(&stack).await.last_run.expect("a run");
    assert_eq!((run.outcome, run.workflow_id.as_str()), (Some(RunOutcome::Failed), "ended"));
    assert!(run.stats.records_written > 0 && run.stats.errors_count == 0, "{:?}", run.stats);
    let rows =
        "SELECT source_id FROM owner UNION ALL SELECT source_id FROM account UNION ALL SELECT source_id FROM contact";
    assert!(!texts(&stack, rows).is_empty(), "rows stay");

    want(DesiredState::Running).await;
    crm.state().clear_faults();
    let next = stack.sync("next", "acme", "hubspot", false).await.completed();
    assert_eq!(next["outcome"], "complete");
    let all = run.stats.records_processed + next["stats"]["recordsProcessed"].as_u64().expect("a count");
    assert_eq!(next["stats"]["recordsUnchanged"], 0, "nothing is read again: {next}");
    assert!(all >= 1_000, "{all}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_whose_connector_is_paused_ends_at_a_batch_and_the_next_one_goes_on_there() {
    a_run_at_work_ends_at_a_batch(DesiredState::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_whose_connector_is_stopped_ends_at_a_batch_and_the_next_one_goes_on_there() {
    a_run_at_work_ends_at_a_batch(DesiredState::Stopped).await;
}
