//! etcd and kube-apiserver, and for a cluster that runs pods also controller-manager and scheduler.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{
    certs::Authority,
    process::{self, Farewell, Service},
    run::Run,
    tools::{self, Toolbox},
};

/// First address of the service network, the API server's own service.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const SERVICE_NETWORK: &str = "10.96.0.0/24";
const ISSUER: &str = "https://kubernetes.default.svc";
/// Cold start on a loaded machine: about 10 s seen, three times that and more.
const START: Duration = Duration::from_secs(90);

/// A running control plane; dropping it ends its processes.
pub(crate) struct ControlPlane {
    /// `https://address:port`.
    pub(crate) server: String,
    /// Kubeconfig of a cluster administrator.
    pub(crate) kubeconfig: PathBuf,
    /// Signs further identities.
    pub(crate) authority: Authority,
    /// Ended first to last: clients before servers.
    processes: Vec<Service>,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver on `address` and waits until the server is ready.
    /// Pods reach the server under that address, so it is a loopback only where there is no node.
    pub(crate) async fn start(run: &Run, tools: &Toolbox, address: IpAddr) -> anyhow::Result<Self> {
        let authority = Authority::create(&run.directory.join("kubernetes"))?;
        let etcd_url = format!("http://127.0.0.1:{}", process::free_port(Ipv4Addr::LOCALHOST.into())?);
        let etcd = start_etcd(run, tools, &etcd_url)?;
        let port = process::free_port(address)?;
        let server = format!("https://{address}:{port}");
        let mut command = process::command(tools.path(&tools::KUBE_APISERVER));
        command.args(api_server_arguments(&authority, address, port, &etcd_url)?);
        let mut api_server = Service::start("kube-apiserver", command, &run.logs)?.with_farewell(Farewell::Kill);
        let admin = authority.client("admin", "admin", Some("system:masters"))?;
        let kubeconfig = authority.kubeconfig("admin", &server, &admin)?;
        process::ready(&mut api_server, START, || readyz(&kubeconfig)).await?;
        Ok(Self { server, kubeconfig, authority, processes: vec![api_server, etcd] })
    }

    /// Adds controller-manager and scheduler.
    pub(crate) fn start_controllers(&mut self, run: &Run, tools: &Toolbox, pod_network: &str) -> anyhow::Result<()> {
        let mut manager = process::command(tools.path(&tools::KUBE_CONTROLLER_MANAGER));
        let kubeconfig = self.component_kubeconfig("system:kube-controller-manager")?;
        let key = self.authority.signing_key();
        manager.arg(format!("--kubeconfig={}", kubeconfig.display()));
        manager.arg(format!("--service-account-private-key-file={}", key.display()));
        manager.arg(format!("--root-ca-file={}", self.authority.certificate().display()));
        manager.arg(format!("--cluster-cidr={pod_network}"));
        manager.args(["--use-service-account-credentials=true", "--leader-elect=false", "--secure-port=0"]);
        let mut scheduler = process::command(tools.path(&tools::KUBE_SCHEDULER));
        let kubeconfig = self.component_kubeconfig("system:kube-scheduler")?;
        scheduler.arg(format!("--kubeconfig={}", kubeconfig.display()));
        scheduler.args(["--leader-elect=false", "--secure-port=0"]);
        let manager = Service::start("kube-controller-manager", manager, &run.logs)?.with_farewell(Farewell::Kill);
        let scheduler = Service::start("kube-scheduler", scheduler, &run.logs)?.with_farewell(Farewell::Kill);
        self.processes.splice(0..0, [manager, scheduler]);
        Ok(())
    }

    /// Its processes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Service::id)
    }

    /// A kubeconfig for a component of Kubernetes, known by its user name alone.
    pub(crate) fn component_kubeconfig(&self, user: &str) -> anyhow::Result<PathBuf> {
        let file = user.replace(':', "-");
        let identity = self.authority.client(&file, user, None)?;
        self.authority.kubeconfig(&file, &self.server, &identity)
    }
}

/// A client of the API server a kubeconfig names.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("could not read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn readyz(kubeconfig: &Path) -> anyhow::Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    client(kubeconfig).await?.request_text(request).await?;
    Ok(())
}

/// Where etcd keeps its data; what lies there before a start is served.
pub(crate) fn etcd_data(run: &Run) -> PathBuf {
    run.scratch.join("etcd")
}

fn start_etcd(run: &Run, tools: &Toolbox, url: &str) -> anyhow::Result<Service> {
    let peer = format!("http://127.0.0.1:{}", process::free_port(Ipv4Addr::LOCALHOST.into())?);
    let mut command = process::command(tools.path(&tools::ETCD));
    command.arg("--data-dir").arg(etcd_data(run));
    command.arg(format!("--listen-client-urls={url}")).arg(format!("--advertise-client-urls={url}"));
    command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
    command.arg(format!("--initial-cluster=default={peer}"));
    // The data dies with the run: durability would only cost time.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok(Service::start("etcd", command, &run.logs)?.with_farewell(Farewell::Kill))
}

fn api_server_arguments(authority: &Authority, address: IpAddr, port: u16, etcd: &str) -> anyhow::Result<Vec<String>> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), API_SERVICE.to_string(), address.to_string()];
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    names.dedup();
    let serving = authority.server("apiserver", &names)?;
    let kubelet = authority.client("apiserver-kubelet", "apiserver", Some("system:masters"))?;
    authority.create_signing_key()?;
    let key = authority.signing_key();
    let mut arguments = vec![
        format!("--etcd-servers={etcd}"),
        format!("--bind-address={address}"),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", authority.certificate().with_file_name("unused").display()),
        format!("--tls-cert-file={}", serving.certificate.display()),
        format!("--tls-private-key-file={}", serving.key.display()),
        format!("--client-ca-file={}", authority.certificate().display()),
        format!("--kubelet-client-certificate={}", kubelet.certificate.display()),
        format!("--kubelet-client-key={}", kubelet.key.display()),
        format!("--kubelet-certificate-authority={}", authority.certificate().display()),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.with_extension("pub").display()),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    if address.is_loopback() {
        // Endpoints may not hold a loopback address; without pods nobody needs that service.
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    } else {
        arguments.push(format!("--advertise-address={address}"));
    }
    Ok(arguments)
}
