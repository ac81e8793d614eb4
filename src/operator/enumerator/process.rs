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
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{mpsc, watch};

use super::{
    super::{
        back_off::BackOff,
        census::Census,
        connection_checks::{self, Check, Checks},
        connector::{Vault, key_of, remove::Gone},
        context::{Context, Memory},
        controller::{reconcile_connector, reconcile_tenant},
        cron_workflows::CronWorkflows,
        dedicated_pools::Availabilities,
        dependencies::Dependencies,
        events::Announcer,
        fleet::{Fleet, Scope},
        leadership::Leadership,
        names::Installation,
        outcome::Note,
        run_status::Shown,
        sweep::{self, Missing},
        world::Kind,
        world_fake::{Change, FakeWorld, Object, Servers, block_on},
    },
    cache::{Cache, Told},
    work::{Delay, Due, Ended, Work, until},
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
/// A new process has the second kind listed so long after the first.
const SECOND_LIST: SignedDuration = SignedDuration::from_secs(2);
/// Status rounds: soon after anything was asked or written, else rarely (in production once a second).
const ROUND: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(300));
/// A round that asked for something is followed by one that may ask for what was not taken.
const ROUND_AGAIN: SignedDuration = SignedDuration::from_secs(11);

/// A schedule without its object stays for so long: the census after the one that finds it deletes it.
const ORPHAN_GRACE: Duration = Duration::from_secs(300);

/// After a sweep that could not be finished.
const SWEEP_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Those who compete for one leadership.
const LEADERSHIP: &str = "enumerated";

static IDENTITY: LazyLock<Sealer> = LazyLock::new(|| Sealer::new(&generate_identity().1).expect("a recipient"));

pub(super) struct Process {
    pub(super) world: Arc<FakeWorld>,
    pub(super) events: mpsc::Receiver<(ObjectReference, Note)>,
    context: Arc<Context>,
    tenants: Cache<TenantSchedule>,
    connectors: Cache<Connector>,
    /// Changes that were shown, or not to be shown.
    watched: usize,
    lists: BTreeMap<Kind, Timestamp>,
    queue: BTreeMap<(Kind, String, String), Timestamp>,
    gone: Vec<(Timestamp, Gone, u32)>,
    asked: mpsc::UnboundedReceiver<Check>,
    checks: Vec<(Timestamp, Check)>,
    missing: Option<Missing>,
    sweep_at: Timestamp,
    census_at: Timestamp,
    census: Option<Census>,
    round_at: Timestamp,
    shown: Option<Shown>,
    pulse: Arc<Pulse>,
    at_work: Vec<Work>,
    /// Reconciles of Connectors before both kinds are listed.
    waiting: Vec<Work>,
    /// What it goes on with has stopped before a request.
    pub(super) is_about_to_ask: bool,
}

