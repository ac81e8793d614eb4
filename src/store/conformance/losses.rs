//! Workers lost at a position: noted beside it, forgotten by the commit that moves it, and records that are left out.

use gtm_sync::{
    model::entity::Entity,
    store::{Error, LeaseRequest, Losses, Person, RecordKey},
};

use super::world::{
    World, batch, connector_id, contact, load, load_at, poison, rejected, request, tenant_id, tombstone,
};

fn key(id: &str) -> RecordKey {
    RecordKey { entity: Entity::Contact, source_id: id.to_owned() }
}

fn some() -> Losses {
    Losses { reads: 1, writes: 2, record: Some((key("7"), 3)), left_out: vec![key("8")] }
}

pub(crate) async fn losses_are_noted_at_the_position_and_make_the_next_lease_careful(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    assert!(!lease.careful);
    assert_eq!(world.store.losses(&lease, 0).await, Ok(Losses::default()));
    world.store.note_losses(&lease, 1, &some()).await.expect("elsewhere nothing is noted");
    assert_eq!(world.text("SELECT CAST(losses AS TEXT) FROM sync_state").await, None);
    world.store.note_losses(&lease, 0, &some()).await.expect("notes");
    assert_eq!(world.store.losses(&lease, 0).await, Ok(some()));
    assert_eq!(world.store.losses(&lease, 1).await, Ok(Losses::default()));

    let next = world.store.take_lease(&request("run-2", Some(&lease.epoch))).await.expect("takes over").lease;
    assert!(next.careful, "the position is the one at which workers were lost");
    assert_eq!(world.store.losses(&next, 0).await, Ok(some()));
    world.store.note_losses(&lease, 0, &Losses::default()).await.expect("nothing is noted under a lost lease");
    assert_eq!(world.store.losses(&next, 0).await, Ok(some()));
    world.store.note_losses(&next, 0, &Losses::default()).await.expect("takes them back");
    let after = world.store.take_lease(&request("run-3", Some(&next.epoch))).await.expect("takes over").lease;
    assert!(!after.careful, "nothing is left of them");
}

pub(crate) async fn a_commit_a_new_load_and_an_erased_person_forget_the_losses(world: &World) {
    world.projected().await;
    let mut lease = world.lease("run-1").await.lease;
    world.store.note_losses(&lease, 0, &some()).await.expect("notes");
    world.write(&lease, 0, &[contact("1", None, "a")]).await;
    assert_eq!(world.store.losses(&lease, 1).await, Ok(Losses::default()));
    assert_eq!(world.text("SELECT CAST(losses AS TEXT) FROM sync_state").await, None);

    world.store.note_losses(&lease, 1, &some()).await.expect("notes");
    let dead = world.stage(&lease, 1, load_at(2), batch(&[contact("2", None, "b")], &[])).await;
    world.store.dead_letter(&lease, &dead, "X").await.expect("steps over");
    assert_eq!(world.store.losses(&lease, 2).await, Ok(Losses::default()));

    world.store.note_losses(&lease, 2, &some()).await.expect("notes");
    let anew = LeaseRequest { restart_load: true, load: load(), ..request("run-2", Some(&lease.epoch)) };
    lease = world.store.take_lease(&anew).await.expect("takes over").lease;
    assert!(!lease.careful, "another load stands elsewhere");
    assert_eq!(world.store.losses(&lease, 2).await, Ok(Losses::default()));

    world.store.note_losses(&lease, 2, &some()).await.expect("notes");
    let person = Person::Record { connector_id: connector_id(), entity: Entity::Contact, source_id: "7".to_owned() };
    world.store.erase(&tenant_id(), &person).await.expect("erases");
    assert_eq!(world.text("SELECT CAST(losses AS TEXT) FROM sync_state").await, None);
}

