//! The operator's whole life under exactly the rights that the chart gives its service account: it is given all that it
//! needs, and of Secrets it reads those that a Connector of the same namespace names.

use std::collections::BTreeSet;

use gtm_sync::crd::GROUP;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::Patch};
use serde_json::json;

use super::{
    gate::{self, Gate},
    harness::{Installation, SOON},
};
use crate::{
    chart, crds,
    support::{api_server::ApiServer, eventually, fresh},
};

/// Lives under the chart's rights: all that an operator does with objects. Gives what it asked of the API server.
async fn life(installation: &Installation, own: &str, watched: &[&str], cluster: kube::Config) -> Vec<String> {
    let release = fresh("gtm-sync");
    let scopes = format!("watchNamespaces={{{}}}", watched.join(","));
    chart::grant(&installation.client, &release, own, (!watched.is_empty()).then_some(&scopes)).await;
    let account = format!("system:serviceaccount:{own}:{release}-operator");
    let gate = Gate::to(gate::impersonating(cluster, &account)).await;

    installation.apply_secret("crm", json!({"accessToken": "x"})).await;
    installation.apply_secret("nobodys", json!({"accessToken": "x"})).await;
    let operator = installation
        .operator_in(gate.config(), |settings| {
            settings.namespace = own.to_owned();
            settings.watch_namespaces = watched.iter().map(|&namespace| namespace.to_owned()).collect();
            settings.no_leader_election = false;
            settings.resync_seconds = 1;
        })
        .await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    installation.apply_connector("hubspot", json!({"requests": {"sync": {"token": "now"}}})).await;
    installation.event("hubspot", "RunTriggered").await;
    installation.apply_tenant("acme", json!({"tenantId": "acme", "workers": {"mode": "Dedicated"}})).await;
    let recipients: Api<ConfigMap> = Api::namespaced(installation.client.clone(), own);
    eventually("an identity of its own", SOON, || async {
        recipients.get("gtm-sync-recipient").await.ok()?.data?.contains_key("recipient.acme").then_some(())
    })
    .await;
    // Deletion takes the finalizer off.
    installation.delete_connector("hubspot").await;
    installation.delete_tenant("acme").await;
    eventually("the tenant is gone", SOON, || async {
        installation.tenants().get_opt("acme").await.ok()?.is_none().then_some(())
    })
    .await;
    operator.stop().await;
    gate.passed()
}

/// No request was refused for want of rights, and Secrets were read by name, of these places only.
fn judge(passed: &[String], own: &str, tenants: &str) {
    let refused: Vec<_> =
        passed.iter().filter(|request| request.starts_with("403") || request.starts_with("401")).collect();
    assert_eq!(refused, [""; 0], "refused");
    let secrets: BTreeSet<_> = passed
        .iter()
        .filter_map(|request| request.split_once(' ').map(|(_, request)| request))
        .filter(|request| request.contains("/secrets"))
        .map(|request| request.trim_end_matches('?').to_owned())
        .collect();
    let expected =
        [format!("GET /api/v1/namespaces/{tenants}/secrets/crm"), format!("POST /api/v1/namespaces/{own}/secrets")];
    assert_eq!(secrets, BTreeSet::from(expected), "the identity is made, the named Secret read");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, helm"]
async fn with_the_rights_of_the_chart_in_one_namespace_the_operator_lives_there_and_nowhere_else() {
    let installation = Installation::new().await;
    let own = crds::namespace(&installation.client, "own").await;
    let passed = life(&installation, &own, &[installation.namespace.as_str()], gate::direct().await).await;
    judge(&passed, &own, &installation.namespace);
    let places = [format!("/namespaces/{own}/"), format!("/namespaces/{}/", installation.namespace)];
    let elsewhere: Vec<_> =
        passed.iter().filter(|request| !places.iter().any(|place| request.contains(place))).collect();
    assert_eq!(elsewhere, [""; 0], "no cluster-wide request at all");
    for group in [GROUP, "coordination.k8s.io", "events.k8s.io"] {
        assert!(passed.iter().any(|request| request.contains(group)), "{group} was used: {passed:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, helm, etcd"]
async fn with_the_rights_of_the_chart_in_all_namespaces_the_operator_reads_no_secret_that_no_connector_names() {
    let mut installation = Installation::new().await;
    // A server of its own: this operator takes every object that it sees for its own.
    let server = ApiServer::start().await;
    installation.rebuild_on(server.config()).await;
    let own = crds::namespace(&installation.client, "own").await;
    // One that nobody may use from elsewhere.
    let other = crds::namespace(&installation.client, "other").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm"}, "stringData": {"accessToken": "theirs"}});
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(installation.client.clone(), &other);
    secrets.patch("crm", &super::harness::user(), &Patch::Apply(secret)).await.expect("the API server takes it");
    let passed = life(&installation, &own, &[], server.config()).await;
    judge(&passed, &own, &installation.namespace);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, helm"]
async fn a_watched_namespace_that_may_not_be_read_holds_up_no_other_and_is_served_once_it_may() {
    let mut installation = Installation::new().await;
    let own = crds::namespace(&installation.client, "own").await;
    let closed = crds::namespace(&installation.client, "closed").await;
    let release = fresh("gtm-sync");
    let open = format!("watchNamespaces={{{}}}", installation.namespace);
    chart::grant(&installation.client, &release, &own, Some(&open)).await;
    let account = format!("system:serviceaccount:{own}:{release}-operator");
    let operator = installation
        .operator_in(gate::impersonating(gate::direct().await, &account), |settings| {
            settings.namespace.clone_from(&own);
            settings.watch_namespaces = vec![closed.clone(), installation.namespace.clone()];
        })
        .await;
    installation.apply_secret("crm", json!({"accessToken": "x"})).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    installation.connector_ready("hubspot", "True", "Configured").await;

    installation.namespace.clone_from(&closed);
    installation.apply_tenant("globex", json!({"tenantId": "globex"})).await;
    let opened = format!("watchNamespaces={{{closed}}}");
    chart::grant(&installation.client, &release, &own, Some(&opened)).await;
    installation.tenant_ready("globex", "True", "Scheduled").await;
    operator.stop().await;
}