impl Process {
    /// Starts, takes the leadership and lists, one kind before the other where there is a `first`. `step_by_step`: it stops
    /// before every request.
    pub(super) fn start(servers: &Arc<Servers>, step_by_step: bool, first: Option<Kind>) -> Self {
        let store = block_on(servers.store.take_leadership(LEADERSHIP)).expect("taken");
        let installation_id = block_on(store.installation_id()).expect("read");
        let leadership = Leadership::unbounded();
        let mut world = FakeWorld::of(Arc::clone(servers), Arc::clone(&store), leadership.clone());
        world.steps = step_by_step;
        let world = Arc::new(world);
        let (tenants, tenant_store, trigger_tenant) = Cache::new();
        let (connectors, connector_store, trigger_connector) = Cache::new();
        let fleet = Fleet {
            scopes: vec![Scope {
                namespace: None,
                tenants: tenant_store,
                connectors: connector_store,
                listed: [tenants.listed.subscribe(), connectors.listed.subscribe()],
                population: [Arc::clone(&tenants.population), Arc::clone(&connectors.population)],
                trigger_tenant,
                trigger_connector,
            }],
        };
        let (announcer, events) = Announcer::unsent();
        let (checks, asked) = Checks::new();
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
            checks,
        });
        let (now, watched) = {
            let state = world.state();
            (state.now, state.changes.len())
        };
        let mut process = Self {
            pulse: Arc::new(context.liveness.pulse("sweep", RESYNC)),
            shown: Some(Shown::new(&context)),
            world,
            events,
            context,
            tenants,
            connectors,
            watched,
            lists: BTreeMap::new(),
            queue: BTreeMap::new(),
            gone: Vec::new(),
            asked,
            checks: Vec::new(),
            missing: Some(Missing::default()),
            sweep_at: now,
            census_at: now,
            census: Some(Census::default()),
            round_at: now,
            at_work: Vec::new(),
            waiting: Vec::new(),
            is_about_to_ask: false,
        };
        for kind in [Kind::TenantSchedule, Kind::Connector] {
            match first {
                Some(first) if first != kind => drop(process.lists.insert(kind, now + SECOND_LIST)),
                _ => process.list(kind),
            }
        }
        process
    }

    fn now(&self) -> Timestamp {
        self.world.state().now
    }

    fn list(&mut self, kind: Kind) {
        let (objects, changes) = {
            let state = self.world.state();
            let of_kind = state.objects.values().filter(|object| object.key.kind == kind);
            (of_kind.cloned().collect(), state.changes.len())
        };
        self.lists.remove(&kind);
        let wanted = match kind {
            Kind::TenantSchedule => self.tenants.list(objects, changes),
            Kind::Connector => self.connectors.list(objects, changes),
        };
        for place in wanted {
            self.enqueue(place, self.now());
        }
        if self.is_ready() {
            self.at_work.append(&mut self.waiting);
        }
    }

    fn is_ready(&self) -> bool {
        self.tenants.is_listed() && self.connectors.is_listed()
    }

    /// The watch shows a change, unless a list had it.
    fn show(&mut self, number: usize) {
        let Change { object, deleted, .. } = self.world.state().changes[number].clone();
        let told = if deleted { Told::Deleted } else { Told::Changed };
        let wanted = match object.key.kind {
            Kind::TenantSchedule => self.tenants.tells(number) && self.tenants.show(&object, told),
            Kind::Connector => self.connectors.tells(number) && self.connectors.show(&object, told),
        };
        if wanted {
            self.enqueue((object.key.kind, object.key.namespace.clone(), object.key.name.clone()), self.now());
        }
        if deleted && object.key.kind == Kind::Connector && self.connectors.tells(number) {
            self.lost(&object);
        }
    }

    /// As the watch of Connectors tells `operator::follow`.
    fn lost(&mut self, object: &Object) {
        let Ok(object) = serde_json::from_value::<Connector>(object.json()) else { return };
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
        due.extend(self.lists.iter().map(|(kind, at)| (*at, Due::List(*kind))));
        let busy = |place: &(Kind, String, String)| {
            self.at_work.iter().chain(&self.waiting).any(|work| matches!(work, Work::Reconcile(of, _) if of == place))
        };
        let free = self.queue.iter().filter(|(place, _)| !busy(place));
        due.extend(
            free.map(|((kind, namespace, name), at)| (*at, Due::Reconcile(*kind, namespace.clone(), name.clone()))),
        );
        due.extend(self.checks.iter().enumerate().map(|(number, (at, _))| (*at, Due::Check(number))));
        due.extend(self.gone.iter().enumerate().map(|(number, (at, ..))| (*at, Due::Follow(number))));
        // The loops wait for both lists.
        if !self.is_ready() {
            return due;
        }
        if self.missing.is_some() {
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
        while let Ok(check) = self.asked.try_recv() {
            self.checks.push((now, check));
        }
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
            Due::List(kind) => self.list(kind),
            Due::Watch => {
                let number = self.watched;
                self.watched += 1;
                if delays.get(&number) == Some(&Delay::Missed) {
                    let kind = self.world.state().changes[number].object.key.kind;
                    let relist = self.now() + RELIST;
                    self.lists.entry(kind).or_insert(relist);
                } else {
                    self.show(number);
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
            Due::Check(number) => {
                let (_, check) = self.checks.remove(number);
                let key = check.key.clone();
                context.checks.taken();
                let work = async move { connection_checks::start(check, &context).await };
                self.at_work.push(Work::Check(key, Box::pin(work)));
            }
            Due::Sweep => {
                let Some(mut missing) = self.missing.take() else { return };
                let pulse = Arc::clone(&self.pulse);
                self.at_work.push(Work::Sweep(Box::pin(async move {
                    let finished = sweep::pass(&mut missing, &pulse, &context).await.is_ok();
                    (missing, finished)
                })));
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
                self.at_work.push(Work::Round(Box::pin(async move {
                    shown.round(None, Availabilities::new(), &context).await;
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

    /// There is news in the store: the next status round comes soon.
    pub(super) fn look_soon(&mut self) {
        self.round_at = self.round_at.min(self.now() + ROUND.0);
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
        let waits = !self.is_ready() && matches!(&work, Work::Reconcile((Kind::Connector, ..), _));
        let ended = match &mut work {
            Work::Reconcile(_, future) => until(future, &world, waits).map(Ended::Rest),
            Work::Follow(_, _, future) => until(future, &world, false).map(Ended::Followed),
            Work::Check(_, future) => until(future, &world, false).map(Ended::Checked),
            Work::Sweep(future) => until(future, &world, false).map(|(missing, done)| Ended::Swept(missing, done)),
            Work::Census(future) => until(future, &world, false).map(|census| Ended::Counted(Box::new(census))),
            Work::Round(future) => until(future, &world, false).map(|shown| Ended::Shown(Box::new(shown))),
        };
        let now = self.now();
        self.is_about_to_ask = ended.is_none() && !waits;
        if self.world.state().calls.len() > asked && !matches!(work, Work::Round(_)) {
            self.look_soon();
        }
        match (ended, work) {
            (None, work) if waits => self.waiting.push(work),
            (None, work) => self.at_work.insert(number, work),
            (Some(Ended::Rest(Some(rest))), Work::Reconcile(place, _)) => self.enqueue(place, now + signed(rest)),
            (Some(Ended::Checked(rest)), Work::Check(of, _)) => {
                self.enqueue((of.kind, of.namespace, of.name), now + signed(rest));
            }
            (Some(Ended::Followed(false)), Work::Follow(gone, attempts, _)) => {
                let pause = SignedDuration::from_secs(1 << attempts.min(5));
                self.gone.push((now + pause, gone, attempts + 1));
            }
            (Some(Ended::Swept(missing, finished)), _) => {
                self.missing = Some(missing);
                self.sweep_at = now + if finished { signed(RESYNC) } else { SWEEP_AGAIN };
            }
            (Some(Ended::Counted(census)), _) => {
                self.census = Some(*census);
                self.census_at = now + signed(RESYNC);
            }
            (Some(Ended::Shown(shown)), _) => {
                self.shown = Some(*shown);
                let asked = self.world.state().calls.len() > asked;
                self.round_at = now + if asked { ROUND_AGAIN } else { ROUND.1 };
            }
            (Some(_), _) => {}
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).expect("hours at most")
}
