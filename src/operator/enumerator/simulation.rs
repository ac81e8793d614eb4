//! Servers, operator processes and a worker in virtual time: what may happen next, in the order of an undisturbed run or in a
//! random one. What happens is decided by faults, delays and the seed alone, so every run can be had again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, LazyLock, atomic::Ordering},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    process::Process,
    random::Random,
    work::{Delay, Due},
};
use crate::{
    clock,
    contract::{
        CHECK_CONNECTION_WORKFLOW, CONNECTOR_SYNC_WORKFLOW,
        activities::Effort,
        workflows::{CheckConnectionInput, ConnectionStatus, ConnectorSyncInput},
    },
    model::{
        config::SecretFields,
        cursor::{Cursor, Load},
    },
    operator::{
        world::{Kind, ObjectKey, StartWorkflow},
        world_fake::{Fault, Servers, State, block_on},
    },
    store::{ConnectionFound, LeaseRequest, RunEnd, RunOutcome},
};

/// A process that died is back after so long.
const RESTART: SignedDuration = SignedDuration::from_secs(3);
/// A worker takes so long for a check …
const CHECK: SignedDuration = SignedDuration::from_secs(2);
/// … and for a sync: a start that is tried again finds it at work.
const SYNC: SignedDuration = SignedDuration::from_secs(20);
/// A process that is stopped wakes up after so long.
const FREEZE: SignedDuration = SignedDuration::from_secs(20);
/// More happens in no run: something goes round.
const MOST_STEPS: usize = 100_000;

/// Virtual time begins at the machine's: the store's clock is that one.
static BEGINNING: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_second(clock::now().as_second()).expect("a time"));

pub(super) struct Simulation {
    pub(super) servers: Arc<Servers>,
    pub(super) processes: Vec<Process>,
    pub(super) delays: BTreeMap<usize, Delay>,
    /// Chooses what is done next; without it the order is always the same.
    pub(super) random: Option<Random>,
    /// Done in between by people, at random.
    pub(super) people: Option<fn(&mut State, &mut Random)>,
    /// Whether another operator takes the leadership again and again.
    pub(super) rivals: bool,
    /// How the next syncs end, in the store, too; of others no run is recorded.
    pub(super) ends: VecDeque<RunEnd>,
    /// Before this call its process is stopped for a while, and another takes over.
    pub(super) freeze_at: Option<usize>,
    frozen_until: Option<Timestamp>,
    step_by_step: bool,
    restart_at: Option<Timestamp>,
    work: Vec<(Timestamp, StartWorkflow)>,
    seen_started: usize,
    steps: usize,
}

/// What may be done now.
#[derive(Debug)]
enum Choice {
    GoOn(usize, usize),
    Begin(usize, Due),
    Work(usize),
    Restart,
}

impl Simulation {
    /// An operator on empty servers, with these faults and delays to come.
    pub(super) fn new(faults: &[Fault], delays: &[(usize, Delay)]) -> Self {
        let servers = Servers::at(*BEGINNING);
        servers.state().faults = faults.to_vec();
        Self {
            processes: vec![Process::start(&servers, false, None)],
            servers,
            delays: delays.iter().copied().collect(),
            random: None,
            people: None,
            rivals: false,
            ends: VecDeque::new(),
            freeze_at: None,
            frozen_until: None,
            step_by_step: false,
            restart_at: None,
            work: Vec::new(),
            seen_started: 0,
            steps: 0,
        }
    }

    /// As `new`, with processes that stop before every request. What is done next is drawn where there is a seed.
    pub(super) fn step_by_step(faults: &[Fault], delays: &[(usize, Delay)], seed: Option<u64>) -> Self {
        let mut simulation = Self::new(faults, delays);
        simulation.step_by_step = true;
        simulation.random = seed.map(|seed| Random::of(&[seed]));
        simulation.processes.clear();
        simulation.another();
        simulation
    }

    /// Another process that takes the leadership. Which kind it lists first is drawn; else it is the one that depends on the other.
    fn another(&mut self) {
        let first = match &mut self.random {
            Some(random) => *random.pick(&[Kind::TenantSchedule, Kind::Connector]),
            None => Kind::Connector,
        };
        let process = Process::start(&self.servers, self.step_by_step, Some(first));
        self.processes.push(process);
    }

