//! Merges rows into a canonical table by version and hash (R9, R37): COPY into a temporary table, then write only what a
//! join on the key finds absent, or older and different. Unchanged rows cost no write at all.

use std::{io::Cursor, ops::Range, sync::LazyLock};

use deadpool_postgres::Transaction;
use futures::SinkExt as _;

use super::{
    copy::{CopyBuffer, ENVELOPE},
    fault::Fault,
    query,
};
use crate::{
    model::entity::{Column, ColumnType, Entity},
    store::stored::CANONICAL_SCHEMA,
};

/// Bytes of one COPY message: large enough that its cost vanishes, small enough not to be a second copy of the rows.
const CHUNK_BYTES: usize = 256 << 10;
/// Most columns that any entity has.
const MOST_COLUMNS: usize = most_columns();

const fn most_columns() -> usize {
    let (mut most, mut place) = (0, 0);
    while place < Entity::ALL.len() {
        let columns = Entity::ALL[place].columns().len();
        most = if columns > most { columns } else { most };
        place += 1;
    }
    most
}

struct Statements {
    copy: String,
    live: Merge,
    deleted: Merge,
    unknown: Merge,
}

/// One kind of rows.
struct Merge {
    /// Where every key stands once in the call.
    once: String,
    /// Where one may stand more often.
    repeated: String,
}

struct Sql {
    prepare: String,
    /// Before another part of a refused buffer; not before the first, because truncating writes to the catalog.
    again: String,
    entities: [Statements; Entity::ALL.len()],
}

/// The name says the shape: behind a pooler another release may have left its own in the same session.
static SQL: LazyLock<Sql> = LazyLock::new(|| {
    let incoming = format!("pg_temp.gtm_incoming_{MOST_COLUMNS}");
    let entities = Entity::ALL.map(|entity| Statements {
        copy: copy(&incoming, entity),
        live: kind(&incoming, entity, LIVE, live),
        deleted: kind(&incoming, entity, DELETED, tombstones),
        unknown: kind(&incoming, entity, UNKNOWN, tombstones),
    });
    Sql { prepare: prepare(&incoming), again: format!("SAVEPOINT rows; TRUNCATE {incoming}"), entities }
});

/// Values wait as text: what turns out unchanged is never parsed. The settings end with the transaction.
fn prepare(incoming: &str) -> String {
    let cells: Vec<_> = (0..MOST_COLUMNS).map(|place| format!("c{place} text")).collect();
    format!(
        "SET LOCAL client_min_messages = warning; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL work_mem = '64MB';
         CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} (
             entity smallint NOT NULL, source_id text COLLATE \"C\" NOT NULL, source_created_at timestamptz, source_updated_at timestamptz,
             deleted_at timestamptz, merged_into_source_id text, observed_seq bigint NOT NULL, payload_hash bytea NOT NULL,
             {}
         ) ON COMMIT DELETE ROWS",
        cells.join(", ")
    )
}

fn copy(incoming: &str, entity: Entity) -> String {
    let cells: String = (0..entity.columns().len()).map(|place| format!(", c{place}")).collect();
    format!("COPY {incoming} ({ENVELOPE}{cells}) FROM STDIN")
}

/// Rows of records that are there.
const LIVE: &str = "deleted_at IS NULL";
/// Tombstones with the time of the deletion's change.
const DELETED: &str = "deleted_at IS NOT NULL AND source_updated_at IS NOT NULL";
/// Tombstones of records that the source does not know.
const UNKNOWN: &str = "deleted_at IS NOT NULL AND source_updated_at IS NULL";

/// The rows of one kind; of a key that stands more than once the greatest version.
fn kind(incoming: &str, entity: Entity, condition: &str, merge: fn(&str, Entity) -> String) -> Merge {
    let of_kind = format!("{incoming} WHERE entity = {} AND {condition}", entity as u8);
    let latest = format!(
        "SELECT DISTINCT ON (source_id) * FROM {of_kind} ORDER BY source_id, source_updated_at DESC NULLS LAST, observed_seq DESC"
    );
    Merge {
        once: merge(&format!("(SELECT * FROM {of_kind})"), entity),
        repeated: merge(&format!("({latest})"), entity),
    }
}

