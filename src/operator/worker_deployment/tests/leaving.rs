//! Pools that come to an end, and those that never began.

use super::{
    super::leave::{Leave, Leaving},
    *,
};

fn leave(fleet: &Fleet, wanted: &Wanted) -> bool {
    let leaving = || Leaving {
        namespace: wanted.namespace(),
        labels: wanted.selector.clone(),
        deployment: wanted.version.deployment.clone(),
    };
    fleet.drive(|| Leave::new(leaving())).is_gone
}

/// Rounds until nothing is left.
fn end(fleet: &Fleet, wanted: &Wanted) {
    for _ in 0..8 {
        if leave(fleet, wanted) {
            return;
        }
        fleet.pass(minutes(2));
        fleet.look_at_drainage();
    }
    panic!("no end: {:#?}", fleet.state());
}

fn is_empty(fleet: &Fleet) -> bool {
    let state = fleet.state();
    state.deployments.is_empty() && state.temporal.is_none()
}

#[test]
fn a_pool_that_nobody_needs_leaves_nothing_whatever_call_fails() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let undisturbed = resting(&first, &second);
    undisturbed.fail(None);
    assert!(!leave(&undisturbed, &second), "its pollers are remembered");
    let (deployments, versions) = undisturbed.shape();
    assert_eq!((deployments.len(), versions.len()), (0, 2));
    end(&undisturbed, &second);
    assert!(is_empty(&undisturbed));
    let calls = undisturbed.state().calls.len();
    for at in 0..calls {
        for fault in Fault::all_at(at) {
            let fleet = resting(&first, &second);
            fleet.fail(Some(fault));
            end(&fleet, &second);
            assert!(is_empty(&fleet), "{fault:?}");
        }
    }
}

#[test]
fn a_pool_that_is_gone_costs_two_looks() {
    let fleet = Fleet::new();
    assert!(leave(&fleet, &image("v1", 1, 1)));
    assert_eq!(fleet.state().calls.len(), 2);
}

#[test]
fn who_comes_back_while_his_pool_leaves_has_workers_again() {
    let wanted = image("v1", 1, 1);
    let fleet = working(&wanted);
    for _ in 0..3 {
        leave(&fleet, &wanted);
        fleet.pass(minutes(1));
        fleet.settle(&wanted);
        assert_eq!((fleet.pods(&wanted), fleet.version(&wanted)), (Some(1), Some(VersionState::Current)));
    }
}

#[test]
fn workers_that_the_api_server_refuses_are_told_so_and_a_former_build_goes_on() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = Fleet::new();
    fleet.state().refused.extend([first.version.build.clone(), second.version.build.clone()]);
    let outcome = fleet.round(&first);
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Refused, is_stalled: false }));
    assert!(outcome.failed.is_some() && !outcome.is_settled, "it is tried again");
    fleet.state().refused.remove(&first.version.build);
    fleet.settle(&first);
    fleet.state().deployments[0].replicas = 0;
    let outcome = fleet.round(&second);
    assert_eq!((outcome.availability.map(|it| it.pods), outcome.failed.is_some()), (Some(Pods::Ready), true));
    assert_eq!((fleet.pods(&first), fleet.version(&first)), (Some(1), Some(VersionState::Current)));
}

#[test]
fn a_pool_of_no_pods_is_not_called_available() {
    let wanted = image("v1", 0, 0);
    let fleet = Fleet::new();
    let (outcome, _) = fleet.settle(&wanted);
    assert_eq!((fleet.pods(&wanted), outcome.is_settled), (Some(0), true));
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Missing, is_stalled: false }));
}