    /// Everything that happens within so many seconds.
    pub(super) fn run_for(&mut self, seconds: i64) {
        let end = self.servers.state().now + SignedDuration::from_secs(seconds);
        while self.step(end) {
            self.steps += 1;
            assert!(self.steps < MOST_STEPS, "something goes round: {:?}", self.last_calls());
        }
        self.servers.state().now = end;
    }

    fn last_calls(&self) -> Vec<String> {
        let state = self.servers.state();
        state.calls.iter().rev().take(20).cloned().collect()
    }

    /// Does one thing; `false` when nothing is left to do before `end`.
    pub(super) fn step(&mut self, end: Timestamp) -> bool {
        self.take_started();
        self.freeze();
        let now = self.servers.state().now;
        let mut choices = Vec::new();
        let mut next = end;
        for (number, process) in self.processes.iter_mut().enumerate() {
            if let Some(until) = self.frozen_until.filter(|_| number == 0) {
                next = next.min(until);
                continue;
            }
            choices.extend((0..process.at_work()).map(|of| Choice::GoOn(number, of)));
            let mut due = process.due(&self.delays);
            due.sort_by(|a, b| a.1.cmp(&b.1));
            for (at, due) in due {
                if at <= now {
                    choices.push(Choice::Begin(number, due));
                }
                next = next.min(at);
            }
        }
        choices.extend((0..self.work.len()).filter(|of| self.work[*of].0 <= now).map(Choice::Work));
        choices.extend(self.restart_at.filter(|at| *at <= now).map(|_| Choice::Restart));
        next = self.work.iter().map(|of| of.0).chain(self.restart_at).fold(next, Timestamp::min);
        if choices.is_empty() {
            if next >= end {
                return false;
            }
            let mut state = self.servers.state();
            state.now = next;
            state.apply_updates();
            return true;
        }
        let chosen = match &mut self.random {
            Some(random) => random.below(choices.len()),
            None => 0,
        };
        self.take(choices.swap_remove(chosen));
        true
    }

    /// Stops the only process, or lets it go on; and lets another take over.
    fn freeze(&mut self) {
        let (now, calls) = {
            let state = self.servers.state();
            (state.now, state.calls.len())
        };
        if self.frozen_until.is_some_and(|until| until <= now) {
            self.frozen_until = None;
            self.processes[0].world.overslept.store(true, Ordering::Relaxed);
        }
        let is_about_to_ask = self.processes.first().is_some_and(|process| process.is_about_to_ask);
        if self.freeze_at == Some(calls) && is_about_to_ask {
            self.freeze_at = None;
            self.frozen_until = Some(now + FREEZE);
            self.another();
        }
        let odds = |random: &mut Random| random.below(8) == 0;
        if self.rivals && self.processes.len() == 1 && self.random.as_mut().is_some_and(odds) {
            self.another();
        }
    }

    fn take(&mut self, choice: Choice) {
        match choice {
            Choice::GoOn(process, of) => {
                if let (Some(people), Some(random)) = (self.people, &mut self.random) {
                    people(&mut self.servers.state(), random);
                }
                self.processes[process].go_on(of);
                self.bury(process);
            }
            Choice::Begin(process, due) => self.processes[process].begin(due, &self.delays),
            Choice::Work(of) => {
                let (_, start) = self.work.remove(of);
                self.worked(&start);
                self.processes.iter_mut().for_each(Process::look_soon);
            }
            Choice::Restart => {
                self.restart_at = None;
                self.another();
            }
        }
    }

    /// A process that died is started anew, one that leads no more leaves.
    fn bury(&mut self, number: usize) {
        let world = Arc::clone(&self.processes[number].world);
        if world.has_died() {
            self.restart_at = Some(self.servers.state().now + RESTART);
        }
        if world.has_died() || !world.leadership.is_current() {
            drop(self.processes.remove(number));
        }
    }

