//! The services that tests below the cluster need, started together, and `cargo xtask services`, which keeps them up.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    certs::write_private,
    cluster::Cluster,
    console,
    control_plane::ControlPlane,
    debian,
    machine::Machine,
    postgres::{self, Postgres},
    python,
    run::Run,
    temporal::Temporal,
    tools::{self, Toolbox},
};

/// API server without a node, Temporal in memory, PostgreSQL: all on the loopback.
pub(crate) struct Services {
    control_plane: ControlPlane,
    temporal: Temporal,
    postgres: Postgres,
}

impl Services {
    /// Starts all three at once.
    pub(crate) async fn start(machine: &Machine, run: &Run, tools: &Toolbox) -> anyhow::Result<Self> {
        let address = Ipv4Addr::LOCALHOST.into();
        let step = console::step("starting kube-apiserver, Temporal and PostgreSQL");
        let (control_plane, temporal, postgres) = tokio::try_join!(
            ControlPlane::start(run, tools, address),
            Temporal::start(run, tools, address, false),
            Postgres::start(machine, run, address),
        )?;
        step.done("");
        Ok(Self { control_plane, temporal, postgres })
    }

    /// Variables by which tests find the services; names as in tests/support.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GTM_TEST_KUBECONFIG", self.control_plane.kubeconfig.display().to_string()),
            ("GTM_TEST_TEMPORAL_ADDRESS", self.temporal.address.clone()),
            ("GTM_TEST_POSTGRES_URL", self.postgres.url("postgres")),
        ]
    }
}

/// Variables by which tests find programs.
pub(crate) fn tool_variables(machine: &Machine, tools: &Toolbox, python: Option<&Path>) -> Vec<(&'static str, String)> {
    let path = |it: &Path| it.display().to_string();
    let mut variables = vec![
        ("GTM_TEST_HELM", path(tools.path(&tools::HELM))),
        ("GTM_TEST_KUBECTL", path(tools.path(&tools::KUBECTL))),
        ("GTM_TEST_TEMPORAL_CLI", path(tools.path(&tools::TEMPORAL))),
        ("GTM_TEST_ETCD", path(tools.path(&tools::ETCD))),
        ("GTM_TEST_KUBE_APISERVER", path(tools.path(&tools::KUBE_APISERVER))),
        ("GTM_TEST_WORKER_BINARY", path(&machine.target.join("debug/gtm-sync"))),
    ];
    variables.extend(tools.find(&tools::LUA).map(|it| ("GTM_TEST_LUA", path(it))));
    variables.extend(postgres::programs(machine).map(|it| ("GTM_TEST_POSTGRES_PROGRAMS", path(&it))));
    variables.extend(python.map(|it| ("GTM_TEST_PYTHON", path(it))));
    variables
}

/// `cargo xtask services --pods`: a whole cluster instead.
async fn keep_cluster_up(machine: &Machine, yes: bool) -> anyhow::Result<()> {
    debian::ensure(machine, yes, &debian::NODE).await?;
    let mut tools = tools::ensure(machine, tools::SERVICES).await?;
    tools.extend(tools::ensure(machine, tools::NODE).await?);
    let run = Run::start(machine, "services")?;
    let cluster = Cluster::start(machine, &run, &tools, false).await?;
    let mut variables = cluster.variables();
    variables.extend(tool_variables(machine, &tools, None));
    announce_and_wait(machine, &run, &variables).await
}

/// `cargo xtask services`: starts them, writes `target/services/env` and waits for Ctrl-C.
pub(crate) async fn keep_up(machine: &Machine, yes: bool, pods: bool) -> anyhow::Result<()> {
    // What a killed run left would be taken for this one's.
    let _absent = fs::remove_file(machine.target.join("services/env"));
    debian::ensure(machine, yes, &[debian::POSTGRESQL]).await?;
    if pods {
        return keep_cluster_up(machine, yes).await;
    }
    let mut tools = tools::ensure(machine, tools::SERVICES).await?;
    tools.extend(tools::ensure(machine, &[&tools::LUA]).await?);
    let python = python::ensure(machine).await?;
    let run = Run::start(machine, "services")?;
    let services = Services::start(machine, &run, &tools).await?;
    let mut variables = services.variables();
    variables.extend(tool_variables(machine, &tools, Some(&python)));
    announce_and_wait(machine, &run, &variables).await
}

/// Writes `target/services/env`, says so, and waits for Ctrl-C.
pub(crate) async fn announce_and_wait(
    machine: &Machine,
    run: &Run,
    variables: &[(&'static str, String)],
) -> anyhow::Result<()> {
    let file = EnvironmentFile::write(&machine.target.join("services"), variables)?;
    console::line(format_args!("\nin another terminal: . {}", file.path.display()));
    console::line("then e.g.: cargo test --test it -- --include-ignored stores");
    console::line(format_args!("logs: {}\nCtrl-C ends the services and removes their data", run.logs.display()));
    std::future::pending().await
}

/// A file to be sourced by a shell; it exists as long as what it names.
pub(crate) struct EnvironmentFile {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl EnvironmentFile {
    /// Writes `{directory}/env`, readable by us only: it holds passwords.
    pub(crate) fn write(directory: &Path, variables: &[(&str, String)]) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("env");
        let quoted =
            variables.iter().map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
        write_private(&path, &quoted.collect::<String>())?;
        Ok(Self { path })
    }
}

impl Drop for EnvironmentFile {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sourced_file_gives_values_as_they_are_and_is_gone_with_what_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let value = "a 'quoted' $HOME; value";
        let file = EnvironmentFile::write(directory.path(), &[("GTM_VALUE", value.to_owned())]).unwrap();
        let script = format!(". {}; printf %s \"$GTM_VALUE\"", file.path.display());
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        let path = file.path.clone();
        drop(file);
        assert!(!path.exists());
    }
}
