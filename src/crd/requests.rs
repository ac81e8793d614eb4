//! `Connector.spec.requests`: one-shot wishes, each with what it is about; and `status.lastHandled`, what became of them.
//! Field documentation here is user documentation; docs/operations.md says when to use which.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Request, rules};

/// One-shot wishes of a connector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorRequests {
    /// Sync now what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Request>,
    /// Sync everything now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_sync: Option<Request>,
    /// Forget the cursor, the load in progress and the source account: a sync at work ends, the next one reads everything.
    /// What to do when the credential was changed, on purpose, to another account of the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_cursor: Option<ResetRequest>,
    /// Read the records of dead letters back from the source, now: those of a run, a batch, an entity, one record, or all.
    /// A letter goes when its record has landed, or is not at the source any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::selection()))]
    pub replay: Option<ReplayRequest>,
    /// Delete dead letters for good, with their payloads: those of a run, a batch, an entity, one record, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::discard()))]
    pub discard: Option<DiscardRequest>,
    /// Read again, now, what changed at the source within a time range; the cursor stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::window()))]
    pub resync: Option<ResyncRequest>,
    /// Sync everything now, and delete what is not at the source any more, as much as `status.findings.refusedSweeps` tells now and a tenth more: the answer to `Healthy=False/SweepSuspicious`, once somebody has looked. It holds until the streams named there are swept; where more than that is missing by then, nothing is deleted and the answer is asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_sweep: Option<Request>,
}

/// A wish to forget the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetRequest {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
    /// Do it only while `status.position` is this; otherwise nothing is reset, and `status.lastHandled.resetCursor.outcome` says PositionChanged. For scripts that decided by a status they read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub expected_position: Option<i64>,
}

/// A wish to read records back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayRequest {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
    /// Which of them.
    #[serde(flatten)]
    pub letters: Letters,
}

/// A wish to delete dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscardRequest {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
    /// All dead letters of the connector. Nothing else may be selected with it.
    #[serde(default)]
    pub all: bool,
    /// Which of them.
    #[serde(flatten)]
    pub letters: Letters,
}

/// Which dead letters; nothing selects all of the connector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Letters {
    /// Only dead letters of this run, by its workflow id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::ForeignId>")]
    pub run: Option<String>,
    /// Only those of this batch of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub batch: Option<i32>,
    /// Only those of this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityName>,
    /// Only those of this record of the entity, by the source's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::ForeignId>")]
    pub record: Option<String>,
}

/// A wish to read a time range again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResyncRequest {
    /// Any text that was not used before, e.g. a date or a commit.
    #[schemars(with = "rules::Token")]
    pub token: String,
    /// Records changed at this time or later …
    #[schemars(with = "rules::Moment")]
    pub from: Timestamp,
    /// … and before this one, e.g. 2026-11-23T00:00:00Z.
    #[schemars(with = "rules::Moment")]
    pub to: Timestamp,
}

/// A table of the canonical schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EntityName {
    /// Companies.
    Account,
    /// Persons.
    Contact,
    /// Persons not yet qualified, where the source keeps them apart.
    Lead,
    /// Deals.
    Opportunity,
    /// Calls, e-mails, meetings, tasks and notes.
    Activity,
    /// Users of the CRM who own records.
    Owner,
    /// Stages of pipelines.
    Stage,
}

/// A wish that was handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// Its token.
    pub token: String,
    /// When it was recorded in the store, with its effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What it did, where that is known at once, e.g. `17 dead letters marked`, or why it did nothing, e.g. `PositionChanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// Wishes of a connector that were handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandledConnectorTokens {
    /// Of `spec.requests.sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Handled>,
    /// Of `spec.requests.fullSync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_sync: Option<Handled>,
    /// Of `spec.requests.resetCursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_cursor: Option<Handled>,
    /// Of `spec.requests.replay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Handled>,
    /// Of `spec.requests.discard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<Handled>,
    /// Of `spec.requests.resync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync: Option<Handled>,
    /// Of `spec.requests.confirmSweep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_sweep: Option<Handled>,
    /// Of the annotation `sync.gtmclarity.io/requested-at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
}
