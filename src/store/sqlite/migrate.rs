//! Applies the numbered migrations, each in the transaction that records it.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::fault::Fault;
use crate::store::SCHEMA_VERSIONS;

/// Migration `n` brings the schema from version `n - 1` to `n`; never edited after a release (R25).
const MIGRATIONS: [&str; *SCHEMA_VERSIONS.end() as usize] = [
    include_str!("migrations/0001_registry.sql"),
    include_str!("migrations/0002_data_path.sql"),
    include_str!("migrations/0003_canonical.sql"),
    include_str!("migrations/0004_views.sql"),
];

/// Brings the schema to this build's version; the caller's IMMEDIATE transaction is the lock.
pub(super) fn migrate(transaction: &Transaction<'_>) -> Result<(), Fault> {
    let from = schema_version(transaction)?;
    for (version, statements) in (1_i32..).zip(MIGRATIONS).filter(|&(version, _)| version > from) {
        transaction.execute_batch(statements)?;
        transaction.execute(
            "INSERT INTO meta (only_row, installation_id, schema_version) VALUES (1, ?1, ?2)
             ON CONFLICT (only_row) DO UPDATE SET schema_version = excluded.schema_version",
            params![uuid::Uuid::new_v4().to_string(), version],
        )?;
    }
    Ok(())
}

/// The schema's version, 0 for an empty database.
pub(super) fn schema_version(connection: &Connection) -> Result<i32, Fault> {
    let meta: Option<String> = connection
        .query_row("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'meta'", [], |row| row.get(0))
        .optional()?;
    if meta.is_none() {
        return Ok(0);
    }
    let version = connection.query_row("SELECT schema_version FROM meta", [], |row| row.get(0)).optional()?;
    Ok(version.unwrap_or(0))
}

/// The installation id.
pub(super) fn installation_id(connection: &Connection) -> Result<String, Fault> {
    Ok(connection.query_row("SELECT installation_id FROM meta", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entity::{ColumnType, Entity};

    fn migrated() -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        let transaction = connection.transaction().expect("begin");
        migrate(&transaction).expect("migrates");
        transaction.commit().expect("commit");
        connection
    }

    fn columns(connection: &Connection, table: &str) -> Vec<(String, String)> {
        let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?1)").expect("pragma");
        let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).expect("query");
        rows.collect::<Result<_, _>>().expect("rows")
    }

    #[test]
    fn tables_and_views_have_the_columns_of_the_model_in_its_order() {
        let connection = migrated();
        for entity in Entity::ALL {
            let wanted: Vec<_> = entity
                .columns()
                .iter()
                .map(|column| match column.kind {
                    ColumnType::Integer | ColumnType::Boolean => (column.name.to_owned(), "INTEGER".to_owned()),
                    _ => (column.name.to_owned(), "TEXT".to_owned()),
                })
                .collect();
            let stored = columns(&connection, entity.table());
            assert_eq!(stored[stored.len() - wanted.len()..], wanted, "{}", entity.table());
            let view: Vec<_> = columns(&connection, &format!("canonical_{}", entity.table()));
            let hidden = ["observed_seq", "payload_hash"];
            let shown: Vec<_> = stored.into_iter().filter(|(name, _)| !hidden.contains(&name.as_str())).collect();
            assert_eq!(view, shown, "view of {}", entity.table());
        }
    }

    #[test]
    fn migrating_twice_changes_nothing_and_keeps_the_installation() {
        let mut connection = migrated();
        let installation = installation_id(&connection).expect("id");
        let transaction = connection.transaction().expect("begin");
        migrate(&transaction).expect("a second time");
        assert_eq!(schema_version(&transaction).expect("version"), *SCHEMA_VERSIONS.end());
        assert_eq!(installation_id(&transaction).expect("id"), installation);
    }
}
