//! The stage without pods: the same API server and definitions; operator and worker are processes of this machine on one
//! SQLite file. The operator has the rights of the chart's service account and no others.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use serde_json::json;

use super::{Demo, Stage, kubernetes::Kubernetes, kubernetes::RELEASE, pods};
use crate::{
    certs::write_private,
    console,
    control_plane::ControlPlane,
    process::{self, Service},
    run::Run,
    temporal::Temporal,
    tools,
};

const VALUES: &str = "# Rights and definitions only: operator and worker run as processes outside the cluster.
database:
  secretName: gtm-sync-database
operator:
  replicas: 0
workers:
  enabled: false
";

/// Sets the stage and plays.
pub(super) async fn play(demo: &Demo<'_>) -> anyhow::Result<()> {
    let machine = demo.machine;
    if !machine.root {
        console::line("without root on Linux there are no pods: operator and worker run as processes, on SQLite");
    }
    let (tools, ()) = tokio::try_join!(tools::ensure(machine, tools::SERVICES), pods::build(demo))?;
    let run = Run::start(machine, "demo")?;
    let host = Ipv4Addr::LOCALHOST.into();
    let step = console::step("starting kube-apiserver and Temporal");
    let (control_plane, temporal) =
        tokio::try_join!(ControlPlane::start(&run, &tools, host), Temporal::start(&run, &tools, host, true))?;
    step.done("");
    let accounts = demo.accounts(&run, host).await?;
    let stage = Stage {
        kubernetes: Kubernetes::new(&tools, &control_plane.kubeconfig, &machine.repository),
        temporal: temporal.address.clone(),
        web_ui: temporal.web_ui.clone(),
        database_url: format!("sqlite:{}", run.directory.join("store.sqlite").display()),
        host,
        remark: "operator and worker are processes of this machine, on one SQLite file; as root on Linux they would be pods",
    };
    let step = console::step("installing the chart's rights and definitions");
    let values = demo.directory.join("values.yaml");
    write_private(&values, VALUES)?;
    stage.kubernetes.install(&values, "not-used", false).await?;
    step.done("");
    let step = console::step("starting operator and worker");
    let _processes = start_product(demo, &run, &stage, &control_plane).await?;
    step.done("");
    demo.play(&run, &tools, &stage, &accounts).await
}

/// Operator and worker, after the store's tables; ended in reverse.
async fn start_product(
    demo: &Demo<'_>,
    run: &Run,
    stage: &Stage,
    control_plane: &ControlPlane,
) -> anyhow::Result<Vec<Service>> {
    let program = demo.machine.target.join("debug/gtm-sync");
    let product = |name: &str| {
        let mut command = process::command(&program);
        command.arg(name).env("GTM_DATABASE_URL", &stage.database_url).env("TEMPORAL_ADDRESS", &stage.temporal);
        command
    };
    process::capture(product("migrate")).await.context("could not make the store's tables")?;
    let mut keygen = process::command(&program);
    keygen.arg("keygen");
    let identity = process::capture(keygen).await?;
    let recipient = identity.lines().find_map(|it| it.strip_prefix("# public key: ")).context("keygen told no key")?;
    let identity_file = run.scratch.join("identity");
    write_private(&identity_file, &identity)?;

    let mut operator = product("operator");
    operator.env("KUBECONFIG", operator_kubeconfig(stage, control_plane, &run.scratch).await?);
    operator.env("GTM_NAMESPACE", RELEASE).env("GTM_RECIPIENT", recipient).env("GTM_NO_LEADER_ELECTION", "true");
    operator.env("GTM_HEALTH_ADDRESS", health_address(stage)?);
    let mut worker = product("worker");
    worker.env("GTM_IDENTITY_FILE", &identity_file).env("GTM_ALLOWED_PRIVATE_HOSTS", stage.host.to_string());
    worker.env("GTM_HEALTH_ADDRESS", health_address(stage)?);
    Ok(vec![Service::start("worker", worker, &run.logs)?, Service::start("operator", operator, &run.logs)?])
}

fn health_address(stage: &Stage) -> anyhow::Result<String> {
    Ok(format!("{}:{}", stage.host, process::free_port(stage.host)?))
}

/// A kubeconfig that holds a token of the chart's service account.
async fn operator_kubeconfig(
    stage: &Stage,
    control_plane: &ControlPlane,
    directory: &Path,
) -> anyhow::Result<std::path::PathBuf> {
    let account = format!("{RELEASE}-operator");
    let arguments = ["--namespace", RELEASE, "create", "token", &account, "--duration", "24h"];
    let token = stage.kubernetes.kubectl(&arguments).await.context("could not get a token for the operator")?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "operator",
        "clusters": [{"name": "demo", "cluster": {
            "server": control_plane.server, "certificate-authority": control_plane.authority.certificate()}}],
        "users": [{"name": "operator", "user": {"token": token.trim()}}],
        "contexts": [{"name": "operator", "context": {"cluster": "demo", "user": "operator", "namespace": RELEASE}}],
    });
    let path = directory.join("operator.kubeconfig");
    write_private(&path, &config.to_string())?;
    Ok(path)
}
