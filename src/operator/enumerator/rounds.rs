//! What the status loop makes of rows that workers write (R27, R32), in the simulation: its query, caches and queues are the real
//! ones.

use jiff::SignedDuration;
use serde_json::json;

use super::{
    scenarios::{connector_spec, tenant_spec},
    simulation::Simulation,
};
use crate::{
    clock,
    contract::workflows::ConnectionStatus,
    operator::{world::ObjectKey, world_fake::block_on},
    store::ConnectionFound,
};

/// Until all has settled; no settled object is looked at again so soon.
const SETTLED: i64 = 60;

/// A connector whose credential was checked, at rest.
fn connected() -> (Simulation, ObjectKey) {
    let mut simulation = Simulation::new(&[], &[]);
    simulation.secret("acme", "crm", "first");
    simulation.tenant("acme", "acme", tenant_spec(json!({})));
    let key = simulation.connector("acme", "hubspot", connector_spec(json!({})));
    // A check is looked after once more a minute later.
    simulation.run_for(2 * SETTLED);
    assert_eq!(connection(&simulation, &key)["status"], "Connected");
    (simulation, key)
}

/// A worker has written.
fn next_round(of: &mut Simulation) {
    of.processes[0].look_soon();
    of.run_for(SETTLED);
}

fn connection(of: &Simulation, key: &ObjectKey) -> serde_json::Value {
    of.servers.state().object(key).expect("it is there").status()["connection"].clone()
}

fn digest(of: &Simulation) -> Option<String> {
    of.servers.file.rows("SELECT digest FROM credential").remove(0).remove(0)
}

#[test]
fn a_row_that_was_committed_after_a_later_one_was_read_is_shown_all_the_same() {
    let (mut simulation, key) = connected();
    // The transaction began before the last query, by the store's clock.
    let began = clock::now() - SignedDuration::from_secs(50);
    let late = format!("UPDATE connector SET account_id = 'late', updated_at = '{began:.6}'");
    simulation.servers.file.execute(&late);
    next_round(&mut simulation);
    assert_eq!(connection(&simulation, &key)["accountId"], "late");
}

#[test]
fn a_refused_credential_has_its_secret_read_at_once_and_a_rotated_one_is_sealed_and_checked() {
    let (mut simulation, key) = connected();
    let before = digest(&simulation);
    simulation.secret("acme", "crm", "rotated");
    let status = Some(ConnectionStatus::Disconnected);
    let refused = ConnectionFound { status, reason: "Unauthorised: 401".to_owned(), account_id: None };
    let ids = ("acme".parse().expect("an id"), "hubspot".parse().expect("an id"));
    block_on(async {
        let store = &simulation.servers.store;
        let record = store.connector(&ids.0, &ids.1).await.expect("read").expect("projected");
        store.set_connection(&ids.0, &ids.1, record.credential_revision, &refused).await.expect("recorded");
    });
    let calls = simulation.servers.state().calls.len();
    next_round(&mut simulation);
    assert!(simulation.calls(calls).contains(&"GetSecret".to_owned()), "{:?}", simulation.calls(calls));
    assert_ne!(digest(&simulation), before);
    assert_eq!(connection(&simulation, &key)["status"], "Connected");
}
