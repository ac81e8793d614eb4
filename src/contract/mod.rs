//! All that enters Temporal histories: inputs, results, progress, and the names of queue, workflows and activities.
//! camelCase and exactly the seed's interfaces, so that any client in any language can start and query. Never a record, never a secret.

pub mod activities;
pub mod failures;
pub mod workflows;

use crate::ids::TenantId;

/// The task queue of all workflows and of the shared pool's activities.
pub const TASK_QUEUE: &str = "connector-sync";

/// The task queue of a dedicated tenant's activities: `connector-sync-{tenantId}` (R22). Tenant ids are unique in a Temporal namespace.
#[must_use]
pub fn dedicated_queue(tenant: &TenantId) -> String {
    format!("{TASK_QUEUE}-{tenant}")
}

/// Type name of the sync of one connector.
pub const CONNECTOR_SYNC_WORKFLOW: &str = "connectorSyncWorkflow";
/// Type name of a tenant's tick.
pub const SCHEDULED_SYNC_WORKFLOW: &str = "scheduledSyncWorkflow";
/// Type name of the connection check.
pub const CHECK_CONNECTION_WORKFLOW: &str = "checkConnectionWorkflow";
/// The progress query of a sync.
pub const GET_SYNC_PROGRESS: &str = "getSyncProgress";
