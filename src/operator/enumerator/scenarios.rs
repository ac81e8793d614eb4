//! What happens to objects in the runs that are enumerated. Each script leaves the operator time to settle between two edits:
//! edits in the middle of a reconcile are `lives`'.

use serde_json::{Value, json};

use super::simulation::Simulation;
use crate::{
    crd::{FORCE_DELETE_ANNOTATION, REQUESTED_AT_ANNOTATION},
    operator::{
        schedule::tests::{seen, wanted},
        world::ObjectKey,
    },
    store::RunEnd,
    temporal::{cron_workflows::CronWorkflow, schedules::SeenSchedule},
};

/// Between two edits: longer than any back-off after one fault, shorter than a resync.
const SETTLED: i64 = 60;

/// A named script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) script: fn(&mut Simulation),
    /// What is there at its end, undisturbed (`snapshot::in_words`).
    pub(super) end: &'static [&'static str],
}

/// All of them; those about tenants alone come first.
pub(super) const ALL: [Scenario; 23] = [
    Scenario {
        name: "tenant",
        script: tenant,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: 0 */4 * * *"],
    },
    Scenario {
        name: "tenant-edited",
        script: tenant_edited,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: @daily"],
    },
    Scenario {
        name: "tenant-updated-slowly",
        script: tenant_updated_slowly,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: @daily"],
    },
    Scenario {
        name: "tenant-triggered",
        script: tenant_triggered,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: 0 */4 * * *", "3 scheduledSyncWorkflow"],
    },
    Scenario {
        name: "tenant-backfilled",
        script: tenant_backfilled,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "scheduled-sync-acme: 0 */4 * * *",
            "1 backfill",
            "1 scheduledSyncWorkflow",
        ],
    },
    Scenario {
        name: "tenant-beside-cron",
        script: tenant_beside_cron,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: 0 */4 * * *"],
    },
    Scenario { name: "tenant-beside-a-schedule", script: tenant_beside_a_schedule, end: &["scheduled-sync-acme: ?"] },
    Scenario {
        name: "tenant-edited-by-hand",
        script: tenant_edited_by_hand,
        end: &["TenantSchedule acme/acme: PausedByPerson", "scheduled-sync-acme: 0 */4 * * *, paused (Kim: importing)"],
    },
    Scenario { name: "tenant-deleted", script: tenant_deleted, end: &[] },
    Scenario {
        name: "tenant-reborn",
        script: tenant_reborn,
        end: &["TenantSchedule acme/acme: Scheduled", "scheduled-sync-acme: @hourly"],
    },
    Scenario { name: "tenant-withdrawn", script: tenant_withdrawn, end: &[] },
    Scenario { name: "tenant-orphaned", script: tenant_orphaned, end: &["scheduled-sync-acme: @weekly"] },
    Scenario {
        name: "tenant-contested",
        script: tenant_contested,
        end: &[
            "TenantSchedule acme/heir: Scheduled",
            "TenantSchedule elsewhere/acme: TenantConflict",
            "scheduled-sync-acme: @daily",
        ],
    },
    Scenario {
        name: "connector",
        script: connector,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "scheduled-sync-acme: 0 */4 * * *",
            "sync-acme-hubspot: */30 * * * *",
        ],
    },
    Scenario {
        name: "connector-asked",
        script: connector_asked,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
            "3 connectorSyncWorkflow",
            "1 connectorSyncWorkflow (full)",
        ],
    },
    Scenario {
        name: "connector-rescheduled",
        script: connector_rescheduled,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
        ],
    },
    Scenario {
        name: "connector-deleted",
        script: connector_deleted,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
            "sync-acme-hubspot: @daily",
        ],
    },
    Scenario {
        name: "connector-first",
        script: connector_first,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "scheduled-sync-acme: 0 */4 * * *",
            "sync-acme-hubspot: @hourly",
        ],
    },
    Scenario {
        name: "connector-elsewhere",
        script: connector_elsewhere,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "TenantSchedule elsewhere/acme: TenantConflict",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
            "sync-acme-hubspot: @hourly",
        ],
    },
    Scenario {
        name: "connector-bereft",
        script: connector_bereft,
        end: &["Connector acme/hubspot: TenantScheduleNotFound", "Connector acme/stays: TenantScheduleNotFound"],
    },
    Scenario {
        name: "connector-of-a-dedicated-tenant",
        script: connector_of_a_dedicated_tenant,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
        ],
    },
    Scenario {
        name: "connector-failing",
        script: connector_failing,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
            "4 connectorSyncWorkflow",
        ],
    },
    Scenario {
        name: "statuses-lost",
        script: statuses_lost,
        end: &[
            "TenantSchedule acme/acme: Scheduled",
            "Connector acme/hubspot: Configured",
            "Connector acme/stays: Paused",
            "scheduled-sync-acme: 0 */4 * * *",
        ],
    },
];

pub(super) fn tenant_spec(extra: Value) -> Value {
    with(json!({"tenantId": "acme"}), extra)
}

