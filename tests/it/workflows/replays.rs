//! Poison records and the way back: replay after the fix, and re-reading a range of time.

use gtm_sync::model::cursor::Window;

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn poison_at_one_in_a_thousand_costs_only_itself_and_a_replay_brings_the_rest() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(4_000).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    let contacts = crm.state().live_ids(Kind::Contacts);
    let poisoned: Vec<_> = contacts.iter().step_by(contacts.len() / 4).take(4).collect();
    let set = |text: &str| {
        for id in &poisoned {
            assert!(crm.state().update(Kind::Contacts, id, [("lastname".into(), Some(text.into()))].into()));
        }
    };
    set("no\0database takes it");
    crm.state().advance_clock(Duration::from_secs(900));
    let done = stack.sync("poisoned", "acme", "hubspot", true).await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(4)), "{done}");
    let entries = done["failedRecords"].as_array().expect("entries").len() as u64;
    assert_eq!(done["stats"]["failedBatches"], json!(entries));
    assert_eq!(stack.progress("poisoned").await.expect("answered")["errorsCount"], 4);
    let run = status(&stack).await.last_run.expect("a run");
    assert_eq!((run.stats.errors_count, run.stats.failed_batches), (4, entries));
    assert_eq!((status(&stack).await.dead_letters, texts(&stack, "SELECT source_id FROM dead_letter").len()), (4, 4));
    assert_clean(&stack, &crm, "acme", "hubspot").await;

    // The fix is younger than what an increment reads: only the replay brings it.
    set("mended at the source");
    let unmended = stack.sync("too early", "acme", "hubspot", false).await.completed();
    assert_eq!((&unmended["stats"]["errorsCount"], status(&stack).await.dead_letters), (&json!(0), 4));
    wish(&stack, &crm, Verb::Replay, "mended".into()).await;
    let mended = stack.sync("replay", "acme", "hubspot", false).await.completed();
    assert_eq!((&mended["stats"]["recordsWritten"], &mended["stats"]["errorsCount"]), (&json!(4), &json!(0)));
    assert_eq!((status(&stack).await.dead_letters, texts(&stack, "SELECT source_id FROM dead_letter").len()), (0, 0));
    let landed = texts(&stack, "SELECT source_id FROM contact WHERE last_name = 'mended at the source'");
    assert_eq!(landed.len(), 4);
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_resync_of_a_range_reads_it_again_and_leaves_the_cursor() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(300).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.sync("first", "acme", "hubspot", true).await.completed();
    crm.state().advance_clock(Duration::from_secs(3_600));
    let cursor = status(&stack).await.cursor;
    texts(
        &stack,
        "UPDATE contact SET last_name = 'overwritten', payload_hash = zeroblob(16) WHERE deleted_at IS NULL RETURNING source_id",
    );
    let window = Window { from: "2000-01-01T00:00:00Z".parse().expect("time"), to: crm.state().now() };
    wish(&stack, &crm, Verb::Resync, Wish { window: Some(window), ..Wish::from("all") }).await;
    let done = stack.sync("resync", "acme", "hubspot", false).await.completed();
    assert_eq!(done["outcome"], "complete", "{done}");
    assert_eq!(texts(&stack, "SELECT source_id FROM contact WHERE last_name = 'overwritten'"), []);
    assert_eq!(status(&stack).await.cursor, cursor);
    let quiet = stack.sync("after", "acme", "hubspot", false).await.completed();
    assert_eq!(quiet["stats"]["recordsWritten"], 0, "once: {quiet}");
    assert_ne!(status(&stack).await.cursor, cursor, "and then on from where it stood");
    // A full sync that begins with the wish reads its range with all the rest.
    wish(&stack, &crm, Verb::Resync, Wish { window: Some(window), ..Wish::from("all again") }).await;
    stack.sync("full", "acme", "hubspot", true).await.completed();
    assert_eq!(texts(&stack, "SELECT resync FROM sync_state"), [None]);
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}
