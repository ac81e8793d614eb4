//! The workers that serve one session: `resolve` names their queue once, at its beginning, and all activities of the session
//! go there (R22). Workflows themselves always run on the shared queue.

use temporalio_common::{ActivityDefinition, data_converters::TemporalDeserializable};
use temporalio_workflow::{ActivityOptions, LocalActivityOptions, WorkflowContext};

use super::{
    calls::{self, attempts, sync_activity},
    fault::Fault,
};
use crate::{
    contract::activities::{DEDICATED_START_TIMEOUT, RESOLVE_TIMEOUT, Reseal, ResealInput, Resolve, ResolveInput},
    ids::{ConnectorId, TenantId},
};

/// Calls activities of one session.
pub(super) struct Pool<W> {
    ctx: WorkflowContext<W>,
    tenant: TenantId,
    /// `None` = the shared pool.
    queue: Option<String>,
}

impl<W> Pool<W> {
    /// The shared pool, until `resolve`.
    pub(super) fn shared(ctx: WorkflowContext<W>, tenant: TenantId) -> Self {
        Self { ctx, tenant, queue: None }
    }

    /// Finds the tenant's pool as the store has it now. Where refreshed tokens are still sealed to other workers, these
    /// seal them anew first: nobody else can (R14), and they are the only copy (R7).
    pub(super) async fn resolve(&mut self, connector: &ConnectorId) -> Result<(), Fault> {
        let input = ResolveInput { tenant_id: self.tenant.clone(), connector_id: connector.clone() };
        let options =
            LocalActivityOptions::builder().start_to_close_timeout(RESOLVE_TIMEOUT).retry_policy(attempts()).build();
        let resolved = self.ctx.execute_local_activity(Resolve, input, options).await?;
        if let Some(queue) = resolved.reseal_on {
            self.queue = Some(queue);
            let input = ResealInput { tenant_id: self.tenant.clone(), connector_id: connector.clone() };
            let resealed = self.call(Reseal, input).await;
            self.queue = resolved.task_queue;
            resealed.map(drop)
        } else {
            self.queue = resolved.task_queue;
            Ok(())
        }
    }

    /// Calls an activity.
    pub(super) async fn call<A>(&self, activity: A, input: A::Input) -> Result<A::Output, Fault>
    where
        A: ActivityDefinition,
        A::Output: TemporalDeserializable,
    {
        calls::call(&self.ctx, activity, input, self.options()).await
    }

    /// Calls an activity even while the workflow is being cancelled, and leaves its result: for closing words only.
    pub(super) async fn call_detached<A>(&self, activity: A, input: A::Input)
    where
        A: ActivityDefinition,
        A::Output: TemporalDeserializable,
    {
        calls::call_detached(&self.ctx, activity, input, self.options()).await;
    }

    fn options(&self) -> ActivityOptions {
        let mut options = sync_activity(&self.tenant);
        if let Some(queue) = &self.queue {
            options.task_queue = Some(queue.clone());
            // Not retried: the session ends as in an outage, and the next one asks anew.
            options.schedule_to_start_timeout = Some(DEDICATED_START_TIMEOUT);
        }
        options
    }
}
