//! Store → CR: one incremental query a second, written to status when it means something and the pace allows (R27, R40).
//! Derives nothing itself: `connector::observe` and `tenant_schedule::observe` do.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;

use super::{
    connector::observe as connector_observe,
    context::{ConnectorIds, Context},
    error::{Dependency, Error},
    fleet::is_loser,
    live_world::{STORE_DEADLINE, store_deadline},
    names::Installation,
    status_pace::{Pace, Urgency, urgency},
    status_part::{CONNECTOR_OBSERVED, TENANT_OBSERVED, status_of},
    tenant_schedule::observe::{self as tenant_observe, Member},
    worker_deployment::status::Availability,
    world::{Kind, ObjectKey, Request, StartWorkflow, StatusPart},
};
use crate::{
    contract::{
        CONNECTOR_SYNC_WORKFLOW,
        workflows::{ConnectionStatus, ConnectorSyncInput},
    },
    crd::{Connector, ConnectorState, TenantSchedule, conditions::HEALTHY},
    health::Pulse,
    ids::TenantId,
    store::{ConnectorStatusRow, RunOutcome},
    temporal::client::IdReuse,
};

/// Between two queries.
const PERIOD: Duration = Duration::from_secs(1);
/// A round beats before each of its calls, which have shorter deadlines.
const BEAT: Duration = Duration::from_secs(20);
/// A transaction may commit after a later one was read: read that far back again (R27).
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// A write takes a moment to come back by the watch; until then the same write is not repeated.
const ECHO: SignedDuration = SignedDuration::from_secs(10);

/// The loop's state.
pub(super) struct Shown {
    since: Option<Timestamp>,
    compared_at: Timestamp,
    pace: Pace,
    pulse: Pulse,
    /// What was last written, until the watch shows it.
    written: HashMap<ObjectKey, (StatusPart, Timestamp)>,
    /// Tenants whose aggregate may be behind.
    tenants: HashSet<(String, TenantId)>,
    workers: Option<Availability>,
    /// Of the caches, when tenants were last counted.
    population: u64,
}

/// Runs until the process ends.
pub async fn keep(workers: watch::Receiver<Option<Availability>>, context: Arc<Context>) {
    context.fleet.ready().await;
    let mut shown = Shown::new(&context);
    loop {
        shown.round(&workers, &context).await;
        tokio::time::sleep(PERIOD).await;
    }
}

impl Shown {
    /// Nothing is shown yet.
    pub(super) fn new(context: &Context) -> Self {
        let now = context.world.now();
        Self {
            since: None,
            compared_at: now,
            pace: Pace::new(now),
            pulse: context.liveness.pulse("status", BEAT),
            written: HashMap::new(),
            tenants: HashSet::new(),
            workers: None,
            population: 0,
        }
    }

    /// Reads what changed, writes what may be written.
    pub(super) async fn round(&mut self, workers: &watch::Receiver<Option<Availability>>, context: &Context) {
        let now = context.world.now();
        let resync = SignedDuration::try_from(context.resync).unwrap_or(SignedDuration::MAX);
        let full = now.duration_since(self.compared_at) >= resync;
        let workers = *workers.borrow();
        if full || workers != self.workers {
            self.workers = workers;
            self.all_tenants(context);
        }
        if full {
            self.begin_compare(context, now);
        }
        if self.read(context).await {
            self.show_connectors(context, now).await;
            self.show_tenants(context, now).await;
        }
    }

    /// Every status is compared anew: rows may have been restored, statuses lost (R29).
    fn begin_compare(&mut self, context: &Context, now: Timestamp) {
        self.compared_at = now;
        self.since = None;
        context.memory.show_all();
        let live: HashSet<_> = context.fleet.connectors().iter().filter_map(|object| object.uid()).collect();
        let tenants: HashSet<_> = context.fleet.tenants().iter().filter_map(|object| object.uid()).collect();
        self.pace.forget_all_but(|key| live.contains(&key.uid) || tenants.contains(&key.uid));
        self.written.retain(|key, _| live.contains(&key.uid) || tenants.contains(&key.uid));
    }

