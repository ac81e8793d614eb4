//! Records that cannot be written: isolated, kept, counted, and a ceiling above which the run fails instead.

use gtm_sync::{
    contract::activities::StagedRef,
    model::{
        batch::{Batch, Record},
        cursor::Load,
    },
    store::{ConnectorProjection, Error, NewStaged},
};

use super::world::{World, batch, connector, contact, load_at, poison, rejected, tombstone};

pub(crate) async fn rejected_records_are_kept_and_make_one_entry_a_batch(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rejections = [
        rejected("7", "UnparsableRecord", None),
        rejected("8", "UnstorableValue", Some("email")),
        rejected("9", "UnstorableValue", Some("email")),
    ];
    let bad = world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "a")], &rejections)).await;
    let good = world.stage(&lease, 1, load_at(2), batch(&[contact("2", None, "b")], &[])).await;
    let applied = world.store.apply(&lease, &[bad, good]).await.expect("applies");
    assert_eq!((applied.stats.errors_count, applied.stats.failed_batches, applied.failed.len()), (3, 1, 1));
    assert_eq!(applied.failed[0].error, "3 rejected: UnstorableValue (email) ×2, UnparsableRecord");
    assert_eq!(world.store.failed_records(&lease, 10).await, Ok(applied.failed));
    let kept = world
        .probe
        .rows(
            "SELECT source_id, entity, code, field, payload_form, CAST(batch_index AS TEXT), workflow_id, account_id
            FROM dead_letter ORDER BY source_id",
        )
        .await;
    let texts: Vec<Vec<_>> =
        kept.iter().map(|row| row.iter().map(|text| text.as_deref().unwrap_or("-")).collect()).collect();
    assert_eq!(texts[0], ["7", "contact", "UnparsableRecord", "-", "served", "0", "run-1", "portal-1"]);
    assert_eq!(texts[1], ["8", "contact", "UnstorableValue", "email", "served", "0", "run-1", "portal-1"]);
    assert_eq!(texts.len(), 3);
}

pub(crate) async fn rows_that_the_database_refuses_are_isolated_and_the_good_ones_land(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let ids: Vec<_> = (0..40).map(|id| format!("{id:02}")).collect();
    let mut rows: Vec<_> = ids.iter().map(|id| contact(id, None, "good")).collect();
    rows[3] = poison("03");
    rows[31] = poison("31");
    rows[35] = tombstone("35", None, "-000007-01-01T00:00:00Z");
    let applied = world.write(&lease, 0, &rows).await;
    assert_eq!((applied.stats.errors_count, applied.stats.records_written), (3, 37));
    assert_eq!((applied.stats.records_processed, applied.failed.len()), (40, 1));
    assert_eq!(world.count("contact").await, 37);
    let kept = world.probe.rows("SELECT source_id, code, payload_form FROM dead_letter ORDER BY source_id").await;
    assert_eq!(kept.len(), 3);
    for (row, id) in kept.iter().zip(["03", "31", "35"]) {
        assert_eq!((row[0].as_deref(), row[2].as_deref()), (Some(id), Some("staged")));
        assert!(row[1].as_deref().is_some_and(|code| code.starts_with("22")), "{row:?}");
    }
}

pub(crate) async fn a_whole_batch_can_be_dead_lettered_once(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows =
        [contact("1", Some("2026-01-01T00:00:00Z"), "kept for replay"), tombstone("2", None, "2026-01-01T00:00:00Z")];
    let reference = world.stage(&lease, 0, load_at(1), batch(&rows, &[rejected("3", "UnparsableRecord", None)])).await;
    let first = world.store.dead_letter(&lease, &reference, "Refused (42P01)").await.expect("moves on");
    assert_eq!((first.next_seq, first.stats.errors_count, first.stats.failed_batches), (1, 3, 1));
    assert_eq!((first.failed[0].batch_index, first.failed[0].error.as_str()), (0, "Refused (42P01)"));
    assert_eq!(world.store.dead_letter(&lease, &reference, "again").await.as_ref(), Ok(&first));
    assert_eq!(world.store.apply(&lease, &[reference]).await.as_ref(), Ok(&first));
    assert_eq!((world.count("dead_letter").await, world.count("contact").await), (3, 0));
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").load, load_at(1));
    const PAYLOAD: &str = "SELECT lower(HEX) FROM dead_letter WHERE source_id = '1'";
    let hex = world.text(&PAYLOAD.replace("HEX", world.probe.payload_hex())).await.expect("bytes");
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).expect("hex")).collect();
    let single = Batch::open(&bytes).expect("a staged batch of one");
    let Some(Ok(Record::Row(row, _))) = single.records().next() else { panic!("no row") };
    assert_eq!(row, rows[0], "it can be replayed");
}

