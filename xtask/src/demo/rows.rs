//! Counts of canonical rows, read from the store's public views (docs/canonical-schema.md).

use anyhow::Context as _;

use crate::postgres;

const ENTITIES: [&str; 6] = ["account", "contact", "opportunity", "activity", "owner", "stage"];

/// Rows of one connector, in the order of the entities.
type Counts = Vec<(String, String, Vec<i64>)>;

/// A table of the live rows of each connector.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn table(database_url: &str) -> anyhow::Result<String> {
    let counts = match database_url.strip_prefix("sqlite:") {
        Some(path) => in_sqlite(path),
        None => in_postgres(database_url).await,
    }
    .context("could not count the canonical rows")?;
    let mut text = format!("{:10}{:14}", "TENANT", "CONNECTOR");
    ENTITIES.iter().for_each(|it| text += &format!("{:>12}", it.to_uppercase()));
    for (tenant, connector, numbers) in counts {
        text += &format!("\n{tenant:10}{connector:14}");
        numbers.iter().for_each(|it| text += &format!("{it:>12}"));
    }
    Ok(text)
}

/// One row for each connector and one column for each entity. `prefix` is that of the views: a schema in PostgreSQL.
fn statement(prefix: &str) -> String {
    let part = |entity: &str| {
        format!("SELECT tenant_id, connector_id, '{entity}' AS entity FROM {prefix}{entity} WHERE deleted_at IS NULL")
    };
    let parts: Vec<_> = ENTITIES.iter().map(|it| part(it)).collect();
    let sum = |entity: &str| format!("SUM(CASE WHEN entity = '{entity}' THEN 1 ELSE 0 END)");
    let sums: Vec<_> = ENTITIES.iter().map(|it| sum(it)).collect();
    format!(
        "SELECT tenant_id, connector_id, {} FROM ({}) AS rows GROUP BY tenant_id, connector_id ORDER BY 1, 2",
        sums.join(", "),
        parts.join(" UNION ALL ")
    )
}

async fn in_postgres(url: &str) -> anyhow::Result<Counts> {
    let rows = postgres::connect(url).await?.query(&statement("canonical."), &[]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), (0..ENTITIES.len()).map(|it| row.get(2 + it)).collect()))
        .collect())
}

fn in_sqlite(path: &str) -> anyhow::Result<Counts> {
    let database = rusqlite::Connection::open(path)?;
    let mut query = database.prepare(&statement("canonical_"))?;
    let counts = query.query_map([], |row| {
        let numbers = (0..ENTITIES.len()).map(|it| row.get(2 + it)).collect::<Result<_, _>>()?;
        Ok((row.get(0)?, row.get(1)?, numbers))
    })?;
    Ok(counts.collect::<Result<_, _>>()?)
}
