//! Writes one canonical row by version and hash (R9, R37): nothing happens unless it is new, or newer and different.

use std::sync::LazyLock;

use rusqlite::{CachedStatement, Transaction, types::Value};

use super::{
    fault::Fault,
    values::{At, instant_text},
};
use crate::{
    model::{entity::Entity, record::Cell},
    store::{incoming::Change, stored::CANONICAL_SCHEMA},
};

/// The envelope, in the order in which its values are bound.
const ENVELOPE: [&str; 16] = [
    "tenant_id",
    "connector_id",
    "source_id",
    "source_type",
    "account_id",
    "run",
    "synced_at",
    "first_seen_at",
    "schema_version",
    "canonical_id",
    "source_created_at",
    "source_updated_at",
    "observed_seq",
    "deleted_at",
    "merged_into_source_id",
    "payload_hash",
];
/// Of these, what an update never touches.
const KEPT: [&str; 5] = ["tenant_id", "connector_id", "source_id", "first_seen_at", "canonical_id"];

/// What a whole call's rows have in common.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    /// Whose.
    pub(super) tenant_id: &'a str,
    /// Which connector.
    pub(super) connector_id: &'a str,
    /// Its system.
    pub(super) source_type: &'static str,
    /// The vendor account.
    pub(super) account_id: &'a str,
    /// The workflow id.
    pub(super) run: &'a str,
    /// The time of the commit.
    pub(super) now: At,
}

struct Statements {
    live: String,
    tombstone: String,
}

static STATEMENTS: LazyLock<[Statements; Entity::ALL.len()]> =
    LazyLock::new(|| Entity::ALL.map(|entity| Statements { live: live(entity), tombstone: tombstone(entity) }));

fn insert(table: &str, columns: &[&str]) -> String {
    let places: Vec<_> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "))
}

/// The stored row is older: by (source_updated_at, observed_seq), no time being older than any (R9).
fn older(table: &str, new_time: &str) -> String {
    format!(
        "(coalesce({table}.source_updated_at, ''), {table}.observed_seq)
         < (coalesce({new_time}, ''), excluded.observed_seq)"
    )
}

/// A row of another vendor account under the same id is another record: the one observed later stands, under a new
/// canonical id (R4).
fn live(entity: Entity) -> String {
    let table = entity.table();
    let columns: Vec<_> = ENVELOPE.into_iter().chain(entity.columns().iter().map(|column| column.name)).collect();
    let updates = columns.iter().filter(|column| !KEPT.contains(column));
    let updates: Vec<_> = updates.map(|column| format!("{column} = excluded.{column}")).collect();
    let same_account = format!("{table}.account_id = excluded.account_id");
    format!(
        "{} ON CONFLICT (tenant_id, connector_id, source_id) DO UPDATE SET {},
            canonical_id = CASE WHEN {same_account} THEN {table}.canonical_id ELSE excluded.canonical_id END
         WHERE CASE WHEN {same_account} THEN {table}.payload_hash <> excluded.payload_hash AND {}
            ELSE {table}.observed_seq < excluded.observed_seq END",
        insert(table, &columns),
        updates.join(", "),
        older(table, "excluded.source_updated_at")
    )
}

/// A tombstone keeps the last known values, and without a time of change of its own also that of the row; for an unknown id
/// it stands alone.
fn tombstone(entity: Entity) -> String {
    let table = entity.table();
    let kept = |column: &&str| !KEPT.contains(column) && *column != "source_created_at" && *column != "source_type";
    let time = format!("coalesce(excluded.source_updated_at, {table}.source_updated_at)");
    let set = |column| match column {
        "source_updated_at" => format!("{column} = {time}"),
        _ => format!("{column} = excluded.{column}"),
    };
    let updates: Vec<_> = ENVELOPE.into_iter().filter(kept).map(set).collect();
    format!(
        "{} ON CONFLICT (tenant_id, connector_id, source_id) DO UPDATE SET {}
         WHERE {table}.account_id = excluded.account_id AND {table}.payload_hash <> excluded.payload_hash AND {}",
        insert(table, &ENVELOPE),
        updates.join(", "),
        older(table, &time)
    )
}