    /// One incremental query; `false` when the store is away, and statuses keep their last value (R28).
    async fn read(&mut self, context: &Context) -> bool {
        self.pulse.beat();
        let page = store_deadline(STORE_DEADLINE, context.store.connector_statuses(self.since)).await;
        let page = page.map_err(Error::Store);
        context.dependencies.observe(Dependency::Store, &page);
        let Ok(page) = page else { return false };
        self.since = Some(page.as_of - OVERLAP);
        for row in page.rows {
            let ids = (row.tenant_id.clone(), row.connector_id.clone());
            let refused = row.connection_status == ConnectionStatus::Disconnected;
            let next = continuation(&row, &context.installation);
            let Some(before) = context.memory.observed(row) else { continue };
            let Some(key) = context.memory.projected(&ids) else { continue };
            let was = before.map(|before: ConnectorStatusRow| before.connection_status);
            if let Some(next) = next {
                self.go_on(&key, next, context).await;
            }
            // The Secret may have a new value by now: look at once (R32).
            if refused && was.is_some_and(|was| was != ConnectionStatus::Disconnected) {
                context.fleet.trigger(&key);
            }
        }
        true
    }

    /// Starts the next run after one that ended at its budget (R21). A failure is left to the next tick, which goes on too.
    async fn go_on(&self, key: &ObjectKey, next: Request, context: &Context) {
        let object = context.fleet.connector(&key.namespace, &key.name);
        if object.is_none_or(|object| object.spec.state != ConnectorState::Running) {
            return;
        }
        self.pulse.beat();
        match context.world.call(next).await {
            Ok(_) => tracing::debug!(object = %key, "the run after one that ended at its budget is started"),
            Err(error) => tracing::warn!(object = %key, %error, "the next run is left to the next tick"),
        }
    }

    async fn show_connectors(&mut self, context: &Context, now: Timestamp) {
        for ids in context.memory.to_show() {
            let Some(key) = context.memory.projected(&ids) else { continue };
            let object = context.fleet.connector(&key.namespace, &key.name);
            let object = object.filter(|object| object.meta().uid.as_deref() == Some(&key.uid));
            match (object, context.memory.row(&ids)) {
                (Some(object), Some(row)) => self.show_connector(&ids, &key, &object, &row, context, now).await,
                _ => context.memory.shown(&ids),
            }
        }
    }

    async fn show_connector(
        &mut self,
        ids: &ConnectorIds,
        key: &ObjectKey,
        object: &Connector,
        row: &ConnectorStatusRow,
        context: &Context,
        now: Timestamp,
    ) {
        let before = object.status.clone().unwrap_or_default();
        let after = connector_observe::status(row, &before, now);
        let part = CONNECTOR_OBSERVED.part(&after);
        if part == CONNECTOR_OBSERVED.part(&before) || self.is_on_its_way(key, &part, now) {
            context.memory.shown(ids);
            return;
        }
        let run_started_at = row.last_run.as_ref().filter(|run| run.outcome.is_none()).map(|run| run.started_at);
        if !self.pace.may_write(key, urgency(&before, &after), run_started_at, now) {
            return;
        }
        if self.write(key, part, context, now).await {
            context.memory.shown(ids);
            self.tenants.insert((key.namespace.clone(), ids.0.clone()));
            for note in connector_observe::notes(&before, &after) {
                context.announcer.about(key, note);
            }
        }
    }

    fn all_tenants(&mut self, context: &Context) {
        for object in context.fleet.tenants() {
            if let (Some(namespace), Ok(object)) = (object.namespace(), &object.0) {
                self.tenants.insert((namespace, object.spec.tenant_id.clone()));
            }
        }
    }

    async fn show_tenants(&mut self, context: &Context, now: Timestamp) {
        self.new_tenants(context);
        if self.tenants.is_empty() {
            return;
        }
        let members = members(context, &self.tenants, now);
        for tenant in self.tenants.clone() {
            let Some(object) = context.fleet.tenant(&tenant.0, &tenant.1) else {
                self.tenants.remove(&tenant);
                continue;
            };
            let members = members.get(&tenant).map(Vec::as_slice).unwrap_or_default();
            if self.show_tenant(&object, members, context, now).await {
                self.tenants.remove(&tenant);
            }
        }
    }

