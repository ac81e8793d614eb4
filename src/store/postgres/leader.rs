//! Leadership: taken by counting up, and asked for in the transaction of every write that only a leader may make (R26).

use deadpool_postgres::{GenericClient, Transaction};

use super::{fault::Fault, query};
use crate::store::{Error, leader::Leader};

/// `Store::take_leadership`. Waits for transactions of the former leader: what comes after sees all that it wrote.
pub(super) async fn take(client: &impl GenericClient, of: &str) -> Result<Leader, Fault> {
    const TAKE: &str = "INSERT INTO gtm.leader AS l (leadership, epoch) VALUES ($1, 1)
        ON CONFLICT (leadership) DO UPDATE SET epoch = l.epoch + 1 RETURNING epoch";
    let row = query::row(client, TAKE, &[&of]).await?.ok_or(Error::Unreadable { what: "leadership" })?;
    Ok(Leader { of: of.to_owned(), epoch: row.try_get(0)? })
}

/// Holds the leadership until the transaction ends; a handle of no leader needs none.
pub(super) async fn check(transaction: &Transaction<'_>, leader: Option<&Leader>) -> Result<(), Fault> {
    const EPOCH: &str = "SELECT epoch FROM gtm.leader WHERE leadership = $1 FOR SHARE";
    let Some(Leader { of, epoch }) = leader else { return Ok(()) };
    let stored = query::row(transaction, EPOCH, &[of]).await?.map(|row| row.try_get::<_, i64>(0)).transpose()?;
    if stored == Some(*epoch) { Ok(()) } else { Err(Error::NotLeader.into()) }
}
