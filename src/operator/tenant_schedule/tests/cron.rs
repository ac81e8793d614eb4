//! A cron workflow that somebody started by hand, beside the schedule and after it.

use serde_json::json;

use super::{Input, RESYNC, Reconcile, by_hand, condition, reasons, reconcile, shown, spec};
use crate::{
    operator::{
        tenant_schedule::tests::input,
        world_fake::{FakeWorld, every_fault, run},
    },
};

fn is_paused(world: &FakeWorld) -> bool {
    world.state().schedules.values().all(|seen| seen.state.paused)
}

#[test]
fn beside_a_cron_workflow_the_schedule_is_made_paused_and_goes_on_when_that_one_ends() {
    let world = FakeWorld::default();
    world.start_cron();
    let outcome = reconcile(&world, spec());
    assert!(reasons(&outcome).contains(&"LegacyCron") && is_paused(&world));
    assert_eq!(condition(&world, "Ready"), "False/LegacyCron");
    let status = shown(&world);
    assert!(status.conditions.iter().any(|of| of.type_ == "Ready" && of.message.contains("nightly")));
    assert!(!reasons(&reconcile(&world, spec())).contains(&"LegacyCron"), "told once");
    world.state().cron_workflows.clear();
    reconcile(&world, spec());
    assert!(!is_paused(&world));
    assert_eq!(condition(&world, "Ready"), "True/Scheduled");
    world.fail(None);
    reconcile(&world, spec());
    assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule"], "at rest nobody asks for it");

    // One that somebody starts later is listed by a census.
    world.start_cron();
    let suspected = Input { cron_suspected: true, ..input(&world, spec()) };
    run(&world, Reconcile::new(suspected, RESYNC));
    assert!(is_paused(&world) && condition(&world, "Ready") == "False/LegacyCron");
    by_hand(&world, |seen| seen.state.note = "Kim".to_owned());
    world.state().cron_workflows.clear();
    reconcile(&world, spec());
    assert!(is_paused(&world), "whoever paused it meanwhile resumes it");
}

#[test]
fn a_cron_workflow_is_ended_on_request_after_the_schedule_stands_whatever_fails() {
    let adopt = || json!({"tenantId": "acme", "conflictPolicy": "Adopt"});
    let undisturbed = FakeWorld::default();
    undisturbed.start_cron();
    assert!(reasons(&reconcile(&undisturbed, adopt())).contains(&"LegacyCronEnded"));
    let calls = undisturbed.calls();
    let [.., described, ended, _] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((described.as_str(), ended.as_str()), ("DescribeSchedule", "TerminateCron"));
    for fault in every_fault(calls.len()) {
        let world = FakeWorld::default();
        world.start_cron();
        world.fail(Some(fault));
        reconcile(&world, adopt());
        let stands = !world.state().schedules.is_empty();
        assert!(stands || !world.state().cron_workflows.is_empty(), "one of them ticks ({fault:?})");
        world.fail(None);
        reconcile(&world, adopt());
        if !world.state().cron_workflows.is_empty() {
            // Its listing leads to it.
            run(&world, Reconcile::new(Input { cron_suspected: true, ..input(&world, adopt()) }, RESYNC));
        }
        assert!(world.state().cron_workflows.is_empty() && !is_paused(&world), "{fault:?}");
        assert_eq!(condition(&world, "Ready"), "True/Scheduled", "{fault:?}");
    }
}