    /// Tenants and connectors that were just created, or whose number changed.
    fn new_tenants(&mut self, context: &Context) {
        let population = context.fleet.population();
        if std::mem::replace(&mut self.population, population) == population {
            return;
        }
        let mut totals: HashMap<(String, TenantId), i32> = HashMap::new();
        for object in context.fleet.connectors() {
            if let (Some(namespace), Ok(object)) = (object.namespace(), &object.0) {
                *totals.entry((namespace, object.spec.tenant_id.clone())).or_default() += 1;
            }
        }
        for object in context.fleet.tenants() {
            let (Some(namespace), Ok(object)) = (object.namespace(), &object.0) else { continue };
            if is_loser(object) {
                continue;
            }
            let tenant = (namespace, object.spec.tenant_id.clone());
            let shown = object.status.as_ref().and_then(|status| status.connectors.as_ref()).map(|counts| counts.total);
            if shown != Some(totals.get(&tenant).copied().unwrap_or_default()) {
                self.tenants.insert(tenant);
            }
        }
    }

    /// Whether nothing is left to show.
    async fn show_tenant(
        &mut self,
        object: &TenantSchedule,
        members: &[Member],
        context: &Context,
        now: Timestamp,
    ) -> bool {
        let key = ObjectKey {
            kind: Kind::TenantSchedule,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        };
        let before = object.status.clone().unwrap_or_default();
        let after = tenant_observe::status(members, self.workers.as_ref(), &before, now);
        let part = TENANT_OBSERVED.part(&after);
        if part == TENANT_OBSERVED.part(&before) || self.is_on_its_way(&key, &part, now) {
            return true;
        }
        let turned = part.fields.get("conditions") != TENANT_OBSERVED.part(&before).fields.get("conditions");
        let urgency = if turned { Urgency::Now } else { Urgency::Counters };
        self.pace.may_write(&key, urgency, None, now) && self.write(&key, part, context, now).await
    }

    fn is_on_its_way(&self, key: &ObjectKey, part: &StatusPart, now: Timestamp) -> bool {
        self.written.get(key).is_some_and(|(written, at)| written == part && now.duration_since(*at) < ECHO)
    }

    async fn write(&mut self, key: &ObjectKey, part: StatusPart, context: &Context, now: Timestamp) -> bool {
        self.pulse.beat();
        match context.world.call(Request::ApplyStatus(key.clone(), part.clone())).await {
            Ok(_) => {
                self.written.insert(key.clone(), (part, now));
                true
            }
            Err(error) => {
                tracing::debug!(object = %key, %error, "status not written yet");
                false
            }
        }
    }
}

/// The run that follows one which ended at its budget: it goes on where that one stood. Its id is made of that one's end,
/// so that however often this is read, one run follows.
fn continuation(row: &ConnectorStatusRow, installation: &Installation) -> Option<Request> {
    let run = row.last_run.as_ref().filter(|run| run.outcome == Some(RunOutcome::More))?;
    let input = ConnectorSyncInput {
        tenant_id: row.tenant_id.clone(),
        connector_id: row.connector_id.clone(),
        full_sync: false,
    };
    Some(Request::StartWorkflow(StartWorkflow {
        workflow_type: CONNECTOR_SYNC_WORKFLOW,
        workflow_id: installation.names.sync_run(&row.tenant_id, &row.connector_id, run.finished_at?),
        input: serde_json::to_value(input).expect("two text fields and a flag"),
        reuse: IdReuse::Once,
    }))
}

/// What is known of the connectors of some tenants. A verdict comes from the row, not from the cached status: that one lags
/// behind what was just written, and a tenant counted by it would stay wrong until the next change.
fn members(
    context: &Context,
    of: &HashSet<(String, TenantId)>,
    now: Timestamp,
) -> BTreeMap<(String, TenantId), Vec<Member>> {
    let mut members: BTreeMap<_, Vec<Member>> = BTreeMap::new();
    for object in context.fleet.connectors() {
        let (Some(namespace), Ok(object)) = (object.namespace(), &object.0) else { continue };
        let tenant = (namespace, object.spec.tenant_id.clone());
        if !of.contains(&tenant) {
            continue;
        }
        let ids = object.name_any().parse().ok().map(|id| (tenant.1.clone(), id));
        let ours = ids.filter(|ids| context.memory.projected(ids).is_some_and(|key| Some(key.uid) == object.uid()));
        let row = ours.and_then(|ids| context.memory.row(&ids));
        let cached = object.status.clone().unwrap_or_default();
        let status = row.as_ref().map_or_else(|| cached.clone(), |row| connector_observe::status(row, &cached, now));
        let healthy = status_of(&status.conditions, HEALTHY).map(str::to_owned);
        members.entry(tenant).or_default().push(Member { row, healthy });
    }
    members
}
