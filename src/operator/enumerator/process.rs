//! One operator process in virtual time: watch caches, queues, loops and memory as `operator::act` wires them, the reconciles
//! themselves by the real shells. Its end, at any request, leaves nothing but what the servers hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::{reflector::ObjectRef, watcher::Event};
use tokio::sync::{mpsc, watch};

use super::{
    super::{
        back_off::BackOff,
        census::Census,
        connector::{Vault, key_of, remove::Gone},
        context::{Context, Memory},
        controller::{reconcile_connector, reconcile_tenant},
        cron_workflows::CronWorkflows,
        dependencies::Dependencies,
        events::Announcer,
        fleet::{Fleet, Scope},
        leadership::Leadership,
        names::Installation,
        outcome::Note,
        run_status::Shown,
        sweep::{self, Refused},
        world::Kind,
        world_fake::{Change, FakeWorld, Servers, block_on},
    },
    cache::Cache,
    work::{Ended, Work, until},
};
use crate::{
    crd::{Connector, TenantSchedule},
    credentials::{Sealer, seal::generate_identity},
    health::{Liveness, Pulse, Readiness},
    metrics::Metrics,
    temporal,
};

/// How long between two looks at a settled object, and between two sweeps.
pub(super) const RESYNC: Duration = Duration::from_secs(600);
/// A watch that has missed something lists again after so long: within the time that a scenario leaves between two edits.
const RELIST: SignedDuration = SignedDuration::from_secs(30);
/// Status rounds: soon after anything was asked, else rarely (in production once a second).
const ROUND: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(300));

/// A schedule without its object stays for so long: the census after the one that finds it deletes it.
const ORPHAN_GRACE: Duration = Duration::from_secs(300);

/// After a sweep that could not be finished.
const SWEEP_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Those who compete for one leadership.
const LEADERSHIP: &str = "enumerated";

static IDENTITY: LazyLock<Sealer> = LazyLock::new(|| Sealer::new(&generate_identity().1).expect("a recipient"));

/// What happens to one watch event, by its number since the servers began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    /// It comes late: until then the cache is one version behind.
    Stale(SignedDuration),
    /// It never comes: only a list brings what it told.
    Missed,
}

/// What a process may do next. The order is that of an undisturbed run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The watch shows the next change.
    Watch,
    /// The watch lists anew.
    List,
    /// An object is reconciled.
    Reconcile(Kind, String, String),
    /// A deletion is followed.
    Follow(usize),
    /// Deletions that nobody saw are looked for.
    Sweep,
    /// All that stands in Temporal is looked at.
    Census,
    /// Observed status is written.
    Round,
}

pub(super) struct Process {
    pub(super) world: Arc<FakeWorld>,
    pub(super) events: mpsc::Receiver<(ObjectReference, Note)>,
    context: Arc<Context>,
    tenants: Cache<TenantSchedule>,
    connectors: Cache<Connector>,
    /// Changes that were shown, skipped ones included.
    watched: usize,
    list_at: Option<Timestamp>,
    queue: BTreeMap<(Kind, String, String), Timestamp>,
    gone: Vec<(Timestamp, Gone, u32)>,
    sweep_at: Timestamp,
    census_at: Timestamp,
    census: Option<Census>,
    round_at: Timestamp,
    shown: Option<Shown>,
    pulse: Arc<Pulse>,
    at_work: Vec<Work>,
    /// What it goes on with has stopped before a request.
    pub(super) is_about_to_ask: bool,
}

impl Process {
    /// Starts, takes the leadership and lists. `step_by_step`: it stops before every request.
    pub(super) fn start(servers: &Arc<Servers>, step_by_step: bool) -> Self {
        let store = block_on(servers.store.take_leadership(LEADERSHIP)).expect("taken");
        let installation_id = block_on(store.installation_id()).expect("read");
        let leadership = Leadership::unbounded();
        let mut world = FakeWorld::of(Arc::clone(servers), Arc::clone(&store), leadership.clone());
        world.steps = step_by_step;
        let world = Arc::new(world);
        let (tenants, tenant_store, trigger_tenant) = Cache::new();
        let (connectors, connector_store, trigger_connector) = Cache::new();
        let listed = || watch::channel(true).1;
        let fleet = Fleet {
            scopes: vec![Scope {
                namespace: None,
                tenants: tenant_store,
                connectors: connector_store,
                listed: [listed(), listed()],
                population: [Arc::clone(&tenants.population), Arc::clone(&connectors.population)],
                trigger_tenant,
                trigger_connector,
            }],
        };
        let (announcer, events) = Announcer::unsent();
        let metrics = Metrics::default();
        let no_link = temporal::Error::Unavailable { attempted: "connect", code: "not asked here".to_owned() };
        let context = Arc::new(Context {
            world: Arc::clone(&world) as _,
            leadership,
            store,
            temporal: watch::channel(Err(no_link)).1,
            fleet,
            pacer: Arc::new(temporal::Pacer::new(1, 1)),
            cron_workflows: Arc::new(CronWorkflows::default()),
            vault: watch::channel(Vault::new(IDENTITY.clone(), &installation_id)).1,
            installation: Installation::new(installation_id, None),
            resync: RESYNC,
            purge_grace: Duration::from_secs(86_400),
            overdue_margin: Duration::from_secs(300),
            orphan_grace: ORPHAN_GRACE,
            dependencies: Dependencies::new(Readiness::new(metrics.clone()), announcer.clone()),
            liveness: Liveness::default(),
            announcer,
            metrics,
            back_off: BackOff::default(),
            memory: Memory::default(),
        });
        let now = world.state().now;
        let mut process = Self {
            pulse: Arc::new(context.liveness.pulse("sweep", RESYNC)),
            shown: Some(Shown::new(&context)),
            world,
            events,
            context,
            tenants,
            connectors,
            watched: 0,
            list_at: None,
            queue: BTreeMap::new(),
            gone: Vec::new(),
            sweep_at: now,
            census_at: now,
            census: Some(Census::default()),
            round_at: now,
            at_work: Vec::new(),
            is_about_to_ask: false,
        };
        process.list();
        process
    }

