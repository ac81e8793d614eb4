//! What the shells of the reconcilers and the loops share: caches, world, who we are, and what is remembered in memory only.
//! Nothing here is needed to be right after a restart; it saves work.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    back_off::BackOff,
    connection_checks::Checks,
    connector::{Vault, check},
    cron_workflows::CronWorkflows,
    dependencies::Dependencies,
    error::Dependency,
    events::Announcer,
    fleet::Fleet,
    leadership::Leadership,
    live_world::TemporalSlot,
    names::Installation,
    schedule_overdue::Punctuality,
    world::{Kind, ObjectKey, World},
};
use crate::{
    health::Liveness,
    ids::{ConnectorId, TenantId},
    metrics::Metrics,
    store::{ConnectorStatusRow, Store},
    temporal::Pacer,
};

/// A connector by its ids.
pub type ConnectorIds = (TenantId, ConnectorId);

/// A run that the store shows at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its connector.
    pub ids: ConnectorIds,
    /// Its workflow id.
    pub workflow_id: String,
    /// When it began.
    pub started_at: Timestamp,
}

/// What everybody shares.
pub struct Context {
    /// The seam to the outside.
    pub world: Arc<dyn World>,
    /// Whether we may act.
    pub leadership: Leadership,
    /// When Temporal may be asked.
    pub pacer: Arc<Pacer>,
    /// Cron workflows that still tick for tenants.
    pub cron_workflows: Arc<CronWorkflows>,
    /// The store, for the loops that read it.
    pub store: Arc<dyn Store>,
    /// Temporal, once connected.
    pub temporal: TemporalSlot,
    /// The watch caches.
    pub fleet: Fleet,
    /// Who we are.
    pub installation: Installation,
    /// Seals credentials, to the recipient as last seen.
    pub vault: watch::Receiver<Vault>,
    /// How long between two looks at a settled object.
    pub resync: Duration,
    /// How long a deleted Connector's rows wait for their purge.
    pub purge_grace: Duration,
    /// How late a tick may start, beyond its spread.
    pub overdue_margin: Duration,
    /// Seconds that a schedule without its object stays in Temporal.
    pub orphan_grace: Duration,
    /// Whether the outside answers.
    pub dependencies: Dependencies,
    /// Where loops say that they go round.
    pub liveness: Liveness,
    /// Sends Events.
    pub announcer: Announcer,
    /// Counts.
    pub metrics: Metrics,
    /// Failing objects.
    pub back_off: BackOff,
    /// What is remembered of connectors.
    pub memory: Memory,
    /// Checks of connections that are to be started.
    pub checks: Checks,
}

impl Context {
    /// How late a tick may be, as of now.
    #[must_use]
    pub fn punctuality(&self) -> Punctuality {
        Punctuality { margin: self.overdue_margin, since: self.dependencies.answers_since(Dependency::Temporal) }
    }
}

/// What is remembered of connectors.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    checks: HashMap<ObjectKey, check::Memory>,
    projected: HashMap<ConnectorIds, ObjectKey>,
    rows: HashMap<ConnectorIds, ConnectorStatusRow>,
    dirty: HashSet<ConnectorIds>,
    told: HashMap<ObjectKey, Timestamp>,
}

impl Remembered {
    fn holds(&mut self, ids: ConnectorIds, key: &ObjectKey) {
        if self.projected.insert(ids.clone(), key.clone()).as_ref() != Some(key) {
            self.dirty.insert(ids);
        }
    }
}

impl Memory {
    /// What is remembered of an object's checks.
    #[must_use]
    pub fn checks(&self, key: &ObjectKey) -> Option<check::Memory> {
        self.lock().checks.get(key).copied()
    }

    /// The check that was asked for did not start.
    pub fn unchecked(&self, key: &ObjectKey) {
        self.lock().checks.remove(key);
    }

    /// The store's row of a connector, as last read.
    #[must_use]
    pub fn row(&self, ids: &ConnectorIds) -> Option<ConnectorStatusRow> {
        self.lock().rows.get(ids).cloned()
    }

