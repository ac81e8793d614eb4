//! Data that kills the worker which touches it (R44). The killer is a proxy: when the bytes of one record pass on their way
//! to the database, or from the source, the worker is killed with SIGKILL before they arrive.

use gtm_sync::{
    model::config::StreamConfig,
    store::{ConnectorProjection, DeadLetterRow, LetterSelection, Verb},
};
use serde_json::{Value, json};
use simulators::hubspot::{Kind, Simulator};

use super::{assert_clean, crm};
use crate::support::{
    databases::{address_of, fresh_database, through},
    postgres_url,
    proxy::Proxy,
    stack::{CANARY, Stack, Worker},
};

/// What the poisoned record holds.
const POISON: &str = "worker-killer";
/// More than the six starts of what is given up, and one more where the first was not alone.
const MOST_KILLS: u32 = 7;

/// An account with a poisoned contact in it, at this place of all contacts; gives its id.
async fn poisoned(seed: u64, records: u32, place: impl Fn(usize) -> usize) -> (Simulator, String) {
    let crm = crm(seed, records).await;
    let contacts = crm.state().live_ids(Kind::Contacts);
    let id = contacts[place(contacts.len())].clone();
    assert!(crm.state().update(Kind::Contacts, &id, [("lastname".into(), Some(POISON.into()))].into()));
    crm.state().advance_clock(std::time::Duration::from_secs(900));
    (crm, id)
}

/// Projects the connector of tenant `acme`, read from `base_url`, and connects it.
async fn connect(stack: &Stack, base_url: &str, edit: impl FnOnce(&mut ConnectorProjection)) {
    stack.tenant("acme", None).await;
    project(stack, base_url, edit).await;
    let id = crate::support::fresh("check");
    stack.start("checkConnectionWorkflow", &id, json!({"tenantId": "acme", "connectorId": "hubspot"})).await;
    stack.end(&id).await.completed();
}

async fn project(stack: &Stack, base_url: &str, edit: impl FnOnce(&mut ConnectorProjection)) {
    let pages = |connector: &mut ConnectorProjection| {
        connector.config.batch_size = 100;
        edit(connector);
    };
    stack.connector("acme", "hubspot", base_url, &format!("pat-{CANARY}"), pages).await;
}

/// Waits for the run's end, and kills the worker whenever it walks into the trap; gives the result and how many it cost.
async fn killed_each_time(
    stack: &Stack,
    trap: &Proxy,
    id: &str,
    start: impl Fn() -> Worker,
    first: Worker,
) -> (Value, u32) {
    let (mut worker, mut kills, mut sprung) = (first, 0, 0);
    loop {
        tokio::select! {
            ended = stack.end(id) => return (ended.completed(), kills),
            seen = trap.sprung(sprung) => {
                worker.kill();
                (kills, sprung) = (kills + 1, seen);
                assert!(kills <= MOST_KILLS, "it goes on for ever; log:\n{}", stack.log_tail());
                worker = start();
            }
        }
    }
}

async fn letters(stack: &Stack) -> Vec<DeadLetterRow> {
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    stack.store.dead_letters(&tenant, &connector, &LetterSelection::default(), None, 100).await.expect("lists")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_record_that_kills_its_workers_is_left_out_alone_and_a_replay_after_the_fix_brings_it() {
    let (crm, poison) = poisoned(51, 900, |count| count / 2).await;
    let database = fresh_database(&postgres_url()).await;
    let stack = Stack::on(&database, tempfile::tempdir().expect("directory")).await;
    // As a cell of the COPY: staged bytes and JSON have no tabs around it.
    let trap = Proxy::holding(&address_of(&database), format!("\t{POISON}\t").as_bytes()).await;
    let start = || stack.worker_with(&[("GTM_DATABASE_URL", &through(&database, trap.address))]);
    let worker = start();
    connect(&stack, &crm.base_url(), |_| {}).await;
    stack.start_sync("killed", "acme", "hubspot", true).await;
    let (done, kills) = killed_each_time(&stack, &trap, "killed", start, worker).await;
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(1)), "{done}");
    assert!(done["failedRecords"][0]["error"].as_str().is_some_and(|error| error.contains("WorkerLost")), "{done}");
    assert!(kills >= 6, "not given up before each of its stages had three: {kills}");
    let told: Vec<_> = letters(&stack).await.into_iter().map(|it| (it.source_id, it.code, it.payload.len())).collect();
    assert_eq!(told, [(Some(poison), "WorkerLost".to_owned(), 0)]);
    assert_clean(&stack, "acme", &crm).await;

    trap.release();
    let _mended = start();
    project(&stack, &crm.base_url(), |connector| connector.wishes = [(Verb::Replay, "mended".into())].into()).await;
    let replayed = stack.sync("replayed", "acme", "hubspot", false).await.completed();
    assert_eq!((&replayed["stats"]["recordsWritten"], letters(&stack).await.len()), (&json!(1), 0), "{replayed}");
    assert_clean(&stack, "acme", &crm).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_page_that_kills_its_workers_fails_its_stream_by_name_and_later_streams_are_read() {
    let (crm, _) = poisoned(52, 400, |_| 0).await;
    let stack = Stack::on_sqlite().await;
    let trap = Proxy::holding(&address_of(&crm.base_url()), POISON.as_bytes()).await;
    let base_url = format!("http://{}", trap.address);
    let worker = stack.worker();
    let streams = ["contacts", "deals"].map(|name| StreamConfig { name: name.to_owned(), ..StreamConfig::default() });
    connect(&stack, &base_url, |connector| connector.config.streams = streams.to_vec()).await;
    stack.start_sync("killed", "acme", "hubspot", true).await;
    let (done, kills) = killed_each_time(&stack, &trap, "killed", || stack.worker(), worker).await;
    assert_eq!((&done["outcome"], &done["failedStreams"]), (&json!("complete"), &json!(["contacts"])), "{done}");
    assert!(kills >= 6, "not given up before: {kills}");
    let run = stack.store.connector_statuses(None).await.expect("statuses").rows.remove(0).last_run.expect("a run");
    let error = run.error.unwrap_or_default();
    assert!(error.contains("contacts: WorkerLost"), "{error}");
    let deals = crm.state().live_ids(Kind::Deals).len() as u64;
    assert!(done["stats"]["recordsWritten"].as_u64() >= Some(deals), "later streams are read: {done}");
    assert_eq!(letters(&stack).await.len(), 0);

    trap.release();
    let _mended = stack.worker();
    let next = stack.sync("mended", "acme", "hubspot", false).await.completed();
    assert!(next["failedStreams"].is_null(), "{next}");
    let contacts = crm.state().live_ids(Kind::Contacts).len() as u64;
    assert!(next["stats"]["recordsWritten"].as_u64() >= Some(contacts), "from its beginning: {next}");
}
