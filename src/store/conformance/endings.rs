//! How a run ends, and what stays for the next one.

use gtm_sync::{
    contract::activities::Parked,
    model::cursor::Load,
    store::{Error, RunEnd, RunOutcome},
};

use super::world::{World, at, batch, connector_id, contact, load_at, load_at_end, rejected, request, tenant_id};

pub(crate) async fn a_complete_run_moves_the_cursor_and_frees_the_lease(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let rows = batch(&[contact("1", None, "a")], &[rejected("2", "X", None)]);
    let reference = world.stage(&lease, 0, load_at_end(), rows).await;
    let applied = world.store.apply(&lease, std::slice::from_ref(&reference)).await.expect("applies");
    let end = world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    assert_eq!((end.next_seq, end.stats), (1, applied.stats));
    assert!(end.failed_streams.is_empty());
    assert_eq!(world.store.lease_holder(&tenant_id(), &connector_id()).await, Ok(None));
    let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((record.load, record.generation), (None, 1));
    assert_eq!(record.cursor.streams.get("contacts"), Some(&load_at_end().upper));

    assert_eq!(
        world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.as_ref(),
        Ok(&end),
        "a second call"
    );
    assert_eq!(world.store.failed_records(&lease, 10).await, Ok(applied.failed.clone()), "read after the end");
    assert_eq!(world.store.apply(&lease, &[reference]).await, Ok(applied), "recorded");
    let late = world.store.stage(&lease, &super::world::staged(1, load_at(2), batch(&[], &[]))).await;
    assert!(matches!(late, Err(Error::StaleRun { .. })), "the lease ended with the run");
}

pub(crate) async fn more_and_failed_keep_the_load(world: &World) {
    world.projected().await;
    for (round, end) in [(0, RunEnd::More), (1, RunEnd::Failed("Unavailable (08006)".to_owned()))] {
        let workflow_id = format!("run-{round}");
        let lease = world.lease(&workflow_id).await.lease;
        world.write(&lease, round, &[]).await;
        world.stage(&lease, round + 1, load_at(99), batch(&[], &[])).await;
        world.store.finish_run(&lease, &end, Default::default()).await.expect("finishes");
        assert_eq!(world.count("staged_batch").await, 0, "no orphans stay");
        let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
        assert_eq!((record.load, record.generation), (Some(load_at(round + 1)), 0));
        assert!(record.cursor.streams.is_empty());
    }
    let page = world.store.connector_statuses(None).await.expect("reads");
    let run = page.rows[0].last_run.clone().expect("a run");
    assert_eq!((run.outcome, run.error.as_deref()), (Some(RunOutcome::Failed), Some("Unavailable (08006)")));
    assert_eq!(page.rows[0].last_success_at, None);
}

pub(crate) async fn a_load_that_is_not_at_its_end_cannot_complete(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    world.write(&lease, 0, &[]).await;
    let refused = world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(world.store.sync_state(&lease).await.expect("still ours").load, load_at(1));
}

pub(crate) async fn a_failed_stream_is_named_and_its_watermark_stays(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let mut failed: Load = super::world::load();
    failed.fail_stream("Configuration (403)");
    let reference = world.stage(&lease, 0, failed, batch(&[], &[])).await;
    world.store.apply(&lease, &[reference]).await.expect("applies");
    let end = world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    assert_eq!(end.failed_streams, ["contacts"]);
    assert_eq!(
        world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await,
        Ok(end),
        "recorded with its streams"
    );
    let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert!(record.cursor.streams.is_empty());
    let run = world.status().await.last_run.expect("a run");
    assert_eq!(run.error.as_deref(), Some("contacts: Configuration (403)"), "told, though the run is complete");
}

pub(crate) async fn a_workflow_id_used_again_after_its_end_is_a_new_run(world: &World) {
    world.projected().await;
    let lease = world.lease("manual").await.lease;
    let reference = world.stage(&lease, 0, load_at_end(), batch(&[], &[rejected("1", "X", None)])).await;
    world.store.apply(&lease, &[reference]).await.expect("applies");
    world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    let again = world.store.take_lease(&request("manual", None)).await.expect("free");
    assert_eq!((again.stats, again.next_seq), (Default::default(), 1));
    assert_eq!(world.store.failed_records(&again.lease, 10).await, Ok(vec![]));
    let reference = world.stage(&again.lease, 1, load_at(2), batch(&[], &[rejected("1", "X", None)])).await;
    let applied = world.store.apply(&again.lease, &[reference]).await.expect("applies");
    assert_eq!(applied.failed[0].batch_index, 0, "counted from its own first batch");
}

pub(crate) async fn a_parked_run_shows_why_and_until_when(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let parked = Parked { until: at("2026-11-22T13:00:00Z"), reason: "QuotaExhausted".to_owned() };
    world.store.park(&lease, Some(&parked)).await.expect("parks");
    let shown = || async { world.store.connector_statuses(None).await.expect("reads").rows.remove(0).last_run };
    assert_eq!(shown().await.expect("a run").parked, Some(parked.clone()));
    world.store.park(&lease, None).await.expect("goes on");
    assert_eq!(shown().await.expect("a run").parked, None);
    world.store.park(&lease, Some(&parked)).await.expect("parks");
    world.store.finish_run(&lease, &RunEnd::More, Default::default()).await.expect("finishes");
    assert_eq!(shown().await.expect("a run").parked, None);
}
