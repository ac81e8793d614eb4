//! Data policy Delete: what a purge takes, what it leaves, and whom it refuses.

use gtm_sync::{
    ids::ConnectorId,
    model::{
        config::{ConnectorConfig, DataPolicy},
        cursor::Cursor,
    },
    store::{ConnectorProjection, Error, Purged},
};

use super::world::{World, batch, connector, connector_id, contact, load_at, rejected, tenant_id, tombstone};

fn deleting() -> ConnectorProjection {
    let config = ConnectorConfig { data_policy: DataPolicy::Delete, ..connector().config };
    ConnectorProjection { config, ..connector() }
}

/// A row, a tombstone, a dead letter, a staged batch that nobody applied, and a run at work.
async fn filled(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = [
        contact("1", Some("2026-01-01T00:00:00Z"), "a@example.com"),
        tombstone("2", Some("2026-01-02T00:00:00Z"), "2026-01-02T00:00:00Z"),
    ];
    let writer = batch(&rows, &[rejected("3", "Test", None)]);
    let reference = world.stage(&lease, 0, load_at(1), writer).await;
    world.store.apply(&lease, &[reference]).await.expect("applies");
    world.stage(&lease, 1, load_at(2), batch(&[], &[])).await;
}

async fn purge(world: &World, connector: &ConnectorId) -> Result<Purged, Error> {
    world.store.purge_connector(&tenant_id(), connector).await
}

/// Rows of a connector in every table that names one.
async fn left(world: &World, connector: &str) -> i64 {
    let mut left = 0;
    for table in [
        "connector",
        "sync_state",
        "credential",
        "credential_overlay",
        "refresh_lock",
        "handled_token",
        "run",
        "staged_batch",
        "applied_batch",
        "dead_letter",
        "failed_record",
        "seen_batch",
        "sweep_candidate",
        "account",
        "contact",
        "lead",
        "opportunity",
        "activity",
        "owner",
        "stage",
    ] {
        left += world.count(&format!("{table} WHERE connector_id = '{connector}'")).await;
    }
    left
}

pub(crate) async fn a_removed_connector_that_asked_for_it_is_purged_whole_and_its_neighbour_is_not(world: &World) {
    filled(world).await;
    let neighbour = ConnectorProjection { connector_id: "other".parse().expect("id"), ..deleting() };
    world.store.put_connector(&neighbour).await.expect("projects");
    let before = left(world, "other").await;
    world.store.put_connector(&deleting()).await.expect("projects");
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    let listed = world.store.projected_connectors("eu1").await.expect("lists");
    assert!(listed.iter().all(|row| row.data_policy == DataPolicy::Delete), "remembered without its CR");
    let stored = left(world, "hubspot").await;
    assert!(stored >= 9, "the world is not empty: {stored}");
    let purged = purge(world, &connector_id()).await.expect("purges");
    assert_eq!((purged.done, i64::try_from(purged.rows).expect("few")), (true, stored));
    assert_eq!((left(world, "hubspot").await, left(world, "other").await), (0, before));
    assert_eq!(purge(world, &connector_id()).await, Ok(Purged { rows: 0, done: true }), "nothing is left to do");
    assert_eq!(world.store.tenant_claim(&tenant_id()).await.map(|owner| owner.is_some()), Ok(true));
}

pub(crate) async fn a_connector_that_is_there_or_whose_data_stays_is_never_purged(world: &World) {
    filled(world).await;
    let refused = |outcome: Result<Purged, Error>| match outcome {
        Err(Error::Refused { code, .. }) => assert_eq!(code, "DataRetained"),
        other => panic!("{other:?}"),
    };
    world.store.put_connector(&deleting()).await.expect("projects");
    refused(purge(world, &connector_id()).await);
    world.store.put_connector(&connector()).await.expect("projects");
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    refused(purge(world, &connector_id()).await);
    assert_eq!(world.count("contact").await, 2);
}

pub(crate) async fn a_purge_takes_a_bounded_part_and_one_that_comes_back_meanwhile_reads_everything_again(
    world: &World,
) {
    filled(world).await;
    const FILL: &str =
        "INSERT INTO failed_record (tenant_id, connector_id, workflow_id, batch_index, error, recorded_at)
        SELECT 'acme', 'hubspot', 'run-0', a.n * 100 + b.n, '', '2026-01-01T00:00:00.000000Z'
        FROM (WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 119) SELECT n FROM n) AS a,
            (WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 99) SELECT n FROM n) AS b";
    world.probe.execute(FILL).await;
    world.store.put_connector(&deleting()).await.expect("projects");
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    let first = purge(world, &connector_id()).await.expect("purges");
    assert!(!first.done && first.rows >= 10_000, "{first:?}");
    assert_eq!(world.count("contact").await, 2, "rows go last");

    world.store.put_connector(&deleting()).await.expect("comes back");
    assert!(purge(world, &connector_id()).await.is_err(), "the purge stops");
    world.connect(1, Some(super::world::ACCOUNT)).await;
    let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((record.cursor, record.load), (Cursor::default(), None));
    let lease = world.lease("run-2").await.lease;
    assert!(lease.run_no > 1, "version numbers go on, or rows that are left would win over what is read again");

    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    let mut calls = 0;
    while !purge(world, &connector_id()).await.expect("purges").done {
        calls += 1;
        assert!(calls < 5, "it comes to an end");
    }
    assert_eq!(left(world, "hubspot").await, 0);
}

pub(crate) async fn runs_are_listed_newest_first(world: &World) {
    world.projected().await;
    for run in ["run-1", "run-2", "run-3"] {
        let lease = world.lease(run).await.lease;
        let failed = gtm_sync::store::RunEnd::Failed("Test".to_owned());
        world.store.finish_run(&lease, &failed, Default::default()).await.expect("ends");
    }
    let listed = world.store.runs(&tenant_id(), &connector_id(), 2).await.expect("lists");
    let ids: Vec<_> = listed.iter().map(|run| run.workflow_id.as_str()).collect();
    assert_eq!(ids, ["run-3", "run-2"]);
    assert_eq!(listed[0].error.as_deref(), Some("Test"));
    assert!(listed[0].finished_at.is_some());
}