fn typed(place: usize, column: &Column) -> String {
    let cast = match column.kind {
        ColumnType::Text => "",
        ColumnType::Integer => "::bigint",
        ColumnType::Decimal => "::numeric",
        ColumnType::Boolean => "::boolean",
        ColumnType::Timestamp => "::timestamptz",
        ColumnType::Date => "::date",
        ColumnType::Json => "::jsonb",
    };
    format!("s.c{place}{cast}")
}

/// `stored` is older than `new`, which has this time of change: none is older than any.
fn older(stored: &str, new: &str, new_time: &str) -> String {
    format!(
        "(coalesce({stored}.source_updated_at, '-infinity'), {stored}.observed_seq)
         < (coalesce({new_time}, '-infinity'), {new}.observed_seq)"
    )
}

/// A row of another vendor account under the same id is another record: the one observed later stands (R4).
fn supersedes(stored: &str, new: &str) -> String {
    format!(
        "CASE WHEN {stored}.account_id = $4 THEN {stored}.payload_hash <> {new}.payload_hash AND {}
         ELSE {stored}.observed_seq < {new}.observed_seq END",
        older(stored, new, &format!("{new}.source_updated_at"))
    )
}

/// The stored row of each key, looked up by the whole key: a plain join is planned by statistics, and before a new table has any,
/// every commit would read all rows of the connector (docs/benchmarks.md).
fn stored(entity: Entity) -> String {
    format!(
        "LEFT JOIN LATERAL (
             SELECT source_id, account_id, payload_hash, source_updated_at, observed_seq FROM gtm.{}
             WHERE tenant_id = $1 AND connector_id = $2 AND source_id = s.source_id LIMIT 1
         ) AS o ON true",
        entity.table()
    )
}

const INSERTED: &str = "tenant_id, connector_id, source_id, source_type, account_id, run, synced_at, first_seen_at,
    schema_version, canonical_id, source_created_at, source_updated_at, observed_seq, deleted_at, merged_into_source_id,
    payload_hash";
const SELECTED: &str = "$1, $2, s.source_id, $3, $4, $5, now(), now(), $6, gen_random_uuid(), s.source_created_at,
    s.source_updated_at, s.observed_seq, s.deleted_at, s.merged_into_source_id, s.payload_hash";
/// What every update sets.
const UPDATED: &str = "run = excluded.run, synced_at = excluded.synced_at, schema_version = excluded.schema_version,
    observed_seq = excluded.observed_seq, deleted_at = excluded.deleted_at,
    merged_into_source_id = excluded.merged_into_source_id, payload_hash = excluded.payload_hash";

fn live(source: &str, entity: Entity) -> String {
    let (table, columns) = (entity.table(), entity.columns());
    let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
    let values: String =
        columns.iter().enumerate().map(|(place, column)| format!(", {}", typed(place, column))).collect();
    let updates: String = columns.iter().map(|column| format!(", {0} = excluded.{0}", column.name)).collect();
    format!(
        "INSERT INTO gtm.{table} AS t ({INSERTED}{names})
         SELECT {SELECTED}{values} FROM {source} AS s
         {}
         WHERE o.source_id IS NULL OR {}
         ON CONFLICT (tenant_id, connector_id, source_id) DO UPDATE SET {UPDATED}, source_type = excluded.source_type,
             account_id = excluded.account_id, source_updated_at = excluded.source_updated_at,
             source_created_at = excluded.source_created_at,
             canonical_id = CASE WHEN t.account_id = $4 THEN t.canonical_id ELSE excluded.canonical_id END{updates}
         WHERE {}",
        stored(entity),
        supersedes("o", "s"),
        supersedes("t", "excluded")
    )
}

/// A tombstone keeps the last known values, and without a time of change of its own also that of the row; for an unknown id
/// it stands alone.
fn tombstones(source: &str, entity: Entity) -> String {
    let table = entity.table();
    let time = |stored: &str, new: &str| format!("coalesce({new}.source_updated_at, {stored}.source_updated_at)");
    let newer = |stored: &str, new: &str| {
        let older = older(stored, new, &time(stored, new));
        format!("{stored}.account_id = $4 AND {stored}.payload_hash <> {new}.payload_hash AND {older}")
    };
    format!(
        "INSERT INTO gtm.{table} AS t ({INSERTED})
         SELECT {SELECTED} FROM {source} AS s
         {}
         WHERE o.source_id IS NULL OR {}
         ON CONFLICT (tenant_id, connector_id, source_id) DO UPDATE SET {UPDATED}, source_updated_at = {}
         WHERE {}",
        stored(entity),
        newer("o", "s"),
        time("t", "excluded"),
        newer("t", "excluded")
    )
}

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
}

