//! The fenced commit: position, counts, and the same call again.

use gtm_sync::{
    contract::{activities::StagedRef, workflows::SyncStats},
    store::Error,
};

use super::world::{World, batch, contact, load_at, load_at_end, rejected};

pub(crate) async fn a_commit_moves_the_position_and_counts_and_repeats_its_answer(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = [contact("1", None, "a"), contact("2", None, "b"), contact("1", None, "c")];
    let reference = world.stage(&lease, 0, load_at(1), batch(&rows, &[rejected("3", "UnparsableRecord", None)])).await;
    assert_eq!(world.store.staged_next(&lease, &reference.staged_id).await, Ok(Some(load_at(1))));
    let batches = std::slice::from_ref(&reference);
    let applied = world.store.apply(&lease, batches).await.expect("applies");
    assert_eq!(applied.next_seq, 1);
    assert_eq!((applied.stats.batches, applied.stats.records_processed), (1, 4));
    assert_eq!((applied.stats.errors_count, applied.stats.failed_batches), (1, 1));
    let SyncStats { records_written, records_unchanged, .. } = applied.stats;
    assert_eq!(records_written + records_unchanged, 3);
    assert_eq!(world.count("contact").await, 2);
    let state = world.store.sync_state(&lease).await.expect("reads");
    assert_eq!((state.next_seq, state.load), (1, load_at(1)));
    assert_eq!((world.count("staged_batch").await, world.count("dead_letter").await), (0, 1));

    let stored = "SELECT CAST(synced_at AS TEXT) FROM contact ORDER BY source_id";
    let before = world.probe.rows(stored).await;
    assert_eq!(world.store.apply(&lease, batches).await.as_ref(), Ok(&applied));
    assert_eq!(world.store.dead_letter(&lease, &reference, "X").await.as_ref(), Ok(&applied), "already applied");
    assert_eq!(world.probe.rows(stored).await, before);
    assert_eq!((world.count("dead_letter").await, world.count("failed_record").await), (1, 1));
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").next_seq, 1);
    assert_eq!(world.store.staged_next(&lease, &reference.staged_id).await, Ok(None));
}

pub(crate) async fn two_batches_are_one_commit_and_can_be_asked_for_one_by_one_afterwards(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let first = world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "a")], &[])).await;
    let second = batch(&[contact("2", None, "b")], &[rejected("3", "UnstorableValue", Some("email"))]);
    let second = world.stage(&lease, 1, load_at(2), second).await;
    let both = world.store.apply(&lease, &[first.clone(), second.clone()]).await.expect("applies");
    assert_eq!((both.next_seq, both.stats.batches, both.stats.records_written), (2, 2, 2));
    let entries: Vec<_> = both.failed.iter().map(|entry| (entry.batch_index, entry.error.as_str())).collect();
    assert_eq!(entries, [(1, "1 rejected: UnstorableValue (email)")]);

    let third = world.stage(&lease, 2, load_at(3), batch(&[contact("4", None, "d")], &[])).await;
    assert!(world.store.apply(&lease, std::slice::from_ref(&first)).await.expect("recorded").failed.is_empty());
    assert_eq!(world.store.apply(&lease, std::slice::from_ref(&second)).await.as_ref(), Ok(&both));
    let mixed = world.store.apply(&lease, &[second, third]).await.expect("the rest is applied");
    assert_eq!((mixed.next_seq, mixed.stats.batches, mixed.failed), (3, 3, both.failed));
}

pub(crate) async fn a_batch_out_of_place_or_missing_is_refused(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let later = world.stage(&lease, 1, load_at(2), batch(&[contact("1", None, "a")], &[])).await;
    let missing = StagedRef { staged_id: "nobody".to_owned(), seq: 0 };
    let renumbered = StagedRef { seq: 0, ..later.clone() };
    for wrong in [later, missing, renumbered] {
        let refused = world.store.apply(&lease, std::slice::from_ref(&wrong)).await;
        assert!(matches!(refused, Err(Error::StaleRun { .. })), "{refused:?}");
        let refused = world.store.dead_letter(&lease, &wrong, "X").await;
        assert!(matches!(refused, Err(Error::StaleRun { .. })), "{refused:?}");
    }
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").next_seq, 0);
}

