//! The steps of Connector against a small world: each fault at each call, then again, must end as if undisturbed.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    Input, TenantView, Vault,
    reconcile::{Left, Reconcile},
    remove::{Gone, Remove},
    tokens,
};
use crate::{
    crd::{ConnectorStatus, DataPolicy, PausedBy},
    credentials::{Sealer, seal::generate_identity},
    model::{
        config::{self, SecretFields},
        cursor::Window,
        entity::Entity,
    },
    operator::{
        names::Installation,
        outcome::Again,
        schedule_overdue::Punctuality,
        schedule_terms::Terms,
        status_part::CONNECTOR_CONTROL,
        world::{Kind, ObjectKey, Request},
        world_fake::{FakeWorld, Fault, every_fault, key, run},
    },
    store::{DesiredState, LetterSelection, Verb, Wish},
};

mod pools;

const RESYNC: Duration = Duration::from_secs(600);

fn now() -> Timestamp {
    "2026-11-23T01:00:00Z".parse().expect("timestamp")
}

/// A world with the tenant's claim and a Secret `crm`.
fn world() -> FakeWorld {
    world_of("acme")
}

fn world_of(claimant: &str) -> FakeWorld {
    let world = FakeWorld::default();
    world.claim("acme", claimant, "acme");
    let content = SecretFields([("accessToken".to_owned(), "canary".to_owned())].into());
    world.state().secrets.insert(("acme".to_owned(), "crm".to_owned()), content);
    world
}

fn input(world: &FakeWorld, extra: serde_json::Value) -> Input {
    let mut spec = json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
        "credentials": {"secretRef": {"name": "crm"}}});
    for (name, value) in extra.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    let key = key(Kind::Connector, "hubspot");
    world.state().exists(&key);
    let status = world.state().statuses.last().map(|part| serde_json::from_value(part.clone()).expect("a status"));
    Input {
        key,
        generation: 1,
        spec: serde_json::from_value(spec).expect("a spec"),
        status: status.unwrap_or_default(),
        requested_at: None,
        now: now(),
        punctuality: Punctuality::default(),
        installation: Installation::new("installation".to_owned(), None),
        tenant: Some(TenantView {
            name: "acme".to_owned(),
            is_observed: true,
            time_zone: "UTC".to_owned(),
            spread: Duration::from_secs(60),
            catch_up_window: Duration::from_secs(3_600),
            suspend: false,
            terms: Terms::default(),
            data_policy: DataPolicy::Retain,
        }),
        vault: Vault::new(Sealer::new(&generate_identity().1).expect("recipient"), "installation"),
        connection: None,
        checks: None,
        check_wait: Duration::ZERO,
    }
}

fn reconcile(world: &FakeWorld, extra: serde_json::Value) -> Left {
    run(world, Reconcile::new(input(world, extra), RESYNC))
}

fn shown(world: &FakeWorld) -> ConnectorStatus {
    serde_json::from_value(world.state().statuses.last().expect("a status").clone()).expect("a status")
}

fn ready(world: &FakeWorld) -> String {
    let status = shown(world);
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").expect("Ready");
    format!("{}/{}", ready.status, ready.reason)
}

#[test]
fn whatever_call_fails_and_however_the_next_reconcile_ends_as_if_undisturbed() {
    let own = || json!({"sync": {"schedules": ["*/30 * * * *"]}});
    let undisturbed = world();
    let check = reconcile(&undisturbed, own()).check;
    assert!(matches!(&check, Some(Request::StartWorkflow(start)) if start.workflow_id == "check-acme-hubspot"));
    let calls = undisturbed.calls();
    assert_eq!(
        calls,
        [
            "TenantClaim",
            "GetSecret",
            "PutConnector",
            "DescribeSchedule",
            "CreateSchedule",
            "DescribeSchedule",
            "ApplyStatus"
        ]
    );
    for fault in every_fault(calls.len()) {
        let world = world();
        world.fail(Some(fault));
        let disturbed = reconcile(&world, own());
        assert!(matches!(disturbed.outcome.again, Again::BackOff(_)), "{fault:?}");
        world.fail(None);
        let settled = reconcile(&world, own());
        assert!(matches!(settled.outcome.again, Again::After(_)), "{fault:?}");
        assert_eq!(ready(&world), "True/Configured", "{fault:?}");
        assert_eq!(shown(&world), shown(&undisturbed), "{fault:?}");
        assert_eq!(world.state().schedules, undisturbed.state().schedules, "{fault:?}");
        assert_eq!(settled.check, check, "{fault:?}");
    }
}

