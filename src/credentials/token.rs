//! The refreshed overlay of a credential: what a worker must do so that a rotating refresh token is never lost (R7).
//! Only the trait; `store` implements it, `connectors::oauth` uses it.

use async_trait::async_trait;

use super::Sealed;
use crate::ids::{ConnectorId, TenantId};

/// The overlay row of one connector's credential.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The base credential's revision this overlay belongs to; another one makes it void.
    pub credential_revision: i64,
    /// Counts refreshes; the compare of the next save.
    pub revision: i64,
    /// Refreshed fields (`accessToken`, `expiresAt`, `refreshToken`), sealed like the base.
    pub sealed: Sealed,
}

/// Where refreshed tokens live, and the lock that makes a refresh single-flight across pods.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// The overlay, if one exists.
    ///
    /// # Errors
    /// When the store is away.
    async fn overlay(&self, tenant: &TenantId, connector: &ConnectorId)
    -> Result<Option<Overlay>, crate::store::Error>;

    /// Tries to become the one that refreshes: a row held until `save` or `release`, void 60 s after its holder died
    /// (a token request ends after 30 s). `None` = somebody else is refreshing; read the overlay again after a moment.
    ///
    /// # Errors
    /// When the store is away.
    async fn lock_refresh(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
    ) -> Result<Option<RefreshLock>, crate::store::Error>;

    /// Stores refreshed fields durably **before** they are used, and releases the lock.
    ///
    /// # Errors
    /// `Conflict` when the lock is not held any more or the base credential changed.
    ///
    /// # Idempotency
    /// By `lock.holder`: a second save of one lock is refused.
    async fn save_overlay(
        &self,
        lock: &RefreshLock,
        credential_revision: i64,
        sealed: &Sealed,
    ) -> Result<(), crate::store::Error>;

    /// Gives the lock back without a new token.
    ///
    /// # Errors
    /// When the store is away; the lock then ends by itself.
    async fn release_refresh(&self, lock: &RefreshLock) -> Result<(), crate::store::Error>;
}

/// The right to refresh one connector's token.
#[derive(Debug, Clone)]
pub struct RefreshLock {
    /// Whose connector.
    pub tenant: TenantId,
    /// Which connector.
    pub connector: ConnectorId,
    /// Random.
    pub holder: String,
}
