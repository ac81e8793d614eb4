//! Who may work for a connector: the lease, its take-over, and what a former holder can still do.

use gtm_sync::{
    contract::activities::Parked,
    store::{ConnectorProjection, DesiredState, Error, LeaseRequest, RunEnd, RunOutcome, Verb},
};

use super::world::{
    World, at, batch, connector, connector_id, contact, load, load_at, owner, request, staged, tenant, tenant_id,
};

pub(crate) async fn a_take_over_closes_the_former_run_and_drops_what_it_staged(world: &World) {
    world.projected().await;
    let first = world.lease("run-1").await;
    assert_eq!((first.lease.run_no, first.next_seq), (1, 0));
    world.write(&first.lease, 0, &[contact("1", None, "a")]).await;
    let orphan = world.stage(&first.lease, 1, load_at(2), batch(&[], &[])).await;
    let holder = world.store.lease_holder(&tenant_id(), &connector_id()).await.expect("reads").expect("held");
    assert_eq!((holder.workflow_id.as_str(), &holder.epoch), ("run-1", &first.lease.epoch));

    let refused = world.store.take_lease(&request("run-2", None)).await;
    assert!(matches!(refused, Err(Error::StaleRun { .. })), "it is not free");
    let second = world.store.take_lease(&request("run-2", Some(&holder.epoch))).await.expect("takes over");
    assert_eq!((second.lease.run_no, second.next_seq), (2, 1));
    assert_ne!(second.lease.epoch, first.lease.epoch);
    assert_eq!(second.stats, Default::default(), "another run counts anew");
    let state = world.store.sync_state(&second.lease).await.expect("reads");
    assert_eq!(state.load, load_at(1), "the load goes on where it stands");
    assert_eq!(world.count("staged_batch").await, 0);
    assert_eq!(world.store.staged_next(&first.lease, &orphan.staged_id).await, Ok(None));
    const FORMER: &str = "SELECT outcome, CAST(finished_at IS NOT NULL AS TEXT) FROM run WHERE workflow_id = 'run-1'";
    let closed = world.probe.rows(FORMER).await.remove(0);
    assert_eq!(closed[0].as_deref(), Some("terminated"));
    assert!(matches!(closed[1].as_deref(), Some("1" | "true")));
}

pub(crate) async fn the_same_workflow_goes_on_with_its_counts(world: &World) {
    world.projected().await;
    let first = world.lease("run-1").await;
    let applied = world.write(&first.lease, 0, &[contact("1", None, "a")]).await;
    let again = world.store.take_lease(&request("run-1", Some(&first.lease.epoch))).await.expect("takes again");
    assert_eq!((again.stats, again.next_seq, again.lease.run_no), (applied.stats, 1, 2));
    let reference =
        world.stage(&again.lease, 1, load_at(2), batch(&[], &[super::world::rejected("2", "X", None)])).await;
    let applied = world.store.apply(&again.lease, &[reference]).await.expect("applies");
    assert_eq!(applied.failed[0].batch_index, 1, "batches are counted from the run's first");
}

pub(crate) async fn a_former_holder_is_refused_everywhere(world: &World) {
    world.projected().await;
    let stale = world.lease("run-1").await.lease;
    let reference = world.stage(&stale, 0, load_at(1), batch(&[contact("1", None, "a")], &[])).await;
    world.store.take_lease(&request("run-2", Some(&stale.epoch))).await.expect("takes over");
    let parked = Parked { until: at("2026-11-22T13:00:00Z"), reason: "RateLimited".to_owned() };
    let refusals = [
        world.store.stage(&stale, &staged(0, load_at(1), batch(&[], &[]))).await.err(),
        world.store.apply(&stale, std::slice::from_ref(&reference)).await.err(),
        world.store.dead_letter(&stale, &reference, "X").await.err(),
        world.store.finish_run(&stale, &RunEnd::Complete, Default::default()).await.err(),
        world.store.park(&stale, Some(&parked)).await.err(),
        world.store.sync_state(&stale).await.err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(Error::StaleRun { .. })), "{refusal:?}");
    }
    assert_eq!(world.count("contact").await, 0);
}

pub(crate) async fn of_two_that_take_one_lease_exactly_one_gets_it(world: &World) {
    world.projected().await;
    for round in 0..5 {
        let holder = world.store.lease_holder(&tenant_id(), &connector_id()).await.expect("reads");
        let expected = holder.map(|holder| holder.epoch);
        let (one, two) = (format!("one-{round}"), format!("two-{round}"));
        let (one, two) = (request(&one, expected.as_deref()), request(&two, expected.as_deref()));
        let (one, two) = tokio::join!(world.store.take_lease(&one), world.store.take_lease(&two));
        assert_eq!([&one, &two].iter().filter(|granted| granted.is_ok()).count(), 1, "{one:?} {two:?}");
    }
}