/// Why a row was not written.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// The row's own fault: a code, and the column if it is known.
    Refused(String, Option<String>),
    /// The store's.
    Fault(Fault),
}

impl From<rusqlite::Error> for NotWritten {
    fn from(error: rusqlite::Error) -> Self {
        let fault = Fault::from(error);
        match fault.refused_data() {
            Some(code) => Self::Refused(code, None),
            None => Self::Fault(fault),
        }
    }
}

/// Writes a row or tombstone; `true` if anything changed.
pub(super) fn write(
    transaction: &Transaction<'_>,
    origin: &Origin<'_>,
    change: &Change<'_>,
) -> Result<bool, NotWritten> {
    let entity = change.row.entity;
    let statements = &STATEMENTS[entity as usize];
    let sql = if change.is_tombstone() { &statements.tombstone } else { &statements.live };
    let mut statement = transaction.prepare_cached(sql)?;
    bind_envelope(&mut statement, origin, change)?;
    if !change.is_tombstone() {
        for (place, (cell, column)) in change.row.cells.iter().zip(entity.columns()).enumerate() {
            bind_cell(&mut statement, ENVELOPE.len() + place + 1, cell, column.name)?;
        }
    }
    Ok(statement.raw_execute()? > 0)
}

fn bind_envelope(
    statement: &mut CachedStatement<'_>,
    origin: &Origin<'_>,
    change: &Change<'_>,
) -> Result<(), NotWritten> {
    let row = &change.row;
    let id = uuid::Uuid::new_v4();
    statement.raw_bind_parameter(1, origin.tenant_id)?;
    statement.raw_bind_parameter(2, origin.connector_id)?;
    statement.raw_bind_parameter(3, &*row.source_id)?;
    statement.raw_bind_parameter(4, origin.source_type)?;
    statement.raw_bind_parameter(5, origin.account_id)?;
    statement.raw_bind_parameter(6, origin.run)?;
    statement.raw_bind_parameter(7, origin.now)?;
    statement.raw_bind_parameter(8, origin.now)?;
    statement.raw_bind_parameter(9, CANONICAL_SCHEMA)?;
    statement.raw_bind_parameter(10, &*id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))?;
    statement.raw_bind_parameter(11, instant(row.source_created_at, "source_created_at")?)?;
    statement.raw_bind_parameter(12, instant(row.source_updated_at, "source_updated_at")?)?;
    statement.raw_bind_parameter(13, change.observed_seq)?;
    statement.raw_bind_parameter(14, instant(row.deleted_at, "deleted_at")?)?;
    statement.raw_bind_parameter(15, row.merged_into_source_id.as_deref())?;
    statement.raw_bind_parameter(16, change.hash.as_slice())?;
    Ok(())
}

/// SQLSTATE of a time outside a database's range, as PostgreSQL calls it.
const OUT_OF_RANGE: &str = "22008";

fn refused(column: &str) -> NotWritten {
    NotWritten::Refused(OUT_OF_RANGE.to_owned(), Some(column.to_owned()))
}

/// Years 1 to 9999 have one width as text, and are what PostgreSQL reads without an era.
fn instant(at: Option<jiff::Timestamp>, column: &str) -> Result<Option<String>, NotWritten> {
    let Some(at) = at else { return Ok(None) };
    let text = instant_text(at);
    if text.starts_with('-') || text.starts_with("0000") { Err(refused(column)) } else { Ok(Some(text)) }
}

fn bind_cell(
    statement: &mut CachedStatement<'_>,
    place: usize,
    cell: &Cell<'_>,
    column: &str,
) -> Result<(), NotWritten> {
    match cell {
        Cell::Null => statement.raw_bind_parameter(place, Value::Null)?,
        Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text) => statement.raw_bind_parameter(place, &**text)?,
        Cell::Integer(value) => statement.raw_bind_parameter(place, value)?,
        Cell::Boolean(value) => statement.raw_bind_parameter(place, value)?,
        Cell::Timestamp(at) => statement.raw_bind_parameter(place, instant(Some(*at), column)?)?,
        Cell::Date(date) if date.year() < 1 => return Err(refused(column)),
        Cell::Date(date) => statement.raw_bind_parameter(place, date.to_string())?,
    }
    Ok(())
}
