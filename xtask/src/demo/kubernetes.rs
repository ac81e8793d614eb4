//! kubectl and helm against the demo's cluster, called the way a user calls them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    process,
    tools::{self, Toolbox},
};

/// Release and namespace of the product, as the README installs it.
pub(crate) const RELEASE: &str = "gtm-sync";

/// The command-line tools with a kubeconfig.
#[derive(Debug, Clone)]
pub(crate) struct Kubernetes {
    /// What the tools and our own client read.
    pub(crate) kubeconfig: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
    repository: PathBuf,
}

impl Kubernetes {
    /// The tools for one cluster.
    pub(crate) fn new(tools: &Toolbox, kubeconfig: &Path, repository: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            kubectl: tools.path(&tools::KUBECTL).to_owned(),
            helm: tools.path(&tools::HELM).to_owned(),
            repository: repository.to_owned(),
        }
    }

    /// A kubectl command that has not run yet.
    pub(crate) fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.command(&self.kubectl, arguments)
    }

    /// Runs kubectl and returns what it printed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        process::capture(self.kubectl_command(arguments)).await
    }

    /// Applies YAML text; it may hold secrets, so it is never an argument.
    pub(crate) async fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let command = self.kubectl_command(&["apply", "--server-side", "--validate=strict", "--filename", "-"]);
        process::capture_with_input(command, yaml).await
    }

    /// A helm command that has not run yet.
    pub(crate) fn helm_command(&self, arguments: &[&str]) -> Command {
        self.command(&self.helm, arguments)
    }

    /// Makes the product's namespace with its database Secret and installs the chart.
    pub(crate) async fn install(&self, values: &Path, database_url: &str, wait: bool) -> anyhow::Result<()> {
        self.apply(&product_namespace(database_url)).await.context("could not prepare the product's namespace")?;
        let mut command = self.helm_command(&["install", RELEASE, "charts/gtm-sync", "--namespace", RELEASE]);
        command.current_dir(&self.repository).arg("--values").arg(values);
        if wait {
            command.args(["--wait", "--timeout", "3m"]);
        }
        process::capture(command).await.context("could not install the chart")?;
        Ok(())
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = process::command(program);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        command
    }
}

/// The namespace lets no pod in that asks for rights, which the product need not.
fn product_namespace(database_url: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {RELEASE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
---
apiVersion: v1
kind: Secret
metadata:
  name: gtm-sync-database
  namespace: {RELEASE}
stringData:
  url: \"{database_url}\"
"
    )
}
