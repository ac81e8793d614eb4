//! `scheduledSyncWorkflow`: a tenant's tick. Starts a child for each connected connector, at once and abandoned, so that
//! neither one slow child nor the end of the tick stops another (R15), and returns the aggregate.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures::FutureExt as _;
use jiff::Timestamp;
use temporalio_common::{
    data_converters::RawValue, protos::temporal::api::common::v1::Payload, search_attributes::SearchAttributeKey,
};
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ChildWorkflowOptions, ChildWorkflowStartError, ParentClosePolicy, WorkflowContext, WorkflowResult,
    workflows::{join_all, select},
};

use super::{
    ConnectorSync,
    calls::{self, Patience, call, failure, parse_input, scheduler_activity},
    fault::Fault,
};
use crate::contract::{
    SCHEDULED_SYNC_WORKFLOW,
    activities::{ListConnectedConnectors, ListConnectedInput, ListConnectedResult, ListedConnector},
    workflows::{ConnectorSyncInput, ConnectorSyncResult, ScheduledSyncInput, ScheduledSyncResult, SyncOutcome},
};

/// Failure type of a tick all of whose children failed: what `pauseOnFailure` reacts to.
const ALL_FAILED: &str = "AllConnectorsFailed";

/// A tenant's tick.
#[workflow]
#[derive(Debug, Default)]
pub struct ScheduledSync;

#[workflow_methods]
impl ScheduledSync {
    /// Lists, starts, waits no longer than the listing says, aggregates.
    #[run(name = SCHEDULED_SYNC_WORKFLOW)]
    pub async fn run(ctx: &mut WorkflowContext<Self>, input: RawValue) -> WorkflowResult<ScheduledSyncResult> {
        let input: ScheduledSyncInput = parse_input(&input)?;
        let listing = list(ctx, &input).await.map_err(Fault::termination)?;
        let tick = tick_time(ctx);
        let result = Rc::new(RefCell::new(ScheduledSyncResult::default()));
        let (started, own): (Vec<_>, Vec<_>) = listing.connectors.into_iter().partition(|one| !one.own_schedule);
        result.borrow_mut().own_schedule = u32::try_from(own.len()).unwrap_or(u32::MAX);
        result.borrow_mut().still_running = u32::try_from(started.len()).unwrap_or(u32::MAX);
        let children = started.into_iter().map(|one| child(ctx.clone(), &input, one, tick, Rc::clone(&result)));
        let mut all = join_all(children).fuse();
        match listing.wait_seconds {
            None => drop(all.await),
            Some(seconds) => select! {
                _ = all => {}
                _ = ctx.timer(Duration::from_secs(seconds)) => {}
            },
        }
        let result = result.borrow().clone();
        if result.failures > 0 && result.failures == result.processed {
            return Err(failure(ALL_FAILED, format!("all {} connectors failed", result.failures)));
        }
        Ok(result)
    }
}

/// The listing; an outage of the store is waited out, so that no tick is lost to it (R2).
async fn list(ctx: &WorkflowContext<ScheduledSync>, input: &ScheduledSyncInput) -> Result<ListConnectedResult, Fault> {
    let mut patience = Patience::default();
    loop {
        let listed = ListConnectedInput { tenant_id: input.tenant_id.clone() };
        match call(ctx, ListConnectedConnectors, listed, scheduler_activity(&input.tenant_id)).await {
            Err(fault @ Fault::Outage(_)) => match patience.next() {
                Some(pause) => calls::pause(ctx, pause).await?,
                None => return Err(fault),
            },
            other => return other,
        }
    }
}

/// When the schedule meant this tick to be; for a start by hand, when it started.
fn tick_time(ctx: &WorkflowContext<ScheduledSync>) -> Timestamp {
    let scheduled = ctx.search_attributes().get(&SearchAttributeKey::datetime("TemporalScheduledStartTime"));
    scheduled.and_then(|at| Timestamp::from_second(at.seconds()).ok()).unwrap_or_else(|| calls::now(ctx))
}

/// Runs one child to its end and counts it; it counts as still running until then, and if another goes on for it.
async fn child(
    ctx: WorkflowContext<ScheduledSync>,
    tick: &ScheduledSyncInput,
    connector: ListedConnector,
    at: Timestamp,
    result: Rc<RefCell<ScheduledSyncResult>>,
) {
    let id = format!("{}-{}", connector.workflow_id_base, at.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let input = ConnectorSyncInput {
        tenant_id: tick.tenant_id.clone(),
        connector_id: connector.connector_id,
        full_sync: false,
    };
    let options =
        ChildWorkflowOptions::builder().workflow_id(id).parent_close_policy(ParentClosePolicy::Abandon).build();
    result.borrow_mut().processed += 1;
    let outcome = match ctx.start_child_workflow(ConnectorSync::run, json(&input), options).await {
        Ok(started) => started.result().await.ok().map(|done: ConnectorSyncResult| done.outcome),
        Err(ChildWorkflowStartError::StartFailed { .. }) => Some(SyncOutcome::Skipped),
        Err(_) => None,
    };
    let mut result = result.borrow_mut();
    if outcome != Some(SyncOutcome::More) {
        result.still_running -= 1;
    }
    match outcome {
        Some(SyncOutcome::More) => {}
        Some(SyncOutcome::Complete) => result.successes += 1,
        Some(SyncOutcome::Skipped) => result.skipped += 1,
        None => result.failures += 1,
    }
}

/// The seed's input as any client would send it.
fn json(input: &ConnectorSyncInput) -> RawValue {
    let data = serde_json::to_vec(input).expect("ids and a boolean");
    let metadata = [("encoding".to_owned(), b"json/plain".to_vec())].into();
    RawValue::new(vec![Payload { metadata, data, ..Default::default() }])
}