pub(crate) async fn pause_stop_and_removal_refuse_the_next_commit_and_a_new_lease(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let reference = world.stage(&lease, 0, load_at(1), batch(&[contact("1", None, "a")], &[])).await;
    let batches = std::slice::from_ref(&reference);
    for desired_state in [DesiredState::Paused, DesiredState::Stopped] {
        world.store.put_connector(&ConnectorProjection { desired_state, ..connector() }).await.expect("projects");
        assert_eq!(world.store.apply(&lease, batches).await, Err(Error::Stopped));
        assert_eq!(world.store.dead_letter(&lease, &reference, "X").await, Err(Error::Stopped));
        assert_eq!(world.store.take_lease(&request("run-2", Some(&lease.epoch))).await, Err(Error::Stopped));
    }
    let recreated = ConnectorProjection { uid: "uid-2".to_owned(), ..connector() };
    world.store.put_connector(&recreated).await.expect("projects");
    assert_eq!(world.store.apply(&lease, batches).await, Err(Error::Stopped), "another life of the CR");
    world.store.put_connector(&connector()).await.expect("projects");
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    assert_eq!(world.store.apply(&lease, batches).await, Err(Error::Stopped));
    world.store.put_connector(&connector()).await.expect("projects");
    world.store.remove_tenant(&tenant_id(), &owner("team-a", "acme")).await.expect("removes");
    assert_eq!(world.store.apply(&lease, batches).await, Err(Error::Stopped));
    assert_eq!(world.count("contact").await, 0);
    world.store.put_tenant(&tenant()).await.expect("tenant");
    assert_eq!(world.store.apply(&lease, batches).await.expect("runs again").next_seq, 1);
    world
        .store
        .put_connector(&ConnectorProjection { desired_state: DesiredState::Paused, ..connector() })
        .await
        .expect("projects");
    world
        .store
        .finish_run(&lease, &RunEnd::Failed("Stopped".to_owned()), Default::default())
        .await
        .expect("a stopped run can end");
}

pub(crate) async fn a_load_in_progress_is_continued_unless_it_is_to_be_restarted(world: &World) {
    world.projected().await;
    let first = world.lease("run-1").await.lease;
    world.write(&first, 0, &[]).await;
    let incremental = gtm_sync::model::cursor::Load { full: false, ..load() };
    let wish = LeaseRequest { load: incremental.clone(), ..request("run-2", Some(&first.epoch)) };
    let second = world.store.take_lease(&wish).await.expect("takes over").lease;
    assert_eq!(world.store.sync_state(&second).await.expect("reads").load, load_at(1));
    let wish = LeaseRequest {
        restart_load: true,
        ..LeaseRequest { load: incremental, ..request("run-3", Some(&second.epoch)) }
    };
    let third = world.store.take_lease(&wish).await.expect("takes over").lease;
    let restarted = world.store.sync_state(&third).await.expect("reads").load;
    assert!(restarted.first_observed > 0, "what is older was there before it");
    assert_eq!(restarted, gtm_sync::model::cursor::Load { first_observed: restarted.first_observed, ..wish.load });
    assert_eq!(wish.former_outcome, RunOutcome::Terminated);
}

pub(crate) async fn a_connector_that_was_edited_since_it_was_read_is_not_leased(world: &World) {
    world.projected().await;
    // Read before a reset, with a load made of the cursor of then.
    let stale = request("run", None);
    let reset = ConnectorProjection {
        generation: connector().generation + 1,
        wishes: [(Verb::ResetCursor, "reset".into())].into(),
        ..connector()
    };
    world.store.put_connector(&reset).await.expect("projects");
    let refused = world.store.take_lease(&stale).await;
    assert!(matches!(refused, Err(Error::StaleRun { .. })), "{refused:?}");
    let read = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("is there");
    let granted = world.store.take_lease(&LeaseRequest { revision: read.revision, ..stale }).await.expect("leased");
    assert_eq!(granted.lease.revision, read.revision);
}

pub(crate) async fn a_run_that_goes_on_with_another_account_counts_its_batches_from_there(world: &World) {
    world.projected().await;
    let before = world.lease("before").await.lease;
    for seq in 0..3 {
        world.write(&before, seq, &[contact("1", None, "a")]).await;
    }
    let lease = world.store.take_lease(&request("run", Some(&before.epoch))).await.expect("takes over").lease;
    world.write(&lease, 3, &[contact("2", None, "b")]).await;
    world.wish(Verb::ResetCursor, "another portal".into()).await;
    let other = LeaseRequest { account_id: "portal-2".to_owned(), ..request("run", None) };
    let granted = world.store.take_lease(&other).await.expect("free");
    assert_eq!(granted.next_seq, 0);
    world.write(&granted.lease, 0, &[contact("3", None, "c")]).await;
    assert_eq!(world.contact("3", "email").await.as_deref(), Some("c"));
}
