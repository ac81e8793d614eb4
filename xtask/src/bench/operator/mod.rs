//! `cargo xtask bench operator`: a fleet declared at once on a real API server and a real Temporal, met by the product, by an
//! operator of the same shape on controller-runtime, and by a client that only writes. This file is the order of the
//! measurements; one that fails is told as such and the others go on.

mod contender;
mod exposition;
mod findings;
mod page;
mod phases;
mod report;
mod stage;
mod staleness;
mod tick;
mod watched;
mod workers;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::time::{Instant, sleep};

use self::{
    contender::{CONCURRENCY, Contender, Operators},
    findings::{Connected, Findings, Measured, Syncing},
    report::Report,
    stage::Stage,
    staleness::Staleness,
};
use super::Programs;
use crate::{
    console,
    control_plane::ControlPlane,
    debian,
    machine::Machine,
    process,
    run::Run,
    tools::{self, Toolbox},
};

/// After this a commit that is not shown never will be.
const SHOWN: Duration = Duration::from_secs(30);
/// Before the idle time: the last edits are told, and the store is read back that far for late commits.
const SETTLED: Duration = Duration::from_secs(65);
/// Peers are shown idle for this long.
const PEERS_IDLE_SECONDS: u64 = 30;

/// A run that took so long already does not measure the floor twice.
const LONG: Duration = Duration::from_secs(21 * 60);

/// Options of `cargo xtask bench operator`.
#[derive(Args)]
pub(crate) struct Options {
    /// TenantSchedules, each in a namespace of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    tenants: u32,
    /// Connectors, shared out evenly among the tenants.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    connectors: u32,
    /// Syncs at work at once while the age of statuses is measured; not more than Connectors.
    #[arg(long, default_value_t = 1_000)]
    syncs: u32,
    /// Seconds in which nothing happens; the writes are told for ten minutes.
    #[arg(long, default_value_t = 90)]
    idle_seconds: u64,
    /// 10 tenants and 100 connectors with a debug build: whether it works, not how fast.
    #[arg(long, conflicts_with_all = ["tenants", "connectors", "syncs", "write_docs"])]
    quick: bool,
    /// Only the floor and gtm-sync.
    #[arg(long)]
    without_peers: bool,
    /// Write docs/benchmarks/operator.md, its figures as JSON, its plots, and its part of docs/benchmarks.md.
    #[arg(long)]
    write_docs: bool,
}

/// How large the fleet is.
#[derive(Debug, Clone, Copy)]
struct Size {
    tenants: usize,
    connectors: usize,
    syncs: usize,
}

impl Options {
    fn size(&self) -> Size {
        let of = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (tenants, connectors) = if self.quick { (10, 100) } else { (of(self.tenants), of(self.connectors)) };
        Size { tenants, connectors, syncs: of(self.syncs).min(connectors) }
    }
}

/// What every measurement needs.
struct Bench<'a> {
    machine: &'a Machine,
    run: &'a Run,
    tools: &'a Toolbox,
    product: PathBuf,
    /// The Go program that declares, writes, watches, and is the peer.
    driver: PathBuf,
    size: Size,
    /// How long a contender may take for the whole fleet; a hung one must not hang the benchmark.
    patience: Duration,
}

impl Bench<'_> {
    /// A command of the driver's against a cluster.
    fn driver(&self, name: &str, control_plane: &ControlPlane) -> Command {
        let mut command = process::command(&self.driver);
        command.arg(name).arg("--kubeconfig").arg(&control_plane.kubeconfig);
        command.args(["--tenants", &self.size.tenants.to_string(), "--connectors", &self.size.connectors.to_string()]);
        command.args(["--concurrency", &CONCURRENCY.to_string()]);
        command
    }
}

/// Runs the benchmark.
///
/// # Errors
/// When the fleet cannot be declared or a report not be written; a contender that fails is in the report.
pub(super) async fn run(machine: &Machine, yes: bool, options: &Options) -> anyhow::Result<()> {
    debian::ensure(machine, yes, &[debian::POSTGRESQL]).await?;
    let tools = tools::ensure(machine, tools::SERVICES).await?;
    let driver = tools::build_own(machine, &tools::OPERATOR_PEER).await?;
    let programs = if options.quick { Programs::debug(machine).await? } else { Programs::release(machine).await? };
    let run = Run::start(machine, "bench")?;
    let size = options.size();
    // Thirty objects a second: a fast contender manages five times as many.
    let patience = Duration::from_secs(60 + u64::try_from(size.objects() / 30)?);
    let bench = Bench { machine, run: &run, tools: &tools, product: programs.product, driver, size, patience };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let step = console::step(format!("declaring {} tenants and {} connectors", size.tenants, size.connectors));
    stage::declare(&bench).await.with_context(|| format!("logs: {}", run.logs.display()))?;
    step.done("");
    let findings = measure(&bench, options).await;
    let report = Report::new(machine, options, size, &load, &findings);
    console::line(report.text());
    report.keep(&run.directory.join("logs/operator.json"))?;
    if options.write_docs {
        report.write(&machine.repository)?;
    }
    Ok(())
}

