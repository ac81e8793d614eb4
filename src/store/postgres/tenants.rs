//! Tenants: the claim (first wins, R5, R45) and what a tick lists.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;

use super::{fault::Fault, query};
use crate::{
    contract::workflows::ConnectionStatus,
    ids::TenantId,
    store::{
        ClaimOutcome, DesiredState, Error, MAX_DEDICATED_POOLS, Owner, Pool, TenantClaim, TenantListing,
        TenantProjection, TenantVerb,
        stored::{from_name, name},
    },
};

const CLAIM: &str =
    "INSERT INTO gtm.tenant (tenant_id, cluster_id, namespace, name, uid, wait_seconds, pool, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, now()) ON CONFLICT (tenant_id) DO NOTHING";

const UPDATE: &str = "UPDATE gtm.tenant SET cluster_id = $2, namespace = $3, name = $4, uid = $5, wait_seconds = $6,
        pool = $7, removed_at = NULL, updated_at = now()
    WHERE tenant_id = $1";

const FIND: &str = "SELECT cluster_id, namespace, name, uid, wait_seconds, pool, removed_at IS NOT NULL FROM gtm.tenant
    WHERE tenant_id = $1";

const FIND_LOCKED: &str =
    "SELECT cluster_id, namespace, name, uid, wait_seconds, pool, removed_at IS NOT NULL FROM gtm.tenant
    WHERE tenant_id = $1 FOR NO KEY UPDATE";

#[derive(PartialEq)]
struct Claim {
    owner: Owner,
    uid: String,
    wait_seconds: Option<i64>,
    pool: Pool,
    removed: bool,
}

impl Claim {
    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            owner: read_owner(row, 0)?,
            uid: row.try_get(3)?,
            wait_seconds: row.try_get(4)?,
            pool: from_name("pool", row.try_get(5)?)?,
            removed: row.try_get(6)?,
        })
    }
}

fn read_owner(row: &Row, first: usize) -> Result<Owner, Fault> {
    Ok(Owner { cluster_id: row.try_get(first)?, namespace: row.try_get(first + 1)?, name: row.try_get(first + 2)? })
}

async fn claim(client: &impl GenericClient, sql: &str, tenant: &TenantId) -> Result<Option<Claim>, Fault> {
    query::row(client, sql, &[&tenant.as_str()]).await?.map(|row| Claim::read(&row)).transpose()
}

