//! What a contender meets: an API server whose etcd holds the declared fleet, a fresh Temporal, and a watcher. The fleet is
//! declared once; every contender begins with the same bytes. Measures nothing but what the servers count themselves.

use std::{fs, net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use anyhow::Context as _;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use super::{
    Bench, Size,
    exposition::{self, Counts},
    watched::{Watched, clock},
};
use crate::{
    bench::usage,
    control_plane::{self, ControlPlane},
    process,
    run::Run,
    temporal::Temporal,
    tools,
};

/// Verbs that change something, as the API server's metrics name them.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
/// What operators write; the API server itself writes other kinds. Leases are told apart.
const WRITTEN: [&str; 5] = ["tenantschedules", "connectors", "events", "configmaps", "secrets"];
/// For a list of the whole fleet by a cold API server.
const IN_VIEW: Duration = Duration::from_secs(120);

/// The running surroundings of one contender.
pub(super) struct Stage {
    pub(super) control_plane: ControlPlane,
    pub(super) temporal: Temporal,
    pub(super) watched: Watched,
    client: kube::Client,
    temporal_cli: PathBuf,
}

/// What both servers have counted up to a moment, and what they cost.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// By verb, resource, subresource and whether it was carried out (`2`) or refused.
    pub(super) writes: Counts,
    /// By operation.
    pub(super) requests: Counts,
    /// CPU-seconds of API server and etcd, and of Temporal.
    pub(super) server_cpu: [f64; 2],
}

impl Tally {
    /// What came on top since.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            writes: self.writes.since(&before.writes),
            requests: self.requests.since(&before.requests),
            server_cpu: std::array::from_fn(|it| self.server_cpu[it] - before.server_cpu[it]),
        }
    }

    /// Writes that were carried out to one resource, in all its parts.
    pub(super) fn written(&self, resource: &str) -> f64 {
        self.writes.sum(|of| of[1] == resource && of[3] == "done")
    }

    /// All writes that were carried out, but for the Lease.
    pub(super) fn all_written(&self) -> f64 {
        self.writes.sum(|of| WRITTEN.contains(&of[1]) && of[3] == "done")
    }

    /// Writes that were refused, for another came between.
    pub(super) fn refused(&self) -> f64 {
        self.writes.sum(|of| WRITTEN.contains(&of[1]) && of[3] != "done")
    }

    /// Requests of these operations.
    pub(super) fn requested(&self, operations: &[&str]) -> f64 {
        self.requests.sum(|of| operations.contains(&of[0]))
    }
}

impl Stage {
    /// Restores the fleet and starts everything around it.
    pub(super) async fn set(bench: &Bench<'_>) -> anyhow::Result<Self> {
        let data = control_plane::etcd_data(bench.run);
        let _absent = fs::remove_dir_all(&data);
        copy(&snapshot(bench.run), &data).await?;
        let mut stage = Self::around(bench).await?;
        stage.watched.objects(bench.size.objects(), IN_VIEW).await?;
        Ok(stage)
    }

    async fn around(bench: &Bench<'_>) -> anyhow::Result<Self> {
        let host = Ipv4Addr::LOCALHOST.into();
        let (control_plane, temporal) = tokio::try_join!(
            ControlPlane::start(bench.run, bench.tools, host),
            Temporal::start(bench.run, bench.tools, host, false)
        )?;
        let client = control_plane::client(&control_plane.kubeconfig).await?;
        let watched = Watched::start(bench.driver("watch", &control_plane), bench.run)?;
        let temporal_cli = bench.tools.path(&tools::TEMPORAL).to_owned();
        Ok(Self { control_plane, temporal, watched, client, temporal_cli })
    }

    /// What the servers have counted up to now.
    pub(super) async fn tally(&self) -> anyhow::Result<Tally> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = self.client.request_text(request).await.context("the API server's metrics")?;
        let counted = Counts::read(&text, "apiserver_request_total", &["verb", "resource", "subresource", "code"]);
        let text = exposition::fetch(self.temporal.metrics).await.context("Temporal's metrics")?;
        let requests = Counts::read(&text, "service_requests", &["operation", "service_name", "namespace"]);
        Ok(Tally {
            writes: counted.map(|of| WRITES.contains(&of[0]).then(|| [of[0], of[1], of[2], outcome(of[3])])),
            requests: requests.map(|of| (of[1] == "frontend" && of[2] == "default").then_some([of[0]])),
            server_cpu: [
                self.control_plane.ids().map(|it| usage::of_process(it).as_secs_f64()).sum(),
                usage::of_process(self.temporal.id()).as_secs_f64(),
            ],
        })
    }

    /// Edits an object as a person would; returns when, and its new generation.
    pub(super) async fn edit(&self, is_tenant: bool, name: &str, spec: Value) -> anyhow::Result<(f64, i64)> {
        let kind = if is_tenant { "TenantSchedule" } else { "Connector" };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("sync.gtmclarity.io", "v1alpha1", kind));
        let (namespace, name) = name.split_once('/').context("a name without a namespace")?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let patch = Patch::Merge(serde_json::json!({ "spec": spec }));
        let at = clock();
        let edited = api.patch(name, &PatchParams::default(), &patch).await.context("the edit was refused")?;
        Ok((at, edited.metadata.generation.unwrap_or_default()))
    }

    /// Temporal's command line, with JSON as its answer.
    pub(super) async fn temporal(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.temporal_cli);
        command.args(arguments).args(["--address", &self.temporal.address, "--output", "json"]);
        serde_json::from_str(&process::capture(command).await?).context("Temporal's answer is no JSON")
    }
}

fn outcome(code: &str) -> &'static str {
    if code.starts_with('2') { "done" } else { "refused" }
}

/// Declares the fleet and keeps what etcd holds then.
pub(super) async fn declare(bench: &Bench<'_>) -> anyhow::Result<()> {
    let host = Ipv4Addr::LOCALHOST.into();
    let control_plane = ControlPlane::start(bench.run, bench.tools, host).await?;
    let kubectl = |arguments: &[&str]| {
        let mut command = process::command(bench.tools.path(&tools::KUBECTL));
        command.current_dir(&bench.machine.repository).env("KUBECONFIG", &control_plane.kubeconfig).args(arguments);
        command
    };
    process::capture(kubectl(&["apply", "--server-side", "--kustomize", "crds"])).await?;
    process::capture(kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])).await?;
    for namespace in ["gtm-sync", "operator-peer"] {
        process::capture(kubectl(&["create", "namespace", namespace])).await?;
    }
    process::capture(bench.driver("declare", &control_plane)).await.context("could not declare the fleet")?;
    drop(control_plane);
    copy(&control_plane::etcd_data(bench.run), &snapshot(bench.run)).await
}

fn snapshot(run: &Run) -> PathBuf {
    run.scratch.join("fleet")
}

async fn copy(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    let mut command = process::command("cp");
    command.arg("-a").arg(from).arg(to);
    process::capture(command).await.map(drop)
}

impl Size {
    /// All objects of the fleet.
    pub(super) fn objects(&self) -> usize {
        self.tenants + self.connectors
    }

    /// `namespace/name` of a TenantSchedule, as the driver names it.
    pub(super) fn tenant(number: usize) -> String {
        format!("tenant-{number:04}/tenant-{number:04}")
    }

    /// `namespace/name` of a Connector, as the driver names it.
    pub(super) fn connector(&self, number: usize) -> String {
        format!("tenant-{:04}/crm-{number:05}", number % self.tenants)
    }
}
