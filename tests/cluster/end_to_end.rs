//! From `helm install` and `kubectl apply` to canonical rows and a truthful status, through real pods; then a worker pod
//! killed in mid-sync, edits, archiving, deletion; and the planted secret looked for where no secret may be.

use serde_json::json;
use simulators::{
    checker,
    hubspot::{Edits, Effect, Fault},
};

use super::installation::{
    Installation, OPERATOR_NAMESPACE, PATIENCE, TENANT_NAMESPACE, condition, connector, get, kubectl,
};
use crate::support::{eventually, stack::CANARY};

async fn assert_clean(installation: &Installation) {
    let target = checker::Target {
        database: installation.database_url.clone(),
        tenant: "acme".to_owned(),
        connector: "hubspot".to_owned(),
        streams: Vec::new(),
    };
    let source = checker::Source::InProcess(installation.crm.state());
    let report = checker::check(&source, &target).await.expect("checker runs");
    assert!(report.is_clean(), "{report}");
}

/// Asks for a sync by annotation and waits for the result of that very run.
async fn sync_now(token: &str, before: &str) -> serde_json::Value {
    let annotation = format!("sync.gtmclarity.io/requested-at={token}");
    kubectl(&["annotate", "connector", "hubspot", "-n", TENANT_NAMESPACE, "--overwrite", &annotation]).await;
    connector("hubspot", "has a newer finished sync", |object| {
        let last = &object["status"]["lastSync"];
        !last["endTime"].is_null() && last["workflowId"] != before && last["workflowId"].is_string()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a node with pods"]
async fn yaml_in_rows_and_truth_out_and_a_killed_pod_changes_nothing() {
    let installation = Installation::by_the_chart(3_000).await;
    installation.pods_are_ready("operator").await;
    installation.pods_are_ready("worker").await;

    // A tenant, a good connector and one with a wrong token.
    installation.secret(TENANT_NAMESPACE, "token", json!({"accessToken": format!("pat-{CANARY}")})).await;
    installation.secret(TENANT_NAMESPACE, "wrong", json!({"accessToken": format!("wrong-{CANARY}")})).await;
    installation.tenant(json!({"tenantId": "acme"})).await;
    installation.connector("hubspot", "token").await;
    installation.connector("refused", "wrong").await;
    kubectl(&["wait", "--for=condition=Ready", "tenantschedule/acme", "-n", TENANT_NAMESPACE, "--timeout=120s"]).await;
    kubectl(&["wait", "--for=condition=Ready", "connector/hubspot", "-n", TENANT_NAMESPACE, "--timeout=120s"]).await;
    connector("hubspot", "is connected", |object| condition(object, "Connected") == "True").await;
    connector("refused", "is refused", |object| condition(object, "Connected") == "False").await;
    let described = installation.temporal(&["schedule", "describe", "--schedule-id", "scheduled-sync-acme"]).await;
    assert!(described.contains("scheduledSyncWorkflow"), "{described}");

    // The first sync, its worker pod killed in the middle.
    let slow = Fault::new("contacts", 6, Effect::Delay { milliseconds: 1_500 });
    installation.crm.state().add_fault(slow);
    kubectl(&["annotate", "connector", "hubspot", "-n", TENANT_NAMESPACE, "sync.gtmclarity.io/requested-at=first"])
        .await;
    connector("hubspot", "is syncing", |object| condition(object, "Syncing") == "True").await;
    let pods = installation.pods_are_ready("worker").await;
    kubectl(&["delete", "pod", &pods[0], "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force"]).await;
    let first =
        connector("hubspot", "finished its first sync", |object| !object["status"]["lastSync"]["endTime"].is_null())
            .await;
    assert_eq!(first["status"]["lastSync"]["outcome"], "Complete", "{first:#}");
    assert_clean(&installation).await;
    let first_run = first["status"]["lastSync"]["workflowId"].as_str().expect("id").to_owned();
    assert!(first_run.starts_with("sync-acme-hubspot-2"), "{first_run}");

    // Edits and archiving, seen by the next, incremental one.
    installation.crm.state().edit_random(Edits { seed: 3, create: 10, update: 60, archive: 12, merge: 1 });
    installation.crm.state().advance_clock(std::time::Duration::from_secs(900));
    let second = sync_now("second", &first_run).await;
    assert_eq!(second["status"]["lastSync"]["outcome"], "Complete", "{second:#}");
    assert_clean(&installation).await;

    no_secret_is_told(&installation, &first_run).await;
    deletion_leaves_nothing_running(&installation).await;
}

/// Histories, logs, events, statuses, metrics.
async fn no_secret_is_told(installation: &Installation, run: &str) {
    let history = installation.temporal(&["workflow", "show", "--workflow-id", run, "--output", "json"]).await;
    let logs_of = |component: &str| {
        let selector = format!("app.kubernetes.io/component={component}");
        async move { kubectl(&["logs", "-n", OPERATOR_NAMESPACE, "-l", &selector, "--tail=-1"]).await }
    };
    let (operator, worker) = (logs_of("operator").await, logs_of("worker").await);
    assert!(operator.len() > 100 && worker.len() > 100, "logs were read");
    let objects = kubectl(&["get", "connectors,tenantschedules,events,configmaps", "-A", "-o", "json"]).await;
    let pod = installation.pods_are_ready("worker").await.remove(0);
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/metrics");
    let metrics = kubectl(&["get", "--raw", &path]).await;
    assert!(metrics.contains("gtm_sync_activities"), "{metrics}");
    let told = [
        ("history", history),
        ("operator log", operator),
        ("worker log", worker),
        ("objects", objects),
        ("metrics", metrics),
    ];
    for (place, text) in told {
        assert!(!text.contains(CANARY), "a secret in: {place}");
    }
}

async fn deletion_leaves_nothing_running(installation: &Installation) {
    kubectl(&["delete", "connector", "hubspot", "refused", "-n", TENANT_NAMESPACE, "--timeout=60s"]).await;
    kubectl(&["delete", "tenantschedule", "acme", "-n", TENANT_NAMESPACE, "--timeout=120s"]).await;
    assert_eq!(get("tenantschedule", "acme", TENANT_NAMESPACE).await, None);
    eventually("the schedule is gone", PATIENCE, || async {
        let listed = installation.temporal(&["schedule", "list"]).await;
        (!listed.contains("scheduled-sync-acme")).then_some(())
    })
    .await;
}
