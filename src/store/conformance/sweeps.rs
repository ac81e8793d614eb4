//! A load's end: what it saw and did not see (R6), what was counted, and what it leaves behind.

use gtm_sync::{
    model::{
        cursor::{Count, Cursor, Load, RefusedSweep, Task},
        entity::Entity,
        stream::Stream,
    },
    store::{Error, LeaseRequest, RunEnd, StreamCount, SweepScope, Verb},
};

use super::world::{
    CALLS, CONTACTS, World, activity, at, at_end, batch, contact, increment, load, load_at, poison, rejected, request,
    tombstone,
};

const OLD: Option<&str> = Some("2026-01-01T00:00:00Z");

/// A full load, read and not yet swept, after its last batch.
fn read(mut load: Load) -> Load {
    load.finish_stream();
    load
}

async fn unseen(world: &World, lease: &gtm_sync::contract::activities::Lease) -> Vec<String> {
    world.store.unseen(lease, Entity::Contact, "", None, 100).await.expect("lists")
}

pub(crate) async fn a_sweep_finds_exactly_the_live_rows_that_the_load_did_not_see(world: &World) {
    world.projected().await;
    let ids = ["1", "2", "3", "4", "5", "6", "7"];
    let rows: Vec<_> = ids.iter().map(|id| contact(id, OLD, "here")).collect();
    world.run("run-1", load(), batch(&rows, &[])).await;
    world.run("run-2", increment(), batch(&[tombstone("7", OLD, "2026-02-01T00:00:00Z")], &[])).await;
    assert_eq!(world.count("seen_batch").await, 0, "an increment keeps no ids, and an ended load none either");

    let granted = world.begin("run-3", load()).await;
    let (lease, seq) = (granted.lease, granted.next_seq);
    let mixed = batch(&[contact("1", OLD, "here"), poison("2")], &[rejected("3", "X", None)]);
    world.commit(&lease, seq, load_at(1), mixed).await;
    let whole = world.stage(&lease, seq + 1, load_at(2), batch(&[contact("4", OLD, "here")], &[])).await;
    world.store.dead_letter(&lease, &whole, "BatchFailed").await.expect("moves on");
    world.commit(&lease, seq + 2, read(load()), batch(&[], &[])).await;
    let scope = world.store.begin_sweep(&lease, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 6, unseen: 2 }));
    assert_eq!(unseen(world, &lease).await, ["5", "6"]);

    let seen = world.count("seen_batch").await;
    let back = batch(&[contact("5", OLD, "still there"), tombstone("6", None, "2026-11-22T12:00:00Z")], &[]);
    world.commit(&lease, seq + 3, at_end(load()), back).await;
    assert_eq!(world.count("seen_batch").await, seen, "what is read back is not what the load saw");
    world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    assert_eq!((world.count("seen_batch").await, world.count("sweep_candidate").await), (0, 0));
    assert!(world.contact("6", "deleted_at").await.is_some());
}

pub(crate) async fn streams_that_share_a_table_are_swept_apart(world: &World) {
    world.projected().await;
    let ids = ["call:1", "call:2", "callback:3", "email:1"];
    let rows: Vec<_> = ids.iter().map(|id| activity(id, "1", "text")).collect();
    world.run("run-1", load(), batch(&rows, &[])).await;
    let emails = Stream { name: "emails", id_prefix: "email:", ..CALLS };
    let both = Load::begin(&Cursor::default(), 1, true, &[CALLS, emails], at("2026-11-22T12:00:00Z"));
    let granted = world.begin("run-2", both.clone()).await;
    let lease = granted.lease;
    world.commit(&lease, granted.next_seq, read(both), batch(&[activity("call:1", "1", "text")], &[])).await;
    let sweep = |prefix: &'static str| world.store.begin_sweep(&lease, CALLS.entity, prefix);
    assert_eq!(sweep("email:").await, Ok(SweepScope { live: 1, unseen: 1 }));
    assert_eq!(sweep(CALLS.id_prefix).await, Ok(SweepScope { live: 2, unseen: 1 }));
    for (prefix, wanted) in [("call:", "call:2"), ("email:", "email:1")] {
        assert_eq!(world.store.unseen(&lease, CALLS.entity, prefix, None, 9).await, Ok(vec![wanted.to_owned()]));
    }
}