/// Whether all dedicated pools are others'. Those who ask take their turns, so that two cannot have the last one.
async fn no_pool_left(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<bool, Fault> {
    const TURN: &str = "SELECT only_row FROM gtm.meta FOR UPDATE";
    const OTHERS: &str = "SELECT count(*) FROM gtm.tenant
        WHERE pool = $1 AND removed_at IS NULL AND tenant_id <> $2";
    query::rows(transaction, TURN, &[]).await?;
    let row = query::row(transaction, OTHERS, &[&name(&Pool::Dedicated), &tenant.as_str()]).await?;
    let others: i64 = row.ok_or(Error::Unreadable { what: "count of pools" })?.try_get(0)?;
    Ok(others >= MAX_DEDICATED_POOLS)
}

/// `Store::put_tenant`. The row is claimed first, so that two operators take their turns on it.
pub(super) async fn put(transaction: &Transaction<'_>, tenant: &TenantProjection) -> Result<ClaimOutcome, Fault> {
    if tenant.dedicated && no_pool_left(transaction, &tenant.tenant_id).await? {
        let claim = claim(transaction, FIND, &tenant.tenant_id).await?;
        let held_by = claim.filter(|claim| !tenant.owner.may_take_over(&claim.owner, claim.removed));
        return Ok(held_by.map_or(ClaimOutcome::NoPoolLeft, |claim| ClaimOutcome::HeldBy(claim.owner)));
    }
    let (owner, id) = (&tenant.owner, tenant.tenant_id.as_str());
    let wait_seconds = tenant.wait_seconds.map(i64::from);
    let first = name(&Pool::Shared.then(tenant.dedicated));
    let values: query::Values<'_> =
        &[&id, &owner.cluster_id, &owner.namespace, &owner.name, &tenant.uid, &wait_seconds, &first];
    if query::execute(transaction, CLAIM, values).await? > 0 {
        return Ok(ClaimOutcome::Held);
    }
    let claim = claim(transaction, FIND_LOCKED, &tenant.tenant_id).await?;
    let claim = claim.ok_or(Error::Unreadable { what: "claim" })?;
    if !owner.may_take_over(&claim.owner, claim.removed) {
        return Ok(ClaimOutcome::HeldBy(claim.owner));
    }
    let pool = claim.pool.then(tenant.dedicated);
    let wanted = Claim { owner: owner.clone(), uid: tenant.uid.clone(), wait_seconds, pool, removed: false };
    if claim != wanted {
        let pool = name(&pool);
        let values: query::Values<'_> =
            &[&id, &owner.cluster_id, &owner.namespace, &owner.name, &tenant.uid, &wait_seconds, &pool];
        query::execute(transaction, UPDATE, values).await?;
    }
    Ok(ClaimOutcome::Held)
}

/// `Store::remove_tenant`.
pub(super) async fn remove(client: &impl GenericClient, tenant: &TenantId, owner: &Owner) -> Result<(), Fault> {
    const REMOVE: &str = "UPDATE gtm.tenant SET removed_at = now(), updated_at = now()
        WHERE tenant_id = $1 AND cluster_id = $2 AND namespace = $3 AND name = $4 AND removed_at IS NULL";
    query::execute(client, REMOVE, &[&tenant.as_str(), &owner.cluster_id, &owner.namespace, &owner.name]).await?;
    Ok(())
}

/// `Store::release_tenant`.
pub(super) async fn release(transaction: &Transaction<'_>, tenant: &TenantId, owner: &Owner) -> Result<bool, Fault> {
    const RELEASE: &str = "UPDATE gtm.tenant SET cluster_id = '', namespace = '', name = '', uid = '',
            removed_at = coalesce(removed_at, now()), updated_at = now()
        WHERE tenant_id = $1 AND cluster_id = $2 AND namespace = $3 AND name = $4";
    const REMOVE: &str = "UPDATE gtm.connector SET removed_at = now(), updated_at = clock_timestamp(),
            revision = revision + 1
        WHERE tenant_id = $1 AND removed_at IS NULL";
    let values: query::Values<'_> = &[&tenant.as_str(), &owner.cluster_id, &owner.namespace, &owner.name];
    let released = query::execute(transaction, RELEASE, values).await? > 0;
    if released {
        query::execute(transaction, REMOVE, &[&tenant.as_str()]).await?;
    }
    Ok(released)
}

/// `Store::tenant_claim`.
pub(super) async fn find(client: &impl GenericClient, tenant: &TenantId) -> Result<Option<TenantClaim>, Fault> {
    Ok(claim(client, FIND, tenant).await?.map(|claim| TenantClaim {
        owner: claim.owner,
        pool: claim.pool,
        removed: claim.removed,
    }))
}

/// `Store::record_tenant_tokens`.
pub(super) async fn record_tokens(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    uid: &str,
    tokens: &BTreeMap<TenantVerb, String>,
) -> Result<BTreeMap<TenantVerb, Timestamp>, Fault> {
    const RECORD: &str = "INSERT INTO gtm.tenant_token AS t (tenant_id, verb, token, uid, recorded_at)
        VALUES ($1, $2, $3, $4, clock_timestamp())
        ON CONFLICT (tenant_id, verb) DO UPDATE SET token = excluded.token, uid = excluded.uid,
            recorded_at = excluded.recorded_at
        WHERE t.token <> excluded.token";
    const RECORDED: &str = "SELECT recorded_at FROM gtm.tenant_token
        WHERE tenant_id = $1 AND verb = $2 AND token = $3 AND uid = $4 AND uid <> ''";
    let mut recorded = BTreeMap::new();
    for (&verb, token) in tokens {
        let verb_name = name(&verb);
        let values: query::Values<'_> = &[&tenant.as_str(), &verb_name, token, &uid];
        query::execute(transaction, RECORD, values).await?;
        if let Some(row) = query::row(transaction, RECORDED, values).await? {
            recorded.insert(verb, row.try_get(0)?);
        }
    }
    Ok(recorded)
}

const LIST: &str = "SELECT t.wait_seconds, c.connector_id, c.own_schedule FROM gtm.tenant AS t
    LEFT JOIN gtm.connector AS c ON c.tenant_id = t.tenant_id AND c.desired_state = $2 AND c.connection_status = $3
        AND c.removed_at IS NULL
    WHERE t.tenant_id = $1 AND t.removed_at IS NULL
    ORDER BY c.connector_id COLLATE \"C\"";

/// `Store::list_connected`.
pub(super) async fn list_connected(client: &impl GenericClient, tenant: &TenantId) -> Result<TenantListing, Fault> {
    let (running, connected) = (name(&DesiredState::Running), name(&ConnectionStatus::Connected));
    let mut listing = TenantListing::default();
    for row in query::rows(client, LIST, &[&tenant.as_str(), &running, &connected]).await? {
        let wait_seconds: Option<i64> = row.try_get(0)?;
        listing.wait_seconds = wait_seconds.and_then(|seconds| u32::try_from(seconds).ok());
        if let Some(id) = row.try_get::<_, Option<&str>>(1)? {
            listing.connectors.push((from_name("connector id", id)?, row.try_get(2)?));
        }
    }
    Ok(listing)
}
