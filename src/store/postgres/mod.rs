//! The store in PostgreSQL, for more than one host or any pod. Wires the trait to the files beside it;
//! each method that writes is one transaction with limits of its own (R19).

mod budget;
mod connections;
mod connectors;
mod copy;
mod data_path;
mod fault;
mod leader;
mod lease;
mod letters;
mod life;
mod link;
mod merge;
mod migrate;
mod pool;
mod purge;
mod query;
mod routes;
mod share;
mod statuses;
mod sweep;
mod tenants;
mod tokens;
mod wishes;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use deadpool_postgres::{Client, Pool};
use jiff::Timestamp;

use super::{
    Aged, Applied, BudgetGrant, BudgetKey, BudgetLimit, ClaimOutcome, ConnectionFound, ConnectorAnswer,
    ConnectorProjection, ConnectorRecord, DeadLetterRow, DeadRun, DedicatedPool, Erased, Error, LeaseGranted,
    LeaseHolder, LeaseRequest, LetterSelection, Losses, NewStaged, Owner, Person, ProjectedConnector, Purged,
    RecordKey, Replay, Retention, Route, RunEnd, RunRow, RunSummary, StatusPage, Store, SweepScope, SyncState,
    TenantClaim, TenantListing, TenantProjection, TenantVerb, Turn, TurnRequest, leader::Leader,
};
use crate::{
    contract::{
        activities::{Effort, Lease, Parked, StagedRef},
        workflows::FailedRecord,
    },
    credentials::{RefreshLock, Sealed, TokenStore, token::Overlay},
    ids::{ConnectorId, TenantId},
    key_files::KeyFiles,
    model::{cursor::Load, entity::Entity},
    settings::StoreSettings,
};
use fault::Fault;

/// The store in a PostgreSQL database: tables in schema `gtm`, views in schema `canonical`.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    leader: Option<Leader>,
}

/// Runs `$work` in a transaction with its limits and commits it if it succeeds.
macro_rules! transact {
    ($store:ident, $attempted:expr, |$transaction:ident| $work:expr) => {{
        let outcome: Result<_, Fault> = async {
            let mut client = $store.client().await?;
            let $transaction = pool::begin(&mut client).await?;
            let value = $work.await?;
            $transaction.commit().await?;
            Ok(value)
        }
        .await;
        outcome.map_err(|fault| fault.into_error($attempted))
    }};
}

/// As `transact`, but not for an operator that has a successor.
macro_rules! lead {
    ($store:ident, $attempted:expr, |$transaction:ident| $work:expr) => {
        transact!($store, $attempted, |$transaction| async {
            leader::check(&$transaction, $store.leader.as_ref()).await?;
            $work.await
        })
    };
}

/// Runs `$work`, a read of one statement.
macro_rules! read {
    ($store:ident, $attempted:expr, |$client:ident| $work:expr) => {{
        let outcome: Result<_, Fault> = async {
            let $client = &$store.client().await?;
            $work.await
        }
        .await;
        outcome.map_err(|fault| fault.into_error($attempted))
    }};
}

impl PostgresStore {
    /// Connects once, to say at once what is wrong with the URL or the server.
    ///
    /// # Errors
    /// `Url` for a URL that cannot be read, `Unavailable` or `Refused` as the server answers.
    pub async fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(&StoreSettings::of(url), url, &KeyFiles::default()).await
    }

    /// As `open`, with all that settings say; `url` is the one that they name now.
    ///
    /// # Errors
    /// As `open`.
    pub async fn open_with(settings: &StoreSettings, url: &str, files: &KeyFiles) -> Result<Self, Error> {
        let store = Self { pool: pool::pool(link::load(settings, url, files).await?)?, leader: None };
        drop(store.client().await.map_err(|fault| fault.into_error("connect"))?);
        Ok(store)
    }

    async fn client(&self) -> Result<Client, Fault> {
        Ok(self.pool.get().await?)
    }

    /// A fence that refused may have met a twin of the same attempt: what it recorded is then the answer (R1).
    async fn recorded_instead(
        &self,
        lease: &Lease,
        batches: &[StagedRef],
        outcome: Result<Applied, Error>,
    ) -> Result<Applied, Error> {
        let Err(Error::StaleRun { attempted }) = outcome else { return outcome };
        let recorded = read!(self, attempted, |client| data_path::recorded(client, lease, batches))?;
        recorded.answer().ok_or(Error::StaleRun { attempted })
    }
}