pub(crate) async fn an_increment_keeps_the_ids_of_streams_that_it_reads_whole_and_of_no_other(world: &World) {
    world.projected().await;
    let rows = [contact("1", OLD, "here"), contact("2", OLD, "gone"), activity("call:1", "1", "text")];
    world.run("run-1", load(), batch(&rows, &[])).await;
    let cursor = Cursor { streams: [(CALLS.name.to_owned(), at("2026-11-22T11:00:00Z"))].into() };
    let recovering = Load::begin(&cursor, 1, false, &[CALLS, CONTACTS], at("2026-11-22T12:00:00Z"));
    let granted = world.begin("run-2", recovering.clone()).await;
    let served = [contact("1", OLD, "here"), activity("call:2", "1", "text")];
    let mut swept = recovering;
    [CALLS, CONTACTS].iter().for_each(|_| swept.finish_stream());
    assert!(matches!(swept.task(), Some(Task::Sweep(stream)) if stream.name == CONTACTS.name), "{swept:?}");
    world.commit(&granted.lease, granted.next_seq, swept, batch(&served, &[])).await;
    assert_eq!(world.count("seen_batch").await, 1, "of contacts alone");
    let scope = world.store.begin_sweep(&granted.lease, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 2, unseen: 1 }));
    assert_eq!(unseen(world, &granted.lease).await, ["2"]);
}

pub(crate) async fn rows_of_a_former_account_are_neither_swept_nor_counted(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[contact("1", OLD, "here"), contact("2", OLD, "here")], &[])).await;
    world.wish(Verb::ResetCursor, "another portal".into()).await;
    let other = LeaseRequest { account_id: "portal-2".to_owned(), load: load(), ..request("run-2", None) };
    let granted = world.store.take_lease(&other).await.expect("free");
    let lease = granted.lease;
    world.commit(&lease, granted.next_seq, read(load()), batch(&[contact("3", OLD, "there")], &[])).await;
    let scope = world.store.begin_sweep(&lease, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 1, unseen: 0 }));
}

pub(crate) async fn candidates_are_paged_by_id_and_noted_anew_each_time(world: &World) {
    world.projected().await;
    let ids: Vec<_> = (0..7).map(|id| id.to_string()).collect();
    let rows: Vec<_> = ids.iter().map(|id| contact(id, OLD, "here")).collect();
    world.run("run-1", load(), batch(&rows, &[])).await;
    let granted = world.begin("run-2", load()).await;
    let (lease, seq) = (granted.lease, granted.next_seq);
    world.commit(&lease, seq, read(load()), batch(&[], &[])).await;
    world.store.begin_sweep(&lease, Entity::Contact, "").await.expect("begins");
    let page = |after: Option<&'static str>| world.store.unseen(&lease, Entity::Contact, "", after, 3);
    assert_eq!(page(None).await, Ok(ids[..3].to_vec()));
    assert_eq!(page(Some("2")).await, Ok(ids[3..6].to_vec()));
    assert_eq!(page(Some("6")).await, Ok(vec![]));
    let gone: Vec<_> = ids[..3].iter().map(|id| tombstone(id, None, "2026-11-22T12:00:00Z")).collect();
    world.commit(&lease, seq + 1, read(load()), batch(&gone, &[])).await;
    let scope = world.store.begin_sweep(&lease, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 4, unseen: 4 }));
    assert_eq!(unseen(world, &lease).await, ids[3..]);
}

pub(crate) async fn a_sweep_of_a_lost_lease_is_refused(world: &World) {
    world.projected().await;
    let stale = world.lease("run-1").await.lease;
    world.store.take_lease(&request("run-2", Some(&stale.epoch))).await.expect("takes over");
    let begun = world.store.begin_sweep(&stale, Entity::Contact, "").await;
    assert!(matches!(begun, Err(Error::StaleRun { .. })), "{begun:?}");
    let listed = world.store.unseen(&stale, Entity::Contact, "", None, 9).await;
    assert!(matches!(listed, Err(Error::StaleRun { .. })), "{listed:?}");
}

