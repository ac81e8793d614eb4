//! Definitions of another release than the operator's: one that knows more than this build, and one that knows less.

use gtm_sync::crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    harness::{Installation, SOON, is},
    restarts::connected,
};
use crate::{
    crds,
    support::{api_server::ApiServer, eventually},
};

/// This build's definitions, each with another schema of this part of an object.
fn definitions(part: &str, edit: impl Fn(&mut JSONSchemaProps)) -> Vec<CustomResourceDefinition> {
    let mut definitions: Vec<_> = crd::definitions().into_iter().collect();
    for definition in &mut definitions {
        let schema = definition.spec.versions[0].schema.as_mut().and_then(|of| of.open_api_v3_schema.as_mut());
        let parts = schema.and_then(|schema| schema.properties.as_mut()).expect("a schema");
        edit(parts.get_mut(part).expect("its part"));
    }
    definitions
}

/// A tenant and a Connector of it, with this beside their spec.
async fn apply(installation: &Installation, beside: serde_json::Value) {
    let with = |mut spec: serde_json::Value| {
        spec.as_object_mut().expect("an object").extend(beside.as_object().expect("an object").clone());
        spec
    };
    installation.apply_secret("crm", json!({"accessToken": "pat-x"})).await;
    installation.apply_tenant("acme", with(json!({"tenantId": "acme", "schedules": ["0 0 1 1 *"]}))).await;
    installation.apply_connector("hubspot", with(json!({"sync": {"schedules": ["0 0 1 1 *"]}}))).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_ready("hubspot", "True", "Configured").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, etcd"]
async fn under_definitions_of_a_later_release_objects_work_keep_what_this_build_does_not_know_and_go() {
    let server = ApiServer::start().await;
    let mut installation = Installation::new().await;
    let later = definitions("spec", |spec| {
        let novelty = JSONSchemaProps { type_: Some("string".to_owned()), ..Default::default() };
        spec.properties.as_mut().expect("fields").insert("novelty".to_owned(), novelty);
    });
    installation.rebuild_with(server.config(), later).await;
    let operator = installation.operator().await;
    apply(&installation, json!({"novelty": "kept"})).await;
    for (kind, name) in [("TenantSchedule", "acme"), ("Connector", "hubspot")] {
        let object = crds::api(&installation.client, &installation.namespace, kind).get(name).await.expect("there");
        assert_eq!(object.data["spec"]["novelty"], "kept", "{kind}");
    }
    installation.delete_connector("hubspot").await;
    installation.delete_tenant("acme").await;
    eventually("both and their schedules are gone", SOON, || async {
        let tenant = installation.tenants().get_opt("acme").await.ok()?;
        let connector = installation.connectors().get_opt("hubspot").await.ok()?;
        let schedules =
            (installation.describe("scheduled-sync-acme").await, installation.describe("sync-acme-hubspot").await);
        (tenant.is_none() && connector.is_none() && schedules == (None, None)).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, etcd"]
async fn under_definitions_of_an_earlier_release_statuses_lack_what_it_does_not_know_and_are_not_written_for_ever() {
    let server = ApiServer::start().await;
    let mut installation = Installation::new().await;
    let earlier = definitions("status", |status| {
        let fields = status.properties.as_mut().expect("fields");
        for later in ["counts", "nextRunTime", "connectors", "position"] {
            fields.remove(later);
        }
    });
    installation.rebuild_with(server.config(), earlier).await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    apply(&installation, json!({})).await;
    connected(&installation, "hubspot").await;
    installation.connector_condition("hubspot", "Connected", "True", "Authenticated").await;
    installation.connector_condition("hubspot", "Healthy", "Unknown", "NoSyncYet").await;
    eventually("the tenant is observed, too", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        is(&status.conditions, "Healthy", "Unknown", "NoSyncYet").then_some(())
    })
    .await;
    let versions = || async {
        let tenant = installation.tenants().get("acme").await.expect("there").resource_version();
        (tenant, installation.connectors().get("hubspot").await.expect("there").resource_version())
    };
    let looked_again = || async {
        for kind in ["TenantSchedule", "Connector"] {
            installation.looked_again(kind, 2).await;
        }
    };
    looked_again().await;
    let before = versions().await;
    looked_again().await;
    assert_eq!(versions().await, before);

    crds::install_definitions(&installation.client).await;
    eventually("once the definitions follow, all is told", SOON, || async {
        let tenant = installation.tenants().get("acme").await.ok()?.status?;
        (tenant.counts.is_some() && tenant.connectors?.connected == 1).then_some(())
    })
    .await;
    let (ready, report) = installation.readiness().await.expect("it serves");
    assert!(ready, "{report}");
    operator.stop().await;
}
