//! The steps of TenantSchedule against a small world: each fault at each call, then again, must end as if undisturbed.

mod cron;
mod requests;

use jiff::Timestamp;
use serde_json::json;

use super::{Input, build, reconcile::Reconcile, remove::Remove};
use crate::{
    crd::TenantScheduleStatus,
    operator::{
        names::Installation,
        outcome::{Again, Outcome},
        schedule_overdue::Punctuality,
        world::Kind,
        world_fake::{FakeWorld, every_fault, key, run},
    },
    store::Pool,
    temporal::schedules::SeenSchedule,
};

const RESYNC: std::time::Duration = std::time::Duration::from_secs(600);

fn now() -> Timestamp {
    "2026-11-23T01:00:00Z".parse().expect("timestamp")
}

fn input(world: &FakeWorld, spec: serde_json::Value) -> Input {
    let key = key(Kind::TenantSchedule, "acme");
    let mut state = world.state();
    state.exists(&key);
    let status = state.statuses.last().map(|part| serde_json::from_value(part.clone()).expect("a status"));
    Input {
        has_finalizer: state.has_finalizer(&key),
        key,
        generation: 1,
        spec: serde_json::from_value(spec).expect("a spec"),
        status: status.unwrap_or_default(),
        requested_at: None,
        force_delete: false,
        cron_suspected: false,
        deleting: false,
        now: now(),
        punctuality: Punctuality::default(),
        installation: Installation::new("installation".to_owned(), None),
    }
}

fn spec() -> serde_json::Value {
    json!({"tenantId": "acme"})
}

/// A reconcile, and the one that follows when all the first did was the finalizer.
fn reconcile(world: &FakeWorld, spec: serde_json::Value) -> Outcome {
    let first = input(world, spec.clone());
    let finalizer_only = !first.has_finalizer;
    let outcome = run(world, Reconcile::new(first, RESYNC));
    if !finalizer_only || outcome.failed.is_some() {
        return outcome;
    }
    run(world, Reconcile::new(input(world, spec), RESYNC))
}

fn shown(world: &FakeWorld) -> TenantScheduleStatus {
    let state = world.state();
    serde_json::from_value(state.statuses.last().expect("a status").clone()).expect("a status")
}

#[test]
fn whatever_call_fails_and_however_the_next_reconcile_ends_as_if_undisturbed() {
    let undisturbed = FakeWorld::default();
    reconcile(&undisturbed, spec());
    let calls = undisturbed.calls();
    let expected = [
        "AddFinalizer",
        "PutTenant",
        "FindCronWorkflow",
        "DescribeSchedule",
        "CreateSchedule",
        "DescribeSchedule",
        "ApplyStatus",
    ];
    assert_eq!(calls, expected);
    for fault in every_fault(calls.len()) {
        let world = FakeWorld::default();
        world.fail(Some(fault));
        let disturbed = reconcile(&world, spec());
        assert!(matches!(disturbed.again, Again::BackOff(_)), "{fault:?}");
        world.fail(None);
        let settled = reconcile(&world, spec());
        assert!(matches!(settled.again, Again::After(_)), "{fault:?}");
        assert_eq!(shown(&world), shown(&undisturbed), "{fault:?}");
        assert_eq!(world.state().schedules, undisturbed.state().schedules, "{fault:?}");
        world.fail(None);
        reconcile(&world, spec());
        assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule"], "at rest nothing is written ({fault:?})");
    }
}

#[test]
fn an_edit_is_one_update_and_suspend_is_part_of_it() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    world.fail(None);
    let mut edited = input(&world, json!({"tenantId": "acme", "suspend": true, "schedules": ["@daily"]}));
    edited.generation = 2;
    let outcome = run(&world, Reconcile::new(edited, RESYNC));
    assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule", "UpdateSchedule", "DescribeSchedule", "ApplyStatus"]);
    assert_eq!(outcome.notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["ScheduleUpdated", "Suspended"]);
    let status = shown(&world);
    assert_eq!((status.observed_generation, status.paused, status.next_run_time), (2, true, None));
}

fn condition(world: &FakeWorld, of: &str) -> String {
    let status = shown(world);
    let found = status.conditions.iter().find(|condition| condition.type_ == of);
    found.map_or_else(String::new, |condition| format!("{}/{}", condition.status, condition.reason))
}

