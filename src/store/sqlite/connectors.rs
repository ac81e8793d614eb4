//! Connectors as the operator projects them: spec and base credential as one revision (R29), wishes in the same
//! transaction (`wishes.rs`). What workers read and record of them is in `connections.rs`.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Document, Name},
    wishes,
};
use crate::{
    ids::{ConnectorId, TenantId, joined},
    store::{ConnectorAnswer, ConnectorProjection, Owner, ProjectedConnector, projection::StoredProjection},
};

const FIND: &str = "SELECT cluster_id, namespace, name, uid, generation, desired_state, config, own_schedule, revision,
        removed_at IS NOT NULL
    FROM connector WHERE tenant_id = ?1 AND connector_id = ?2";

const PUT: &str = "INSERT INTO connector (tenant_id, connector_id, joined_name, cluster_id, namespace, name, uid,
        generation, desired_state, config, own_schedule, revision, connection_status, connection_reason, updated_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'pending', '', ?13)
    ON CONFLICT (tenant_id, connector_id) DO UPDATE SET cluster_id = excluded.cluster_id,
        namespace = excluded.namespace, name = excluded.name, uid = excluded.uid, generation = excluded.generation,
        desired_state = excluded.desired_state, config = excluded.config, own_schedule = excluded.own_schedule,
        revision = excluded.revision, removed_at = NULL, updated_at = excluded.updated_at";

fn read_projection(row: &Row<'_>) -> rusqlite::Result<StoredProjection> {
    Ok(StoredProjection {
        owner: Owner { cluster_id: row.get(0)?, namespace: row.get(1)?, name: row.get(2)? },
        uid: row.get(3)?,
        generation: row.get(4)?,
        desired_state: row.get::<_, Name<_>>(5)?.0,
        config: row.get::<_, Document<_>>(6)?.0,
        own_schedule: row.get(7)?,
        revision: row.get(8)?,
        removed: row.get(9)?,
    })
}

/// `Store::put_connector`.
pub(super) fn put(transaction: &Transaction<'_>, projection: &ConnectorProjection) -> Result<ConnectorAnswer, Fault> {
    let (tenant, connector) = (&projection.tenant_id, &projection.connector_id);
    if let Some(claim) = super::tenants::find(transaction, tenant)? {
        projection.check_claim(&claim.owner)?;
    }
    let key = params![tenant.as_str(), connector.as_str()];
    let stored = transaction.prepare_cached(FIND)?.query_row(key, read_projection).optional()?;
    let now = At::now();
    if stored.is_none() && name_taken(transaction, tenant, connector)? {
        return Ok(ConnectorAnswer::name_is_taken());
    }
    let credential = put_credential(transaction, projection, now)?;
    let (known, unchanged) = match &stored {
        Some(stored) => (stored.uid == projection.uid, stored.shows(projection) && !credential.changed),
        None => (false, false),
    };
    let former = stored.map_or(0, |stored| stored.revision);
    let revision = if unchanged { former } else { former + 1 };
    if !unchanged {
        write(transaction, projection, revision, now)?;
    }
    if credential.changed {
        reset_connection(transaction, tenant, connector)?;
    }
    let fresh_tokens = wishes::put(transaction, projection, known, now)?;
    Ok(ConnectorAnswer {
        revision,
        credential_revision: credential.revision,
        fresh_tokens,
        handled: wishes::handled(transaction, tenant, connector)?,
        name_taken: false,
    })
}

fn name_taken(transaction: &Transaction<'_>, tenant: &TenantId, connector: &ConnectorId) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM connector WHERE joined_name = ?1)")?
        .query_row([joined(tenant, connector)], |row| row.get(0))
}

fn write(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
    revision: i64,
    now: At,
) -> rusqlite::Result<usize> {
    let owner = &projection.owner;
    transaction.prepare_cached(PUT)?.execute(params![
        projection.tenant_id.as_str(),
        projection.connector_id.as_str(),
        joined(&projection.tenant_id, &projection.connector_id),
        owner.cluster_id,
        owner.namespace,
        owner.name,
        projection.uid,
        projection.generation,
        Name(projection.desired_state),
        Document(&projection.config),
        projection.own_schedule,
        revision,
        now
    ])
}