pub(crate) async fn a_load_in_progress_keeps_its_notes_over_runs_and_a_new_one_forgets_them(world: &World) {
    world.projected().await;
    let only = world.begin("run-0", load()).await;
    world.commit(&only.lease, 0, at_end(load()), batch(&[contact("0", OLD, "a")], &[])).await;
    assert_eq!(world.count("seen_batch").await, 0, "a connector's first load has nothing to sweep");
    world.store.finish_run(&only.lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    world.probe.execute("DELETE FROM contact").await;
    let first = world.begin("run-1", load()).await;
    world.commit(&first.lease, 1, load_at(1), batch(&[contact("1", OLD, "a")], &[])).await;
    let second = world.store.take_lease(&request("run-2", Some(&first.lease.epoch))).await.expect("takes over");
    assert_eq!(world.count("seen_batch").await, 1, "the same load");
    world.commit(&second.lease, 2, read(load()), batch(&[contact("2", OLD, "b")], &[])).await;
    world.probe.execute("UPDATE contact SET source_id = '3' WHERE source_id = '2'").await;
    let scope = world.store.begin_sweep(&second.lease, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 2, unseen: 1 }), "seen by either run is seen");
    let anew = LeaseRequest { restart_load: true, ..request("run-3", Some(&second.lease.epoch)) };
    let third = world.store.take_lease(&anew).await.expect("takes over").lease;
    assert_eq!((world.count("seen_batch").await, world.count("sweep_candidate").await), (0, 0));
    let scope = world.store.begin_sweep(&third, Entity::Contact, "").await;
    assert_eq!(scope, Ok(SweepScope { live: 2, unseen: 2 }));
}

/// A complete load whose source counted, and maybe whose sweep was refused.
async fn counted(world: &World, run: &str, begun: Load, source: u64, refused: Option<RefusedSweep>) {
    let granted = world.begin(run, begun).await;
    let mut end = at_end(world.store.sync_state(&granted.lease).await.expect("reads").load);
    end.counting = true;
    (end.streams[0].counted, end.streams[0].refused_sweep) = (Some(Count::Records(source)), refused);
    world.commit(&granted.lease, granted.next_seq, end, batch(&[], &[])).await;
    world.store.finish_run(&granted.lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
}

pub(crate) async fn the_sources_count_stands_beside_ours_and_mismatches_add_up_until_they_agree(world: &World) {
    world.projected().await;
    let late = gtm_sync::model::record::Row {
        source_created_at: Some(super::world::at("2026-11-22T11:55:00Z")),
        ..contact("late", OLD, "made at the load's upper bound")
    };
    let gone = tombstone("gone", OLD, "2026-02-01T00:00:00Z");
    let rows = [contact("1", OLD, "a"), contact("2", OLD, "b"), late, gone];
    let letters = [rejected("2", "X", None), rejected("3", "X", None)];
    let lease = world.begin("run-0", load()).await.lease;
    world.commit(&lease, 0, load_at(1), batch(&rows, &[])).await;
    world.commit(&lease, 1, load_at(2), batch(&[], &letters)).await;
    world.store.finish_run(&lease, &RunEnd::More, Default::default()).await.expect("ends");
    // It goes on with the load in progress: letters of this load stay.
    counted(world, "run-1", load(), 4, None).await;
    let count = |mismatches| StreamCount { source: 4, rows: 2, dead_letters: 1, mismatches };
    assert_eq!(world.record().await.findings.counts["contacts"], count(1));
    counted(world, "run-2", increment(), 4, None).await;
    let findings = world.status().await.findings;
    assert_eq!((findings.counts["contacts"], findings.counted_at.is_some()), (count(2), true));
    counted(world, "run-3", increment(), 3, None).await;
    assert_eq!(world.record().await.findings.counts["contacts"].mismatches, 0);
}

pub(crate) async fn a_refused_sweep_is_on_record_until_the_next_full_load(world: &World) {
    world.projected().await;
    let refused = RefusedSweep { unseen: 90, live: 100 };
    counted(world, "run-1", load(), 0, Some(refused)).await;
    assert_eq!(world.status().await.findings.refused_sweeps[CONTACTS.name], refused);
    world.run("run-2", increment(), batch(&[], &[])).await;
    assert_eq!(world.record().await.findings.refused_sweeps[CONTACTS.name], refused);
    world.run("run-3", load(), batch(&[], &[])).await;
    assert!(world.record().await.findings.refused_sweeps.is_empty());
}