    fn now(&self) -> Timestamp {
        self.world.state().now
    }

    /// A list shows what is there and tells nothing of what went.
    fn list(&mut self) {
        let (objects, changes) = {
            let state = self.world.state();
            (state.objects.values().cloned().collect::<Vec<_>>(), state.changes.len())
        };
        self.list_at = None;
        self.watched = changes;
        self.tenants.writer.apply_watcher_event(&Event::Init);
        self.connectors.writer.apply_watcher_event(&Event::Init);
        for object in objects {
            self.show(&Change { at: self.now(), object, deleted: false }, true);
        }
        self.tenants.writer.apply_watcher_event(&Event::InitDone);
        self.connectors.writer.apply_watcher_event(&Event::InitDone);
    }

    fn show(&mut self, change: &Change, in_a_list: bool) {
        let key = &change.object.key;
        let place = (key.kind, key.namespace.clone(), key.name.clone());
        let wanted = match key.kind {
            Kind::TenantSchedule => self.tenants.show(change, in_a_list),
            Kind::Connector => self.connectors.show(change, in_a_list),
        };
        if wanted {
            self.enqueue(place, self.now());
        }
        if change.deleted && key.kind == Kind::Connector {
            self.lost(change);
        }
    }

    /// As the watch of Connectors tells `operator::follow`.
    fn lost(&mut self, change: &Change) {
        let Ok(object) = serde_json::from_value::<Connector>(change.object.json()) else { return };
        let key = key_of(&object);
        let Ok(connector_id) = key.name.parse() else { return };
        self.context.memory.forget(&key);
        let gone = Gone { key, tenant_id: object.spec.tenant_id, connector_id };
        self.gone.push((self.now(), gone, 0));
    }

    /// The earlier of two wishes for one object wins, as in kube-runtime's scheduler.
    fn enqueue(&mut self, place: (Kind, String, String), at: Timestamp) {
        self.queue.entry(place).and_modify(|before| *before = at.min(*before)).or_insert(at);
    }

    /// What may be done, and when; the change that the watch shows next is subject to `delays`.
    pub(super) fn due(&mut self, delays: &BTreeMap<usize, Delay>) -> Vec<(Timestamp, Due)> {
        self.take_triggers();
        let now = self.now();
        let mut due = Vec::new();
        if self.watched < self.world.state().changes.len() {
            let late = match delays.get(&self.watched) {
                Some(Delay::Stale(late)) => *late,
                Some(Delay::Missed) | None => SignedDuration::ZERO,
            };
            let since = self.world.state().changes[self.watched].at;
            due.push(((since + late).max(now), Due::Watch));
        }
        due.extend(self.list_at.map(|at| (at, Due::List)));
        let busy = |place: &(Kind, String, String)| {
            self.at_work.iter().any(|work| matches!(work, Work::Reconcile(of, _) if of == place))
        };
        let free = self.queue.iter().filter(|(place, _)| !busy(place));
        due.extend(
            free.map(|((kind, namespace, name), at)| (*at, Due::Reconcile(*kind, namespace.clone(), name.clone()))),
        );
        due.extend(self.gone.iter().enumerate().map(|(number, (at, ..))| (*at, Due::Follow(number))));
        if !self.at_work.iter().any(|work| matches!(work, Work::Sweep(_))) {
            due.push((self.sweep_at, Due::Sweep));
        }
        if self.census.is_some() {
            due.push((self.census_at, Due::Census));
        }
        if self.shown.is_some() {
            due.push((self.round_at, Due::Round));
        }
        due
    }