#[test]
fn a_missing_secret_keeps_the_stored_credential_and_pausing_still_works() {
    let world = world();
    world.state().secrets.clear();
    let left = reconcile(&world, json!({"state": "Paused"}));
    assert_eq!(ready(&world), "False/SecretNotFound");
    assert!(matches!(left.outcome.again, Again::BackOff(_)), "it may come at any time");
    let projected = world.projected("hubspot").expect("projected");
    assert_eq!((projected.desired_state, projected.credential), (DesiredState::Paused, None));
    assert_eq!(left.check, None, "nothing to check with");
}

#[test]
fn only_the_namespace_that_holds_the_tenant_is_projected() {
    let world = world_of("elsewhere");
    reconcile(&world, json!({}));
    assert_eq!(ready(&world), "False/TenantScheduleNotFound");
    assert_eq!(world.calls(), ["TenantClaim", "DescribeSchedule", "ApplyStatus"], "a lost status may have known one");
    let without = Input { tenant: None, ..input(&world, json!({})) };
    world.fail(None);
    run(&world, Reconcile::new(without, RESYNC));
    assert_eq!(world.calls(), ["TenantClaim"], "shown already");
}

#[test]
fn where_a_tenant_was_let_go_with_its_schedule_its_connectors_can_still_be_stopped_and_start_nothing() {
    let world = world();
    reconcile(&world, json!({}));
    let requested_at = Some("now".to_owned());
    let orphaned = Input { tenant: None, generation: 2, requested_at, ..input(&world, json!({"state": "Stopped"})) };
    world.fail(None);
    run(&world, Reconcile::new(orphaned, RESYNC));
    assert_eq!(world.projected("hubspot").expect("projected").desired_state, DesiredState::Stopped);
    assert_eq!(ready(&world), "False/TenantScheduleNotFound");
    assert!(!world.calls().contains(&"StartWorkflow".to_owned()), "{:?}", world.calls());
}

#[test]
fn a_new_connector_waits_without_a_word_for_the_tenant_that_was_applied_with_it() {
    let world = world();
    world.unclaim();
    let mut new = input(&world, json!({}));
    new.tenant.as_mut().expect("tenant").is_observed = false;
    let left = run(&world, Reconcile::new(new, RESYNC));
    assert_eq!(world.calls(), ["TenantClaim"]);
    assert!(matches!(left.outcome.again, Again::After(_)), "the tenant's end triggers it sooner");
    world.claim("acme", "acme", "acme");
    world.fail(None);
    reconcile(&world, json!({}));
    assert_eq!(ready(&world), "True/Configured");
    let calls = ["TenantClaim", "GetSecret", "PutConnector", "ApplyStatus"];
    assert_eq!(world.calls(), calls, "no schedule is looked for that nobody can have asked for");
}

