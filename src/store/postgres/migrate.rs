//! Applies the numbered migrations in one transaction under an advisory lock.

use deadpool_postgres::{Client, GenericClient};

use super::{fault::Fault, query};
use crate::store::SCHEMA_VERSIONS;

/// Migration `n` brings the schema from version `n - 1` to `n`; never edited after a release (R25).
const MIGRATIONS: [&str; *SCHEMA_VERSIONS.end() as usize] = [
    include_str!("migrations/0001_registry.sql"),
    include_str!("migrations/0002_data_path.sql"),
    include_str!("migrations/0003_canonical.sql"),
    include_str!("migrations/0004_views.sql"),
];

/// The advisory lock of migrations: the bytes of `gtm-sync`; advisory locks are a database's own.
const LOCK: i64 = i64::from_be_bytes(*b"gtm-sync");

// A table that somebody reads for hours must not make everybody else queue behind our DDL.
const DDL_LIMITS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL client_min_messages = warning";

/// Brings the schema to this build's version; waits for another caller that does the same.
pub(super) async fn migrate(client: &mut Client) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    query::execute(&transaction, "SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction.batch_execute(DDL_LIMITS).await?;
    let from = schema_version(&transaction).await?;
    for (version, statements) in (1_i32..).zip(MIGRATIONS).filter(|&(version, _)| version > from) {
        transaction.batch_execute(statements).await?;
        transaction
            .execute(
                "INSERT INTO gtm.meta (only_row, installation_id, schema_version) VALUES (1, $1, $2)
                 ON CONFLICT (only_row) DO UPDATE SET schema_version = excluded.schema_version",
                &[&uuid::Uuid::new_v4().to_string(), &version],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The schema's version, 0 for an empty database.
pub(super) async fn schema_version(client: &impl GenericClient) -> Result<i32, Fault> {
    const EXISTS: &str = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'gtm' AND tablename = 'meta'";
    if query::row(client, EXISTS, &[]).await?.is_none() {
        return Ok(0);
    }
    match query::row(client, "SELECT schema_version FROM gtm.meta", &[]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Ok(0),
    }
}

/// The installation id.
pub(super) async fn installation_id(client: &impl GenericClient) -> Result<String, Fault> {
    let row = query::row(client, "SELECT installation_id FROM gtm.meta", &[]).await?;
    let missing = || crate::store::Error::Refused { attempted: "read the installation id", code: "no row".to_owned() };
    Ok(row.ok_or_else(missing)?.try_get(0)?)
}
