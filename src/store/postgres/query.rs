//! Runs statements, each prepared once a connection.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};

use super::fault::Fault;

/// Bound values.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// All rows.
pub(super) async fn rows(client: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, values).await?)
}

/// The only row, if there is one.
pub(super) async fn row(client: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<Option<Row>, Fault> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_opt(&statement, values).await?)
}

/// The number of rows changed.
pub(super) async fn execute(client: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<u64, Fault> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, values).await?)
}
