//! Which version of a record stands (R9), and what is never rewritten (R37).

use super::world::{World, batch, contact, load_at, tombstone};

const OLD: Option<&str> = Some("2026-01-01T00:00:00Z");
const NEW: Option<&str> = Some("2026-02-01T00:00:00Z");

pub(crate) async fn an_older_version_does_not_overwrite_a_newer_one(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", NEW, "new"), contact("2", None, "no time, first")]).await;
    let applied = world.write(&lease, 1, &[contact("1", OLD, "old"), contact("2", None, "no time, later")]).await;
    assert_eq!((applied.stats.records_written, applied.stats.records_unchanged), (3, 1));
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("new"));
    assert_eq!(world.contact("2", "email").await.as_deref(), Some("no time, later"));
    world.write(&lease, 2, &[contact("1", NEW, "same time, observed later"), contact("2", OLD, "with a time")]).await;
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("same time, observed later"));
    world.write(&lease, 3, &[contact("2", None, "no time is older than any")]).await;
    assert_eq!(world.contact("2", "email").await.as_deref(), Some("with a time"));
}

pub(crate) async fn an_unchanged_row_is_not_rewritten(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", OLD, "a"), contact("2", OLD, "b")]).await;
    let (stamp, rewritten) = ("synced_at", world.probe.rewritten());
    let before = (world.contact("1", stamp).await, world.contact("1", rewritten).await);
    let applied = world.write(&lease, 1, &[contact("1", OLD, "a"), contact("2", OLD, "changed")]).await;
    assert_eq!((applied.stats.records_written, applied.stats.records_unchanged), (3, 1));
    assert_eq!((world.contact("1", stamp).await, world.contact("1", rewritten).await), before);
    assert_eq!(world.contact("2", "email").await.as_deref(), Some("changed"));
}

pub(crate) async fn a_changed_row_keeps_its_canonical_id_and_first_sight(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", OLD, "a")]).await;
    let before = (world.contact("1", "canonical_id").await, world.contact("1", "first_seen_at").await);
    world.write(&lease, 1, &[contact("1", NEW, "b")]).await;
    assert_eq!((world.contact("1", "canonical_id").await, world.contact("1", "first_seen_at").await), before);
    assert_eq!(world.contact("1", "run").await.as_deref(), Some("run-1"));
    assert_eq!(world.contact("1", "source_type").await.as_deref(), Some("hubspot"));
    assert_eq!(before.0.map(|id| id.len()), Some(36));
}

pub(crate) async fn a_tombstone_keeps_the_last_values_and_a_newer_row_brings_the_record_back(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", OLD, "a")]).await;
    let applied = world.write(&lease, 1, &[tombstone("1", NEW, "2026-02-01T00:00:00Z")]).await;
    assert_eq!(applied.stats.records_written, 2);
    assert!(world.contact("1", "deleted_at").await.is_some());
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("a"));
    world.write(&lease, 2, &[contact("1", OLD, "stale")]).await;
    assert!(world.contact("1", "deleted_at").await.is_some(), "an older version does not bring it back");
    world.write(&lease, 3, &[contact("1", NEW, "restored")]).await;
    assert_eq!(world.contact("1", "deleted_at").await, None);
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("restored"));
    world.write(&lease, 4, &[tombstone("1", OLD, "2026-01-02T00:00:00Z")]).await;
    assert_eq!(world.contact("1", "deleted_at").await, None, "nor does an older tombstone delete it");
    world.write(&lease, 5, &[tombstone("1", None, "2026-03-01T00:00:00Z")]).await;
    assert!(
        world.contact("1", "deleted_at").await.is_some(),
        "without a time of change, the one observed later counts"
    );
}

pub(crate) async fn a_record_that_the_source_did_not_know_comes_back_as_it_was(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let unknown = |id| tombstone(id, None, "2026-11-22T12:00:00Z");
    world.write(&lease, 0, &[contact("1", OLD, "hidden"), contact("2", NEW, "hidden"), unknown("3")]).await;
    world.write(&lease, 1, &[unknown("1"), unknown("2")]).await;
    for (id, time) in [("1", OLD), ("2", NEW)] {
        assert!(world.contact(id, "deleted_at").await.is_some());
        let kept = world.contact(id, "source_updated_at").await.expect("the row's own time");
        assert_eq!(kept[..10], time.expect("a time")[..10]);
    }
    // Shown again, changed before anybody looked for them; the second in a version from before the one that was here.
    let back = [contact("1", OLD, "hidden"), contact("2", OLD, "older"), contact("3", OLD, "never seen before")];
    world.write(&lease, 2, &back).await;
    assert_eq!(world.contact("1", "deleted_at").await, None);
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("hidden"));
    assert!(world.contact("2", "deleted_at").await.is_some(), "older never overwrites newer");
    assert_eq!(world.contact("3", "deleted_at").await, None);
    assert_eq!(world.contact("3", "email").await.as_deref(), Some("never seen before"));
}

