//! `TenantSchedule`: when one tenant's connectors sync. One object per tenant.
//! Field documentation here is user documentation (docs/crd-reference.md).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ConflictPolicy, DataPolicy, DriftPolicy, DurationText, Handled, MaintenanceWindow, PausePolicy, PauseStatus,
    Request, ScheduleCounts, ScheduleStatus, WorkersSpec, not_observed, rules,
};
use crate::ids::TenantId;

/// The seed's default: every 4 hours.
const DEFAULT_SCHEDULE: &str = "0 */4 * * *";
/// 10,000 tenants on one tick start over five and a half minutes anyway (30 starts a second a namespace; docs/facts.md, Temporal).
const DEFAULT_SPREAD: &str = "5m";
/// One interval of the default schedule (finding 5: overlap Skip with a window of at least one interval loses no tick but runs once).
const DEFAULT_CATCH_UP_WINDOW: &str = "4h";

/// When the connectors of one tenant sync: a schedule in Temporal that starts a sync of each connected Connector of the tenant.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sync.gtmclarity.io",
    version = "v1alpha1",
    kind = "TenantSchedule",
    plural = "tenantschedules",
    shortname = "tsched",
    category = "gtm",
    namespaced,
    status = "TenantScheduleStatus",
    doc = "When the connectors of one tenant sync: a schedule in Temporal that starts a sync of each connected Connector of the tenant.",
    derive = "PartialEq",
    selectable = ".spec.tenantId"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::life()))]
pub struct TenantScheduleSpec {
    /// The tenant, a DNS label. Cannot be changed. One TenantSchedule per tenant: the first one holds it.
    #[schemars(with = "rules::Tenant")]
    pub tenant_id: TenantId,
    /// Cron expressions of five fields (minute hour day-of-month month day-of-week) or @hourly, @daily, @weekly, @monthly, @yearly. A sync starts when any of them fires.
    #[serde(default = "default_schedules")]
    #[schemars(with = "Vec<rules::Cron>", length(min = 1, max = 8))]
    pub schedules: Vec<String>,
    /// IANA name of the time zone of the cron expressions, e.g. Europe/Berlin. On the days the clocks change, an hour is left out or comes twice: docs/scheduling.md.
    #[serde(default = "default_time_zone")]
    #[schemars(with = "rules::TimeZone")]
    pub time_zone: String,
    /// Spreads the starts of many tenants that share a cron expression.
    #[serde(default)]
    pub spread: Spread,
    /// What happens when a tick comes while the last one still runs.
    #[serde(default)]
    pub overlap_policy: OverlapPolicy,
    /// Ticks missed in an outage of Temporal are made up for if they are not older than this. At least 10s; choose at least one interval.
    #[serde(default = "default_catch_up_window")]
    #[schemars(with = "rules::CatchUpWindow")]
    pub catch_up_window: DurationText,
    /// Pauses every schedule of the tenant, those of its Connectors too. A sync asked for by token still runs.
    #[serde(default)]
    pub suspend: bool,
    /// Who may pause the tenant's schedules.
    #[serde(default)]
    pub pause_policy: PausePolicy,
    /// Lets Temporal pause a schedule when a run it started fails: of the tenant's own schedule when all connectors of a tick failed, of a Connector's own schedule when its sync failed.
    #[serde(default)]
    pub pause_on_failure: bool,
    /// What becomes of an edit that somebody makes in Temporal. A pause is no edit: see `pausePolicy`.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// What becomes of a schedule in Temporal that has the id already and was not made for this object, and of a cron workflow `scheduledSyncWorkflow` that somebody started for the tenant.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,
    /// No tick before this time, e.g. 2026-12-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::Moment>")]
    pub start_at: Option<Timestamp>,
    /// No tick after this time. Then the object is ready with the reason Completed; tokens still run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::Moment>")]
    pub end_at: Option<Timestamp>,
    /// Times in which no tick fires, of the tenant's Connectors neither. What runs already goes on, and so do tokens; a tick from before may start within `spread.window`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub maintenance_windows: Vec<MaintenanceWindow>,
    /// The workers that run the tenant's syncs: docs/dedicated-pools.md.
    #[serde(default)]
    pub workers: WorkersSpec,
    /// What happens in Temporal when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// What becomes of a connector's rows when its Connector is deleted, where the Connector itself does not say.
    #[serde(default)]
    pub data_policy: DataPolicy,
    /// One-shot wishes. Tokens that a new object brings along are noted, not carried out, so that a rebuild from Git repeats nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<TenantRequests>,
}

