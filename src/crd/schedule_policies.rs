//! How a tenant's schedules get along with people who work in Temporal, and what status tells of it.
//! Field documentation here is user documentation; docs/scheduling.md has the whole picture.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, rules};

/// Who may pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PausePolicy {
    /// A pause that somebody makes in Temporal stays until somebody ends it there. What `suspend` paused, `suspend` resumes.
    #[default]
    Cooperative,
    /// Only `suspend` pauses: any other pause is taken away, but for those of `pauseOnFailure`, which setting `suspend` and taking it back ends.
    Authoritative,
}

/// What becomes of an edit made in Temporal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// It is undone.
    #[default]
    Correct,
    /// It stays until this spec is next edited; `Synced=False` names what differs.
    Report,
}

/// What becomes of a schedule that has the id already and is not ours, and of a cron workflow that ticks for the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictPolicy {
    /// It is left alone, and this object is not ready. Beside a cron workflow the schedule is made and stays paused until that one ends.
    #[default]
    Refuse,
    /// It is taken over: it becomes what the spec asks for, keeps its history and stays paused where it is. A cron workflow is terminated once the schedule stands.
    Adopt,
}

/// A time in which no tick fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// When it begins: minute, hour, `*`, `*` and days of the week, e.g. `30 22 * * sat,sun`; by `timeZone`.
    #[schemars(with = "rules::WindowStart")]
    pub schedule: String,
    /// How long it takes by the clock on the wall, at most 24h. It may cross midnight.
    #[schemars(with = "rules::WindowDuration")]
    pub duration: DurationText,
}

/// Why a schedule is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseStatus {
    /// Who paused it.
    pub by: PausedBy,
    /// When the operator first saw it so.
    pub since: Time,
    /// The note that was left in Temporal, shortened to 200 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Who paused a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PausedBy {
    /// The operator, because of `suspend` or a Connector's `state`.
    Spec,
    /// Somebody in Temporal, by Web UI, CLI or API.
    Person,
    /// Temporal itself, because a run failed and `pauseOnFailure` is set.
    Failure,
}

/// Ticks that did not start what they should, since the schedule was created in Temporal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleCounts {
    /// Lost: Temporal was away for longer than `catchUpWindow`.
    #[serde(default)]
    pub missed: i64,
    /// Left out: the last one was still running.
    #[serde(default)]
    pub skipped: i64,
    /// Dropped: too many waited.
    #[serde(default)]
    pub dropped: i64,
    /// Waiting now for the running one to end.
    #[serde(default)]
    pub buffered: i64,
}
