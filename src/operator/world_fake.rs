//! A small world for the tests of steps: state in memory, answers as the real ones give them, and a failure at any call.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use async_trait::async_trait;

use super::{
    error::Error,
    schedule::tests::seen,
    world::{Answer, Kind, ObjectKey, Reply, Request, StartWorkflow, World, drive},
};
use crate::{
    credentials::{Sealer, seal::generate_identity},
    model::config::SecretFields,
    store::{
        self, ClaimOutcome, ConnectorAnswer, ConnectorProjection, HandledToken, Pool, TenantClaim, TenantProjection,
        TenantVerb, Verb,
    },
    temporal::{
        self, StartOutcome,
        cron_workflows::CronWorkflow,
        schedules::{Backfill, ListedSchedule, RecentRun, SeenSchedule},
    },
};

/// What happens to the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It never arrives.
    Lost(usize),
    /// It has its effect, its answer is lost.
    AnswerLost(usize),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) schedules: BTreeMap<String, SeenSchedule>,
    pub(super) claims: HashMap<String, TenantClaim>,
    /// Pools that other tenants have left.
    pub(super) pools_left: Option<usize>,
    pub(super) pools: BTreeMap<String, Sealer>,
    pub(super) connectors: BTreeMap<String, ConnectorProjection>,
    pub(super) handled: BTreeMap<Verb, HandledToken>,
    /// Tenants of the objects that the API server has.
    pub(super) objects: BTreeMap<(Kind, String, String), String>,
    pub(super) removed_tenants: Vec<String>,
    pub(super) secrets: HashMap<String, SecretFields>,
    /// The last token of each verb, and who recorded it.
    pub(super) tenant_tokens: BTreeMap<TenantVerb, (String, String)>,
    /// Cron workflows at work, by tenant.
    pub(super) cron_workflows: HashMap<String, CronWorkflow>,
    pub(super) backfills: Vec<Backfill>,
    pub(super) workflows: Vec<String>,
    pub(super) started: Vec<StartWorkflow>,
    pub(super) finalizer: bool,
    pub(super) statuses: Vec<serde_json::Value>,
    pub(super) calls: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct FakeWorld {
    state: Mutex<State>,
    fault: Mutex<Option<Fault>>,
}

impl FakeWorld {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The next calls are counted from 0, one of them fails so.
    pub(super) fn fail(&self, fault: Option<Fault>) {
        self.state().calls.clear();
        *self.fault.lock().expect("no panic") = fault;
    }

    /// A cron workflow that somebody started by hand for the tenant `acme`.
    pub(super) fn start_cron(&self) {
        let cron = CronWorkflow {
            workflow_id: "nightly".to_owned(),
            first_run_id: "r1".to_owned(),
            tenant_id: "acme".parse().expect("id"),
        };
        self.state().cron_workflows.insert("acme".to_owned(), cron);
    }

    /// Names of the calls since the last `fail`.
    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }
}