/// Spreading of starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Each tick starts at a random moment within this long after its time, but before the next tick; 0s = exactly then.
    #[serde(default = "default_spread")]
    #[schemars(with = "rules::AnyDuration")]
    pub window: DurationText,
}

impl Default for Spread {
    fn default() -> Self {
        Self { window: default_spread() }
    }
}

/// What to do with a tick that meets a running one; Temporal's own policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OverlapPolicy {
    /// Leave the new tick out.
    #[default]
    Skip,
    /// Start one after the running one ends.
    BufferOne,
    /// Start all of them, one after the other.
    BufferAll,
    /// Cancel the running one, then start.
    CancelOther,
    /// Terminate the running one, then start.
    TerminateOther,
    /// Start beside it; a connector that is at work is skipped all the same.
    AllowAll,
}

/// What to do in Temporal when the object is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Delete the schedule; running syncs end at their next batch.
    #[default]
    Delete,
    /// Leave the schedule as it is, with a mark that keeps it from being swept.
    Orphan,
}

/// One-shot wishes of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantRequests {
    /// Run the schedule's action now, suspended or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Request>,
    /// Run the ticks of a time range that has passed, now: those that an outage longer than `catchUpWindow`, or a pause, left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::backfill()))]
    pub backfill: Option<BackfillRequest>,
}

/// A wish to make up for ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillRequest {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
    /// Ticks at this time or later, spread included …
    #[schemars(with = "rules::Moment")]
    pub from: Timestamp,
    /// … and before this one, at most 31 days after and not in the future, e.g. 2026-11-23T00:00:00Z.
    #[schemars(with = "rules::Moment")]
    pub to: Timestamp,
    /// What happens to one of these ticks while another still runs; as `spec.overlapPolicy` where it is not set. With Skip one sync stands for all of them, with BufferAll each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_policy: Option<OverlapPolicy>,
}

/// What the operator found and did; written by the operator only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantScheduleStatus {
    /// The generation this status is about; -1 before the operator has seen the object.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,
    /// The schedule in Temporal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// Whether the schedule is paused, by `suspend` or by hand in Temporal.
    #[serde(default)]
    pub paused: bool,
    /// Who paused it, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,
    /// Ticks that did not start what they should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ScheduleCounts>,
    /// The next tick, spread included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_time: Option<Time>,
    /// The last tick that started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_time: Option<Time>,
    /// The tick that should have started by now and did not; none once a sync starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Time>,
    /// When a sync of any of the tenant's connectors last completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// The tenant's connectors in this namespace, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connectors: Option<ConnectorCounts>,
    /// Tokens already handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<HandledTenantTokens>,
    /// Ready, Synced, Healthy, WorkersAvailable; Reconciling or Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for TenantScheduleStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            schedule: None,
            paused: false,
            pause: None,
            counts: None,
            next_run_time: None,
            last_run_time: None,
            overdue_since: None,
            last_success_time: None,
            connectors: None,
            last_handled: None,
            conditions: Vec::new(),
        }
    }
}

/// Connectors, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorCounts {
    /// All of them.
    pub total: i32,
    /// Those whose credential is known to work.
    pub connected: i32,
    /// Those that are not healthy.
    pub failing: i32,
    /// Records kept as dead letters now.
    pub dead_letters: i64,
}

/// Tokens of a tenant that were handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandledTenantTokens {
    /// Of `spec.requests.trigger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Of `spec.requests.backfill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Handled>,
    /// Of the annotation `sync.gtmclarity.io/requested-at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
}

fn default_schedules() -> Vec<String> {
    vec![DEFAULT_SCHEDULE.to_owned()]
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_spread() -> DurationText {
    DurationText::literal(DEFAULT_SPREAD)
}

fn default_catch_up_window() -> DurationText {
    DurationText::literal(DEFAULT_CATCH_UP_WINDOW)
}
