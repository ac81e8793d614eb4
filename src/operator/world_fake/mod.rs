//! Everything outside an operator, for tests: a fake API server (`kubernetes`), a fake Temporal (`temporal`) and the real
//! store in a SQLite file (`store`), with a failure at any call (`faults`). `behaviour/` holds it to the answers of the real
//! servers. Knows no reconciler; `enumerator/` runs them.

mod behaviours;
pub(super) mod faults;
mod kubernetes;
mod store;
mod temporal;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;

pub(super) use self::{
    faults::Fault,
    kubernetes::{Change, Object},
    store::block_on,
};
use super::{
    leadership::Leadership,
    world::{Answer, Kind, ObjectKey, Reply, Request, StartWorkflow, World, drive},
};
use crate::{
    credentials::{Sealer, seal::generate_identity},
    model::config::SecretFields,
    store::{Owner, Pool, Store, TenantProjection},
    temporal::{
        cron_workflows::CronWorkflow,
        schedules::{Backfill, SeenSchedule},
    },
};

/// What somebody else does.
pub(super) type Act = fn(&mut State);

/// What the servers hold, and what happened to them.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Timestamp,
    /// The next tick of every schedule: ticks are not played.
    pub(super) next_tick: Timestamp,
    pub(super) objects: BTreeMap<(Kind, String, String), Object>,
    /// What the API server tells those who watch, in order.
    pub(super) changes: Vec<Change>,
    /// Resource versions and uids that were given out.
    pub(super) versions: u64,
    pub(super) uids: u64,
    /// By namespace and name.
    pub(super) secrets: BTreeMap<(String, String), SecretFields>,
    /// Recipients of tenants' own workers.
    pub(super) pools: BTreeMap<String, Sealer>,
    /// Parts of statuses that were applied, in order; and how many of them changed nothing.
    pub(super) statuses: Vec<serde_json::Value>,
    pub(super) needless_statuses: usize,
    pub(super) schedules: BTreeMap<String, SeenSchedule>,
    /// How often each was deleted.
    pub(super) deletions: BTreeMap<String, usize>,
    /// Cron lines by the hash of what was wanted, for the eyes of tests.
    pub(super) crons: BTreeMap<String, String>,
    /// How often a schedule is described as it was after each update: the server applies those in its own time.
    pub(super) update_lag: usize,
    pub(super) updates: Vec<temporal::Waiting>,
    /// Cron workflows at work, by tenant.
    pub(super) cron_workflows: HashMap<String, CronWorkflow>,
    pub(super) backfills: Vec<Backfill>,
    /// The server knows requests by their ids, as it does until a schedule's workflow is continued as new.
    pub(super) knows_requests: bool,
    pub(super) workflows: Vec<String>,
    pub(super) started: Vec<StartWorkflow>,
    pub(super) open: BTreeSet<String>,
    pub(super) completed: BTreeSet<String>,
    /// By the store's clock, which runs on: when, by this world's.
    pub(super) recorded: BTreeMap<Timestamp, Timestamp>,
    pub(super) calls: Vec<String>,
    pub(super) faults: Vec<Fault>,
    /// Done by somebody else right before the n-th call.
    pub(super) meanwhile: Option<(usize, Act)>,
}

/// The servers; they outlive every operator.
pub(super) struct Servers {
    state: Mutex<State>,
    /// Of no leader.
    pub(super) store: Arc<dyn Store>,
    pub(super) file: store::File,
}

