//! Connectors as the operator projects them: spec and base credential as one revision (R29), wishes in the same
//! transaction (`wishes.rs`). What workers read and record of them is in `connections.rs`.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::{Row, types::Json};

use super::{fault::Fault, query, wishes};
use crate::{
    ids::{ConnectorId, TenantId, joined},
    store::{
        ConnectorAnswer, ConnectorProjection, Owner, ProjectedConnector,
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
    if let Some(claim) = super::tenants::find(transaction, tenant).await? {
        projection.check_claim(&claim.owner)?;
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
    let fresh_tokens = wishes::put(transaction, projection, known).await?;
    Ok(ConnectorAnswer {
        revision,
        credential_revision: credential.revision,
        fresh_tokens,
        handled: wishes::handled(transaction, tenant, connector).await?,
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

const SEAL_AGAIN: &str = "UPDATE gtm.credential SET key_id = $3, ciphertext = $4, updated_at = now()
    WHERE tenant_id = $1 AND connector_id = $2";

async fn put_credential(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
) -> Result<CredentialPut, Fault> {
    const FIND: &str = "SELECT revision, digest, key_id FROM gtm.credential WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (projection.tenant_id.as_str(), projection.connector_id.as_str());
    let stored = query::row(transaction, FIND, &[&tenant, &connector]).await?;
    let former = match &stored {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    let Some(credential) = &projection.credential else {
        return Ok(CredentialPut { revision: former, changed: false });
    };
    let sealed = &credential.sealed;
    if let Some(row) = stored
        && row.try_get::<_, String>(1)? == credential.digest
    {
        if row.try_get::<_, String>(2)? != sealed.key_id {
            // Nothing but the key is new: what was refreshed from this credential stays in use.
            let values: query::Values<'_> = &[&tenant, &connector, &sealed.key_id, &sealed.ciphertext];
            query::execute(transaction, SEAL_AGAIN, values).await?;
        }
        return Ok(CredentialPut { revision: former, changed: false });
    }
    let revision = former + 1;
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

/// `Store::remove_connector`.
pub(super) async fn remove(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
    uid: &str,
) -> Result<(), Fault> {
    const REMOVE: &str = "UPDATE gtm.connector SET removed_at = now(), updated_at = clock_timestamp(),
            revision = revision + 1
        WHERE tenant_id = $1 AND connector_id = $2 AND uid = $3 AND removed_at IS NULL";
    query::execute(client, REMOVE, &[&tenant.as_str(), &connector.as_str(), &uid]).await?;
    Ok(())
}

/// `Store::projected_connectors`.
pub(super) async fn projected(client: &impl GenericClient, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Fault> {
    const PROJECTED: &str = "SELECT tenant_id, connector_id, cluster_id, namespace, name, uid, generation, removed_at,
            coalesce(config ->> 'dataPolicy', 'retain')
        FROM gtm.connector WHERE cluster_id = $1 ORDER BY tenant_id, connector_id";
    let read = |row: &Row| {
        Ok(ProjectedConnector {
            tenant_id: from_name("tenant id", row.try_get(0)?)?,
            connector_id: from_name("connector id", row.try_get(1)?)?,
            owner: Owner { cluster_id: row.try_get(2)?, namespace: row.try_get(3)?, name: row.try_get(4)? },
            uid: row.try_get(5)?,
            generation: row.try_get(6)?,
            removed_at: row.try_get(7)?,
            data_policy: from_name("data policy", row.try_get(8)?)?,
        })
    };
    query::rows(client, PROJECTED, &[&cluster_id]).await?.iter().map(read).collect()
}
