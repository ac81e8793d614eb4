//! What takes as long as it takes: outages that no timer of the contract may be shortened for. Run by
//! `cargo xtask faults`, not by `cargo xtask test`.

use std::time::Duration;

use super::{assert_clean, connect, crm, servers::assert_whole};
use crate::support::{databases::fresh_database, eventually, servers::PostgresServer, stack::Stack, temporal_address};

/// Longer than two attempts of five minutes wait, so that it reaches the third and last (`MAXIMUM_ATTEMPTS`).
const OUTAGE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal; takes eleven minutes"]
async fn a_ten_minute_outage_of_the_store_in_mid_sync_dead_letters_nothing() {
    let mut postgres = PostgresServer::start().await;
    let database = fresh_database(&postgres.url).await;
    let stack = Stack::at(&temporal_address(), &database, tempfile::tempdir().expect("directory")).await;
    let crm = crm(41, 3_000).await;
    let _worker = stack.worker();
    connect(&stack, "acme", &crm, 100).await;
    stack.start_sync("outage", "acme", "hubspot", true).await;
    eventually("something is committed", Duration::from_secs(120), || async {
        let run = stack.store.connector_statuses(None).await.ok()?.rows.remove(0).last_run?;
        (run.stats.records_processed >= 300).then_some(())
    })
    .await;
    postgres.kill();
    tokio::time::sleep(OUTAGE).await;
    postgres.resume();
    postgres.ready().await;
    assert_whole(&stack.end("outage").await.completed());
    assert_eq!(stack.store.connector_statuses(None).await.expect("statuses").rows[0].dead_letters, 0);
    assert_clean(&stack, "acme", &crm).await;
}
