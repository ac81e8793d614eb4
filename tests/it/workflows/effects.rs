//! Every activity, run twice and failed after each of its effects: nothing is lost, nothing counts twice.
//!
//! One undisturbed life of a connector (a check, a failing run, a full load, a tick, a full load with its sweep) tells which
//! calls its activities make of the store, the only thing that they change but for a token's refresh, which is stored by
//! such a call. Then other lives take the same course, and in each of its phases one of these calls is interrupted when its
//! work is done: once so that the activity dies and is run again, once so that its answer is lost and the same attempt
//! repeats the call. Interrupted after the last call of an activity, the whole activity is run twice. After each phase a
//! life must hold what the undisturbed one held then (`snapshot.rs`), and the checker must find nothing.

mod absence;
mod life;
mod snapshot;

use std::{collections::BTreeSet, sync::Arc};

use gtm_sync::{
    activities::{Activities, shared_budget},
    connectors::http::{AllowedHosts, HttpClient, HttpSettings},
    credentials::Opener,
    ids::Names,
    metrics::Metrics,
    settings::{HealthSettings, StoreSettings, WorkerSettings},
    store::Store,
    temporal::Temporal,
    worker,
};
use tokio::{
    sync::{RwLock, Semaphore, watch},
    task::{JoinError, JoinSet},
};

use self::life::{Lived, PHASES, live};
use crate::support::{
    interrupting::{Call, Interrupting, Interruption, Kind},
    stack::Stack,
};

/// Lives at a time; most of a life is waiting for Temporal's first pause before a second attempt.
const LIVES_AT_ONCE: usize = 20;

/// After which of a phase's calls an activity dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thoroughness {
    /// Each that changes something.
    EveryEffect,
    /// The first of each method: what the activities do with them does not depend on the store.
    EveryMethod,
}

/// What is interrupted in each phase of a life.
type Plan = [Option<(Call, Interruption)>; PHASES.len()];

/// An installation whose worker runs in this process, on a store that interrupts it.
struct House {
    stack: Stack,
    store: Arc<Interrupting>,
}

impl House {
    fn of(stack: Stack) -> Arc<Self> {
        let store = Arc::new(Interrupting::new(Arc::clone(&stack.store)));
        Arc::new(Self { stack, store })
    }

    /// Works like the real worker until it is told to stop.
    async fn work(&self, draining: watch::Receiver<bool>) {
        work(&self.stack, self.store.clone(), self.stack.temporal.clone(), draining).await;
    }
}

