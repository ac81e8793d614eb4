//! Two deciders at once (R26): an old leader that stops before any of its requests, and its successor. Both may act, only one
//! can win, and the end is that of one alone.

use super::{
    REST, is_sampled, report,
    scenarios::{ALL, Scenario},
    simulation::Simulation,
    snapshot::{Against, Snapshot},
    wish,
};

/// Orders in which the requests of two leaders are mixed, a scenario; `GTM_ENUMERATOR_RUNS` asks for more.
const ORDERS: u64 = 4;

fn undisturbed(scenario: Scenario) -> (usize, Snapshot) {
    let mut simulation = Simulation::new(&[], &[]);
    (scenario.script)(&mut simulation);
    let calls = simulation.servers.state().calls.len();
    simulation.run_for(REST);
    (calls, Snapshot::of(&simulation.servers, Against::Undisturbed))
}

#[test]
fn a_leader_that_wakes_up_late_changes_nothing_whatever_it_was_about_to_do() {
    let mut runs = 0;
    let mut failures = Vec::new();
    for scenario in ALL {
        let (calls, expected) = undisturbed(scenario);
        for at in (0..calls).filter(|at| is_sampled(*at)) {
            runs += 1;
            let mut simulation = Simulation::step_by_step(&[], &[], None);
            simulation.freeze_at = Some(at);
            // What a late leader sends to Temporal bears the id by which its successor sent it.
            simulation.servers.state().knows_requests = true;
            (scenario.script)(&mut simulation);
            simulation.run_for(REST);
            let differences = Snapshot::of(&simulation.servers, Against::Undisturbed).differences(&expected);
            if !differences.is_empty() {
                let (told, calls) = (differences.join("\n"), simulation.calls(0));
                failures.push(format!("{} frozen at call {at}\n{told}\n  calls: {calls:?}", scenario.name));
            }
        }
    }
    report(runs, &failures);
}

#[test]
fn two_leaders_whose_requests_are_mixed_in_any_order_end_as_one() {
    let first = wish("GTM_ENUMERATOR_SEED").and_then(|seed| seed.parse().ok());
    let count = wish("GTM_ENUMERATOR_RUNS").and_then(|count| count.parse().ok()).unwrap_or(ORDERS);
    let seeds = first.map_or(0..count, |seed| seed..seed + 1);
    let mut runs = 0;
    let mut failures = Vec::new();
    for scenario in ALL {
        let (_, expected) = undisturbed(scenario);
        for seed in seeds.clone() {
            runs += 1;
            let mut simulation = Simulation::step_by_step(&[], &[], Some(seed));
            simulation.rivals = true;
            (scenario.script)(&mut simulation);
            simulation.rivals = false;
            simulation.run_for(REST);
            let differences = Snapshot::of(&simulation.servers, Against::Undisturbed).differences(&expected);
            if !differences.is_empty() {
                let replay = format!("GTM_ENUMERATOR_SEED={seed} cargo test --lib two_leaders");
                failures.push(format!("{}\n{}\n  again: {replay}", scenario.name, differences.join("\n")));
            }
        }
    }
    report(runs, &failures);
}
