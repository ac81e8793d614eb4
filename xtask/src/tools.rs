//! Finds the programs that tests and demo run, or builds them from the pinned modules in `xtask/tools`.
//! Order: `KUBEBUILDER_ASSETS` and PATH when the version fits, then our cache, then `go build`, once per user.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{
    console,
    machine::{Machine, is_executable},
    process,
};

/// How to recognise and build one program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Name of the program.
    pub(crate) name: &'static str,
    /// The version that is built.
    version: &'static str,
    /// Folder of `xtask/tools` that pins it.
    module: &'static str,
    /// Go package of the program.
    package: &'static str,
    /// Arguments that print the version.
    version_arguments: &'static [&'static str],
    /// A program found on this machine fits when its version text holds one of these.
    fits: &'static [&'static str],
    /// How long a first build takes on 2 cores, for the message. Measured 2026-11-23.
    usually: &'static str,
}

const fn kubernetes(name: &'static str, package: &'static str, usually: &'static str) -> Tool {
    let version = "1.35.4";
    Tool { name, version, module: "kubernetes", package, version_arguments: &["--version"], fits: &["v1.35."], usually }
}

/// The API server, which everything needs.
pub(crate) const KUBE_APISERVER: Tool = kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "6 min");
/// Deployments, garbage collection, namespace deletion.
pub(crate) const KUBE_CONTROLLER_MANAGER: Tool =
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "2 min");
/// Places pods.
pub(crate) const KUBE_SCHEDULER: Tool = kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", "20 s");
/// Runs pods.
pub(crate) const KUBELET: Tool = kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet", "1 min");
/// Service addresses.
pub(crate) const KUBE_PROXY: Tool = kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", "20 s");
/// The command line.
pub(crate) const KUBECTL: Tool = Tool {
    version_arguments: &["version", "--client"],
    fits: &["v1.34.", "v1.35.", "v1.36."],
    ..kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", "40 s")
};
/// The API server's database.
pub(crate) const ETCD: Tool = Tool {
    name: "etcd",
    version: "3.6.5",
    module: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    version_arguments: &["--version"],
    fits: &["etcd Version: 3.5.", "etcd Version: 3.6."],
    usually: "1 min",
};
/// Temporal's command line, which holds the dev server and the Web UI.
pub(crate) const TEMPORAL: Tool = Tool {
    name: "temporal",
    version: "1.5.1",
    module: "temporal",
    package: "github.com/temporalio/cli/cmd/temporal",
    version_arguments: &["--version"],
    fits: &["(Server 1.29.", "(Server 1.30."],
    usually: "4 min",
};
/// Installs the chart.
pub(crate) const HELM: Tool = Tool {
    name: "helm",
    version: "4.3.1",
    module: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    version_arguments: &["version"],
    fits: &["Version:\"v4."],
    usually: "1 min",
};

/// The Lua that Argo CD runs health checks and actions with; for tests only.
pub(crate) const LUA: Tool = Tool {
    name: "glua",
    version: "1.1.2",
    module: "lua",
    package: "github.com/yuin/gopher-lua/cmd/glua",
    version_arguments: &["-v"],
    fits: &["GopherLua 0.1"],
    usually: "20 s",
};

/// Driver and peer of `cargo xtask bench operator`: its sources are in the module itself.
pub(crate) const OPERATOR_PEER: Tool = Tool {
    name: "operator-peer",
    version: "",
    module: "operator-peer",
    package: ".",
    version_arguments: &[],
    fits: &[],
    usually: "3 min",
};

/// What the layers without pods need; first what is needed first.
pub(crate) const SERVICES: &[&Tool] = &[&ETCD, &KUBE_APISERVER, &KUBECTL, &TEMPORAL, &HELM];
/// What pods need on top.
pub(crate) const NODE: &[&Tool] = &[&KUBE_CONTROLLER_MANAGER, &KUBE_SCHEDULER, &KUBELET, &KUBE_PROXY];

