//! Every sample of `deploy/samples`, applied as its head line says, becomes ready; applied once more it changes nothing.

use tokio::process::Command;

use super::harness::Installation;
use crate::support::{kubeconfig, service};

/// # Panics
/// When kubectl fails, with what it said.
async fn kubectl(arguments: &[&str]) -> String {
    let mut command = Command::new(service("GTM_TEST_KUBECTL"));
    let output = command.args(arguments).env("KUBECONFIG", kubeconfig()).output().await.expect("kubectl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, kubectl"]
async fn every_sample_becomes_ready_and_a_second_apply_leaves_generations_alone() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");
    let namespace = installation.namespace.as_str();
    let apply = ["apply", "--server-side", "-k", samples, "-n", namespace];
    let kinds = ["tenantschedules", "connectors"];
    kubectl(&apply).await;
    for kind in kinds {
        let wait = ["wait", "--for=condition=Ready", kind, "--all", "-n", namespace, "--timeout=60s"];
        let waited = kubectl(&wait).await;
        assert!(waited.lines().count() >= 2, "{waited}");
    }
    let generations =
        ["get", "tenantschedules,connectors", "-n", namespace, "-o", "jsonpath={.items[*].metadata.generation}"];
    let before = kubectl(&generations).await;
    kubectl(&apply).await;
    assert_eq!(kubectl(&generations).await, before);
    operator.stop().await;
}
