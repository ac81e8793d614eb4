//! Runs that nobody but the operator looks after: those that ended without a word (R12), those that failed
//! (`spec.autoRestart`), and data that grows old (`spec.freshnessTarget`). The tests are the workers.

use gtm_sync::{
    contract::{activities::Lease, workflows::ConnectionStatus},
    crd::AutoRestartStatus,
    model::cursor::{Cursor, Load},
    store::{ConnectionFound, LeaseRequest, NewStaged, RunEnd, RunOutcome},
    temporal::client::IdReuse,
};
use serde_json::json;
use temporalio_client::{UntypedWorkflow, WorkflowTerminateOptions};

use super::{
    connectors::{COMPANIES, record, with_tenant},
    harness::{Installation, SOON, is},
};
use crate::support::eventually;

const ACCOUNT: &str = "4711";

/// As a worker does when it has signed in.
pub(super) async fn connected(installation: &Installation, connector: &str) {
    let known = record(installation, connector).await.expect("projected");
    let found = ConnectionFound {
        status: Some(ConnectionStatus::Connected),
        reason: String::new(),
        account_id: Some(ACCOUNT.to_owned()),
    };
    let (tenant, id) = ("acme".parse().expect("id"), connector.parse().expect("id"));
    let set = installation.store.set_connection(&tenant, &id, known.credential_revision, &found).await;
    set.expect("recorded");
}

/// As a worker does at the beginning of a run.
async fn take_lease(installation: &Installation, connector: &str, workflow_id: &str, former: Option<&Lease>) -> Lease {
    let known = record(installation, connector).await.expect("projected");
    let request = LeaseRequest {
        tenant_id: "acme".parse().expect("id"),
        connector_id: connector.parse().expect("id"),
        uid: known.uid,
        revision: known.revision,
        account_id: ACCOUNT.to_owned(),
        workflow_id: workflow_id.to_owned(),
        full_sync: false,
        expected_epoch: former.map(|lease| lease.epoch.clone()),
        former_outcome: RunOutcome::Terminated,
        load: Load::begin(&Cursor::default(), 0, true, &[COMPANIES], gtm_sync::clock::now()),
        restart_load: false,
        tenant_syncs: None,
    };
    installation.store.take_lease(&request).await.expect("a lease").lease
}

async fn fail(installation: &Installation, workflow_id: &str) {
    let lease = take_lease(installation, "hubspot", workflow_id, None).await;
    let failed = RunEnd::Failed("Unavailable".to_owned());
    installation.store.finish_run(&lease, &failed, Default::default()).await.expect("ended");
}

/// A run in Temporal that nobody works on.
async fn start(installation: &Installation, connector: &str, workflow_id: &str) {
    let input = json!({"tenantId": "acme", "connectorId": connector, "fullSync": false});
    let reuse = IdReuse::OneAtATime;
    installation.temporal.start_workflow("connectorSyncWorkflow", workflow_id, &input, reuse).await.expect("started");
}

