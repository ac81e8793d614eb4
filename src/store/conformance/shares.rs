//! A tenant's share (R42): who works, who waits and in which order; and runs that somebody else closes (R12).

use gtm_sync::{
    contract::activities::Parked,
    ids::ConnectorId,
    store::{
        ConnectorProjection, DeadRun, Error, LeaseGranted, LeaseHolder, LeaseRequest, RunEnd, RunOutcome, Turn,
        TurnRequest,
    },
};

use super::world::{World, at, connector, contact, owner, request, tenant_id};

const MOST: u32 = 2;

fn id(connector: &str) -> ConnectorId {
    connector.parse().expect("id")
}

fn wish(connector: &str) -> TurnRequest {
    TurnRequest {
        tenant_id: tenant_id(),
        connector_id: id(connector),
        workflow_id: format!("run-{connector}"),
        most: MOST,
        instead_of: None,
    }
}

/// Projects connectors of these names beside the world's own.
async fn projected(world: &World, connectors: &[&str]) {
    world.projected().await;
    for name in connectors {
        let another = ConnectorProjection { connector_id: id(name), owner: owner("team-a", name), ..connector() };
        world.store.put_connector(&another).await.expect("projects");
    }
}

async fn ask(world: &World, connector: &str) -> Turn {
    world.store.ask_for_turn(&wish(connector)).await.expect("asks")
}

/// How many are ahead of a connector that must wait.
async fn ahead(world: &World, connector: &str) -> Option<u32> {
    match ask(world, connector).await {
        Turn::Ours => None,
        Turn::Waits { ahead, .. } => Some(ahead),
        other => panic!("{other:?}"),
    }
}

async fn take(world: &World, connector: &str) -> Result<LeaseGranted, Error> {
    let lease = LeaseRequest {
        connector_id: id(connector),
        tenant_syncs: Some(MOST),
        ..request(&format!("run-{connector}"), None)
    };
    world.store.take_lease(&lease).await
}

async fn end(world: &World, granted: &LeaseGranted) {
    let failed = RunEnd::Failed("Unavailable".to_owned());
    world.store.finish_run(&granted.lease, &failed, Default::default()).await.expect("ends");
}

pub(crate) async fn places_go_round_in_the_order_of_asking_and_there_are_never_more(world: &World) {
    projected(world, &["a", "b", "c", "d"]).await;
    assert_eq!((ahead(world, "a").await, ahead(world, "b").await), (None, None));
    assert_eq!((ahead(world, "c").await, ahead(world, "d").await), (Some(2), Some(3)), "both are promised");
    let a = take(world, "a").await.expect("a place");
    let b = take(world, "b").await.expect("a place");
    assert_eq!((ahead(world, "d").await, ahead(world, "c").await), (Some(1), Some(0)));
    assert_eq!(take(world, "d").await, Err(Error::NoPlace), "whoever does not wait for its turn");
    assert_eq!(ask(world, "a").await, Turn::Ours, "who works is not asked to wait");
    let again =
        LeaseRequest { connector_id: id("a"), tenant_syncs: Some(MOST), ..request("run-a", Some(&a.lease.epoch)) };
    let a = world.store.take_lease(&again).await.expect("goes on");
    end(world, &a).await;
    assert_eq!((ahead(world, "d").await, ahead(world, "c").await), (Some(1), None), "the first in line");
    take(world, "c").await.expect("a place");
    end(world, &b).await;
    assert_eq!(ahead(world, "d").await, None);
    take(world, "d").await.expect("a place");
    assert_eq!(world.count("waiting").await, 0);
}