#[async_trait]
impl World for FakeWorld {
    async fn call(&self, request: Request) -> Reply {
        let name = format!("{request:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        let number = self.state().calls.len();
        self.state().calls.push(name);
        let away = Err(outage(&request));
        match *self.fault.lock().expect("no panic") {
            Some(Fault::Lost(at)) if at == number => away,
            Some(Fault::AnswerLost(at)) if at == number => {
                let _effect = self.state().answer(request);
                away
            }
            _ => self.state().answer(request),
        }
    }
}

fn outage(request: &Request) -> Error {
    let code = "lost".to_owned();
    match request {
        Request::PutTenant(_)
        | Request::RemoveTenant(..)
        | Request::TenantClaim(_)
        | Request::RecordTenantTokens(..)
        | Request::PutConnector(_)
        | Request::RemoveConnector(..) => Error::Store(store::Error::Unavailable { attempted: "answer", code }),
        Request::GetSecret { .. }
        | Request::TenantOf(..)
        | Request::EnsurePool(_)
        | Request::AddFinalizer(_)
        | Request::RemoveFinalizer(_)
        | Request::ApplyStatus(..) => Error::deadline("answer"),
        _ => Error::Temporal(temporal::Error::Unavailable { attempted: "answer", code }),
    }
}

impl State {
    fn answer(&mut self, request: Request) -> Reply {
        Ok(match request {
            Request::PutTenant(tenant) => Answer::Claim(self.put_tenant(&tenant)),
            Request::TenantClaim(tenant) => Answer::Claimant(self.claims.get(tenant.as_str()).cloned()),
            Request::PutConnector(wanted) => Answer::Connector(Box::new(self.put_connector(*wanted))),
            Request::RemoveConnector(_, connector, uid) => {
                self.connectors.retain(|id, projected| id != connector.as_str() || projected.uid != uid);
                Answer::Done
            }
            Request::RecordTenantTokens(_, uid, tokens) => {
                let at = "2026-11-23T00:59:00Z".parse().expect("timestamp");
                let mut recorded = BTreeMap::new();
                for (verb, token) in tokens {
                    let last = self.tenant_tokens.entry(verb).or_default();
                    if last.0 != token {
                        *last = (token, uid.clone());
                    }
                    recorded.extend((last.1 == uid && !uid.is_empty()).then_some((verb, at)));
                }
                Answer::Recorded(recorded)
            }
            Request::RemoveTenant(tenant, _) => {
                self.removed_tenants.push(tenant.to_string());
                Answer::Done
            }
            Request::DescribeSchedule(id) => Answer::Schedule(self.schedules.get(&id).cloned().map(Box::new)),
            Request::CreateSchedule(wanted) => {
                self.schedules.entry(wanted.id.clone()).or_insert_with(|| seen(&wanted));
                Answer::Started(StartOutcome::Started)
            }
            Request::UpdateSchedule(update) => {
                if let Some(schedule) = self.schedules.get_mut(&update.id) {
                    if let Some(wanted) = &update.content {
                        *schedule = seen(wanted);
                    }
                    schedule.state = update.state;
                }
                Answer::Done
            }
            Request::DeleteSchedule(id) => {
                self.schedules.remove(&id);
                Answer::Done
            }
            Request::LeaveSchedule(id, _) => {
                if let Some(schedule) = self.schedules.get_mut(&id) {
                    schedule.left = true;
                }
                Answer::Done
            }
            Request::FindCronWorkflow(tenant) => {
                Answer::CronWorkflow(self.cron_workflows.get(tenant.as_str()).cloned().map(Box::new))
            }
            Request::TerminateCron(cron) => {
                Answer::Ended(self.cron_workflows.remove(cron.tenant_id.as_str()).is_some())
            }
            // The worst of servers: it forgets at once which requests it had.
            Request::BackfillSchedule(backfill) => {
                if let Some(schedule) = self.schedules.get_mut(&backfill.schedule_id) {
                    let started = "2026-11-23T01:00:00Z".parse().expect("timestamp");
                    schedule.recent.push(RecentRun { tick: backfill.from, started });
                }
                self.backfills.push(*backfill);
                Answer::Done
            }
            Request::ListSchedules => {
                let listed = |(id, seen): (&String, &SeenSchedule)| ListedSchedule {
                    id: id.clone(),
                    owner: seen.owner.clone(),
                    upcoming: seen.next_run.into_iter().collect(),
                };
                Answer::Schedules(self.schedules.iter().map(listed).collect())
            }
            Request::TenantOf(kind, namespace, name) => {
                Answer::Tenant(self.objects.get(&(kind, namespace, name)).cloned())
            }
            Request::StartWorkflow(start) => {
                let known = self.workflows.contains(&start.workflow_id);
                if !known {
                    self.workflows.push(start.workflow_id.clone());
                    self.started.push(start);
                }
                Answer::Started(if known { StartOutcome::AlreadyStarted } else { StartOutcome::Started })
            }
            Request::GetSecret { name, .. } => Answer::Secret(self.secrets.get(&name).cloned()),
            Request::EnsurePool(tenant) => {
                let made = || Sealer::new(&generate_identity().1).expect("recipient");
                Answer::Recipient(self.pools.entry(tenant.to_string()).or_insert_with(made).clone())
            }
            Request::AddFinalizer(_) => {
                self.finalizer = true;
                Answer::Done
            }
            Request::RemoveFinalizer(_) => {
                self.finalizer = false;
                Answer::Done
            }
            Request::ApplyStatus(_, part) => {
                self.statuses.push(part.fields);
                Answer::Done
            }
            Request::Workers(_) => unreachable!("rollouts have a world of their own"),
        })
    }

    fn put_tenant(&mut self, tenant: &TenantProjection) -> ClaimOutcome {
        let known = self.claims.get(tenant.tenant_id.as_str());
        if let Some(claim) = known.filter(|claim| claim.owner != tenant.owner) {
            return ClaimOutcome::HeldBy(claim.owner.clone());
        }
        let before = known.map_or(Pool::Shared, |claim| claim.pool);
        if tenant.dedicated && before != Pool::Dedicated && self.pools_left == Some(0) {
            return ClaimOutcome::NoPoolLeft;
        }
        let pool = match (tenant.dedicated, before) {
            (true, _) => Pool::Dedicated,
            (false, Pool::Shared) => Pool::Shared,
            (false, _) => Pool::Left,
        };
        self.claims.insert(tenant.tenant_id.to_string(), TenantClaim { owner: tenant.owner.clone(), pool });
        ClaimOutcome::Held
    }

    /// As the store does it: tokens at first sight are recorded, not told as fresh.
    fn put_connector(&mut self, wanted: ConnectorProjection) -> ConnectorAnswer {
        let at = "2026-11-23T00:59:00Z".parse().expect("timestamp");
        let known = self.connectors.insert(wanted.connector_id.to_string(), wanted.clone()).is_some();
        let mut fresh_tokens = BTreeMap::new();
        for (verb, wish) in wanted.wishes {
            // Only verbs that change something in the store have an outcome to tell.
            let outcome = (known && verb == Verb::Replay).then(|| "2 dead letters marked".to_owned());
            let handled = HandledToken { token: wish.token, at, outcome };
            if self.handled.get(&verb).map(|before| &before.token) != Some(&handled.token) {
                self.handled.insert(verb, handled.clone());
                if known {
                    fresh_tokens.insert(verb, handled);
                }
            }
        }
        ConnectorAnswer {
            revision: if known { 2 } else { 1 },
            credential_revision: i64::from(wanted.credential.is_some()),
            fresh_tokens,
            handled: self.handled.clone(),
            name_taken: false,
        }
    }
}

pub(super) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: "acme".to_owned(), name: name.to_owned(), uid: "uid-1".to_owned() }
}

/// Drives a step to its end.
pub(super) fn run<S: super::world::Step>(world: &FakeWorld, step: S) -> S::Outcome {
    futures::executor::block_on(drive(world, step))
}

/// Every fault at every one of the `calls` that an undisturbed step makes.
pub(super) fn every_fault(calls: usize) -> impl Iterator<Item = Fault> {
    (0..calls).flat_map(|at| [Fault::Lost(at), Fault::AnswerLost(at)])
}
