//! The Kubernetes API `sync.gtmclarity.io/v1alpha1`: types, defaults, rules, and the files generated from them.
//! Schemas are at least as strict as the Rust types, so that no object the API server admits can fail to parse.

mod auto_restart;
mod columns;
pub mod conditions;
mod connector;
mod connector_status;
mod definition;
mod duration;
pub mod generate;
mod reference;
mod requests;
mod rules;
mod schedule_policies;
mod tenant_schedule;
mod workers;

pub use auto_restart::AutoRestart;
pub use connector::{
    Connector, ConnectorSpec, ConnectorState, Credentials, DataPolicy, FieldsSpec, HubspotSource, Limits,
    SchemaContract, SecretRef, Source, StreamName, StreamSpec, SyncSpec,
};
pub use connector_status::{
    AutoRestartStatus, Connection, ConnectionState, ConnectorStatus, CursorSummary, DeadLetters, Findings, LastSync,
    LastSyncOutcome, Phase, Progress, RefusedSweep, StreamCount,
};
pub use definition::{definitions, manifests};
pub use duration::{DurationText, InvalidDuration};
pub use reference::reference;
pub use requests::{
    ConnectorRequests, DiscardRequest, EntityName, Handled, HandledConnectorTokens, Letters, ReplayRequest,
    ResetRequest, ResyncRequest,
};
pub use schedule_policies::{
    ConflictPolicy, DriftPolicy, MaintenanceWindow, PausePolicy, PauseStatus, PausedBy, ScheduleCounts,
};
pub use tenant_schedule::{
    BackfillRequest, ConnectorCounts, DeletionPolicy, HandledTenantTokens, OverlapPolicy, Spread, TenantRequests,
    TenantSchedule, TenantScheduleSpec, TenantScheduleStatus,
};
pub use workers::{
    ResourceAmounts, TaintEffect, TolerationOperator, WorkerResources, WorkerToleration, WorkersMode, WorkersSpec,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group.
pub const GROUP: &str = "sync.gtmclarity.io";
/// API version.
pub const VERSION: &str = "v1alpha1";
/// Annotation that asks for a sync now: its value is a token, compared with `status.lastHandled.requestedAt`; never removed by us.
pub const REQUESTED_AT_ANNOTATION: &str = "sync.gtmclarity.io/requested-at";
/// Annotation on a TenantSchedule in deletion that ends the wait for Temporal and the store: `"true"`.
pub const FORCE_DELETE_ANNOTATION: &str = "sync.gtmclarity.io/force-delete";
/// Finalizer on a TenantSchedule: its Temporal schedule and its claim are removed first.
pub const SCHEDULE_FINALIZER: &str = "sync.gtmclarity.io/temporal-schedule";
/// Label with the tenant's id on everything the operator makes for a tenant.
pub const TENANT_LABEL: &str = "sync.gtmclarity.io/tenant";
/// Label with the connector's id on everything the operator makes for a connector.
pub const CONNECTOR_LABEL: &str = "sync.gtmclarity.io/connector";
/// Label with the build of the workers on their Deployment and pods.
pub const BUILD_ID_LABEL: &str = "sync.gtmclarity.io/build-id";
/// `status.observedGeneration` before the operator has seen the object: a fresh object never counts as ready.
pub const NOT_OBSERVED: i64 = -1;

/// A wish that is carried out once: a new token asks again, a token already handled does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
}

/// A schedule in Temporal as the operator left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Its id in Temporal.
    pub id: String,
    /// Hash of what the spec asks for.
    pub spec_hash: String,
    /// Hashes of what Temporal answered when it was applied, a part each: an edit by hand shows as another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_hash: Option<String>,
}

fn not_observed() -> i64 {
    NOT_OBSERVED
}