struct CredentialPut {
    revision: i64,
    changed: bool,
}

fn put_credential(
    transaction: &Transaction<'_>,
    projection: &ConnectorProjection,
    now: At,
) -> rusqlite::Result<CredentialPut> {
    let (tenant, connector) = (projection.tenant_id.as_str(), projection.connector_id.as_str());
    let stored: Option<(i64, String, String)> = transaction
        .prepare_cached("SELECT revision, digest, key_id FROM credential WHERE tenant_id = ?1 AND connector_id = ?2")?
        .query_row([tenant, connector], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let former = stored.as_ref().map_or(0, |(revision, ..)| *revision);
    let Some(credential) = &projection.credential else {
        return Ok(CredentialPut { revision: former, changed: false });
    };
    let sealed = &credential.sealed;
    if let Some((_, _, key_id)) = stored.filter(|(_, digest, _)| *digest == credential.digest) {
        if key_id != sealed.key_id {
            // Nothing but the key is new: what was refreshed from this credential stays in use.
            transaction
                .prepare_cached(
                    "UPDATE credential SET key_id = ?3, ciphertext = ?4, updated_at = ?5
                     WHERE tenant_id = ?1 AND connector_id = ?2",
                )?
                .execute(params![tenant, connector, sealed.key_id, sealed.ciphertext, now])?;
        }
        return Ok(CredentialPut { revision: former, changed: false });
    }
    transaction
        .prepare_cached(
            "INSERT INTO credential (tenant_id, connector_id, revision, key_id, ciphertext, digest, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (tenant_id, connector_id) DO UPDATE SET revision = excluded.revision, key_id = excluded.key_id,
                 ciphertext = excluded.ciphertext, digest = excluded.digest, updated_at = excluded.updated_at",
        )?
        .execute(params![tenant, connector, former + 1, sealed.key_id, sealed.ciphertext, credential.digest, now])?;
    for statement in [
        "DELETE FROM credential_overlay WHERE tenant_id = ?1 AND connector_id = ?2",
        "DELETE FROM refresh_lock WHERE tenant_id = ?1 AND connector_id = ?2",
    ] {
        transaction.prepare_cached(statement)?.execute([tenant, connector])?;
    }
    Ok(CredentialPut { revision: former + 1, changed: true })
}

fn reset_connection(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "UPDATE connector SET connection_status = 'pending', connection_reason = ''
             WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .execute([tenant.as_str(), connector.as_str()])
}

/// `Store::remove_connector`.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    uid: &str,
) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "UPDATE connector SET removed_at = ?3, updated_at = ?3, revision = revision + 1
             WHERE tenant_id = ?1 AND connector_id = ?2 AND uid = ?4 AND removed_at IS NULL",
        )?
        .execute(params![tenant.as_str(), connector.as_str(), At::now(), uid])?;
    Ok(())
}

/// `Store::projected_connectors`.
pub(super) fn projected(transaction: &Transaction<'_>, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Fault> {
    let mut statement = transaction.prepare_cached(
        "SELECT tenant_id, connector_id, cluster_id, namespace, name, uid, generation, removed_at,
             coalesce(config ->> '$.dataPolicy', 'retain')
         FROM connector WHERE cluster_id = ?1 ORDER BY tenant_id, connector_id",
    )?;
    let rows = statement.query_map([cluster_id], |row| {
        Ok(ProjectedConnector {
            tenant_id: row.get::<_, Name<_>>(0)?.0,
            connector_id: row.get::<_, Name<_>>(1)?.0,
            owner: Owner { cluster_id: row.get(2)?, namespace: row.get(3)?, name: row.get(4)? },
            uid: row.get(5)?,
            generation: row.get(6)?,
            removed_at: row.get::<_, Option<At>>(7)?.map(|at| at.0),
            data_policy: row.get::<_, Name<_>>(8)?.0,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