/// The tenant's schedule as a person in Temporal would change it.
fn by_hand(world: &FakeWorld, edit: impl FnOnce(&mut SeenSchedule)) {
    edit(world.state().schedules.values_mut().next().expect("a schedule"));
}

fn reasons(outcome: &Outcome) -> Vec<&'static str> {
    outcome.notes.iter().map(|note| note.reason).collect()
}

#[test]
fn a_pause_by_hand_is_told_once_survives_an_edit_and_ends_by_hand() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    by_hand(&world, |seen| (seen.state.paused, seen.state.note) = (true, "Kim".to_owned()));
    world.fail(None);
    assert_eq!(reasons(&reconcile(&world, spec())), ["PausedByPerson"]);
    assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule", "ApplyStatus"], "nothing is written to Temporal");
    assert_eq!(condition(&world, "Ready"), "True/PausedByPerson");
    assert_eq!(reasons(&reconcile(&world, spec())), [""; 0]);
    let edited = || json!({"tenantId": "acme", "schedules": ["@daily"]});
    assert_eq!(reasons(&reconcile(&world, edited())), ["ScheduleUpdated"]);
    assert!(shown(&world).paused && condition(&world, "Ready") == "True/PausedByPerson");
    by_hand(&world, |seen| seen.state.paused = false);
    assert_eq!(reasons(&reconcile(&world, edited())), ["Resumed"]);
    assert_eq!((condition(&world, "Ready").as_str(), shown(&world).pause), ("True/Scheduled", None));
}

#[test]
fn a_reported_edit_is_told_once_and_corrected_where_the_policy_changes() {
    let world = FakeWorld::default();
    let with = |policy: &str| json!({"tenantId": "acme", "driftPolicy": policy});
    reconcile(&world, with("Report"));
    assert_eq!(condition(&world, "Synced"), "True/InSync");
    by_hand(&world, |seen| seen.echo = "edited".to_owned());
    assert_eq!(reasons(&reconcile(&world, with("Report"))), ["DriftReported"]);
    assert_eq!(condition(&world, "Synced"), "False/DriftReported");
    world.fail(None);
    assert_eq!(reasons(&reconcile(&world, with("Report"))), [""; 0]);
    assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule"]);
    assert_eq!(reasons(&reconcile(&world, with("Correct"))), ["DriftCorrected"]);
    assert_eq!(condition(&world, "Synced"), "True/DriftCorrected");
    reconcile(&world, with("Correct"));
    assert_eq!(condition(&world, "Synced"), "True/InSync");
}

#[test]
fn a_schedule_that_is_over_is_complete_and_one_that_never_fired_is_not() {
    let ends = |at: &str| json!({"tenantId": "acme", "endAt": at});
    let world = FakeWorld::default();
    reconcile(&world, ends("2026-11-23T01:00:00Z"));
    assert_eq!(condition(&world, "Ready"), "True/Completed");
    assert!(world.state().schedules.is_empty(), "nothing is made that has ended");
    reconcile(&world, ends("2026-11-24T00:00:00Z"));
    assert_eq!(condition(&world, "Ready"), "True/Scheduled");
    by_hand(&world, |seen| seen.next_run = None);
    reconcile(&world, ends("2026-11-24T00:00:00Z"));
    assert_eq!(condition(&world, "Ready"), "False/NeverFires");
    by_hand(&world, |seen| seen.last_run = Some(now()));
    reconcile(&world, ends("2026-11-24T00:00:00Z"));
    assert_eq!(condition(&world, "Ready"), "True/Completed", "its last tick is behind it");
    by_hand(&world, |seen| (seen.last_run, seen.state.limited_actions) = (None, true));
    reconcile(&world, spec());
    assert_eq!(condition(&world, "Ready"), "True/Completed", "somebody limited its runs, and they are used up");
}

#[test]
fn windows_that_leave_no_tick_are_refused_before_temporal_sees_them() {
    let world = FakeWorld::default();
    let windows = json!([{"schedule": "0 22 * * *", "duration": "8h"}]);
    reconcile(&world, json!({"tenantId": "acme", "schedules": ["0 3 * * *"], "maintenanceWindows": windows}));
    assert_eq!(condition(&world, "Ready"), "False/InvalidSpec");
    assert_eq!(world.calls(), ["AddFinalizer", "PutTenant", "FindCronWorkflow", "ApplyStatus"]);
}

