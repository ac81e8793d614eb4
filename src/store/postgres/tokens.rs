//! Refreshed tokens and the lock that makes a refresh single-flight (R7).

use deadpool_postgres::{GenericClient, Transaction};

use super::{fault::Fault, query};
use crate::{
    credentials::{RefreshLock, Sealed, token::Overlay},
    ids::{ConnectorId, TenantId},
    store::{Error, stored::REFRESH_LOCK_SECONDS},
};

/// `TokenStore::overlay`.
pub(super) async fn overlay(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<Overlay>, Fault> {
    const OVERLAY: &str = "SELECT credential_revision, revision, key_id, ciphertext FROM gtm.credential_overlay
        WHERE tenant_id = $1 AND connector_id = $2";
    let Some(row) = query::row(client, OVERLAY, &[&tenant.as_str(), &connector.as_str()]).await? else {
        return Ok(None);
    };
    let sealed = Sealed { key_id: row.try_get(2)?, ciphertext: row.try_get(3)? };
    Ok(Some(Overlay { credential_revision: row.try_get(0)?, revision: row.try_get(1)?, sealed }))
}

/// `TokenStore::lock_refresh`.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<RefreshLock>, Fault> {
    const LOCK: &str = "INSERT INTO gtm.refresh_lock AS l (tenant_id, connector_id, holder, locked_at)
        VALUES ($1, $2, $3, clock_timestamp())
        ON CONFLICT (tenant_id, connector_id) DO UPDATE SET holder = excluded.holder, locked_at = excluded.locked_at
        WHERE l.locked_at <= clock_timestamp() - make_interval(secs => $4)";
    let holder = uuid::Uuid::new_v4().simple().to_string();
    // A double, because that is what make_interval takes its seconds as; exact for whole seconds.
    let void_after = REFRESH_LOCK_SECONDS as f64;
    let values: query::Values<'_> = &[&tenant.as_str(), &connector.as_str(), &holder, &void_after];
    let locked = query::execute(transaction, LOCK, values).await?;
    Ok((locked > 0).then(|| RefreshLock { tenant: tenant.clone(), connector: connector.clone(), holder }))
}

/// `TokenStore::save_overlay`.
pub(super) async fn save(
    transaction: &Transaction<'_>,
    lock: &RefreshLock,
    credential_revision: i64,
    sealed: &Sealed,
) -> Result<(), Fault> {
    const SAVE: &str =
        "INSERT INTO gtm.credential_overlay AS o (tenant_id, connector_id, credential_revision, revision,
            key_id, ciphertext, updated_at)
        SELECT k.tenant_id, k.connector_id, k.revision, 1, $5, $6, now() FROM gtm.credential AS k
        JOIN gtm.refresh_lock AS l ON l.tenant_id = k.tenant_id AND l.connector_id = k.connector_id AND l.holder = $4
        WHERE k.tenant_id = $1 AND k.connector_id = $2 AND k.revision = $3
        FOR SHARE OF k
        ON CONFLICT (tenant_id, connector_id) DO UPDATE SET credential_revision = excluded.credential_revision,
            revision = o.revision + 1, key_id = excluded.key_id, ciphertext = excluded.ciphertext,
            updated_at = excluded.updated_at";
    let values: query::Values<'_> = &[
        &lock.tenant.as_str(),
        &lock.connector.as_str(),
        &credential_revision,
        &lock.holder,
        &sealed.key_id,
        &sealed.ciphertext,
    ];
    if query::execute(transaction, SAVE, values).await? == 0 {
        return Err(Error::StaleRun { attempted: "store a refreshed token" }.into());
    }
    release(transaction, lock).await
}

/// `TokenStore::release_refresh`.
pub(super) async fn release(client: &impl GenericClient, lock: &RefreshLock) -> Result<(), Fault> {
    const RELEASE: &str = "DELETE FROM gtm.refresh_lock WHERE tenant_id = $1 AND connector_id = $2 AND holder = $3";
    query::execute(client, RELEASE, &[&lock.tenant.as_str(), &lock.connector.as_str(), &lock.holder]).await?;
    Ok(())
}
