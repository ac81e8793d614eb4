//! Which writer owns which fields of a status, and conditions that keep their transition time.
//! Two writers share each status without reading each other: the reconciler (control plane) and `run_status` (observation).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::{Map, Value};

use super::world::StatusPart;
use crate::crd::conditions::{CONNECTED, HEALTHY, READY, RECONCILING, STALLED, SYNCED, SYNCING, WORKERS_AVAILABLE};

/// The fields and condition types of one writer; server-side apply keeps the writers apart.
#[derive(Debug)]
pub struct Ownership {
    /// Field manager.
    pub manager: &'static str,
    /// Top-level fields of the status.
    fields: &'static [&'static str],
    /// Condition types.
    conditions: &'static [&'static str],
}

/// The reconciler of TenantSchedule.
pub const TENANT_CONTROL: Ownership = Ownership {
    manager: "gtmclarity-operator/tenant-schedule",
    fields: &[
        "observedGeneration",
        "schedule",
        "paused",
        "pause",
        "counts",
        "nextRunTime",
        "lastRunTime",
        "overdueSince",
        "lastHandled",
    ],
    conditions: &[READY, SYNCED, RECONCILING, STALLED],
};
/// What is observed of a tenant's connectors and workers.
pub const TENANT_OBSERVED: Ownership = Ownership {
    manager: "gtmclarity-operator/tenant-observation",
    fields: &["lastSuccessTime", "connectors"],
    conditions: &[HEALTHY, WORKERS_AVAILABLE],
};
/// The reconciler of Connector.
pub const CONNECTOR_CONTROL: Ownership = Ownership {
    manager: "gtmclarity-operator/connector",
    fields: &[
        "observedGeneration",
        "schedule",
        "pause",
        "counts",
        "nextRunTime",
        "lastRunTime",
        "overdueSince",
        "lastHandled",
    ],
    conditions: &[READY, SYNCED, RECONCILING, STALLED],
};
/// What is observed of a connector's connection and runs.
pub const CONNECTOR_OBSERVED: Ownership = Ownership {
    manager: "gtmclarity-operator/connector-observation",
    fields: &[
        "connection",
        "progress",
        "lastSync",
        "lastSuccessTime",
        "cursor",
        "position",
        "deadLetters",
        "findings",
        "autoRestart",
    ],
    conditions: &[CONNECTED, HEALTHY, SYNCING],
};

impl Ownership {
    /// This writer's part of a whole status. Equal parts need no write.
    #[must_use]
    pub fn part(&self, status: &impl Serialize) -> StatusPart {
        let mut whole = match serde_json::to_value(status) {
            Ok(Value::Object(whole)) => whole,
            _ => Map::new(),
        };
        let mut fields: Map<_, _> =
            self.fields.iter().filter_map(|&name| whole.remove(name).map(|value| (name.to_owned(), value))).collect();
        if let Some(Value::Array(conditions)) = whole.remove("conditions") {
            let mut owned: Vec<_> = conditions
                .into_iter()
                .filter(|condition| self.conditions.iter().any(|&of| condition["type"] == of))
                .collect();
            owned.sort_by_key(|condition| condition["type"].as_str().map(str::to_owned));
            if !owned.is_empty() {
                fields.insert("conditions".to_owned(), Value::Array(owned));
            }
        }
        StatusPart { manager: self.manager, fields: Value::Object(fields) }
    }

    /// The conditions of others in `current`, and `wished` in place of all that this writer owns.
    /// A condition that keeps its status keeps its transition time.
    #[must_use]
    pub fn conditions(
        &self,
        current: &[Condition],
        wished: Vec<Wish>,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let foreign = current.iter().filter(|condition| !self.conditions.contains(&condition.type_.as_str())).cloned();
        let own = wished.into_iter().map(|wish| {
            debug_assert!(self.conditions.contains(&wish.condition), "{} is another writer's", wish.condition);
            let former = current.iter().find(|former| former.type_ == wish.condition && former.status == wish.status);
            Condition {
                type_: wish.condition.to_owned(),
                status: wish.status.to_owned(),
                reason: wish.reason.to_owned(),
                message: wish.message,
                observed_generation: generation,
                last_transition_time: former.map_or_else(|| time(now), |former| former.last_transition_time.clone()),
            }
        });
        foreign.chain(own).collect()
    }
}

