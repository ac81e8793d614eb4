//! Single faults of PostgreSQL and Temporal, on purpose and not at random.

use std::time::Duration;

use serde_json::json;

use super::{assert_clean, connect, crm, equal::client};
use crate::support::{
    databases::{address_of, fresh_database, through},
    eventually, fresh, postgres_url,
    proxy::Proxy,
    servers::TemporalServer,
    stack::{Ended, Stack, register_namespace},
};

const LONG: Duration = Duration::from_secs(120);

/// Counts that add up, and nothing but what the source meant to be rejected.
pub(super) fn assert_whole(done: &serde_json::Value) {
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(0)), "{done}");
    let count = |name: &str| done["stats"][name].as_u64().expect("a count");
    assert_eq!(count("recordsProcessed"), count("recordsWritten") + count("recordsUnchanged"), "{done}");
}

/// A statement of each transaction of a run, in the order in which they come.
const COMMITS: [(&str, &str); 5] = [
    ("the request budget", "gtm.budget"),
    ("the lease", "SET epoch = $4"),
    ("a staged batch", "INSERT INTO gtm.staged_batch"),
    ("a commit of batches", "INSERT INTO gtm.applied_batch"),
    ("the end of the run", "SET epoch = NULL"),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let database = fresh_database(&postgres_url()).await;
    let stack = Stack::on(&database, tempfile::tempdir().expect("directory")).await;
    let crm = crm(11, 600).await;
    {
        let _worker = stack.worker();
        connect(&stack, "acme", &crm, 200).await;
    }
    for (number, (what, statement)) in (0..).zip(COMMITS) {
        let proxy = Proxy::losing_the_answer_to_the_commit_of(&address_of(&database), statement).await;
        let _worker = stack.worker_with(&[("GTM_DATABASE_URL", &through(&database, proxy.address))]);
        match stack.sync(&format!("lost-{number}"), "acme", "hubspot", true).await {
            Ended::Completed(done) => assert_whole(&done),
            failed => panic!("{what}: {failed:?}\n{}", stack.log_tail()),
        }
        assert!(proxy.has_lost_it(), "{what}: no answer was lost");
    }
    assert_clean(&stack, "acme", &crm).await;
}

/// Errors of a server that has no fault in the data: each must be tried again whole, never dead-lettered. Raised in the
/// middle of commits, one after the other; the sequence that counts them is not rolled back.
const HEALING: [(&str, &str); 6] = [
    ("deadlock", "40P01"),
    ("serialisation failure", "40001"),
    ("disk full", "53100"),
    ("too many connections", "53300"),
    ("read-only after a fail-over", "25006"),
    ("shutdown by the administrator", "57P01"),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_transaction_that_the_server_gives_up_is_tried_again_whole_and_dead_letters_nothing() {
    let stack = Stack::on_postgres().await;
    let crm = crm(12, 1_500).await;
    let _worker = stack.worker();
    connect(&stack, "acme", &crm, 200).await;
    let codes = HEALING.map(|(_, code)| format!("'{code}'")).join(", ");
    let refuse = format!(
        "CREATE SEQUENCE gtm_test.refusals;
         CREATE FUNCTION gtm_test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE turn bigint := nextval('gtm_test.refusals');
         BEGIN
             IF turn % 2 = 1 AND turn / 2 < {count} THEN
                 RAISE EXCEPTION 'on purpose' USING ERRCODE = (ARRAY[{codes}])[turn / 2 + 1];
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON gtm.applied_batch FOR EACH ROW EXECUTE FUNCTION gtm_test.refuse()",
        count = HEALING.len()
    );
    let database = client(&stack.database_url).await;
    database.batch_execute(&refuse).await.expect("refuses");
    let done = stack.sync("refused", "acme", "hubspot", true).await.completed();
    let turns: i64 = database.query_one("SELECT last_value FROM gtm_test.refusals", &[]).await.expect("turns").get(0);
    assert!(turns >= 2 * HEALING.len() as i64, "each was met: {turns}");
    assert_whole(&done);
    assert_eq!(stack.store.connector_statuses(None).await.expect("statuses").rows[0].dead_letters, 0);
    assert_clean(&stack, "acme", &crm).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_server_with_too_few_connections_slows_a_run_and_dead_letters_nothing() {
    let database = fresh_database(&postgres_url()).await;
    let stack = Stack::on(&database, tempfile::tempdir().expect("directory")).await;
    let user = fresh("few").replace('-', "_");
    let superuser = client(&database).await;
    let grant = format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{user}' CONNECTION LIMIT 1; GRANT USAGE ON SCHEMA gtm, gtm_test TO {user};
         GRANT ALL ON ALL TABLES IN SCHEMA gtm, gtm_test TO {user}"
    );
    superuser.batch_execute(&grant).await.expect("granted");
    let mut url: url::Url = database.parse().expect("URL");
    url.set_username(&user).expect("user");
    url.set_password(Some(&user)).expect("password");
    let crm = crm(13, 800).await;
    let _worker = stack.worker_with(&[("GTM_DATABASE_URL", url.as_str())]);
    connect(&stack, "acme", &crm, 100).await;
    let done = stack.sync("few", "acme", "hubspot", true).await.completed();
    assert_whole(&done);
    assert_clean(&stack, "acme", &crm).await;
    let log = std::fs::read_to_string(stack.log_path()).expect("worker log");
    assert!(log.contains("53300"), "the limit was met");
    superuser.batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_temporal_that_lost_everything_costs_no_record_and_the_next_run_goes_on_where_the_last_one_was() {
    let mut temporal = TemporalServer::start().await;
    let database = fresh_database(&postgres_url()).await;
    let stack = Stack::at(&temporal.address, &database, tempfile::tempdir().expect("directory")).await;
    let crm = crm(14, 3_000).await;
    let _worker = stack.worker();
    connect(&stack, "acme", &crm, 100).await;
    stack.start_sync("forgotten", "acme", "hubspot", true).await;
    let committed = eventually("something is committed", LONG, || async {
        let run = stack.store.connector_statuses(None).await.ok()?.rows.remove(0).last_run?;
        (run.stats.records_processed >= 500).then_some(run.stats.records_processed)
    })
    .await;
    temporal.kill();
    temporal.forget();
    temporal.resume();
    temporal.ready().await;
    // What an operator does that finds an empty server: namespace and marker (R17); schedules are its own tests'.
    let (empty, _) = register_namespace(&temporal.address, &stack.settings.temporal_namespace).await;
    let installation = stack.store.installation_id().await.expect("installation id");
    empty.ensure_installation(&installation).await.expect("marked");
    let done = stack.sync("after", "acme", "hubspot", false).await.completed();
    assert_whole(&done);
    let read_again = done["stats"]["recordsProcessed"].as_u64().expect("a count");
    assert!(read_again + committed <= 3_400, "{read_again} of the second run, {committed} of the first");
    assert_clean(&stack, "acme", &crm).await;
}
