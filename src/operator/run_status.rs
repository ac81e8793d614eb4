//! Store → CR: one incremental query a second, written to status when it means something and the pace allows (R27, R40), and
//! the runs that follow others without a tick (R21). Derives nothing itself: `connector` and `tenant_schedule` do.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, ResourceExt as _};
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    connector::{
        health, observe as connector_observe,
        restart::{self, NextRun},
    },
    context::{ConnectorIds, Context},
    dedicated_pools::Availabilities,
    error::{Dependency, Error},
    fleet::is_loser,
    live_world::{STORE_DEADLINE, store_deadline},
    outcome::Note,
    status_pace::{Pace, Urgency, urgency},
    status_part::{CONNECTOR_OBSERVED, TENANT_OBSERVED, status_of},
    tenant_schedule::{
        self,
        observe::{self as tenant_observe, Member},
    },
    worker_deployment::status::Availability,
    world::{Answer, ObjectKey, Request, StatusPart},
};
use crate::{
    contract::workflows::ConnectionStatus,
    crd::{Connector, TenantSchedule, conditions::HEALTHY},
    health::Pulse,
    ids::TenantId,
    store::ConnectorStatusRow,
    temporal::StartOutcome,
};

/// Between two queries.
const PERIOD: Duration = Duration::from_secs(1);
/// Status writes at once. One after another, a second's worth of them does not fit into a second, and conditions that turn
/// meanwhile wait for the next round.
const WRITERS: usize = 8;
/// A round beats before each of its calls, which have shorter deadlines.
const BEAT: Duration = Duration::from_secs(20);
/// A transaction may commit after a later one was read: read that far back again (R27).
const OVERLAP: SignedDuration = SignedDuration::from_secs(60);
/// Before a start or a write that was not taken, or may not be yet, is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// A write takes a moment to come back by the watch; until then the same write is not repeated.
const ECHO: SignedDuration = SignedDuration::from_secs(10);

/// What is to be told of a connector.
struct News {
    ids: ConnectorIds,
    key: ObjectKey,
    part: StatusPart,
    urgency: Urgency,
    run_started_at: Option<Timestamp>,
    notes: Vec<Note>,
}

/// The loop's state.
pub(super) struct Shown {
    since: Option<Timestamp>,
    compared_at: Timestamp,
    pace: Pace,
    pulse: Pulse,
    /// What was last written, until the watch shows it.
    written: HashMap<ObjectKey, (StatusPart, Timestamp)>,
    /// Connectors whose status changes, or whose next run is due, though nothing happens.
    due: HashMap<ConnectorIds, Timestamp>,
    /// The ended runs that others were started after, so that they are not started again each second.
    followed: HashMap<ConnectorIds, Timestamp>,
    /// Temporal did not take a start in this round: the others wait for a later one.
    starts_wait: bool,
    /// Tenants whose aggregate may be behind.
    tenants: HashSet<(String, TenantId)>,
    workers: Option<Availability>,
    /// Of tenants that have their own.
    dedicated: Availabilities,
    /// Of the caches, when tenants were last counted.
    population: u64,
}