async fn terminate(installation: &Installation, workflow_id: &str) {
    let client = installation.temporal.sdk_client().expect("client");
    let handle = client.get_workflow_handle::<UntypedWorkflow>(workflow_id);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_run_terminated_in_temporal_is_shown_as_ended_without_a_successor_and_a_live_one_is_left_alone() {
    let (installation, operator) = with_tenant().await;
    for connector in ["hubspot", "alive"] {
        installation.apply_connector(connector, json!({})).await;
        installation.connector_ready(connector, "True", "Configured").await;
        connected(&installation, connector).await;
        start(&installation, connector, connector).await;
    }
    let dead = take_lease(&installation, "hubspot", "hubspot", None).await;
    let first = take_lease(&installation, "alive", "alive", None).await;
    installation.connector_condition("hubspot", "Syncing", "True", "Running").await;
    // Its first execution ends, and a second one is at work under the same id: the list tells of the first.
    terminate(&installation, "alive").await;
    start(&installation, "alive", "alive").await;
    let alive = take_lease(&installation, "alive", "alive", Some(&first)).await;
    terminate(&installation, "hubspot").await;

    let object = installation.connector_condition("hubspot", "Syncing", "False", "Idle").await;
    let status = object.status.expect("status");
    assert!(is(&status.conditions, "Healthy", "False", "LastSyncFailed"), "{:?}", status.conditions);
    assert_eq!(status.last_sync.and_then(|sync| sync.error).as_deref(), Some("terminated in Temporal"));
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    assert_eq!(installation.store.lease_holder(&tenant, &connector).await, Ok(None));
    let zombie = installation.store.finish_run(&dead, &RunEnd::More, Default::default()).await;
    assert!(zombie.is_err(), "{zombie:?}");
    installation.store.park(&alive, None).await.expect("still its lease");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_failed_sync_is_started_again_also_by_the_next_operator_until_it_succeeds_or_the_restarts_are_used_up() {
    let (installation, operator) = with_tenant().await;
    let policy = json!({"maxRestarts": 2, "initialBackoff": "3s", "maxBackoff": "3s"});
    installation.apply_connector("hubspot", json!({"autoRestart": policy})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    connected(&installation, "hubspot").await;
    fail(&installation, "by-tick").await;
    operator.kill().await;
    let operator = installation.operator().await;
    let runs = |count: usize| {
        let installation = &installation;
        eventually("so many runs", SOON, move || async move {
            let runs = installation.workflows("connectorSyncWorkflow").await;
            assert!(runs.len() <= count, "{runs:?}");
            (runs.len() == count).then_some(runs)
        })
    };
    let first = runs(1).await.remove(0);
    installation.event("hubspot", "SyncRestarted").await;
    fail(&installation, &first).await;
    let second = runs(2).await.into_iter().find(|run| *run != first).expect("another one");
    fail(&installation, &second).await;
    let object = installation.connector_condition("hubspot", "Healthy", "False", "RestartsExhausted").await;
    let shown = object.status.and_then(|status| status.auto_restart);
    assert_eq!(shown, Some(AutoRestartStatus { count: 2, next_attempt_at: None }));
    installation.event("hubspot", "RestartsExhausted").await;

    complete(&installation, "by-the-next-tick").await;
    let object = installation.connector_condition("hubspot", "Healthy", "True", "LastSyncSucceeded").await;
    assert_eq!(object.status.and_then(|status| status.auto_restart), None, "reset by a success");
    runs(2).await;
    operator.stop().await;
}

async fn complete(installation: &Installation, workflow_id: &str) {
    let lease = take_lease(installation, "hubspot", workflow_id, None).await;
    let state = installation.store.sync_state(&lease).await.expect("reads");
    let mut next = state.load;
    while next.stream().is_some() {
        next.finish_stream();
    }
    let payload = gtm_sync::model::batch::BatchWriter::default().finish();
    let staged = NewStaged { seq: state.next_seq, next, entity_type: String::new(), payload, record_count: 0 };
    let staged_id = installation.store.stage(&lease, &staged).await.expect("stages");
    let batch = gtm_sync::contract::activities::StagedRef { staged_id, seq: state.next_seq };
    installation.store.apply(&lease, &[batch]).await.expect("applies");
    installation.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn what_is_older_than_its_target_is_stale_until_a_sync_completes_and_again_later() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", json!({"freshnessTarget": "4s"})).await;
    installation.connector_condition("hubspot", "Healthy", "False", "Stale").await;
    installation.event("hubspot", "Stale").await;
    connected(&installation, "hubspot").await;
    installation.connector_condition("hubspot", "Connected", "True", "Authenticated").await;
    complete(&installation, "by-tick").await;
    installation.connector_condition("hubspot", "Healthy", "True", "LastSyncSucceeded").await;
    installation.connector_condition("hubspot", "Healthy", "False", "Stale").await;
    operator.stop().await;
}