    /// The object whose projection the store holds for these ids.
    #[must_use]
    pub fn projected(&self, ids: &ConnectorIds) -> Option<ObjectKey> {
        self.lock().projected.get(ids).cloned()
    }

    /// After a reconcile: its checks; and whether the store holds its projection, so that its row is its status.
    pub fn reconciled(&self, key: &ObjectKey, ids: ConnectorIds, checks: Option<check::Memory>, projected: bool) {
        let mut inner = self.lock();
        if let Some(checks) = checks {
            inner.checks.insert(key.clone(), checks);
        }
        if projected {
            inner.holds(ids, key);
        }
    }

    /// The store was read, and holds a projection of this object.
    pub fn holds(&self, ids: ConnectorIds, key: &ObjectKey) {
        self.lock().holds(ids, key);
    }

    /// The object is gone.
    pub fn forget(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        inner.checks.remove(key);
        let gone: Vec<_> = inner.projected.extract_if(|_, of| of == key).map(|(ids, _)| ids).collect();
        for ids in gone {
            inner.rows.remove(&ids);
            inner.dirty.remove(&ids);
        }
    }

    /// A row as read from the store; whether it differs from what was known, with what was known.
    pub fn observed(&self, row: ConnectorStatusRow) -> Option<Option<ConnectorStatusRow>> {
        let ids = (row.tenant_id.clone(), row.connector_id.clone());
        let mut inner = self.lock();
        if inner.rows.get(&ids) == Some(&row) {
            return None;
        }
        inner.dirty.insert(ids.clone());
        Some(inner.rows.insert(ids, row))
    }

    /// Connectors whose status may be behind: news, and runs at work.
    #[must_use]
    pub fn to_show(&self) -> Vec<ConnectorIds> {
        let inner = self.lock();
        let running =
            inner.rows.iter().filter(|(_, row)| row.last_run.as_ref().is_some_and(|run| run.outcome.is_none()));
        let mut ids: HashSet<_> = running.map(|(ids, _)| ids.clone()).collect();
        ids.extend(inner.dirty.iter().cloned());
        ids.into_iter().collect()
    }

    /// People were told something of an object: its observed part may follow, once the watch shows what was written.
    pub fn told(&self, key: &ObjectKey, now: Timestamp) {
        self.lock().told.insert(key.clone(), now);
    }

    /// Connectors of which people were told something since then may be behind; so may the TenantSchedules that are returned.
    /// What is older is forgotten.
    #[must_use]
    pub fn told_since(&self, since: Timestamp) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        inner.told.retain(|_, at| *at >= since);
        if inner.told.is_empty() {
            return Vec::new();
        }
        let told = inner.projected.iter().filter(|(_, key)| inner.told.contains_key(key));
        let behind: Vec<_> = told.map(|(ids, _)| ids.clone()).collect();
        inner.dirty.extend(behind);
        inner.told.keys().filter(|key| key.kind == Kind::TenantSchedule).cloned().collect()
    }

    /// Runs that are at work, as last read.
    #[must_use]
    pub fn open_runs(&self) -> Vec<OpenRun> {
        let open = |(ids, row): (&ConnectorIds, &ConnectorStatusRow)| {
            let run = row.last_run.as_ref().filter(|run| run.outcome.is_none())?;
            Some(OpenRun { ids: ids.clone(), workflow_id: run.workflow_id.clone(), started_at: run.started_at })
        };
        self.lock().rows.iter().filter_map(open).collect()
    }

    /// Its status may be behind, though its row did not change.
    pub fn show(&self, ids: &ConnectorIds) {
        self.lock().dirty.insert(ids.clone());
    }

    /// Their status is no longer behind.
    pub fn shown(&self, ids: &ConnectorIds) {
        self.lock().dirty.remove(ids);
    }

    /// All may be behind: somebody else may have written, or a status was lost.
    pub fn show_all(&self) {
        let mut inner = self.lock();
        let all: Vec<_> = inner.projected.keys().cloned().collect();
        inner.dirty.extend(all);
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
