//! Rollouts of a pool against a fleet in memory: each scar of the peers (docs/workers.md), and every fault at every call.

mod behaviours;
mod fleet;
mod leaving;

use jiff::SignedDuration;

use self::fleet::{Fleet, RETENTION, image};
use super::{
    pool::{Replicas, Wanted},
    requests::{Build, WorkerRequest},
    status::{Availability, Pods},
};
use crate::{
    operator::{worker_deployment::requests::DeploymentKey, world_fake::Fault},
    temporal::worker_deployments::VersionState,
};

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn is_drained(state: Option<VersionState>) -> bool {
    matches!(state, Some(VersionState::Drained { .. }))
}

/// A fleet whose current build is this one.
fn working(wanted: &Wanted) -> Fleet {
    let fleet = Fleet::new();
    fleet.settle(wanted);
    assert_eq!(fleet.version(wanted), Some(VersionState::Current));
    fleet
}

/// The former one has drained, and rests.
fn resting(first: &Wanted, second: &Wanted) -> Fleet {
    let fleet = working(first);
    fleet.settle(second);
    fleet.look_at_drainage();
    fleet.settle(second);
    assert!(is_drained(fleet.version(first)));
    fleet
}

#[test]
fn a_build_gets_its_pods_then_polls_then_takes_the_work_and_the_former_one_drains_with_a_pod_and_rests_without() {
    let (first, second) = (image("v1", 2, 2), image("v2", 2, 2));
    let fleet = working(&first);
    assert_eq!(fleet.pods(&first), Some(2));
    fleet.state().runs.insert(first.version.build.clone(), 1);
    let (outcome, told) = fleet.settle(&second);
    assert_eq!(told, ["WorkerRolloutFinished"]);
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Ready, is_stalled: false }));
    assert_eq!((fleet.version(&second), fleet.pods(&second)), (Some(VersionState::Current), Some(2)));
    fleet.look_at_drainage();
    fleet.settle(&second);
    assert_eq!((fleet.version(&first), fleet.pods(&first)), (Some(VersionState::Draining), Some(2)));
    fleet.state().runs.clear();
    fleet.look_at_drainage();
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), Some(0), "its pods are gone, its Deployment waits");
}

#[test]
fn a_bad_image_never_takes_traffic_is_told_once_and_leaves_when_it_is_mended() {
    let (good, bad, mended) = (image("v1", 1, 1), image("broken", 1, 1), image("v2", 1, 1));
    let fleet = working(&good);
    fleet.state().broken.insert(bad.version.build.clone());
    let (outcome, told) = fleet.settle(&bad);
    assert_eq!((outcome.is_settled, told.len()), (false, 0));
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Ready, is_stalled: false }));
    fleet.pass(minutes(10));
    let outcome = fleet.round(&bad);
    assert_eq!(outcome.notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["WorkerRolloutStalled"]);
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Ready, is_stalled: true }));
    assert_eq!(fleet.round(&bad).notes, [], "once");
    assert_eq!((fleet.version(&good), fleet.pods(&good)), (Some(VersionState::Current), Some(1)));
    let (outcome, told) = fleet.settle(&mended);
    assert_eq!((told, outcome.availability.map(|it| it.is_stalled)), (vec!["WorkerRolloutFinished"], Some(false)));
    assert_eq!((fleet.pods(&bad), fleet.version(&bad)), (None, None));
}

#[test]
fn a_build_whose_pods_are_ready_and_do_not_poll_takes_nothing_and_is_told() {
    let (good, silent) = (image("v1", 1, 1), image("old", 1, 1));
    let fleet = working(&good);
    fleet.settle(&silent);
    assert_eq!(fleet.version(&silent), Some(VersionState::Current));
    fleet.settle(&good);
    // It is known, and polls no more.
    fleet.pass(minutes(6));
    fleet.state().silent.insert(silent.version.build.clone());
    fleet.state().polled.remove(&silent.version.build);
    let (_, told) = fleet.settle(&silent);
    assert_eq!((told.len(), fleet.version(&good)), (0, Some(VersionState::Current)));
    fleet.pass(minutes(10));
    assert_eq!(fleet.round(&silent).notes[0].reason, "WorkerRolloutStalled");
    assert_eq!(fleet.version(&good), Some(VersionState::Current));
}

