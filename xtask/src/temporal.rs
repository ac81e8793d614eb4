//! Temporal's development server, in memory, with generous limits and, for the demo, its Web UI.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use crate::{
    process::{self, Service},
    run::Run,
    tools::{self, Toolbox},
};

const START: Duration = Duration::from_secs(60);
/// The port that the seed names for the Web UI.
const WEB_UI_PORT: u16 = 8233;
/// Limits of a shared server that would only slow tests down, and eager execution, which saves a round trip.
const DYNAMIC_CONFIG: [&str; 5] = [
    "frontend.namespaceRPS=20000",
    "frontend.namespaceRPS.visibility=2000",
    "frontend.namespaceCount=20000",
    "system.enableActivityEagerExecution=true",
    "worker.schedulerNamespaceStartWorkflowRPS=1000",
];

/// A running server; dropping it ends it.
pub(crate) struct Temporal {
    /// `host:port` of the frontend.
    pub(crate) address: String,
    /// URL of the Web UI, if it was asked for.
    pub(crate) web_ui: Option<String>,
    _server: Service,
}

impl Temporal {
    /// Starts a server on `address`; the Web UI listens on the loopback only.
    pub(crate) async fn start(run: &Run, tools: &Toolbox, address: IpAddr, web_ui: bool) -> anyhow::Result<Self> {
        let port = process::free_port(address)?;
        let program = tools.path(&tools::TEMPORAL);
        let mut command = process::command(program);
        command.args(["server", "start-dev", "--ip", &address.to_string(), "--port", &port.to_string()]);
        command.args(["--log-level", "warn", "--disable-config-file", "--disable-config-env"]);
        for value in DYNAMIC_CONFIG {
            command.args(["--dynamic-config-value", value]);
        }
        let web_ui =
            if web_ui { Some(process::free_port_preferring(Ipv4Addr::LOCALHOST.into(), WEB_UI_PORT)?) } else { None };
        match web_ui {
            Some(port) => command.args(["--ui-ip", "127.0.0.1", "--ui-port", &port.to_string()]),
            None => command.arg("--headless"),
        };
        let mut server = Service::start("temporal", command, &run.logs)?;
        let address = format!("{address}:{port}");
        process::ready(&mut server, START, || healthy(program, &address)).await?;
        let web_ui = web_ui.map(|it| format!("http://localhost:{it}"));
        Ok(Self { address, web_ui, _server: server })
    }
}

async fn healthy(program: &Path, address: &str) -> anyhow::Result<()> {
    tokio::net::TcpStream::connect(address).await?;
    let mut command = process::command(program);
    command.args(["operator", "namespace", "describe", "--namespace", "default", "--address", address]);
    process::capture(command).await?;
    Ok(())
}
