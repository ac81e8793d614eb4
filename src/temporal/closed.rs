//! Which workflows were ended from outside, or failed, since a time: one visibility list, a page a call.
//! Visibility lags behind and forgets; whoever acts on an id looks it up first.

use jiff::Timestamp;
use temporalio_common::protos::temporal::api::workflowservice::v1::ListWorkflowExecutionsRequest;

use super::{
    Error, Temporal,
    client::{call, timed},
};

/// Entries a page.
const PAGE_SIZE: i32 = 500;

/// Where a list goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageToken(Vec<u8>);

impl Temporal {
    /// A page of the ids of workflows of a type that closed at or after `since` and did not return; and where the list goes
    /// on, if it does.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn closed_since(
        &self,
        workflow_type: &str,
        since: Timestamp,
        page: PageToken,
    ) -> Result<(Vec<String>, Option<PageToken>), Error> {
        let query = format!(
            "WorkflowType = '{workflow_type}' AND CloseTime >= '{since}' \
             AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Canceled', 'Failed')"
        );
        let request = ListWorkflowExecutionsRequest {
            namespace: self.namespace().to_owned(),
            page_size: PAGE_SIZE,
            next_page_token: page.0,
            query,
        };
        let mut service = self.connection().workflow_service();
        let page = call("list closed workflows", service.list_workflow_executions(timed(request))).await?;
        let ids = page.executions.into_iter().filter_map(|info| info.execution).map(|execution| execution.workflow_id);
        let next = Some(PageToken(page.next_page_token)).filter(|token| !token.0.is_empty());
        Ok((ids.collect(), next))
    }
}
