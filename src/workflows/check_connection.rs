//! `checkConnectionWorkflow`: runs `authenticate` without a sync, so that a new or refused credential is (re)checked (R23).

use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{WorkflowContext, WorkflowResult};

use super::calls::{call, parse_input, sync_activity};
use crate::contract::{
    CHECK_CONNECTION_WORKFLOW,
    activities::{Authenticate, AuthenticateInput, AuthenticateResult},
    workflows::{CheckConnectionInput, CheckConnectionResult, ConnectionStatus},
};

/// The connection check of one connector.
#[workflow]
#[derive(Debug, Default)]
pub struct CheckConnection;

#[workflow_methods]
impl CheckConnection {
    /// Checks once; the operator repeats it with back-off, so a transient answer ends as `pending`, not in a wait.
    #[run(name = CHECK_CONNECTION_WORKFLOW)]
    pub async fn run(ctx: &mut WorkflowContext<Self>, input: RawValue) -> WorkflowResult<CheckConnectionResult> {
        let CheckConnectionInput { tenant_id, connector_id } = parse_input(&input)?;
        let options = sync_activity(&tenant_id);
        let input = AuthenticateInput { tenant_id, connector_id, full_sync: None };
        let status = match call(ctx, Authenticate, input, options).await {
            Ok(AuthenticateResult::Checked { status }) => status,
            Ok(_) => ConnectionStatus::Pending,
            Err(fault) => return Err(fault.termination()),
        };
        Ok(CheckConnectionResult { status })
    }
}