#[test]
fn by_the_terms_of_a_tenant_schedule_that_lost_its_tenant_nothing_is_applied() {
    let world = world();
    reconcile(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
    let schedules = world.state().schedules.clone();
    let mut found = input(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
    let tenant = found.tenant.as_mut().expect("tenant");
    (tenant.name, tenant.suspend) = ("acme-too".to_owned(), true);
    world.fail(None);
    run(&world, Reconcile::new(found, RESYNC));
    assert_eq!(world.calls(), ["TenantClaim", "ApplyStatus"]);
    assert_eq!((ready(&world).as_str(), &world.state().schedules), ("False/TenantScheduleNotFound", &schedules));
}

#[test]
fn a_tenant_that_lost_its_claim_takes_no_schedule_with_it() {
    let own = || json!({"sync": {"schedules": ["0 * * * *"]}});
    let world = world();
    reconcile(&world, own());
    let schedules = world.state().schedules.clone();
    world.unclaim();
    reconcile(&world, own());
    assert_eq!((ready(&world).as_str(), &world.state().schedules), ("False/TenantScheduleNotFound", &schedules));
    let refused = Input { generation: 2, ..input(&world, own()) };
    run(&world, Reconcile::new(refused, RESYNC));
    assert_eq!(world.state().schedules, schedules, "nor does an edit meanwhile");
    world.claim("acme", "acme", "acme");
    reconcile(&world, own());
    assert_eq!((ready(&world).as_str(), &world.state().schedules), ("True/Configured", &schedules));
}

#[test]
fn a_schedule_that_no_status_remembers_is_looked_for_once_and_removed() {
    let world = world();
    reconcile(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
    world.state().statuses.clear();
    for expected in [true, false] {
        world.fail(None);
        let rebuilt = Input { generation: 2, ..input(&world, json!({})) };
        run(&world, Reconcile::new(rebuilt, RESYNC));
        assert!(world.state().schedules.is_empty(), "it would run for ever beside the tenant's");
        assert_eq!(world.calls().contains(&"DescribeSchedule".to_owned()), expected, "asked once");
    }
    let mut foreign = crate::operator::schedule::tests::seen(&crate::operator::schedule::tests::wanted());
    foreign.owner = None;
    world.state().schedules.insert("sync-acme-hubspot".to_owned(), foreign);
    run(&world, Reconcile::new(Input { generation: 3, ..input(&world, json!({})) }, RESYNC));
    assert_eq!(world.state().schedules.len(), 1, "somebody else's stays");
}

#[test]
fn in_a_cluster_made_anew_a_connector_that_comes_before_its_tenant_keeps_its_schedule() {
    let own = || json!({"sync": {"schedules": ["0 * * * *"]}});
    let world = world();
    reconcile(&world, own());
    let schedules = world.state().schedules.clone();
    world.state().statuses.clear();
    run(&world, Reconcile::new(Input { tenant: None, ..input(&world, own()) }, RESYNC));
    assert_eq!(ready(&world), "False/TenantScheduleNotFound");
    world.fail(None);
    reconcile(&world, own());
    assert_eq!((ready(&world).as_str(), &world.state().schedules), ("True/Configured", &schedules));
    let written = ["CreateSchedule", "UpdateSchedule", "DeleteSchedule"];
    assert!(!world.calls().iter().any(|call| written.contains(&call.as_str())), "{:?}", world.calls());
    run(&world, Reconcile::new(Input { tenant: None, ..input(&world, own()) }, RESYNC));
    assert!(world.state().schedules.is_empty(), "one whose tenant is gone goes with it");
}

#[test]
fn a_pause_by_hand_of_an_own_schedule_survives_edits_and_is_told() {
    let world = world();
    let own = |cron: &str| json!({"sync": {"schedules": [cron]}});
    reconcile(&world, own("0 * * * *"));
    let pause = |paused: bool, note: &str| {
        let mut state = world.state();
        let schedule = state.schedules.values_mut().next().expect("its own schedule");
        (schedule.state.paused, schedule.state.note) = (paused, note.to_owned());
    };
    pause(true, "Kim");
    let mut edited = Input { generation: 2, ..input(&world, own("30 * * * *")) };
    edited.tenant.as_mut().expect("tenant").suspend = true;
    let left = run(&world, Reconcile::new(edited, RESYNC));
    let reasons: Vec<_> = left.outcome.notes.iter().map(|note| note.reason).collect();
    assert_eq!(reasons, ["ScheduleUpdated", "PausedByPerson"]);
    assert_eq!(shown(&world).pause.map(|pause| (pause.by, pause.note)), Some((PausedBy::Person, "Kim".to_owned())));
    reconcile(&world, own("30 * * * *"));
    assert!(shown(&world).pause.is_some(), "resuming the tenant resumes what the spec paused, nothing else");
    pause(false, "");
    reconcile(&world, json!({"sync": {"schedules": ["30 * * * *"]}, "state": "Paused"}));
    assert_eq!(shown(&world).pause.map(|pause| pause.by), Some(PausedBy::Spec));
    reconcile(&world, own("30 * * * *"));
    assert_eq!(shown(&world).pause, None);
    assert!(shown(&world).next_run_time.is_some() && shown(&world).counts.is_some());
}

#[test]
fn a_token_is_one_run_whatever_fails_and_none_at_first_sight() {
    let with = |token: &str| json!({"requests": {"sync": {"token": token}}});
    let calls = 6;
    for fault in every_fault(calls) {
        let world = world();
        world.fail(Some(Fault::Lost(0)));
        reconcile(&world, with("from-git"));
        world.fail(None);
        reconcile(&world, with("from-git"));
        let runs = |world: &FakeWorld| {
            let state = world.state();
            state.workflows.iter().filter(|id| id.starts_with("sync-")).cloned().collect::<Vec<_>>()
        };
        assert!(runs(&world).is_empty(), "first sight");
        world.fail(Some(fault));
        reconcile(&world, with("now"));
        world.fail(None);
        reconcile(&world, with("now"));
        assert_eq!(runs(&world).len(), 1, "{fault:?}");
        assert!(runs(&world)[0].starts_with("sync-acme-hubspot-2026-11-23T01:00:00"), "{fault:?}");
        assert_eq!(
            shown(&world).last_handled.and_then(|handled| handled.sync).map(|sync| sync.token).as_deref(),
            Some("now"),
            "{fault:?}"
        );
    }
}

#[test]
fn a_cluster_rebuilt_on_a_surviving_store_repeats_no_verb() {
    let world = world();
    let with = json!({"requests": {"sync": {"token": "old"}, "fullSync": {"token": "older"}}});
    reconcile(&world, json!({}));
    reconcile(&world, with.clone());
    let runs = world.state().workflows.len();
    world.state().statuses.clear();
    let rebuilt = input(&world, with);
    let rebuilt = Input { key: ObjectKey { uid: "of another life".to_owned(), ..rebuilt.key.clone() }, ..rebuilt };
    world.state().exists(&rebuilt.key);
    run(&world, Reconcile::new(rebuilt, RESYNC));
    assert_eq!(world.state().workflows.len(), runs, "R45");
}

#[test]
fn every_wish_reaches_the_store_with_what_it_is_about() {
    let requests = json!({"requests": {
        "fullSync": {"token": "f"}, "confirmSweep": {"token": "c"},
        "resetCursor": {"token": "again", "expectedPosition": 7},
        "replay": {"token": "r", "run": "run-1", "batch": 3},
        "discard": {"token": "d", "entity": "contact", "record": "17"},
        "resync": {"token": "s", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"},
    }});
    let wishes = tokens::present(&input(&world(), requests));
    assert_eq!(wishes[&Verb::FullSync], Wish::from("f"));
    assert_eq!(wishes[&Verb::ConfirmSweep], Wish::from("c"));
    assert_eq!(wishes[&Verb::ResetCursor], Wish { expected_position: Some(7), ..Wish::from("again") });
    let of_a_batch =
        LetterSelection { workflow_id: Some("run-1".to_owned()), batch_index: Some(3), ..LetterSelection::default() };
    assert_eq!(wishes[&Verb::Replay], Wish { letters: of_a_batch, ..Wish::from("r") });
    let of_a_record = LetterSelection {
        entity: Some(Entity::Contact),
        source_id: Some("17".to_owned()),
        ..LetterSelection::default()
    };
    assert_eq!(wishes[&Verb::Discard], Wish { letters: of_a_record, ..Wish::from("d") });
    let (from, to) = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
    let window = Some(Window { from: from.parse().expect("time"), to: to.parse().expect("time") });
    assert_eq!(wishes[&Verb::Resync], Wish { window, ..Wish::from("s") });
    assert_eq!(wishes.len(), 6);
}

#[test]
fn wishes_that_come_together_are_one_run_and_a_confirmed_sweep_makes_it_a_full_one() {
    let world = world();
    reconcile(&world, json!({}));
    let requests =
        json!({"requests": {"sync": {"token": "s"}, "replay": {"token": "r"}, "confirmSweep": {"token": "c"}}});
    reconcile(&world, requests.clone());
    let runs = |world: &FakeWorld| {
        let state = world.state();
        state.started.iter().filter(|start| start.workflow_id.starts_with("sync-")).cloned().collect::<Vec<_>>()
    };
    let started = runs(&world);
    assert_eq!(started.len(), 1, "{started:?}");
    assert_eq!(started[0].input["fullSync"], true);
    let handled = shown(&world).last_handled.expect("handled");
    let replay = handled.replay.expect("replay");
    assert_eq!((replay.token.as_str(), replay.outcome.as_deref()), ("r", Some("0 dead letters marked")));
    assert_eq!(replay.time.map(|time| time.0.to_string()).as_deref(), Some("2026-11-23T01:00:00Z"));
    assert!(handled.sync.is_some() && handled.confirm_sweep.is_some());
    reconcile(&world, requests);
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn a_replay_and_a_resync_start_an_incremental_run_and_a_reset_and_a_discard_none() {
    for (requests, expected) in [
        (json!({"replay": {"token": "x"}}), Some(false)),
        (json!({"resync": {"token": "x", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"}}), Some(false)),
        (json!({"confirmSweep": {"token": "x"}}), Some(true)),
        (json!({"discard": {"token": "x", "all": true}}), None),
        (json!({"resetCursor": {"token": "x"}}), None),
    ] {
        let world = world();
        reconcile(&world, json!({}));
        reconcile(&world, json!({"requests": requests}));
        let state = world.state();
        let run = state.started.iter().find(|start| start.workflow_id.starts_with("sync-"));
        assert_eq!(run.map(|run| run.input["fullSync"] == true), expected, "{requests}");
    }
}

#[test]
fn a_wish_that_met_somebody_elses_schedule_is_run_once_that_is_gone() {
    let world = world();
    let with = |requests: serde_json::Value| json!({"sync": {"schedules": ["*/15 * * * *"]}, "requests": requests});
    reconcile(&world, with(json!({})));
    let owner = {
        let mut state = world.state();
        let schedule = state.schedules.values_mut().next().expect("its own schedule");
        schedule.owner.take()
    };
    let requests = json!({"sync": {"token": "now"}});
    reconcile(&world, with(requests.clone()));
    let runs = |world: &FakeWorld| {
        let state = world.state();
        state.workflows.iter().filter(|id| id.starts_with("sync-acme-hubspot-2")).count()
    };
    assert_eq!(runs(&world), 0);
    assert!(shown(&world).last_handled.is_none_or(|handled| handled.sync.is_none()), "not told as handled");
    world.state().schedules.values_mut().for_each(|schedule| schedule.owner.clone_from(&owner));
    reconcile(&world, with(requests));
    assert_eq!(runs(&world), 1);
}

#[test]
fn a_wish_that_a_paused_connector_cannot_run_is_noted_and_said_so() {
    let world = world();
    reconcile(&world, json!({"state": "Paused"}));
    let left = reconcile(&world, json!({"state": "Paused", "requests": {"replay": {"token": "r"}}}));
    let told: Vec<_> = left.outcome.notes.iter().filter(|note| note.reason == "RunRefused").collect();
    assert!(told.len() == 1 && told[0].message.contains("the next sync does it"), "{told:?}");
    assert!(world.state().started.is_empty());
}

#[test]
fn a_connectors_own_data_policy_wins_over_its_tenants() {
    let world = world();
    let policy = |of_tenant: DataPolicy, own: serde_json::Value| {
        let mut input = input(&world, own);
        input.tenant.as_mut().expect("tenant").data_policy = of_tenant;
        run(&world, Reconcile::new(input, RESYNC));
        world.projected("hubspot").expect("projected").config.data_policy
    };
    assert_eq!(policy(DataPolicy::Retain, json!({})), config::DataPolicy::Retain);
    assert_eq!(policy(DataPolicy::Delete, json!({})), config::DataPolicy::Delete);
    assert_eq!(policy(DataPolicy::Delete, json!({"dataPolicy": "Retain"})), config::DataPolicy::Retain);
    assert_eq!(policy(DataPolicy::Retain, json!({"dataPolicy": "Delete"})), config::DataPolicy::Delete);
}

#[test]
fn the_annotation_asks_once_and_taking_it_away_asks_for_nothing() {
    let world = world();
    reconcile(&world, json!({}));
    let annotated = Input { requested_at: Some("a".to_owned()), ..input(&world, json!({})) };
    run(&world, Reconcile::new(annotated, RESYNC));
    let runs = world.state().workflows.len();
    assert_eq!(runs, 1);
    reconcile(&world, json!({}));
    assert_eq!(world.state().workflows.len(), runs);
}

#[test]
fn no_plaintext_is_in_what_is_shown_or_stored() {
    let world = world();
    reconcile(&world, json!({}));
    let row = world.projected("hubspot").expect("projected");
    let state = world.state();
    let stored = format!("{row:?} {:?} {:?}", state.statuses, state.workflows);
    assert!(!stored.contains("canary"));
    assert_eq!(CONNECTOR_CONTROL.part(&ConnectorStatus::default()).fields["observedGeneration"], -1);
}

#[test]
fn deletion_marks_the_row_only_where_the_claim_is_the_objects() {
    let gone = Gone {
        key: key(Kind::Connector, "hubspot"),
        tenant_id: "acme".parse().expect("id"),
        connector_id: "hubspot".parse().expect("id"),
    };
    let installation = Installation::new("installation".to_owned(), None);
    let world = world();
    reconcile(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
    let mut foreign = gone.clone();
    foreign.key.namespace = "elsewhere".to_owned();
    run(&world, Remove::new(foreign, installation.clone()));
    assert!(world.projected("hubspot").is_some());
    assert_eq!(world.state().schedules.len(), 1);
    let mut earlier = gone.clone();
    earlier.key.uid = "of a life before".to_owned();
    run(&world, Remove::new(earlier, installation.clone()));
    assert!(world.projected("hubspot").is_some(), "a removal that comes late is not of the next life");
    reconcile(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
    run(&world, Remove::mark(gone.clone(), installation.clone()));
    assert!(
        world.projected("hubspot").is_none() && world.state().schedules.len() == 1,
        "what is missing may come later"
    );
    for fault in every_fault(4) {
        reconcile(&world, json!({"sync": {"schedules": ["0 * * * *"]}}));
        world.fail(Some(fault));
        run(&world, Remove::new(gone.clone(), installation.clone()));
        world.fail(None);
        let is_projected = world.projected("hubspot").is_some();
        assert!(is_projected || world.state().schedules.is_empty(), "no row, no sweep: {fault:?}");
        run(&world, Remove::new(gone.clone(), installation.clone()));
        assert!(world.projected("hubspot").is_none(), "{fault:?}");
        assert!(world.state().schedules.is_empty(), "{fault:?}");
    }
}

#[test]
fn an_own_schedule_spreads_over_a_tenth_of_its_interval_and_makes_up_for_one_that_queued() {
    let world = world();
    let of = |cron: &str| {
        let input = input(&world, json!({"sync": {"schedules": [cron]}}));
        let tenant = input.tenant.clone().expect("a tenant");
        let wanted = super::build::schedule(&input, &tenant).expect("its own schedule");
        (wanted.jitter.as_secs(), wanted.catch_up_window.as_secs())
    };
    assert_eq!(of("*/5 * * * *"), (60, 3_600), "what the tenant says is more");
    assert_eq!(of("0 */2 * * *"), (720, 7_800));
    assert_eq!(of("0 3 * * *"), (8_640, 87_000));
}
