//! Columns of `kubectl get`: what somebody wants to see at a glance, and with `-o wide` why.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// Name, type, JSON path.
type Column = (&'static str, &'static str, &'static str);

const CONNECTOR: &[Column] = &[
    ("Type", "string", ".spec.source.type"),
    ("Tenant", "string", ".spec.tenantId"),
    ("State", "string", ".spec.state"),
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
    ("Connected", "string", ".status.conditions[?(@.type=='Connected')].status"),
    ("Syncing", "string", ".status.conditions[?(@.type=='Syncing')].status"),
    ("Phase", "string", ".status.progress.phase"),
    ("Records", "integer", ".status.progress.recordsProcessed"),
    ("Last Success", "date", ".status.lastSuccessTime"),
    ("DL", "integer", ".status.deadLetters.count"),
    ("Age", "date", ".metadata.creationTimestamp"),
];
const CONNECTOR_WIDE: &[Column] = &[
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason"),
    ("Healthy", "string", ".status.conditions[?(@.type=='Healthy')].status"),
];

const TENANT_SCHEDULE: &[Column] = &[
    ("Tenant", "string", ".spec.tenantId"),
    ("Schedule", "string", ".spec.schedules[0]"),
    ("Suspend", "boolean", ".spec.suspend"),
    ("Paused", "string", ".status.pause.by"),
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
    ("Healthy", "string", ".status.conditions[?(@.type=='Healthy')].status"),
    ("Connectors", "integer", ".status.connectors.total"),
    ("Connected", "integer", ".status.connectors.connected"),
    ("Last Success", "date", ".status.lastSuccessTime"),
    ("Next", "string", ".status.nextRunTime"),
    ("DL", "integer", ".status.connectors.deadLetters"),
    ("Age", "date", ".metadata.creationTimestamp"),
];
const TENANT_SCHEDULE_WIDE: &[Column] = &[
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason"),
    ("Schedule-ID", "string", ".status.schedule.id"),
    ("Synced", "string", ".status.conditions[?(@.type=='Synced')].status"),
    ("Missed", "integer", ".status.counts.missed"),
];

/// Columns of a Connector.
pub(super) fn connector() -> Vec<CustomResourceColumnDefinition> {
    columns(CONNECTOR, CONNECTOR_WIDE)
}

/// Columns of a TenantSchedule. `Next` is text because kubectl shows a date in the future as invalid.
pub(super) fn tenant_schedule() -> Vec<CustomResourceColumnDefinition> {
    columns(TENANT_SCHEDULE, TENANT_SCHEDULE_WIDE)
}

fn columns(always: &[Column], wide: &[Column]) -> Vec<CustomResourceColumnDefinition> {
    let definition = |priority| {
        move |&(name, type_, json_path): &Column| CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: type_.to_owned(),
            json_path: json_path.to_owned(),
            priority,
            ..CustomResourceColumnDefinition::default()
        }
    };
    always.iter().map(definition(None)).chain(wide.iter().map(definition(Some(1)))).collect()
}
