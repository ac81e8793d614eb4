//! One-shot wishes and what they change in the store (R8).

use gtm_sync::{
    contract::activities::Lease,
    model::cursor::{Cursor, Load, RefusedSweep, Window},
    store::{ConnectorProjection, RunEnd, TenantVerb, Verb, Wish},
};

use super::world::{
    ACCOUNT, CALLS, CONTACTS, World, at, at_end, batch, connector, contact, increment, load, rejected, tenant_id,
    wishes,
};

fn window() -> Window {
    Window { from: at("2026-03-01T00:00:00Z"), to: at("2026-04-01T00:00:00Z") }
}

fn reread() -> Load {
    Load::reread(window(), 1, &[CONTACTS], at("2026-11-22T12:00:00Z"))
}

pub(crate) async fn wishes_present_at_first_sight_are_recorded_without_effect(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[contact("1", None, "a")], &[rejected("2", "X", None)])).await;
    let (cursor, findings) = (world.record().await.cursor, world.record().await.findings);
    let all = [Verb::Sync, Verb::FullSync, Verb::ResetCursor, Verb::Replay, Verb::Discard, Verb::ConfirmSweep];
    let mut wishes = wishes(&all.map(|verb| (verb, "from-the-backup")));
    wishes.insert(Verb::Resync, Wish { window: Some(window()), ..Wish::from("from-the-backup") });
    let reborn = ConnectorProjection { uid: "uid-2".to_owned(), wishes, ..connector() };
    let answer = world.store.put_connector(&reborn).await.expect("projects");
    assert!(answer.fresh_tokens.is_empty());
    assert_eq!(answer.handled.len(), 7);
    assert!(answer.handled.values().all(|handled| handled.outcome.is_none()), "{:?}", answer.handled);
    let record = world.record().await;
    assert_eq!((record.cursor, record.resync, record.findings), (cursor, None, findings));
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].replay_requested_at), (1, None));
}

pub(crate) async fn a_resync_is_done_once_by_its_reread_or_by_a_full_load_that_began_after_it(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[])).await;
    let wish = Wish { window: Some(window()), ..Wish::from("march") };
    assert!(world.wish(Verb::Resync, wish.clone()).await.fresh_tokens.contains_key(&Verb::Resync));
    assert!(world.wish(Verb::Resync, wish).await.fresh_tokens.is_empty());
    assert_eq!(world.record().await.resync, Some(window()));
    world.run("run-2", load(), batch(&[], &[])).await;
    assert_eq!(world.record().await.resync, Some(window()), "that load may have read the range before the wish");
    let interrupted = world.begin("run-3", reread()).await.lease;
    world.store.finish_run(&interrupted, &RunEnd::More, Default::default()).await.expect("ends");
    assert_eq!(world.record().await.resync, Some(window()), "not yet at its end");
    let before = world.record().await.cursor;
    world.run("run-4", reread(), batch(&[contact("1", None, "a")], &[])).await;
    let record = world.record().await;
    assert_eq!((record.resync, record.cursor), (None, before), "done, and the cursor stays");

    world.wish(Verb::Resync, Wish { window: Some(window()), ..Wish::from("march again") }).await;
    let covering = Load { covers: Some(window()), ..load() };
    world.run("run-5", covering, batch(&[contact("1", None, "a")], &[])).await;
    assert_eq!(world.record().await.resync, None, "a full load reads that range, too");

    let pointless = world.wish(Verb::Resync, "no range".into()).await;
    let outcome = pointless.fresh_tokens[&Verb::Resync].outcome.clone().expect("said");
    assert!(outcome.starts_with("NoWindow"), "{outcome}");
    assert_eq!(world.record().await.resync, None);
}

/// A whole run of a full load, which ends with these streams refused or failed.
async fn full(world: &World, run: &str, end_as: impl FnOnce(&mut Load)) {
    let lease = begin_full(world, run, end_as).await;
    world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
}

/// The same, before its end.
async fn begin_full(world: &World, run: &str, end_as: impl FnOnce(&mut Load)) -> Lease {
    let granted = world.begin(run, two_streams()).await;
    let mut end = at_end(world.store.sync_state(&granted.lease).await.expect("reads").load);
    end_as(&mut end);
    world.commit(&granted.lease, granted.next_seq, end, batch(&[], &[])).await;
    granted.lease
}

fn two_streams() -> Load {
    Load::begin(&Cursor::default(), 0, true, &[CONTACTS, CALLS], at("2026-11-22T12:00:00Z"))
}

fn refuse(load: &mut Load, stream: usize, unseen: u64) {
    load.streams[stream].refused_sweep = Some(RefusedSweep { unseen, live: 10_000 });
}

async fn confirmed(world: &World) -> Vec<(String, u64)> {
    world.record().await.findings.confirmed_sweeps.into_iter().collect()
}