/// Works like the real worker, with this store, until it is told to stop; its activities look others up in that Temporal.
async fn work(stack: &Stack, store: Arc<dyn Store>, lookups: Temporal, draining: watch::Receiver<bool>) {
    let Stack { settings, temporal, directory, .. } = stack;
    let identity_file = directory.path().join("identity");
    let identity = std::fs::read_to_string(&identity_file).expect("identity file");
    let allowed_private_hosts = vec!["127.0.0.1".to_owned()];
    let http = HttpSettings {
        allowed_private_hosts: AllowedHosts::parse(&allowed_private_hosts).expect("an address"),
        ..HttpSettings::default()
    };
    let activities = Activities {
        installation_id: stack.store.installation_id().await.expect("installation id"),
        budget: shared_budget(&store),
        store,
        temporal: lookups,
        pool: None,
        recipients: None,
        opener: Opener::new(&identity).expect("identity"),
        http: HttpClient::new(http).expect("HTTP client"),
        names: Names::new(None),
        tenant_syncs: Some(1),
        metrics: Metrics::default(),
        draining,
        company: RwLock::default(),
    };
    let settings = WorkerSettings {
        store: StoreSettings::of(stack.database_url.clone()),
        temporal: settings.clone(),
        health: HealthSettings { health_address: ([127, 0, 0, 1], 0).into() },
        pool: None,
        identity_file,
        recipients_directory: None,
        max_concurrent_activities: 2 * LIVES_AT_ONCE,
        max_concurrent_workflows: LIVES_AT_ONCE,
        tenant_syncs: None,
        allowed_private_hosts,
        source_ca_file: None,
        worker_deployment: None,
        build_id: None,
        recycle_after_activities: 0,
        drain_seconds: 1,
    };
    worker::poll(&settings, temporal, activities, watch::Sender::new(false)).await.expect("the worker works");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal, postgres"]
async fn an_activity_that_ends_after_any_of_its_effects_is_run_again_and_changes_nothing_on_postgresql() {
    interrupt_everything(House::of(Stack::on_postgres().await), Thoroughness::EveryEffect).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn an_activity_that_ends_after_any_of_its_effects_is_run_again_and_changes_nothing_on_sqlite() {
    interrupt_everything(House::of(Stack::on_sqlite().await), Thoroughness::EveryMethod).await;
}

/// A death is the activity's whole work once more, and differs from place to place; a lost answer is the same call at once
/// once more, which each method bears or does not.
async fn interrupt_everything(house: Arc<House>, deaths: Thoroughness) {
    let (stop, draining) = watch::channel(false);
    let lives = async {
        let calm = live(&house, 0, Plan::default()).await;
        let points = |every| calm.iter().map(|lived| points(&lived.phase.calls, every)).collect::<Vec<_>>();
        let deaths = points(deaths == Thoroughness::EveryEffect);
        assert_all_methods_are_met(&deaths);
        let plans = plans(&[(deaths, Interruption::ActivityDies), (points(false), Interruption::AnswerIsLost)]);
        lead_all(&house, &calm, plans).await;
        assert_eq!(house.store.strangers(), BTreeSet::new(), "called by activities, and not interrupted");
        stop.send_replace(true);
    };
    tokio::join!(house.work(draining), lives);
}

/// The calls of a phase to interrupt: every effect, or the first of each method; of each kind of reading the first. How
/// often the budget is asked depends on the time that a phase takes.
fn points(calls: &[Call], every: bool) -> Vec<Call> {
    let methods = Interrupting::methods();
    let every = |method| every && methods[method] == Kind::Writes && method != "take_budget";
    calls.iter().filter(|call| call.nth == 1 || every(call.method)).copied().collect()
}

/// A method that activities call and that this course does not meet would go uninterrupted: lead the course there.
fn assert_all_methods_are_met(points: &[Vec<Call>]) {
    let met: BTreeSet<&str> = points.iter().flatten().map(|call| call.method).collect();
    let missed: Vec<_> = Interrupting::methods().into_keys().filter(|method| !met.contains(method)).collect();
    assert!(missed.is_empty(), "not met in the undisturbed life: {missed:?}");
}

/// Lives that are interrupted at every point, and one more that is not: two calm ones are equal, too.
fn plans(courses: &[(Vec<Vec<Call>>, Interruption)]) -> Vec<Plan> {
    let interrupted = courses.iter().flat_map(|(points, how)| {
        let longest = points.iter().map(Vec::len).max().unwrap_or(0);
        let plan = |turn: usize| std::array::from_fn(|phase| points[phase].get(turn).map(|call| (*call, *how)));
        (0..longest).map(plan)
    });
    interrupted.chain([Plan::default()]).collect()
}

async fn lead_all(house: &Arc<House>, calm: &[Lived], plans: Vec<Plan>) {
    let slots = Arc::new(Semaphore::new(LIVES_AT_ONCE));
    let (lives_led, mut interruptions) = (plans.len(), 0);
    let mut lives = JoinSet::new();
    for (number, plan) in (1..).zip(plans) {
        let (house, slots) = (Arc::clone(house), Arc::clone(&slots));
        interruptions += plan.iter().flatten().count();
        lives.spawn(async move {
            let _slot = slots.acquire_owned().await.expect("open");
            // A task of its own: when it fails, the others go on, and the report names them all.
            (plan, tokio::spawn(async move { live(&house, number, plan).await }).await)
        });
    }
    let mut differences = Vec::new();
    while let Some(life) = lives.join_next().await {
        let (plan, lived) = life.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        differences.extend(match lived {
            Ok(lived) => differing(&plan, &lived, calm),
            Err(error) => Some(format!("- {plan:?}:\n    {}", panic_text(error))),
        });
    }
    let told = format!("{lives_led} lives, {interruptions} interruptions");
    assert!(differences.is_empty(), "{told}, {} lives differ:\n{}", differences.len(), differences.join("\n"));
    eprintln!("{told}");
}

/// What a life held otherwise than the calm one; after the first such phase it is another life.
fn differing(plan: &Plan, lived: &[Lived], calm: &[Lived]) -> Option<String> {
    PHASES.iter().zip(plan).zip(lived.iter().zip(calm)).find_map(|((phase, plan), (lived, calm))| {
        let what = match lived.phase.awaited {
            Some(_) => vec!["which never came".to_owned()],
            None => lived.snapshot.differences(&calm.snapshot),
        };
        (!what.is_empty()).then(|| format!("- {phase}, interrupted at {plan:?}:\n    {}", what.join("\n    ")))
    })
}

fn panic_text(error: JoinError) -> String {
    let payload = error.into_panic();
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("failed").to_owned()
}