pub(crate) async fn a_damaged_batch_fails_to_apply_and_can_still_be_stepped_past(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let junk = NewStaged {
        seq: 0,
        next: load_at(1),
        entity_type: "contacts".to_owned(),
        payload: b"junk".to_vec(),
        record_count: 5,
    };
    let staged_id = world.store.stage(&lease, &junk).await.expect("stages");
    let reference = StagedRef { staged_id, seq: 0 };
    let refused = world.store.apply(&lease, std::slice::from_ref(&reference)).await;
    assert_eq!(refused, Err(Error::Unreadable { what: "staged batch" }));
    let applied = world.store.dead_letter(&lease, &reference, "Bug: staged batch").await.expect("moves on");
    assert_eq!((applied.next_seq, applied.stats.errors_count), (1, 5));
    assert_eq!(world.text("SELECT code FROM dead_letter").await.as_deref(), Some("DamagedBatch"));
}

pub(crate) async fn above_the_ceiling_nothing_is_written(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let ids: Vec<_> = (0..100).map(|id| id.to_string()).collect();
    let rows: Vec<_> = ids[..79].iter().map(|id| contact(id, None, "good")).collect();
    let rejections: Vec<_> = ids[79..].iter().map(|id| rejected(id, "UnparsableRecord", None)).collect();
    let reference = [world.stage(&lease, 0, load_at(1), batch(&rows, &rejections)).await];
    let refused = world.store.apply(&lease, &reference).await;
    assert_eq!(refused, Err(Error::TooManyRejected { rejected: 21, processed: 100, max_percent: 20 }));
    assert_eq!((world.count("contact").await, world.count("dead_letter").await), (0, 0));
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").next_seq, 0);
    let mut lenient = connector();
    lenient.config.max_rejected_percent = 21;
    world.store.put_connector(&ConnectorProjection { generation: 2, ..lenient }).await.expect("projects");
    assert_eq!(world.store.apply(&lease, &reference).await.expect("at the ceiling").stats.errors_count, 21);
}

pub(crate) async fn what_was_read_back_does_not_meet_the_ceiling(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let ids: Vec<_> = (0..100).map(|id| id.to_string()).collect();
    let still_bad: Vec<_> = ids.iter().map(|id| rejected(id, "UnparsableRecord", None)).collect();
    let replayed = Load { replayed_to: 7, ..load_at(1) };
    let reference = [world.stage(&lease, 0, replayed, batch(&[], &still_bad)).await];
    let applied = world.store.apply(&lease, &reference).await.expect("a replay in vain stops nothing");
    assert_eq!(applied.stats.errors_count, 100);
}

pub(crate) async fn the_array_holds_the_first_thousand_entries_and_all_are_counted(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world
        .probe
        .execute("UPDATE run SET stats = '{\"batches\":999,\"recordsProcessed\":999,\"recordsWritten\":999,\"recordsUnchanged\":0,
            \"errorsCount\":0,\"failedBatches\":999}'")
        .await;
    let mut references = Vec::new();
    for (seq, id) in [(0, "1"), (1, "2"), (2, "3")] {
        references.push(world.stage(&lease, seq, load_at(seq + 1), batch(&[], &[rejected(id, "X", None)])).await);
    }
    let applied = world.store.apply(&lease, &references).await.expect("applies");
    assert_eq!((applied.stats.failed_batches, applied.failed.len()), (1_002, 3));
    let listed = world.store.failed_records(&lease, 5_000).await.expect("lists");
    assert_eq!(listed.iter().map(|entry| entry.batch_index).collect::<Vec<_>>(), [0], "the thousandth");
    assert_eq!(world.count("dead_letter").await, 3);
}
