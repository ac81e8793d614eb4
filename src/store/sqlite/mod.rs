//! The store in one SQLite file, for processes of one host on a local file system (R34): demo, tests, single machines.
//! Wires the trait to the files beside it; each method is one transaction on the writer's or the reader's thread.

mod budget;
mod canonical;
mod connections;
mod connectors;
mod data_path;
mod executor;
mod fault;
mod leader;
mod lease;
mod letters;
mod life;
mod migrate;
mod purge;
mod routes;
mod share;
mod statuses;
mod sweep;
mod tenants;
mod tokens;
mod values;
mod wishes;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior};

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
    model::{cursor::Load, entity::Entity},
};
use executor::Executor;
use fault::Fault;

/// The store in a SQLite file: one writer, and a reader that never waits for it (WAL).
#[derive(Debug)]
pub struct SqliteStore {
    writer: Executor,
    reader: Executor,
    leader: Option<Leader>,
}

impl SqliteStore {
    /// Opens or creates the file; `//` before the path, as in a URL, is allowed.
    ///
    /// # Errors
    /// `Url` without a path, `Unavailable` when the file cannot be opened.
    pub async fn open(path: &str) -> Result<Self, Error> {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        if path.as_os_str().is_empty() {
            return Err(Error::Url);
        }
        let open = move || {
            let writer = Executor::open(&path, TransactionBehavior::Immediate)?;
            Ok(Self { writer, reader: Executor::open(&path, TransactionBehavior::Deferred)?, leader: None })
        };
        let ended = |_| Error::Unavailable { attempted: "open the SQLite file", code: "no thread".to_owned() };
        tokio::task::spawn_blocking(open).await.map_err(ended)?
    }

