//! Refreshed tokens and the lock that makes a refresh single-flight (R7).

use jiff::SignedDuration;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{fault::Fault, values::At};
use crate::{
    credentials::{RefreshLock, Sealed, token::Overlay},
    ids::{ConnectorId, TenantId},
    store::{Error, stored::REFRESH_LOCK_SECONDS},
};

/// `TokenStore::overlay`.
pub(super) fn overlay(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<Overlay>, Fault> {
    let read = |row: &Row<'_>| {
        let sealed = Sealed { key_id: row.get(2)?, ciphertext: row.get(3)? };
        Ok(Overlay { credential_revision: row.get(0)?, revision: row.get(1)?, sealed })
    };
    Ok(transaction
        .prepare_cached(
            "SELECT credential_revision, revision, key_id, ciphertext FROM credential_overlay
             WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .query_row([tenant.as_str(), connector.as_str()], read)
        .optional()?)
}

/// `TokenStore::lock_refresh`.
pub(super) fn lock(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<RefreshLock>, Fault> {
    let holder = uuid::Uuid::new_v4().simple().to_string();
    let now = At::now();
    let void_since = now.0.checked_sub(SignedDuration::from_secs(REFRESH_LOCK_SECONDS)).unwrap_or(now.0);
    let locked = transaction
        .prepare_cached(
            "INSERT INTO refresh_lock (tenant_id, connector_id, holder, locked_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant_id, connector_id) DO UPDATE SET holder = excluded.holder,
                 locked_at = excluded.locked_at
             WHERE refresh_lock.locked_at <= ?5",
        )?
        .execute(params![tenant.as_str(), connector.as_str(), holder, now, At(void_since)])?;
    Ok((locked > 0).then(|| RefreshLock { tenant: tenant.clone(), connector: connector.clone(), holder }))
}

/// `TokenStore::save_overlay`.
pub(super) fn save(
    transaction: &Transaction<'_>,
    lock: &RefreshLock,
    credential_revision: i64,
    sealed: &Sealed,
) -> Result<(), Fault> {
    let saved = transaction
        .prepare_cached(
            "INSERT INTO credential_overlay (tenant_id, connector_id, credential_revision, revision, key_id, ciphertext,
                 updated_at)
             SELECT k.tenant_id, k.connector_id, k.revision, 1, ?5, ?6, ?7 FROM credential AS k
             JOIN refresh_lock AS l ON l.tenant_id = k.tenant_id AND l.connector_id = k.connector_id AND l.holder = ?4
             WHERE k.tenant_id = ?1 AND k.connector_id = ?2 AND k.revision = ?3
             ON CONFLICT (tenant_id, connector_id) DO UPDATE SET credential_revision = excluded.credential_revision,
                 revision = credential_overlay.revision + 1, key_id = excluded.key_id,
                 ciphertext = excluded.ciphertext, updated_at = excluded.updated_at",
        )?
        .execute(params![
            lock.tenant.as_str(),
            lock.connector.as_str(),
            credential_revision,
            lock.holder,
            sealed.key_id,
            sealed.ciphertext,
            At::now()
        ])?;
    if saved == 0 {
        return Err(Error::StaleRun { attempted: "store a refreshed token" }.into());
    }
    release(transaction, lock)
}

/// `TokenStore::release_refresh`.
pub(super) fn release(transaction: &Transaction<'_>, lock: &RefreshLock) -> Result<(), Fault> {
    transaction
        .prepare_cached("DELETE FROM refresh_lock WHERE tenant_id = ?1 AND connector_id = ?2 AND holder = ?3")?
        .execute([lock.tenant.as_str(), lock.connector.as_str(), &lock.holder])?;
    Ok(())
}
