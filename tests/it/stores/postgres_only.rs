//! What only PostgreSQL promises: column types, the readers' role, isolation by the server, outages, error texts.

use gtm_sync::{
    model::{
        entity::{ColumnType, Entity},
        record::Cell,
    },
    store::{Error, Store as _, Verb, postgres::PostgresStore},
};

use super::{
    conformance::world::{Probe as _, batch, contact, load, load_at, poison, rejected},
    fresh_database, postgres_world,
};

#[tokio::test]
#[ignore = "needs postgres"]
async fn tables_and_views_have_the_columns_of_the_model_in_its_order() {
    let world = postgres_world().await;
    for entity in Entity::ALL {
        let wanted: Vec<_> = entity
            .columns()
            .iter()
            .map(|column| {
                let kind = match column.kind {
                    ColumnType::Text => "text",
                    ColumnType::Integer => "bigint",
                    ColumnType::Decimal => "numeric",
                    ColumnType::Boolean => "boolean",
                    ColumnType::Timestamp => "timestamp with time zone",
                    ColumnType::Date => "date",
                    ColumnType::Json => "jsonb",
                };
                [column.name, kind].map(|text| Some(text.to_owned())).to_vec()
            })
            .collect();
        let columns = |schema: &str| {
            format!(
                "SELECT column_name::text, data_type::text FROM information_schema.columns
                 WHERE table_schema = '{schema}' AND table_name = '{}' ORDER BY ordinal_position",
                entity.table()
            )
        };
        let stored = world.probe.rows(&columns("gtm")).await;
        assert_eq!(stored[stored.len() - wanted.len()..], wanted, "{}", entity.table());
        let hidden = ["observed_seq", "payload_hash"];
        let shown: Vec<_> =
            stored.into_iter().filter(|row| !hidden.contains(&row[0].as_deref().unwrap_or(""))).collect();
        assert_eq!(world.probe.rows(&columns("canonical")).await, shown, "view of {}", entity.table());
    }
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_readers_role_reads_the_views_and_nothing_else() {
    let world = postgres_world().await;
    let may = |what: &str| format!("SELECT CAST(has_{what} AS TEXT)");
    for (privilege, wanted) in [
        ("schema_privilege('gtm_reader', 'canonical', 'USAGE'", "true"),
        ("table_privilege('gtm_reader', 'canonical.contact', 'SELECT'", "true"),
        ("table_privilege('gtm_reader', 'canonical.activity_link', 'SELECT'", "true"),
        ("table_privilege('gtm_reader', 'canonical.contact', 'INSERT'", "false"),
        ("schema_privilege('gtm_reader', 'gtm', 'USAGE'", "false"),
        ("table_privilege('gtm_reader', 'gtm.credential', 'SELECT'", "false"),
    ] {
        assert_eq!(world.text(&may(&format!("{privilege})"))).await.as_deref(), Some(wanted), "{privilege}");
    }
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn every_migration_is_safe_to_run_twice() {
    let world = postgres_world().await;
    for migration in ["0001_registry", "0002_data_path", "0003_canonical", "0004_views"] {
        let path = format!("{}/src/store/postgres/migrations/{migration}.sql", env!("CARGO_MANIFEST_DIR"));
        world.probe.execute(&std::fs::read_to_string(path).expect("a migration")).await;
    }
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_document_that_only_jsonb_refuses_is_isolated() {
    let world = postgres_world().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let mut poison = contact("2", None, "poison");
    let custom = poison.cells.len() - 1;
    poison.cells[custom] = Cell::Json("{\"canary\":1e-20000}".into());
    let applied = world.write(&lease, 0, &[contact("1", None, "a"), poison, contact("3", None, "c")]).await;
    assert_eq!((applied.stats.records_written, applied.stats.errors_count), (2, 1));
    assert!(applied.failed[0].error.starts_with("1 rejected: 22"), "{:?}", applied.failed);
    assert!(!format!("{applied:?}").contains("canary"));
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn an_error_names_sqlstate_table_and_constraint_and_never_a_value() {
    let database = fresh_database().await;
    let store = PostgresStore::open(&database.url).await.expect("opens");
    let missing = store.installation_id().await.expect_err("no schema yet");
    assert!(matches!(&missing, Error::Refused { code, .. } if code == "42P01"), "{missing:?}");
    store.migrate().await.expect("migrates");
    let world = super::World { store: std::sync::Arc::new(store), probe: Box::new(database) };
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world
        .probe
        .execute("ALTER TABLE gtm.failed_record ADD CONSTRAINT no_canary CHECK (error NOT LIKE '%canary%')")
        .await;
    let canary = super::conformance::world::rejected("canary", "canary", None);
    let reference = world.stage(&lease, 0, load_at(1), batch(&[], &[canary])).await;
    let refused = world.store.apply(&lease, &[reference]).await.expect_err("refused");
    assert!(
        matches!(&refused, Error::RefusedData { code, .. } if code == "23514 failed_record no_canary"),
        "{refused:?}"
    );
    assert!(!format!("{refused} {refused:?}").contains("%canary"));
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_stopped_workers_lock_is_an_outage_and_loses_nothing() {
    let world = postgres_world().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let batches = [world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "a")], &[])).await];
    world.probe.execute("BEGIN; UPDATE gtm.sync_state SET next_seq = next_seq").await;
    let waited = world.store.apply(&lease, &batches).await.expect_err("the lock is not given up");
    assert!(matches!(&waited, Error::Unavailable { code, .. } if code == "55P03"), "{waited:?}");
    world.probe.execute("ROLLBACK").await;
    assert_eq!(world.store.apply(&lease, &batches).await.expect("applies").stats.records_written, 1);
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn lost_connections_are_an_outage_and_are_replaced() {
    let world = postgres_world().await;
    world.projected().await;
    world
        .probe
        .rows(
            "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    let asked = || async {
        match world.store.list_connected(&super::conformance::world::tenant_id()).await {
            Ok(listing) => Some(listing),
            Err(Error::Unavailable { .. }) => None,
            Err(other) => panic!("not an outage: {other:?}"),
        }
    };
    let listing = crate::support::eventually("a new connection", std::time::Duration::from_secs(30), asked).await;
    assert_eq!(listing.connectors.len(), 1);
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_owner_of_a_database_needs_no_other_right() {
    let database = fresh_database().await;
    let user = crate::support::fresh("owner").replace('-', "_");
    let setup = format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{user}' NOCREATEROLE; ALTER DATABASE {} OWNER TO {user}",
        database.name
    );
    database.execute(&setup).await;
    let mut url = url::Url::parse(&database.url).expect("a URL");
    url.set_username(&user).expect("a user");
    url.set_password(Some(&user)).expect("a password");
    let store = gtm_sync::store::open(url.as_str()).await.expect("opens");
    store.migrate().await.expect("migrates with or without the readers' role");
    let world = super::World { store, probe: Box::new(database) };
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    assert_eq!(world.write(&lease, 0, &[contact("1", None, "a")]).await.stats.records_written, 1);
    world.probe.close().await;
    super::connect(&crate::support::postgres_url())
        .await
        .batch_execute(&format!("DROP ROLE {user}"))
        .await
        .expect("drops");
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_call_over_several_entities_lands_each_in_its_table() {
    let world = postgres_world().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let row = |entity: Entity, id: &'static str| gtm_sync::model::record::Row {
        entity,
        cells: vec![Cell::Null; entity.columns().len()],
        ..contact(id, None, "")
    };
    let rows = [
        row(Entity::Owner, "1"),
        poison("2"),
        row(Entity::Account, "3"),
        contact("4", None, "d"),
        row(Entity::Owner, "5"),
    ];
    let applied = world.write(&lease, 0, &rows).await;
    assert_eq!((applied.stats.records_written, applied.stats.errors_count), (4, 1));
    for (table, count) in [("owner", 2), ("account", 1), ("contact", 1), ("dead_letter", 1)] {
        assert_eq!(world.count(table).await, count, "{table}");
    }
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_store_does_not_depend_on_the_search_path_of_its_role() {
    let world = postgres_world().await;
    let database = world.text("SELECT CAST(current_database() AS TEXT)").await.expect("a name");
    world.probe.execute(&format!("ALTER DATABASE {database} SET search_path = ''")).await;
    let store = gtm_sync::store::open(&super::database_url(&database)).await.expect("opens");
    let other = super::World { store, probe: world.probe };
    other.store.migrate().await.expect("migrates");
    other.projected().await;
    let lease = other.lease("run-1").await.lease;
    assert_eq!(other.write(&lease, 0, &[contact("1", None, "a")]).await.stats.records_written, 1);
    other.probe.close().await;
}

/// Waits until somebody waits for a lock that the probe's transaction holds.
async fn somebody_waits(world: &super::World) {
    const WAITING: &str = "SELECT CAST(count(*) AS TEXT) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    crate::support::eventually("a statement waits for the lock", std::time::Duration::from_secs(30), || async {
        (world.text(WAITING).await.as_deref() == Some("1")).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_discard_beside_a_commit_counts_the_letters_of_both() {
    let world = postgres_world().await;
    world.projected().await;
    let letters = [rejected("1", "X", None), rejected("2", "X", None)];
    world.run("run-1", load(), batch(&[], &letters)).await;
    let commit = "BEGIN;
        INSERT INTO gtm.dead_letter SELECT tenant_id, connector_id, observed_seq + 1000, account_id, workflow_id,
            batch_index, entity, 'new', source_updated_at, code, field, payload, payload_form, recorded_at
        FROM gtm.dead_letter WHERE source_id = '1';
        UPDATE gtm.sync_state SET dead_letters = dead_letters + 1";
    world.probe.execute(commit).await;
    let both = async {
        somebody_waits(&world).await;
        world.probe.execute("COMMIT").await;
    };
    tokio::join!(world.wish(Verb::Discard, "all".into()), both);
    assert_eq!(world.letter_ids().await, ["new"], "it came too late to be discarded, and is counted");
    world.probe.close().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_commit_whose_batch_is_erased_meanwhile_is_refused() {
    let world = postgres_world().await;
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let batches = [world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "a person")], &[])).await];
    world.probe.execute("BEGIN; DELETE FROM gtm.staged_batch").await;
    let erased = async {
        somebody_waits(&world).await;
        world.probe.execute("COMMIT").await;
    };
    let (refused, ()) = tokio::join!(world.store.apply(&lease, &batches), erased);
    assert!(matches!(refused, Err(Error::StaleRun { .. })), "{refused:?}");
    assert_eq!(world.count("contact").await, 0);
    world.probe.close().await;
}
