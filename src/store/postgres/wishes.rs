//! One-shot wishes: recorded once, with what they change in the store, in the transaction of the connector's projection (R8).

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};

use super::{fault::Fault, letters, query};
use crate::{
    ids::{ConnectorId, TenantId},
    model::cursor::{Cursor, Window},
    store::{
        ConnectorProjection, Findings, HandledToken, RunOutcome, Verb, Wish,
        stored::{from_name, name},
        wish_outcome,
    },
};

/// The last handled token of each verb.
pub(super) async fn handled(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<BTreeMap<Verb, HandledToken>, Fault> {
    const HANDLED: &str =
        "SELECT verb, token, handled_at, outcome FROM gtm.handled_token WHERE tenant_id = $1 AND connector_id = $2";
    let rows = query::rows(client, HANDLED, &[&tenant.as_str(), &connector.as_str()]).await?;
    let read = |row: &Row| {
        let handled = HandledToken { token: row.try_get(1)?, at: row.try_get(2)?, outcome: row.try_get(3)? };
        Ok((from_name("verb", row.try_get(0)?)?, handled))
    };
    rows.iter().map(read).collect()
}

/// Records wishes whose tokens differ from the last handled ones, and answers the fresh ones: those that are not from
/// before this life of the CR (R8). What they change in the store is changed here.
pub(super) async fn put(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
    known: bool,
) -> Result<BTreeMap<Verb, HandledToken>, Fault> {
    const PUT: &str = "INSERT INTO gtm.handled_token (tenant_id, connector_id, verb, token, handled_at, outcome)
        VALUES ($1, $2, $3, $4, now(), $5)
        ON CONFLICT (tenant_id, connector_id, verb) DO UPDATE SET token = excluded.token,
            handled_at = excluded.handled_at, outcome = excluded.outcome
        RETURNING handled_at";
    let (tenant, connector) = (&projection.tenant_id, &projection.connector_id);
    let before = handled(transaction, tenant, connector).await?;
    let mut fresh = BTreeMap::new();
    for (&verb, wish) in &projection.wishes {
        if wish.token.is_empty() || before.get(&verb).is_some_and(|last| last.token == wish.token) {
            continue;
        }
        let outcome = if known { fulfil(transaction, tenant, connector, verb, wish).await? } else { None };
        let values: query::Values<'_> = &[&tenant.as_str(), &connector.as_str(), &name(&verb), &wish.token, &outcome];
        let recorded: Option<Timestamp> =
            query::row(transaction, PUT, values).await?.map(|row| row.try_get(0)).transpose()?;
        if let Some(at) = recorded.filter(|_| known) {
            fresh.insert(verb, HandledToken { token: wish.token.clone(), at, outcome });
        }
    }
    Ok(fresh)
}

/// What a fresh wish changes in the store; its outcome, where there is one to tell.
async fn fulfil(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    verb: Verb,
    wish: &Wish,
) -> Result<Option<String>, Fault> {
    Ok(match verb {
        Verb::Sync | Verb::FullSync => None,
        Verb::ResetCursor if !at_expected(transaction, tenant, connector, wish).await? => {
            Some(wish_outcome::POSITION_CHANGED.to_owned())
        }
        Verb::ResetCursor => reset_cursor(transaction, tenant, connector).await.map(|()| None)?,
        Verb::Replay => {
            let marked = letters::mark(transaction, tenant, connector, &wish.letters).await?;
            Some(wish_outcome::letters("marked", marked))
        }
        Verb::Discard => {
            let discarded = letters::discard(transaction, tenant, connector, &wish.letters).await?;
            Some(wish_outcome::letters("discarded", discarded))
        }
        Verb::Resync => match wish.window {
            Some(window) => note_resync(transaction, tenant, connector, window).await.map(|()| None)?,
            None => Some(wish_outcome::NO_WINDOW.to_owned()),
        },
        Verb::ConfirmSweep => Some(confirm_sweeps(transaction, tenant, connector).await?),
    })
}

/// Whether the connector stands where the wish expects it.
async fn at_expected(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    wish: &Wish,
) -> Result<bool, Fault> {
    const POSITION: &str = "SELECT s.next_seq FROM gtm.sync_state AS s
        JOIN gtm.connector AS c
            ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND c.account_id = s.account_id
        WHERE s.tenant_id = $1 AND s.connector_id = $2 FOR NO KEY UPDATE OF s";
    let Some(expected) = wish.expected_position else { return Ok(true) };
    let row = query::row(transaction, POSITION, &[&tenant.as_str(), &connector.as_str()]).await?;
    let position: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    Ok(position == expected)
}

/// Forgets cursor, load and account binding, and takes the lease from a run that would write them again.
async fn reset_cursor(transaction: &Transaction<'_>, tenant: &TenantId, connector: &ConnectorId) -> Result<(), Fault> {
    const END_RUN: &str = "UPDATE gtm.run SET finished_at = now(), outcome = $3, error = 'CursorReset', parked = NULL
        WHERE tenant_id = $1 AND connector_id = $2 AND finished_at IS NULL";
    const DROP_STAGED: &str = "DELETE FROM gtm.staged_batch WHERE tenant_id = $1 AND connector_id = $2";
    const FORGET: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, load = NULL, cursor = $3,
            resync = NULL, findings = '{}', updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2";
    const UNBIND: &str = "UPDATE gtm.connector SET account_id = NULL, updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (tenant.as_str(), connector.as_str());
    query::execute(transaction, END_RUN, &[&tenant, &connector, &name(&RunOutcome::Failed)]).await?;
    query::execute(transaction, DROP_STAGED, &[&tenant, &connector]).await?;
    query::execute(transaction, FORGET, &[&tenant, &connector, &Json(Cursor::default())]).await?;
    query::execute(transaction, UNBIND, &[&tenant, &connector]).await?;
    Ok(())
}

async fn note_resync(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    window: Window,
) -> Result<(), Fault> {
    const NOTE: &str = "UPDATE gtm.sync_state SET resync = $3, updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2";
    query::execute(transaction, NOTE, &[&tenant.as_str(), &connector.as_str(), &Json(window)]).await?;
    Ok(())
}

/// Allows the sweeps that were refused for the present account, as far as is on record now; what it allows, in words.
async fn confirm_sweeps(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<String, Fault> {
    const FINDINGS: &str = "SELECT s.account_id, s.findings FROM gtm.sync_state AS s
        JOIN gtm.connector AS c
            ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND c.account_id = s.account_id
        WHERE s.tenant_id = $1 AND s.connector_id = $2 FOR NO KEY UPDATE OF s";
    const CONFIRM: &str = "UPDATE gtm.sync_state SET findings = $4, updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2 AND account_id = $3";
    let (tenant, connector) = (tenant.as_str(), connector.as_str());
    let Some(row) = query::row(transaction, FINDINGS, &[&tenant, &connector]).await? else {
        return Ok(wish_outcome::NOTHING_REFUSED.to_owned());
    };
    let (account_id, mut findings): (String, Findings) = (row.try_get(0)?, row.try_get::<_, Json<_>>(1)?.0);
    findings.confirm_sweeps();
    query::execute(transaction, CONFIRM, &[&tenant, &connector, &account_id, &Json(&findings)]).await?;
    Ok(wish_outcome::sweeps(&findings))
}
