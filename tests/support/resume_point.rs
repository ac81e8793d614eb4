//! Puts the tests' own constraint on a migrated PostgreSQL database: no commit whose resume point is ahead of its rows.
//! The constraint itself is SQL beside this file; the product knows nothing of it.

use tokio_postgres::NoTls;

/// SQLSTATE of its refusals; of no class that the product takes for an outage or for bad data.
pub const REFUSED: &str = "GTM01";

/// Installs it, once per database.
pub async fn guard(database_url: &str) {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await.expect("PostgreSQL answers");
    let connection = tokio::spawn(connection);
    client.batch_execute(include_str!("resume_point.sql")).await.expect("the constraint is installed");
    drop(client);
    connection.await.expect("task").expect("closed");
}
