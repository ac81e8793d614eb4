//! Connectors as the operator projects them: spec, base credential and verbs as one revision (R29).
//! What workers read and record of them is in `connections.rs`.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};

use super::{fault::Fault, query};
use crate::{
    ids::{ConnectorId, TenantId, joined},
    model::cursor::Cursor,
    store::{
        ConnectorAnswer, ConnectorProjection, HandledToken, Owner, ProjectedConnector, RunOutcome, Verb,
        projection::StoredProjection,
        stored::{from_name, name},
    },
};

const FIND: &str = "SELECT cluster_id, namespace, name, uid, generation, desired_state, config, own_schedule, revision,
        removed_at IS NOT NULL
    FROM gtm.connector WHERE tenant_id = $1 AND connector_id = $2 FOR NO KEY UPDATE";

// Revision 0 until the statement after it: the row is claimed first, so that two operators take their turns on it.
const CLAIM: &str = "INSERT INTO gtm.connector (tenant_id, connector_id, joined_name, cluster_id, namespace, name, uid,
        generation, desired_state, config, own_schedule, revision, connection_status, connection_reason, updated_at)
    VALUES ($1, $2, $3, '', '', '', '', 0, 'paused', '{}', false, 0, 'pending', '', clock_timestamp())
    ON CONFLICT DO NOTHING";

const WRITE: &str = "UPDATE gtm.connector SET cluster_id = $3, namespace = $4, name = $5, uid = $6, generation = $7,
        desired_state = $8, config = $9, own_schedule = $10, revision = $11, removed_at = NULL,
        updated_at = clock_timestamp()
    WHERE tenant_id = $1 AND connector_id = $2";

fn read_projection(row: &Row) -> Result<StoredProjection, Fault> {
    Ok(StoredProjection {
        owner: Owner { cluster_id: row.try_get(0)?, namespace: row.try_get(1)?, name: row.try_get(2)? },
        uid: row.try_get(3)?,
        generation: row.try_get(4)?,
        desired_state: from_name("desired state", row.try_get(5)?)?,
        config: row.try_get::<_, Json<_>>(6)?.0,
        own_schedule: row.try_get(7)?,
        revision: row.try_get(8)?,
        removed: row.try_get(9)?,
    })
}

/// The row of a connector, new or as stored; `None` when another connector holds the joined name.
enum Claimed {
    New,
    Stored(StoredProjection),
    NameTaken,
}

async fn claim(transaction: &Transaction<'_>, tenant: &TenantId, connector: &ConnectorId) -> Result<Claimed, Fault> {
    let key: query::Values<'_> = &[&tenant.as_str(), &connector.as_str()];
    if let Some(row) = query::row(transaction, FIND, key).await? {
        return Ok(Claimed::Stored(read_projection(&row)?));
    }
    let joined_name = joined(tenant, connector);
    if query::execute(transaction, CLAIM, &[&tenant.as_str(), &connector.as_str(), &joined_name]).await? > 0 {
        return Ok(Claimed::New);
    }
    match query::row(transaction, FIND, key).await? {
        Some(row) => Ok(Claimed::Stored(read_projection(&row)?)),
        None => Ok(Claimed::NameTaken),
    }
}

/// `Store::put_connector`.
pub(super) async fn put(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
) -> Result<ConnectorAnswer, Fault> {
    let (tenant, connector) = (&projection.tenant_id, &projection.connector_id);
    if let Some(claim) = super::tenants::owner(transaction, tenant).await? {
        projection.check_claim(&claim)?;
    }
    let stored = match claim(transaction, tenant, connector).await? {
        Claimed::NameTaken => return Ok(ConnectorAnswer::name_is_taken()),
        Claimed::New => None,
        Claimed::Stored(stored) => Some(stored),
    };
    let credential = put_credential(transaction, projection).await?;
    let known = stored.as_ref().is_some_and(|stored| stored.uid == projection.uid);
    let unchanged = stored.as_ref().is_some_and(|stored| stored.shows(projection)) && !credential.changed;
    let former = stored.map_or(0, |stored| stored.revision);
    let revision = if unchanged { former } else { former + 1 };
    if !unchanged {
        write(transaction, projection, revision).await?;
    }
    if credential.changed {
        const PENDING: &str = "UPDATE gtm.connector SET connection_status = 'pending', connection_reason = ''
            WHERE tenant_id = $1 AND connector_id = $2";
        query::execute(transaction, PENDING, &[&tenant.as_str(), &connector.as_str()]).await?;
    }
    let fresh_tokens = put_tokens(transaction, projection, known).await?;
    if fresh_tokens.contains_key(&Verb::ResetCursor) {
        reset_cursor(transaction, tenant, connector).await?;
    }
    Ok(ConnectorAnswer {
        revision,
        credential_revision: credential.revision,
        fresh_tokens,
        handled: handled(transaction, tenant, connector).await?,
        name_taken: false,
    })
}

async fn write(transaction: &Transaction<'_>, projection: &ConnectorProjection, revision: i64) -> Result<(), Fault> {
    let owner = &projection.owner;
    let values: query::Values<'_> = &[
        &projection.tenant_id.as_str(),
        &projection.connector_id.as_str(),
        &owner.cluster_id,
        &owner.namespace,
        &owner.name,
        &projection.uid,
        &projection.generation,
        &name(&projection.desired_state),
        &Json(&projection.config),
        &projection.own_schedule,
        &revision,
    ];
    query::execute(transaction, WRITE, values).await?;
    Ok(())
}

struct CredentialPut {
    revision: i64,
    changed: bool,
}

