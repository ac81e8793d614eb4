//! The incremental query from which the operator derives status.

use gtm_sync::{
    contract::workflows::ConnectionStatus,
    store::{ConnectorProjection, RunEnd, RunOutcome},
};

use super::world::{ACCOUNT, World, batch, connector, contact, load_at_end, rejected, tenant_id};

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

    world.store.finish_run(&lease, &RunEnd::Complete).await.expect("finishes");
    let last = world.store.connector_statuses(Some(later.as_of)).await.expect("reads");
    let run = last.rows[0].last_run.clone().expect("a run");
    assert_eq!((run.outcome, run.finished_at), (Some(RunOutcome::Complete), last.rows[0].last_success_at));
    assert!(run.finished_at.is_some());
    assert_eq!(last.rows[0].cursor.streams.len(), 1);
    let none = world.store.connector_statuses(Some(last.as_of)).await.expect("reads");
    assert!(none.rows.is_empty(), "{none:?}");
}
