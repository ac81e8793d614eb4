//! The stage on the user's own cluster (kind, k3d or any other): chart and custom resources go there; PostgreSQL,
//! Temporal and the simulated accounts run on this machine, under an address that the cluster's pods reach.

use std::{
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::{
    Demo, Stage,
    kubernetes::{Kubernetes, RELEASE},
    objects::{TENANTS, namespace},
    pods,
};
use crate::{
    certs::write_private, console, debian, image, postgres::Postgres, process, run::Run, temporal::Temporal, tools,
};

const DEFINITION: &str = "connectors.sync.gtmclarity.io";

/// Sets the stage and plays.
pub(super) async fn play(demo: &Demo<'_>, context: &str) -> anyhow::Result<()> {
    let machine = demo.machine;
    let kind_of_cluster = ClusterKind::of(context);
    let loads_image = demo.options.image.is_none();
    ensure!(
        !loads_image || kind_of_cluster != ClusterKind::Other,
        "context {context} is neither kind's nor k3d's, so the image built here cannot be loaded into it: push it \
         (`cargo xtask image` writes it, the Dockerfile builds it) and name it by --image"
    );
    debian::ensure(machine, demo.yes, &[debian::POSTGRESQL]).await?;
    let (tools, ()) = tokio::try_join!(tools::ensure(machine, tools::SERVICES), pods::build(demo))?;
    let run = Run::start(machine, "demo")?;
    let kubeconfig = own_kubeconfig(tools.path(&tools::KUBECTL), context, &run).await?;
    let kubernetes = Kubernetes::new(&tools, &kubeconfig, &machine.repository);
    let new_definitions = refuse_if_in_use(&kubernetes, context).await?;
    let host = host_address(demo, kind_of_cluster, &kubernetes).await?;

    let step = console::step(format!("starting PostgreSQL and Temporal on {host}"));
    let (postgres, temporal) =
        tokio::try_join!(Postgres::start(machine, &run, host), Temporal::start(&run, &tools, host, true))
            .with_context(|| {
                format!("could not serve on {host}; name another address of this machine by --host-address")
            })?;
    step.done("");
    let reference = match &demo.options.image {
        Some(reference) => reference.clone(),
        None => load_image(demo, &run, kind_of_cluster, context).await?,
    };
    let accounts = demo.accounts(&run, host).await?;
    let stage = Stage {
        kubernetes,
        temporal: temporal.address.clone(),
        web_ui: temporal.web_ui.clone(),
        database_url: postgres.create_database("gtm_sync").await?,
        host,
        remark: "operator and workers run in your cluster, installed by the chart; the rest on this machine",
    };
    let step = console::step("installing the chart");
    let mut values = pods::chart_values(&stage, &reference);
    values += &format!("crds:\n  enabled: {new_definitions}\n  keep: false\n");
    let file = demo.directory.join("values.yaml");
    write_private(&file, &values)?;
    let _removal = Removal { kubernetes: stage.kubernetes.clone() };
    let installed = stage.kubernetes.install(&file, &stage.database_url, true).await;
    pods::with_diagnosis(&stage, installed).await?;
    step.done("");
    let played = demo.play(&run, &tools, &stage, &accounts).await;
    pods::with_diagnosis(&stage, played).await
}

/// How an image gets into a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClusterKind {
    Kind,
    K3d,
    Other,
}

impl ClusterKind {
    /// Both tools name their contexts after themselves.
    fn of(context: &str) -> Self {
        match context.split_once('-') {
            Some(("kind", _)) => Self::Kind,
            Some(("k3d", _)) => Self::K3d,
            _ => Self::Other,
        }
    }
}

/// A kubeconfig of that context alone: nothing here can touch another cluster.
async fn own_kubeconfig(kubectl: &std::path::Path, context: &str, run: &Run) -> anyhow::Result<PathBuf> {
    let mut command = process::command(kubectl);
    command.args(["config", "view", "--minify", "--flatten", "--context", context]);
    let text = process::capture(command).await.with_context(|| format!("there is no context {context}"))?;
    let path = run.scratch.join("own.kubeconfig");
    write_private(&path, &text)?;
    Ok(path)
}