/// A condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Wish {
    /// `status: "True"`.
    #[must_use]
    pub fn yes(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, status: "True", reason, message: message.into() }
    }

    /// `status: "False"`.
    #[must_use]
    pub fn no(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, status: "False", reason, message: message.into() }
    }

    /// The message, if the status is False.
    #[must_use]
    pub fn failing(&self) -> Option<&str> {
        (self.status == "False").then_some(self.message.as_str())
    }

    /// `status: "Unknown"`.
    #[must_use]
    pub fn unknown(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, status: "Unknown", reason, message: message.into() }
    }
}

/// Takes out of a patch the fields that the CRD does not declare, as the API server's refusal of a server-side apply names
/// them; whether there were any.
pub fn leave_out_undeclared(patch: &mut Value, refusal: &str) -> bool {
    let undeclared =
        refusal.split(": field not declared in schema").filter_map(|before| before.rsplit_once(".status."));
    let mut found = false;
    for (_, path) in undeclared {
        let (parents, field) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = parents
            .split('.')
            .filter(|name| !name.is_empty())
            .try_fold(&mut patch["status"], |of, name| of.get_mut(name));
        let removed = parent.and_then(Value::as_object_mut).and_then(|of| of.remove(field));
        found |= removed.is_some();
    }
    found
}

/// A time in a status: whole seconds, as Kubernetes writes them.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The status of a condition, if it is there.
#[must_use]
pub fn status_of<'a>(conditions: &'a [Condition], condition: &str) -> Option<&'a str> {
    conditions.iter().find(|of| of.type_ == condition).map(|of| of.status.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::ConnectorStatus;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    #[test]
    fn what_an_earlier_crd_does_not_declare_is_left_out_and_nothing_else() {
        let whole = json!({"status": {"counts": {"missed": 0}, "lastSync": {"outcome": "Complete", "pages": 3}, "paused": true}});
        let after = |refusal: &str| {
            let mut patch = whole.clone();
            leave_out_undeclared(&mut patch, refusal).then_some(patch)
        };
        let one =
            "failed to create typed patch object (a/b; g/v, Kind=K): .status.counts: field not declared in schema";
        assert_eq!(
            after(one),
            Some(json!({"status": {"lastSync": {"outcome": "Complete", "pages": 3}, "paused": true}}))
        );
        let two = "failed to create typed patch object (a/b; g/v, Kind=K): errors:\n  .status.counts: field not declared in schema\n  .status.lastSync.pages: field not declared in schema";
        assert_eq!(after(two), Some(json!({"status": {"lastSync": {"outcome": "Complete"}, "paused": true}})));
        for other in [
            "",
            "conflict",
            ".status.strange: field not declared in schema",
            ".spec.counts: field not declared in schema",
        ] {
            assert_eq!(after(other), None, "{other}");
        }
    }

    #[test]
    fn each_writer_sees_and_writes_only_its_own_part() {
        let mut status = ConnectorStatus { observed_generation: 3, ..Default::default() };
        let now = at("2026-11-23T01:00:00.5Z");
        status.conditions = CONNECTOR_CONTROL.conditions(&[], vec![Wish::yes(READY, "Configured", "")], Some(3), now);
        status.conditions =
            CONNECTOR_OBSERVED.conditions(&status.conditions, vec![Wish::no(SYNCING, "Idle", "")], None, now);
        assert_eq!(status.conditions.len(), 2);
        let control = CONNECTOR_CONTROL.part(&status).fields;
        assert_eq!(control["observedGeneration"], 3);
        assert_eq!(control["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(control["conditions"][0]["lastTransitionTime"], "2026-11-23T01:00:00Z");
        let observed = CONNECTOR_OBSERVED.part(&status).fields;
        assert!(observed.get("observedGeneration").is_none());
        assert_eq!(observed["conditions"][0]["type"], SYNCING);
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays_and_leaves_when_not_wished() {
        let (first, later) = (at("2026-11-23T01:00:00Z"), at("2026-11-23T02:00:00Z"));
        let wishes = vec![Wish::no(READY, "SecretNotFound", ""), Wish::yes(STALLED, "SecretNotFound", "")];
        let before = CONNECTOR_CONTROL.conditions(&[], wishes, Some(1), first);
        let same = CONNECTOR_CONTROL.conditions(&before, vec![Wish::no(READY, "NameTaken", "")], Some(1), later);
        assert_eq!((same.len(), same[0].last_transition_time.0), (1, first));
        let turned = CONNECTOR_CONTROL.conditions(&before, vec![Wish::yes(READY, "Configured", "")], Some(1), later);
        assert_eq!(turned[0].last_transition_time.0, later);
    }
}
