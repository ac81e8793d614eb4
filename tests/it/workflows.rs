//! The workflows on a real Temporal server, by worker processes of the real binary, against the simulated HubSpot:
//! contract, results, parking, dead letters, killed workers, outages, and what must never enter a history.

mod budgets;
mod completeness;
mod effects;
mod people;
mod pools;
mod replays;
mod restores;
mod shares;
mod wishes;
mod workers;

use std::time::Duration;

use gtm_sync::{
    model::config::StreamConfig,
    store::{ConnectorProjection, ConnectorStatusRow, Verb, Wish},
};
use serde_json::{Value, json};
use simulators::{
    checker,
    hubspot::{Edits, Effect, Fault, Kind, Limits, Options, Simulator},
};

use crate::support::{
    eventually, fresh, postgres_url,
    proxy::Proxy,
    stack::{CANARY, Ended, Stack, Worker},
};

const LONG: Duration = Duration::from_secs(120);

async fn crm(records: u32) -> Simulator {
    let options =
        Options { records, token: format!("pat-{CANARY}"), limits: Limits::unlimited(), ..Options::default() };
    Simulator::start(options).await.expect("simulator")
}

/// Wishes this of the connector, as the operator would on a fresh token.
async fn wish(stack: &Stack, crm: &Simulator, verb: Verb, wish: Wish) {
    let wishes = [(verb, wish)].into();
    let token = format!("pat-{CANARY}");
    stack.connector("acme", "hubspot", &crm.base_url(), &token, |connector| connector.wishes = wishes).await;
}

async fn status(stack: &Stack) -> ConnectorStatusRow {
    stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0)
}

/// The texts of the first column of a query of the SQLite file.
fn texts(stack: &Stack, sql: &str) -> Vec<Option<String>> {
    let path = stack.database_url.trim_start_matches("sqlite:");
    let connection = rusqlite::Connection::open(path).expect("opens");
    let mut statement = connection.prepare(sql).expect("prepares");
    let rows = statement.query_map([], |row| row.get(0)).expect("queries");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// One tenant `acme` with one connector `hubspot`, connected.
async fn acme(stack: &Stack, crm: &Simulator) {
    stack.tenant("acme", None).await;
    stack.connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), |_| {}).await;
    check_connection(stack, "acme", "hubspot").await.completed();
}

async fn check_connection(stack: &Stack, tenant: &str, connector: &str) -> Ended {
    let id = fresh("check");
    stack.start("checkConnectionWorkflow", &id, json!({"tenantId": tenant, "connectorId": connector})).await;
    stack.end(&id).await
}

