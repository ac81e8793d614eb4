//! Reads the store by its public face: the canonical views, the dead letters and the cursor, in plain SQL of its own.
//! Changes nothing and trusts nothing of the store's code.

use std::{collections::HashMap, path::PathBuf};

use anyhow::Context as _;
use futures::{StreamExt as _, pin_mut};
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use tokio_postgres::NoTls;

use super::mapping::Entity;

/// One row as the views show it, or several with the same id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) updated_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    /// In the order of `Entity::columns`.
    pub(super) fields: Vec<Option<String>>,
    /// How many rows have this id.
    pub(super) count: u32,
    /// Whether the source knows it.
    pub(super) known: bool,
}

/// The rows of an entity by `source_id`.
pub(super) type Rows = HashMap<String, Row>;

/// A dead letter: entity and `source_id`, as far as they are known.
pub(super) type DeadLetter = (Option<String>, Option<String>);

/// The watermarks of a connector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Cursor {
    #[serde(default)]
    pub(super) streams: HashMap<String, Timestamp>,
}

/// Whose rows to read.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) tenant: String,
    pub(super) connector: String,
    /// The vendor account that the cursor must belong to.
    pub(super) account: String,
}

/// An open store.
pub(super) enum Store {
    Postgres(tokio_postgres::Client),
    Sqlite(PathBuf),
}

impl Store {
    /// Opens `postgres://…` (without TLS) or `sqlite:PATH`.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            anyhow::ensure!(path.is_file(), "there is no SQLite file at {}", path.display());
            return Ok(Self::Sqlite(path));
        }
        let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
        anyhow::ensure!(known, "the database URL is neither postgres:// nor sqlite:");
        // Its error may hold the URL with its password: the class is enough.
        let connected = tokio_postgres::connect(url, NoTls).await;
        let (client, connection) =
            connected.map_err(|error| anyhow::anyhow!("cannot connect to PostgreSQL: {}", class_of(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(class = class_of(&error), "the connection to PostgreSQL ended");
            }
        });
        Ok(Self::Postgres(client))
    }

    /// The rows of an entity.
    pub(super) async fn rows(&self, entity: &Entity, scope: &Scope) -> anyhow::Result<Rows> {
        // View and columns are constants of `mapping`; values are bound.
        let tail = "WHERE tenant_id = $1 AND connector_id = $2";
        let head = "source_id, source_updated_at, deleted_at";
        let read = match self {
            Self::Postgres(client) => {
                let columns: String = entity.columns.iter().map(|name| format!(", {name}::text")).collect();
                postgres_rows(client, &format!("SELECT {head}{columns} FROM canonical.{} {tail}", entity.view), scope)
                    .await
            }
            Self::Sqlite(path) => {
                let columns: String = entity.columns.iter().map(|name| format!(", {name}")).collect();
                let sql = format!("SELECT {head}{columns} FROM canonical_{} {tail}", entity.view);
                let (path, scope) = (path.clone(), scope.clone());
                tokio::task::spawn_blocking(move || sqlite_rows(&path, &sql, &scope))
                    .await
                    .context("reading panicked")?
            }
        };
        read.with_context(|| format!("cannot read the view {}", entity.view))
    }

    /// All dead letters of the connector.
    pub(super) async fn dead_letters(&self, scope: &Scope) -> anyhow::Result<Vec<DeadLetter>> {
        const POSTGRES: &str =
            "SELECT entity, source_id FROM gtm.dead_letter WHERE tenant_id = $1 AND connector_id = $2";
        const SQLITE: &str = "SELECT entity, source_id FROM dead_letter WHERE tenant_id = $1 AND connector_id = $2";
        let read = match self {
            Self::Postgres(client) => client
                .query(POSTGRES, &[&scope.tenant, &scope.connector])
                .await
                .map(|rows| rows.iter().map(|row| (row.get(0), row.get(1))).collect())
                .map_err(redacted),
            Self::Sqlite(path) => {
                let connection = open_sqlite(path)?;
                let mut statement = connection.prepare(SQLITE)?;
                let letters =
                    statement.query_map((&scope.tenant, &scope.connector), |row| Ok((row.get(0)?, row.get(1)?)))?;
                letters.collect::<Result<_, _>>().map_err(Into::into)
            }
        };
        read.context("cannot read the dead letters")
    }

    /// The connector's cursor for the account; default when there is none.
    pub(super) async fn cursor(&self, scope: &Scope) -> anyhow::Result<Cursor> {
        const POSTGRES: &str = "SELECT cursor::text FROM gtm.sync_state \
            WHERE tenant_id = $1 AND connector_id = $2 AND account_id = $3";
        const SQLITE: &str =
            "SELECT cursor FROM sync_state WHERE tenant_id = $1 AND connector_id = $2 AND account_id = $3";
        let (tenant, connector, account) = (&scope.tenant, &scope.connector, &scope.account);
        let text: anyhow::Result<Option<String>> = match self {
            Self::Postgres(client) => {
                let row = client.query_opt(POSTGRES, &[tenant, connector, account]).await.map_err(redacted);
                row.map(|row| row.and_then(|row| row.get(0)))
            }
            Self::Sqlite(path) => {
                let connection = open_sqlite(path)?;
                let found = connection.query_row(SQLITE, (tenant, connector, account), |row| row.get(0));
                match found {
                    Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                    other => other.map_err(Into::into),
                }
            }
        };
        match text.context("cannot read the cursor")? {
            Some(text) => serde_json::from_str(&text).context("the cursor is not {\"streams\": {name: time}}"),
            None => Ok(Cursor::default()),
        }
    }
}

