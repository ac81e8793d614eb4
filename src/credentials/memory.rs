//! A `TokenStore` in memory, with the promises of the real one: a lock with one holder, saves by that holder only.
//! For tests of sources; nothing survives the process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{RefreshLock, Sealed, TokenStore, token::Overlay};
use crate::{
    ids::{ConnectorId, TenantId},
    store::Error,
};

type Connector = (TenantId, ConnectorId);

/// Overlays and refresh locks.
#[derive(Debug, Default)]
pub struct MemoryTokens(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    overlays: HashMap<Connector, Overlay>,
    locks: HashMap<Connector, String>,
    locks_given: u64,
}

impl MemoryTokens {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many refresh locks were ever given: the number of refreshes that were tried.
    #[must_use]
    pub fn locks_given(&self) -> u64 {
        self.state().locks_given
    }
}

fn of(lock: &RefreshLock) -> Connector {
    (lock.tenant.clone(), lock.connector.clone())
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn overlay(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<Overlay>, Error> {
        Ok(self.state().overlays.get(&(tenant.clone(), connector.clone())).cloned())
    }

    async fn lock_refresh(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<RefreshLock>, Error> {
        let mut state = self.state();
        let holder = format!("holder-{}", state.locks_given);
        let lock = RefreshLock { tenant: tenant.clone(), connector: connector.clone(), holder };
        if state.locks.contains_key(&of(&lock)) {
            return Ok(None);
        }
        state.locks_given += 1;
        state.locks.insert(of(&lock), lock.holder.clone());
        Ok(Some(lock))
    }

    async fn save_overlay(&self, lock: &RefreshLock, credential_revision: i64, sealed: &Sealed) -> Result<(), Error> {
        let mut state = self.state();
        if state.locks.get(&of(lock)) != Some(&lock.holder) {
            return Err(Error::StaleRun { attempted: "save a refreshed token" });
        }
        state.locks.remove(&of(lock));
        let revision = state.overlays.get(&of(lock)).map_or(0, |overlay| overlay.revision) + 1;
        state.overlays.insert(of(lock), Overlay { credential_revision, revision, sealed: sealed.clone() });
        Ok(())
    }

    async fn release_refresh(&self, lock: &RefreshLock) -> Result<(), Error> {
        let mut state = self.state();
        if state.locks.get(&of(lock)) == Some(&lock.holder) {
            state.locks.remove(&of(lock));
        }
        Ok(())
    }
}
