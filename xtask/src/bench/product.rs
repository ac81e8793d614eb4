//! gtm-sync in the benchmark: declared as users do it, by an operator and custom resources, then measured with nothing up
//! but the worker, Temporal, the store and the source. Every sync is a workflow started through Temporal.

use std::{net::Ipv4Addr, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Measure, database::Database, history::History, source::Source, usage};
use crate::{
    certs::write_private,
    control_plane::ControlPlane,
    machine::Machine,
    process::{self, Service},
    run::Run,
    temporal::Temporal,
    tools::{self, Toolbox},
};

const CONNECTED: &str = "--timeout=180s";
/// Live rows of the benchmark's connector.
const LIVE: &str = "SELECT count(*) FROM gtm.contact WHERE deleted_at IS NULL";
/// Makes the next sync a first load.
const EMPTY: &str = "TRUNCATE gtm.contact";

/// The product at work.
pub(super) struct Product {
    pub(super) temporal: Temporal,
    temporal_cli: std::path::PathBuf,
    worker: Service,
    /// Resident memory of the worker before its first sync, in KiB.
    pub(super) idle_kib: u64,
    syncs: u32,
}

/// One sync.
#[derive(Debug, Clone)]
pub(super) struct Sync {
    /// What it cost.
    pub(super) measure: Measure,
    /// Rows it wrote.
    pub(super) written: u64,
    /// What Temporal recorded.
    pub(super) history: History,
}