const PUT_CREDENTIAL: &str =
    "INSERT INTO gtm.credential (tenant_id, connector_id, revision, key_id, ciphertext, digest,
        updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, now())
    ON CONFLICT (tenant_id, connector_id) DO UPDATE SET revision = excluded.revision, key_id = excluded.key_id,
        ciphertext = excluded.ciphertext, digest = excluded.digest, updated_at = excluded.updated_at";

async fn put_credential(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
) -> Result<CredentialPut, Fault> {
    const FIND: &str = "SELECT revision, digest FROM gtm.credential WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (projection.tenant_id.as_str(), projection.connector_id.as_str());
    let stored = query::row(transaction, FIND, &[&tenant, &connector]).await?;
    let (former, digest): (i64, Option<String>) = match stored {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (0, None),
    };
    let Some(credential) = projection.credential.as_ref().filter(|new| digest.as_ref() != Some(&new.digest)) else {
        return Ok(CredentialPut { revision: former, changed: false });
    };
    let (revision, sealed) = (former + 1, &credential.sealed);
    let values: query::Values<'_> =
        &[&tenant, &connector, &revision, &sealed.key_id, &sealed.ciphertext, &credential.digest];
    query::execute(transaction, PUT_CREDENTIAL, values).await?;
    for statement in [
        "DELETE FROM gtm.credential_overlay WHERE tenant_id = $1 AND connector_id = $2",
        "DELETE FROM gtm.refresh_lock WHERE tenant_id = $1 AND connector_id = $2",
    ] {
        query::execute(transaction, statement, &[&tenant, &connector]).await?;
    }
    Ok(CredentialPut { revision, changed: true })
}

async fn handled(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<BTreeMap<Verb, HandledToken>, Fault> {
    const HANDLED: &str =
        "SELECT verb, token, handled_at FROM gtm.handled_token WHERE tenant_id = $1 AND connector_id = $2";
    let rows = query::rows(client, HANDLED, &[&tenant.as_str(), &connector.as_str()]).await?;
    let read = |row: &Row| {
        Ok((from_name("verb", row.try_get(0)?)?, HandledToken { token: row.try_get(1)?, at: row.try_get(2)? }))
    };
    rows.iter().map(read).collect()
}

/// Records tokens that differ from the last handled ones; they are fresh unless this life of the CR is new (R8).
async fn put_tokens(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
    known: bool,
) -> Result<BTreeMap<Verb, HandledToken>, Fault> {
    const PUT: &str = "INSERT INTO gtm.handled_token (tenant_id, connector_id, verb, token, handled_at)
        VALUES ($1, $2, $3, $4, now())
        ON CONFLICT (tenant_id, connector_id, verb) DO UPDATE SET token = excluded.token,
            handled_at = excluded.handled_at
        RETURNING handled_at";
    let (tenant, connector) = (&projection.tenant_id, &projection.connector_id);
    let before = handled(transaction, tenant, connector).await?;
    let mut fresh = BTreeMap::new();
    for (&verb, token) in &projection.tokens {
        if token.is_empty() || before.get(&verb).is_some_and(|last| &last.token == token) {
            continue;
        }
        let values: query::Values<'_> = &[&tenant.as_str(), &connector.as_str(), &name(&verb), token];
        let recorded: Option<Timestamp> =
            query::row(transaction, PUT, values).await?.map(|row| row.try_get(0)).transpose()?;
        if let Some(at) = recorded.filter(|_| known) {
            fresh.insert(verb, HandledToken { token: token.clone(), at });
        }
    }
    Ok(fresh)
}

/// Forgets cursor, load and account binding, and takes the lease from a run that would write them again.
async fn reset_cursor(transaction: &Transaction<'_>, tenant: &TenantId, connector: &ConnectorId) -> Result<(), Fault> {
    const END_RUN: &str = "UPDATE gtm.run SET finished_at = now(), outcome = $3, error = 'CursorReset', parked = NULL
        WHERE tenant_id = $1 AND connector_id = $2 AND finished_at IS NULL";
    const DROP_STAGED: &str = "DELETE FROM gtm.staged_batch WHERE tenant_id = $1 AND connector_id = $2";
    const FORGET: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, load = NULL, cursor = $3,
            updated_at = clock_timestamp()
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

/// `Store::remove_connector`.
pub(super) async fn remove(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<(), Fault> {
    const REMOVE: &str = "UPDATE gtm.connector SET removed_at = now(), updated_at = clock_timestamp(),
            revision = revision + 1
        WHERE tenant_id = $1 AND connector_id = $2 AND removed_at IS NULL";
    query::execute(client, REMOVE, &[&tenant.as_str(), &connector.as_str()]).await?;
    Ok(())
}

/// `Store::projected_connectors`.
pub(super) async fn projected(client: &impl GenericClient, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Fault> {
    const PROJECTED: &str = "SELECT tenant_id, connector_id, cluster_id, namespace, name, uid, generation, removed_at
        FROM gtm.connector WHERE cluster_id = $1 ORDER BY tenant_id, connector_id";
    let read = |row: &Row| {
        Ok(ProjectedConnector {
            tenant_id: from_name("tenant id", row.try_get(0)?)?,
            connector_id: from_name("connector id", row.try_get(1)?)?,
            owner: Owner { cluster_id: row.try_get(2)?, namespace: row.try_get(3)?, name: row.try_get(4)? },
            uid: row.try_get(5)?,
            generation: row.try_get(6)?,
            removed_at: row.try_get(7)?,
        })
    };
    query::rows(client, PROJECTED, &[&cluster_id]).await?.iter().map(read).collect()
}
