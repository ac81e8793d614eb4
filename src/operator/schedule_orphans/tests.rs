//! Which schedules are suspects, when they are deleted, and what a fault at any call leaves.

use super::*;
use crate::{
    operator::{
        schedule::tests::{seen, wanted},
        world_fake::{FakeWorld, every_fault, run},
    },
    temporal::schedules::WantedSchedule,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(text: &str) -> Timestamp {
    text.parse().expect("timestamp")
}

fn installation() -> Installation {
    Installation::new("i".to_owned(), None)
}

fn owner(kind: Kind, name: &str) -> ScheduleOwner {
    ScheduleOwner { kind: kind.name().to_owned(), name: name.to_owned(), ..wanted().owner }
}

fn listed(id: &str, owner: ScheduleOwner) -> ListedSchedule {
    ListedSchedule { id: id.to_owned(), owner: Some(owner), upcoming: Vec::new() }
}

fn suspect() -> Suspect {
    Suspect { id: wanted().id, owner: wanted().owner, kind: Kind::TenantSchedule }
}

/// Ids of the suspects in a list, where these objects (kind, name, tenant) are in view.
fn ids(listed: &[ListedSchedule], objects: &[(Kind, &str, &str)]) -> Result<Vec<String>, NothingInView> {
    let tenant_of =
        |kind, _: &str, name: &str| objects.iter().find(|of| (of.0, of.1) == (kind, name)).map(|of| of.2.to_owned());
    let in_view = |kind| objects.iter().filter(|of| of.0 == kind).count();
    let found = suspects(listed, &installation(), |namespace| namespace == "acme", tenant_of, in_view)?;
    Ok(found.suspects.into_iter().map(|suspect| suspect.id).collect())
}

#[test]
fn suspects_are_of_this_installation_cluster_and_scope_and_without_an_object() {
    let tenants = Kind::TenantSchedule;
    let other = |edit: fn(&mut ScheduleOwner)| {
        let mut owner = owner(tenants, "gone");
        edit(&mut owner);
        listed("scheduled-sync-gone", owner)
    };
    let list = [
        listed("scheduled-sync-acme", owner(tenants, "acme")),
        listed("scheduled-sync-gone", owner(tenants, "gone")),
        listed("sync-acme-hubspot", owner(Kind::Connector, "hubspot")),
        listed("sync-acme-gone", owner(Kind::Connector, "gone")),
        // A name that came back for another tenant.
        listed("scheduled-sync-former", owner(tenants, "renamed")),
        listed("scheduled-sync-any", owner(tenants, "unreadable")),
        other(|owner| owner.installation_id = "another".to_owned()),
        other(|owner| owner.cluster_id = "another".to_owned()),
        other(|owner| owner.namespace = "unwatched".to_owned()),
        other(|owner| owner.kind = "Installation".to_owned()),
        ListedSchedule { id: "somebody-elses".to_owned(), owner: None, upcoming: Vec::new() },
    ];
    let objects = [
        (tenants, "acme", "acme"),
        (Kind::Connector, "hubspot", "acme"),
        (tenants, "renamed", "latter"),
        (tenants, "unreadable", ""),
    ];
    let expected = ["scheduled-sync-gone", "sync-acme-gone", "scheduled-sync-former"];
    assert_eq!(ids(&list, &objects), Ok(expected.map(str::to_owned).to_vec()));
    assert_eq!(ids(&list, &objects[..1]), Err(NothingInView), "no Connector is in view at all");
    assert_eq!(ids(&list[..1], &[]), Err(NothingInView));
    assert_eq!(ids(&list[..1], &objects[..1]), Ok(Vec::new()));
}

fn found(count: usize, ours: usize) -> Found {
    let suspects = (0..count).map(|number| Suspect { id: format!("s{number}"), ..suspect() });
    Found { ours, suspects: suspects.collect() }
}

fn deletes(plan: &Plan) -> usize {
    plan.looks.iter().filter(|(_, delete)| *delete).count()
}

#[test]
fn an_orphan_is_deleted_after_the_grace_and_many_at_once_are_not() {
    let (first, later, due) = (at("2026-11-23T01:00:00Z"), at("2026-11-23T01:59:59Z"), at("2026-11-23T02:00:00Z"));
    for (count, ours, deleted) in [(3, 3, 3), (20, 20, 20), (21, 21, 0), (50, 1_000, 50), (51, 1_000, 0)] {
        let mut sightings = Sightings::default();
        let plan = sightings.plan(found(count, ours), HOUR, first);
        assert_eq!((plan.looks.len(), deletes(&plan)), (count, 0), "first they are only looked at");
        for (suspect, _) in plan.looks {
            assert!(sightings.note(&suspect, Verdict::Orphan, first), "told once");
        }
        assert_eq!(sightings.orphans(), count);
        assert!(sightings.plan(found(count, ours), HOUR, later).looks.is_empty());
        let plan = sightings.plan(found(count, ours), HOUR, due);
        assert_eq!((deletes(&plan), plan.too_many), (deleted, deleted == 0));
    }
}

#[test]
fn an_object_that_comes_back_ends_the_grace_and_what_was_left_holds_up_nobody() {
    let (first, due) = (at("2026-11-23T01:00:00Z"), at("2026-11-23T02:00:00Z"));
    let mut sightings = Sightings::default();
    sightings.note(&found(1, 1).suspects[0], Verdict::Orphan, first);
    assert!(sightings.plan(found(0, 1), HOUR, due).looks.is_empty());
    assert_eq!(deletes(&sightings.plan(found(1, 1), HOUR, due)), 0, "a new grace");

    let mut sightings = Sightings::default();
    let all = found(100, 100).suspects;
    sightings.note(&all[0], Verdict::Orphan, first);
    for left in &all[1..] {
        assert!(!sightings.note(left, Verdict::NoOrphan, first));
    }
    assert_eq!(sightings.orphans(), 1);
    let plan = sightings.plan(found(100, 100), HOUR, due);
    assert_eq!((deletes(&plan), plan.looks.len(), plan.too_many), (1, 100, false), "and they are looked at anew");
}

fn world(edit: impl FnOnce(&mut SeenSchedule)) -> FakeWorld {
    let world = FakeWorld::default();
    let mut seen = seen(&wanted());
    edit(&mut seen);
    world.state().schedules.insert(wanted().id, seen);
    world
}

fn examine(world: &FakeWorld, delete: bool) -> Result<Verdict, Error> {
    run(world, Examine::new(suspect(), delete, installation()))
}

#[test]
fn only_what_is_still_ours_and_still_without_object_is_deleted() {
    for delete in [false, true] {
        for edit in [
            |seen: &mut SeenSchedule| seen.left = true,
            |seen: &mut SeenSchedule| seen.owner = None,
            |seen: &mut SeenSchedule| seen.wanted_hash = None,
            |seen: &mut SeenSchedule| seen.owner = Some(owner(Kind::TenantSchedule, "adopter")),
        ] {
            let world = world(edit);
            assert_eq!(examine(&world, delete), Ok(Verdict::NoOrphan));
            assert_eq!(world.state().schedules.len(), 1);
        }
        let world = world(|_| ());
        let object = |tenant: &str| {
            let spec = serde_json::json!({"tenantId": tenant});
            world.state().apply(Kind::TenantSchedule, "acme", "acme", spec);
        };
        for tenant in ["acme", ""] {
            object(tenant);
            assert_eq!(examine(&world, delete), Ok(Verdict::NoOrphan), "the watch was behind");
        }
        object("another");
        let expected = if delete { Verdict::Deleted } else { Verdict::Orphan };
        assert_eq!(examine(&world, delete), Ok(expected), "the name is another tenant's now");
        assert_eq!(world.state().schedules.is_empty(), delete);
    }
}

#[test]
fn whatever_call_fails_the_next_pass_ends_with_claim_and_schedule_gone() {
    let undisturbed = world(|_| ());
    assert_eq!(examine(&undisturbed, true), Ok(Verdict::Deleted));
    let calls = undisturbed.calls();
    assert_eq!(calls, ["DescribeSchedule", "TenantOf", "RemoveTenant", "DeleteSchedule"]);
    for fault in every_fault(calls.len()) {
        let world = world(|_| ());
        world.claim("acme", "acme", "acme");
        world.fail(Some(fault));
        assert!(examine(&world, true).is_err(), "{fault:?}");
        world.fail(None);
        examine(&world, true).expect("the outage is over");
        assert!(world.state().schedules.is_empty(), "{fault:?}");
        assert_eq!(world.removed_tenants(), ["acme"], "{fault:?}");
    }
}

#[test]
fn the_claim_that_goes_is_that_of_the_schedules_own_tenant() {
    let mut strange = wanted();
    strange.input = serde_json::json!({"tenantId": "another"});
    let world = FakeWorld::default();
    world.claim("acme", "acme", "acme");
    let seen = seen(&WantedSchedule { owner: wanted().owner, ..strange });
    world.state().schedules.insert(wanted().id, seen);
    assert_eq!(examine(&world, true), Ok(Verdict::Deleted));
    assert!(world.removed_tenants().is_empty());
}