#[test]
fn a_rollback_is_the_former_deployment_with_pods_again_and_current_again() {
    let (first, second) = (image("v1", 3, 3), image("v2", 3, 3));
    let fleet = resting(&first, &second);
    fleet.settle(&first);
    assert_eq!((fleet.version(&first), fleet.pods(&first)), (Some(VersionState::Current), Some(3)));
    assert_eq!(fleet.version(&second), Some(VersionState::Draining));
    let applied = fleet.state().calls.iter().filter(|call| matches!(call, WorkerRequest::Apply(_))).count();
    assert_eq!(applied, 2, "one of each");
}

#[test]
fn a_drained_build_rests_for_the_retention_and_then_its_deployment_leaves_before_its_version() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = resting(&first, &second);
    fleet.pass(SignedDuration::try_from(RETENTION).expect("a day") - minutes(5));
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), Some(0));
    fleet.pass(minutes(5));
    fleet.settle(&second);
    assert_eq!((fleet.pods(&first), fleet.version(&first)), (None, None));
}

#[test]
fn a_version_that_is_still_polled_for_is_left_until_its_pollers_are_forgotten_and_stops_nothing_else() {
    let (good, bad, other) = (image("v1", 1, 1), image("v2", 1, 1), image("v3", 1, 1));
    let fleet = working(&good);
    // It polls, and is replaced before it ever takes the work.
    fleet.round(&bad);
    fleet.pass(minutes(1));
    fleet.settle(&other);
    assert_eq!((fleet.pods(&bad), fleet.version(&bad)), (None, Some(VersionState::Inactive)));
    assert_eq!(fleet.version(&other), Some(VersionState::Current));
    fleet.pass(minutes(5));
    fleet.settle(&other);
    assert_eq!(fleet.version(&bad), None);
}

#[test]
fn a_reset_on_a_build_that_rests_brings_a_pod_back_for_as_long_as_its_run_is_open() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = resting(&first, &second);
    fleet.state().runs.insert(first.version.build.clone(), 1);
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), Some(1));
    fleet.pass(SignedDuration::try_from(RETENTION).expect("a day") * 2);
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), Some(1), "not even after the retention");
    fleet.state().runs.clear();
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), None);
}

#[test]
fn a_draining_build_that_somebody_scaled_to_zero_gets_a_pod() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = working(&first);
    fleet.state().runs.insert(first.version.build.clone(), 1);
    fleet.settle(&second);
    for build in &mut fleet.state().deployments {
        build.replicas = 0;
    }
    fleet.settle(&second);
    assert_eq!((fleet.pods(&first), fleet.pods(&second)), (Some(1), Some(1)));
}

#[test]
fn at_most_twenty_builds_rest() {
    let fleet = Fleet::new();
    let builds: Vec<_> = (0..25).map(|number| image(&format!("v{number}"), 1, 1)).collect();
    for build in &builds {
        fleet.settle(build);
        fleet.look_at_drainage();
        fleet.pass(minutes(6));
    }
    let newest = &builds[24];
    fleet.settle(newest);
    fleet.pass(minutes(6));
    fleet.settle(newest);
    let (pods, versions) = fleet.shape();
    assert_eq!((pods.len(), versions.len()), (21, 21));
    assert!(builds[4..].iter().all(|build| fleet.pods(build).is_some()), "the newest ones");
}