impl Product {
    /// Declares one tenant with one connector, waits until it is connected, and ends what is only needed for that.
    pub(super) async fn start(
        machine: &Machine,
        run: &Run,
        tools: &Toolbox,
        program: &Path,
        database: &Database,
        source: &Source,
    ) -> anyhow::Result<Self> {
        let host = Ipv4Addr::LOCALHOST.into();
        let (control_plane, temporal) =
            tokio::try_join!(ControlPlane::start(run, tools, host), Temporal::start(run, tools, host, false))?;
        let product = |name: &str| {
            let mut command = process::command(program);
            command.arg(name).env("GTM_DATABASE_URL", &database.url).env("TEMPORAL_ADDRESS", &temporal.address);
            command
        };
        process::capture(product("migrate")).await.context("could not make the store's tables")?;
        let mut keygen = process::command(program);
        keygen.arg("keygen");
        let identity = process::capture(keygen).await?;
        let recipient =
            identity.lines().find_map(|it| it.strip_prefix("# public key: ")).context("keygen told no key")?;
        let identity_file = run.scratch.join("identity");
        write_private(&identity_file, &identity)?;
        let health = || process::free_port(host).map(|port| format!("127.0.0.1:{port}"));

        let mut worker = product("worker");
        worker.env("GTM_IDENTITY_FILE", &identity_file).env("GTM_ALLOWED_PRIVATE_HOSTS", "127.0.0.1");
        let worker = Service::start("worker", with(worker, "GTM_HEALTH_ADDRESS", health()?), &run.logs)?;
        let mut operator = product("operator");
        operator.env("KUBECONFIG", &control_plane.kubeconfig).env("GTM_NO_LEADER_ELECTION", "true");
        operator.env("GTM_RECIPIENT", recipient);
        let kubectl = |arguments: &[&str]| {
            let mut command = process::command(tools.path(&tools::KUBECTL));
            command.current_dir(&machine.repository).env("KUBECONFIG", &control_plane.kubeconfig).args(arguments);
            command
        };
        process::capture(kubectl(&["apply", "--server-side", "--kustomize", "crds"])).await?;
        process::capture(kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])).await?;
        let operator = Service::start("operator", with(operator, "GTM_HEALTH_ADDRESS", health()?), &run.logs)?;
        process::capture_with_input(kubectl(&["apply", "--server-side", "--filename", "-"]), &objects(source)).await?;
        let connected = ["--namespace", "bench", "wait", "--for=condition=Connected", "connector/hubspot", CONNECTED];
        process::capture(kubectl(&connected)).await.context("the connector was not connected in time")?;
        drop((operator, control_plane));
        let idle_kib = usage::resident_kib(worker.id());
        let temporal_cli = tools.path(&tools::TEMPORAL).to_owned();
        Ok(Self { temporal, temporal_cli, worker, idle_kib, syncs: 0 })
    }

    /// A full sync into an empty table.
    pub(super) async fn first(&mut self, database: &Database, source: &Source) -> anyhow::Result<Sync> {
        database.clean(EMPTY).await?;
        let sync = self.sync(database, source).await?;
        let landed = database.number(LIVE).await?;
        ensure!(landed == source.records, "{landed} of {} records landed", source.records);
        Ok(sync)
    }

    /// A full sync over rows that are all there already.
    pub(super) async fn again(&mut self, database: &Database, source: &Source) -> anyhow::Result<Sync> {
        database.clean("SELECT 1").await?;
        let sync = self.sync(database, source).await?;
        ensure!(sync.written == 0, "{} unchanged rows were written", sync.written);
        Ok(sync)
    }

    async fn sync(&mut self, database: &Database, source: &Source) -> anyhow::Result<Sync> {
        self.syncs += 1;
        let id = format!("bench-{}", self.syncs);
        let input = json!({"tenantId": "bench", "connectorId": "hubspot", "fullSync": true}).to_string();
        usage::forget_peak(self.worker.id());
        let cpu = || {
            let worker = usage::of_process(self.worker.id());
            [
                worker,
                usage::of_process(self.temporal.id()),
                usage::of_family(database.id()),
                usage::of_process(source.id()),
            ]
        };
        let (start, before) = (Instant::now(), cpu());
        let start_it = ["workflow", "start", "--task-queue", "connector-sync", "--type", "connectorSyncWorkflow"];
        process::capture(self.cli(&start_it, &id, &["--input", &input])).await.context("could not start the sync")?;
        let result = process::capture(self.cli(&["workflow", "result"], &id, &[])).await.context("the sync failed")?;
        let (wall, after) = (start.elapsed(), cpu());
        let result: Value = serde_json::from_str(&result).context("the sync's result is no JSON")?;
        let result = result.get("result").unwrap_or(&result);
        ensure!(result["outcome"] == "complete", "the sync ended as {result}");
        let [cpu, temporal_cpu, postgres_cpu, source_cpu] =
            std::array::from_fn(|it| (after[it].saturating_sub(before[it])).as_secs_f64());
        let history = History::read(|arguments| self.cli(&["workflow", "show"], &id, arguments)).await?;
        Ok(Sync {
            measure: Measure {
                wall: wall.as_secs_f64(),
                cpu,
                temporal_cpu,
                postgres_cpu,
                source_cpu,
                peak_kib: usage::peak_kib(self.worker.id()),
            },
            written: result["stats"]["recordsWritten"].as_u64().context("the result holds no counts")?,
            history,
        })
    }

    fn cli(&self, command: &[&str], id: &str, arguments: &[&str]) -> Command {
        let mut cli = process::command(&self.temporal_cli);
        cli.args(command).args(["--workflow-id", id, "--address", &self.temporal.address, "--output", "json"]);
        cli.args(arguments);
        cli
    }
}

fn with(mut command: Command, name: &str, value: String) -> Command {
    command.env(name, value);
    command
}

/// One tenant that never ticks by itself, and its connector. The limit of requests is above what any contender reaches.
fn objects(source: &Source) -> String {
    let (url, token) = (&source.url, &source.token);
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: bench
---
apiVersion: sync.gtmclarity.io/v1alpha1
kind: TenantSchedule
metadata:
  name: bench
  namespace: bench
spec:
  tenantId: bench
  schedules: [\"0 0 1 1 *\"]
---
apiVersion: v1
kind: Secret
metadata:
  name: hubspot
  namespace: bench
stringData:
  accessToken: {token}
---
apiVersion: sync.gtmclarity.io/v1alpha1
kind: Connector
metadata:
  name: hubspot
  namespace: bench
spec:
  tenantId: bench
  source:
    type: HubSpot
    hubspot:
      baseUrl: {url}
  credentials:
    secretRef:
      name: hubspot
  streams:
    - name: contacts
  limits:
    requestsPerSecond: 1000
    quotaReservePercent: 0
"
    )
}
