//! A whole cluster on this machine: node with pods, control plane, Temporal and PostgreSQL, all reachable from pods
//! under one address. `cargo xtask demo` and the cluster layer of the tests stand on it.

use std::{net::Ipv4Addr, path::Path};

use anyhow::ensure;

use crate::{
    console,
    control_plane::ControlPlane,
    machine::Machine,
    namespaces::Namespaces,
    network::Network,
    node::{Node, Parts},
    postgres::Postgres,
    run::Run,
    temporal::Temporal,
    tools::Toolbox,
};

/// A running cluster. Fields are dropped in this order: pods before servers, the namespaces after what lives in them.
pub(crate) struct Cluster {
    node: Node,
    namespaces: Namespaces,
    network: Network,
    /// API server, controllers, scheduler.
    pub(crate) control_plane: ControlPlane,
    /// Temporal server.
    pub(crate) temporal: Temporal,
    /// Database server.
    pub(crate) postgres: Postgres,
}

/// Whether there can be pods on this machine.
///
/// # Errors
/// The reason why not.
pub(crate) fn possible(machine: &Machine) -> anyhow::Result<()> {
    ensure!(machine.root, "pods need root on Linux");
    Ok(())
}

impl Cluster {
    /// Starts everything; servers first and at once, then the node.
    pub(crate) async fn start(machine: &Machine, run: &Run, tools: &Toolbox, web_ui: bool) -> anyhow::Result<Self> {
        possible(machine)?;
        let step = console::step("starting kube-apiserver, Temporal and PostgreSQL");
        let namespaces = Namespaces::create(machine, run).await?;
        let network = Network::create(machine, run, &namespaces).await?;
        let gateway = network.gateway().into();
        let (mut control_plane, temporal, postgres) = tokio::try_join!(
            ControlPlane::start(run, tools, gateway),
            Temporal::start(run, tools, gateway, web_ui),
            Postgres::start(machine, run, gateway),
        )?;
        control_plane.start_controllers(run, tools, &network.pods())?;
        step.done(format_args!("on {gateway}"));
        let step = console::step("starting a node that runs pods");
        let parts = Parts { machine, run, tools, namespaces: &namespaces, network };
        let node = Node::start(&parts, &control_plane).await?;
        step.done("");
        Ok(Self { node, namespaces, network, control_plane, temporal, postgres })
    }

    /// The machine's address that pods reach.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.network.gateway()
    }

    /// Variables by which tests find the cluster; names as in tests/support.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GTM_TEST_CLUSTER_KUBECONFIG", self.control_plane.kubeconfig.display().to_string()),
            ("GTM_TEST_KUBECONFIG", self.control_plane.kubeconfig.display().to_string()),
            ("GTM_TEST_NODE_HOST", self.gateway().to_string()),
            ("GTM_TEST_TEMPORAL_ADDRESS", self.temporal.address.clone()),
            ("GTM_TEST_POSTGRES_URL", self.postgres.url("postgres")),
        ]
    }

    /// Gives the node an image archive.
    pub(crate) async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        self.node.import(&self.namespaces, archive).await
    }
}
