//! What an installation holds of one life, less what says when and under which number it came there: canonical rows, dead
//! letters, runs with their counts, where the connector stands, and how much of each kind of left-over there is.
//!
//! Only into how many batches the same records were cut may differ: a fetch that is interrupted may end a batch early. Every
//! batch counts once all the same: in its run, as applied, and in the connector's position.

use std::collections::BTreeMap;

use gtm_sync::{
    ids::{ConnectorId, TenantId},
    store::{ConnectorStatusRow, LetterSelection, Store},
};
use serde_json::{Map, Value, json};
use tokio_postgres::NoTls;

use crate::support::stack::Stack;

/// Columns that say when, by which run, for whom, or are drawn at random. Times are the checker's.
const OF_THE_LIFE: [&str; 8] =
    ["tenant_id", "account_id", "canonical_id", "run", "observed_seq", "payload_hash", "close_date", "custom"];
/// Rows of these are counted: what a batch leaves behind, and what must be gone at the end of a run.
const COUNTED: [&str; 5] = [APPLIED, "staged_batch", "seen_batch", "sweep_candidate", "refresh_lock"];
const APPLIED: &str = "applied_batch";
/// Fields of results that say how it went.
const OF_THE_WAY: [&str; 5] = ["timestamp", "batches", "batchIndex", "activityAttempts", "activityRetries"];
/// Differences told of a phase; the others are counted.
const TOLD: usize = 6;

/// Values by name.
pub(super) struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// Of a tenant's connector `hubspot`, at rest after a phase with this result.
    pub(super) async fn take(stack: &Stack, life: &str, result: &Value) -> Self {
        let (tenant, connector) = (life.parse().expect("id"), "hubspot".parse().expect("id"));
        let mut all = Map::new();
        all.insert("result".to_owned(), without_places(result.clone()));
        let (rows, mut counts) = rows(stack, life).await;
        all.extend(rows);
        assert_batches_count_once(stack.store.as_ref(), &tenant, &connector, counts.remove(APPLIED)).await;
        all.extend(counts.into_iter().map(|(table, count)| (format!("rows of {table}"), count.into())));
        all.extend(letters(stack.store.as_ref(), &tenant, &connector).await);
        all.extend(runs(stack.store.as_ref(), &tenant, &connector).await);
        all.insert("state".to_owned(), state(stack.store.as_ref(), &tenant, &connector).await);
        // Ids and texts that hold the tenant's name are alike but for it.
        let alike = |value: Value| value.to_string().replace(life, "life");
        Self(all.into_iter().map(|(name, value)| (name.replace(life, "life"), alike(value))).collect())
    }

    /// Named, with both values.
    pub(super) fn differences(&self, calm: &Self) -> Vec<String> {
        let names = self.0.keys().chain(calm.0.keys().filter(|name| !self.0.contains_key(*name)));
        let differing = names.filter_map(|name| match (self.0.get(name), calm.0.get(name)) {
            (here, there) if here == there => None,
            (here, there) => Some(format!("{name}: {} instead of {}", text(here), text(there))),
        });
        let mut told: Vec<String> = differing.collect();
        if let Some(more) = told.len().checked_sub(TOLD).filter(|more| *more > 0) {
            told.truncate(TOLD);
            told.push(format!("and {more} more"));
        }
        told
    }
}

fn text(value: Option<&String>) -> &str {
    value.map_or("nothing", String::as_str)
}

/// The same, without times, numbers of batches and what it took.
fn without_places(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_WAY.contains(&name.as_str()));
            fields.values_mut().for_each(|field| *field = without_places(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_places(item.take())),
        _ => {}
    }
    value
}

async fn assert_batches_count_once(
    store: &dyn Store,
    tenant: &TenantId,
    connector: &ConnectorId,
    applied: Option<i64>,
) {
    let runs = store.runs(tenant, connector, 100).await.expect("runs");
    let counted: u64 = runs.iter().map(|run| run.stats.batches).sum();
    let position = status(store, tenant).await.position;
    assert_eq!((applied, i64::try_from(counted)), (Some(position), Ok(position)), "batches of {tenant}");
}

async fn status(store: &dyn Store, tenant: &TenantId) -> ConnectorStatusRow {
    let statuses = store.connector_statuses(None).await.expect("statuses").rows;
    statuses.into_iter().find(|status| &status.tenant_id == tenant).expect("a status")
}

/// Canonical rows by table and id, and how many rows the counted tables have.
async fn rows(stack: &Stack, life: &str) -> (Map<String, Value>, BTreeMap<&'static str, i64>) {
    let (rows, counts) = match stack.database_url.strip_prefix("sqlite:") {
        Some(path) => of_sqlite(path, life),
        None => of_postgres(&stack.database_url, life).await,
    };
    let named = rows.into_iter().map(|(table, mut row)| {
        let id = row["source_id"].as_str().unwrap_or_default().to_owned();
        let deleted = row.get("deleted_at").is_some_and(|at| !at.is_null());
        row.retain(|column, _| !column.ends_with("_at") && !OF_THE_LIFE.contains(&column.as_str()));
        row.insert("deleted".to_owned(), deleted.into());
        (format!("{table} {id}"), Value::Object(row))
    });
    (named.collect(), counts)
}

