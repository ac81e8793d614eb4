//! One-shot wishes and what they change in the store (R8).

use gtm_sync::{
    model::cursor::{Load, RefusedSweep, Window},
    store::{ConnectorProjection, RunEnd, Verb, Wish},
};

use super::world::{CONTACTS, World, at, at_end, batch, connector, contact, increment, load, rejected, wishes};

fn window() -> Window {
    Window { from: at("2026-03-01T00:00:00Z"), to: at("2026-04-01T00:00:00Z") }
}

fn reread() -> Load {
    Load::reread(window(), 1, &[CONTACTS], at("2026-11-22T12:00:00Z"))
}

pub(crate) async fn wishes_present_at_first_sight_are_recorded_without_effect(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[contact("1", None, "a")], &[rejected("2", "X", None)])).await;
    let cursor = world.record().await.cursor;
    let all = [Verb::Sync, Verb::FullSync, Verb::ResetCursor, Verb::Replay, Verb::Discard, Verb::ConfirmSweep];
    let mut wishes = wishes(&all.map(|verb| (verb, "from-the-backup")));
    wishes.insert(Verb::Resync, Wish { window: Some(window()), ..Wish::from("from-the-backup") });
    let reborn = ConnectorProjection { uid: "uid-2".to_owned(), wishes, ..connector() };
    let answer = world.store.put_connector(&reborn).await.expect("projects");
    assert!(answer.fresh_tokens.is_empty());
    assert_eq!(answer.handled.len(), 7);
    assert!(answer.handled.values().all(|handled| handled.outcome.is_none()), "{:?}", answer.handled);
    let record = world.record().await;
    assert_eq!((record.cursor, record.resync, record.sweep_confirmed), (cursor, None, false));
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].replay_requested_at), (1, None));
}

pub(crate) async fn a_resync_is_done_once_and_not_lost_by_a_full_sync_in_between(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[])).await;
    let wish = Wish { window: Some(window()), ..Wish::from("march") };
    assert!(world.wish(Verb::Resync, wish.clone()).await.fresh_tokens.contains_key(&Verb::Resync));
    assert!(world.wish(Verb::Resync, wish).await.fresh_tokens.is_empty());
    assert_eq!(world.record().await.resync, Some(window()));
    world.run("run-2", load(), batch(&[], &[])).await;
    assert_eq!(world.record().await.resync, Some(window()), "a load that did something else");
    let interrupted = world.begin("run-3", reread()).await.lease;
    world.store.finish_run(&interrupted, &RunEnd::More).await.expect("ends");
    assert_eq!(world.record().await.resync, Some(window()), "not yet at its end");
    let before = world.record().await.cursor;
    world.run("run-4", reread(), batch(&[contact("1", None, "a")], &[])).await;
    let record = world.record().await;
    assert_eq!((record.resync, record.cursor), (None, before), "done, and the cursor stays");

    let pointless = world.wish(Verb::Resync, "no range".into()).await;
    let outcome = pointless.fresh_tokens[&Verb::Resync].outcome.clone().expect("said");
    assert!(outcome.starts_with("NoWindow"), "{outcome}");
    assert_eq!(world.record().await.resync, None);
}

pub(crate) async fn a_confirmed_sweep_holds_until_a_full_load_completes_that_refused_none(world: &World) {
    world.projected().await;
    let granted = world.begin("run-1", load()).await;
    let mut end = at_end(world.store.sync_state(&granted.lease).await.expect("reads").load);
    end.streams[0].refused_sweep = Some(RefusedSweep { unseen: 90, live: 100 });
    world.commit(&granted.lease, 0, end, batch(&[], &[])).await;
    world.wish(Verb::ConfirmSweep, "yes".into()).await;
    world.store.finish_run(&granted.lease, &RunEnd::Complete).await.expect("finishes");
    assert!(world.record().await.sweep_confirmed, "said after that load had refused its sweep");
    world.run("run-2", increment(), batch(&[], &[])).await;
    assert!(world.record().await.sweep_confirmed, "an increment sweeps nothing");
    let stopped = world.begin("run-3", load()).await.lease;
    world.store.finish_run(&stopped, &RunEnd::Failed("Outage".to_owned())).await.expect("ends");
    assert!(world.record().await.sweep_confirmed, "not at its end");
    world.run("run-4", load(), batch(&[], &[])).await;
    assert!(!world.record().await.sweep_confirmed);
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