async fn assert_clean(stack: &Stack, crm: &Simulator, tenant: &str, connector: &str) {
    let target = checker::Target {
        database: stack.database_url.clone(),
        tenant: tenant.to_owned(),
        connector: connector.to_owned(),
        streams: Vec::new(),
    };
    let report = checker::check(&checker::Source::InProcess(crm.state()), &target).await.expect("checker runs");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn full_then_incremental_then_archived_leave_nothing_for_the_checker_to_find() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(1_500).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;

    let full = stack.sync("sync-acme-hubspot-full", "acme", "hubspot", true).await.completed();
    assert_eq!(full["outcome"], "complete");
    assert!(full["stats"]["recordsWritten"].as_u64().expect("count") >= 1_500, "{full}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;

    let progress = stack.progress("sync-acme-hubspot-full").await.expect("answered");
    let processed = full["stats"]["recordsProcessed"].clone();
    let expected = json!({"entityType": "", "recordsProcessed": processed, "errorsCount": full["stats"]["errorsCount"], "phase": "complete"});
    assert_eq!(progress, expected, "exactly the contract's four fields");

    crm.state().edit_random(Edits { seed: 7, create: 20, update: 100, archive: 15, merge: 2 });
    crm.state().advance_clock(Duration::from_secs(900));
    let incremental = stack.sync("sync-acme-hubspot-incremental", "acme", "hubspot", false).await.completed();
    let written = incremental["stats"]["recordsWritten"].as_u64().expect("count");
    assert!((100..800).contains(&written), "an increment, not everything: {incremental}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;

    crm.state().advance_clock(Duration::from_secs(900));
    let quiet = stack.sync("sync-acme-hubspot-quiet", "acme", "hubspot", false).await.completed();
    assert_eq!(quiet["stats"]["recordsWritten"], 0, "{quiet}");

    let contacts = crm.state().live_ids(Kind::Contacts);
    let email = |id: &String| crm.state().property(Kind::Contacts, id, "email").filter(|email| email.contains('@'));
    let emails: Vec<String> = contacts.iter().filter_map(email).collect();
    assert!(emails.len() > 50);
    for id in ["sync-acme-hubspot-full", "sync-acme-hubspot-incremental"] {
        let (history, largest) = stack.history(id).await;
        assert!(!history.contains(CANARY), "a secret in the history of {id}");
        for email in &emails {
            assert!(!history.contains(email), "a record's e-mail address in the history of {id}");
        }
        assert!(largest < 5_000, "{largest} bytes in one event of {id}");
    }
    let log = std::fs::read_to_string(stack.log_path()).expect("worker log");
    assert!(!log.contains(CANARY), "a secret in the worker's log");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_wrong_input_fails_at_once_with_its_field_and_a_missing_connector_says_so() {
    let stack = Stack::on_sqlite().await;
    let _worker = stack.worker();
    let cases = [
        ("missing", json!({"tenantId": "acme", "fullSync": true}), "connectorId"),
        ("type", json!({"tenantId": "acme", "connectorId": "hubspot", "fullSync": "yes"}), "boolean"),
        ("id", json!({"tenantId": "Not A Label", "connectorId": "hubspot", "fullSync": true}), "tenantId"),
        ("unknown", json!({"tenantId": "acme", "connectorId": "nobody", "fullSync": true, "extra": 1}), "nobody"),
    ];
    for (name, input, expected) in cases {
        stack.start("connectorSyncWorkflow", name, input).await;
        let Ended::Failed { type_name, message } = stack.end(name).await else { panic!("{name} completed") };
        assert_eq!(type_name, "InvalidInput", "{message}");
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_refused_credential_disconnects_with_a_reason_and_a_new_one_connects() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(20).await);
    let _worker = stack.worker();
    stack.tenant("acme", None).await;
    stack.connector("acme", "hubspot", &crm.base_url(), "pat-wrong", |_| {}).await;
    let Ended::Failed { type_name, .. } = check_connection(&stack, "acme", "hubspot").await else { panic!("accepted") };
    assert_eq!(type_name, "Unauthorised");
    let status = |stack: &Stack| {
        let store = stack.store.clone();
        async move { store.connector_statuses(None).await.expect("statuses").rows.remove(0) }
    };
    let refused = status(&stack).await;
    assert_eq!(json!(refused.connection_status), "disconnected");
    assert!(refused.connection_reason.contains("401"), "{}", refused.connection_reason);
    assert!(stack.store.list_connected(&"acme".parse().expect("id")).await.expect("list").connectors.is_empty());

    stack.connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), |_| {}).await;
    let checked = check_connection(&stack, "acme", "hubspot").await.completed();
    assert_eq!(checked, json!({"status": "connected"}));
    assert_eq!(json!(status(&stack).await.connection_status), "connected");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_tick_counts_each_child_by_itself_and_one_failure_leaves_the_others_alone() {
    let (stack, good, bad) = (Stack::on_sqlite().await, crm(60).await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &good).await;
    let token = format!("pat-{CANARY}");
    stack.connector("acme", "broken", &bad.base_url(), &token, |_| {}).await;
    stack.connector("acme", "own", &good.base_url(), &token, |connector| connector.own_schedule = true).await;
    for connector in ["broken", "own"] {
        check_connection(&stack, "acme", connector).await.completed();
    }
    bad.state().add_fault(Fault::always("", Effect::Status { status: 403 }));

    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    let tick = stack.end("tick").await.completed();
    let expected =
        json!({"processed": 2, "successes": 1, "failures": 1, "skipped": 0, "stillRunning": 0, "ownSchedule": 1});
    assert_eq!(tick, expected);
    assert_clean(&stack, &good, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_tick_ends_in_time_and_its_slow_child_goes_on() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.tenant("acme", Some(2)).await;
    crm.state().add_fault(Fault::new("owners", 1, Effect::Delay { milliseconds: 8_000 }));
    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    let tick = stack.end("tick").await.completed();
    assert_eq!((&tick["stillRunning"], &tick["processed"]), (&json!(1), &json!(1)), "{tick}");
    let run = stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0).last_run.expect("a run");
    assert_eq!(stack.end(&run.workflow_id).await.completed()["outcome"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn of_two_runs_of_one_connector_the_second_ends_skipped_and_names_the_first() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    crm.state().add_fault(Fault::new("owners", 1, Effect::Delay { milliseconds: 6_000 }));
    stack.start_sync("first", "acme", "hubspot", true).await;
    holds_the_lease(&stack, "first").await;
    let second = stack.sync("second", "acme", "hubspot", false).await.completed();
    assert_eq!((&second["outcome"], &second["skippedFor"]), (&json!("skipped"), &json!("first")));
    assert_eq!(stack.end("first").await.completed()["outcome"], "complete");
}

async fn holds_the_lease(stack: &Stack, workflow_id: &str) {
    eventually("the run holds the lease", LONG, || async {
        let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
        let holder = stack.store.lease_holder(&tenant, &connector).await.expect("store answers")?;
        (holder.workflow_id == workflow_id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_full_sync_waits_for_the_run_at_work_so_that_the_wish_is_not_lost() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    crm.state().add_fault(Fault::new("owners", 1, Effect::Delay { milliseconds: 6_000 }));
    stack.start_sync("first", "acme", "hubspot", false).await;
    holds_the_lease(&stack, "first").await;
    let full = stack.sync("full", "acme", "hubspot", true).await.completed();
    assert_eq!(full["outcome"], "complete", "{full}");
    let again = full["stats"]["recordsUnchanged"].as_u64().expect("count");
    assert!(again >= 60, "everything was read once more: {full}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn pages_without_news_move_the_position_all_the_same() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(2_000).await);
    let _worker = stack.worker();
    stack.tenant("acme", None).await;
    let only_contacts = |connector: &mut ConnectorProjection| {
        connector.config.streams = vec![StreamConfig { name: "contacts".to_owned(), ..StreamConfig::default() }];
    };
    stack.connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), only_contacts).await;
    check_connection(&stack, "acme", "hubspot").await.completed();
    for id in crm.state().live_ids(Kind::Contacts).iter().take(350) {
        assert!(crm.state().archive(Kind::Contacts, id));
    }
    crm.state().advance_clock(Duration::from_secs(3_600));
    stack.sync("full", "acme", "hubspot", true).await.completed();

    // The increment lists the old pages of the archive, none of which holds anything new; the third is throttled.
    let archived = crm.state().count(Kind::Contacts) as usize - crm.state().live_ids(Kind::Contacts).len();
    crm.state().advance_clock(Duration::from_secs(3_600));
    let list = "GET /crm/objects/2026-03/contacts";
    let asked = || crm.state().stats().requests.get(list).map_or(0, |by_status| by_status.values().sum::<u64>());
    let before = asked();
    let throttled = Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds: Some(3) };
    let fault = Fault { method: Some("GET".to_owned()), ..Fault::new("objects/2026-03/contacts", 1, throttled) };
    crm.state().add_fault(fault.after(2));
    let done = stack.sync("increment", "acme", "hubspot", false).await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["recordsWritten"]), (&json!("complete"), &json!(0)), "{done}");
    assert_eq!(asked() - before, archived.div_ceil(100) as u64 + 1, "each page once, and the throttled request");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_credential_of_another_account_is_said_and_a_reset_starts_over() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(30).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.sync("before", "acme", "hubspot", true).await.completed();
    crm.state().set_portal_id(777);
    let Ended::Failed { type_name, .. } = stack.sync("refused", "acme", "hubspot", false).await else {
        panic!("two accounts were mixed")
    };
    assert_eq!(type_name, "Configuration");
    let status = stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0);
    assert!(status.connection_reason.contains("account changed"), "{}", status.connection_reason);

    let reset = |token: &'static str| {
        move |connector: &mut ConnectorProjection| {
            connector.wishes = [(Verb::ResetCursor, token.into())].into();
        }
    };
    stack.connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), reset("new account")).await;
    let after = stack.sync("after", "acme", "hubspot", false).await.completed();
    assert!(after["stats"]["recordsWritten"].as_u64().expect("count") >= 30, "everything again: {after}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_credential_that_changes_while_a_load_is_at_work_is_looked_at_before_it_is_read_with() {
    let (stack, first, other) = (Stack::on_sqlite().await, crm(300).await, crm(300).await);
    other.state().set_portal_id(777);
    let _worker = stack.worker();
    acme(&stack, &first).await;
    first.state().add_fault(Fault::new("deals", 1, Effect::Delay { milliseconds: 6_000 }));
    stack.start_sync("mixed", "acme", "hubspot", true).await;
    holds_the_lease(&stack, "mixed").await;
    let replaced = |connector: &mut ConnectorProjection| {
        connector.credential.as_mut().expect("a credential").digest = "another".to_owned();
    };
    stack.connector("acme", "hubspot", &other.base_url(), &format!("pat-{CANARY}"), replaced).await;
    // The attempt at work fails; the next one opens the connector anew.
    drop(first);
    let Ended::Failed { type_name, .. } = stack.end("mixed").await else { panic!("two accounts were mixed") };
    assert_eq!(type_name, "Configuration");
    let read = other.state().stats().requests;
    assert!(read.keys().all(|request| !request.contains("/crm/")), "nothing is read of it: {:?}", read.keys());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_terminated_run_is_taken_over_by_the_next_one() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    crm.state().add_fault(Fault::new("owners", 1, Effect::Hang));
    stack.start_sync("stuck", "acme", "hubspot", true).await;
    holds_the_lease(&stack, "stuck").await;
    let stuck = stack.client.get_workflow_handle::<temporalio_client::UntypedWorkflow>("stuck");
    stuck.terminate(temporalio_client::WorkflowTerminateOptions::default()).await.expect("terminated");
    let next = stack.sync("next", "acme", "hubspot", false).await.completed();
    assert_eq!(next["outcome"], "complete");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_throttled_source_parks_the_run_and_burns_no_attempt() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(300).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    let throttled =
        |seconds| Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds: seconds };
    crm.state().add_fault(Fault::new("contacts", 4, throttled(Some(3))));
    let done = stack.sync("throttled", "acme", "hubspot", true).await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(0)));
    let (history, _) = stack.history("throttled").await;
    assert_eq!(status(&stack).await.last_run.expect("a run").stats.activity_retries, 0);
    assert!(history.contains("RateLimited") || history.contains("asked to wait"), "the history says why it waited");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn malformed_records_become_dead_letters_and_all_others_land() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(600).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    for stream in ["companies", "contacts", "deals"] {
        let effect = Effect::MalformedRecord { defect: Default::default() };
        crm.state().add_fault(Fault::new(format!("objects/2026-03/{stream}"), 1, effect));
    }
    let done = stack.sync("dirty", "acme", "hubspot", true).await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(3)), "{done}");
    let entries = done["failedRecords"].as_array().expect("entries");
    assert_eq!(json!(entries.len()), done["stats"]["failedBatches"]);
    let entry = entries.first().and_then(Value::as_object).expect("an entry");
    assert_eq!(entry.keys().map(String::as_str).collect::<Vec<_>>(), ["batchIndex", "error", "timestamp"]);
    let status = stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0);
    assert_eq!(status.dead_letters, 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_killed_worker_loses_nothing_and_doubles_nothing() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(2_000).await);
    let mut worker = stack.worker();
    acme(&stack, &crm).await;
    stack.start_sync("killed", "acme", "hubspot", true).await;
    for enough in [200, 900] {
        eventually("some records are committed", LONG, || async {
            let status = stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0);
            let run = status.last_run?;
            (run.stats.records_processed >= enough || run.finished_at.is_some()).then_some(())
        })
        .await;
        worker.kill();
        worker = stack.worker();
    }
    let done = stack.end("killed").await.completed();
    assert_eq!(done["outcome"], "complete");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
    let total = done["stats"]["recordsProcessed"].as_u64().expect("count");
    let parts: u64 = ["recordsWritten", "recordsUnchanged", "errorsCount"]
        .iter()
        .filter_map(|part| done["stats"][part].as_u64())
        .sum();
    assert_eq!(total, parts, "counted once: {done}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn sigterm_ends_a_worker_in_time_and_its_run_goes_on_elsewhere() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(1_000).await);
    let mut first = stack.worker();
    acme(&stack, &crm).await;
    stack.start_sync("drained", "acme", "hubspot", true).await;
    holds_the_lease(&stack, "drained").await;
    first.terminate();
    let exit = eventually("the worker leaves", Duration::from_secs(60), || {
        let exited = first.exited();
        async move { exited }
    })
    .await;
    assert!(exit.success(), "{exit}");
    let _second = stack.worker();
    assert_eq!(stack.end("drained").await.completed()["outcome"], "complete");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn an_outage_of_the_store_in_mid_sync_is_waited_out_and_dead_letters_nothing() {
    let base = postgres_url();
    let database = fresh("outage").replace('-', "_");
    create_database(&base, &database).await;
    let target: url::Url = base.parse().expect("URL");
    let address = format!("{}:{}", target.host_str().expect("host"), target.port().unwrap_or(5432));
    let proxy = Proxy::to(&address).await;
    let mut url = target.clone();
    url.set_host(Some("127.0.0.1")).expect("host");
    url.set_port(Some(proxy.address.port())).expect("port");
    url.set_path(&database);
    let stack = Stack::on(url.as_str(), tempfile::tempdir().expect("directory")).await;
    let crm = crm(1_500).await;
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.start_sync("outage", "acme", "hubspot", true).await;
    holds_the_lease(&stack, "outage").await;
    proxy.cut();
    // Long enough that three attempts at Temporal's own pace (1 s, 2 s) would be over.
    tokio::time::sleep(Duration::from_secs(12)).await;
    proxy.mend();
    let done = stack.end("outage").await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(0)), "{done}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

async fn create_database(base: &str, name: &str) {
    let (client, connection) = tokio_postgres::connect(base, tokio_postgres::NoTls).await.expect("postgres");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.expect("created");
    drop(client);
    connection.await.expect("task").expect("closed");
}
