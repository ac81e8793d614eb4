//! Dead letters after their commit: how they are resolved, replayed and discarded. Every step counts them everywhere.

use gtm_sync::{
    model::{
        cursor::{Cursor, Load},
        entity::Entity,
        record::Rejected,
        stream::Stream,
    },
    store::{DeadLetterRow, Error, LeaseRequest, LetterSelection, Replay, RunEnd, Verb, Wish},
};

use super::world::{
    ACCOUNT, World, at, at_end, batch, connector_id, contact, increment, load, load_at, poison, rejected, request,
    tenant_id,
};

const OLD: Option<&str> = Some("2026-01-01T00:00:00Z");
const NEW: Option<&str> = Some("2026-02-01T00:00:00Z");

fn without_id() -> Rejected<'static> {
    Rejected { source_id: None, ..rejected("", "UnparsableRecord", None) }
}

pub(crate) async fn a_dead_letter_is_resolved_when_its_record_lands_later(world: &World) {
    world.projected().await;
    let first = [rejected("1", "X", None), rejected("2", "X", None)];
    world.run("run-1", load(), batch(&[poison("3")], &first)).await;
    assert_eq!(world.letter_ids().await, ["3", "1", "2"]);
    world.run("run-2", increment(), batch(&[contact("1", NEW, "a"), contact("9", NEW, "b")], &[])).await;
    assert_eq!(world.letter_ids().await, ["3", "2"]);
    world.run("run-3", increment(), batch(&[contact("3", NEW, "c")], &[])).await;
    assert_eq!(world.letter_ids().await, ["2"]);
    let gone = super::world::tombstone("2", NEW, "2026-02-01T00:00:00Z");
    world.run("run-4", increment(), batch(&[gone], &[])).await;
    assert!(world.letters().await.is_empty(), "a deleted record has landed, too");
}

pub(crate) async fn a_newer_dead_letter_of_a_record_supersedes_the_older(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("1", "First", None), rejected("2", "First", None)])).await;
    world.run("run-2", increment(), batch(&[poison("2")], &[rejected("1", "Second", None)])).await;
    let letters = world.letters().await;
    assert_eq!(world.letter_ids().await, ["2", "1"]);
    assert!(letters.iter().all(|letter| letter.workflow_id == "run-2" && letter.code != "First"), "{letters:?}");

    let granted = world.begin("run-3", increment()).await;
    let whole = world.stage(&granted.lease, granted.next_seq, load_at(9), batch(&[contact("1", NEW, "a")], &[])).await;
    world.store.dead_letter(&granted.lease, &whole, "BatchFailed").await.expect("moves on");
    assert_eq!(world.letter_ids().await, ["2", "1"], "a batch given up whole supersedes, too");
}

pub(crate) async fn within_one_commit_what_was_served_last_says_whether_a_record_has_a_letter(world: &World) {
    world.projected().await;
    let lease = world.begin("run-1", increment()).await.lease;
    // As a replay and the pages after it serve them; a row that the database refuses is a letter in its place, too.
    let first =
        batch(&[contact("b", OLD, "good"), poison("c")], &[rejected("a", "First", None), rejected("d", "First", None)]);
    let second = batch(
        &[contact("a", OLD, "good"), contact("c", NEW, "good"), poison("e")],
        &[rejected("b", "Second", None), rejected("d", "Second", None), without_id()],
    );
    let staged = [world.stage(&lease, 0, load_at(1), first).await, world.stage(&lease, 1, load_at(2), second).await];
    let applied = world.store.apply(&lease, &staged).await.expect("applies");
    assert_eq!(applied.stats.errors_count, 7, "each was met, whatever became of its record");
    assert_eq!(world.letter_ids().await, ["e", "b", "d", ""]);
    assert!(world.letters().await.iter().all(|letter| letter.code != "First"));
    assert_eq!(world.contact("c", "email").await.as_deref(), Some("good"));
}

pub(crate) async fn a_full_load_that_read_everything_resolves_older_dead_letters_and_no_other_load_does(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("gone", "X", None), without_id()])).await;
    world.run("run-2", increment(), batch(&[contact("1", OLD, "a")], &[])).await;
    assert_eq!(world.letters().await.len(), 2, "an increment does not look at them");

    let failing = world.begin("run-3", load()).await;
    let mut left: Load = world.store.sync_state(&failing.lease).await.expect("reads").load;
    left.fail_stream("Configuration (403)");
    world.commit(&failing.lease, failing.next_seq, left, batch(&[], &[])).await;
    world.store.finish_run(&failing.lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    assert_eq!(world.letters().await.len(), 2, "it did not read everything");

    world.run("run-4", load(), batch(&[contact("1", OLD, "a")], &[rejected("new", "X", None)])).await;
    assert_eq!(world.letter_ids().await, ["new"], "what is still wrong has a letter of this load");
}

