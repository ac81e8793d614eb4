//! Workflows that somebody started with a cron expression of their own, before there was a schedule: finds and ends them.

use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution,
    history::v1::{WorkflowExecutionStartedEventAttributes, history_event::Attributes},
    workflowservice::v1::{
        GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest, TerminateWorkflowExecutionRequest,
    },
};

use super::{
    Error, Temporal,
    client::{call, timed},
};
use crate::{contract::workflows::ScheduledSyncInput, ids::TenantId};

/// Runs a page of the list.
const PAGE_SIZE: i32 = 500;
/// What a terminated run shows as its reason.
const REASON: &str = "gtm-sync: a schedule has taken its place";

/// A run of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// Its workflow id.
    pub workflow_id: String,
    /// Its run id: another with each tick of a cron workflow.
    pub run_id: String,
}

/// A cron workflow that ticks for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronWorkflow {
    /// Its id.
    pub workflow_id: String,
    /// Its first run, which names all that follow from it.
    pub first_run_id: String,
    /// The tenant.
    pub tenant_id: TenantId,
}

impl Temporal {
    /// Open runs of a type that no schedule started. Visibility is eventually consistent: a run that just began may be missing,
    /// one that just ended may be there.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn unscheduled_runs(&self, workflow_type: &str) -> Result<Vec<RunKey>, Error> {
        let query = format!(
            "WorkflowType = '{workflow_type}' AND ExecutionStatus = 'Running' AND TemporalScheduledById IS NULL"
        );
        let (mut runs, mut next_page_token) = (Vec::new(), Vec::new());
        loop {
            let request = ListWorkflowExecutionsRequest {
                namespace: self.namespace().to_owned(),
                page_size: PAGE_SIZE,
                next_page_token,
                query: query.clone(),
            };
            let mut service = self.connection().workflow_service();
            let page = call("list workflows", service.list_workflow_executions(timed(request))).await?;
            let executions = page.executions.into_iter().filter_map(|info| info.execution);
            runs.extend(executions.map(|run| RunKey { workflow_id: run.workflow_id, run_id: run.run_id }));
            if page.next_page_token.is_empty() {
                return Ok(runs);
            }
            next_page_token = page.next_page_token;
        }
    }

    /// What a run is, by the first event of its history: a tenant's cron workflow, or something else.
    ///
    /// # Errors
    /// When Temporal is away or refuses; a run that is gone is something else.
    pub async fn cron_workflow(&self, run: &RunKey) -> Result<Option<CronWorkflow>, Error> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace().to_owned(),
            execution: Some(WorkflowExecution { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() }),
            maximum_page_size: 1,
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        let answer = call("read a workflow's history", service.get_workflow_execution_history(timed(request))).await;
        let history = match answer {
            Ok(answer) => answer.history.unwrap_or_default(),
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let first = history.events.into_iter().next().and_then(|event| event.attributes);
        Ok(match first {
            Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => cron_of(run, &started),
            _ => None,
        })
    }

    /// Ends a cron workflow, with all its ticks to come; whether it was there. What its tick has started goes on by itself.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    ///
    /// # Idempotency
    /// By its first run: another workflow that has the id by now is left alone.
    pub async fn terminate_cron(&self, cron: &CronWorkflow) -> Result<bool, Error> {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.namespace().to_owned(),
            workflow_execution: Some(WorkflowExecution {
                workflow_id: cron.workflow_id.clone(),
                run_id: String::new(),
            }),
            reason: REASON.to_owned(),
            identity: self.identity().to_owned(),
            first_execution_run_id: cron.first_run_id.clone(),
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        match call("terminate a cron workflow", service.terminate_workflow_execution(timed(request))).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn cron_of(run: &RunKey, started: &WorkflowExecutionStartedEventAttributes) -> Option<CronWorkflow> {
    if started.cron_schedule.is_empty() {
        return None;
    }
    let input = started.input.as_ref()?.payloads.first()?;
    let input: ScheduledSyncInput = serde_json::from_slice(&input.data).ok()?;
    Some(CronWorkflow {
        workflow_id: run.workflow_id.clone(),
        first_run_id: started.first_execution_run_id.clone(),
        tenant_id: input.tenant_id,
    })
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::common::v1::Payloads;

    use super::*;
    use crate::temporal::client::json_payload;

    fn started(cron: &str, input: &serde_json::Value) -> Option<CronWorkflow> {
        let run = RunKey { workflow_id: "by hand".to_owned(), run_id: "r2".to_owned() };
        let started = WorkflowExecutionStartedEventAttributes {
            cron_schedule: cron.to_owned(),
            first_execution_run_id: "r1".to_owned(),
            input: Some(Payloads { payloads: vec![json_payload(input)] }),
            ..Default::default()
        };
        cron_of(&run, &started)
    }

    #[test]
    fn a_cron_workflow_has_an_expression_and_a_tenant() {
        let acme = serde_json::json!({"tenantId": "acme"});
        let found = started("0 */4 * * *", &acme).expect("one");
        assert_eq!((found.tenant_id.as_str(), found.first_run_id.as_str()), ("acme", "r1"));
        assert_eq!(started("", &acme), None, "a tick asked for by token");
        assert_eq!(started("0 */4 * * *", &serde_json::json!({"tenantId": "No Id"})), None);
    }
}
