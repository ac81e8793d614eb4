//! What GitOps tools take a custom resource for: the rules that kstatus publishes (kubernetes-sigs/cli-utils,
//! `pkg/kstatus`, "generic rules" and the Ready condition), in its order, and what Flux demands of conditions
//! (fluxcd/pkg, `runtime/conditions/check`). Reads an object as JSON and nothing else.

use serde_json::Value;

/// What `flux`, `kubectl wait`'s successors and Helm's waiter see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Wait for it.
    InProgress,
    /// Nothing will change until somebody edits something.
    Failed,
    /// As the spec asks.
    Current,
    /// Being deleted.
    Terminating,
}

/// kstatus' answer. The order matters: deletion, then an unseen generation, then Reconciling and Stalled as they stand
/// in the list, then Ready; an object without a Ready condition is Current.
#[must_use]
pub fn outcome(object: &Value) -> Outcome {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Outcome::Terminating;
    }
    let observed = object["status"]["observedGeneration"].as_i64();
    if observed.is_some_and(|observed| Some(observed) != object["metadata"]["generation"].as_i64()) {
        return Outcome::InProgress;
    }
    for condition in conditions(object).iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return Outcome::InProgress,
            Some("Stalled") => return Outcome::Failed,
            _ => {}
        }
    }
    match of(object, "Ready") {
        Some("True") | None => Outcome::Current,
        Some(_) => Outcome::InProgress,
    }
}

/// The rules of Flux that an object breaks, as it stands.
#[must_use]
pub fn broken(object: &Value) -> Vec<&'static str> {
    let is_true = |condition: &str| of(object, condition) == Some("True");
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let ahead = |value: &Value| value["observedGeneration"].as_i64().is_some_and(|observed| observed > generation);
    let abnormal = ["Reconciling", "Stalled"];
    let seen = object["status"]["observedGeneration"].as_i64().unwrap_or(-1) >= 0;
    let mut types: Vec<_> = conditions(object).iter().map(|condition| condition["type"].as_str()).collect();
    types.sort_unstable();
    [
        (abnormal.iter().all(|of| is_true(of)), "Reconciling and Stalled are never both true"),
        (is_true("Ready") && abnormal.iter().any(|of| is_true(of)), "Ready is not true beside Reconciling or Stalled"),
        (
            abnormal.iter().any(|abnormal| of(object, abnormal).is_some() && !is_true(abnormal)),
            "an abnormal condition is there only while it is true",
        ),
        (seen && of(object, "Ready").is_none(), "whoever has looked says whether it is Ready"),
        (
            seen && of(object, "Ready") == Some("False") && !abnormal.iter().any(|of| is_true(of)),
            "not Ready says which",
        ),
        (
            ahead(&object["status"]) || conditions(object).iter().any(ahead),
            "observedGeneration is never ahead of the generation",
        ),
        (types.windows(2).any(|pair| pair[0] == pair[1]), "a condition's type is there once"),
    ]
    .into_iter()
    .filter_map(|(broken, rule)| broken.then_some(rule))
    .collect()
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn of<'a>(object: &'a Value, condition: &str) -> Option<&'a str> {
    conditions(object).iter().find(|of| of["type"] == condition)?["status"].as_str()
}
