//! What the servers hold at rest, as lines to be compared: objects with their status, schedules, rows of the store, started
//! runs. Without times, which differ between any two runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    contract::{CHECK_CONNECTION_WORKFLOW, CONNECTOR_SYNC_WORKFLOW},
    crd::conditions::{READY, reason},
    operator::{
        status_part::{CONNECTOR_OBSERVED, TENANT_OBSERVED},
        world_fake::{Object, Servers},
    },
};

/// Fields of a status that tell when; the id of a run is made of a time.
const TIMES: [&str; 9] = [
    "lastTransitionTime",
    "since",
    "time",
    "checkedAt",
    "lastSuccessTime",
    "startTime",
    "endTime",
    "workflowId",
    "oldestWatermark",
];
/// Fields that tell what went before: a fresh install has none of it.
const HISTORY: [&str; 4] = ["observedGeneration", "lastHandled", "generation", "uid"];

const TENANTS: &str = "SELECT tenant_id, cluster_id || '/' || namespace || '/' || name,
    iif(removed_at IS NULL, CAST(wait_seconds AS TEXT), 'removed'), iif(pool = 'dedicated', pool, 'shared'), uid FROM tenant";
const CONNECTORS: &str = "SELECT tenant_id || '/' || connector_id, cluster_id || '/' || namespace || '/' || name,
    desired_state, config, CAST(own_schedule AS TEXT), connection_status, connection_reason, account_id,
    uid || ' ' || generation FROM connector WHERE removed_at IS NULL";
const CREDENTIALS: &str = "SELECT tenant_id || '/' || connector_id, key_id, digest FROM credential
    WHERE (tenant_id, connector_id) IN (SELECT tenant_id, connector_id FROM connector WHERE removed_at IS NULL)";
/// A tenant's token that is nobody's to carry out is as good as none.
const TOKENS: &str = "SELECT tenant_id || '/' || connector_id || '/' || verb, token, outcome FROM handled_token
    UNION SELECT tenant_id || '/' || verb, token, uid FROM tenant_token WHERE uid <> ''";

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// The same script, undisturbed: everything must be equal.
    Undisturbed,
    /// A fresh install of the final specs: all but what went before.
    FreshInstall,
}

/// Lines by what they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub(super) fn of(servers: &Servers, against: Against) -> Self {
        let mut lines = BTreeMap::new();
        let fresh = against == Against::FreshInstall;
        let unplaced = if fresh { unplaced(servers) } else { BTreeSet::new() };
        objects(servers, fresh, &unplaced, &mut lines);
        schedules(servers, fresh, &mut lines);
        for of in &unplaced {
            lines.remove(&format!("schedule sync-{}", of.trim_start().replace('/', "-")));
        }
        for (table, sql) in [("connector", CONNECTORS), ("credential", CREDENTIALS)] {
            rows(servers, table, sql, fresh && table == "connector", &mut lines);
        }
        lines.retain(|key, _| !unplaced.iter().any(|of| key.ends_with(of) && !key.starts_with("object")));
        rows(servers, "tenant", TENANTS, fresh, &mut lines);
        if !fresh {
            rows(servers, "token", TOKENS, false, &mut lines);
            runs(servers, &mut lines);
        }
        Self(lines)
    }

    /// How this one differs from what was expected; empty if it does not.
    pub(super) fn differences(&self, expected: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(expected.0.keys()).collect::<BTreeSet<_>>();
        let differing = keys.into_iter().filter(|key| self.0.get(*key) != expected.0.get(*key));
        let told = |found: Option<&String>| found.map_or("nothing", String::as_str).to_owned();
        differing
            .map(|key| {
                format!("{key}\n    is       {}\n    expected {}", told(self.0.get(key)), told(expected.0.get(key)))
            })
            .collect()
    }
}