#[test]
fn a_pool_that_may_rest_has_a_pod_until_its_first_build_is_current_and_while_a_run_is_open() {
    let (first, second) = (image("v1", 0, 4), image("v2", 0, 4));
    let fleet = Fleet::new();
    fleet.round(&first);
    fleet.pass(minutes(30));
    fleet.state().temporal = None;
    fleet.round(&first);
    fleet.pass(minutes(30));
    assert_eq!(fleet.pods(&first), Some(1), "not yet current");
    fleet.settle(&first);
    fleet.state().runs.insert(first.version.build.clone(), 1);
    for _ in 0..4 {
        fleet.round(&first);
        fleet.pass(minutes(6));
    }
    assert_eq!(fleet.pods(&first), Some(1), "a run is open");
    fleet.state().runs.clear();
    for _ in 0..2 {
        fleet.round(&first);
        fleet.pass(minutes(6));
    }
    assert_eq!(fleet.pods(&first), Some(0));
    let rests = fleet.round(&first);
    let on_demand = Some(Availability { pods: Pods::OnDemand, is_stalled: false });
    assert_eq!((rests.availability, rests.is_settled), (on_demand, true));
    fleet.round_with(&first, 1, false);
    assert_eq!(fleet.pods(&first), Some(1), "before the next tick");
    fleet.pass(minutes(1));
    assert_eq!(fleet.round(&first).availability, on_demand, "one state, with and without pods");
    // A rollout out of its rest.
    for _ in 0..3 {
        fleet.round(&first);
        fleet.pass(minutes(6));
    }
    assert_eq!(fleet.pods(&first), Some(0));
    fleet.round(&second);
    assert_eq!(fleet.pods(&second), Some(1));
    fleet.pass(minutes(1));
    fleet.round(&second);
    assert_eq!(fleet.version(&second), Some(VersionState::Current));
}

#[test]
fn what_waits_adds_pods_to_the_build_that_works_and_to_the_one_that_follows_it() {
    let (first, second) = (image("v1", 1, 6), image("v2", 1, 6));
    let fleet = working(&first);
    // Four slots a pod.
    fleet.state().backlog = 17;
    fleet.round(&first);
    assert_eq!(fleet.pods(&first), Some(4));
    fleet.state().backlog = 1_000;
    fleet.round(&first);
    assert_eq!(fleet.pods(&first), Some(4), "they are still starting");
    fleet.pass(minutes(1));
    fleet.round(&first);
    assert_eq!(fleet.pods(&first), Some(6));
    fleet.round(&second);
    assert_eq!(fleet.pods(&second), Some(6));
}

#[test]
fn an_autoscaler_of_the_users_has_the_word_on_replicas() {
    let external = |wanted: Wanted| Wanted { replicas: Replicas::External, ..wanted };
    let (first, second) = (external(image("v1", 1, 1)), external(image("v2", 1, 1)));
    let fleet = working(&first);
    for call in &fleet.state().calls {
        let WorkerRequest::Apply(deployment) = call else { continue };
        assert_eq!(deployment.spec.as_ref().and_then(|spec| spec.replicas), None);
    }
    for replicas in [7, 0] {
        fleet.state().deployments[0].replicas = replicas;
        fleet.pass(minutes(10));
        fleet.round_with(&first, 0, true);
        assert_eq!(fleet.pods(&first), Some(replicas));
    }
    fleet.state().deployments[0].replicas = 2;
    fleet.settle(&second);
    fleet.look_at_drainage();
    fleet.settle(&second);
    assert_eq!(fleet.pods(&first), Some(0), "its autoscaler rests at zero");
    fleet.settle(&first);
    assert_eq!((fleet.pods(&first), fleet.version(&first)), (Some(1), Some(VersionState::Current)));
}

fn unversioned(pool: Option<&str>, name: &str) -> Build {
    Build {
        key: DeploymentKey { namespace: "gtm-sync".to_owned(), name: name.to_owned(), uid: name.to_owned() },
        pool: pool.map(str::to_owned),
        build: pool.map(|_| "b".to_owned()),
        replicas: 1,
        ready: 1,
        applied: None,
        is_stuck: false,
        created_at: None,
    }
}

