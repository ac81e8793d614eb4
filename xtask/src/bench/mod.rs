//! `cargo xtask bench`: the product beside its peers, in one run on one machine. `sync`: over the same records, with raw SQL;
//! this file is the order of its measurements, how each contender is run is its module's. `operator`: that module's.

mod chart;
mod database;
mod figures;
mod history;
mod operator;
mod page;
mod peers;
mod product;
mod raw;
mod report;
mod source;
mod usage;
mod venv;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use self::{
    database::Database,
    peers::Peer,
    product::{Product, Sync},
    report::Report,
    source::Source,
};
use crate::{
    console, debian,
    machine::Machine,
    process,
    run::Run,
    test_binaries,
    tools::{self, Toolbox},
};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Records a CPU-second from a HubSpot-like source into PostgreSQL, against dlt, a Singer chain and raw SQL.
    Sync(Options),
    /// A fleet of tenants and connectors on a real API server and Temporal, against its floor and a controller-runtime operator.
    Operator(operator::Options),
}

/// Options of `cargo xtask bench sync`.
#[derive(Args)]
pub(crate) struct Options {
    /// About how many contacts the source lists, at most 1,500,000.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_500_000))]
    records: u32,
    /// Measurements of each contender, interleaved; the table shows the medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// One measurement of 10,000 records with debug builds: whether it works, not how fast.
    #[arg(long, conflicts_with_all = ["records", "runs", "write_docs"])]
    quick: bool,
    /// Only gtm-sync and raw SQL, without the peers: for large numbers of records and for profiling.
    #[arg(long)]
    without_peers: bool,
    /// Write docs/benchmarks.md and its plots, or with --without-peers docs/benchmarks/large.md.
    #[arg(long)]
    write_docs: bool,
}

/// What one measurement cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Measure {
    /// Seconds on the clock.
    wall: f64,
    /// CPU-seconds of the client: worker, peer, or the loop that sends rows.
    cpu: f64,
    /// CPU-seconds of PostgreSQL.
    postgres_cpu: f64,
    /// CPU-seconds of Temporal.
    temporal_cpu: f64,
    /// CPU-seconds of the source.
    source_cpu: f64,
    /// Most resident memory of the client, in KiB.
    peak_kib: u64,
}

/// All measurements.
#[derive(Default)]
struct Measures {
    first: Vec<Sync>,
    again: Vec<Sync>,
    /// One list for each peer.
    peers: Vec<Vec<Measure>>,
    raw_first: Vec<Measure>,
    raw_again: Vec<Measure>,
}

/// Runs a benchmark.
///
/// # Errors
/// When a contender cannot be had or fails, or loses a record.
pub(crate) async fn run(machine: &Machine, yes: bool, command: &Command) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("CPU time and memory are read from /proc: the benchmark runs on Linux only");
    }
    match command {
        Command::Sync(options) => sync(machine, yes, options).await,
        Command::Operator(options) => operator::run(machine, yes, options).await,
    }
}

async fn sync(machine: &Machine, yes: bool, options: &Options) -> anyhow::Result<()> {
    let (records, runs) = if options.quick { (10_000, 1) } else { (options.records, options.runs) };
    debian::ensure(machine, yes, &[debian::POSTGRESQL]).await?;
    let tools = tools::ensure(machine, tools::SERVICES).await?;
    let peers =
        if options.without_peers { vec![] } else { vec![Peer::dlt(machine).await?, Peer::singer(machine).await?] };
    let programs = if options.quick { Programs::debug(machine).await? } else { Programs::release(machine).await? };
    let run = Run::start(machine, "bench")?;
    let mut stage = Stage::set(machine, &run, &tools, &programs, records).await?;
    let mut measures = Measures { peers: peers.iter().map(|_| vec![]).collect(), ..Measures::default() };
    for number in 1..=runs {
        let step = console::step(format!("measurement {number} of {runs}"));
        stage.measure(&run, &peers, &mut measures).await.with_context(|| format!("logs: {}", run.logs.display()))?;
        step.done("");
    }
    let report = Report::new(machine, options, &stage, &peers, &measures);
    console::line(report.text());
    if options.write_docs {
        report.write(&machine.repository)?;
    }
    Ok(())
}

/// The programs that are measured.
struct Programs {
    product: PathBuf,
    simulators: PathBuf,
}

impl Programs {
    async fn release(machine: &Machine) -> anyhow::Result<Self> {
        let step = console::step("building the product and the simulators for release (the first time takes minutes)");
        let mut cargo = process::command(machine.program("cargo").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&machine.repository).args(["build", "--release", "--quiet", "--workspace"]);
        cargo.args(["--bin", "gtm-sync", "--bin", "gtm-simulators"]);
        let status = process::stream(cargo, |_| {}).await?;
        ensure!(status.success(), "cargo build --release ended with {status}");
        step.done("");
        Ok(Self::in_directory(&machine.target.join("release")))
    }

    async fn debug(machine: &Machine) -> anyhow::Result<Self> {
        test_binaries::build_programs(machine).await?;
        Ok(Self::in_directory(&machine.target.join("debug")))
    }

    fn in_directory(directory: &Path) -> Self {
        Self { product: directory.join("gtm-sync"), simulators: directory.join("gtm-simulators") }
    }
}

/// What all contenders meet.
struct Stage {
    /// Load average before anything was started.
    load: String,
    source: Source,
    database: Database,
    product: Product,
}

impl Stage {
    async fn set(
        machine: &Machine,
        run: &Run,
        tools: &Toolbox,
        programs: &Programs,
        records: u32,
    ) -> anyhow::Result<Self> {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
        let step = console::step("starting PostgreSQL and the source, and rendering its pages");
        let database = Database::start(machine, run, Ipv4Addr::LOCALHOST.into()).await?;
        let source = Source::start(&programs.simulators, run, records).await?;
        step.done(format_args!("{} records, it serves {:.0} a second", source.records, source.records_per_second));
        let step = console::step("declaring a tenant and its connector, starting the worker");
        let product = Product::start(machine, run, tools, &programs.product, &database, &source).await?;
        step.done("");
        Ok(Self { load, source, database, product })
    }

    async fn measure(&mut self, run: &Run, peers: &[Peer], into: &mut Measures) -> anyhow::Result<()> {
        let (source, database) = (&self.source, &self.database);
        into.first.push(self.product.first(database, source).await?);
        into.again.push(self.product.again(database, source).await?);
        let rows = raw::Rows::read(database).await?;
        let [first, again] = rows.load(database).await.context("raw SQL")?;
        into.raw_first.push(first);
        into.raw_again.push(again);
        drop(rows);
        for (peer, measures) in peers.iter().zip(&mut into.peers) {
            let measure = peer.load(run, database, source).await.with_context(|| peer.name.to_owned())?;
            measures.push(measure);
        }
        Ok(())
    }
}