/// A row that the database refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its version number.
    pub(super) observed_seq: i64,
    /// SQLSTATE.
    pub(super) code: String,
    /// The column, where the server names it.
    pub(super) field: Option<String>,
}

/// What became of a call's rows.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Rows inserted or updated.
    pub(super) written: u64,
    /// Rows refused, each alone.
    pub(super) refused: Vec<Refused>,
}

/// Merges all buffers, entity by entity.
pub(super) async fn merge(
    transaction: &Transaction<'_>,
    origin: &Origin<'_>,
    buffers: &[CopyBuffer<'_>],
) -> Result<Merged, Fault> {
    let mut merged = Merged::default();
    if !buffers.is_empty() {
        transaction.batch_execute(&SQL.prepare).await?;
    }
    for buffer in buffers {
        land(transaction, origin, buffer, &mut merged).await?;
    }
    Ok(merged)
}

/// A refusal is halved down to the rows that cause it, so that the others land.
async fn land(
    transaction: &Transaction<'_>,
    origin: &Origin<'_>,
    buffer: &CopyBuffer<'_>,
    merged: &mut Merged,
) -> Result<(), Fault> {
    let mut open: Vec<Range<usize>> = std::iter::once(0..buffer.len()).collect();
    while let Some(rows) = open.pop() {
        let begin = if rows.len() == buffer.len() { "SAVEPOINT rows" } else { &SQL.again };
        transaction.batch_execute(begin).await?;
        let fault = match attempt(transaction, origin, buffer, rows.clone()).await {
            Ok(written) => {
                transaction.batch_execute("RELEASE SAVEPOINT rows").await?;
                merged.written += written;
                continue;
            }
            Err(fault) => fault,
        };
        let Some((code, field)) = fault.refused_data() else { return Err(fault) };
        transaction.batch_execute("ROLLBACK TO SAVEPOINT rows; RELEASE SAVEPOINT rows").await?;
        if rows.len() == 1 {
            merged.refused.push(Refused { observed_seq: buffer.observed_seq(rows.start), code, field });
        } else {
            let middle = rows.start + rows.len() / 2;
            open.extend([middle..rows.end, rows.start..middle]);
        }
    }
    Ok(())
}

/// Live rows first: a tombstone that came before an older version of its record must not cost that version's values.
async fn attempt(
    transaction: &Transaction<'_>,
    origin: &Origin<'_>,
    buffer: &CopyBuffer<'_>,
    rows: Range<usize>,
) -> Result<u64, Fault> {
    let statements = &SQL.entities[buffer.entity as usize];
    send(transaction, &statements.copy, buffer.bytes(rows)).await?;
    let sql = |merge: &'static Merge| if buffer.has_repeated_keys { &merge.repeated } else { &merge.once };
    let values: query::Values<'_> = &[
        &origin.tenant_id,
        &origin.connector_id,
        &origin.source_type,
        &origin.account_id,
        &origin.run,
        &CANONICAL_SCHEMA,
    ];
    let mut written = query::execute(transaction, sql(&statements.live), values).await?;
    if buffer.has_tombstones {
        written += query::execute(transaction, sql(&statements.deleted), values).await?;
        written += query::execute(transaction, sql(&statements.unknown), values).await?;
    }
    Ok(written)
}

async fn send(transaction: &Transaction<'_>, copy: &str, bytes: &[u8]) -> Result<(), Fault> {
    let statement = transaction.prepare_cached(copy).await?;
    let mut sink = Box::pin(transaction.copy_in::<_, Cursor<Vec<u8>>>(&statement).await?);
    for chunk in bytes.chunks(CHUNK_BYTES) {
        sink.send(Cursor::new(chunk.to_vec())).await?;
    }
    sink.close().await?;
    Ok(())
}
