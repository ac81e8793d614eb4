//! A store that is set back to an older point reads again what it has forgotten and loses nothing (R1).

use super::*;

/// PostgreSQL databases of a test, copied as templates: a consistent backup, and its restore.
struct Backups {
    client: tokio_postgres::Client,
    database: String,
}

impl Backups {
    async fn of(database: &str) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&postgres_url(), tokio_postgres::NoTls).await.expect("postgres");
        tokio::spawn(connection);
        Self { client, database: database.to_owned() }
    }

    /// Copies `from` into a fresh database `to`; whoever is connected loses the connection.
    async fn copy(&self, from: &str, to: &str) {
        let sessions = format!(
            "ALTER DATABASE {from} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'"
        );
        self.client.batch_execute(&sessions).await.expect("ends sessions");
        eventually("the database is left", LONG, || async {
            let copied = self.client.batch_execute(&format!("CREATE DATABASE {to} TEMPLATE {from}")).await;
            copied.ok()
        })
        .await;
        for name in [from, to] {
            let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
            self.client.batch_execute(&open).await.expect("opens");
        }
    }

    async fn backup(&self) -> String {
        let copy = fresh("backup").replace('-', "_");
        self.copy(&self.database, &copy).await;
        copy
    }

    async fn restore(&self, backup: &str) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        self.client.batch_execute(&drop).await.expect("drops");
        self.copy(backup, &self.database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn a_store_set_back_reads_again_and_loses_nothing() {
    let (base, database) = (postgres_url(), fresh("restored").replace('-', "_"));
    create_database(&base, &database).await;
    let mut url: url::Url = base.parse().expect("URL");
    url.set_path(&database);
    let stack = Stack::on(url.as_str(), tempfile::tempdir().expect("directory")).await;
    let (backups, crm) = (Backups::of(&database).await, crm(2_000).await);
    let mut worker = stack.worker();
    acme(&stack, &crm).await;

    // Mid-way through the first load: Temporal knows more commits than the restored store.
    stack.start_sync("first", "acme", "hubspot", true).await;
    let processed = |enough: u64| {
        let stack = &stack;
        eventually("some records are committed", LONG, move || async move {
            let row = stack.store.connector_statuses(None).await.ok()?.rows.remove(0);
            let run = row.last_run?;
            (run.stats.records_processed >= enough || run.finished_at.is_some()).then_some(())
        })
    };
    processed(400).await;
    let midway = backups.backup().await;
    processed(1_200).await;
    worker.kill();
    backups.restore(&midway).await;
    worker = stack.worker();
    // It ends as a run that is not the store's any more, or goes on in a new session; the next one brings the rest.
    let first = stack.end("first").await;
    let second = stack.sync("second", "acme", "hubspot", false).await.completed();
    assert_eq!(second["outcome"], "complete", "{second} after {first:?}");
    assert_clean(&stack, &crm, "acme", "hubspot").await;

    // Between two increments: the cursor is set back with the rows.
    let older = backups.backup().await;
    crm.state().edit_random(Edits { seed: 11, create: 20, update: 60, archive: 10, merge: 1 });
    crm.state().advance_clock(Duration::from_secs(900));
    stack.sync("forgotten", "acme", "hubspot", false).await.completed();
    assert_clean(&stack, &crm, "acme", "hubspot").await;
    worker.kill();
    backups.restore(&older).await;
    let _worker = stack.worker();
    crm.state().edit_random(Edits { seed: 12, create: 5, update: 20, archive: 5, merge: 0 });
    crm.state().advance_clock(Duration::from_secs(900));
    stack.sync("again", "acme", "hubspot", false).await.completed();
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}