pub(crate) async fn within_one_call_what_was_observed_last_says_whether_an_unknown_record_is_back(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let unknown = |id| tombstone(id, None, "2026-11-22T12:00:00Z");
    let archived = |id| tombstone(id, OLD, "2026-01-01T00:00:00Z");
    world.write(&lease, 0, &[contact("3", NEW, "c")]).await;
    let rows = [
        contact("1", NEW, "then unknown"),
        unknown("1"),
        unknown("2"),
        contact("2", NEW, "then back"),
        archived("3"),
        unknown("3"),
        unknown("4"),
        tombstone("4", NEW, "2026-02-01T00:00:00Z"),
    ];
    world.write(&lease, 1, &rows).await;
    for (id, deleted) in [("1", true), ("2", false), ("3", true), ("4", true)] {
        assert_eq!(world.contact(id, "deleted_at").await.is_some(), deleted, "{id}");
        let time = world.contact(id, "source_updated_at").await.expect("a time");
        assert_eq!(time[..10], NEW.expect("a time")[..10], "{id}");
    }
}

pub(crate) async fn a_tombstone_of_an_unknown_id_stands_alone(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let merged = gtm_sync::model::record::Row {
        merged_into_source_id: Some("7".into()),
        ..tombstone("1", NEW, "2026-02-01T00:00:00Z")
    };
    world.write(&lease, 0, &[merged]).await;
    assert!(world.contact("1", "deleted_at").await.is_some());
    assert_eq!(world.contact("1", "merged_into_source_id").await.as_deref(), Some("7"));
    assert_eq!(world.contact("1", "email").await, None);
    world.write(&lease, 1, &[contact("1", OLD, "older")]).await;
    assert_eq!(world.contact("1", "email").await, None);
}

pub(crate) async fn within_one_call_the_greatest_version_of_a_key_wins(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = [
        contact("1", NEW, "new first"),
        contact("1", OLD, "old later"),
        contact("2", OLD, "first"),
        contact("2", OLD, "second"),
        contact("3", OLD, "last known"),
        tombstone("3", NEW, "2026-02-01T00:00:00Z"),
        tombstone("4", OLD, "2026-01-01T00:00:00Z"),
        contact("4", NEW, "restored"),
    ];
    let first = world.stage(&lease, 0, load_at(1), batch(&rows, &[])).await;
    let later =
        [contact("2", OLD, "of the later batch"), tombstone("5", NEW, "2026-02-01T00:00:00Z"), contact("5", OLD, "e")];
    let second = world.stage(&lease, 1, load_at(2), batch(&later, &[])).await;
    world.store.apply(&lease, &[first, second]).await.expect("applies");
    for (id, email, deleted) in [
        ("1", "new first", false),
        ("2", "of the later batch", false),
        ("3", "last known", true),
        ("4", "restored", false),
        ("5", "e", true),
    ] {
        assert_eq!(world.contact(id, "email").await.as_deref(), Some(email), "{id}");
        assert_eq!(world.contact(id, "deleted_at").await.is_some(), deleted, "{id}");
    }
    assert_eq!(world.count("contact").await, 5);
}

pub(crate) async fn a_row_of_another_account_gives_way_to_the_one_observed_later(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", NEW, "of portal-1")]).await;
    let former = world.contact("1", "canonical_id").await;
    let reset = gtm_sync::store::ConnectorProjection {
        wishes: super::world::wishes(&[(gtm_sync::store::Verb::ResetCursor, "r1")]),
        ..super::world::connector()
    };
    world.store.put_connector(&reset).await.expect("resets");
    let wish =
        gtm_sync::store::LeaseRequest { account_id: "portal-2".to_owned(), ..super::world::request("run-2", None) };
    let other = world.store.take_lease(&wish).await.expect("the other account").lease;
    world.write(&other, 0, &[tombstone("1", NEW, "2026-02-01T00:00:00Z")]).await;
    assert_eq!(world.contact("1", "deleted_at").await, None, "a deletion elsewhere is not this record's");
    world.write(&other, 1, &[contact("1", OLD, "of portal-2")]).await;
    assert_eq!(world.contact("1", "email").await.as_deref(), Some("of portal-2"));
    assert_eq!(world.contact("1", "account_id").await.as_deref(), Some("portal-2"));
    assert_ne!(world.contact("1", "canonical_id").await, former, "it is another record");
}
