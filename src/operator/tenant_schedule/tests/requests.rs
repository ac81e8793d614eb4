//! A tenant's one-shot requests: once, whatever call fails and whatever is lost.

use serde_json::json;

use super::{Input, RESYNC, Reconcile, reasons, reconcile, shown, spec};
use crate::{
    crd::{HandledTenantTokens, TenantScheduleStatus},
    operator::{
        tenant_schedule::tests::input,
        world_fake::{FakeWorld, Fault, every_fault, run},
    },
};

#[test]
fn tokens_are_recorded_at_first_sight_even_if_the_first_thing_seen_is_an_outage() {
    let with_token = |token: &str| json!({"tenantId": "acme", "requests": {"trigger": {"token": token}}});
    let world = FakeWorld::default();
    world.fail(Some(Fault::Lost(2)));
    reconcile(&world, with_token("from-git"));
    world.fail(None);
    reconcile(&world, with_token("from-git"));
    assert!(world.state().workflows.is_empty());
    assert_eq!(
        shown(&world).last_handled,
        Some(HandledTenantTokens { trigger: Some("from-git".to_owned()), ..HandledTenantTokens::default() })
    );
    for fault in every_fault(5) {
        world.fail(Some(fault));
        reconcile(&world, with_token("now"));
        world.fail(None);
        reconcile(&world, with_token("now"));
        assert_eq!(world.state().workflows, ["scheduled-sync-acme-now"], "{fault:?}");
    }
}

#[test]
fn tokens_at_first_sight_are_recorded_as_nobodys_so_that_a_lost_mirror_does_not_carry_them_out() {
    let world = FakeWorld::default();
    let from_git = || backfill("from-git", YESTERDAY);
    reconcile(&world, from_git());
    assert_eq!(world.servers.file.rows("SELECT uid FROM tenant_token").len(), 2);
    let mut without_mirror = input(&world, from_git());
    without_mirror.status.last_handled = None;
    run(&world, Reconcile::new(without_mirror, RESYNC));
    assert!(world.state().workflows.is_empty());
    assert!(world.state().backfills.is_empty());
}

fn backfill(token: &str, to: &str) -> serde_json::Value {
    let request = json!({"token": token, "from": "2026-11-22T00:00:00Z", "to": to});
    json!({"tenantId": "acme", "requests": {"backfill": request, "trigger": {"token": token}}})
}

const YESTERDAY: &str = "2026-11-23T00:00:00Z";

#[test]
fn a_backfill_and_a_trigger_happen_once_whatever_fails_on_the_way_and_whatever_status_is_lost() {
    let undisturbed = FakeWorld::default();
    reconcile(&undisturbed, spec());
    undisturbed.fail(None);
    let outcome = reconcile(&undisturbed, backfill("outage", YESTERDAY));
    let calls = undisturbed.calls();
    let expected =
        ["PutTenant", "DescribeSchedule", "RecordTenantTokens", "StartWorkflow", "BackfillSchedule", "ApplyStatus"];
    assert_eq!(calls, expected);
    assert_eq!(reasons(&outcome), ["RunTriggered", "BackfillStarted"]);
    for fault in every_fault(calls.len()) {
        let world = FakeWorld::default();
        reconcile(&world, spec());
        world.fail(Some(fault));
        reconcile(&world, backfill("outage", YESTERDAY));
        world.fail(None);
        reconcile(&world, backfill("outage", YESTERDAY));
        let once = || {
            let state = world.state();
            (state.backfills.len(), state.workflows.len())
        };
        assert_eq!(once(), (1, 1), "{fault:?}");
        assert_eq!(shown(&world).last_handled, shown(&undisturbed).last_handled, "{fault:?}");
        world.fail(None);
        reconcile(&world, backfill("outage", YESTERDAY));
        assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule"], "at rest ({fault:?})");

        // The mirror alone is lost; the whole status is lost; a cluster is rebuilt from Git: another life of the object.
        let partly = || {
            let mut input = input(&world, backfill("outage", YESTERDAY));
            input.status.last_handled = None;
            input
        };
        let rebuilt = || {
            let mut input = partly();
            input.key.uid = "uid-2".to_owned();
            world.state().exists(&input.key);
            input
        };
        let wholly = || Input { status: TenantScheduleStatus::default(), ..rebuilt() };
        for input in [partly(), rebuilt(), wholly()] {
            run(&world, Reconcile::new(input, RESYNC));
            assert_eq!(once(), (1, 1), "{fault:?}");
        }
    }
}

#[test]
fn a_token_that_was_never_confirmed_is_given_up_before_temporal_forgets_it() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    world.fail(Some(Fault::Lost(4)));
    reconcile(&world, backfill("outage", YESTERDAY));
    world.fail(None);
    let late = Input {
        now: "2026-11-23T21:00:01Z".parse().expect("timestamp"),
        ..input(&world, backfill("outage", YESTERDAY))
    };
    run(&world, Reconcile::new(late, RESYNC));
    assert!(world.state().backfills.is_empty());
    assert_eq!(
        shown(&world).last_handled.and_then(|handled| handled.backfill).map(|of| of.token).as_deref(),
        Some("outage")
    );
}

#[test]
fn a_backfill_that_cannot_be_is_refused_once_with_its_reason() {
    let often = |token: &str| {
        let mut spec = backfill(token, YESTERDAY);
        (spec["schedules"], spec["requests"]["trigger"]) = (json!(["* * * * *"]), serde_json::Value::Null);
        spec
    };
    let ended = |token: &str| {
        let mut spec = backfill(token, YESTERDAY);
        (spec["endAt"], spec["requests"]["trigger"]) = (json!("2026-11-23T00:30:00Z"), serde_json::Value::Null);
        spec
    };
    let future = |token: &str| {
        let mut spec = backfill(token, "2026-11-23T01:00:01Z");
        spec["requests"]["trigger"] = serde_json::Value::Null;
        spec
    };
    for (wish, expected) in [(often("a"), "TooManyTicks"), (future("b"), "InFuture"), (ended("c"), "NoSchedule")] {
        let world = FakeWorld::default();
        reconcile(&world, spec());
        if expected == "NoSchedule" {
            world.state().schedules.clear();
        }
        assert!(reasons(&reconcile(&world, wish.clone())).contains(&"BackfillRefused"), "{expected}");
        assert!(!reasons(&reconcile(&world, wish)).contains(&"BackfillRefused"), "{expected}, once");
        let handled = shown(&world).last_handled.and_then(|handled| handled.backfill).expect("handled");
        assert_eq!((handled.outcome.as_deref(), world.state().backfills.len()), (Some(expected), 0));
    }
}