pub(super) fn connector_spec(extra: Value) -> Value {
    let whole = json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
        "credentials": {"secretRef": {"name": "crm"}}});
    with(whole, extra)
}

fn with(mut whole: Value, extra: Value) -> Value {
    if let (Some(whole), Value::Object(extra)) = (whole.as_object_mut(), extra) {
        whole.extend(extra);
    }
    whole
}

fn a_tenant(of: &mut Simulation, extra: Value) -> ObjectKey {
    let key = of.tenant("acme", "acme", tenant_spec(extra));
    of.run_for(SETTLED);
    key
}

fn a_connector(of: &mut Simulation, extra: Value) -> ObjectKey {
    let key = of.connector("acme", "hubspot", connector_spec(extra));
    of.run_for(SETTLED);
    key
}

/// A tenant, a Secret, and a connector that stays: a view without any Connector sweeps nothing (R11).
fn a_home(of: &mut Simulation) {
    of.secret("acme", "crm", "canary");
    of.tenant("acme", "acme", tenant_spec(json!({})));
    of.connector("acme", "stays", connector_spec(json!({"state": "Paused"})));
    of.run_for(SETTLED);
}

fn deleted(of: &mut Simulation, key: &ObjectKey) {
    of.delete(key);
    of.run_for(SETTLED);
}

fn tenant(of: &mut Simulation) {
    a_tenant(of, json!({}));
}

fn tenant_edited(of: &mut Simulation) {
    a_tenant(of, json!({}));
    a_tenant(of, json!({"schedules": ["@daily"], "suspend": true}));
    a_tenant(of, json!({"schedules": ["@daily"]}));
}

fn tenant_updated_slowly(of: &mut Simulation) {
    of.servers.state().update_lag = 1;
    a_tenant(of, json!({}));
    a_tenant(of, json!({"schedules": ["@hourly"]}));
    of.servers.state().update_lag = 9;
    a_tenant(of, json!({"schedules": ["@daily"]}));
}

fn tenant_triggered(of: &mut Simulation) {
    let key = a_tenant(of, json!({"requests": {"trigger": {"token": "from-git"}}}));
    a_tenant(of, json!({"requests": {"trigger": {"token": "now"}}}));
    of.servers.state().annotate(&key, REQUESTED_AT_ANNOTATION, "later");
    a_tenant(of, json!({"requests": {"trigger": {"token": "again"}}}));
}

fn tenant_backfilled(of: &mut Simulation) {
    a_tenant(of, json!({}));
    let wish = |token: &str| json!({"token": token, "from": "2026-11-22T00:00:00Z", "to": "2026-11-23T00:00:00Z"});
    a_tenant(of, json!({"requests": {"backfill": wish("outage"), "trigger": {"token": "now"}}}));
}

fn tenant_beside_cron(of: &mut Simulation) {
    let cron = CronWorkflow {
        workflow_id: "nightly".to_owned(),
        first_run_id: "r1".to_owned(),
        tenant_id: "acme".parse().expect("an id"),
    };
    of.servers.state().cron_workflows.insert("acme".to_owned(), cron);
    a_tenant(of, json!({}));
    a_tenant(of, json!({"conflictPolicy": "Adopt"}));
}

fn tenant_beside_a_schedule(of: &mut Simulation) {
    // Somebody made it with a script of their own.
    let theirs = SeenSchedule { owner: None, wanted_hash: None, ..seen(&wanted()) };
    of.servers.state().schedules.insert("scheduled-sync-acme".to_owned(), theirs);
    let key = a_tenant(of, json!({}));
    deleted(of, &key);
}

fn tenant_edited_by_hand(of: &mut Simulation) {
    a_tenant(of, json!({}));
    of.servers.state().edit_schedule("scheduled-sync-acme", |schedule| {
        schedule.echo = "edited".to_owned();
        schedule.state.paused = true;
        schedule.state.note = "Kim: importing".to_owned();
    });
    // Found by the next look.
    of.run_for(800);
    a_tenant(of, json!({"overlapPolicy": "BufferOne"}));
}

fn tenant_deleted(of: &mut Simulation) {
    let key = a_tenant(of, json!({}));
    deleted(of, &key);
}

fn tenant_reborn(of: &mut Simulation) {
    let key = a_tenant(of, json!({}));
    deleted(of, &key);
    a_tenant(of, json!({"schedules": ["@hourly"], "requests": {"trigger": {"token": "old"}}}));
}

/// Applied and taken back before anybody looked.
fn tenant_withdrawn(of: &mut Simulation) {
    let key = of.tenant("acme", "acme", tenant_spec(json!({})));
    deleted(of, &key);
}

fn tenant_orphaned(of: &mut Simulation) {
    let key = a_tenant(of, json!({"deletionPolicy": "Orphan"}));
    deleted(of, &key);
    let key = a_tenant(of, json!({"schedules": ["@weekly"]}));
    of.servers.state().annotate(&key, FORCE_DELETE_ANNOTATION, "true");
    deleted(of, &key);
}

