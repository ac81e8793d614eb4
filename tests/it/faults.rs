//! What breaks, whenever, changes nothing but the time it takes: processes killed at random moments, and single faults
//! one by one, each judged by the checker and by the tests' constraint on the resume point. A module of this binary and
//! not one of its own: every binary links the SDK once more. `cargo xtask test` runs it apart from the others.

mod equal;
mod group;
mod kills;
mod long;
mod poison;
mod processes;
mod random_kills;
mod servers;
mod sources;

use simulators::hubspot::{Limits, Options, Simulator, Visibility};

use crate::support::stack::{CANARY, Stack};

/// A simulated account without limits whose records are all visible at once.
async fn crm(seed: u64, records: u32) -> Simulator {
    let options = Options {
        seed,
        records,
        token: format!("pat-{CANARY}"),
        limits: Limits::unlimited(),
        visibility: Visibility { late_records: 0, ..Visibility::default() },
        ..Options::default()
    };
    Simulator::start(options).await.expect("simulator")
}

/// A tenant with one connected connector, `hubspot`.
async fn connect(stack: &Stack, tenant: &str, crm: &Simulator, batch_size: u32) {
    stack.tenant(tenant, None).await;
    let token = format!("pat-{CANARY}");
    stack.connector(tenant, "hubspot", &crm.base_url(), &token, |it| it.config.batch_size = batch_size).await;
    let id = format!("check-{tenant}");
    let input = serde_json::json!({"tenantId": tenant, "connectorId": "hubspot"});
    stack.start("checkConnectionWorkflow", &id, input).await;
    stack.end(&id).await.completed();
}

/// The checker's verdict on a tenant's connector `hubspot`.
async fn verdict(database_url: &str, tenant: &str, crm: &Simulator) -> simulators::checker::Report {
    let target = simulators::checker::Target {
        database: database_url.to_owned(),
        tenant: tenant.to_owned(),
        connector: "hubspot".to_owned(),
        streams: Vec::new(),
    };
    let source = simulators::checker::Source::InProcess(crm.state());
    simulators::checker::check(&source, &target).await.expect("checker runs")
}

async fn assert_clean(stack: &Stack, tenant: &str, crm: &Simulator) {
    let report = verdict(&stack.database_url, tenant, crm).await;
    assert!(report.is_clean(), "{report}\n{}", stack.log_tail());
}
