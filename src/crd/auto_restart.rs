//! `spec.autoRestart` of a Connector: how a sync that failed is started again.
//! When that is due says the operator (`operator/connector/restart.rs`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::DurationText, rules};

/// With the default pauses: a little over two hours, and the seed's schedule ticks every four.
const DEFAULT_MAX_RESTARTS: i32 = 7;

/// How a sync that failed is started again. Ticks go on meanwhile, and a failure of theirs counts like any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoRestart {
    /// Whether to restart.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Restarts until one completes; after that the next tick is awaited.
    #[serde(default = "default_max_restarts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_restarts: i32,
    /// Pause after the first failure; it doubles with each further one in a row.
    #[serde(default = "default_initial_backoff")]
    #[schemars(with = "rules::Period")]
    pub initial_backoff: DurationText,
    /// Longest pause.
    #[serde(default = "default_max_backoff")]
    #[schemars(with = "rules::Period")]
    pub max_backoff: DurationText,
}

impl Default for AutoRestart {
    fn default() -> Self {
        Self {
            enabled: yes(),
            max_restarts: default_max_restarts(),
            initial_backoff: default_initial_backoff(),
            max_backoff: default_max_backoff(),
        }
    }
}

fn yes() -> bool {
    true
}

fn default_max_restarts() -> i32 {
    DEFAULT_MAX_RESTARTS
}

fn default_initial_backoff() -> DurationText {
    DurationText::literal("1m")
}

fn default_max_backoff() -> DurationText {
    DurationText::literal("1h")
}
