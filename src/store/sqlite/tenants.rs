//! Tenants: the claim (first wins, R5, R45) and what a tick lists.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Name},
};
use crate::{
    contract::workflows::ConnectionStatus,
    ids::TenantId,
    store::{
        ClaimOutcome, DesiredState, MAX_DEDICATED_POOLS, Owner, Pool, TenantClaim, TenantListing, TenantProjection,
        TenantVerb,
    },
};

const FIND: &str =
    "SELECT cluster_id, namespace, name, uid, wait_seconds, pool, removed_at FROM tenant WHERE tenant_id = ?1";

const PUT: &str = "INSERT INTO tenant (tenant_id, cluster_id, namespace, name, uid, wait_seconds, pool, updated_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (tenant_id) DO UPDATE SET cluster_id = excluded.cluster_id,
        namespace = excluded.namespace, name = excluded.name, uid = excluded.uid,
        wait_seconds = excluded.wait_seconds, pool = excluded.pool, removed_at = NULL, updated_at = excluded.updated_at";

struct Claim {
    owner: Owner,
    uid: String,
    wait_seconds: Option<u32>,
    pool: Pool,
    removed: bool,
}

fn read_owner(row: &Row<'_>, first: usize) -> rusqlite::Result<Owner> {
    Ok(Owner { cluster_id: row.get(first)?, namespace: row.get(first + 1)?, name: row.get(first + 2)? })
}

fn claim(transaction: &Transaction<'_>, tenant: &TenantId) -> rusqlite::Result<Option<Claim>> {
    let read = |row: &Row<'_>| {
        let pool = row.get::<_, Name<_>>(5)?.0;
        let removed = row.get::<_, Option<At>>(6)?.is_some();
        Ok(Claim { owner: read_owner(row, 0)?, uid: row.get(3)?, wait_seconds: row.get(4)?, pool, removed })
    };
    transaction.prepare_cached(FIND)?.query_row([tenant.as_str()], read).optional()
}

/// Whether all dedicated pools are others'.
fn no_pool_left(transaction: &Transaction<'_>, tenant: &TenantId) -> rusqlite::Result<bool> {
    let others: i64 = transaction
        .prepare_cached("SELECT count(*) FROM tenant WHERE pool = ?1 AND removed_at IS NULL AND tenant_id <> ?2")?
        .query_row(params![Name(Pool::Dedicated), tenant.as_str()], |row| row.get(0))?;
    Ok(others >= MAX_DEDICATED_POOLS)
}

/// `Store::put_tenant`.
pub(super) fn put(transaction: &Transaction<'_>, tenant: &TenantProjection) -> Result<ClaimOutcome, Fault> {
    let claim = claim(transaction, &tenant.tenant_id)?;
    if let Some(claim) = claim.as_ref().filter(|claim| !tenant.owner.may_take_over(&claim.owner, claim.removed)) {
        return Ok(ClaimOutcome::HeldBy(claim.owner.clone()));
    }
    if tenant.dedicated && no_pool_left(transaction, &tenant.tenant_id)? {
        return Ok(ClaimOutcome::NoPoolLeft);
    }
    let pool = claim.as_ref().map_or(Pool::Shared, |claim| claim.pool).then(tenant.dedicated);
    let equal = claim.is_some_and(|claim| {
        claim.owner == tenant.owner
            && claim.uid == tenant.uid
            && claim.wait_seconds == tenant.wait_seconds
            && claim.pool == pool
            && !claim.removed
    });
    if equal {
        return Ok(ClaimOutcome::Held);
    }
    let owner = &tenant.owner;
    transaction.prepare_cached(PUT)?.execute(params![
        tenant.tenant_id.as_str(),
        owner.cluster_id,
        owner.namespace,
        owner.name,
        tenant.uid,
        tenant.wait_seconds,
        Name(pool),
        At::now()
    ])?;
    Ok(ClaimOutcome::Held)
}