    fn take_triggers(&mut self) {
        let now = self.now();
        while let Ok(reference) = self.tenants.triggered.try_recv() {
            let place = (Kind::TenantSchedule, reference.namespace.unwrap_or_default(), reference.name);
            self.enqueue(place, now);
        }
        while let Ok(reference) = self.connectors.triggered.try_recv() {
            let place = (Kind::Connector, reference.namespace.unwrap_or_default(), reference.name);
            self.enqueue(place, now);
        }
    }

    /// Does it, or begins to.
    pub(super) fn begin(&mut self, due: Due, delays: &BTreeMap<usize, Delay>) {
        let context = Arc::clone(&self.context);
        match due {
            Due::List => self.list(),
            Due::Watch => {
                let number = self.watched;
                self.watched += 1;
                if delays.get(&number) == Some(&Delay::Missed) {
                    self.list_at = Some(self.now() + RELIST);
                } else {
                    let change = self.world.state().changes[number].clone();
                    self.show(&change, false);
                }
            }
            Due::Reconcile(kind, namespace, name) => {
                let place = (kind, namespace, name);
                self.queue.remove(&place);
                if let Some(work) = self.reconcile(&place) {
                    self.at_work.push(Work::Reconcile(place, work));
                }
            }
            Due::Follow(number) => {
                let (_, gone, attempts) = self.gone.remove(number);
                let of = gone.clone();
                let work = async move { sweep::attempt(&of, &context).await.is_ok() };
                self.at_work.push(Work::Follow(gone, attempts, Box::pin(work)));
            }
            Due::Sweep => {
                let pulse = Arc::clone(&self.pulse);
                let work = async move { !matches!(sweep::pass(&pulse, &context).await, Err(Refused::Failed(_))) };
                self.at_work.push(Work::Sweep(Box::pin(work)));
            }
            Due::Census => {
                let Some(mut census) = self.census.take() else { return };
                let pulse = Arc::clone(&self.pulse);
                self.at_work.push(Work::Census(Box::pin(async move {
                    // Its last part, which looks for cron workflows, finds no link to Temporal here.
                    drop(census.take(&pulse, &context).await);
                    census
                })));
            }
            Due::Round => {
                let Some(mut shown) = self.shown.take() else { return };
                let workers = watch::channel(None).1;
                self.at_work.push(Work::Round(Box::pin(async move {
                    shown.round(&workers, &context).await;
                    shown
                })));
            }
        }
    }

    /// The real shell on what the cache has; an object that is gone is forgotten.
    fn reconcile(
        &self,
        (kind, namespace, name): &(Kind, String, String),
    ) -> Option<BoxFuture<'static, Option<Duration>>> {
        let scope = &self.context.fleet.scopes[0];
        let context = Arc::clone(&self.context);
        Some(match kind {
            Kind::TenantSchedule => {
                Box::pin(reconcile_tenant(scope.tenants.get(&ObjectRef::new(name).within(namespace))?, context))
            }
            Kind::Connector => {
                Box::pin(reconcile_connector(scope.connectors.get(&ObjectRef::new(name).within(namespace))?, context))
            }
        })
    }

    /// How many things are at work.
    pub(super) fn at_work(&self) -> usize {
        self.at_work.len()
    }

    /// Goes on with one of them until it ends, stops before a request, or the process dies.
    pub(super) fn go_on(&mut self, number: usize) {
        let mut work = self.at_work.remove(number);
        let asked = self.world.state().calls.len();
        let world = Arc::clone(&self.world);
        let ended = match &mut work {
            Work::Reconcile(_, future) => until(future, &world).map(Ended::Rest),
            Work::Follow(_, _, future) => until(future, &world).map(Ended::Followed),
            Work::Sweep(future) => until(future, &world).map(Ended::Swept),
            Work::Census(future) => until(future, &world).map(|census| Ended::Counted(Box::new(census))),
            Work::Round(future) => until(future, &world).map(|shown| Ended::Shown(Box::new(shown))),
        };
        let now = self.now();
        self.is_about_to_ask = ended.is_none();
        if self.world.state().calls.len() > asked && !matches!(work, Work::Round(_)) {
            self.round_at = self.round_at.min(now + ROUND.0);
        }
        match (ended, work) {
            (None, work) => self.at_work.insert(number, work),
            (Some(Ended::Rest(Some(rest))), Work::Reconcile(place, _)) => self.enqueue(place, now + signed(rest)),
            (Some(Ended::Followed(false)), Work::Follow(gone, attempts, _)) => {
                let pause = SignedDuration::from_secs(1 << attempts.min(5));
                self.gone.push((now + pause, gone, attempts + 1));
            }
            (Some(Ended::Swept(finished)), _) => {
                self.sweep_at = now + if finished { signed(RESYNC) } else { SWEEP_AGAIN };
            }
            (Some(Ended::Counted(census)), _) => {
                self.census = Some(*census);
                self.census_at = now + signed(RESYNC);
            }
            (Some(Ended::Shown(shown)), _) => {
                self.shown = Some(*shown);
                self.round_at = now + ROUND.1;
            }
            (Some(_), _) => {}
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).expect("hours at most")
}
