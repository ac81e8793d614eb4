//! Absence is not proof (R51): while Temporal does not say whether the lease's holder runs, a run waits, and fails nothing.

use std::sync::Arc;

use gtm_sync::{key_files::KeyFiles, settings::TemporalSettings, temporal::Temporal};
use simulators::hubspot::{Effect, Fault};
use temporalio_client::{UntypedWorkflow, WorkflowTerminateOptions};
use tokio::sync::watch;

use super::{
    super::{LONG, acme, assert_clean, crm, holds_the_lease, status},
    work,
};
use crate::support::{eventually, proxy::Proxy, stack::Stack};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_run_that_cannot_learn_whether_the_lease_is_free_parks_and_goes_on_once_it_is_told() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(60).await);
    let proxy = Proxy::to(&stack.settings.temporal_address).await;
    let settings = TemporalSettings { temporal_address: proxy.address.to_string(), ..stack.settings.clone() };
    let lookups = Temporal::connect(&settings, "lookups", &KeyFiles::default()).await.expect("connects");
    let (stop, draining) = watch::channel(false);
    let course = async {
        acme(&stack, &crm).await;
        crm.state().add_fault(Fault::new("owners", 1, Effect::Delay { milliseconds: 8_000 }));
        stack.start_sync("gone", "acme", "hubspot", true).await;
        holds_the_lease(&stack, "gone").await;
        let gone = stack.client.get_workflow_handle::<UntypedWorkflow>("gone");
        gone.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
        proxy.cut();
        stack.start_sync("next", "acme", "hubspot", false).await;
        eventually("it waits and says why", LONG, || async {
            let said = "Temporal did not say whether the lease's holder runs";
            stack.history("next").await.0.contains(said).then_some(())
        })
        .await;
        holds_the_lease(&stack, "gone").await;
        proxy.mend();
        assert_eq!(stack.end("next").await.completed()["outcome"], "complete");
        assert_eq!(status(&stack).await.last_run.expect("a run").stats.activity_retries, 0, "no attempt is burnt");
        assert_clean(&stack, &crm, "acme", "hubspot").await;
        stop.send_replace(true);
    };
    tokio::join!(work(&stack, Arc::clone(&stack.store), lookups, draining), course);
}
