//! Every scenario through every fault at every request, every watch event late or missed, and pairs of faults: the end is that
//! of the undisturbed run, which itself writes nothing in vain and then rests.

use jiff::SignedDuration;

use super::{
    REST, SAMPLED, is_sampled,
    random::Random,
    report,
    scenarios::{ALL, Scenario},
    simulation::Simulation,
    snapshot::{Against, Snapshot, in_words},
    wish,
    work::Delay,
};
use crate::{
    operator::world_fake::{Fault, Servers, State},
    temporal::schedules::ScheduleState,
};

/// A watch that is late by this much: reconciles that others trigger, or that follow a failure, see what was before.
const LATE: SignedDuration = SignedDuration::from_secs(20);
/// Pairs of faults a scenario; `GTM_ENUMERATOR_PAIRS` asks for more.
const PAIRS: usize = 12;
/// So many scenarios are about tenants alone.
const TENANTS: usize = 13;
/// What somebody notes who pauses a schedule.
const KIM: &str = "Kim: importing";
/// Calls that write nothing where nothing changed: what is left to do at rest.
const LOOKS: [&str; 7] =
    ["PutTenant", "TenantClaim", "EnsurePool", "GetSecret", "PutConnector", "DescribeSchedule", "ListSchedules"];

/// A run of a scenario to its rest, and how much happened until the last edit had settled.
struct Run {
    simulation: Simulation,
    end: Vec<String>,
    calls: usize,
    changes: usize,
}

fn run(scenario: Scenario, faults: &[Fault], delays: &[(usize, Delay)]) -> Run {
    let mut simulation = Simulation::new(faults, delays);
    (scenario.script)(&mut simulation);
    let end = in_words(&simulation.servers);
    let (calls, changes) = {
        let state = simulation.servers.state();
        (state.calls.len(), state.changes.len())
    };
    simulation.run_for(REST);
    Run { simulation, end, calls, changes }
}

/// One disturbance of the undisturbed run.
#[derive(Debug, Clone)]
struct Disturbance {
    faults: Vec<Fault>,
    delays: Vec<(usize, Delay)>,
}

impl Disturbance {
    fn label(&self, scenario: Scenario) -> String {
        format!("{}:{:?}{:?}", scenario.name, self.faults, self.delays)
    }
}

/// Each by itself.
fn single(undisturbed: &Run) -> Vec<Disturbance> {
    let faults = (0..undisturbed.calls).flat_map(Fault::all_at);
    let of_calls = faults.map(|fault| Disturbance { faults: vec![fault], delays: Vec::new() });
    let delays = (0..undisturbed.changes).flat_map(|at| [(at, Delay::Stale(LATE)), (at, Delay::Missed)]);
    of_calls.chain(delays.map(|delay| Disturbance { faults: Vec::new(), delays: vec![delay] })).collect()
}

/// Two of them at once, drawn.
fn pairs(undisturbed: &Run, count: usize, seed: u64) -> Vec<Disturbance> {
    let all = single(undisturbed);
    let mut random = Random::of(&[seed]);
    let pair = |random: &mut Random| {
        let (mut first, second) = (random.pick(&all).clone(), random.pick(&all).clone());
        first.faults.extend(second.faults);
        first.delays.extend(second.delays);
        first
    };
    (0..count * SAMPLED).map(|_| pair(&mut random)).collect()
}

/// Runs a scenario with each of the disturbances; how often, and what went wrong.
fn enumerate(scenario: Scenario, disturbances: impl FnOnce(&Run) -> Vec<Disturbance>) -> (usize, Vec<String>) {
    let undisturbed = run(scenario, &[], &[]);
    let expected = Snapshot::of(&undisturbed.simulation.servers, Against::Undisturbed);
    let only = wish("GTM_ENUMERATOR_ONLY");
    let mut runs = 0;
    let mut failures = Vec::new();
    for (number, disturbance) in disturbances(&undisturbed).into_iter().enumerate() {
        let label = disturbance.label(scenario);
        let is_wanted = only.as_ref().map_or_else(|| is_sampled(number), |only| *only == label);
        if !is_wanted {
            continue;
        }
        runs += 1;
        let disturbed = run(scenario, &disturbance.faults, &disturbance.delays);
        let mut differences = Snapshot::of(&disturbed.simulation.servers, Against::Undisturbed).differences(&expected);
        differences.extend(taken(&disturbed.simulation.servers, &undisturbed.simulation.servers));
        if !differences.is_empty() {
            let replay = format!("GTM_ENUMERATOR_ONLY='{label}' cargo test --lib enumerator");
            let calls = disturbed.simulation.calls(0);
            failures.push(format!("{}\n  calls: {calls:?}\n  again: {replay}", differences.join("\n")));
        }
    }
    (runs, failures)
}