pub(crate) async fn a_confirmed_sweep_allows_what_was_refused_until_it_is_done(world: &World) {
    world.projected().await;
    let nothing = world.wish(Verb::ConfirmSweep, "too early".into()).await;
    let outcome = nothing.fresh_tokens[&Verb::ConfirmSweep].outcome.clone().expect("said");
    assert!(outcome.starts_with("NothingRefused"), "{outcome}");
    full(world, "run-1", |load| (0..2).for_each(|stream| refuse(load, stream, 1_200))).await;
    let said = world.wish(Verb::ConfirmSweep, "they are gone".into()).await;
    let outcome = said.fresh_tokens[&Verb::ConfirmSweep].outcome.as_deref();
    assert_eq!(outcome, Some("at most 1320 rows of calls, 1320 rows of contacts"));
    let both = [("calls".to_owned(), 1_320), ("contacts".to_owned(), 1_320)];
    assert_eq!(confirmed(world).await, both);
    assert_eq!(world.status().await.findings, world.record().await.findings);

    world.run("run-2", increment(), batch(&[], &[])).await;
    assert_eq!(confirmed(world).await, both, "an increment sweeps nothing that has a cursor");
    let stopped = world.begin("run-3", load()).await.lease;
    world.store.finish_run(&stopped, &RunEnd::Failed("Outage".to_owned()), Default::default()).await.expect("ends");
    assert_eq!(confirmed(world).await, both, "not at its end");
    // The load in progress has one stream: what it does not read any more needs no word.
    world.run("run-4", load(), batch(&[], &[])).await;
    assert_eq!(confirmed(world).await, []);
}

pub(crate) async fn a_confirmation_outlives_a_load_in_which_its_stream_failed(world: &World) {
    world.projected().await;
    full(world, "run-1", |load| refuse(load, 0, 1_200)).await;
    world.wish(Verb::ConfirmSweep, "they are gone".into()).await;
    full(world, "run-2", |load| load.streams[0].failed = Some("Configuration (403)".to_owned())).await;
    assert_eq!(confirmed(world).await, [("contacts".to_owned(), 1_320)]);
    full(world, "run-3", |_| ()).await;
    assert_eq!(confirmed(world).await, []);
}

pub(crate) async fn a_confirmation_while_a_load_is_at_work_is_not_lost_with_that_loads_end(world: &World) {
    world.projected().await;
    full(world, "run-1", |load| refuse(load, 0, 1_200)).await;
    let lease = begin_full(world, "run-2", |load| refuse(load, 0, 1_250)).await;
    world.wish(Verb::ConfirmSweep, "they are gone".into()).await;
    world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    assert_eq!(confirmed(world).await, [("contacts".to_owned(), 1_320)], "said after that load had refused its sweep");
    full(world, "run-3", |load| refuse(load, 0, 90_000)).await;
    assert_eq!(confirmed(world).await, [], "that is not what the person saw");
    world.wish(Verb::ConfirmSweep, "those, too".into()).await;
    world.wish(Verb::ResetCursor, "anew".into()).await;
    world.connect(1, Some(ACCOUNT)).await;
    assert_eq!(confirmed(world).await, [], "a reset forgets what was found");
}

pub(crate) async fn a_reset_with_an_expected_position_resets_only_there(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[contact("1", None, "a")], &[])).await;
    let position = world.status().await.position;
    assert_eq!(position, 1);
    let reset = |token: &str, expected| Wish { expected_position: Some(expected), ..Wish::from(token) };
    let refused = world.wish(Verb::ResetCursor, reset("seen-before", 0)).await;
    let outcome = refused.fresh_tokens[&Verb::ResetCursor].outcome.clone().expect("said");
    assert!(outcome.starts_with("PositionChanged"), "{outcome}");
    assert_eq!(world.record().await.cursor.streams.len(), 1);
    let done = world.wish(Verb::ResetCursor, reset("seen-now", 1)).await;
    assert_eq!(done.fresh_tokens[&Verb::ResetCursor].outcome, None);
    assert!(world.record().await.cursor.streams.is_empty());
}

pub(crate) async fn a_tenants_token_is_recorded_once_and_by_one_life_of_its_object(world: &World) {
    let record = async |uid: &str, verb: TenantVerb, token: &str| {
        let tokens = [(verb, token.to_owned())].into();
        world.store.record_tenant_tokens(&tenant_id(), uid, &tokens).await.expect("recorded").remove(&verb)
    };
    let first = record("uid-1", TenantVerb::Trigger, "now").await.expect("to be done");
    assert_eq!(record("uid-1", TenantVerb::Trigger, "now").await, Some(first), "the same answer");
    assert_eq!(record("uid-2", TenantVerb::Trigger, "now").await, None, "of a former life");
    assert_eq!(record("uid-1", TenantVerb::Trigger, "now").await, Some(first), "and the former life keeps it");
    assert!(record("uid-2", TenantVerb::Backfill, "now").await.is_some(), "another verb is another wish");
    assert!(record("uid-2", TenantVerb::Trigger, "again").await.is_some_and(|at| at >= first));
    assert_eq!(record("", TenantVerb::RequestedAt, "from-git").await, None, "at first sight");
    assert_eq!(record("uid-2", TenantVerb::RequestedAt, "from-git").await, None);
}