async fn postgres_rows(client: &tokio_postgres::Client, sql: &str, scope: &Scope) -> anyhow::Result<Rows> {
    let found = client.query_raw(sql, [&scope.tenant, &scope.connector]).await.map_err(redacted)?;
    pin_mut!(found);
    let mut rows = Rows::new();
    while let Some(row) = found.next().await {
        let row = row.map_err(redacted)?;
        let fields = (3..row.len()).map(|at| row.get(at)).collect();
        add(&mut rows, row.get(0), row.get(1), row.get(2), fields);
    }
    Ok(rows)
}

fn open_sqlite(path: &std::path::Path) -> anyhow::Result<rusqlite::Connection> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    rusqlite::Connection::open_with_flags(path, flags).with_context(|| format!("cannot open {}", path.display()))
}

fn sqlite_rows(path: &std::path::Path, sql: &str, scope: &Scope) -> anyhow::Result<Rows> {
    let connection = open_sqlite(path)?;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut found = statement.query((&scope.tenant, &scope.connector))?;
    let mut rows = Rows::new();
    while let Some(row) = found.next()? {
        let time = |at: usize| -> anyhow::Result<Option<Timestamp>> {
            let text: Option<String> = row.get(at)?;
            text.map(|text| text.parse().context("a time is not RFC 3339")).transpose()
        };
        let fields = (3..columns).map(|at| row.get_ref(at).map(as_text)).collect::<Result<_, _>>()?;
        add(&mut rows, row.get(0)?, time(1)?, time(2)?, fields);
    }
    Ok(rows)
}

fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
    }
}

fn add(
    rows: &mut Rows,
    source_id: String,
    updated_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    fields: Vec<Option<String>>,
) {
    let row = rows.entry(source_id).or_default();
    let count = row.count + 1;
    *row = Row { updated_at, deleted_at, fields, count, known: false };
}

/// The database's own text can hold values of rows (R18): only its code leaves this file.
fn redacted(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!("PostgreSQL refused: {}", class_of(&error))
}

fn class_of(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) => format!("SQLSTATE {}", code.code()),
        None => "no answer from the server".to_owned(),
    }
}