/// What people would say of it: objects with what `Ready` says, schedules with their cron lines, what was started by tokens.
pub(super) fn in_words(servers: &Servers) -> Vec<String> {
    let state = servers.state();
    let objects = state.objects.values().map(|object| {
        let conditions = object.status()["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|of| of["type"] == READY).unwrap_or_default();
        format!("{}: {}", object.key, ready["reason"].as_str().unwrap_or("nothing"))
    });
    let schedules = state.schedules.iter().map(|(id, seen)| {
        let crons = seen.wanted_hash.as_ref().and_then(|hash| state.crons.get(hash)).map_or("?", String::as_str);
        let paused = if seen.state.paused { format!(", paused ({})", seen.state.note) } else { String::new() };
        format!("{id}: {crons}{paused}{}", if seen.left { ", left" } else { "" })
    });
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for start in state.started.iter().filter(|start| start.workflow_type != CHECK_CONNECTION_WORKFLOW) {
        let full = if start.input["fullSync"] == true { " (full)" } else { "" };
        *runs.entry(format!("{}{full}", start.workflow_type)).or_default() += 1;
    }
    runs.extend((!state.backfills.is_empty()).then(|| ("backfill".to_owned(), state.backfills.len())));
    let runs = runs.into_iter().map(|(run, count)| format!("{count} {run}"));
    objects.chain(schedules).chain(runs).collect()
}

/// Connectors without a tenant, as ` tenant/name`: what was made and observed of them before stays as it was, where nobody has
/// looked at this life of them yet (R45). A scenario has the others.
fn unplaced(servers: &Servers) -> BTreeSet<String> {
    let state = servers.state();
    let without = state.objects.values().filter(|object| has_reason(object, reason::TENANT_SCHEDULE_NOT_FOUND));
    let ids = |spec: &Value, name: &str| format!(" {}/{name}", spec["tenantId"].as_str().unwrap_or_default());
    without.map(|object| ids(&object.spec, &object.key.name)).collect()
}

fn has_reason(object: &Object, reason: &str) -> bool {
    let conditions = object.status()["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|of| of["type"] == READY && of["reason"] == reason)
}

fn objects(servers: &Servers, fresh: bool, unplaced: &BTreeSet<String>, lines: &mut BTreeMap<String, String>) {
    for object in servers.state().objects.values() {
        let mut object = object.clone();
        let ids = format!(" {}/{}", object.spec["tenantId"].as_str().unwrap_or_default(), object.key.name);
        if unplaced.contains(&ids) {
            object.parts.remove(CONNECTOR_OBSERVED.manager);
            let of_reconciler = object.parts.values_mut().filter_map(Value::as_object_mut);
            of_reconciler.for_each(|fields| fields.retain(|field, _| field == "conditions"));
        }
        // Of two that want a tenant one is observed: which, when both have lost it, is history, too.
        if fresh && has_reason(&object, reason::TENANT_CONFLICT) {
            object.parts.remove(TENANT_OBSERVED.manager);
        }
        let mut json = object.json();
        if let Some(metadata) = json["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
            metadata.remove("annotations");
        }
        if let Some(Value::Array(conditions)) = json.pointer_mut("/status/conditions") {
            conditions.sort_by_key(|condition| condition["type"].to_string());
        }
        strip(&mut json, fresh);
        lines.insert(format!("object {}", object.key), json.to_string());
    }
}

/// Takes away what differs between any two runs, and what went before.
fn strip(value: &mut Value, fresh: bool) {
    match value {
        Value::Object(fields) => {
            fields.retain(|field, _| !(TIMES.contains(&field.as_str()) || fresh && HISTORY.contains(&field.as_str())));
            fields.values_mut().for_each(|field| strip(field, fresh));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, fresh)),
        _ => {}
    }
}

/// One that its former object left stands beside a fresh install.
fn schedules(servers: &Servers, fresh: bool, lines: &mut BTreeMap<String, String>) {
    for (id, schedule) in servers.state().schedules.iter().filter(|(_, schedule)| !(fresh && schedule.left)) {
        let mut schedule = schedule.clone();
        schedule.conflict_token.clear();
        schedule.recent.iter_mut().for_each(|run| run.started = run.tick);
        lines.insert(format!("schedule {id}"), format!("{schedule:?}"));
    }
}

fn rows(servers: &Servers, table: &str, sql: &str, without_life: bool, lines: &mut BTreeMap<String, String>) {
    for mut row in servers.file.rows(sql) {
        if without_life {
            row.pop();
        }
        let key = row.remove(0).unwrap_or_default();
        lines.insert(format!("{table} {key}"), format!("{row:?}"));
    }
}

/// A check may be made once more; a run that was asked for may not. The id of one is made of the time of its recording.
fn runs(servers: &Servers, lines: &mut BTreeMap<String, String>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for start in &servers.state().started {
        match start.workflow_type {
            CHECK_CONNECTION_WORKFLOW => drop(counts.insert(format!("check {}", start.workflow_id), 1)),
            CONNECTOR_SYNC_WORKFLOW => *counts.entry(format!("run {}", start.input)).or_default() += 1,
            _ => *counts.entry(format!("run {} {}", start.workflow_id, start.input)).or_default() += 1,
        }
    }
    for backfill in &servers.state().backfills {
        *counts.entry(format!("backfill {}", backfill.request_id)).or_default() += 1;
    }
    lines.extend(counts.into_iter().map(|(run, count)| (run, count.to_string())));
}