/// All contenders, the floor before them and, where time is left, once more after them.
async fn measure(bench: &Bench<'_>, options: &Options) -> Findings {
    let start = Instant::now();
    let mut findings = Findings::default();
    findings.floor.push(floor(bench).await);
    findings.contenders.push(contend(bench, Contender::Product, options.idle_seconds).await);
    if !options.without_peers {
        for tuned in [true, false] {
            findings.contenders.push(contend(bench, Contender::Peer { tuned }, PEERS_IDLE_SECONDS).await);
        }
    }
    if start.elapsed() < LONG {
        findings.floor.push(floor(bench).await);
    }
    findings
}

/// Seconds that the API server takes at least.
async fn floor(bench: &Bench<'_>) -> Result<f64, String> {
    let step = console::step("the API server's own floor");
    let measured = async {
        let stage = Stage::set(bench).await?;
        let told = process::capture(bench.driver("floor", &stage.control_plane)).await?;
        told.trim().parse::<f64>().context("the floor is no number")
    };
    match measured.await {
        Ok(seconds) => {
            step.done(format_args!("{seconds:.1} s"));
            Ok(seconds)
        }
        Err(error) => {
            console::line(format_args!("  ...  the floor failed: {error:#}"));
            Err(format!("{error:#}"))
        }
    }
}

/// All phases of one contender; what failed ends it, what was found before stays.
async fn contend(bench: &Bench<'_>, contender: Contender, idle_seconds: u64) -> Measured {
    let mut measured = Measured::of(contender);
    let step = console::step(contender.name());
    match phases_of(bench, contender, idle_seconds, &mut measured).await {
        Ok(()) => step.done(""),
        Err(error) => {
            let logs = bench.run.logs.display();
            console::line(format_args!("  ...  {} failed: {error:#}; logs: {logs}", contender.name()));
            measured.failure = Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
        }
    }
    measured
}

async fn phases_of(
    bench: &Bench<'_>,
    contender: Contender,
    idle_seconds: u64,
    into: &mut Measured,
) -> anyhow::Result<()> {
    let mut stage = Stage::set(bench).await?;
    let operators = Operators::new(bench, contender).await?;
    let (cold, mut running) = phases::cold(bench, &mut stage, &operators).await?;
    said(format_args!("all Ready in {:.1} s", cold.seconds));
    into.cold = Some(cold);
    if let Some(database) = &operators.database {
        let connected = connect(bench, &mut stage, &database.connect().await?).await?;
        said(format_args!("all shown connected in {:.1} s", connected.seconds));
        into.connected = Some(connected);
    }
    into.rest_seconds = Some(phases::rest(&stage).await?);
    let (restart, again) = phases::restart(bench, &mut stage, &operators, running).await?;
    said(format_args!("restart: all looked at in {:.1} s, {} writes", restart.seconds, restart.tally.all_written()));
    into.restart = Some(restart);
    running = again;
    into.edits = Some(phases::edits(bench, &mut stage).await?);
    if let Some(database) = &operators.database {
        // Edits made some connections pending again.
        workers::connect_all(&database.connect().await?).await?;
        said(format_args!("settling for {} s", SETTLED.as_secs()));
        sleep(SETTLED).await;
    }
    into.idle = Some(phases::idle(&stage, &mut running, idle_seconds).await?);
    if let Some(database) = &operators.database {
        let mut store = database.connect().await?;
        into.syncing = Some(syncing(bench, &mut stage, &mut store).await?);
        running.check()?;
        let step = console::step("a tick of all tenants");
        into.tick = Some(tick::measure(bench, &mut stage).await?);
        step.done("");
    }
    Ok(())
}

fn said(text: impl std::fmt::Display) {
    console::line(format_args!("  ...  {text}"));
}

/// Every connection is found to be good at once; until a watch shows all of them.
async fn connect(bench: &Bench<'_>, stage: &mut Stage, store: &tokio_postgres::Client) -> anyhow::Result<Connected> {
    let (before, start) = (stage.tally().await?, Instant::now());
    workers::connect_all(store).await?;
    stage.watched.connected(bench.size.connectors, bench.patience).await?;
    Ok(Connected { seconds: start.elapsed().as_secs_f64(), tally: stage.tally().await?.since(&before) })
}

/// Many syncs at work: how old statuses become, and what that costs.
async fn syncing(bench: &Bench<'_>, stage: &mut Stage, store: &mut tokio_postgres::Client) -> anyhow::Result<Syncing> {
    let step = console::step(format!("{} syncs at work", bench.size.syncs));
    stage.watched.news()?;
    let (before, start) = (stage.tally().await?, Instant::now());
    let committed = workers::sync(store, bench.size.syncs, Syncing::LASTS).await?;
    let (tally, seconds) = (stage.tally().await?.since(&before), start.elapsed().as_secs_f64());
    sleep(SHOWN).await;
    let staleness = Staleness::of(&committed, &stage.watched.news()?);
    workers::end(store).await?;
    step.done("");
    Ok(Syncing { staleness, tally, seconds })
}
