//! Records one history of each shape from real runs on Temporal's dev server and replays them at once. With
//! `GTM_TEST_HISTORIES` set (`cargo xtask histories`) they are written there, to be committed.

use std::{path::Path, time::Duration};

use prost::Message as _;
use serde_json::json;
use simulators::hubspot::{Effect, Fault, Limits, Options, Simulator};
use temporalio_common::protos::temporal::api::history::v1::{History, HistoryEvent, history_event::Attributes};

use super::{LEVEL, SUFFIX, assert_all_replay};
use crate::support::{
    eventually,
    stack::{CANARY, Ended, Stack},
    wish,
};

/// Enough pages of 100 for more events than one execution may have (`MAX_HISTORY_EVENTS`).
const LONG: u32 = 26_000;

async fn crm(records: u32) -> Simulator {
    let options =
        Options { records, token: format!("pat-{CANARY}"), limits: Limits::unlimited(), ..Options::default() };
    Simulator::start(options).await.expect("simulator")
}

/// Connects a connector of tenant `acme` to a simulator.
async fn connect(stack: &Stack, connector: &str, crm: &Simulator, batch_size: u32) {
    stack.tenant("acme", None).await;
    let edit = |it: &mut gtm_sync::store::ConnectorProjection| it.config.batch_size = batch_size;
    stack.connector("acme", connector, &crm.base_url(), &format!("pat-{CANARY}"), edit).await;
    let (id, input) = (format!("check-{connector}"), json!({"tenantId": "acme", "connectorId": connector}));
    stack.start("checkConnectionWorkflow", &id, input).await;
    stack.end(&id).await.completed();
}

fn write(directory: &Path, shape: &str, events: Vec<HistoryEvent>) {
    let bytes = History { events }.encode_to_vec();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for secret in [CANARY, env!("CARGO_MANIFEST_DIR")] {
        assert!(!text.contains(secret), "{shape} holds {secret}");
    }
    let bytes = zstd::encode_all(&*bytes, LEVEL).expect("compressed");
    std::fs::write(directory.join(format!("{shape}{SUFFIX}")), bytes).expect("written");
}

/// `complete`, `tick` and `checked-connection`.
async fn record_good_days(stack: &Stack, directory: &Path) {
    let crm = crm(120).await;
    connect(stack, "complete", &crm, 50).await;
    write(directory, "checked-connection", stack.events("check-complete").await);
    stack.sync("complete", "acme", "complete", true).await.completed();
    write(directory, "complete", stack.events("complete").await);
    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    assert_eq!(stack.end("tick").await.completed()["successes"], 1);
    write(directory, "tick", stack.events("tick").await);
}

/// `parked`: the source asks to wait.
async fn record_parked(stack: &Stack, directory: &Path) {
    let crm = crm(120).await;
    connect(stack, "parked", &crm, 500).await;
    let throttled = Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds: Some(3) };
    crm.state().add_fault(Fault::new("contacts", 4, throttled));
    stack.sync("parked", "acme", "parked", true).await.completed();
    let events = stack.events("parked").await;
    assert!(events.iter().any(|event| matches!(event.attributes, Some(Attributes::TimerStartedEventAttributes(_)))));
    write(directory, "parked", events);
}

/// `dead-lettered`: the store refuses a batch whole, three times; the run steps past it and goes on.
async fn record_dead_lettered(stack: &Stack, directory: &Path) {
    let crm = crm(120).await;
    connect(stack, "dead-lettered", &crm, 50).await;
    let file = stack.database_url.strip_prefix("sqlite:").expect("SQLite");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON failed_record WHEN NEW.error LIKE '% rejected: %'
        BEGIN SELECT RAISE(ABORT, 'refused'); END";
    rusqlite::Connection::open(file).expect("opens").execute_batch(refuse).expect("refuses");
    let damaged = Effect::MalformedRecord { defect: Default::default() };
    crm.state().add_fault(Fault::always("objects/2026-03/deals", damaged));
    let done = stack.sync("dead-lettered", "acme", "dead-lettered", true).await.completed();
    assert!(done["stats"]["failedBatches"].as_u64() >= Some(1), "{done}");
    let (text, _) = stack.history("dead-lettered").await;
    assert!(text.contains("\"deadLetter\""), "a whole batch was stepped over");
    write(directory, "dead-lettered", stack.events("dead-lettered").await);
    rusqlite::Connection::open(file).expect("opens").execute_batch("DROP TRIGGER refuse").expect("takes all again");
}

/// `failed`: no stream may be read. `cancelled`: while a page is awaited.
async fn record_ends(stack: &Stack, directory: &Path) {
    let refusing = crm(60).await;
    connect(stack, "failed", &refusing, 500).await;
    refusing.state().add_fault(Fault::always("", Effect::Status { status: 403 }));
    let ended = stack.sync("failed", "acme", "failed", true).await;
    assert!(matches!(ended, Ended::Failed { .. }), "{ended:?}");
    write(directory, "failed", stack.events("failed").await);

    let hanging = crm(60).await;
    connect(stack, "cancelled", &hanging, 500).await;
    hanging.state().add_fault(Fault::always("contacts", Effect::Hang));
    stack.start_sync("cancelled", "acme", "cancelled", true).await;
    let (tenant, connector) = ("acme".parse().expect("id"), "cancelled".parse().expect("id"));
    eventually("the run holds the lease", Duration::from_secs(60), || async {
        stack.store.lease_holder(&tenant, &connector).await.expect("store answers")
    })
    .await;
    stack.cancel("cancelled").await;
    write(directory, "cancelled", stack.events("cancelled").await);
}

/// `continued-as-new` and the execution that goes on, `continued-from`; nothing is lost between them.
async fn record_continued(stack: &Stack, directory: &Path) {
    let crm = crm(LONG).await;
    connect(stack, "continued", &crm, 1).await;
    let done = stack.sync("continued", "acme", "continued", true).await.completed();
    assert!(done["stats"]["recordsWritten"].as_u64() >= Some(u64::from(LONG)), "{done}");
    let successor = stack.events("continued").await;
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = &successor[0].attributes else {
        panic!("a history begins with its start")
    };
    let input =
        started.input.iter().flat_map(|input| &input.payloads).map(|payload| String::from_utf8_lossy(&payload.data));
    let input: String = input.collect();
    assert!(input.contains("startedAt"), "the budget does not begin anew: {input}");
    let first = stack.events_of_run("continued", &started.first_execution_run_id).await;
    let last = first.last().and_then(|event| event.attributes.as_ref());
    assert!(matches!(last, Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_))), "{last:?}");
    assert!(first.len() < 2_000, "{} events in one execution", first.len());
    write(directory, "continued-as-new", first);
    write(directory, "continued-from", successor);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn histories_recorded_now_replay_and_a_long_run_goes_on_as_a_new_execution() {
    let stack = Stack::on_sqlite().await;
    let _worker = stack.worker();
    let temporary = tempfile::tempdir().expect("a directory");
    let wanted = wish("GTM_TEST_HISTORIES");
    let directory = wanted.as_deref().map_or(temporary.path(), Path::new);
    // The tick lists every connector of its tenant, so it comes before the others.
    record_good_days(&stack, directory).await;
    record_parked(&stack, directory).await;
    record_dead_lettered(&stack, directory).await;
    record_ends(&stack, directory).await;
    record_continued(&stack, directory).await;
    assert_all_replay(directory).await;
}