/// `Store::remove_tenant`.
pub(super) fn remove(transaction: &Transaction<'_>, tenant: &TenantId, owner: &Owner) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "UPDATE tenant SET removed_at = ?5, updated_at = ?5
             WHERE tenant_id = ?1 AND cluster_id = ?2 AND namespace = ?3 AND name = ?4 AND removed_at IS NULL",
        )?
        .execute(params![tenant.as_str(), owner.cluster_id, owner.namespace, owner.name, At::now()])?;
    Ok(())
}

/// `Store::release_tenant`.
pub(super) fn release(transaction: &Transaction<'_>, tenant: &TenantId, owner: &Owner) -> Result<bool, Fault> {
    let released = transaction
        .prepare_cached(
            "UPDATE tenant SET cluster_id = '', namespace = '', name = '', uid = '',
                 removed_at = coalesce(removed_at, ?5), updated_at = ?5
             WHERE tenant_id = ?1 AND cluster_id = ?2 AND namespace = ?3 AND name = ?4",
        )?
        .execute(params![tenant.as_str(), owner.cluster_id, owner.namespace, owner.name, At::now()])?
        > 0;
    if released {
        transaction
            .prepare_cached(
                "UPDATE connector SET removed_at = ?2, updated_at = ?2, revision = revision + 1
                 WHERE tenant_id = ?1 AND removed_at IS NULL",
            )?
            .execute(params![tenant.as_str(), At::now()])?;
    }
    Ok(released)
}

/// `Store::tenant_claim`.
pub(super) fn find(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<Option<TenantClaim>, Fault> {
    Ok(claim(transaction, tenant)?.map(|claim| TenantClaim {
        owner: claim.owner,
        pool: claim.pool,
        removed: claim.removed,
    }))
}

/// `Store::record_tenant_tokens`.
pub(super) fn record_tokens(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    uid: &str,
    tokens: &BTreeMap<TenantVerb, String>,
) -> Result<BTreeMap<TenantVerb, Timestamp>, Fault> {
    let mut recorded = BTreeMap::new();
    for (&verb, token) in tokens {
        transaction
            .prepare_cached(
                "INSERT INTO tenant_token (tenant_id, verb, token, uid, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (tenant_id, verb) DO UPDATE SET token = excluded.token, uid = excluded.uid,
                     recorded_at = excluded.recorded_at
                 WHERE tenant_token.token <> excluded.token",
            )?
            .execute(params![tenant.as_str(), Name(verb), token, uid, At::now()])?;
        let at: Option<At> = transaction
            .prepare_cached(
                "SELECT recorded_at FROM tenant_token
                 WHERE tenant_id = ?1 AND verb = ?2 AND token = ?3 AND uid = ?4 AND uid <> ''",
            )?
            .query_row(params![tenant.as_str(), Name(verb), token, uid], |row| row.get(0))
            .optional()?;
        recorded.extend(at.map(|at| (verb, at.0)));
    }
    Ok(recorded)
}

/// `Store::list_connected`.
pub(super) fn list_connected(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<TenantListing, Fault> {
    let Some(claim) = claim(transaction, tenant)?.filter(|claim| !claim.removed) else {
        return Ok(TenantListing::default());
    };
    let mut statement = transaction.prepare_cached(
        "SELECT connector_id, own_schedule FROM connector
         WHERE tenant_id = ?1 AND desired_state = ?2 AND connection_status = ?3 AND removed_at IS NULL
         ORDER BY connector_id",
    )?;
    let wanted = params![tenant.as_str(), Name(DesiredState::Running), Name(ConnectionStatus::Connected)];
    let rows = statement.query_map(wanted, |row| Ok((row.get::<_, Name<_>>(0)?.0, row.get(1)?)))?;
    Ok(TenantListing { connectors: rows.collect::<Result<_, _>>()?, wait_seconds: claim.wait_seconds })
}