    /// A transaction of `executor`, but not for an operator that has a successor.
    async fn lead<T, F>(&self, executor: &Executor, attempted: &'static str, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let leader = self.leader.clone();
        let work = move |tx: &Transaction<'_>| {
            leader::check(tx, leader.as_ref())?;
            work(tx)
        };
        executor.transact(attempted, work).await
    }
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn overlay(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<Overlay>, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.reader.transact("read a refreshed token", move |tx| tokens::overlay(tx, &tenant, &connector)).await
    }

    async fn lock_refresh(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<RefreshLock>, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.writer.transact("lock a token refresh", move |tx| tokens::lock(tx, &tenant, &connector)).await
    }

    async fn save_overlay(&self, lock: &RefreshLock, credential_revision: i64, sealed: &Sealed) -> Result<(), Error> {
        let (lock, sealed) = (lock.clone(), sealed.clone());
        let work = move |tx: &Transaction<'_>| tokens::save(tx, &lock, credential_revision, &sealed);
        self.writer.transact("store a refreshed token", work).await
    }

    async fn release_refresh(&self, lock: &RefreshLock) -> Result<(), Error> {
        let lock = lock.clone();
        self.writer.transact("release a token refresh", move |tx| tokens::release(tx, &lock)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), Error> {
        self.writer.transact("migrate the schema", migrate::migrate).await
    }

    async fn schema_version(&self) -> Result<i32, Error> {
        self.reader.transact("read the schema version", |tx| migrate::schema_version(tx)).await
    }

    async fn installation_id(&self) -> Result<String, Error> {
        self.reader.transact("read the installation id", |tx| migrate::installation_id(tx)).await
    }

    async fn take_leadership(&self, of: &str) -> Result<Arc<dyn Store>, Error> {
        let of = of.to_owned();
        let leader = self.writer.transact("take the leadership", move |tx| leader::take(tx, &of)).await?;
        Ok(Arc::new(Self { writer: self.writer.clone(), reader: self.reader.clone(), leader: Some(leader) }))
    }

    async fn put_tenant(&self, tenant: &TenantProjection) -> Result<ClaimOutcome, Error> {
        let tenant = tenant.clone();
        self.lead(&self.writer, "project a tenant", move |tx| tenants::put(tx, &tenant)).await
    }

    async fn remove_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<(), Error> {
        let (tenant, owner) = (tenant.clone(), owner.clone());
        self.lead(&self.writer, "remove a tenant", move |tx| tenants::remove(tx, &tenant, &owner)).await
    }

    async fn release_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<bool, Error> {
        let (tenant, owner) = (tenant.clone(), owner.clone());
        self.writer.transact("release a tenant", move |tx| tenants::release(tx, &tenant, &owner)).await
    }

    async fn tenant_claim(&self, tenant: &TenantId) -> Result<Option<TenantClaim>, Error> {
        let tenant = tenant.clone();
        self.lead(&self.reader, "read a tenant's claim", move |tx| tenants::find(tx, &tenant)).await
    }

    async fn dedicated_pools(&self, cluster_id: &str) -> Result<Vec<DedicatedPool>, Error> {
        let cluster_id = cluster_id.to_owned();
        self.reader.transact("list dedicated pools", move |tx| routes::dedicated(tx, &cluster_id)).await
    }

    async fn record_tenant_tokens(
        &self,
        tenant: &TenantId,
        uid: &str,
        tokens: &BTreeMap<TenantVerb, String>,
    ) -> Result<BTreeMap<TenantVerb, Timestamp>, Error> {
        let (tenant, uid, tokens) = (tenant.clone(), uid.to_owned(), tokens.clone());
        let work = move |tx: &Transaction<'_>| tenants::record_tokens(tx, &tenant, &uid, &tokens);
        self.lead(&self.writer, "record a tenant's requests", work).await
    }

    async fn put_connector(&self, connector: &ConnectorProjection) -> Result<ConnectorAnswer, Error> {
        let connector = connector.clone();
        self.lead(&self.writer, "project a connector", move |tx| connectors::put(tx, &connector)).await
    }

    async fn remove_connector(&self, tenant: &TenantId, connector: &ConnectorId, uid: &str) -> Result<(), Error> {
        let (tenant, connector, uid) = (tenant.clone(), connector.clone(), uid.to_owned());
        self.lead(&self.writer, "remove a connector", move |tx| connectors::remove(tx, &tenant, &connector, &uid)).await
    }

    async fn projected_connectors(&self, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Error> {
        let cluster_id = cluster_id.to_owned();
        self.reader.transact("list projected connectors", move |tx| connectors::projected(tx, &cluster_id)).await
    }

    async fn connector_statuses(&self, since: Option<Timestamp>) -> Result<StatusPage, Error> {
        self.reader.transact("read connector statuses", move |tx| statuses::changed(tx, since)).await
    }

    async fn list_connected(&self, tenant: &TenantId) -> Result<TenantListing, Error> {
        let tenant = tenant.clone();
        self.reader.transact("list connected connectors", move |tx| tenants::list_connected(tx, &tenant)).await
    }

    async fn route(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Route, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.reader.transact("find a tenant's workers", move |tx| routes::find(tx, &tenant, &connector)).await
    }

    async fn connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<ConnectorRecord>, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.reader.transact("read a connector", move |tx| connections::find(tx, &tenant, &connector)).await
    }

    async fn set_connection(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        credential_revision: i64,
        found: &ConnectionFound,
    ) -> Result<(), Error> {
        let (tenant, connector, found) = (tenant.clone(), connector.clone(), found.clone());
        let work = move |tx: &Transaction<'_>| {
            connections::set_connection(tx, &tenant, &connector, credential_revision, &found)
        };
        self.writer.transact("record a connection check", work).await
    }

    async fn ask_for_turn(&self, request: &TurnRequest) -> Result<Turn, Error> {
        let request = request.clone();
        self.writer.transact("ask for a turn", move |tx| share::ask(tx, &request)).await
    }

    async fn close_run(&self, dead: &DeadRun) -> Result<(), Error> {
        let dead = dead.clone();
        self.lead(&self.writer, "close a run", move |tx| share::close(tx, &dead)).await
    }

    async fn lease_holder(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<LeaseHolder>, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.reader.transact("read the lease", move |tx| lease::holder(tx, &tenant, &connector)).await
    }

    async fn take_lease(&self, request: &LeaseRequest) -> Result<LeaseGranted, Error> {
        let request = request.clone();
        self.writer.transact("take the lease", move |tx| lease::take(tx, &request)).await
    }

    async fn sync_state(&self, lease: &Lease) -> Result<SyncState, Error> {
        const ATTEMPTED: &str = "read the sync state";
        let lease = lease.clone();
        self.reader.transact(ATTEMPTED, move |tx| Ok(lease::held(tx, &lease, ATTEMPTED)?.state()?)).await
    }

    async fn stage(&self, lease: &Lease, batch: &NewStaged) -> Result<String, Error> {
        let (lease, batch) = (lease.clone(), batch.clone());
        self.writer.transact("stage a batch", move |tx| data_path::stage(tx, &lease, &batch)).await
    }

    async fn staged_next(&self, lease: &Lease, staged_id: &str) -> Result<Option<Load>, Error> {
        let (lease, staged_id) = (lease.clone(), staged_id.to_owned());
        self.reader.transact("read a staged batch", move |tx| data_path::staged_next(tx, &lease, &staged_id)).await
    }

    async fn apply(&self, lease: &Lease, batches: &[StagedRef]) -> Result<Applied, Error> {
        let (lease, batches) = (lease.clone(), batches.to_vec());
        self.writer.transact("apply staged batches", move |tx| data_path::apply(tx, &lease, &batches)).await
    }

    async fn dead_letter(&self, lease: &Lease, batch: &StagedRef, error: &str) -> Result<Applied, Error> {
        let (lease, batch, error) = (lease.clone(), batch.clone(), error.to_owned());
        let work = move |tx: &Transaction<'_>| data_path::dead_letter(tx, &lease, &batch, &error);
        self.writer.transact("dead-letter a batch", work).await
    }

    async fn losses(&self, lease: &Lease, seq: i64) -> Result<Losses, Error> {
        let lease = lease.clone();
        self.reader.transact("read losses", move |tx| lease::losses(tx, &lease, seq)).await
    }

    async fn note_losses(&self, lease: &Lease, seq: i64, losses: &Losses) -> Result<(), Error> {
        let (lease, losses) = (lease.clone(), losses.clone());
        self.writer.transact("note losses", move |tx| lease::note_losses(tx, &lease, seq, &losses)).await
    }

    async fn staged_records(&self, lease: &Lease, batch: &StagedRef) -> Result<Vec<RecordKey>, Error> {
        let (lease, batch) = (lease.clone(), batch.clone());
        self.reader.transact("list staged records", move |tx| data_path::staged_records(tx, &lease, &batch)).await
    }

    async fn probe(&self, lease: &Lease, batch: &StagedRef, record: &RecordKey) -> Result<(), Error> {
        let (lease, batch, record) = (lease.clone(), batch.clone(), record.clone());
        self.writer.transact("probe a record", move |tx| data_path::probe(tx, &lease, &batch, &record)).await
    }

    async fn finish_run(&self, lease: &Lease, end: &RunEnd, effort: Effort) -> Result<RunSummary, Error> {
        let (lease, end) = (lease.clone(), end.clone());
        self.writer.transact("finish a run", move |tx| lease::finish(tx, &lease, &end, effort)).await
    }

    async fn park(&self, lease: &Lease, parked: Option<&Parked>) -> Result<(), Error> {
        let (lease, parked) = (lease.clone(), parked.cloned());
        self.writer.transact("park a run", move |tx| lease::park(tx, &lease, parked.as_ref())).await
    }

    async fn failed_records(&self, lease: &Lease, limit: usize) -> Result<Vec<FailedRecord>, Error> {
        let lease = lease.clone();
        self.reader.transact("read failed records", move |tx| lease::failed_records(tx, &lease, limit)).await
    }

    async fn replays(&self, lease: &Lease, after: i64, limit: usize) -> Result<Vec<Replay>, Error> {
        let lease = lease.clone();
        self.reader.transact("list replays", move |tx| letters::replays(tx, &lease, after, limit)).await
    }

    async fn begin_sweep(&self, lease: &Lease, entity: Entity, id_prefix: &str) -> Result<SweepScope, Error> {
        let (lease, id_prefix) = (lease.clone(), id_prefix.to_owned());
        self.writer.transact("begin a sweep", move |tx| sweep::begin(tx, &lease, entity, &id_prefix)).await
    }

    async fn unseen(
        &self,
        lease: &Lease,
        entity: Entity,
        id_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let (lease, id_prefix, after) = (lease.clone(), id_prefix.to_owned(), after.map(str::to_owned));
        let work = move |tx: &Transaction<'_>| sweep::unseen(tx, &lease, entity, &id_prefix, after.as_deref(), limit);
        self.reader.transact("sweep", work).await
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        selection: &LetterSelection,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, Error> {
        let (tenant, connector, selection) = (tenant.clone(), connector.clone(), selection.clone());
        let work = move |tx: &Transaction<'_>| letters::list(tx, &tenant, &connector, &selection, after, limit);
        self.reader.transact("list dead letters", work).await
    }

    async fn age(&self, retention: &Retention) -> Result<Aged, Error> {
        let retention = *retention;
        self.lead(&self.writer, "remove aged rows", move |tx| life::age(tx, &retention)).await
    }

    async fn erase(&self, tenant: &TenantId, person: &Person) -> Result<Erased, Error> {
        let (tenant, person) = (tenant.clone(), person.clone());
        self.writer.transact("erase a person", move |tx| life::erase(tx, &tenant, &person)).await
    }

    async fn purge_connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Purged, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.lead(&self.writer, "purge a connector", move |tx| purge::purge(tx, &tenant, &connector)).await
    }

    async fn runs(&self, tenant: &TenantId, connector: &ConnectorId, limit: usize) -> Result<Vec<RunRow>, Error> {
        let (tenant, connector) = (tenant.clone(), connector.clone());
        self.reader.transact("list runs", move |tx| statuses::runs(tx, &tenant, &connector, limit)).await
    }

    async fn take_budget(&self, key: &BudgetKey, limit: &BudgetLimit, want: u32) -> Result<BudgetGrant, Error> {
        let (key, limit) = (key.clone(), *limit);
        self.writer.transact("take a budget grant", move |tx| budget::take(tx, &key, &limit, want)).await
    }

    async fn park_budget(&self, key: &BudgetKey, until: Timestamp, reason: &str) -> Result<(), Error> {
        let (key, reason) = (key.clone(), reason.to_owned());
        self.writer.transact("park a budget", move |tx| budget::park(tx, &key, until, &reason)).await
    }
}
