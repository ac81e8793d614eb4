//! Stands for scheduler, kubelet and Deployment controller: a worker process of the real binary for each pod that a Deployment
//! of the namespace wants, and their number in its status. An image named `broken` never starts; one named `unready` works,
//! but is never called ready.

use std::{collections::HashMap, path::PathBuf, process::Stdio, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PodSpec, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

use super::harness::{Installation, SOON, free_port};
use crate::support::eventually;

/// Works until it is dropped; its pods then die with it.
pub(super) struct Kubelet(JoinHandle<()>);

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Pod {
    process: Child,
    port: u16,
}

struct Node {
    deployments: Api<Deployment>,
    secrets: Api<Secret>,
    variables: Vec<(&'static str, String)>,
    directory: tempfile::TempDir,
    pods: HashMap<String, Vec<Pod>>,
    leaving: Vec<Child>,
}

impl Kubelet {
    /// For the Deployments of an installation's namespace; pods mount the identity that their template names, else the shared one.
    pub(super) fn start(installation: &Installation) -> Self {
        let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
        let settings = &installation.settings;
        let directory = tempfile::tempdir().expect("temporary directory");
        let variables = vec![
            ("GTM_DATABASE_URL", settings.store.database_url.clone().expect("a URL")),
            ("TEMPORAL_ADDRESS", settings.temporal.temporal_address.clone()),
            ("TEMPORAL_NAMESPACE", settings.temporal.temporal_namespace.clone()),
            ("GTM_ALLOWED_PRIVATE_HOSTS", "127.0.0.1".to_owned()),
        ];
        let deployments = Api::namespaced(installation.client.clone(), &installation.namespace);
        let mut node = Node { deployments, secrets, variables, directory, pods: HashMap::new(), leaving: Vec::new() };
        Self(tokio::spawn(async move {
            loop {
                node.round().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }))
    }
}

impl Node {
    async fn round(&mut self) {
        let Ok(listed) = self.deployments.list(&Default::default()).await else { return };
        let names: Vec<_> = listed.items.iter().map(|found| found.name_any()).collect();
        for (_, pods) in self.pods.extract_if(|name, _| !names.contains(name)) {
            self.leaving.extend(pods.into_iter().map(terminate));
        }
        for deployment in &listed.items {
            let ready = self.follow(deployment).await;
            let spec = deployment.spec.as_ref().expect("a spec");
            let wanted = json!({"replicas": spec.replicas, "readyReplicas": ready});
            let status = deployment.status.clone().unwrap_or_default();
            if (status.replicas, status.ready_replicas.unwrap_or_default()) != (spec.replicas, ready) {
                let patch = Patch::Merge(json!({"status": wanted}));
                // Gone meanwhile: the next round sees it.
                drop(self.deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await);
            }
        }
        self.leaving.retain_mut(|process| process.try_wait().expect("waits").is_none());
    }

    /// The identity file that a pod mounts.
    async fn identity(&self, pod: &PodSpec) -> PathBuf {
        let volume = pod.volumes.iter().flatten().find(|volume| volume.name == "identity");
        let name = volume.and_then(|volume| volume.secret.as_ref()?.secret_name.clone());
        let name = name.unwrap_or_else(|| "gtm-sync-identity".to_owned());
        let file = self.directory.path().join(&name);
        if !file.exists() {
            let secret =
                eventually("an identity's Secret", SOON, || async { self.secrets.get_opt(&name).await.ok().flatten() })
                    .await;
            std::fs::write(&file, &secret.data.expect("data")["identity"].0).expect("identity file");
        }
        file
    }

    /// Starts and ends pods; how many are ready.
    async fn follow(&mut self, deployment: &Deployment) -> i32 {
        let spec = deployment.spec.as_ref().expect("a spec");
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).expect("not negative");
        let pod = spec.template.spec.as_ref().expect("a pod");
        let (identity, container) = (self.identity(pod).await, &pod.containers[0]);
        let image = container.image.clone().unwrap_or_default();
        let has_variables = container.env.iter().flatten().any(|variable| variable.name == "GTM_BUILD_ID");
        let pods = self.pods.entry(deployment.name_any()).or_default();
        pods.retain_mut(|pod| pod.process.try_wait().expect("waits").is_none());
        while pods.len() > wanted {
            self.leaving.extend(pods.pop().map(terminate));
        }
        while pods.len() < wanted && image != "broken" && has_variables {
            let port = free_port();
            let log = std::fs::File::create(self.directory.path().join(format!("{port}.log"))).expect("log file");
            let variables = container.env.iter().flatten().filter_map(|it| Some((&it.name, it.value.as_ref()?)));
            let process = Command::new(env!("CARGO_BIN_EXE_gtm-sync"))
                .arg("worker")
                .envs(variables)
                .envs(self.variables.iter().map(|(name, value)| (name, value)))
                .env("GTM_IDENTITY_FILE", &identity)
                .env("GTM_HEALTH_ADDRESS", format!("127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .expect("the worker starts");
            pods.push(Pod { process, port });
        }
        let mut ready = 0;
        for pod in pods.iter().filter(|_| image != "unready") {
            let answer = reqwest::get(format!("http://127.0.0.1:{}/readyz", pod.port)).await;
            ready += i32::from(answer.is_ok_and(|answer| answer.status().is_success()));
        }
        ready
    }
}

/// As a pod that is deleted: SIGTERM, then it has its time.
fn terminate(pod: Pod) -> Child {
    let id = pod.process.id().map(|id| id.to_string()).unwrap_or_default();
    // It may have ended by itself.
    drop(std::process::Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status());
    pod.process
}
