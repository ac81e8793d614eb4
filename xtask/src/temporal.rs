//! Temporal's development server, in memory, with generous limits and, for the demo, its Web UI.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use crate::{
    forward::Forward,
    process::{self, Farewell, Service},
    run::Run,
    tools::{self, Toolbox},
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
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
    /// Where the server counts its requests.
    pub(crate) metrics: SocketAddr,
    _forward: Option<Forward>,
    server: Service,
}

impl Temporal {
    /// Starts a server that answers on `address`; the Web UI listens on the loopback only.
    pub(crate) async fn start(run: &Run, tools: &Toolbox, address: IpAddr, web_ui: bool) -> anyhow::Result<Self> {
        let program = tools.path(&tools::TEMPORAL);
        let preferred = if web_ui { Some(process::free_port_preferring(LOOPBACK, WEB_UI_PORT)?) } else { None };
        let metrics = SocketAddr::new(LOOPBACK, process::free_port(LOOPBACK)?);
        let (server, listens, web_ui) = match Self::serve(run, program, metrics, preferred).await {
            // Another run may have taken the port that everybody prefers in the meantime.
            Err(_) if preferred == Some(WEB_UI_PORT) => {
                Self::serve(run, program, metrics, Some(process::free_port(LOOPBACK)?)).await?
            }
            served => served?,
        };
        let answers = SocketAddr::new(address, listens.port());
        let forward = if address.is_loopback() { None } else { Some(Forward::start(answers, listens).await?) };
        let web_ui = web_ui.map(|it| format!("http://localhost:{it}"));
        Ok(Self { address: answers.to_string(), web_ui, metrics, _forward: forward, server })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }

    async fn serve(
        run: &Run,
        program: &Path,
        metrics: SocketAddr,
        web_ui: Option<u16>,
    ) -> anyhow::Result<(Service, SocketAddr, Option<u16>)> {
        let listens = SocketAddr::new(LOOPBACK, process::free_port(LOOPBACK)?);
        let mut command = process::command(program);
        command.args(["server", "start-dev", "--ip", &LOOPBACK.to_string(), "--port", &listens.port().to_string()]);
        command.args(["--log-level", "warn", "--disable-config-file", "--disable-config-env"]);
        command.args(["--metrics-port", &metrics.port().to_string()]);
        for value in DYNAMIC_CONFIG {
            command.args(["--dynamic-config-value", value]);
        }
        match web_ui {
            Some(port) => command.args(["--ui-port", &port.to_string()]),
            None => command.arg("--headless"),
        };
        let mut server = Service::start("temporal", command, &run.logs)?.with_farewell(Farewell::Kill);
        process::ready(&mut server, START, || healthy(program, listens)).await?;
        Ok((server, listens, web_ui))
    }
}

async fn healthy(program: &Path, address: SocketAddr) -> anyhow::Result<()> {
    tokio::net::TcpStream::connect(address).await?;
    let mut command = process::command(program);
    command.args(["operator", "namespace", "describe", "--namespace", "default"]);
    command.arg("--address").arg(address.to_string());
    process::capture(command).await?;
    Ok(())
}