/// The demo removes what it makes, so it must not find any of it. Tells whether the definitions are to be made, too.
async fn refuse_if_in_use(kubernetes: &Kubernetes, context: &str) -> anyhow::Result<bool> {
    let namespaces = kubernetes.kubectl(&["get", "namespaces", "--output", "name"]).await;
    let namespaces = namespaces.with_context(|| format!("the cluster of context {context} does not answer"))?;
    for name in product_namespaces() {
        ensure!(
            !namespaces.lines().any(|it| it == format!("namespace/{name}")),
            "namespace {name} already exists in context {context}; the demo would remove it at its end"
        );
    }
    let arguments = ["get", "customresourcedefinition", DEFINITION, "--ignore-not-found", "--output", "name"];
    Ok(kubernetes.kubectl(&arguments).await?.trim().is_empty())
}

fn product_namespaces() -> impl Iterator<Item = String> {
    TENANTS.iter().map(|(tenant, _)| namespace(tenant)).chain([RELEASE.to_owned()])
}

/// The address under which the cluster's pods reach this machine.
async fn host_address(demo: &Demo<'_>, kind: ClusterKind, kubernetes: &Kubernetes) -> anyhow::Result<IpAddr> {
    if let Some(address) = demo.options.host_address {
        return Ok(address);
    }
    if kind == ClusterKind::Kind {
        let docker = demo.machine.program("docker").context("docker was not found; give --host-address")?;
        let mut command = process::command(docker);
        command.args(["network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"]);
        let answer = process::capture(command).await?;
        let gateway = answer.split_whitespace().filter_map(|it| it.parse().ok()).find(IpAddr::is_ipv4);
        return gateway.context("docker's network `kind` has no IPv4 gateway; give --host-address");
    }
    let server = kubernetes.kubectl(&["config", "view", "--output", "jsonpath={.clusters[0].cluster.server}"]).await?;
    let server: http::Uri = server.trim().parse().context("the kubeconfig's server is no URL")?;
    let (name, port) =
        (server.host().context("the kubeconfig's server has no host")?, server.port_u16().unwrap_or(443));
    // Nothing is sent: the system only chooses the address it would send from.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((name, port)).with_context(|| format!("no way to {name}; give --host-address"))?;
    let address = socket.local_addr()?.ip();
    if address.is_loopback() {
        bail!("the cluster is on this machine: give the address under which its pods reach it by --host-address");
    }
    Ok(address)
}

async fn load_image(demo: &Demo<'_>, run: &Run, kind: ClusterKind, context: &str) -> anyhow::Result<String> {
    let step = console::step("loading the product's image into the cluster");
    let archive = image::product(demo.machine, &run.directory).await?;
    let (program, arguments): (_, &[&str]) = match kind {
        ClusterKind::Kind => ("kind", &["load", "image-archive", "--name"]),
        ClusterKind::K3d | ClusterKind::Other => ("k3d", &["image", "import", "--cluster"]),
    };
    let cluster = context.split_once('-').map_or(context, |(_, name)| name);
    let mut command =
        process::command(demo.machine.program(program).with_context(|| format!("{program} was not found"))?);
    command.args(arguments).arg(cluster).arg(archive);
    process::capture(command).await?;
    step.done(image::PRODUCT);
    Ok(image::PRODUCT.to_owned())
}

/// Removes what the demo made in the user's cluster. Tenants first, while the operator can still take their schedules
/// out of Temporal.
struct Removal {
    kubernetes: Kubernetes,
}

impl Drop for Removal {
    fn drop(&mut self) {
        console::line("removing the demo from your cluster ...");
        let tenants: Vec<_> = TENANTS.iter().map(|(tenant, _)| namespace(tenant)).collect();
        let mut delete = vec!["delete", "namespace", "--ignore-not-found", "--timeout", "60s"];
        delete.extend(tenants.iter().map(String::as_str));
        run_to_end(self.kubernetes.kubectl_command(&delete));
        run_to_end(self.kubernetes.helm_command(&["uninstall", RELEASE, "--namespace", RELEASE, "--ignore-not-found"]));
        let delete = ["delete", "namespace", RELEASE, "--ignore-not-found", "--timeout", "60s"];
        run_to_end(self.kubernetes.kubectl_command(&delete));
    }
}

/// Clean-up goes on whatever one step says; the user is told.
fn run_to_end(mut command: Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => console::line(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => console::line(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_tells_how_an_image_gets_into_the_cluster() {
        assert_eq!(ClusterKind::of("kind-kind"), ClusterKind::Kind);
        assert_eq!(ClusterKind::of("k3d-my-cluster"), ClusterKind::K3d);
        assert_eq!(ClusterKind::of("production"), ClusterKind::Other);
    }
}