pub(crate) async fn a_full_load_over_two_runs_keeps_the_dead_letters_of_both(world: &World) {
    world.projected().await;
    world.run("run-0", load(), batch(&[], &[rejected("old", "X", None)])).await;
    let first = world.begin("run-1", load()).await;
    let middle = world.store.sync_state(&first.lease).await.expect("reads").load;
    world.commit(&first.lease, first.next_seq, middle, batch(&[], &[rejected("1", "X", None)])).await;
    world.store.finish_run(&first.lease, &RunEnd::More, Default::default()).await.expect("ends");
    assert_eq!(world.letter_ids().await, ["old", "1"]);
    world.run("run-2", load(), batch(&[], &[rejected("2", "X", None)])).await;
    assert_eq!(world.letter_ids().await, ["1", "2"]);
}

pub(crate) async fn a_replay_marks_only_dead_letters_with_an_id_and_pages_by_version(world: &World) {
    world.projected().await;
    let letters = [rejected("1", "X", None), without_id(), rejected("2", "X", None), rejected("3", "X", None)];
    world.run("run-1", load(), batch(&[], &letters)).await;
    let answer = world.wish(Verb::Replay, "again".into()).await;
    assert_eq!(answer.fresh_tokens[&Verb::Replay].outcome.as_deref(), Some("3 dead letters marked"));
    let marked = |letter: &gtm_sync::store::DeadLetterRow| letter.replay_requested_at.is_some();
    assert_eq!(world.letters().await.iter().filter(|letter| marked(letter)).count(), 3);

    let lease = world.begin("run-2", increment()).await.lease;
    let page = world.store.replays(&lease, 0, 2).await.expect("lists");
    let ids = |page: &[Replay]| page.iter().map(|letter| letter.source_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&page), ["1", "2"]);
    assert!(page.iter().all(|letter| letter.entity == Entity::Contact));
    let rest = world.store.replays(&lease, page[1].observed_seq, 2).await.expect("lists");
    assert_eq!(ids(&rest), ["3"]);
    assert_eq!(world.store.replays(&lease, rest[0].observed_seq, 2).await, Ok(vec![]));
    let lost = gtm_sync::contract::activities::Lease { epoch: "lost".to_owned(), ..lease };
    assert!(matches!(world.store.replays(&lost, 0, 2).await, Err(Error::StaleRun { .. })));
}

pub(crate) async fn a_full_load_resolves_letters_of_the_streams_that_it_read_and_of_no_other(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("1", "X", None)])).await;
    let others = Stream { name: "companies", entity: Entity::Account, id_prefix: "" };
    let without = Load::begin(&Cursor::default(), 0, true, &[others], at("2026-11-22T12:00:00Z"));
    world.run("run-2", without, batch(&[], &[])).await;
    assert_eq!(world.letters().await.len(), 1, "its stream is not chosen any more: nobody looked");
    world.run("run-3", load(), batch(&[], &[])).await;
    assert!(world.letters().await.is_empty());
}

pub(crate) async fn letters_of_a_former_account_are_listed_with_it_and_never_marked(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("1", "X", None), rejected("2", "X", None)])).await;
    world.wish(Verb::ResetCursor, "another portal".into()).await;
    let other = LeaseRequest { account_id: "portal-2".to_owned(), load: increment(), ..request("run-2", None) };
    let lease = world.store.take_lease(&other).await.expect("free").lease;
    world.commit(&lease, 0, load_at(1), batch(&[], &[rejected("1", "X", None)])).await;
    let answer = world.wish(Verb::Replay, "again".into()).await;
    assert_eq!(answer.fresh_tokens[&Verb::Replay].outcome.as_deref(), Some("1 dead letter marked"));
    let all = LetterSelection::default();
    let listed = world.store.dead_letters(&tenant_id(), &connector_id(), &all, None, 9).await.expect("lists");
    let described = |letter: &DeadLetterRow| (letter.account_id.clone(), letter.replay_requested_at.is_some());
    let former = (ACCOUNT.to_owned(), false);
    let listed: Vec<_> = listed.iter().map(described).collect();
    assert_eq!(listed, [former.clone(), former, ("portal-2".to_owned(), true)]);
    assert_eq!(world.store.replays(&lease, 0, 9).await.expect("lists").len(), 1);
    world.wish(Verb::Discard, Wish { letters: all, ..Wish::from("all of it") }).await;
    assert_eq!(world.count("dead_letter").await, 0);
}

