//! One Kubernetes node with real pods, in namespaces of its own: containerd, kubelet, kube-proxy. Root on Linux only.
//! Every setting that looks odd was needed on some machine; the reason stands beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use serde_json::json;

use crate::{
    certs::write_private,
    control_plane::{self, ControlPlane},
    debian, image, kernel,
    machine::Machine,
    namespaces::Namespaces,
    network::Network,
    process::{self, Farewell, Service},
    run::Run,
    tools::{self, Toolbox},
};

const NAME: &str = "gtm-node";
const PAUSE: &str = "localhost/pause:gtm-sync";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
const START: Duration = Duration::from_secs(60);

/// A running node; dropping it ends it and every pod on it. The namespaces must be dropped after it.
pub(crate) struct Node {
    ctr: PathBuf,
    _processes: Vec<Service>,
}

/// What a node is made of.
pub(crate) struct Parts<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) run: &'a Run,
    pub(crate) tools: &'a Toolbox,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) network: Network,
}

impl Node {
    /// Starts the node and waits until Kubernetes calls it ready.
    pub(crate) async fn start(parts: &Parts<'_>, control_plane: &ControlPlane) -> anyhow::Result<Self> {
        let directory = parts.run.directory.join("node");
        kernel::prepare(&parts.run.id, &parts.run.directory)?;
        let (containerd, ctr) = start_containerd(parts, &directory).await?;
        let pause = image::pause(parts.machine, PAUSE, &directory).await?;
        let mut node = Self { ctr, _processes: vec![containerd] };
        node.import(parts.namespaces, &pause).await?;
        let mut kubelet = start_kubelet(parts, control_plane, &directory)?;
        let client = control_plane::client(&control_plane.kubeconfig).await?;
        let waited = process::ready(&mut kubelet, START, || is_ready(client.clone())).await;
        node._processes.insert(0, kubelet);
        waited?;
        node._processes.insert(0, start_kube_proxy(parts, control_plane)?);
        Ok(node)
    }

    /// Gives the node an image archive.
    pub(crate) async fn import(&self, namespaces: &Namespaces, archive: &Path) -> anyhow::Result<()> {
        let mut command = namespaces.command(&self.ctr);
        command.args(["--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import"]).arg(archive);
        process::capture(command).await.with_context(|| format!("could not import {}", archive.display()))?;
        Ok(())
    }
}

async fn is_ready(client: kube::Client) -> anyhow::Result<()> {
    let node: NodeObject = kube::Api::all(client).get(NAME).await?;
    let conditions = node.status.and_then(|it| it.conditions).unwrap_or_default();
    match conditions.into_iter().find(|it| it.type_ == "Ready") {
        Some(it) if it.status == "True" => Ok(()),
        Some(it) => bail!("the node is not ready: {}", it.message.unwrap_or_default()),
        None => bail!("the node has not told its state"),
    }
}

fn program(machine: &Machine, name: &str) -> anyhow::Result<PathBuf> {
    machine.program(name).with_context(|| format!("{name} was not found"))
}

async fn start_containerd(parts: &Parts<'_>, directory: &Path) -> anyhow::Result<(Service, PathBuf)> {
    let (containerd, ctr) = (program(parts.machine, "containerd")?, program(parts.machine, "ctr")?);
    let network_configuration = directory.join("cni");
    fs::create_dir_all(&network_configuration)?;
    let bridge = json!({"cniVersion": "1.0.0", "name": "gtm", "plugins": [
        {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true, "ipam": {
            "type": "host-local", "dataDir": directory.join("addresses"), "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": parts.network.pods(), "gateway": parts.network.pod_gateway()}]]}},
    ]});
    fs::write(network_configuration.join("10-gtm.conflist"), bridge.to_string())?;
    let configuration = directory.join("containerd.toml");
    let text = containerd_configuration(directory, &network_configuration, snapshotter(directory).await?)?;
    fs::write(&configuration, text)?;
    let mut command = parts.namespaces.command(&containerd);
    command.arg("--config").arg(&configuration);
    let mut service = Service::start("containerd", command, &parts.run.logs)?.with_farewell(Farewell::Kill);
    let version = || async {
        let mut command = parts.namespaces.command(&ctr);
        command.args(["--address", CONTAINERD_SOCKET, "version"]);
        process::capture(command).await.map(drop)
    };
    process::ready(&mut service, START, version).await?;
    Ok((service, ctr))
}

/// An overlay cannot lie on an overlay: inside a container, layers are copied instead.
async fn snapshotter(directory: &Path) -> anyhow::Result<&'static str> {
    let mut command = process::command("/usr/bin/stat");
    command.args(["--file-system", "--format", "%T"]).arg(directory);
    Ok(if process::capture(command).await?.trim() == "overlayfs" { "native" } else { "overlayfs" })
}

fn containerd_configuration(directory: &Path, network: &Path, snapshotter: &str) -> anyhow::Result<String> {
    let plugins = debian::cni_plugins().context("no CNI plugins (package containernetworking-plugins) were found")?;
    let (root, network, plugins) = (directory.join("containerd"), network.display(), plugins.display());
    let root = root.display();
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE (containers, some virtual machines) no pod starts otherwise.
    Ok(format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{network}"
"#
    ))
}

fn start_kubelet(parts: &Parts<'_>, control_plane: &ControlPlane, directory: &Path) -> anyhow::Result<Service> {
    let address = parts.network.node().to_string();
    let authority = &control_plane.authority;
    let serving = authority.server("kubelet-serving", &[address.clone(), NAME.to_owned()])?;
    let identity = authority.client("kubelet", &format!("system:node:{NAME}"), Some("system:nodes"))?;
    let kubeconfig = authority.kubeconfig("kubelet", &control_plane.server, &identity)?;
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority.certificate()}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": serving.certificate, "tlsPrivateKeyFile": serving.key,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", kernel::control_group(&parts.run.id)),
        // Old control groups and swap are a reason to refuse production, not a developer's machine.
        "failCgroupV1": false, "failSwapOn": false,
        // Nobody answers there, so a look-up fails at once; with no address given every pod would get a warning event.
        "clusterDNS": [parts.network.gateway()], "clusterDomain": "cluster.local", "resolvConf": "",
        // A developer's disk is often nearly full: neither evict pods for it nor remove our images.
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "healthzPort": 0, "shutdownGracePeriod": "0s",
    });
    let file = directory.join("kubelet.json");
    write_private(&file, &configuration.to_string())?;
    let mut command: Command = parts.namespaces.command(parts.tools.path(&tools::KUBELET));
    command.arg("--config").arg(&file).arg("--kubeconfig").arg(&kubeconfig);
    command.args(["--hostname-override", NAME, "--node-ip", &address]);
    Ok(Service::start("kubelet", command, &parts.run.logs)?.with_farewell(Farewell::Kill))
}

fn start_kube_proxy(parts: &Parts<'_>, control_plane: &ControlPlane) -> anyhow::Result<Service> {
    let kubeconfig = control_plane.component_kubeconfig("system:kube-proxy")?;
    let mut command = parts.namespaces.command(parts.tools.path(&tools::KUBE_PROXY));
    command.arg("--kubeconfig").arg(kubeconfig).arg(format!("--cluster-cidr={}", parts.network.pods()));
    command.args(["--proxy-mode=nftables", "--hostname-override", NAME]);
    // 0 leaves the machine's connection tracking as it is.
    command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"]);
    command.args(["--conntrack-tcp-timeout-close-wait=0s"]);
    Ok(Service::start("kube-proxy", command, &parts.run.logs)?.with_farewell(Farewell::Kill))
}
