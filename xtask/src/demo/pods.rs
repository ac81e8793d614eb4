//! The stage with real pods: a node of our own, PostgreSQL, Temporal, the chart. Root on Linux only.

use anyhow::Context as _;

use super::{Demo, Stage, kubernetes::Kubernetes};
use crate::{
    certs::write_private,
    cluster::Cluster,
    console, debian, image,
    run::Run,
    test_binaries,
    tools::{self, Toolbox},
};

/// Sets the stage and plays.
pub(super) async fn play(demo: &Demo<'_>) -> anyhow::Result<()> {
    let (machine, yes) = (demo.machine, demo.yes);
    debian::ensure(machine, yes, &debian::NODE).await?;
    debian::ensure(machine, yes, &[debian::POSTGRESQL]).await?;
    let (tools, ()) = tokio::try_join!(all_tools(demo), build(demo))?;
    let run = Run::start(machine, "demo")?;
    let (cluster, archive) =
        tokio::try_join!(Cluster::start(machine, &run, &tools, true), image::product(machine, &run.directory))?;
    let step = console::step("giving the node the product's image");
    cluster.import(&archive).await?;
    step.done(image::PRODUCT);
    let host = cluster.gateway().into();
    let accounts = demo.accounts(&run, host).await?;
    let stage = Stage {
        kubernetes: Kubernetes::new(&tools, &cluster.control_plane.kubeconfig, &machine.repository),
        temporal: cluster.temporal.address.clone(),
        web_ui: cluster.temporal.web_ui.clone(),
        database_url: cluster.postgres.create_database("gtm_sync").await?,
        host,
        remark: "operator and workers run as pods of this node, installed by the chart",
    };
    let step = console::step("installing the chart");
    let values = demo.directory.join("values.yaml");
    write_private(&values, &chart_values(&stage, image::PRODUCT))?;
    let installed = stage.kubernetes.install(&values, &stage.database_url, true).await;
    with_diagnosis(&stage, installed).await?;
    step.done(values.display());
    let played = demo.play(&run, &tools, &stage, &accounts).await;
    with_diagnosis(&stage, played).await
}

/// Tools for all of it.
async fn all_tools(demo: &Demo<'_>) -> anyhow::Result<Toolbox> {
    let needed: Vec<_> = tools::SERVICES.iter().chain(tools::NODE).copied().collect();
    tools::ensure(demo.machine, &needed).await
}

/// The programs of this repository.
pub(super) async fn build(demo: &Demo<'_>) -> anyhow::Result<()> {
    let step = console::step("building the product and the simulators");
    test_binaries::build_programs(demo.machine).await?;
    step.done("");
    Ok(())
}

/// Values of the chart, as a file the user may look at.
pub(super) fn chart_values(stage: &Stage, image: &str) -> String {
    let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    format!(
        "# What `cargo xtask demo` installed the chart with.
image:
  repository: {repository}
  tag: {tag}
database:
  secretName: gtm-sync-database
temporal:
  address: {}
workers:
  # The simulated accounts are on this machine, which is a private address.
  allowedPrivateHosts: [\"{}\"]
",
        stage.temporal, stage.host
    )
}

/// Adds what pods and their logs say to an error, while they are still there.
pub(super) async fn with_diagnosis(stage: &Stage, result: anyhow::Result<()>) -> anyhow::Result<()> {
    let Err(error) = result else { return Ok(()) };
    for arguments in [
        vec!["get", "pods", "--all-namespaces", "--output", "wide"],
        vec!["get", "tenantschedules,connectors", "--all-namespaces"],
        vec!["--namespace", "gtm-sync", "get", "events", "--sort-by", ".lastTimestamp"],
        vec![
            "--namespace",
            "gtm-sync",
            "logs",
            "--selector",
            "app.kubernetes.io/name=gtm-sync",
            "--tail",
            "20",
            "--prefix",
        ],
    ] {
        console::line(format_args!("\n$ kubectl {}", arguments.join(" ")));
        console::line(stage.kubernetes.kubectl(&arguments).await.unwrap_or_else(|it| format!("{it:#}")));
    }
    Err(error).context("the demo did not get through")
}