pub(crate) async fn a_record_left_out_becomes_a_dead_letter_without_payload_and_all_others_land(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = [contact("1", None, "a"), contact("2", Some("2026-01-01T00:00:00Z"), "killer"), contact("3", None, "c")];
    let writer = || batch(&rows, &[rejected("4", "UnparsableRecord", None), rejected("5", "UnparsableRecord", None)]);
    let reference = world.stage(&lease, 0, load_at(1), writer()).await;
    let left_out = Losses { left_out: vec![key("2"), key("5"), key("elsewhere")], ..Losses::default() };
    world.store.note_losses(&lease, 0, &left_out).await.expect("notes");
    let applied = world.store.apply(&lease, &[reference]).await.expect("applies");
    assert_eq!((applied.stats.records_processed, applied.stats.records_written, applied.stats.errors_count), (5, 2, 3));
    assert_eq!(applied.failed[0].error, "3 rejected: WorkerLost ×2, UnparsableRecord");
    let letters = world.letters().await;
    let of = |letter: &gtm_sync::store::DeadLetterRow| {
        (letter.source_id.clone().unwrap_or_default(), letter.code.clone(), letter.payload_form.clone())
    };
    let told: Vec<_> = letters.iter().map(of).collect();
    let expected = [("2", "WorkerLost", "lost"), ("4", "UnparsableRecord", "served"), ("5", "WorkerLost", "lost")];
    assert_eq!(told, expected.map(|(id, code, form)| (id.to_owned(), code.to_owned(), form.to_owned())));
    assert!(letters.iter().all(|letter| letter.payload.is_empty() == (letter.code == "WorkerLost")));

    // The position is another one: the same record lands, and its letter is resolved.
    world.write(&lease, 1, &rows[1..2]).await;
    assert_eq!(world.contact("2", "email").await.as_deref(), Some("killer"));
    assert_eq!(world.letter_ids().await, ["4", "5"]);
}

pub(crate) async fn a_batch_left_out_as_a_whole_meets_no_ceiling(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let ids: Vec<_> = (0..120).map(|id| id.to_string()).collect();
    let rows: Vec<_> = ids.iter().map(|id| contact(id, None, "killer")).collect();
    let reference = world.stage(&lease, 0, load_at(1), batch(&rows, &[])).await;
    let losses = Losses { left_out: ids.iter().map(|id| key(id)).collect(), ..Losses::default() };
    world.store.note_losses(&lease, 0, &losses).await.expect("notes");
    let applied = world.store.apply(&lease, &[reference]).await.expect("the source has done nothing wrong");
    assert_eq!((applied.next_seq, applied.stats.errors_count), (1, 120));
}

pub(crate) async fn a_probe_stores_nothing_and_knows_one_record(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = [
        contact("1", None, "a"),
        contact("2", None, "b"),
        contact("1", None, "c"),
        poison("3"),
        tombstone("4", None, "2026-01-01T00:00:00Z"),
    ];
    let reference = world.stage(&lease, 0, load_at(1), batch(&rows, &[rejected("5", "X", None)])).await;
    let records = world.store.staged_records(&lease, &reference).await.expect("lists");
    assert_eq!(records, ["1", "2", "3", "4", "5"].map(key), "each once");
    for record in &records {
        world.store.probe(&lease, &reference, record).await.expect("whatever apply does with it");
    }
    for table in ["contact", "dead_letter", "seen_batch", "failed_record", "applied_batch"] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
    assert_eq!(world.store.sync_state(&lease).await.expect("reads").next_seq, 0);
    let applied = world.store.apply(&lease, &[reference]).await.expect("applies");
    assert_eq!((applied.stats.records_processed, applied.stats.errors_count), (6, 2));

    let next = world.store.take_lease(&request("run-2", Some(&lease.epoch))).await.expect("takes over").lease;
    let reference = world.stage(&next, 1, load_at(2), batch(&[contact("9", None, "z")], &[])).await;
    for refused in [
        world.store.probe(&lease, &reference, &key("9")).await.err(),
        world.store.staged_records(&lease, &reference).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::StaleRun { .. })), "{refused:?}");
    }
}