    fn take_started(&mut self) {
        let state = self.servers.state();
        let started = state.started.iter().skip(self.seen_started);
        self.work.extend(started.map(|start| {
            let is_check = start.workflow_type == CHECK_CONNECTION_WORKFLOW;
            (state.now + if is_check { CHECK } else { SYNC }, start.clone())
        }));
        self.seen_started = state.started.len();
    }

    /// The worker: every source accepts its credential, and syncs end.
    fn worked(&mut self, start: &StartWorkflow) {
        let mut state = self.servers.state();
        state.open.remove(&start.workflow_id);
        state.completed.insert(start.workflow_id.clone());
        drop(state);
        match start.workflow_type {
            CHECK_CONNECTION_WORKFLOW => self.checked(start),
            CONNECTOR_SYNC_WORKFLOW => self.synced(start),
            _ => {}
        }
    }

    fn synced(&mut self, start: &StartWorkflow) {
        // A start that was repeated under another name is one run more in the end.
        let is_beside_another = self.work.iter().any(|(_, other)| other.workflow_type == CONNECTOR_SYNC_WORKFLOW);
        let end = match self.ends.front() {
            None => return,
            Some(_) if is_beside_another => RunEnd::Failed("two runs at once".to_owned()),
            Some(_) => self.ends.pop_front().expect("there is one"),
        };
        let of: ConnectorSyncInput = serde_json::from_value(start.input.clone()).expect("its input");
        let store = &self.servers.store;
        block_on(async {
            let record = store.connector(&of.tenant_id, &of.connector_id).await.expect("read").expect("projected");
            let request = LeaseRequest {
                tenant_id: of.tenant_id,
                connector_id: of.connector_id,
                uid: record.uid,
                revision: record.revision,
                account_id: "account".to_owned(),
                workflow_id: start.workflow_id.clone(),
                full_sync: of.full_sync,
                expected_epoch: None,
                former_outcome: RunOutcome::Terminated,
                load: Load::begin(&Cursor::default(), 0, false, &[], clock::now()),
                restart_load: false,
                tenant_syncs: None,
            };
            let granted = store.take_lease(&request).await.expect("free");
            store.finish_run(&granted.lease, &end, Effort::default()).await.expect("ended");
        });
        // By this world's clock: the next run is due by it.
        let now = self.servers.state().now;
        self.servers.file.execute(&format!(
            "UPDATE run SET started_at = '{now:.6}', finished_at = '{now:.6}' WHERE workflow_id = '{}';
             UPDATE sync_state SET last_success_at = '{now:.6}' WHERE last_success_at IS NOT NULL",
            start.workflow_id
        ));
    }

    fn checked(&self, start: &StartWorkflow) {
        let of: CheckConnectionInput = serde_json::from_value(start.input.clone()).expect("its input");
        let store = &self.servers.store;
        let found =
            ConnectionFound { status: Some(ConnectionStatus::Connected), reason: String::new(), account_id: None };
        block_on(async {
            let Some(record) = store.connector(&of.tenant_id, &of.connector_id).await.expect("read") else { return };
            let revision = record.credential_revision;
            store.set_connection(&of.tenant_id, &of.connector_id, revision, &found).await.expect("written");
        });
    }

    // --- what people do ---------------------------------------------------------------------------------------------

    pub(super) fn tenant(&self, namespace: &str, name: &str, spec: Value) -> ObjectKey {
        self.servers.state().apply(Kind::TenantSchedule, namespace, name, spec)
    }

    pub(super) fn connector(&self, namespace: &str, name: &str, spec: Value) -> ObjectKey {
        self.servers.state().apply(Kind::Connector, namespace, name, spec)
    }

    pub(super) fn secret(&self, namespace: &str, name: &str, token: &str) {
        let fields = SecretFields([("accessToken".to_owned(), token.to_owned())].into());
        self.servers.state().secrets.insert((namespace.to_owned(), name.to_owned()), fields);
    }

    pub(super) fn delete(&self, key: &ObjectKey) {
        self.servers.state().delete(key);
    }

    /// Names of the calls from the `from`th on.
    pub(super) fn calls(&self, from: usize) -> Vec<String> {
        self.servers.state().calls[from..].to_vec()
    }
}
