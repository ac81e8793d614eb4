//! Every sample of `deploy/samples` under the tools that people apply them with: it becomes ready, a second apply changes
//! nothing, and neither side fights for what the other wrote.

use std::{collections::BTreeMap, fs, path::Path};

use kube::ResourceExt as _;
use tokio::process::Command;

use super::harness::{Installation, SOON};
use crate::support::{eventually, kubeconfig, service};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");

/// # Panics
/// When kubectl fails, with what it said.
pub(super) async fn kubectl(arguments: &[&str]) -> String {
    run("GTM_TEST_KUBECTL", arguments).await
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(service(program));
    let output = command.args(arguments).env("KUBECONFIG", kubeconfig()).output().await.expect("it runs");
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", told(&output.stdout), told(&output.stderr));
    told(&output.stdout)
}

/// The resourceVersion of every object of ours.
async fn versions(installation: &Installation) -> BTreeMap<String, Option<String>> {
    let (tenants, connectors) = (installation.tenants(), installation.connectors());
    let tenants = tenants.list(&Default::default()).await.expect("listed").items;
    let connectors = connectors.list(&Default::default()).await.expect("listed").items;
    let tenants = tenants.iter().map(|object| (format!("tenant {}", object.name_any()), object.resource_version()));
    let of =
        |object: &gtm_sync::crd::Connector| (format!("connector {}", object.name_any()), object.resource_version());
    tenants.chain(connectors.iter().map(of)).collect()
}

/// Does something that must write nothing to our objects. A tick may have moved a status just then; so once more, but
/// whoever writes each time never passes.
async fn writes_nothing(installation: &Installation, what: &str, mut again: impl AsyncFnMut()) {
    let mut tries = 0;
    loop {
        let before = versions(installation).await;
        assert!(before.len() >= 5, "{before:?}");
        again().await;
        let after = versions(installation).await;
        if before == after {
            return;
        }
        tries += 1;
        assert!(tries < 4, "{what}: {before:?} became {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, kubectl"]
async fn every_sample_becomes_ready_and_a_second_apply_writes_nothing_beside_a_status() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let namespace = installation.namespace.as_str();
    let apply = ["apply", "--server-side", "-k", SAMPLES, "-n", namespace];
    kubectl(&apply).await;
    for kind in ["tenantschedules", "connectors"] {
        let wait = ["wait", "--for=condition=Ready", kind, "--all", "-n", namespace, "--timeout=60s"];
        let waited = kubectl(&wait).await;
        assert!(waited.lines().count() >= 2, "{waited}");
    }
    observed(&installation).await;
    writes_nothing(&installation, "kubectl apply --server-side", async || {
        kubectl(&apply).await;
        installation.looked_again("Connector", 3).await;
        installation.looked_again("TenantSchedule", 4).await;
    })
    .await;
    operator.stop().await;
}

/// Waits until the status loop, too, has said what it has to say.
async fn observed(installation: &Installation) {
    for connector in ["hubspot", "hubspot-eu"] {
        installation.connector_condition(connector, "Healthy", "Unknown", "NoSyncYet").await;
    }
    eventually("the tenants count their connectors", SOON, || async {
        let tenants = installation.tenants().list(&Default::default()).await.ok()?.items;
        let counted = |tenant: &gtm_sync::crd::TenantSchedule| Some(tenant.status.as_ref()?.connectors.as_ref()?.total);
        (tenants.iter().filter_map(counted).sum::<i32>() == 2).then_some(())
    })
    .await;
}

/// A chart of these objects, as a platform team would have it.
fn chart_of_samples(directory: &Path) {
    let templates = directory.join("templates");
    fs::create_dir(&templates).expect("a folder");
    fs::write(directory.join("Chart.yaml"), "apiVersion: v2\nname: tenants\nversion: 1.0.0\n").expect("written");
    for entry in fs::read_dir(SAMPLES).expect("samples") {
        let path = entry.expect("an entry").path();
        if !path.ends_with("kustomization.yaml") {
            fs::copy(&path, templates.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, helm"]
async fn helm_waits_for_our_status_by_kstatus_and_an_upgrade_without_a_change_writes_nothing() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    chart_of_samples(directory.path());
    let (chart, namespace) = (directory.path().to_str().expect("UTF-8"), installation.namespace.as_str());
    let common = ["tenants", chart, "--namespace", namespace, "--wait", "--timeout", "90s"];
    run("GTM_TEST_HELM", &[["install"].as_slice(), common.as_slice()].concat()).await;
    for tenant in installation.tenants().list(&Default::default()).await.expect("listed") {
        let ready = tenant.status.as_ref().is_some_and(|status| {
            status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        assert!(ready, "helm did not wait for {tenant:?}");
    }
    observed(&installation).await;
    for _ in 0..2 {
        writes_nothing(&installation, "helm upgrade", async || {
            run("GTM_TEST_HELM", &[["upgrade"].as_slice(), common.as_slice()].concat()).await;
        })
        .await;
    }
    operator.stop().await;
}
