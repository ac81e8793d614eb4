//! An installation as users make one: namespaces, a database Secret, `helm install`, `kubectl apply`.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use serde_json::{Value, json};
use simulators::hubspot::{Limits, Options, Simulator};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::{
    eventually, fresh, postgres_url, service,
    stack::{CANARY, temporal_namespace},
};

pub const OPERATOR_NAMESPACE: &str = "gtm-sync";
pub const TENANT_NAMESPACE: &str = "tenant-acme";
/// Pods are pulled up, probed and rolled in seconds; a loaded machine gets minutes.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub struct Installation {
    /// Reached from here, for the checker.
    pub database_url: String,
    pub temporal_namespace: String,
    pub temporal_address: String,
    pub crm: Simulator,
}

/// Runs a program and gives its standard output.
///
/// # Panics
/// When it fails, with what it said.
pub async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> String {
    match attempt(program, arguments, input).await {
        Ok(output) => output,
        Err(error) => panic!("{program} {}: {error}", arguments.join(" ")),
    }
}

async fn attempt(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", service("GTM_TEST_CLUSTER_KUBECONFIG"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.unwrap_or_default().as_bytes()).await.expect("input is read");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

pub async fn kubectl(arguments: &[&str]) -> String {
    run(&service("GTM_TEST_KUBECTL"), arguments, None).await
}

pub async fn apply(object: &Value) {
    run(&service("GTM_TEST_KUBECTL"), &["apply", "--server-side", "-f", "-"], Some(&object.to_string())).await;
}

/// `kubectl get -o json`, `None` when there is none.
pub async fn get(kind: &str, name: &str, namespace: &str) -> Option<Value> {
    let arguments = ["get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found"];
    let text = attempt(&service("GTM_TEST_KUBECTL"), &arguments, None).await.ok()?;
    serde_json::from_str(&text).ok()
}

/// The status of a condition, empty while it is not there.
pub fn condition<'a>(object: &'a Value, name: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == name);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

/// Waits until the Connector looks as `wanted` says.
pub async fn connector(name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(object) = get("connector", name, TENANT_NAMESPACE).await {
            if wanted(&object) {
                return object;
            }
            last = object["status"].clone();
        }
        if tokio::time::Instant::now() > end {
            let pods = kubectl(&["get", "pods", "-A", "-o", "wide"]).await;
            let logs = kubectl(&[
                "logs",
                "-n",
                OPERATOR_NAMESPACE,
                "--tail=30",
                "-l",
                "app.kubernetes.io/name=gtm-sync",
                "--prefix",
            ])
            .await;
            panic!("not within {PATIENCE:?}: connector {name} {what}; status: {last:#}\n{pods}\n{logs}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn create_database() -> String {
    let (base, name) = (postgres_url(), fresh("e2e").replace('-', "_"));
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.expect("postgres");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.expect("created");
    drop(client);
    connection.await.expect("task").expect("closed");
    let mut url: url::Url = base.parse().expect("URL");
    url.set_path(&name);
    url.into()
}

impl Installation {
    /// Everything but the tenant's resources, with the operator's namespace under the `restricted` standard.
    pub async fn by_the_chart(records: u32) -> Self {
        let host = service("GTM_TEST_NODE_HOST");
        let listen: SocketAddr = format!("{host}:0").parse().expect("an address");
        let token = format!("pat-{CANARY}");
        let options = Options { listen, records, token, limits: Limits::unlimited(), ..Options::default() };
        let crm = Simulator::start(options).await.expect("simulator");
        let temporal_address = service("GTM_TEST_TEMPORAL_ADDRESS");
        let (_, settings) = temporal_namespace(&temporal_address).await;
        let installation = Self {
            database_url: create_database().await,
            temporal_namespace: settings.temporal_namespace,
            temporal_address,
            crm,
        };
        installation.namespaces().await;
        installation.helm_install(&host).await;
        installation
    }

    async fn namespaces(&self) {
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        for (name, labels) in [(OPERATOR_NAMESPACE, restricted), (TENANT_NAMESPACE, json!({}))] {
            let metadata = json!({"name": name, "labels": labels});
            apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await;
        }
        self.secret(OPERATOR_NAMESPACE, "gtm-sync-database", json!({"url": self.database_url})).await;
    }

    async fn helm_install(&self, host: &str) {
        let image = service("GTM_TEST_IMAGE");
        let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/gtm-sync");
        let values = [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".to_owned(),
            "database.secretName=gtm-sync-database".to_owned(),
            format!("temporal.address={}", self.temporal_address),
            format!("temporal.namespace={}", self.temporal_namespace),
            format!("workers.allowedPrivateHosts={{{host}}}"),
            "operator.resyncSeconds=10".to_owned(),
        ];
        let mut arguments = vec!["install", "gtm-sync", chart, "-n", OPERATOR_NAMESPACE];
        for value in &values {
            arguments.extend(["--set", value]);
        }
        run(&service("GTM_TEST_HELM"), &arguments, None).await;
    }

    pub async fn secret(&self, namespace: &str, name: &str, fields: Value) {
        let metadata = json!({"name": name, "namespace": namespace});
        apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": fields})).await;
    }

    pub async fn tenant(&self, spec: Value) {
        let metadata = json!({"name": "acme", "namespace": TENANT_NAMESPACE});
        let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": "TenantSchedule", "metadata": metadata, "spec": spec});
        apply(&object).await;
    }

    pub async fn connector(&self, name: &str, secret: &str) {
        let metadata = json!({"name": name, "namespace": TENANT_NAMESPACE});
        let spec = json!({
            "tenantId": "acme",
            "source": {"type": "HubSpot", "hubspot": {"baseUrl": self.crm.base_url()}},
            "credentials": {"secretRef": {"name": secret}},
            "sync": {"batchSize": 500},
        });
        let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": "Connector", "metadata": metadata, "spec": spec});
        apply(&object).await;
    }

    /// Runs the Temporal CLI on this installation's namespace.
    pub async fn temporal(&self, arguments: &[&str]) -> String {
        let common = ["--address", &self.temporal_address, "--namespace", &self.temporal_namespace];
        run(&service("GTM_TEST_TEMPORAL_CLI"), &[arguments, &common].concat(), None).await
    }

    /// Pods of a component that are ready.
    pub async fn ready_pods(&self, component: &str) -> Vec<String> {
        let selector = format!("app.kubernetes.io/component={component}");
        let text = kubectl(&["get", "pods", "-n", OPERATOR_NAMESPACE, "-l", &selector, "-o", "json"]).await;
        let pods: Value = serde_json::from_str(&text).expect("JSON");
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        let ready = items
            .iter()
            .filter(|pod| condition(pod, "Ready") == "True" && pod["metadata"]["deletionTimestamp"].is_null());
        ready.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    pub async fn pods_are_ready(&self, component: &str) -> Vec<String> {
        eventually(&format!("a ready {component} pod"), PATIENCE, || async {
            let pods = self.ready_pods(component).await;
            (!pods.is_empty()).then_some(pods)
        })
        .await
    }
}