type Rows = (Vec<(String, Map<String, Value>)>, BTreeMap<&'static str, i64>);

async fn of_postgres(url: &str, life: &str) -> Rows {
    const TABLES: &str = "SELECT table_name::text FROM information_schema.columns
        WHERE table_schema = 'gtm' AND column_name = 'payload_hash'";
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    let mut rows = Vec::new();
    for table in client.query(TABLES, &[]).await.expect("tables") {
        let table: String = table.get(0);
        let select = format!("SELECT to_jsonb(t)::text FROM gtm.{table} AS t WHERE tenant_id = $1");
        for row in client.query(&select, &[&life]).await.expect("rows") {
            rows.push((table.clone(), serde_json::from_str(row.get(0)).expect("a row")));
        }
    }
    let mut counts = BTreeMap::new();
    for table in COUNTED {
        let count = format!("SELECT count(*) FROM gtm.{table} WHERE tenant_id = $1");
        counts.insert(table, client.query_one(&count, &[&life]).await.expect("counts").get(0));
    }
    (rows, counts)
}

fn of_sqlite(path: &str, life: &str) -> Rows {
    const TABLES: &str = "SELECT name FROM sqlite_master AS m WHERE type = 'table'
        AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'payload_hash')";
    let connection = rusqlite::Connection::open(path).expect("opens");
    let mut tables = connection.prepare(TABLES).expect("prepares");
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).expect("tables").map(Result::unwrap).collect();
    let mut rows = Vec::new();
    for table in tables {
        let select = format!("SELECT * FROM {table} WHERE tenant_id = ?1");
        let mut statement = connection.prepare(&select).expect("prepares");
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |column: &String| Ok((column.clone(), json_of(row.get(column.as_str())?)));
            columns.iter().map(value).collect::<rusqlite::Result<Map<String, Value>>>()
        };
        rows.extend(statement.query_map([life], row).expect("rows").map(|row| (table.clone(), row.expect("a row"))));
    }
    let count = |table: &'static str| {
        let count = format!("SELECT count(*) FROM {table} WHERE tenant_id = ?1");
        (table, connection.query_row(&count, [life], |row| row.get(0)).expect("counts"))
    };
    (rows, COUNTED.map(count).into())
}

fn json_of(value: rusqlite::types::Value) -> Value {
    use rusqlite::types::Value as Stored;
    match value {
        Stored::Null => Value::Null,
        Stored::Integer(number) => number.into(),
        Stored::Real(number) => number.into(),
        Stored::Text(text) => text.into(),
        Stored::Blob(bytes) => bytes.len().into(),
    }
}

/// Dead letters by the record that they are about: why, and whether somebody wants them replayed.
async fn letters(store: &dyn Store, tenant: &TenantId, connector: &ConnectorId) -> Map<String, Value> {
    let letters = store.dead_letters(tenant, connector, &LetterSelection::default(), None, 10_000).await;
    let mut by_record = Map::new();
    for letter in letters.expect("dead letters") {
        let record = format!("dead letters of {:?} {:?}", letter.entity, letter.source_id);
        let wished = letter.replay_requested_at.is_some();
        let told = json!([letter.workflow_id, letter.code, letter.field, letter.payload_form, wished]);
        let all = by_record.entry(record).or_insert_with(|| json!([]));
        all.as_array_mut().expect("a list").push(told);
    }
    by_record
}

/// Run rows by workflow: all of them, so that one too many shows.
async fn runs(store: &dyn Store, tenant: &TenantId, connector: &ConnectorId) -> Map<String, Value> {
    let runs = store.runs(tenant, connector, 100).await.expect("runs");
    let told = |run: gtm_sync::store::RunRow| {
        // A child's id ends with the time of its tick.
        let own = run.workflow_id.starts_with(tenant.as_str());
        let name = if own { run.workflow_id } else { "child of the tick".to_owned() };
        let ended = run.finished_at.is_some();
        let told = json!([
            run.full_sync,
            ended,
            run.outcome,
            run.error,
            run.entity_type,
            without_places(json!(run.stats)),
            run.parked.is_some()
        ]);
        (format!("run {name}"), told)
    };
    runs.into_iter().map(told).collect()
}

/// Where the connector stands.
async fn state(store: &dyn Store, tenant: &TenantId, connector: &ConnectorId) -> Value {
    let status = status(store, tenant).await;
    let record = store.connector(tenant, connector).await.expect("answers").expect("a connector");
    let load = record.load.map(|load| json!([load.full, load.current, load.streams.len(), load.failed_streams()]));
    let findings = &status.findings;
    json!({
        "connection": [json!(status.connection_status), json!(status.connection_reason)],
        "cursor": status.cursor.streams.keys().collect::<Vec<_>>(),
        "dead letters": status.dead_letters,
        "counts": json!(findings.counts),
        "refused sweeps": json!(findings.refused_sweeps),
        "generation": record.generation,
        "load": load,
        "lease": store.lease_holder(tenant, connector).await.expect("answers").map(|holder| holder.workflow_id),
        "succeeded": status.last_success_at.is_some(),
    })
}
