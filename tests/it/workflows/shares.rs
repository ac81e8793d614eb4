//! A tenant's share of the pool (R42): its first loads run a few at a time and in order, another tenant is not delayed by them,
//! and whoever died leaves its place.

use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use super::*;

const SHARE: usize = 2;

fn connector(number: usize) -> String {
    format!("c{number}")
}

/// A tenant whose connectors `c0`, `c1`, … read from this CRM.
async fn tenant(stack: &Stack, name: &str, crm: &Simulator, connectors: usize) {
    stack.tenant(name, None).await;
    for number in 0..connectors {
        stack.connector(name, &connector(number), &crm.base_url(), &format!("pat-{CANARY}"), |_| {}).await;
    }
}

fn run_id(tenant: &str, number: usize) -> String {
    format!("{tenant}-c{number}")
}

async fn start(stack: &Stack, tenant: &str, number: usize) {
    stack.start_sync(&run_id(tenant, number), tenant, &connector(number), true).await;
}

/// Workflow ids of a tenant's runs that are at work and not parked.
async fn working(stack: &Stack, tenant: &str) -> Vec<String> {
    let rows = stack.store.connector_statuses(None).await.expect("statuses").rows;
    let runs = rows.into_iter().filter(|row| row.tenant_id.as_str() == tenant).filter_map(|row| row.last_run);
    runs.filter(|run| run.outcome.is_none() && run.parked.is_none()).map(|run| run.workflow_id).collect()
}

async fn works(stack: &Stack, tenant: &str, number: usize) {
    eventually("the run is at work", LONG, || async {
        working(stack, tenant).await.contains(&run_id(tenant, number)).then_some(())
    })
    .await;
}

async fn waits(stack: &Stack, number: usize) {
    let of = format!("SELECT workflow_id FROM waiting WHERE connector_id = '{}'", connector(number));
    eventually("the run waits in line", LONG, || async { texts(stack, &of).pop() }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn many_first_loads_of_one_tenant_run_a_few_at_a_time_in_order_and_delay_no_other_tenant() {
    let (stack, slow, quick) = (Stack::on_sqlite().await, crm(120).await, crm(120).await);
    let _worker = stack.worker_with(&[("GTM_TENANT_SYNCS", &SHARE.to_string())]);
    tenant(&stack, "busy", &slow, 6).await;
    tenant(&stack, "calm", &quick, 1).await;
    slow.state().add_fault(Fault::always("contacts", Effect::Delay { milliseconds: 1_500 }));
    for number in 0..SHARE {
        start(&stack, "busy", number).await;
        works(&stack, "busy", number).await;
    }
    for number in SHARE..6 {
        start(&stack, "busy", number).await;
        waits(&stack, number).await;
    }
    let watched = async {
        loop {
            let at_work = working(&stack, "busy").await;
            assert!(at_work.len() <= SHARE, "{at_work:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = async {
        start(&stack, "calm", 0).await;
        assert_eq!(stack.end(&run_id("calm", 0)).await.completed()["outcome"], "complete");
        let waiting = texts(&stack, "SELECT connector_id FROM waiting WHERE tenant_id = 'busy'");
        assert!(!waiting.is_empty(), "the other tenant's loads are not even all at work");
        for number in 0..6 {
            assert_eq!(stack.end(&run_id("busy", number)).await.completed()["outcome"], "complete");
        }
    };
    tokio::select! {
        _ = watched => {}
        () = ended => {}
    }
    let order = texts(&stack, "SELECT connector_id FROM run WHERE tenant_id = 'busy' ORDER BY started_at");
    assert_eq!(order, (0..6).map(|number| Some(connector(number))).collect::<Vec<_>>());
    for number in 0..6 {
        assert_clean(&stack, &slow, "busy", &connector(number)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_terminated_run_leaves_its_place_to_the_first_in_line_and_a_second_run_of_one_that_waits_is_skipped() {
    let (stack, hanging) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker_with(&[("GTM_TENANT_SYNCS", "1")]);
    tenant(&stack, "busy", &hanging, 2).await;
    hanging.state().add_fault(Fault::new("owners", 1, Effect::Hang));
    start(&stack, "busy", 0).await;
    works(&stack, "busy", 0).await;
    start(&stack, "busy", 1).await;
    waits(&stack, 1).await;
    let second = stack.sync("second", "busy", &connector(1), false).await.completed();
    assert_eq!((&second["outcome"], &second["skippedFor"]), (&json!("skipped"), &json!(run_id("busy", 1))));

    let dead = stack.client.get_workflow_handle::<temporalio_client::UntypedWorkflow>(run_id("busy", 0));
    dead.terminate(temporalio_client::WorkflowTerminateOptions::default()).await.expect("terminated");
    assert_eq!(stack.end(&run_id("busy", 1)).await.completed()["outcome"], "complete");
    let closed = "SELECT error FROM run WHERE connector_id = 'c0' AND outcome = 'terminated'";
    assert_eq!(texts(&stack, closed), [Some("terminated in Temporal".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn every_activity_carries_its_tenant_for_servers_that_share_fairly() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    stack.end("tick").await.completed();
    let run = status(&stack).await.last_run.expect("a run").workflow_id;
    for id in ["tick", &run] {
        let scheduled = stack.events(id).await.into_iter().filter_map(|event| match event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => Some(scheduled),
            _ => None,
        });
        let keys: Vec<_> = scheduled.map(|of| of.priority.unwrap_or_default().fairness_key).collect();
        assert!(!keys.is_empty() && keys.iter().all(|key| key == "acme"), "{id}: {keys:?}");
    }
}
