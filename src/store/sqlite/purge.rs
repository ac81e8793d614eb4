//! `Store::purge_connector`: a bounded part of what is stored of a removed connector (R11).

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    fault::Fault,
    values::{Document, Name},
};
use crate::{
    ids::{ConnectorId, TenantId},
    model::{config::DataPolicy, cursor::Cursor},
    store::{
        Purged,
        purge::{AT_ONCE, retained, tables},
    },
};

/// Tables without a rowid to bound a statement by; none of them has a row for each record.
const KEYED: [&str; 9] = [
    "waiting",
    "credential",
    "credential_overlay",
    "refresh_lock",
    "applied_batch",
    "sweep_candidate",
    "failed_record",
    "run",
    "handled_token",
];

/// One call.
pub(super) fn purge(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Purged, Fault> {
    const FIND: &str = "SELECT removed_at IS NOT NULL AND config ->> '$.dataPolicy' IS ?3
        FROM connector WHERE tenant_id = ?1 AND connector_id = ?2";
    const FORGET: &str = "UPDATE sync_state SET epoch = NULL, workflow_id = NULL, load = NULL, cursor = ?3,
            resync = NULL, findings = '{}', dead_letters = 0
        WHERE tenant_id = ?1 AND connector_id = ?2";
    let (tenant, connector) = (tenant.as_str(), connector.as_str());
    let key = params![tenant, connector, Name(DataPolicy::Delete)];
    let found: Option<bool> = transaction.prepare_cached(FIND)?.query_row(key, |row| row.get(0)).optional()?;
    match found {
        None => return Ok(Purged { rows: 0, done: true }),
        Some(false) => return Err(retained().into()),
        Some(true) => {}
    }
    transaction.prepare_cached(FORGET)?.execute(params![tenant, connector, Document(Cursor::default())])?;
    let mut rows = 0;
    for table in tables() {
        let bound = if KEYED.contains(&table) {
            "?3 = ?3"
        } else {
            &format!("rowid IN (SELECT rowid FROM {table} WHERE tenant_id = ?1 AND connector_id = ?2 LIMIT ?3)")
        };
        let delete = format!("DELETE FROM {table} WHERE tenant_id = ?1 AND connector_id = ?2 AND {bound}");
        let left = i64::try_from(AT_ONCE.saturating_sub(rows)).unwrap_or(i64::MAX);
        let deleted = transaction.prepare_cached(&delete)?.execute(params![tenant, connector, left])?;
        rows += u64::try_from(deleted).unwrap_or(u64::MAX);
        if rows >= AT_ONCE {
            return Ok(Purged { rows, done: false });
        }
    }
    for table in ["sync_state", "connector"] {
        let delete = format!("DELETE FROM {table} WHERE tenant_id = ?1 AND connector_id = ?2");
        let deleted = transaction.prepare_cached(&delete)?.execute([tenant, connector])?;
        rows += u64::try_from(deleted).unwrap_or(u64::MAX);
    }
    Ok(Purged { rows, done: true })
}
