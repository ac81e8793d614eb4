//! Workers that are not dead but out of time: frozen, or cut off from Temporal while they go on with their work. Another
//! has taken over; nothing of the two may interleave.

use std::time::Duration;

use simulators::hubspot::{Effect, Fault, Simulator};

use super::{assert_clean, connect, crm};
use crate::support::{
    databases::address_of,
    eventually,
    proxy::Proxy,
    stack::{Stack, Worker},
};

/// A worker is missed after 30 s (`HEARTBEAT_TIMEOUT`); its work then goes to another one.
const MISSED: Duration = Duration::from_secs(90);

/// Waits until a second attempt of some activity is under way, which only another worker can have.
async fn taken_over(stack: &Stack, id: &str) {
    eventually("the work is another worker's", MISSED, || async {
        let attempts = stack.pending_attempts(id).await;
        attempts.into_iter().any(|attempt| attempt > 1).then_some(())
    })
    .await;
}

/// A run in the middle of its first load, at work on the first worker.
async fn in_the_middle(stack: &Stack, crm: &Simulator, id: &str) {
    connect(stack, "acme", crm, 100).await;
    // Slow enough that the worker is always caught at work.
    crm.state().add_fault(Fault::new("objects/2026-03", 12, Effect::Delay { milliseconds: 400 }));
    stack.start_sync(id, "acme", "hubspot", true).await;
    eventually("something is committed", MISSED, || async {
        let run = stack.store.connector_statuses(None).await.ok()?.rows.remove(0).last_run?;
        (run.stats.records_processed > 0).then_some(())
    })
    .await;
}

async fn ends_whole(stack: &Stack, crm: &Simulator, id: &str) {
    let done = stack.end(id).await.completed();
    let count = |name: &str| done["stats"][name].as_u64().expect("a count");
    assert_eq!((done["outcome"].as_str(), count("errorsCount")), (Some("complete"), 0), "{done}");
    assert_eq!(count("recordsProcessed"), count("recordsWritten") + count("recordsUnchanged"), "counted once: {done}");
    assert_clean(stack, "acme", crm).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_worker_that_wakes_up_after_it_was_given_up_changes_nothing() {
    let (stack, crm) = (Stack::on_postgres().await, crm(21, 2_000).await);
    let zombie = stack.worker();
    in_the_middle(&stack, &crm, "frozen").await;
    zombie.freeze();
    let _other: Worker = stack.worker();
    taken_over(&stack, "frozen").await;
    zombie.thaw();
    ends_whole(&stack, &crm, "frozen").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_worker_cut_off_from_temporal_alone_and_its_successor_write_each_record_once() {
    let (stack, crm) = (Stack::on_postgres().await, crm(22, 2_000).await);
    let proxy = Proxy::to(&address_of(&format!("http://{}", stack.settings.temporal_address))).await;
    let _cut_off = stack.worker_with(&[("TEMPORAL_ADDRESS", &proxy.address.to_string())]);
    in_the_middle(&stack, &crm, "cut-off").await;
    proxy.cut();
    let _other: Worker = stack.worker();
    taken_over(&stack, "cut-off").await;
    proxy.mend();
    ends_whole(&stack, &crm, "cut-off").await;
}