pub(crate) async fn a_replayed_record_lands_or_is_rejected_again_with_one_newer_unmarked_letter(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("1", "X", None), rejected("2", "X", None)])).await;
    world.wish(Verb::Replay, "again".into()).await;
    world.run("run-2", increment(), batch(&[contact("1", NEW, "mended")], &[rejected("2", "Still", None)])).await;
    let letters = world.letters().await;
    assert_eq!((letters.len(), letters[0].code.as_str()), (1, "Still"));
    assert_eq!((letters[0].source_id.as_deref(), letters[0].replay_requested_at), (Some("2"), None));
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("mended"));
}

pub(crate) async fn a_replay_resolves_its_letter_and_never_overwrites_a_newer_row(world: &World) {
    world.projected().await;
    world.run("run-1", load(), batch(&[], &[rejected("1", "X", None), rejected("2", "X", None)])).await;
    let gone = super::world::tombstone("2", NEW, "2026-02-01T00:00:00Z");
    let lease = world.begin("run-2", increment()).await.lease;
    // Landed by a run whose own version is greater than that of what is replayed now.
    world.probe.execute("UPDATE dead_letter SET source_id = 'other-' || source_id").await;
    world.commit(&lease, 1, load_at(2), batch(&[contact("1", NEW, "newer"), gone], &[])).await;
    world.probe.execute("UPDATE dead_letter SET source_id = substr(source_id, 7)").await;
    let replayed = batch(&[contact("1", OLD, "older"), contact("2", OLD, "older")], &[]);
    let applied = world.commit(&lease, 2, load_at(3), replayed).await;
    assert_eq!(applied.stats.records_unchanged, 2);
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("newer"));
    assert!(world.contact("2", "deleted_at").await.is_some(), "the dead stay dead");
    assert!(world.letters().await.is_empty());
}

pub(crate) async fn dead_letters_are_discarded_by_run_batch_entity_record_or_all(world: &World) {
    world.projected().await;
    let of_account = Rejected { entity: Entity::Account, ..rejected("a", "X", None) };
    world.run("run-1", load(), batch(&[], &[rejected("1", "X", None), of_account, without_id()])).await;
    let lease = world.begin("run-2", increment()).await.lease;
    for (seq, id) in [(1, "2"), (2, "3"), (3, "4")] {
        world.commit(&lease, seq, load_at(seq + 1), batch(&[], &[rejected(id, "X", None)])).await;
    }
    let mut token = 0;
    let mut discard = |letters: LetterSelection| {
        token += 1;
        world.wish(Verb::Discard, Wish { letters, ..Wish::from(format!("discard-{token}").as_str()) })
    };
    let run = |run: &str| LetterSelection { workflow_id: Some(run.to_owned()), ..LetterSelection::default() };
    let answer = discard(LetterSelection { batch_index: Some(1), ..run("run-2") }).await;
    assert_eq!(answer.fresh_tokens[&Verb::Discard].outcome.as_deref(), Some("1 dead letter discarded"));
    assert_eq!(world.letter_ids().await, ["1", "a", "", "2", "4"]);
    discard(LetterSelection { entity: Some(Entity::Account), ..LetterSelection::default() }).await;
    assert_eq!(world.letter_ids().await, ["1", "", "2", "4"]);
    let record = LetterSelection { source_id: Some("4".to_owned()), ..LetterSelection::default() };
    let listed = world.store.dead_letters(&tenant_id(), &connector_id(), &record, None, 9).await.expect("lists");
    assert_eq!(listed.len(), 1, "the same selection lists and discards");
    discard(record).await;
    discard(run("run-1")).await;
    assert_eq!(world.letter_ids().await, ["2"]);
    discard(LetterSelection::default()).await;
    assert!(world.letters().await.is_empty());
    let applied = world.commit(&lease, 4, at_end(increment()), batch(&[], &[rejected("5", "X", None)])).await;
    assert_eq!((applied.stats.errors_count, world.letters().await.len()), (4, 1), "the run's counts are history");
}