/// Runs until the process ends.
pub async fn keep(
    workers: watch::Receiver<Option<Availability>>,
    dedicated: watch::Receiver<Availabilities>,
    context: Arc<Context>,
) {
    context.fleet.ready().await;
    let mut shown = Shown::new(&context);
    let mut rounds = tokio::time::interval(PERIOD);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let (shared, own) = (*workers.borrow(), dedicated.borrow().clone());
        shown.round(shared, own, &context).await;
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
            due: HashMap::new(),
            followed: HashMap::new(),
            starts_wait: false,
            tenants: HashSet::new(),
            workers: None,
            dedicated: Availabilities::new(),
            population: 0,
        }
    }

    /// Reads what changed, writes what may be written.
    pub(super) async fn round(&mut self, workers: Option<Availability>, dedicated: Availabilities, context: &Context) {
        let now = context.world.now();
        let resync = SignedDuration::try_from(context.resync).unwrap_or(SignedDuration::MAX);
        let full = now.duration_since(self.compared_at) >= resync;
        if full || workers != self.workers || dedicated != self.dedicated {
            (self.workers, self.dedicated) = (workers, dedicated);
            self.all_tenants(context);
        }
        if full {
            self.begin_compare(context, now);
        }
        self.written.retain(|_, (_, at)| now.duration_since(*at) < ECHO);
        self.show_told(context, now);
        if self.read(context).await {
            self.wake_due(context, now);
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
        self.due.clear();
        // One that failed before it left a trace is started again.
        self.followed.clear();
    }

    /// What a reconciler told people shows in the observed part, too: pauses by failure, overdue ticks.
    fn show_told(&mut self, context: &Context, now: Timestamp) {
        for key in context.memory.told_since(now - ECHO) {
            let tenant = context.fleet.tenant_of(key.kind, &key.namespace, &key.name);
            if let Some(tenant) = tenant.and_then(|tenant| tenant.parse().ok()) {
                self.tenants.insert((key.namespace, tenant));
            }
        }
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
            let Some(before) = context.memory.observed(row) else { continue };
            let Some(key) = context.memory.projected(&ids) else { continue };
            let was = before.map(|before: ConnectorStatusRow| before.connection_status);
            // The Secret may have a new value by now: look at once (R32).
            if refused && was.is_some_and(|was| was != ConnectionStatus::Disconnected) {
                context.fleet.trigger(&key);
            }
        }
        true
    }

    fn wake_due(&mut self, context: &Context, now: Timestamp) {
        self.starts_wait = false;
        let due: Vec<_> = self.due.extract_if(|_, at| *at <= now).map(|(ids, _)| ids).collect();
        due.iter().for_each(|ids| context.memory.show(ids));
    }

    /// Starts the run that is due after the last one; notes when this connector is to be looked at though nothing happens.
    async fn follow(
        &mut self,
        ids: &ConnectorIds,
        key: &ObjectKey,
        object: &Connector,
        row: &ConnectorStatusRow,
        context: &Context,
        now: Timestamp,
    ) {
        let next = restart::next_run(row, &object.spec).filter(|next| self.followed.get(ids) != Some(&next.follows));
        let mut looks = vec![health::stale_at(row, object.into()).filter(|at| *at > now)];
        if let Some(next) = next {
            looks.push(if next.at > now {
                Some(next.at)
            } else if is_suspended(context, &key.namespace, &ids.0) || !self.start(ids, key, &next, row, context).await
            {
                Some(now + AGAIN)
            } else {
                None
            });
        }
        match looks.into_iter().flatten().min() {
            Some(at) => drop(self.due.insert(ids.clone(), at)),
            None => drop(self.due.remove(ids)),
        }
    }

    /// Whether it was started, now or before.
    async fn start(
        &mut self,
        ids: &ConnectorIds,
        key: &ObjectKey,
        next: &NextRun,
        row: &ConnectorStatusRow,
        context: &Context,
    ) -> bool {
        if self.starts_wait {
            return false;
        }
        self.pulse.beat();
        match context.world.call(next.request(row, &context.installation)).await {
            Ok(answer) => {
                self.followed.insert(ids.clone(), next.follows);
                if next.failures > 0 && answer == Answer::Started(StartOutcome::Started) {
                    let message = format!("started again; failures in a row: {}", next.failures);
                    context.announcer.about(key, Note::normal("SyncRestarted", "Sync", message));
                }
                true
            }
            Err(error) => {
                self.starts_wait = true;
                tracing::warn!(object = %key, %error, "the next run is started later");
                false
            }
        }
    }

    async fn show_connectors(&mut self, context: &Context, now: Timestamp) {
        let mut news = Vec::new();
        for ids in context.memory.to_show() {
            let Some(key) = context.memory.projected(&ids) else { continue };
            let object = context.fleet.connector(&key.namespace, &key.name);
            let object = object.filter(|object| object.meta().uid.as_deref() == Some(&key.uid));
            match (object, context.memory.row(&ids)) {
                (Some(object), Some(row)) => {
                    self.follow(&ids, &key, &object, &row, context, now).await;
                    news.extend(self.news(ids, key, &object, row, context, now));
                }
                _ => context.memory.shown(&ids),
            }
        }
        // Conditions before counters, and of these the oldest first: when the pace is short, none waits much longer than another.
        news.sort_by_cached_key(|news| (news.urgency != Urgency::Now, self.pace.last_write(&news.key)));
        news.retain(|news| self.pace.may_write(&news.key, news.urgency, news.run_started_at, now));
        self.tell(news, context, now).await;
    }

    /// What is to be told of a connector; nothing when it is told already, or on its way.
    fn news(
        &self,
        ids: ConnectorIds,
        key: ObjectKey,
        object: &Connector,
        row: ConnectorStatusRow,
        context: &Context,
        now: Timestamp,
    ) -> Option<News> {
        let before = object.status.clone().unwrap_or_default();
        let after = connector_observe::status(&row, object.into(), &before, now);
        let part = CONNECTOR_OBSERVED.part(&after);
        if part == CONNECTOR_OBSERVED.part(&before) || self.is_on_its_way(&key, &part) {
            context.memory.shown(&ids);
            return None;
        }
        Some(News {
            urgency: urgency(&before, &after),
            run_started_at: row.last_run.filter(|run| run.outcome.is_none()).map(|run| run.started_at),
            notes: connector_observe::notes(&before, &after),
            ids,
            key,
            part,
        })
    }

    async fn tell(&mut self, news: Vec<News>, context: &Context, now: Timestamp) {
        let pulse = &self.pulse;
        let write = |news: News| async { (apply(pulse, context, &news.key, &news.part).await, news) };
        let told: Vec<_> = stream::iter(news).map(write).buffer_unordered(WRITERS).collect().await;
        for (written, News { ids, key, part, notes, .. }) in told {
            context.memory.shown(&ids);
            if !written {
                self.due.entry(ids).and_modify(|at| *at = (*at).min(now + AGAIN)).or_insert(now + AGAIN);
                continue;
            }
            self.tenants.insert((key.namespace.clone(), ids.0));
            for note in notes {
                context.announcer.about(&key, note);
            }
            self.written.insert(key, (part, now));
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
        let mut writes = Vec::new();
        for tenant in self.tenants.clone() {
            let members = members.get(&tenant).map(Vec::as_slice).unwrap_or_default();
            let object = context.fleet.tenant(&tenant.0, &tenant.1);
            match object.and_then(|object| self.tenant_news(&object, members, now)) {
                Some((key, part, urgency)) if self.pace.may_write(&key, urgency, None, now) => {
                    writes.push((tenant, key, part));
                }
                Some(_) => {}
                None => drop(self.tenants.remove(&tenant)),
            }
        }
        let pulse = &self.pulse;
        let write = |(tenant, key, part)| async { (apply(pulse, context, &key, &part).await, tenant, key, part) };
        let told: Vec<_> = stream::iter(writes).map(write).buffer_unordered(WRITERS).collect().await;
        for (written, tenant, key, part) in told {
            if written {
                self.tenants.remove(&tenant);
                self.written.insert(key, (part, now));
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

    /// What is to be told of a tenant, and how much it matters; nothing when it is told already, or on its way.
    fn tenant_news(
        &self,
        object: &TenantSchedule,
        members: &[Member],
        now: Timestamp,
    ) -> Option<(ObjectKey, StatusPart, Urgency)> {
        let key = tenant_schedule::key_of(object);
        let before = object.status.clone().unwrap_or_default();
        let workers = self.workers_of(object);
        let after = tenant_observe::status(members, workers.as_ref(), &before, now);
        let (part, shown) = (TENANT_OBSERVED.part(&after), TENANT_OBSERVED.part(&before));
        if part == shown || self.is_on_its_way(&key, &part) {
            return None;
        }
        let turned = part.fields.get("conditions") != shown.fields.get("conditions");
        Some((key, part, if turned { Urgency::Now } else { Urgency::Counters }))
    }

    /// Of the pool that the tenant asks for, where the operator deploys workers.
    fn workers_of(&self, object: &TenantSchedule) -> Option<Availability> {
        let own = || self.dedicated.get(&object.spec.tenant_id).copied().unwrap_or(Availability::PENDING);
        self.workers.map(|shared| if object.spec.workers.is_dedicated() { own() } else { shared })
    }

    fn is_on_its_way(&self, key: &ObjectKey, part: &StatusPart) -> bool {
        self.written.get(key).is_some_and(|(written, _)| written == part)
    }
}

fn is_suspended(context: &Context, namespace: &str, tenant: &TenantId) -> bool {
    context.fleet.tenant(namespace, tenant).is_some_and(|object| object.spec.suspend)
}

/// Writes a part of a status; whether it was taken.
async fn apply(pulse: &Pulse, context: &Context, key: &ObjectKey, part: &StatusPart) -> bool {
    pulse.beat();
    let answer = context.world.call(Request::ApplyStatus(key.clone(), part.clone())).await;
    match &answer {
        Err(error) if error.is_outage() => tracing::debug!(object = %key, %error, "status not written yet"),
        Err(error) => tracing::warn!(object = %key, %error, "status not written"),
        Ok(_) => {}
    }
    answer.is_ok()
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
        let shown = |row| connector_observe::status(row, object.into(), &cached, now);
        let status = row.as_ref().map_or_else(|| cached.clone(), shown);
        let healthy = status_of(&status.conditions, HEALTHY).map(str::to_owned);
        members.entry(tenant).or_default().push(Member { row, healthy });
    }
    members
}