#[test]
fn a_tenant_held_by_another_namespace_is_stalled_without_naming_it() {
    let world = FakeWorld::default();
    world.claim("acme", "secret-customer", "x");
    let outcome = reconcile(&world, spec());
    assert_eq!(outcome.notes.len(), 1);
    let status = shown(&world);
    let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled").expect("Stalled");
    assert_eq!(stalled.reason, "TenantConflict");
    assert!(!stalled.message.contains("secret-customer"));
    assert!(world.state().schedules.is_empty());
}

fn dedicated() -> serde_json::Value {
    json!({"tenantId": "acme", "workers": {"mode": "Dedicated"}})
}

#[test]
fn a_tenants_own_workers_are_granted_with_its_claim_whatever_call_fails() {
    let undisturbed = FakeWorld::default();
    reconcile(&undisturbed, dedicated());
    let calls = undisturbed.calls();
    assert_eq!(calls[..5], ["AddFinalizer", "PutTenant", "EnsurePool", "FindCronWorkflow", "DescribeSchedule"]);
    for fault in every_fault(calls.len()) {
        let world = FakeWorld::default();
        world.fail(Some(fault));
        assert!(reconcile(&world, dedicated()).failed.is_some(), "{fault:?}");
        world.fail(None);
        reconcile(&world, dedicated());
        assert_eq!(shown(&world), shown(&undisturbed), "{fault:?}");
        assert_eq!(world.pool(), Pool::Dedicated, "{fault:?}");
        assert!(world.state().pools.contains_key("acme"), "{fault:?}");
    }
    reconcile(&undisturbed, spec());
    assert_eq!(undisturbed.pool(), Pool::Left);
}

#[test]
fn one_pool_too_many_is_stalled_applies_nothing_and_is_granted_when_another_leaves() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    world.take_every_pool();
    world.fail(None);
    let outcome = reconcile(&world, dedicated());
    assert_eq!(reasons(&outcome), ["TooManyPools"]);
    assert_eq!(world.calls(), ["PutTenant", "ApplyStatus"]);
    assert_eq!(condition(&world, "Stalled"), "True/TooManyPools");
    assert!(matches!(outcome.again, Again::After(rest) if rest <= RESYNC), "it is asked for again");
    assert_eq!(world.pool(), Pool::Shared, "it goes on where it was");
    assert!(world.state().pools.is_empty(), "no identity is made for it");
    world.leave_a_pool();
    reconcile(&world, dedicated());
    assert_eq!(condition(&world, "Ready"), "True/Scheduled");
}

#[test]
fn an_outage_is_shown_on_what_was_never_applied_and_on_nothing_else() {
    let world = FakeWorld::default();
    world.fail(Some(crate::operator::world_fake::Fault::Lost(2)));
    reconcile(&world, spec());
    let waiting = shown(&world);
    assert!(waiting.conditions.iter().any(|condition| condition.reason == "TemporalUnavailable"));
    world.fail(None);
    reconcile(&world, spec());
    world.fail(Some(crate::operator::world_fake::Fault::Lost(1)));
    let outcome = reconcile(&world, spec());
    assert!(outcome.failed.is_some());
    assert_eq!(world.calls(), ["PutTenant", "DescribeSchedule"], "no status write (R28)");
}

#[test]
fn deletion_removes_the_schedule_then_the_finalizer_whatever_fails_on_the_way() {
    for fault in every_fault(6) {
        let world = FakeWorld::default();
        reconcile(&world, spec());
        world.fail(Some(fault));
        run(&world, Remove::new(input(&world, spec())));
        world.fail(None);
        run(&world, Remove::new(input(&world, spec())));
        assert!(world.state().schedules.is_empty(), "{fault:?}");
        assert!(!world.state().has_finalizer(&key(Kind::TenantSchedule, "acme")), "{fault:?}");
    }
}

#[test]
fn a_blocked_deletion_says_so_once_and_force_delete_ends_it() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    for round in 0..2 {
        world.fail(Some(crate::operator::world_fake::Fault::Lost(1)));
        let outcome = run(&world, Remove::new(input(&world, spec())));
        assert!(matches!(outcome.again, Again::BackOff(_)));
        assert_eq!(outcome.notes.len(), usize::from(round == 0), "one Event");
        assert!(shown(&world).conditions.iter().any(|condition| condition.reason == "CleanupBlocked"));
        assert!(world.state().has_finalizer(&key(Kind::TenantSchedule, "acme")));
    }
    world.fail(None);
    let forced = Input { force_delete: true, ..input(&world, spec()) };
    run(&world, Remove::new(forced));
    assert_eq!(world.calls(), ["RemoveFinalizer"]);
}