/// The loser comes, goes, comes again, and wins nothing when the winner goes.
fn tenant_contested(of: &mut Simulation) {
    let winner = a_tenant(of, json!({}));
    let loser = of.tenant("elsewhere", "acme", tenant_spec(json!({"schedules": ["@hourly"]})));
    of.run_for(SETTLED);
    deleted(of, &loser);
    of.tenant("elsewhere", "acme", tenant_spec(json!({})));
    let heir = of.tenant("acme", "heir", tenant_spec(json!({"schedules": ["@daily"]})));
    of.run_for(SETTLED);
    deleted(of, &winner);
    of.run_for(SETTLED);
    assert!(of.servers.state().object(&heir).is_some(), "it stays");
}

fn connector(of: &mut Simulation) {
    of.secret("acme", "crm", "canary");
    a_tenant(of, json!({}));
    a_connector(of, json!({"sync": {"schedules": ["*/30 * * * *"]}}));
}

fn connector_asked(of: &mut Simulation) {
    a_home(of);
    let key = a_connector(of, json!({"requests": {"sync": {"token": "from-git"}}}));
    a_connector(of, json!({"requests": {"sync": {"token": "now"}}}));
    of.servers.state().annotate(&key, REQUESTED_AT_ANNOTATION, "later");
    of.run_for(SETTLED);
    a_connector(of, json!({"requests": {"sync": {"token": "now"}, "fullSync": {"token": "all"}}}));
    a_connector(of, json!({"requests": {"resetCursor": {"token": "reset"}, "replay": {"token": "letters"}}}));
}

fn connector_rescheduled(of: &mut Simulation) {
    a_home(of);
    a_connector(of, json!({"sync": {"schedules": ["@hourly"]}}));
    a_connector(of, json!({"sync": {"schedules": ["@daily"]}, "state": "Paused"}));
    a_connector(of, json!({"sync": {"schedules": ["@daily"]}, "state": "Stopped"}));
    a_connector(of, json!({}));
}

fn connector_deleted(of: &mut Simulation) {
    a_home(of);
    let key = a_connector(of, json!({"sync": {"schedules": ["@hourly"]}}));
    deleted(of, &key);
    let key = a_connector(of, json!({"requests": {"sync": {"token": "old"}}}));
    of.delete(&key);
    a_connector(of, json!({"requests": {"sync": {"token": "old"}}, "sync": {"schedules": ["@daily"]}}));
}

/// Everything that it needs comes after it.
fn connector_first(of: &mut Simulation) {
    a_connector(of, json!({"sync": {"schedules": ["@hourly"]}}));
    a_tenant(of, json!({}));
    of.secret("acme", "crm", "canary");
    of.run_for(600);
    of.secret("acme", "crm", "rotated");
    of.run_for(800);
}

/// In a namespace that does not hold the tenant.
fn connector_elsewhere(of: &mut Simulation) {
    a_home(of);
    of.secret("elsewhere", "crm", "another");
    of.tenant("elsewhere", "acme", tenant_spec(json!({})));
    let own = || json!({"sync": {"schedules": ["@hourly"]}});
    let key = of.connector("elsewhere", "hubspot", connector_spec(own()));
    of.run_for(SETTLED);
    a_connector(of, own());
    deleted(of, &key);
}

/// Its tenant goes, and its own schedule with it.
fn connector_bereft(of: &mut Simulation) {
    a_home(of);
    a_connector(of, json!({"sync": {"schedules": ["@hourly"]}}));
    let tenant = of.tenant("acme", "acme", tenant_spec(json!({})));
    deleted(of, &tenant);
}

/// Its credential follows its tenant: to workers of its own, back, and there again.
fn connector_of_a_dedicated_tenant(of: &mut Simulation) {
    a_home(of);
    a_connector(of, json!({}));
    for mode in ["Dedicated", "Shared", "Dedicated"] {
        a_tenant(of, json!({"workers": {"mode": mode}}));
    }
}

/// Each run is followed by one: two that failed, one that ended at its budget.
fn connector_failing(of: &mut Simulation) {
    a_home(of);
    let restarts = json!({"maxRestarts": 3, "initialBackoff": "1s", "maxBackoff": "1s"});
    a_connector(of, json!({"autoRestart": restarts}));
    let failed = || RunEnd::Failed("Unavailable".to_owned());
    of.ends = [failed(), RunEnd::More, failed(), RunEnd::Complete].into();
    a_connector(of, json!({"autoRestart": restarts, "requests": {"sync": {"token": "now"}}}));
    of.run_for(2 * SETTLED);
}

/// As a backup without statuses restores objects.
fn statuses_lost(of: &mut Simulation) {
    a_home(of);
    let key = a_connector(of, json!({}));
    let places: Vec<_> = of.servers.state().objects.keys().cloned().collect();
    for place in places {
        of.servers.state().edit(&place, |object| object.parts.clear());
    }
    // Found by the next look, and the next comparison of what is observed.
    of.run_for(1_500);
    let status = of.servers.state().object(&key).expect("it stays").status();
    assert_eq!(status["connection"]["status"], "Connected", "{status}");
}
