//! The ends of objects that come from outside, and the next lives of their names.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::harness::{Installation, SOON};
use crate::support::eventually;

const SCHEDULE: &str = "scheduled-sync-acme";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_namespace_that_is_being_deleted_takes_its_schedules_along_and_nothing_waits() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_secret("crm", json!({"accessToken": "x"})).await;
    installation.apply_connector("hubspot", json!({"sync": {"schedules": ["0 * * * *"]}})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let namespaces: Api<Namespace> = Api::all(installation.client.clone());
    namespaces.delete(&installation.namespace, &Default::default()).await.expect("the API server takes it");
    // No Event, nothing at all can be made in it from now on.
    eventually("Terminating", SOON, || async {
        let phase = namespaces.get(&installation.namespace).await.ok()?.status?.phase?;
        (phase == "Terminating").then_some(())
    })
    .await;
    // What the controller manager does, which does not run here; the Secret goes first.
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(installation.client.clone(), &installation.namespace);
    secrets.delete_collection(&Default::default(), &Default::default()).await.expect("deleted");
    installation.tenants().delete_collection(&Default::default(), &Default::default()).await.expect("deleted");
    installation.connectors().delete_collection(&Default::default(), &Default::default()).await.expect("deleted");
    eventually("no object waits", SOON, || async {
        let tenants = installation.tenants().list(&Default::default()).await.ok()?.items.len();
        let connectors = installation.connectors().list(&Default::default()).await.ok()?.items.len();
        (tenants + connectors == 0).then_some(())
    })
    .await;
    eventually("no schedule is left", SOON, || async {
        let left = [installation.describe(SCHEDULE).await, installation.describe("sync-acme-hubspot").await];
        left.iter().all(Option::is_none).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn the_next_life_of_a_name_gets_a_schedule_of_its_own_and_no_token_of_the_former() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let spec = |token: &str| json!({"tenantId": "acme", "requests": {"trigger": {"token": token}}});
    let mut lives = Vec::new();
    for token in ["first", "second", "second"] {
        installation.apply_tenant("acme", spec(token)).await;
        let object = installation.tenant_ready("acme", "True", "Scheduled").await;
        let described = installation.describe(SCHEDULE).await.expect("a schedule");
        let created = described.info.and_then(|info| info.create_time).expect("a time");
        lives.push((object.uid(), (created.seconds, created.nanos)));
        installation.delete_tenant("acme").await;
        eventually("it is gone", SOON, || async {
            installation.tenants().get_opt("acme").await.ok()?.is_none().then_some(())
        })
        .await;
        assert!(installation.describe(SCHEDULE).await.is_none(), "and so is its schedule");
    }
    assert!(lives[0].0 != lives[1].0 && lives[0].1 < lives[1].1 && lives[1].1 < lives[2].1, "{lives:?}");
    assert_eq!(installation.workflows("scheduledSyncWorkflow").await, [""; 0], "tokens at first sight start nothing");
    operator.stop().await;
}
