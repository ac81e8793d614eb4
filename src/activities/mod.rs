//! The activities: all work of the workflows, one file each. Idempotent: run twice, or killed after any effect, the rows
//! and counts are the same. Here only the wiring; `dispatcher` finds the connector-specific implementation.
#![expect(missing_docs, reason = "the SDK's macros generate undocumented constants beside the documented methods")]

mod attempt;
mod authenticate;
mod dispatcher;
mod failure;
mod gather;
mod list_connected;
mod losses;
mod sync_batch;
mod turn;
mod update_sync_state;
mod write_records;

use std::sync::Arc;

use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::sync::{RwLock, watch};

use crate::{
    connectors::{budget::Slices, http::HttpClient},
    contract::activities as contract,
    credentials::Opener,
    ids::Names,
    metrics::{ActivityEnd, Metrics},
    store::Store,
    temporal::Temporal,
};
use attempt::Attempt;

/// What the activities of one worker process share.
pub struct Activities {
    /// Of the store; pseudonyms are made with it.
    pub installation_id: String,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Asked whether the holder of a lease is still at work.
    pub temporal: Temporal,
    /// Opens credentials.
    pub opener: Opener,
    /// The guarded client to the sources.
    pub http: HttpClient,
    /// This process's slices of the shared request budgets.
    pub budget: Arc<Slices>,
    /// Names of runs, with the configured cluster id.
    pub names: Names,
    /// Syncs of one tenant that may be at work at once; `None` = any number (R42).
    pub tenant_syncs: Option<u32>,
    /// Counts attempts by result.
    pub metrics: Metrics,
    /// Becomes true at SIGTERM: a fetch then returns the pages it has (R41).
    pub draining: watch::Receiver<bool>,
    /// Held by every activity that reads or writes; for itself alone by one whose workers were lost (R44).
    pub company: RwLock<()>,
}

/// The request budgets of one process, shared with all others through the store (R35).
#[must_use]
pub fn shared_budget(store: &Arc<dyn Store>) -> Arc<Slices> {
    Arc::new(Slices::of(Arc::new(dispatcher::StoreBudget(Arc::clone(store)))))
}

impl Activities {
    /// What `losses::Work` needs.
    fn shared(&self) -> (&Arc<dyn Store>, &RwLock<()>) {
        (&self.store, &self.company)
    }

    /// Runs one attempt: heartbeats while it works, ends it when it is cancelled, counts its result.
    async fn attempt<T>(
        &self,
        ctx: &ActivityContext,
        activity: &'static str,
        work: impl Future<Output = Result<T, ActivityError>>,
    ) -> Result<T, ActivityError> {
        let result = attempt::alive(ctx, work).await;
        let end = match &result {
            Ok(_) => "Success",
            Err(error) => failure::type_name(error),
        };
        self.metrics.activities.get_or_create(&ActivityEnd { activity, result: end }).inc();
        if let Err(error) = &result {
            let info = ctx.info();
            let error = failure::text(error);
            tracing::warn!(workflow = info.workflow_id, activity, attempt = info.attempt, error, "attempt failed");
        }
        result
    }
}

#[activities]
impl Activities {
    /// See `contract::Authenticate`.
    #[activity(definition = contract::Authenticate)]
    pub async fn authenticate(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::AuthenticateInput,
    ) -> Result<contract::AuthenticateResult, ActivityError> {
        let work = authenticate::run(&self, &ctx, &input);
        self.attempt(&ctx, contract::Authenticate::NAME, work).await
    }

    /// See `contract::SyncBatch`.
    #[activity(definition = contract::SyncBatch)]
    pub async fn sync_batch(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::SyncBatchInput,
    ) -> Result<contract::SyncBatchResult, ActivityError> {
        let work = sync_batch::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::SyncBatch::NAME, work).await
    }

    /// See `contract::WriteRecords`.
    #[activity(definition = contract::WriteRecords)]
    pub async fn write_records(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::WriteRecordsInput,
    ) -> Result<contract::WriteRecordsResult, ActivityError> {
        let work = write_records::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::WriteRecords::NAME, work).await
    }

    /// See `contract::UpdateSyncState`.
    #[activity(definition = contract::UpdateSyncState)]
    pub async fn update_sync_state(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::UpdateSyncStateInput,
    ) -> Result<contract::UpdateSyncStateResult, ActivityError> {
        let work = update_sync_state::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::UpdateSyncState::NAME, work).await
    }

    /// See `contract::ListConnectedConnectors`.
    #[activity(definition = contract::ListConnectedConnectors)]
    pub async fn list_connected_connectors(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::ListConnectedInput,
    ) -> Result<contract::ListConnectedResult, ActivityError> {
        let work = list_connected::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::ListConnectedConnectors::NAME, work).await
    }
}