impl Servers {
    /// Empty, at this time.
    pub(super) fn at(now: Timestamp) -> Arc<Self> {
        let (store, file) = store::fresh();
        Arc::new(Self { state: Mutex::new(State::at(now)), store, file })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

impl State {
    fn at(now: Timestamp) -> Self {
        Self {
            now,
            next_tick: now + jiff::SignedDuration::from_hours(24),
            objects: BTreeMap::new(),
            changes: Vec::new(),
            versions: 0,
            uids: 0,
            secrets: BTreeMap::new(),
            pools: BTreeMap::new(),
            statuses: Vec::new(),
            needless_statuses: 0,
            schedules: BTreeMap::new(),
            deletions: BTreeMap::new(),
            crons: BTreeMap::new(),
            update_lag: 0,
            updates: Vec::new(),
            cron_workflows: HashMap::new(),
            backfills: Vec::new(),
            knows_requests: false,
            workflows: Vec::new(),
            started: Vec::new(),
            open: BTreeSet::new(),
            completed: BTreeSet::new(),
            recorded: BTreeMap::new(),
            calls: Vec::new(),
            faults: Vec::new(),
            meanwhile: None,
        }
    }
}

/// One operator's way to the servers.
pub(super) struct FakeWorld {
    pub(super) servers: Arc<Servers>,
    /// As its leader, where it is one.
    pub(super) store: Arc<dyn Store>,
    pub(super) leadership: Leadership,
    /// Stops before every request, until it is polled again.
    pub(super) steps: bool,
    /// Its Lease has ended while it slept: what it was about to send is on its way, nothing else will be.
    pub(super) overslept: AtomicBool,
    stopped: AtomicBool,
    died: AtomicBool,
}

impl Default for FakeWorld {
    fn default() -> Self {
        let servers = Servers::at("2026-11-23T01:00:00Z".parse().expect("timestamp"));
        servers.state().next_tick = "2026-11-23T04:00:00Z".parse().expect("timestamp");
        let store = Arc::clone(&servers.store);
        Self::of(servers, store, Leadership::unbounded())
    }
}

impl FakeWorld {
    pub(super) fn of(servers: Arc<Servers>, store: Arc<dyn Store>, leadership: Leadership) -> Self {
        let no = || AtomicBool::new(false);
        Self { servers, store, leadership, steps: false, overslept: no(), stopped: no(), died: no() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.servers.state()
    }

    /// The next calls are counted from 0, one of them fails so.
    pub(super) fn fail(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.calls.clear();
        state.faults = fault.into_iter().collect();
    }

    /// Names of the calls since the last `fail`.
    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Gives a tenant's claim away.
    pub(super) fn claim(&self, tenant: &str, namespace: &str, name: &str) {
        let owner = Owner { cluster_id: String::new(), namespace: namespace.to_owned(), name: name.to_owned() };
        let tenant_id = tenant.parse().expect("an id");
        let projection =
            TenantProjection { tenant_id, owner, uid: "claimed".to_owned(), wait_seconds: None, dedicated: false };
        block_on(self.store.put_tenant(&projection)).expect("claimed");
    }

    /// Gives a tenant workers of its own, or takes them away.
    pub(super) fn set_pool(&self, pool: Pool) {
        let name = match pool {
            Pool::Shared => "shared",
            Pool::Dedicated => "dedicated",
            Pool::Left => "left",
        };
        self.servers.file.execute(&format!("UPDATE tenant SET pool = '{name}'"));
    }

    /// Where the activities of the tenant `acme` go.
    pub(super) fn pool(&self) -> Pool {
        block_on(self.store.tenant_claim(&"acme".parse().expect("an id"))).expect("read").expect("claimed").pool
    }

    /// Other tenants have all workers of their own that there may be.
    pub(super) fn take_every_pool(&self) {
        for number in 0..crate::store::MAX_DEDICATED_POOLS {
            let owner =
                Owner { cluster_id: String::new(), namespace: "others".to_owned(), name: format!("other-{number}") };
            let tenant_id = owner.name.parse().expect("an id");
            let projection =
                TenantProjection { tenant_id, owner, uid: "other".to_owned(), wait_seconds: None, dedicated: true };
            block_on(self.store.put_tenant(&projection)).expect("claimed");
        }
    }

    /// One of them has given them up.
    pub(super) fn leave_a_pool(&self) {
        self.servers.file.execute("DELETE FROM tenant WHERE tenant_id = 'other-0'");
    }

    /// Takes every tenant's claim away, as a store that is set back does.
    pub(super) fn unclaim(&self) {
        self.servers.file.execute("DELETE FROM tenant");
    }

    /// A cron workflow that somebody started by hand for the tenant `acme`.
    pub(super) fn start_cron(&self) {
        self.start_cron_named("nightly");
    }

    fn start_cron_named(&self, id: &str) {
        let cron = CronWorkflow {
            workflow_id: id.to_owned(),
            first_run_id: "r1".to_owned(),
            tenant_id: "acme".parse().expect("id"),
        };
        self.state().cron_workflows.insert("acme".to_owned(), cron);
    }

    /// Tenants whose claim is marked removed.
    pub(super) fn removed_tenants(&self) -> Vec<String> {
        let rows = self.servers.file.rows("SELECT tenant_id FROM tenant WHERE removed_at IS NOT NULL");
        rows.into_iter().flatten().flatten().collect()
    }

    /// A connector of the tenant `acme` as workers read it; `None` once it is removed.
    pub(super) fn projected(&self, connector: &str) -> Option<crate::store::ConnectorRecord> {
        let ids = ("acme".parse().expect("an id"), connector.parse().expect("an id"));
        block_on(self.store.connector(&ids.0, &ids.1)).expect("read")
    }

    /// Whether somebody who polls should stop, because a request is about to be sent.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.swap(false, Ordering::Relaxed)
    }

    /// Whether the process of this operator has died.
    pub(super) fn has_died(&self) -> bool {
        self.died.load(Ordering::Relaxed)
    }

    async fn stop(&self) {
        let mut again = !self.steps;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut again, true) {
                return std::task::Poll::Ready(());
            }
            self.stopped.store(true, Ordering::Relaxed);
            // Of several at once only those that are woken are polled again.
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    /// Nobody who awaits this ever goes on.
    async fn die(&self) -> Reply {
        self.died.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn answer(&self, request: Request) -> Reply {
        let store = &self.store;
        match request {
            Request::PutTenant(tenant) => self.told(store.put_tenant(&tenant).await.map(Answer::Claim)),
            Request::RemoveTenant(tenant, owner) => {
                self.told(store.remove_tenant(&tenant, &owner).await.map(|()| Answer::Done))
            }
            Request::TenantClaim(tenant) => self.told(store.tenant_claim(&tenant).await.map(Answer::Claimant)),
            Request::RecordTenantTokens(tenant, uid, tokens) => {
                self.told(store.record_tenant_tokens(&tenant, &uid, &tokens).await.map(Answer::Recorded))
            }
            Request::PutConnector(connector) => {
                self.told(store.put_connector(&connector).await.map(Box::new).map(Answer::Connector))
            }
            Request::RemoveConnector(tenant, connector, uid) => {
                self.told(store.remove_connector(&tenant, &connector, &uid).await.map(|()| Answer::Done))
            }
            Request::DescribeSchedule(id) => Ok(Answer::Schedule(self.state().describe(&id).map(Box::new))),
            Request::CreateSchedule(wanted) => self.state().create_schedule(&wanted).map(Answer::Started),
            Request::UpdateSchedule(update) => self.state().update(*update).map(|()| Answer::Done),
            Request::DeleteSchedule(id) => {
                self.state().delete_schedule(&id);
                Ok(Answer::Done)
            }
            Request::LeaveSchedule(id, token) => self.state().leave_schedule(&id, &token).map(|()| Answer::Done),
            Request::BackfillSchedule(backfill) => self.state().backfill(*backfill).map(|()| Answer::Done),
            Request::ListSchedules => Ok(Answer::Schedules(self.state().list_schedules())),
            Request::FindCronWorkflow(tenant) => {
                let found = self.state().cron_workflows.get(tenant.as_str()).cloned();
                Ok(Answer::CronWorkflow(found.map(Box::new)))
            }
            Request::TerminateCron(cron) => {
                let (tenant, crons) = (cron.tenant_id.as_str(), &mut self.state().cron_workflows);
                let is_there = crons.get(tenant).is_some_and(|there| there.first_run_id == cron.first_run_id);
                Ok(Answer::Ended(is_there && crons.remove(tenant).is_some()))
            }
            Request::StartWorkflow(start) => Ok(Answer::Started(self.state().start(start))),
            Request::GetSecret { namespace, name } => Ok(Answer::Secret(self.state().secret(&namespace, &name))),
            Request::TenantOf(kind, namespace, name) => {
                Ok(Answer::Tenant(self.state().tenant_of(kind, &namespace, &name)))
            }
            Request::EnsurePool(tenant) => {
                let made = || own_workers(tenant.as_str());
                Ok(Answer::Recipient(self.state().pools.entry(tenant.to_string()).or_insert_with(made).clone()))
            }
            Request::AddFinalizer(key) => self.state().finalizer(&key, true),
            Request::RemoveFinalizer(key) => self.state().finalizer(&key, false),
            Request::ApplyStatus(key, part) => self.state().apply_status(&key, part),
            Request::Workers(_) => unreachable!("rollouts have a world of their own"),
        }
    }
}

#[async_trait]
impl World for FakeWorld {
    async fn call(&self, request: Request) -> Reply {
        self.stop().await;
        if !self.leadership.is_current() {
            return Err(faults::not_leader());
        }
        if self.overslept.load(Ordering::Relaxed) {
            self.leadership.end();
        }
        let fault = self.state().arrives(&request);
        match fault {
            Some(Fault::CrashBefore(_)) => self.die().await,
            Some(Fault::CrashAfter(_)) => {
                let _effect = self.answer(request).await;
                self.die().await
            }
            Some(Fault::AnswerLost(_)) => {
                let error = faults::outage(&request);
                let _effect = self.answer(request).await;
                Err(error)
            }
            Some(Fault::Lost(_)) => Err(faults::outage(&request)),
            Some(Fault::Conflict(_)) => Err(faults::conflict(&request)),
            Some(Fault::RateLimited(_)) => Err(faults::rate_limit(&request)),
            None => self.answer(request).await,
        }
    }

    fn now(&self) -> Timestamp {
        self.state().now
    }
}

pub(super) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: "acme".to_owned(), name: name.to_owned(), uid: "uid-1".to_owned() }
}

/// The recipient of a tenant's own workers: the same in every world, so that the ends of two can be compared.
fn own_workers(tenant: &str) -> Sealer {
    static OF: LazyLock<Mutex<BTreeMap<String, Sealer>>> = LazyLock::new(Mutex::default);
    let made = || Sealer::new(&generate_identity().1).expect("recipient");
    OF.lock().expect("no panic").entry(tenant.to_owned()).or_insert_with(made).clone()
}

/// Drives a step to its end.
pub(super) fn run<S: super::world::Step>(world: &FakeWorld, step: S) -> S::Outcome {
    block_on(drive(world, step))
}

/// Loss and a lost answer at every one of the `calls` that an undisturbed step makes.
pub(super) fn every_fault(calls: usize) -> impl Iterator<Item = Fault> {
    (0..calls).flat_map(|at| [Fault::Lost(at), Fault::AnswerLost(at)])
}
