//! The tests' own constraint on PostgreSQL is seen to fire: whichever half of a commit goes missing, the commit is refused.

use std::sync::Arc;

use gtm_sync::store::{Error, Store as _, postgres::PostgresStore};

use super::{
    World,
    conformance::world::{batch, contact, load_at, rejected},
    connect, fresh_database,
};
use crate::support::resume_point;

/// A guarded store, and the URL of its database.
async fn guarded() -> (World, String) {
    let database = fresh_database().await;
    let url = database.url.clone();
    let store = PostgresStore::open(&url).await.expect("opens");
    store.migrate().await.expect("migrates");
    resume_point::guard(&url).await;
    (World { store: Arc::new(store), probe: Box::new(database) }, url)
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_resume_point_moved_by_hand_is_refused_at_its_commit() {
    let (world, url) = guarded().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[contact("1", None, "a")]).await;
    let client = connect(&url).await;
    for wrong in ["next_seq + 1", "next_seq - 1"] {
        client.batch_execute("BEGIN").await.expect("begins");
        let moved = format!("UPDATE gtm.sync_state SET next_seq = {wrong}");
        client.batch_execute(&moved).await.expect("it is looked at when the transaction ends");
        let refused = client.batch_execute("COMMIT").await.expect_err("refused");
        assert_eq!(refused.code().map(|code| code.code()), Some(resume_point::REFUSED), "{wrong}");
    }
    assert_eq!(world.text("SELECT CAST(next_seq AS TEXT) FROM sync_state").await.as_deref(), Some("1"));
    world.probe.close().await;
}

/// What a broken product would do, as triggers.
const BREAKAGES: [(&str, &str, &str); 5] = [
    ("a staged batch outlives its commit", "DELETE ON gtm.staged_batch", "RETURN NULL"),
    ("the batch is not recorded as applied", "INSERT ON gtm.applied_batch", "RETURN NULL"),
    ("a dead letter is counted and not kept", "INSERT ON gtm.dead_letter", "RETURN NULL"),
    ("the run's counts do not move", "UPDATE ON gtm.run", "NEW.stats := OLD.stats; RETURN NEW"),
    (
        "a row is counted that was not written",
        "UPDATE ON gtm.run",
        "NEW.stats := jsonb_set(NEW.stats, '{recordsWritten}', '99'); RETURN NEW",
    ),
];

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_commit_that_loses_one_of_its_halves_is_refused_whole() {
    let (world, url) = guarded().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let client = connect(&url).await;
    let records = || batch(&[contact("1", None, "a"), contact("2", None, "b")], &[rejected("3", "Broken", None)]);
    for (what, when, body) in BREAKAGES {
        let reference = world.stage(&lease, 0, load_at(1), records()).await;
        let breakage = format!(
            "CREATE FUNCTION pg_temp.breakage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$;
             CREATE TRIGGER breakage BEFORE {when} FOR EACH ROW EXECUTE FUNCTION pg_temp.breakage()"
        );
        client.batch_execute(&breakage).await.expect(what);
        let refused = world.store.apply(&lease, &[reference]).await.expect_err(what);
        assert!(
            // A staged batch that is not there to be dropped is the store's own business.
            matches!(&refused, Error::Refused { code, .. } if code.starts_with(resume_point::REFUSED))
                || matches!(&refused, Error::StaleRun { .. } if when.contains("staged_batch")),
            "{what}: {refused:?}"
        );
        client.batch_execute("DROP FUNCTION pg_temp.breakage CASCADE").await.expect(what);
        for table in ["contact", "dead_letter", "applied_batch"] {
            assert_eq!(world.count(table).await, 0, "{what}: {table}");
        }
    }
    let reference = world.stage(&lease, 0, load_at(1), records()).await;
    let applied = world.store.apply(&lease, &[reference]).await.expect("nothing is broken any more");
    assert_eq!((applied.stats.records_written, applied.stats.errors_count), (2, 1));
    world.probe.close().await;
}