/// Schedules that were deleted more often than without a disturbance: one that is made again has lost people's pauses and its
/// place in time, which no end state shows.
fn taken(disturbed: &Servers, undisturbed: &Servers) -> Vec<String> {
    let (deletions, expected) = (disturbed.state().deletions.clone(), undisturbed.state().deletions.clone());
    let more = deletions.into_iter().filter(|(id, count)| *count > expected.get(id).copied().unwrap_or_default());
    more.map(|(id, count)| format!("schedule {id} was deleted {count} times")).collect()
}

fn all(scenarios: &[Scenario], disturbances: impl Fn(&Run) -> Vec<Disturbance>) {
    let mut runs = 0;
    let mut failures = Vec::new();
    for &scenario in scenarios {
        let (of, failed) = enumerate(scenario, &disturbances);
        runs += of;
        failures.extend(failed);
    }
    report(runs, &failures);
    println!("{runs} runs");
}

#[test]
fn whatever_happens_to_a_call_of_a_tenant_the_end_is_that_of_the_undisturbed_run() {
    all(&ALL[..TENANTS], single);
}

#[test]
fn whatever_happens_to_a_call_of_a_connector_the_end_is_that_of_the_undisturbed_run() {
    all(&ALL[TENANTS..], single);
}

#[test]
fn two_faults_at_once_end_as_none() {
    let seed = wish("GTM_ENUMERATOR_SEED").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = wish("GTM_ENUMERATOR_PAIRS").and_then(|count| count.parse().ok()).unwrap_or(PAIRS);
    all(&ALL, |undisturbed| pairs(undisturbed, count, seed));
}

#[test]
fn an_undisturbed_run_ends_as_its_scenario_says() {
    let differs = |scenario: Scenario| {
        let end = run(scenario, &[], &[]).end;
        (end != scenario.end).then(|| format!("{}: {end:#?}", scenario.name))
    };
    report(ALL.len(), &ALL.into_iter().filter_map(differs).collect::<Vec<_>>());
}

/// In the Web UI.
fn kim_pauses(state: &mut State) {
    let ids: Vec<_> = state.schedules.keys().cloned().collect();
    for id in ids {
        state.edit_schedule(&id, |schedule| {
            schedule.state = ScheduleState { paused: true, note: KIM.to_owned(), ..schedule.state.clone() };
        });
    }
}

#[test]
fn a_pause_that_a_person_makes_at_any_moment_survives_whatever_is_being_written() {
    let edited = ALL.into_iter().find(|scenario| scenario.name == "tenant-edited").expect("a scenario");
    for at in 0..run(edited, &[], &[]).calls {
        let mut simulation = Simulation::new(&[], &[]);
        simulation.servers.state().meanwhile = Some((at, kim_pauses));
        (edited.script)(&mut simulation);
        simulation.run_for(REST);
        let state = simulation.servers.state();
        let kims = state.schedules.values().all(|seen| seen.state.paused && seen.state.note == KIM);
        let came_too_early = state.calls[..at].iter().all(|call| call != "CreateSchedule");
        assert!(kims || came_too_early, "before call {at}: {:?}", state.calls);
    }
}

#[test]
fn an_undisturbed_run_writes_nothing_in_vain_and_then_only_looks() {
    for scenario in ALL {
        let Run { mut simulation, .. } = run(scenario, &[], &[]);
        assert_eq!(simulation.servers.state().needless_statuses, 0, "{}", scenario.name);
        while simulation.processes[0].events.try_recv().is_ok() {}
        let rows = |of: &Simulation| {
            let tables = ["tenant", "connector", "credential", "handled_token"];
            let stamps = tables.map(|table| {
                let at = if table == "handled_token" { "handled_at" } else { "updated_at" };
                of.servers.file.rows(&format!("SELECT {at} FROM {table}"))
            });
            format!("{stamps:?}")
        };
        let (before, calls) = (rows(&simulation), simulation.servers.state().calls.len());
        simulation.run_for(600);
        let calls = simulation.calls(calls);
        assert!(calls.iter().all(|call| LOOKS.contains(&call.as_str())), "{}: {calls:?}", scenario.name);
        // An object is looked at once a resync, by at most four calls; one that waits for something not before five minutes.
        let objects = simulation.servers.state().objects.len();
        assert!(calls.len() <= objects * 2 * 4 + 2, "{}: {calls:?}", scenario.name);
        assert_eq!(rows(&simulation), before, "{}: the store is written", scenario.name);
        assert!(simulation.processes[0].events.try_recv().is_err(), "{}: an Event", scenario.name);
    }
}
