//! The row of a request budget that everybody on one vendor account shares (R35).

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::Json;

use super::{fault::Fault, query};
use crate::store::{
    BudgetGrant, BudgetKey, BudgetLimit, Error,
    grants::{Grants, parked},
};

// Locks the row, making it if needed, and reads the time after the wait for it.
const LOCK: &str = "INSERT INTO gtm.budget AS b (system, account_id, class, grants) VALUES ($1, $2, $3, $4)
    ON CONFLICT (system, account_id, class) DO UPDATE SET grants = b.grants
    RETURNING b.grants, b.parked_until, b.parked_reason, clock_timestamp()";

/// `Store::take_budget`: two statements (R35).
pub(super) async fn take(
    transaction: &Transaction<'_>,
    key: &BudgetKey,
    limit: &BudgetLimit,
    want: u32,
) -> Result<BudgetGrant, Fault> {
    const RECORD: &str = "UPDATE gtm.budget SET grants = $4 WHERE system = $1 AND account_id = $2 AND class = $3";
    let none = Json(Grants::default());
    let row = query::row(transaction, LOCK, &[&key.system, &key.account_id, &key.class, &none]).await?;
    let row = row.ok_or(Error::Unreadable { what: "budget" })?;
    let Json(mut grants) = row.try_get::<_, Json<Grants>>(0)?;
    let now = row.try_get(3)?;
    if let Some(wait) = parked(now, row.try_get(1)?, row.try_get(2)?) {
        return Ok(wait);
    }
    let grant = grants.take(now, limit, want);
    query::execute(transaction, RECORD, &[&key.system, &key.account_id, &key.class, &Json(&grants)]).await?;
    Ok(grant)
}

/// `Store::park_budget`.
pub(super) async fn park(
    client: &impl GenericClient,
    key: &BudgetKey,
    until: Timestamp,
    reason: &str,
) -> Result<(), Fault> {
    const PARK: &str = "INSERT INTO gtm.budget AS b (system, account_id, class, grants, parked_until, parked_reason)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (system, account_id, class) DO UPDATE SET parked_until = excluded.parked_until,
            parked_reason = excluded.parked_reason
        WHERE coalesce(b.parked_until, '-infinity') < excluded.parked_until";
    let none = Json(Grants::default());
    query::execute(client, PARK, &[&key.system, &key.account_id, &key.class, &none, &until, &reason]).await?;
    Ok(())
}
