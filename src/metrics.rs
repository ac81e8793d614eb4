//! Metric names and their registry: one const or field each, labels bounded (never a record, an id of a record, or free text).
//! Handed to whoever counts; nothing here is global.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of a dependency's metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dependency {
    /// `store`, `temporal` or `kubernetes`.
    pub dependency: &'static str,
}

/// Labels of a reconciler's metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconcile {
    /// `TenantSchedule`, `Connector` or `WorkerDeployment`.
    pub kind: &'static str,
    /// `error_class::Class::name`, or `Success`.
    pub result: &'static str,
}

/// Labels of the status writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusWrite {
    /// Field manager: whose part of the status it was.
    pub manager: &'static str,
}

/// Labels of an activity's metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActivityEnd {
    /// The activity's type name.
    pub activity: &'static str,
    /// `Success`, `Parked`, or the failure's type.
    pub result: &'static str,
}

/// Labels of what was removed because of its age or its owner's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Removal {
    /// `run`, `deadLetterPayload`, `tombstone`, `stagedBatch`; `purged` for rows of deleted connectors.
    pub kind: &'static str,
}

/// Labels of planned starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlannedBy {
    /// `schedules`: what Temporal's limit is about; `ticks`: syncs that tenants' ticks start.
    pub by: &'static str,
}

/// Labels of the metrics of key files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyFileOf {
    /// `Temporal TLS`, `Temporal API key`, `database` or `identities`.
    pub of: &'static str,
}

/// The process's metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// 1 while the dependency answers, 0 while it does not (R28).
    pub dependency_up: Family<Dependency, Gauge>,
    /// 1 while this process holds the Lease.
    pub leader: Gauge,
    /// Reconciles ended, by result.
    pub reconciles: Family<Reconcile, Counter>,
    /// Status patches sent, by field manager.
    pub status_writes: Family<StatusWrite, Counter>,
    /// Rows and payloads removed by retention and by purges, by kind.
    pub removed: Family<Removal, Counter>,
    /// Schedules in Temporal that have lost their object.
    pub schedule_orphans: Gauge,
    /// Objects with an overdue tick.
    pub schedules_overdue: Gauge,
    /// Workflows that are planned to start a second, in the Temporal namespace.
    pub planned_starts: Family<PlannedBy, Gauge<f64, AtomicU64>>,
    /// 1 while a CRD is missing from the API server.
    pub crd_missing: Gauge,
    /// Activity attempts ended, by result.
    pub activities: Family<ActivityEnd, Counter>,
    /// 1 while what key files hold cannot be used and their former content is in use.
    pub key_files_stale: Family<KeyFileOf, Gauge>,
    /// When our own certificate ends, in seconds since 1970.
    pub certificate_not_after: Family<KeyFileOf, Gauge>,
    /// Records written, unchanged or rejected.
    pub records_processed: Counter,
    /// Records rejected.
    pub records_rejected: Counter,
}

impl Metrics {
    /// Registers every metric under `gtm_sync_`.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        let mut registry = Registry::with_prefix("gtm_sync");
        registry.register("dependency_up", "Whether the dependency answers", self.dependency_up.clone());
        registry.register("leader", "Whether this operator holds the Lease", self.leader.clone());
        registry.register("reconciles", "Reconciles ended, by kind and result", self.reconciles.clone());
        registry.register("status_writes", "Status patches sent, by field manager", self.status_writes.clone());
        registry.register(
            "removed",
            "Rows and payloads removed by retention and purges, by kind",
            self.removed.clone(),
        );
        registry.register(
            "schedule_orphans",
            "Schedules in Temporal that have lost their object",
            self.schedule_orphans.clone(),
        );
        registry.register(
            "schedules_overdue",
            "Schedules of which a tick should have started and did not",
            self.schedules_overdue.clone(),
        );
        registry.register(
            "planned_starts_per_second",
            "Workflows that schedules, and ticks of tenants, are planned to start a second in the Temporal namespace",
            self.planned_starts.clone(),
        );
        registry.register("crd_missing", "Whether a CRD is missing", self.crd_missing.clone());
        registry.register(
            "key_files_stale",
            "Whether key files cannot be used and their former content is in use",
            self.key_files_stale.clone(),
        );
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "When our own certificate ends",
            self.certificate_not_after.clone(),
        );
        registry.register("activities", "Activity attempts ended, by activity and result", self.activities.clone());
        registry.register(
            "records_processed",
            "Records written, unchanged or rejected",
            self.records_processed.clone(),
        );
        registry.register("records_rejected", "Records that became dead letters", self.records_rejected.clone());
        Arc::new(registry)
    }
}

/// The registry as OpenMetrics text.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("encoding into a String");
    text
}