pub(crate) async fn of_two_attempts_at_one_position_one_lands_and_the_counts_are_right(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let loser = world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "loser")], &[])).await;
    let winner = world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "winner")], &[])).await;
    let (loser, winner) = ([loser], [winner]);
    let (one, two) = tokio::join!(world.store.apply(&lease, &winner), world.store.apply(&lease, &loser));
    assert_eq!([&one, &two].iter().filter(|applied| applied.is_ok()).count(), 1, "{one:?} {two:?}");
    let refused = one.err().or(two.err()).expect("one is refused");
    assert!(matches!(refused, Error::StaleRun { .. }), "{refused:?}");
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").next_seq, 1);

    let next = [world.stage(&lease, 1, load_at(2), batch(&[contact("2", None, "b")], &[])).await];
    let (one, two) = tokio::join!(world.store.apply(&lease, &next), world.store.apply(&lease, &next));
    let again = world.store.apply(&lease, &next).await.expect("recorded");
    assert_eq!(again.stats.records_processed, 2, "counted once");
    for attempt in [one, two] {
        assert!(attempt.as_ref() == Ok(&again) || matches!(attempt, Err(Error::StaleRun { .. })), "{attempt:?}");
    }
}

pub(crate) async fn an_empty_batch_moves_the_position_only(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let reference = world.stage(&lease, 0, load_at_end(), batch(&[], &[])).await;
    let applied = world.store.apply(&lease, &[reference]).await.expect("applies");
    assert_eq!((applied.next_seq, applied.stats.batches, applied.stats.records_processed), (1, 1, 0));
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").load, load_at_end());
}

pub(crate) async fn every_entity_and_every_kind_of_value_is_stored_as_it_came(world: &World) {
    use gtm_sync::model::{
        entity::{ColumnType, Entity},
        record::{Cell, Row},
    };
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let cell = |kind| match kind {
        ColumnType::Text => Cell::Text("tab\t line\n back\\slash \\N 'quote' ü🦀".into()),
        ColumnType::Integer => Cell::Integer(-9_007_199_254_740_993),
        ColumnType::Decimal => Cell::Decimal("-12345678901234567890.0125".into()),
        ColumnType::Boolean => Cell::Boolean(false),
        ColumnType::Timestamp => Cell::Timestamp(super::world::at("2026-02-28T23:59:59.000001Z")),
        ColumnType::Date => Cell::Date("2024-02-29".parse().expect("date")),
        ColumnType::Json => Cell::Json(r#"[{"entity":"contact","sourceId":"7"}]"#.into()),
    };
    let rows: Vec<_> = Entity::ALL
        .into_iter()
        .map(|entity| {
            let cells = entity.columns().iter().map(|column| cell(column.kind)).collect();
            Row { entity, cells, ..contact("1", Some("2026-01-01T00:00:00Z"), "") }
        })
        .collect();
    assert_eq!(world.write(&lease, 0, &rows).await.stats.records_written, 7);
    for entity in Entity::ALL {
        for column in entity.columns() {
            let sql = format!("SELECT CAST({} AS TEXT) FROM {}", column.name, world.probe.view(entity.table()));
            let stored = world.text(&sql).await.expect("a value");
            let right = match column.kind {
                ColumnType::Text => stored == "tab\t line\n back\\slash \\N 'quote' ü🦀",
                ColumnType::Integer => stored == "-9007199254740993",
                ColumnType::Decimal => stored == "-12345678901234567890.0125",
                ColumnType::Boolean => stored == "0" || stored == "false",
                ColumnType::Timestamp => stored.replace(' ', "T").starts_with("2026-02-28T23:59:59.000001"),
                ColumnType::Date => stored == "2024-02-29",
                ColumnType::Json => stored.replace(' ', "") == r#"[{"entity":"contact","sourceId":"7"}]"#,
            };
            assert!(right, "{}.{}: {stored}", entity.table(), column.name);
        }
    }
    let link = format!("SELECT activity_source_id, entity, source_id FROM {}", world.probe.view("activity_link"));
    let wanted: Vec<_> = ["1", "contact", "7"].map(|text| Some(text.to_owned())).into();
    assert_eq!(world.probe.rows(&link).await, [wanted]);
}