#[test]
fn a_schedule_left_on_purpose_carries_a_mark_before_its_object_goes_and_loses_it_when_the_object_is_back() {
    let orphan = || json!({"tenantId": "acme", "deletionPolicy": "Orphan"});
    let undisturbed = FakeWorld::default();
    reconcile(&undisturbed, orphan());
    undisturbed.fail(None);
    let outcome = run(&undisturbed, Remove::new(input(&undisturbed, orphan())));
    let calls = undisturbed.calls();
    assert_eq!(calls, ["DescribeSchedule", "LeaveSchedule", "DescribeSchedule", "RemoveFinalizer"]);
    assert_eq!(reasons(&outcome), ["ScheduleLeft"]);
    for fault in every_fault(calls.len()) {
        let world = FakeWorld::default();
        reconcile(&world, orphan());
        world.fail(Some(fault));
        run(&world, Remove::new(input(&world, orphan())));
        let released = !world.state().has_finalizer(&key(Kind::TenantSchedule, "acme"));
        assert!(!released || world.state().schedules.values().all(|seen| seen.left), "the mark goes first ({fault:?})");
        world.fail(None);
        run(&world, Remove::new(input(&world, orphan())));
        assert!(world.state().schedules.values().all(|seen| seen.left), "{fault:?}");
        assert!(!world.state().has_finalizer(&key(Kind::TenantSchedule, "acme")), "{fault:?}");
        reconcile(&world, orphan());
        assert!(world.state().schedules.values().all(|seen| !seen.left), "{fault:?}");
    }
}

#[test]
fn a_schedule_of_somebody_else_is_not_marked_as_left() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    by_hand(&world, |seen| seen.owner = None);
    let orphan = json!({"tenantId": "acme", "deletionPolicy": "Orphan"});
    run(&world, Remove::new(input(&world, orphan)));
    assert!(
        world.state().schedules.values().all(|seen| !seen.left)
            && !world.state().has_finalizer(&key(Kind::TenantSchedule, "acme"))
    );
}

#[test]
fn an_overdue_tick_is_told_once_and_over_when_a_run_starts() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    assert_eq!(shown(&world).next_run_time.map(|next| next.0.to_string()).as_deref(), Some("2026-11-23T04:00:00Z"));
    let at = |text: &str| -> Timestamp { text.parse().expect("timestamp") };
    let look = |now: &str| {
        by_hand(&world, |seen| seen.next_run = Some("2026-11-23T08:00:00Z".parse().expect("timestamp")));
        let input = Input { now: at(now), ..input(&world, spec()) };
        run(&world, Reconcile::new(input, RESYNC))
    };
    let early = look("2026-11-23T04:00:05Z");
    assert_eq!((reasons(&early), early.again), (vec![], Again::After(RESYNC)), "it may be in a queue");
    assert_eq!(reasons(&look("2026-11-23T04:16:00Z")), ["RunOverdue"]);
    assert_eq!(shown(&world).overdue_since.map(|tick| tick.0), Some(at("2026-11-23T04:00:00Z")));
    assert_eq!(reasons(&look("2026-11-23T04:30:00Z")), [""; 0]);
    by_hand(&world, |seen| seen.last_run = Some("2026-11-23T04:31:00Z".parse().expect("timestamp")));
    assert_eq!(reasons(&look("2026-11-23T04:32:00Z")), [""; 0]);
    assert_eq!(shown(&world).overdue_since, None);
}

#[test]
fn the_loser_of_a_conflict_leaves_the_winners_schedule_alone() {
    let world = FakeWorld::default();
    reconcile(&world, spec());
    let loser = Input { key: key(Kind::TenantSchedule, "second"), ..input(&world, spec()) };
    world.fail(None);
    run(&world, Remove::new(loser));
    assert_eq!(world.calls(), ["TenantClaim", "RemoveFinalizer"]);
    assert_eq!(world.state().schedules.len(), 1);
}

#[test]
fn the_tick_waits_for_its_children_by_the_smallest_gap() {
    let world = FakeWorld::default();
    let input = input(&world, json!({"tenantId": "acme", "schedules": ["* * * * *"], "spread": {"window": "0s"}}));
    assert_eq!(build::projection(&input).wait_seconds, Some(54));
}
