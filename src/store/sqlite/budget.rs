//! The row of a request budget that everybody on one vendor account shares (R35).

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Document},
};
use crate::store::{
    BudgetGrant, BudgetKey, BudgetLimit,
    grants::{Grants, parked},
};

/// `Store::take_budget`.
pub(super) fn take(
    transaction: &Transaction<'_>,
    key: &BudgetKey,
    limit: &BudgetLimit,
    want: u32,
) -> Result<BudgetGrant, Fault> {
    let read = |row: &Row<'_>| {
        let until = row.get::<_, Option<At>>(1)?.map(|at| at.0);
        Ok((row.get::<_, Document<Grants>>(0)?.0, until, row.get(2)?))
    };
    let stored: Option<(Grants, Option<Timestamp>, Option<String>)> = transaction
        .prepare_cached(
            "SELECT grants, parked_until, parked_reason FROM budget WHERE system = ?1 AND account_id = ?2 AND class = ?3",
        )?
        .query_row([key.system, &key.account_id, key.class], read)
        .optional()?;
    let now = At::now().0;
    let (mut grants, until, reason) = stored.unwrap_or_default();
    if let Some(wait) = parked(now, until, reason) {
        return Ok(wait);
    }
    let grant = grants.take(now, limit, want);
    transaction
        .prepare_cached(
            "INSERT INTO budget (system, account_id, class, grants) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (system, account_id, class) DO UPDATE SET grants = excluded.grants",
        )?
        .execute(params![key.system, key.account_id, key.class, Document(&grants)])?;
    Ok(grant)
}

/// `Store::park_budget`.
pub(super) fn park(
    transaction: &Transaction<'_>,
    key: &BudgetKey,
    until: Timestamp,
    reason: &str,
) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT INTO budget (system, account_id, class, grants, parked_until, parked_reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (system, account_id, class) DO UPDATE SET parked_until = excluded.parked_until,
                 parked_reason = excluded.parked_reason
             WHERE coalesce(budget.parked_until, '') < excluded.parked_until",
        )?
        .execute(params![key.system, key.account_id, key.class, Document(Grants::default()), At(until), reason])?;
    Ok(())
}
