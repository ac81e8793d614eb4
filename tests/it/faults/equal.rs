//! Compares what two databases hold of a tenant, byte for byte: canonical rows and dead letters. Only that differs
//! which says when and by which run something was written, not what.

use std::collections::BTreeMap;

use tokio_postgres::{Client, NoTls};

/// Columns that say when, by which run, or are drawn at random.
const OF_THE_RUN: &str = "{run,synced_at,first_seen_at,observed_seq,canonical_id}";
/// Differences named of each table; the others are counted.
const NAMED: usize = 3;

pub(super) async fn client(url: &str) -> Client {
    try_client(url).await.expect("PostgreSQL answers")
}

/// A connection, `None` while the server is away.
pub(super) async fn try_client(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Rows by table and key, as JSON text.
type Rows = BTreeMap<(String, String), String>;

async fn rows(client: &Client, tenant: &str) -> Rows {
    const TABLES: &str = "SELECT table_name::text FROM information_schema.columns
        WHERE table_schema = 'gtm' AND column_name = 'payload_hash'";
    let mut rows = Rows::new();
    for table in client.query(TABLES, &[]).await.expect("tables") {
        let table: String = table.get(0);
        let select = format!(
            "SELECT source_id::text, (to_jsonb(t) - '{OF_THE_RUN}'::text[])::text FROM gtm.{table} AS t WHERE tenant_id = $1"
        );
        for row in client.query(&select, &[&tenant]).await.expect("rows") {
            rows.insert((table.clone(), row.get(0)), row.get(1));
        }
    }
    rows
}

/// Dead letters: the same records, for the same reasons, as often.
async fn letters(client: &Client, tenant: &str) -> Rows {
    const LETTERS: &str = "SELECT coalesce(entity, ''), coalesce(source_id, ''),
            jsonb_build_array(code, field, source_updated_at, payload_form, encode(payload, 'hex'))::text
        FROM gtm.dead_letter WHERE tenant_id = $1 ORDER BY 1, 2, observed_seq";
    let mut letters = Rows::new();
    for row in client.query(LETTERS, &[&tenant]).await.expect("dead letters") {
        let (entity, id, text): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        letters.entry((format!("dead_letter of {entity}"), id)).or_default().push_str(&text);
    }
    letters
}

/// What two databases hold of a tenant.
pub(super) struct Compared {
    pub(super) rows: usize,
    pub(super) dead_letters: usize,
    /// Tables, ids and columns; no values.
    pub(super) differences: Vec<String>,
}

/// Compares the rows after a disturbed life with those after a calm one.
pub(super) async fn compare(disturbed_url: &str, calm_url: &str, tenant: &str) -> Compared {
    let (disturbed, calm) = (client(disturbed_url).await, client(calm_url).await);
    let (found, wanted) = (rows(&disturbed, tenant).await, rows(&calm, tenant).await);
    let (kept, to_keep) = (letters(&disturbed, tenant).await, letters(&calm, tenant).await);
    let mut differences = differing(&found, &wanted);
    differences.extend(differing(&kept, &to_keep));
    Compared { rows: found.len(), dead_letters: kept.len(), differences }
}

fn differing(found: &Rows, wanted: &Rows) -> Vec<String> {
    let mut by_table: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for key in found.keys().chain(wanted.keys().filter(|key| !found.contains_key(*key))) {
        let how = match (found.get(key), wanted.get(key)) {
            (Some(one), Some(other)) if one == other => continue,
            (Some(one), Some(other)) => format!("{} differs in {}", key.1, columns(one, other)),
            (Some(_), None) => format!("{} is too much", key.1),
            (None, _) => format!("{} is missing", key.1),
        };
        by_table.entry(&key.0).or_default().push(how);
    }
    let told = |(table, all): (&str, Vec<String>)| {
        format!("{table}: {} differ: {}", all.len(), all[..all.len().min(NAMED)].join("; "))
    };
    by_table.into_iter().map(told).collect()
}

fn columns(one: &str, other: &str) -> String {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (one, other) = (read(one), read(other));
    let Some(fields) = one.as_object() else { return "its reason, time or payload".to_owned() };
    let differing = fields.iter().filter(|(name, value)| other.get(name.as_str()) != Some(value));
    differing.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_row_that_differs_is_missing_or_too_much_is_named_without_its_values() {
    let row = |table: &str, id: &str, name: &str| {
        ((table.to_owned(), id.to_owned()), format!(r#"{{"name": "{name}", "city": "x"}}"#))
    };
    let found = Rows::from([row("account", "1", "a"), row("account", "2", "canary"), row("deal", "3", "c")]);
    let wanted = Rows::from([row("account", "1", "a"), row("account", "2", "b"), row("contact", "4", "d")]);
    let told = differing(&found, &wanted);
    assert_eq!(
        told,
        ["account: 1 differ: 2 differs in name", "contact: 1 differ: 4 is missing", "deal: 1 differ: 3 is too much"]
    );
    assert!(differing(&found, &found).is_empty());
}