#[test]
fn the_unversioned_deployment_of_an_earlier_chart_works_until_its_successor_is_current_and_other_pools_are_let_be() {
    let wanted = image("v1", 1, 1);
    let fleet = Fleet::new();
    fleet.state().deployments =
        vec![unversioned(None, "gtm-sync-worker"), unversioned(Some("acme"), "a"), unversioned(None, "somebody-elses")];
    let outcome = fleet.round(&wanted);
    assert_eq!(outcome.availability, Some(Availability { pods: Pods::Ready, is_stalled: false }));
    assert_eq!(fleet.state().deployments.len(), 4);
    fleet.settle(&wanted);
    let left: Vec<_> = fleet.state().deployments.iter().map(|it| it.key.name.clone()).collect();
    assert_eq!(left, ["a".to_owned(), "somebody-elses".to_owned(), wanted.name()]);
}

#[test]
fn a_settled_pool_costs_two_looks_a_round_and_what_rests_one_count_more() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = resting(&first, &second);
    fleet.fail(None);
    for _ in 0..10 {
        assert!(fleet.round(&second).is_settled);
    }
    let is_look = |call: &WorkerRequest| {
        matches!(call, WorkerRequest::List(..) | WorkerRequest::Describe(_) | WorkerRequest::CountOpenRuns(_))
    };
    assert!(fleet.state().calls.iter().all(is_look), "{:?}", fleet.state().calls);
    assert_eq!(fleet.state().calls.len(), 30);
}

#[test]
fn what_was_edited_or_deleted_by_hand_is_put_back() {
    let wanted = image("v1", 1, 1);
    let fleet = working(&wanted);
    fleet.fail(None);
    fleet.round_with(&wanted, 0, true);
    assert!(matches!(fleet.state().calls[1], WorkerRequest::Apply(_)), "a full compare applies");
    fleet.state().deployments.clear();
    fleet.settle(&wanted);
    assert_eq!((fleet.pods(&wanted), fleet.version(&wanted)), (Some(1), Some(VersionState::Current)));
}

#[test]
fn a_temporal_that_has_forgotten_everything_gets_its_current_build_again_and_no_pod_is_lost_meanwhile() {
    let (first, second) = (image("v1", 1, 1), image("v2", 1, 1));
    let fleet = working(&first);
    fleet.settle(&second);
    fleet.state().temporal = None;
    let outcome = fleet.round(&second);
    assert_eq!((outcome.failed, fleet.pods(&first), fleet.pods(&second)), (None, Some(1), Some(1)));
    fleet.pass(minutes(1));
    fleet.settle(&second);
    assert_eq!(fleet.version(&second), Some(VersionState::Current));
}

/// Install, new build, bad build, mended build, rollback, retention.
fn a_life(fleet: &Fleet, restarts: bool) {
    let [first, second, bad, third] = ["v1", "v2", "broken", "v3"].map(|name| image(name, 1, 1));
    fleet.state().broken.insert(bad.version.build.clone());
    for wanted in [&first, &second, &bad, &third, &second] {
        for _ in 0..4 {
            fleet.round(wanted);
            if restarts {
                fleet.restart();
            }
            fleet.pass(minutes(4));
            fleet.look_at_drainage();
        }
        fleet.settle(wanted);
    }
    fleet.pass(SignedDuration::try_from(RETENTION).expect("a day") * 2);
    fleet.settle(&second);
    fleet.pass(minutes(6));
    fleet.settle(&second);
}

#[test]
fn a_life_with_any_fault_at_any_call_ends_as_one_without() {
    let undisturbed = Fleet::new();
    a_life(&undisturbed, false);
    let (end, calls) = (undisturbed.shape(), undisturbed.state().calls.len());
    assert_eq!((end.0.len(), end.1.len()), (1, 1), "{end:?}");
    for at in 0..calls {
        for fault in Fault::all_at(at) {
            let fleet = Fleet::new();
            fleet.fail(Some(fault));
            a_life(&fleet, at % 2 == 0);
            assert_eq!(fleet.shape(), end, "{fault:?}");
        }
    }
}
