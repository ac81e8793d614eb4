//! `Store::purge_connector`: a bounded part of what is stored of a removed connector (R11).

use deadpool_postgres::Transaction;
use tokio_postgres::types::Json;

use super::{fault::Fault, query};
use crate::{
    ids::{ConnectorId, TenantId},
    model::{config::DataPolicy, cursor::Cursor},
    store::{
        Purged,
        purge::{AT_ONCE, retained, tables},
        stored::name,
    },
};

/// One call.
pub(super) async fn purge(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Purged, Fault> {
    // Locked to the end: a projection of the same connector waits, and this call sees one that came before.
    const FIND: &str = "SELECT removed_at IS NOT NULL AND config ->> 'dataPolicy' IS NOT DISTINCT FROM $3
        FROM gtm.connector WHERE tenant_id = $1 AND connector_id = $2 FOR UPDATE";
    const FORGET: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, load = NULL, cursor = $3,
            resync = NULL, findings = '{}', dead_letters = 0
        WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (tenant.as_str(), connector.as_str());
    let found = query::row(transaction, FIND, &[&tenant, &connector, &name(&DataPolicy::Delete)]).await?;
    let Some(found) = found else { return Ok(Purged { rows: 0, done: true }) };
    if !found.try_get::<_, bool>(0)? {
        return Err(retained().into());
    }
    query::execute(transaction, FORGET, &[&tenant, &connector, &Json(Cursor::default())]).await?;
    let mut rows = 0;
    for table in tables() {
        let delete = format!(
            "DELETE FROM gtm.{table} WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM gtm.{table} WHERE tenant_id = $1 AND connector_id = $2 LIMIT $3))"
        );
        let left = i64::try_from(AT_ONCE - rows).unwrap_or(i64::MAX);
        rows += query::execute(transaction, &delete, &[&tenant, &connector, &left]).await?;
        if rows >= AT_ONCE {
            return Ok(Purged { rows, done: false });
        }
    }
    for table in ["sync_state", "connector"] {
        let delete = format!("DELETE FROM gtm.{table} WHERE tenant_id = $1 AND connector_id = $2");
        rows += query::execute(transaction, &delete, &[&tenant, &connector]).await?;
    }
    Ok(Purged { rows, done: true })
}