/// Programs that were found or built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Toolbox(BTreeMap<&'static str, PathBuf>);

impl Toolbox {
    /// Path of a tool that was asked for in [`ensure`].
    pub(crate) fn path(&self, tool: &Tool) -> &Path {
        self.0.get(tool.name).expect("every caller ensures the tools it uses")
    }

    /// Path of a tool, if it was asked for.
    pub(crate) fn find(&self, tool: &Tool) -> Option<&Path> {
        self.0.get(tool.name).map(PathBuf::as_path)
    }

    /// Makes `directory` hold one link a tool, under its plain name, for a search path.
    pub(crate) fn link_into(&self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        for (name, path) in &self.0 {
            let link = directory.join(name);
            let _absent = fs::remove_file(&link);
            std::os::unix::fs::symlink(path, &link).with_context(|| format!("could not link {}", link.display()))?;
        }
        Ok(())
    }

    /// Adds the tools of another box.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Finds or builds each tool.
///
/// # Errors
/// When one can be neither found nor built; the message says what to do.
/// # Idempotency
/// A tool is built once; concurrent calls wait for each other.
pub(crate) async fn ensure(machine: &Machine, tools: &[&'static Tool]) -> anyhow::Result<Toolbox> {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for tool in tools {
        match find(machine, tool).await {
            Some(path) => _ = found.insert(tool.name, path),
            None => missing.push(*tool),
        }
    }
    if !missing.is_empty() && machine.program("go").is_none() {
        let names: Vec<_> = missing.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
        bail!(
            "not found and not to be built without Go: {}. Install Go 1.25 or newer (https://go.dev/dl), or put the \
             programs in PATH or in the directory KUBEBUILDER_ASSETS names",
            names.join(", ")
        );
    }
    for tool in missing {
        found.insert(tool.name, build(machine, tool).await?);
    }
    Ok(Toolbox(found))
}

/// `cargo xtask tools`: ensures and lists all of them.
pub(crate) async fn list(machine: &Machine) -> anyhow::Result<()> {
    let mut tools = SERVICES.to_vec();
    tools.push(&LUA);
    if cfg!(target_os = "linux") {
        tools.extend(NODE);
    }
    let toolbox = ensure(machine, &tools).await?;
    for (name, path) in &toolbox.0 {
        console::line(format_args!("{name:24} {}", path.display()));
    }
    Ok(())
}

fn cached(machine: &Machine, tool: &Tool) -> PathBuf {
    machine.cache.join(format!("{}-{}", tool.name, tool.version))
}

async fn find(machine: &Machine, tool: &Tool) -> Option<PathBuf> {
    let assets = machine.kubebuilder_assets.as_ref().map(|it| it.join(tool.name)).filter(|it| is_executable(it));
    for path in assets.into_iter().chain(machine.program(tool.name)) {
        let mut command = process::command(&path);
        command.args(tool.version_arguments);
        let answer = process::capture(command).await.unwrap_or_default();
        if tool.fits.iter().any(|it| answer.contains(it)) {
            return Some(path);
        }
    }
    Some(cached(machine, tool)).filter(|it| is_executable(it))
}

async fn build(machine: &Machine, tool: &Tool) -> anyhow::Result<PathBuf> {
    let path = cached(machine, tool);
    fs::create_dir_all(&machine.cache).with_context(|| format!("could not create {}", machine.cache.display()))?;
    let _lock = exclusive(&path.with_extension("lock"), tool.name).await?;
    if is_executable(&path) {
        return Ok(path);
    }
    let logs = machine.target.join("xtask/tools");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{}.log", tool.name));
    console::line(format_args!("  ...  building {} {}, usually {} on 2 cores", tool.name, tool.version, tool.usually));
    let step = console::step(format!("building {} {}", tool.name, tool.version));
    let unfinished = machine.cache.join(format!(".{}-{}.{}", tool.name, tool.version, std::process::id()));
    let mut work = std::pin::pin!(process::logged(go_build(machine, tool, &unfinished), &log));
    let mut reminder = tokio::time::interval(Duration::from_secs(60));
    reminder.tick().await;
    loop {
        tokio::select! {
            result = &mut work => break result.with_context(|| format!("could not build {}", tool.name))?,
            _ = reminder.tick() => console::line(format_args!("  ...  still building {}", tool.name)),
        }
    }
    fs::rename(&unfinished, &path).with_context(|| format!("could not move the program to {}", path.display()))?;
    step.done(path.display());
    Ok(path)
}

/// Builds a program whose sources are in this repository; Go's own cache knows what is new.
///
/// # Errors
/// Without Go, or when its packages cannot be had.
pub(crate) async fn build_own(machine: &Machine, tool: &Tool) -> anyhow::Result<PathBuf> {
    if machine.program("go").is_none() {
        bail!("{} is built with Go 1.26 or newer, which was not found (https://go.dev/dl)", tool.name);
    }
    let directory = machine.target.join("xtask/tools");
    fs::create_dir_all(&directory)?;
    let step = console::step(format!("building {} (the first time usually {})", tool.name, tool.usually));
    let path = directory.join(tool.name);
    process::logged(go_build(machine, tool, &path), &directory.join(format!("{}.log", tool.name))).await?;
    step.done("");
    Ok(path)
}

fn go_build(machine: &Machine, tool: &Tool, output: &Path) -> std::process::Command {
    let mut flags = "-s -w".to_owned();
    if tool.module == "kubernetes" {
        flags += &format!(" -X k8s.io/component-base/version.gitVersion=v{}", tool.version);
    }
    let mut command = process::command(machine.program("go").unwrap_or_else(|| "go".into()));
    command.current_dir(machine.repository.join("xtask/tools").join(tool.module));
    // What the user set for own projects must not leak into this build.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off").env_remove("GOOS").env_remove("GOARCH");
    command.args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(output).arg(tool.package);
    command
}

/// Holds a file lock, saying so when somebody else holds it first.
async fn exclusive(path: &Path, what: &str) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("could not create {}", path.display()))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                if !said {
                    console::line(format_args!("  ...  waiting: another process builds {what}"));
                    said = true;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(tool: &Tool, answer: &str) -> bool {
        tool.fits.iter().any(|it| answer.contains(it))
    }

    #[test]
    fn a_found_program_is_taken_by_its_version() {
        assert!(fits(&KUBE_APISERVER, "Kubernetes v1.35.1"));
        assert!(!fits(&KUBE_APISERVER, "Kubernetes v1.30.0"));
        assert!(fits(&KUBECTL, "Client Version: v1.36.0\nKustomize Version: v5.7.1"));
        assert!(fits(&ETCD, "etcd Version: 3.5.21\nGit SHA: a17edfd"));
        assert!(!fits(&ETCD, "etcd Version: 3.4.23"));
        assert!(fits(&TEMPORAL, "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"));
        assert!(!fits(&TEMPORAL, "temporal version 1.1.0 (Server 1.25.0, UI 2.30.3)"));
        assert!(fits(&HELM, "version.BuildInfo{Version:\"v4.3\", GitCommit:\"\", GoVersion:\"go1.26.8\"}"));
        assert!(!fits(&HELM, "version.BuildInfo{Version:\"v3.19.0\", GitCommit:\"\"}"));
    }

    #[test]
    fn every_tool_is_pinned_by_a_module_of_this_repository_at_the_version_it_names() {
        for tool in SERVICES.iter().chain(NODE).chain(&[&LUA]) {
            let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool.module).join("go.mod");
            let text = fs::read_to_string(module).unwrap();
            assert!(text.contains(tool.package), "{} has a tool line", tool.name);
            assert!(text.contains(&format!(" v{}", tool.version)), "{} is pinned at {}", tool.name, tool.version);
        }
    }
}
