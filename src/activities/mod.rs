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
mod reseal;
mod resolve;
mod sync_batch;
mod turn;
mod update_sync_state;
mod write_records;

use std::{path::PathBuf, sync::Arc};

use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::sync::{RwLock, watch};

use crate::{
    connectors::{budget::Slices, http::HttpClient},
    contract::{activities as contract, failures},
    credentials::Opener,
    ids::{Names, TenantId},
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
    /// The only tenant this worker serves; `None` = it is one of the shared pool.
    pub pool: Option<TenantId>,
    /// Opens credentials.
    pub opener: Opener,
    /// Where the recipients of all pools are mounted.
    pub recipients: Option<PathBuf>,
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
        tenant: &TenantId,
        work: impl Future<Output = Result<T, ActivityError>>,
    ) -> Result<T, ActivityError> {
        let result = match refusal(self.pool.as_ref(), tenant) {
            None => attempt::alive(ctx, work).await,
            Some(text) => Err(failure::failure_text(failures::INVALID_INPUT, text)),
        };
        self.count(ctx, activity, &result);
        result
    }

    fn count<T>(&self, ctx: &ActivityContext, activity: &'static str, result: &Result<T, ActivityError>) {
        let end = match result {
            Ok(_) => "Success",
            Err(error) => failure::type_name(error),
        };
        self.metrics.activities.get_or_create(&ActivityEnd { activity, result: end }).inc();
        if let Err(error) = result {
            let info = ctx.info();
            let error = failure::text(error);
            tracing::warn!(workflow = info.workflow_id, activity, attempt = info.attempt, error, "attempt failed");
        }
    }
}

/// What a tenant's own worker says to the work of another (R22).
fn refusal(served: Option<&TenantId>, tenant: &TenantId) -> Option<String> {
    let served = served.filter(|served| *served != tenant)?;
    Some(format!("this worker serves tenant {served} only, not {tenant}"))
}

#[activities]
impl Activities {
    /// See `contract::Resolve`. A local activity: it has no heartbeats.
    #[activity(definition = contract::Resolve)]
    pub async fn resolve(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::ResolveInput,
    ) -> Result<contract::ResolveResult, ActivityError> {
        let result = resolve::run(&self, &input).await;
        self.count(&ctx, contract::Resolve::NAME, &result);
        result
    }

    /// See `contract::Reseal`.
    #[activity(definition = contract::Reseal)]
    pub async fn reseal(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::ResealInput,
    ) -> Result<contract::ResealResult, ActivityError> {
        let reseal =
            reseal::Reseal { store: self.store.as_ref(), opener: &self.opener, recipients: self.recipients.as_deref() };
        let work = reseal.run(Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::Reseal::NAME, &input.tenant_id, work).await
    }

    /// See `contract::Authenticate`.
    #[activity(definition = contract::Authenticate)]
    pub async fn authenticate(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::AuthenticateInput,
    ) -> Result<contract::AuthenticateResult, ActivityError> {
        let work = authenticate::run(&self, &ctx, &input);
        self.attempt(&ctx, contract::Authenticate::NAME, &input.tenant_id, work).await
    }

    /// See `contract::SyncBatch`.
    #[activity(definition = contract::SyncBatch)]
    pub async fn sync_batch(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::SyncBatchInput,
    ) -> Result<contract::SyncBatchResult, ActivityError> {
        let work = sync_batch::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::SyncBatch::NAME, &input.lease.tenant_id, work).await
    }

    /// See `contract::WriteRecords`.
    #[activity(definition = contract::WriteRecords)]
    pub async fn write_records(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::WriteRecordsInput,
    ) -> Result<contract::WriteRecordsResult, ActivityError> {
        let work = write_records::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::WriteRecords::NAME, &input.lease.tenant_id, work).await
    }

    /// See `contract::UpdateSyncState`.
    #[activity(definition = contract::UpdateSyncState)]
    pub async fn update_sync_state(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::UpdateSyncStateInput,
    ) -> Result<contract::UpdateSyncStateResult, ActivityError> {
        let work = update_sync_state::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::UpdateSyncState::NAME, &input.lease.tenant_id, work).await
    }

    /// See `contract::ListConnectedConnectors`.
    #[activity(definition = contract::ListConnectedConnectors)]
    pub async fn list_connected_connectors(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: contract::ListConnectedInput,
    ) -> Result<contract::ListConnectedResult, ActivityError> {
        let work = list_connected::run(&self, Attempt::of(&ctx), &input);
        self.attempt(&ctx, contract::ListConnectedConnectors::NAME, &input.tenant_id, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn a_tenants_own_worker_refuses_the_work_of_another_and_a_shared_one_takes_all() {
        let (acme, other) = ("acme".parse().expect("id"), "globex".parse().expect("id"));
        assert_eq!(refusal(None, &acme), None);
        assert_eq!(refusal(Some(&acme), &acme), None);
        let told = "this worker serves tenant acme only, not globex".to_owned();
        assert_eq!(refusal(Some(&acme), &other), Some(told));
    }
}
