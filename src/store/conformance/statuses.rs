//! The incremental query from which the operator derives status.

use gtm_sync::{
    contract::{activities::Effort, workflows::ConnectionStatus},
    store::{ConnectorProjection, ConnectorStatusRow, RunEnd, RunOutcome},
};

use super::world::{ACCOUNT, World, batch, connector, contact, load, load_at_end, rejected, tenant_id};

pub(crate) async fn only_connectors_changed_since_are_returned(world: &World) {
    world.projected().await;
    let quiet = ConnectorProjection { connector_id: "quiet".parse().expect("id"), ..connector() };
    world.store.put_connector(&quiet).await.expect("projects");
    let all = world.store.connector_statuses(None).await.expect("reads");
    assert_eq!(all.rows.iter().map(|row| row.connector_id.as_str()).collect::<Vec<_>>(), ["hubspot", "quiet"]);
    assert!(all.rows.iter().all(|row| row.tenant_id == tenant_id() && row.last_run.is_none()));

    let lease = world.lease("run-1").await.lease;
    let changed = world.store.connector_statuses(Some(all.as_of)).await.expect("reads");
    assert_eq!(changed.rows.len(), 1);
    let run = changed.rows[0].last_run.clone().expect("a run");
    assert_eq!((run.workflow_id.as_str(), run.outcome, run.full_sync), ("run-1", None, true));

    let rows = batch(&[contact("1", None, "a")], &[rejected("2", "X", None)]);
    let reference = world.stage(&lease, 0, load_at_end(), rows).await;
    let applied = world.store.apply(&lease, &[reference]).await.expect("applies");
    let later = world.store.connector_statuses(Some(changed.as_of)).await.expect("reads");
    let row = &later.rows[0];
    let run = row.last_run.clone().expect("a run");
    assert_eq!((run.stats, run.entity_type.as_str()), (applied.stats, "contacts"));
    assert_eq!((row.dead_letters, row.account_id.as_deref()), (1, Some(ACCOUNT)));
    assert_eq!(row.connection_status, ConnectionStatus::Connected);
    assert!(row.connection_checked_at.is_some() && row.updated_at >= changed.as_of);

    world.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
    let last = world.store.connector_statuses(Some(later.as_of)).await.expect("reads");
    let run = last.rows[0].last_run.clone().expect("a run");
    assert_eq!((run.outcome, run.finished_at), (Some(RunOutcome::Complete), last.rows[0].last_success_at));
    assert!(run.finished_at.is_some());
    assert_eq!(last.rows[0].cursor.streams.len(), 1);
    let none = world.store.connector_statuses(Some(last.as_of)).await.expect("reads");
    assert!(none.rows.is_empty(), "{none:?}");
}

pub(crate) async fn failures_in_a_row_and_of_a_day_and_what_runs_took_are_added_up(world: &World) {
    world.projected().await;
    let effort = Effort { attempts: 10, retries: 3 };
    let told = |row: &ConnectorStatusRow| (row.failed_in_row, row.day.failures, row.day.attempts, row.day.retries);
    for number in 0..3 {
        let lease = world.lease(&format!("failing-{number}")).await.lease;
        let failed = RunEnd::Failed("Unavailable".to_owned());
        world.store.finish_run(&lease, &failed, effort).await.expect("ends");
    }
    assert_eq!(told(&world.status().await), (3, 3, 30, 9));
    let again = world.store.finish_run(&world.lease("more").await.lease, &RunEnd::More, effort).await.expect("ends");
    assert_eq!((again.stats.activity_attempts, again.stats.activity_retries), (10, 3));
    assert_eq!(told(&world.status().await), (3, 3, 40, 12), "one that ended at its budget is neither");
    let granted = world.begin("complete", load()).await;
    world.commit(&granted.lease, granted.next_seq, load_at_end(), batch(&[], &[])).await;
    world.store.finish_run(&granted.lease, &RunEnd::Complete, effort).await.expect("finishes");
    assert_eq!(told(&world.status().await), (0, 3, 50, 15), "a success ends the row, not the day");
    let long_ago = "UPDATE run SET finished_at = '2026-01-01T00:00:00.000000Z' WHERE workflow_id LIKE 'failing-%'";
    world.probe.execute(long_ago).await;
    assert_eq!(told(&world.status().await), (0, 0, 20, 6));
}
