//! `checkConnectionWorkflow`: runs `authenticate` without a sync, so that a new or refused credential is (re)checked (R23).

use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{WorkflowContext, WorkflowResult};

use super::{calls::parse_input, fault::Fault, pool::Pool};
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
        let mut pool = Pool::shared(ctx.clone(), tenant_id.clone());
        pool.resolve(&connector_id).await.map_err(Fault::termination)?;
        let input = AuthenticateInput { tenant_id, connector_id, full_sync: None };
        let status = match pool.call(Authenticate, input).await.map_err(Fault::termination)? {
            AuthenticateResult::Checked { status } => status,
            _ => ConnectionStatus::Pending,
        };
        Ok(CheckConnectionResult { status })
    }
}