pub(crate) async fn a_parked_run_leaves_its_place_and_comes_back_to_the_front_of_the_line(world: &World) {
    projected(world, &["a", "b", "c", "d"]).await;
    let a = take(world, "a").await.expect("a place");
    take(world, "b").await.expect("a place");
    assert_eq!(ahead(world, "c").await, Some(0));
    let parked = Parked { until: at("2026-11-22T13:00:00Z"), reason: "QuotaExhausted".to_owned() };
    world.store.park(&a.lease, Some(&parked)).await.expect("parks");
    assert_eq!(ahead(world, "c").await, None, "a parked run counts for no share (R46)");
    take(world, "c").await.expect("a place");
    assert_eq!(ahead(world, "d").await, Some(0));
    let Turn::Waits { ahead: before_a, working, .. } = ask(world, "a").await else { panic!("a third one works") };
    let names: Vec<_> = working.iter().map(|one| one.connector_id.as_str()).collect();
    assert_eq!((before_a, names), (0, vec!["b", "c"]));
    assert_eq!(ahead(world, "d").await, Some(1), "a began before");
}

pub(crate) async fn a_connector_stands_once_and_the_silent_are_passed_over_but_not_forgotten(world: &World) {
    projected(world, &["a", "b", "c", "d"]).await;
    take(world, "a").await.expect("a place");
    assert_eq!(ahead(world, "b").await, None, "promised");
    assert_eq!(ahead(world, "c").await, Some(1));
    let second = TurnRequest { workflow_id: "another run of c".to_owned(), ..wish("c") };
    assert_eq!(world.store.ask_for_turn(&second).await, Ok(Turn::Anothers("run-c".to_owned())));
    let instead = TurnRequest { instead_of: Some("run-c".to_owned()), ..second };
    assert!(matches!(world.store.ask_for_turn(&instead).await, Ok(Turn::Waits { ahead: 1, .. })), "in its stead");
    assert!(matches!(ask(world, "c").await, Turn::Anothers(_)));
    world.probe.execute("UPDATE waiting SET seen_at = '2026-01-01T00:00:00.000000Z' WHERE connector_id = 'b'").await;
    assert!(matches!(world.store.ask_for_turn(&instead).await, Ok(Turn::Ours)), "b says nothing any more");
    assert_eq!(ahead(world, "d").await, Some(1));
    assert_eq!((ahead(world, "b").await, ahead(world, "d").await), (None, Some(2)), "b is back, and still the first");
}

pub(crate) async fn a_dead_run_is_closed_by_its_lease_and_no_other_is(world: &World) {
    projected(world, &["a", "b", "c"]).await;
    let a = take(world, "a").await.expect("a place");
    let applied_before = a.next_seq;
    take(world, "b").await.expect("a place");
    let dead = |epoch: &str| DeadRun {
        tenant_id: tenant_id(),
        connector_id: id("a"),
        holder: LeaseHolder { workflow_id: "run-a".to_owned(), epoch: epoch.to_owned() },
        outcome: RunOutcome::Failed,
        error: "failed in Temporal".to_owned(),
    };
    let stale = world.store.close_run(&dead("another epoch")).await;
    assert!(matches!(stale, Err(Error::StaleRun { .. })), "{stale:?}");
    assert_eq!(ahead(world, "c").await, Some(0), "nothing was closed");
    world.store.close_run(&dead(&a.lease.epoch)).await.expect("closes");
    assert_eq!(ahead(world, "c").await, None);
    let run = world.store.runs(&tenant_id(), &id("a"), 1).await.expect("reads").remove(0);
    assert_eq!((run.outcome, run.error.as_deref()), (Some(RunOutcome::Failed), Some("failed in Temporal")));
    assert!(run.finished_at.is_some());
    let refused = world.store.finish_run(&a.lease, &RunEnd::More, Default::default()).await;
    assert!(matches!(refused, Err(Error::StaleRun { .. })), "a zombie ends nothing: {refused:?}");
    assert!(matches!(world.store.close_run(&dead(&a.lease.epoch)).await, Err(Error::StaleRun { .. })), "once");

    let next = world.store.take_lease(&LeaseRequest { connector_id: id("a"), ..request("run-a", None) }).await;
    let next = next.expect("free");
    assert_eq!(next.next_seq, applied_before, "the load goes on where it stood");
    world.write(&next.lease, next.next_seq, &[contact("1", None, "a")]).await;
}
