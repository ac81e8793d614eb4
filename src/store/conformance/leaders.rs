//! Leadership: what a handle may write once another one was taken (R26).

use gtm_sync::{
    model::config::{ConnectorConfig, DataPolicy},
    store::{
        Aged, ClaimOutcome, ConnectorProjection, DeadRun, DesiredState, Error, LeaseHolder, Retention, RunOutcome,
        TenantProjection,
    },
};

use super::world::{World, claim, connector, connector_id, tenant, tenant_id};

const KEEP_ALL: Retention = Retention { runs_days: None, dead_letter_payloads_days: None, tombstones_days: None };

/// Everything that an operator writes.
const WRITTEN: &str = "SELECT CAST(tenant_id AS TEXT), CAST(wait_seconds AS TEXT), CAST(updated_at AS TEXT),
        CAST(removed_at AS TEXT) FROM tenant
    UNION ALL SELECT connector_id, CAST(revision AS TEXT), CAST(updated_at AS TEXT), CAST(removed_at AS TEXT)
        FROM connector
    UNION ALL SELECT connector_id, CAST(revision AS TEXT), CAST(updated_at AS TEXT), digest FROM credential";

fn removable() -> ConnectorProjection {
    let config = ConnectorConfig { data_policy: DataPolicy::Delete, ..connector().config };
    ConnectorProjection { config, ..connector() }
}

pub(crate) async fn a_leader_with_an_older_epoch_writes_nothing(world: &World) {
    let old = world.store.take_leadership("eu1/gtm-sync").await.expect("first");
    assert_eq!(old.put_tenant(&tenant()).await, Ok(ClaimOutcome::Held));
    old.put_connector(&removable()).await.expect("projects");
    let new = world.store.take_leadership("eu1/gtm-sync").await.expect("second");
    let before = world.probe.rows(WRITTEN).await;

    let other_wait = TenantProjection { wait_seconds: Some(7), ..tenant() };
    assert_eq!(old.put_tenant(&other_wait).await, Err(Error::NotLeader));
    assert_eq!(old.remove_tenant(&tenant_id(), &tenant().owner).await, Err(Error::NotLeader));
    assert_eq!(old.tenant_claim(&tenant_id()).await, Err(Error::NotLeader));
    let paused = ConnectorProjection { desired_state: DesiredState::Paused, ..removable() };
    assert_eq!(old.put_connector(&paused).await, Err(Error::NotLeader));
    assert_eq!(old.remove_connector(&tenant_id(), &connector_id(), &connector().uid).await, Err(Error::NotLeader));
    assert_eq!(old.age(&KEEP_ALL).await, Err(Error::NotLeader));
    let dead = DeadRun {
        tenant_id: tenant_id(),
        connector_id: connector_id(),
        holder: LeaseHolder { workflow_id: "run".to_owned(), epoch: "epoch".to_owned() },
        outcome: RunOutcome::Terminated,
        error: "terminated in Temporal".to_owned(),
    };
    assert_eq!(old.close_run(&dead).await, Err(Error::NotLeader));
    assert_eq!(world.probe.rows(WRITTEN).await, before);

    new.remove_connector(&tenant_id(), &connector_id(), &connector().uid).await.expect("the new leader may");
    assert_eq!(old.purge_connector(&tenant_id(), &connector_id()).await, Err(Error::NotLeader));
    assert_eq!(world.count("credential").await, 1, "nothing was purged");
    assert!(new.purge_connector(&tenant_id(), &connector_id()).await.expect("purges").done);
    assert_eq!(new.put_tenant(&other_wait).await, Ok(ClaimOutcome::Held));
    assert_eq!(new.tenant_claim(&tenant_id()).await, Ok(Some(claim())));
    assert_eq!(world.store.age(&KEEP_ALL).await, Ok(Aged::default()), "a handle of no leader is never refused");
}

pub(crate) async fn leaders_of_different_things_leave_each_other_alone(world: &World) {
    let europe = world.store.take_leadership("eu1/gtm-sync").await.expect("taken");
    let america = world.store.take_leadership("us1/gtm-sync").await.expect("taken");
    assert_eq!(europe.put_tenant(&tenant()).await, Ok(ClaimOutcome::Held));
    assert_eq!(america.tenant_claim(&tenant_id()).await, Ok(Some(claim())));
    let (one, other) = tokio::join!(world.store.take_leadership("eu1/x"), world.store.take_leadership("eu1/x"));
    let (one, other) = (one.expect("taken"), other.expect("taken"));
    let answers = [one.tenant_claim(&tenant_id()).await, other.tenant_claim(&tenant_id()).await];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "of two at once exactly one leads");
}