#[async_trait]
impl TokenStore for PostgresStore {
    async fn overlay(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<Overlay>, Error> {
        read!(self, "read a refreshed token", |client| tokens::overlay(client, tenant, connector))
    }

    async fn lock_refresh(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<RefreshLock>, Error> {
        transact!(self, "lock a token refresh", |transaction| tokens::lock(&transaction, tenant, connector))
    }

    async fn save_overlay(&self, lock: &RefreshLock, credential_revision: i64, sealed: &Sealed) -> Result<(), Error> {
        transact!(self, "store a refreshed token", |transaction| tokens::save(
            &transaction,
            lock,
            credential_revision,
            sealed
        ))
    }

    async fn release_refresh(&self, lock: &RefreshLock) -> Result<(), Error> {
        transact!(self, "release a token refresh", |transaction| tokens::release(&transaction, lock))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn migrate(&self) -> Result<(), Error> {
        let outcome = async { migrate::migrate(&mut self.client().await?).await };
        outcome.await.map_err(|fault: Fault| fault.into_error("migrate the schema"))
    }

    async fn schema_version(&self) -> Result<i32, Error> {
        read!(self, "read the schema version", |client| migrate::schema_version(client))
    }

    async fn installation_id(&self) -> Result<String, Error> {
        read!(self, "read the installation id", |client| migrate::installation_id(client))
    }

    async fn take_leadership(&self, of: &str) -> Result<Arc<dyn Store>, Error> {
        let leader = transact!(self, "take the leadership", |transaction| leader::take(&transaction, of))?;
        Ok(Arc::new(Self { pool: self.pool.clone(), leader: Some(leader) }))
    }

    async fn put_tenant(&self, tenant: &TenantProjection) -> Result<ClaimOutcome, Error> {
        lead!(self, "project a tenant", |transaction| tenants::put(&transaction, tenant))
    }

    async fn remove_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<(), Error> {
        lead!(self, "remove a tenant", |transaction| tenants::remove(&transaction, tenant, owner))
    }

    async fn release_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<bool, Error> {
        transact!(self, "release a tenant", |transaction| tenants::release(&transaction, tenant, owner))
    }

    async fn tenant_claim(&self, tenant: &TenantId) -> Result<Option<TenantClaim>, Error> {
        lead!(self, "read a tenant's claim", |transaction| tenants::find(&transaction, tenant))
    }

    async fn dedicated_pools(&self, cluster_id: &str) -> Result<Vec<DedicatedPool>, Error> {
        read!(self, "list dedicated pools", |client| routes::dedicated(client, cluster_id))
    }

    async fn record_tenant_tokens(
        &self,
        tenant: &TenantId,
        uid: &str,
        tokens: &BTreeMap<TenantVerb, String>,
    ) -> Result<BTreeMap<TenantVerb, Timestamp>, Error> {
        lead!(self, "record a tenant's requests", |transaction| tenants::record_tokens(
            &transaction,
            tenant,
            uid,
            tokens
        ))
    }

    async fn put_connector(&self, connector: &ConnectorProjection) -> Result<ConnectorAnswer, Error> {
        lead!(self, "project a connector", |transaction| connectors::put(&transaction, connector))
    }

    async fn remove_connector(&self, tenant: &TenantId, connector: &ConnectorId, uid: &str) -> Result<(), Error> {
        lead!(self, "remove a connector", |transaction| connectors::remove(&transaction, tenant, connector, uid))
    }

    async fn projected_connectors(&self, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Error> {
        read!(self, "list projected connectors", |client| connectors::projected(client, cluster_id))
    }

    async fn connector_statuses(&self, since: Option<Timestamp>) -> Result<StatusPage, Error> {
        read!(self, "read connector statuses", |client| statuses::changed(client, since))
    }

    async fn list_connected(&self, tenant: &TenantId) -> Result<TenantListing, Error> {
        read!(self, "list connected connectors", |client| tenants::list_connected(client, tenant))
    }

    async fn route(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Route, Error> {
        read!(self, "find a tenant's workers", |client| routes::find(client, tenant, connector))
    }

    async fn connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<ConnectorRecord>, Error> {
        read!(self, "read a connector", |client| connections::find(client, tenant, connector))
    }

    async fn set_connection(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        credential_revision: i64,
        found: &ConnectionFound,
    ) -> Result<(), Error> {
        transact!(self, "record a connection check", |transaction| connections::set_connection(
            &transaction,
            tenant,
            connector,
            credential_revision,
            found
        ))
    }

    async fn ask_for_turn(&self, request: &TurnRequest) -> Result<Turn, Error> {
        transact!(self, "ask for a turn", |transaction| share::ask(&transaction, request))
    }

    async fn close_run(&self, dead: &DeadRun) -> Result<(), Error> {
        lead!(self, "close a run", |transaction| share::close(&transaction, dead))
    }

    async fn lease_holder(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<LeaseHolder>, Error> {
        read!(self, "read the lease", |client| lease::holder(client, tenant, connector))
    }

    async fn take_lease(&self, request: &LeaseRequest) -> Result<LeaseGranted, Error> {
        transact!(self, "take the lease", |transaction| lease::take(&transaction, request))
    }

    async fn sync_state(&self, lease: &Lease) -> Result<SyncState, Error> {
        const ATTEMPTED: &str = "read the sync state";
        read!(self, ATTEMPTED, |client| async { Ok(lease::held(client, lease, ATTEMPTED).await?.state()?) })
    }

    async fn stage(&self, lease: &Lease, batch: &NewStaged) -> Result<String, Error> {
        transact!(self, "stage a batch", |transaction| data_path::stage(&transaction, lease, batch))
    }

    async fn staged_next(&self, lease: &Lease, staged_id: &str) -> Result<Option<Load>, Error> {
        read!(self, "read a staged batch", |client| data_path::staged_next(client, lease, staged_id))
    }

    async fn apply(&self, lease: &Lease, batches: &[StagedRef]) -> Result<Applied, Error> {
        let outcome =
            transact!(self, "apply staged batches", |transaction| data_path::apply(&transaction, lease, batches));
        self.recorded_instead(lease, batches, outcome).await
    }

    async fn dead_letter(&self, lease: &Lease, batch: &StagedRef, error: &str) -> Result<Applied, Error> {
        let outcome = transact!(self, "dead-letter a batch", |transaction| data_path::dead_letter(
            &transaction,
            lease,
            batch,
            error
        ));
        self.recorded_instead(lease, std::slice::from_ref(batch), outcome).await
    }

    async fn losses(&self, lease: &Lease, seq: i64) -> Result<Losses, Error> {
        read!(self, "read losses", |client| lease::losses(client, lease, seq))
    }

    async fn note_losses(&self, lease: &Lease, seq: i64, losses: &Losses) -> Result<(), Error> {
        transact!(self, "note losses", |transaction| lease::note_losses(&transaction, lease, seq, losses))
    }

    async fn staged_records(&self, lease: &Lease, batch: &StagedRef) -> Result<Vec<RecordKey>, Error> {
        read!(self, "list staged records", |client| data_path::staged_records(client, lease, batch))
    }

    async fn probe(&self, lease: &Lease, batch: &StagedRef, record: &RecordKey) -> Result<(), Error> {
        transact!(self, "probe a record", |transaction| data_path::probe(&transaction, lease, batch, record))
    }

    async fn finish_run(&self, lease: &Lease, end: &RunEnd, effort: Effort) -> Result<RunSummary, Error> {
        transact!(self, "finish a run", |transaction| lease::finish(&transaction, lease, end, effort))
    }

    async fn park(&self, lease: &Lease, parked: Option<&Parked>) -> Result<(), Error> {
        transact!(self, "park a run", |transaction| lease::park(&transaction, lease, parked))
    }

    async fn failed_records(&self, lease: &Lease, limit: usize) -> Result<Vec<FailedRecord>, Error> {
        read!(self, "read failed records", |client| lease::failed_records(client, lease, limit))
    }

    async fn replays(&self, lease: &Lease, after: i64, limit: usize) -> Result<Vec<Replay>, Error> {
        read!(self, "list replays", |client| letters::replays(client, lease, after, limit))
    }

    async fn begin_sweep(&self, lease: &Lease, entity: Entity, id_prefix: &str) -> Result<SweepScope, Error> {
        transact!(self, "begin a sweep", |transaction| sweep::begin(&transaction, lease, entity, id_prefix))
    }

    async fn unseen(
        &self,
        lease: &Lease,
        entity: Entity,
        id_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        read!(self, "sweep", |client| sweep::unseen(client, lease, entity, id_prefix, after, limit))
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        selection: &LetterSelection,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, Error> {
        read!(self, "list dead letters", |client| letters::list(client, tenant, connector, selection, after, limit))
    }

    async fn age(&self, retention: &Retention) -> Result<Aged, Error> {
        lead!(self, "remove aged rows", |transaction| life::age(&transaction, retention))
    }

    async fn erase(&self, tenant: &TenantId, person: &Person) -> Result<Erased, Error> {
        transact!(self, "erase a person", |transaction| life::erase(&transaction, tenant, person))
    }

    async fn purge_connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Purged, Error> {
        lead!(self, "purge a connector", |transaction| purge::purge(&transaction, tenant, connector))
    }

    async fn runs(&self, tenant: &TenantId, connector: &ConnectorId, limit: usize) -> Result<Vec<RunRow>, Error> {
        read!(self, "list runs", |client| statuses::runs(client, tenant, connector, limit))
    }

    async fn take_budget(&self, key: &BudgetKey, limit: &BudgetLimit, want: u32) -> Result<BudgetGrant, Error> {
        transact!(self, "take a budget grant", |transaction| budget::take(&transaction, key, limit, want))
    }

    async fn park_budget(&self, key: &BudgetKey, until: Timestamp, reason: &str) -> Result<(), Error> {
        transact!(self, "park a budget", |transaction| budget::park(&transaction, key, until, reason))
    }
}
