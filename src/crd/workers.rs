//! `spec.workers` of a TenantSchedule: whose workers run the tenant's syncs, and how its own pods are built.
//! Field documentation here is user documentation (docs/crd-reference.md).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{self, AMOUNT, LABEL_KEY, Rule, rule};

/// The workers that run the tenant's syncs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = dedicated_only()))]
pub struct WorkersSpec {
    /// Whose workers they are.
    #[serde(default)]
    pub mode: WorkersMode,
    /// Pods of the tenant's own workers; 1 where it is not set. With 0 its syncs wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub replicas: Option<i32>,
    /// What each of those pods takes, in place of what the shared workers take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<WorkerResources>,
    /// Labels of the nodes that those pods run on, in place of the shared workers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, rules::LabelValue>>", extend("maxProperties" = 16))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that those pods bear, in place of the shared workers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub tolerations: Option<Vec<WorkerToleration>>,
}

/// Whose workers run a tenant's syncs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkersMode {
    /// Those of all tenants.
    #[default]
    Shared,
    /// Its own: pods, task queue and age identity of this tenant alone. Credentials are sealed to them; nobody else can open those.
    Dedicated,
}

/// Requests and limits of a worker's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = within_limits()))]
pub struct WorkerResources {
    /// What a pod is sure to get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What a pod may take at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of a container's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceAmounts {
    /// Processor time, e.g. 500m or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::Amount>")]
    pub cpu: Option<String>,
    /// Memory, e.g. 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::Amount>")]
    pub memory: Option<String>,
}

/// A taint that pods bear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = exists_has_no_value()))]
pub struct WorkerToleration {
    /// Key of the taint.
    #[schemars(with = "rules::LabelKey")]
    pub key: String,
    /// How key and value are compared.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint, with Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::LabelValue>")]
    pub value: Option<String>,
    /// Effect of the taint; all of them where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration is compared with a taint; Kubernetes' own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are those of the taint.
    #[default]
    Equal,
    /// The key is that of the taint.
    Exists,
}

/// What a taint does to pods that do not bear it; Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not scheduled there.
    NoSchedule,
    /// They are scheduled elsewhere where possible.
    PreferNoSchedule,
    /// They are evicted.
    NoExecute,
}

impl WorkersSpec {
    /// The tenant wants workers of its own.
    #[must_use]
    pub fn is_dedicated(&self) -> bool {
        self.mode == WorkersMode::Dedicated
    }
}

/// Pods are only made for a tenant that has its own.
fn dedicated_only() -> [Rule; 2] {
    [
        rule(
            "self.mode == 'Dedicated' || !(has(self.replicas) || has(self.resources) || has(self.nodeSelector) || has(self.tolerations))",
            "replicas, resources, nodeSelector and tolerations are of a tenant's own workers: set mode: Dedicated, or leave them out",
        ),
        rule(
            format!("!has(self.nodeSelector) || self.nodeSelector.all(key, key.matches(r'{LABEL_KEY}'))"),
            "a key of nodeSelector is that of a label, such as pool or example.com/pool",
        ),
    ]
}

/// Kubernetes refuses pods that ask for more than they may take, when nobody looks any more.
fn within_limits() -> Vec<Rule> {
    let within = |name: &str| {
        let of = |part: &str| format!("self.{part}.{name}");
        let given = |part: &str| format!("has(self.{part}) && has({})", of(part));
        let written = |part: &str| format!("{}.matches(r'{AMOUNT}')", of(part));
        rule(
            format!(
                "!({} && {}) || !({} && {}) || quantity({}).compareTo(quantity({})) <= 0",
                given("requests"),
                given("limits"),
                written("requests"),
                written("limits"),
                of("requests"),
                of("limits")
            ),
            format!("resources.requests.{name} must not be above resources.limits.{name}"),
        )
    };
    vec![within("cpu"), within("memory")]
}

/// As Kubernetes has it.
fn exists_has_no_value() -> [Rule; 1] {
    [rule("self.operator != 'Exists' || !has(self.value)", "a toleration with operator Exists takes no value")]
}
