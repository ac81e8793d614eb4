//! One-shot wishes: recorded once, with what they change in the store, in the transaction of the connector's projection (R8).

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    fault::Fault,
    letters,
    values::{At, Document, Name},
};
use crate::{
    ids::{ConnectorId, TenantId},
    model::cursor::Cursor,
    store::{ConnectorProjection, Findings, HandledToken, RunOutcome, Verb, Wish, wish_outcome},
};

/// The last handled token of each verb.
pub(super) fn handled(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> rusqlite::Result<BTreeMap<Verb, HandledToken>> {
    let mut statement = transaction.prepare_cached(
        "SELECT verb, token, handled_at, outcome FROM handled_token WHERE tenant_id = ?1 AND connector_id = ?2",
    )?;
    let rows = statement.query_map([tenant.as_str(), connector.as_str()], |row| {
        let handled = HandledToken { token: row.get(1)?, at: row.get::<_, At>(2)?.0, outcome: row.get(3)? };
        Ok((row.get::<_, Name<Verb>>(0)?.0, handled))
    })?;
    rows.collect()
}

/// Records wishes whose tokens differ from the last handled ones, and answers the fresh ones: those that are not from
/// before this life of the CR (R8). What they change in the store is changed here.
pub(super) fn put(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
    known: bool,
    now: At,
) -> Result<BTreeMap<Verb, HandledToken>, Fault> {
    let (tenant, connector) = (&projection.tenant_id, &projection.connector_id);
    let before = handled(transaction, tenant, connector)?;
    let mut fresh = BTreeMap::new();
    for (&verb, wish) in &projection.wishes {
        if wish.token.is_empty() || before.get(&verb).is_some_and(|last| last.token == wish.token) {
            continue;
        }
        let outcome = if known { fulfil(transaction, tenant, connector, verb, wish, now)? } else { None };
        transaction
            .prepare_cached(
                "INSERT INTO handled_token (tenant_id, connector_id, verb, token, handled_at, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (tenant_id, connector_id, verb) DO UPDATE SET token = excluded.token,
                     handled_at = excluded.handled_at, outcome = excluded.outcome",
            )?
            .execute(params![tenant.as_str(), connector.as_str(), Name(verb), wish.token, now, outcome])?;
        if known {
            fresh.insert(verb, HandledToken { token: wish.token.clone(), at: now.0, outcome });
        }
    }
    Ok(fresh)
}

/// What a fresh wish changes in the store; its outcome, where there is one to tell.
fn fulfil(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    verb: Verb,
    wish: &Wish,
    now: At,
) -> Result<Option<String>, Fault> {
    let key = [tenant.as_str(), connector.as_str()];
    Ok(match verb {
        Verb::Sync | Verb::FullSync => None,
        Verb::ResetCursor if !at_expected(transaction, key, wish)? => Some(wish_outcome::POSITION_CHANGED.to_owned()),
        Verb::ResetCursor => reset_cursor(transaction, key, now).map(|()| None)?,
        Verb::Replay => {
            let marked = letters::mark(transaction, tenant, connector, &wish.letters)?;
            Some(wish_outcome::letters("marked", marked))
        }
        Verb::Discard => {
            let discarded = letters::discard(transaction, tenant, connector, &wish.letters)?;
            Some(wish_outcome::letters("discarded", discarded))
        }
        Verb::Resync => match wish.window {
            Some(window) => {
                transaction
                    .prepare_cached(
                        "UPDATE sync_state SET resync = ?3, updated_at = ?4 WHERE tenant_id = ?1 AND connector_id = ?2",
                    )?
                    .execute(params![key[0], key[1], Document(window), now])?;
                None
            }
            None => Some(wish_outcome::NO_WINDOW.to_owned()),
        },
        Verb::ConfirmSweep => Some(confirm_sweeps(transaction, key, now)?),
    })
}

/// Allows the sweeps that were refused for the present account, as far as is on record now; what it allows, in words.
fn confirm_sweeps(transaction: &Transaction<'_>, [tenant, connector]: [&str; 2], now: At) -> rusqlite::Result<String> {
    let found: Option<(String, Document<Findings>)> = transaction
        .prepare_cached(
            "SELECT s.account_id, s.findings FROM sync_state AS s
             JOIN connector AS c
                 ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND c.account_id = s.account_id
             WHERE s.tenant_id = ?1 AND s.connector_id = ?2",
        )?
        .query_row([tenant, connector], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((account_id, Document(mut findings))) = found else {
        return Ok(wish_outcome::NOTHING_REFUSED.to_owned());
    };
    findings.confirm_sweeps();
    transaction
        .prepare_cached(
            "UPDATE sync_state SET findings = ?4, updated_at = ?5
             WHERE tenant_id = ?1 AND connector_id = ?2 AND account_id = ?3",
        )?
        .execute(params![tenant, connector, account_id, Document(&findings), now])?;
    Ok(wish_outcome::sweeps(&findings))
}

/// Whether the connector stands where the wish expects it.
fn at_expected(transaction: &Transaction<'_>, key: [&str; 2], wish: &Wish) -> rusqlite::Result<bool> {
    let Some(expected) = wish.expected_position else { return Ok(true) };
    let position: Option<i64> = transaction
        .prepare_cached(
            "SELECT s.next_seq FROM sync_state AS s
             JOIN connector AS c
                 ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND c.account_id = s.account_id
             WHERE s.tenant_id = ?1 AND s.connector_id = ?2",
        )?
        .query_row(key, |row| row.get(0))
        .optional()?;
    Ok(position.unwrap_or(0) == expected)
}

/// Forgets cursor, load and account binding, and takes the lease from a run that would write them again.
fn reset_cursor(transaction: &Transaction<'_>, [tenant, connector]: [&str; 2], now: At) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE run SET finished_at = ?3, outcome = ?4, error = 'CursorReset', parked = NULL
             WHERE tenant_id = ?1 AND connector_id = ?2 AND finished_at IS NULL",
        )?
        .execute(params![tenant, connector, now, Name(RunOutcome::Failed)])?;
    transaction
        .prepare_cached("DELETE FROM staged_batch WHERE tenant_id = ?1 AND connector_id = ?2")?
        .execute([tenant, connector])?;
    transaction
        .prepare_cached(
            "UPDATE sync_state SET epoch = NULL, workflow_id = NULL, load = NULL, cursor = ?3, resync = NULL,
                 findings = '{}', updated_at = ?4
             WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .execute(params![tenant, connector, Document(Cursor::default()), now])?;
    transaction
        .prepare_cached(
            "UPDATE connector SET account_id = NULL, updated_at = ?3 WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .execute(params![tenant, connector, now])?;
    Ok(())
}
