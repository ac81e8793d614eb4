//! Leadership: taken by counting up, and asked for in the transaction of every write that only a leader may make (R26).

use rusqlite::{OptionalExtension as _, Transaction};

use super::fault::Fault;
use crate::store::{Error, leader::Leader};

/// `Store::take_leadership`.
pub(super) fn take(transaction: &Transaction<'_>, of: &str) -> Result<Leader, Fault> {
    const TAKE: &str = "INSERT INTO leader (leadership, epoch) VALUES (?1, 1)
        ON CONFLICT (leadership) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
    let epoch = transaction.prepare_cached(TAKE)?.query_row([of], |row| row.get(0))?;
    Ok(Leader { of: of.to_owned(), epoch })
}

/// Refuses a handle whose leader has a successor; a handle of no leader passes.
pub(super) fn check(transaction: &Transaction<'_>, leader: Option<&Leader>) -> Result<(), Fault> {
    const EPOCH: &str = "SELECT epoch FROM leader WHERE leadership = ?1";
    let Some(Leader { of, epoch }) = leader else { return Ok(()) };
    let stored: Option<i64> = transaction.prepare_cached(EPOCH)?.query_row([of], |row| row.get(0)).optional()?;
    if stored == Some(*epoch) { Ok(()) } else { Err(Error::NotLeader.into()) }
}
