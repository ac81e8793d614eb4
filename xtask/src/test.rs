//! `cargo xtask test`: every layer of tests with the services it needs. Layers go on after a failed one, so that one run
//! shows everything; how results are counted and told is `test_report`'s.

use std::{future::Future, process::Command};

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use tokio::time::Instant;

use crate::{
    backends::Backends,
    cluster::{self, Cluster},
    console,
    debian::{self, Package},
    image,
    machine::Machine,
    process, python,
    run::Run,
    services::{self, Services},
    test_binaries::{self, TestBinary},
    test_report::{Counts, Outcome, Report},
    tools::{self, Toolbox},
};

/// Module of the fault tests in the binary `it`.
const FAULTS: &str = "faults::";
/// Fault tests that only `cargo xtask faults` runs.
const LONG_FAULTS: &str = "faults::long::";
/// Most of a fault test is waiting for the 30 s after which a lost worker is noticed.
const FAULT_THREADS: &str = "4";

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these layers.
    #[arg(long, value_enum)]
    only: Vec<Layer>,
    /// Fail when a layer cannot run, as CI does.
    #[arg(long)]
    all: bool,
    /// Leave the services up after the tests, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Arguments for every test binary, e.g. a part of the tests' names.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// A layer of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Formatting and lints.
    Style,
    /// Tests inside the crates; no service.
    Unit,
    /// The stand-ins for the vendors' clouds, against the vendors' own clients.
    Simulators,
    /// Stores, workflows, CRDs and operator on real PostgreSQL, Temporal and kube-apiserver.
    It,
    /// Processes killed, frozen and cut off; answers lost and broken. Ten connectors' lives under random kills.
    Faults,
    /// Real pods; needs root on Linux.
    Cluster,
}

/// Runs the layers and closes with the table of times and counts.
///
/// # Errors
/// When a test fails, or a layer cannot run and all are demanded.
pub(crate) async fn run(machine: &Machine, yes: bool, options: &Options) -> anyhow::Result<()> {
    let session = Session { machine, options, report: std::cell::RefCell::default() };
    session.all_layers(yes).await?;
    if session.report.borrow().close(options.all || machine.ci) { Ok(()) } else { bail!("not all is well") }
}

struct Session<'a> {
    machine: &'a Machine,
    options: &'a Options,
    report: std::cell::RefCell<Report>,
}

impl Session<'_> {
    fn wants(&self, layer: Layer) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&layer)
    }

    async fn all_layers(&self, yes: bool) -> anyhow::Result<()> {
        // All questions come first; what is refused or fails is told by the layers that need it.
        let python = self.packages(yes, &[Layer::Simulators, Layer::It], &debian::PYTHON).await;
        let database = self.packages(yes, &[Layer::It, Layer::Faults, Layer::Cluster], &[debian::POSTGRESQL]).await;
        let node = match cluster::possible(self.machine) {
            Ok(()) => self.packages(yes, &[Layer::Cluster], &debian::NODE).await,
            Err(obstacle) => Err(obstacle),
        };
        // Go and Rust builds share the cores; tests without services run meanwhile.
        let wants_services = [Layer::It, Layer::Faults, Layer::Cluster].into_iter().any(|it| self.wants(it));
        let (tools, binaries) = tokio::join!(self.tools(wants_services), self.layers_without_services(python));
        let Some(binaries) = binaries else { return Ok(()) };
        let tools = database.and(tools);
        if self.wants(Layer::It) {
            self.not_run_on_error("it", self.it(&tools, &binaries)).await;
        }
        if self.wants(Layer::Faults) && !self.fault_filter().is_empty() {
            self.not_run_on_error("faults", self.faults(&tools, &binaries)).await;
        }
        if self.wants(Layer::Cluster) {
            let layer = async {
                node?;
                self.cluster(&tools, &binaries).await
            };
            self.not_run_on_error("cluster", layer).await;
        }
        Ok(())
    }

    async fn packages(&self, yes: bool, layers: &[Layer], packages: &[Package]) -> anyhow::Result<()> {
        if layers.iter().any(|it| self.wants(*it)) { debian::ensure(self.machine, yes, packages).await } else { Ok(()) }
    }

    async fn tools(&self, wanted: bool) -> anyhow::Result<Toolbox> {
        if !wanted {
            return Ok(Toolbox::default());
        }
        let start = Instant::now();
        let mut needed = tools::SERVICES.to_vec();
        if self.wants(Layer::It) {
            needed.push(&tools::LUA);
        }
        if self.wants(Layer::Cluster) && cluster::possible(self.machine).is_ok() {
            needed.extend(tools::NODE);
        }
        let tools = tools::ensure(self.machine, &needed).await;
        self.add("tools, beside the rest", start, Outcome::Done(Counts::default()));
        tools
    }

    /// Style, unit and simulators; gives the test binaries for the layers that follow, when they could be built.
    async fn layers_without_services(&self, python: anyhow::Result<()>) -> Option<Vec<TestBinary>> {
        if self.wants(Layer::Style) {
            self.cargo("formatting", &["fmt", "--all", "--check"]).await;
            self.cargo("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]).await;
        }
        if self.options.only == [Layer::Style] {
            return None;
        }
        let binaries = self.build().await?;
        if self.wants(Layer::Unit) {
            self.tests("unit", binaries.iter().filter(|it| it.is_unit()), &[], &[]).await;
        }
        if self.wants(Layer::Simulators) {
            self.simulators(python, &binaries).await;
        }
        Some(binaries)
    }

    async fn build(&self) -> Option<Vec<TestBinary>> {
        console::line("\n== build of programs and tests");
        let start = Instant::now();
        let built = test_binaries::build(self.machine).await;
        let outcome = if built.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.add("build of programs and tests", start, outcome(Counts::default()));
        built.inspect_err(|error| console::line(format_args!("{error:#}"))).ok()
    }

    async fn simulators(&self, packages: anyhow::Result<()>, binaries: &[TestBinary]) {
        let selected = || binaries.iter().filter(|it| it.is_of_simulators());
        match async {
            packages?;
            python::ensure(self.machine).await
        }
        .await
        {
            Ok(python) => {
                let variables = [("GTM_TEST_PYTHON", python.display().to_string())];
                self.tests("simulators", selected(), &["--include-ignored"], &variables).await;
            }
            Err(error) => {
                self.tests("simulators", selected(), &[], &[]).await;
                self.add("simulators, vendor's client", Instant::now(), Outcome::NotRun(format!("{error:#}")));
            }
        }
    }

    /// A layer whose services cannot be started is told as such, not as a failed test.
    async fn not_run_on_error(&self, name: &str, layer: impl Future<Output = anyhow::Result<()>>) {
        let start = Instant::now();
        if let Err(error) = layer.await {
            self.add(name, start, Outcome::NotRun(format!("{error:#}")));
        }
    }

    async fn it(&self, tools: &anyhow::Result<Toolbox>, binaries: &[TestBinary]) -> anyhow::Result<()> {
        let tools = tools.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let start = Instant::now();
        let python = python::ensure(self.machine).await?;
        let run = Run::start(self.machine, "test")?;
        let services = Services::start(self.machine, &run, tools).await?;
        self.add("it: services", start, Outcome::Done(Counts::default()));
        let mut variables = services.variables();
        variables.extend(services::tool_variables(self.machine, tools, Some(&python)));
        let selected = binaries.iter().filter(|it| it.is_integration(&self.machine.repository, "it"));
        let harness = ["--include-ignored", "--skip", FAULTS];
        self.tests("it", selected, &harness, &variables).await;
        if self.options.keep && !self.wants(Layer::Cluster) {
            services::announce_and_wait(self.machine, &run, &variables).await?;
        }
        Ok(())
    }

    /// The parts of the fault tests that are wanted: a filter that names none of them means other layers.
    fn fault_filter(&self) -> Vec<&str> {
        let named = self.options.filter.iter().map(String::as_str).filter(|it| it.starts_with(FAULTS));
        if self.options.filter.is_empty() { vec![FAULTS] } else { named.collect() }
    }

    /// Apart from `it`: what is killed at a random moment should be at work then, not waiting for a core.
    async fn faults(&self, tools: &anyhow::Result<Toolbox>, binaries: &[TestBinary]) -> anyhow::Result<()> {
        let tools = tools.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let run = Run::start(self.machine, "faults")?;
        let backends = Backends::start(self.machine, &run, tools).await?;
        let variables = backends.variables(self.machine, tools);
        let mut harness = vec!["--include-ignored", "--skip", LONG_FAULTS, "--test-threads", FAULT_THREADS];
        harness.extend(self.fault_filter());
        let selected = binaries.iter().filter(|it| it.is_integration(&self.machine.repository, "it"));
        self.tests_named("faults", selected, &harness, &variables).await;
        Ok(())
    }

    async fn cluster(&self, tools: &anyhow::Result<Toolbox>, binaries: &[TestBinary]) -> anyhow::Result<()> {
        let tools = tools.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let start = Instant::now();
        let run = Run::start(self.machine, "cluster")?;
        let cluster = Cluster::start(self.machine, &run, tools, false).await?;
        let archive = image::product(self.machine, &run.directory).await?;
        cluster.import(&archive).await?;
        self.add("cluster: services and image", start, Outcome::Done(Counts::default()));
        let mut variables = cluster.variables();
        variables.push(("GTM_TEST_IMAGE", image::PRODUCT.to_owned()));
        variables.extend(services::tool_variables(self.machine, tools, None));
        let selected = binaries.iter().filter(|it| it.is_integration(&self.machine.repository, "cluster"));
        self.tests("cluster", selected, &["--include-ignored"], &variables).await;
        if self.options.keep {
            services::announce_and_wait(self.machine, &run, &variables).await?;
        }
        Ok(())
    }

    /// Runs test binaries one after the other as one phase, those of their tests that the user wants.
    async fn tests<'b>(
        &self,
        name: &str,
        binaries: impl Iterator<Item = &'b TestBinary>,
        harness: &[&str],
        variables: &[(&str, String)],
    ) {
        let filter = self.options.filter.iter().map(String::as_str);
        let arguments: Vec<_> = harness.iter().copied().chain(filter).collect();
        self.tests_named(name, binaries, &arguments, variables).await;
    }

    async fn tests_named<'b>(
        &self,
        name: &str,
        binaries: impl Iterator<Item = &'b TestBinary>,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) {
        let start = Instant::now();
        let mut counts = Counts::default();
        let mut good = true;
        for binary in binaries {
            console::line(format_args!("\n== {name}: {}", binary.name));
            let mut command = process::command(&binary.program);
            command.current_dir(&binary.package).env("CARGO_MANIFEST_DIR", &binary.package);
            command.args(arguments);
            command.envs(variables.iter().map(|(name, value)| (name, value)));
            good &= run_counted(command, &mut counts).await;
        }
        self.add(name, start, if good { Outcome::Done(counts) } else { Outcome::Failed(counts) });
    }

    async fn cargo(&self, name: &str, arguments: &[&str]) {
        console::line(format_args!("\n== {name}"));
        let start = Instant::now();
        let mut command = process::command(self.machine.program("cargo").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.machine.repository).args(arguments);
        let good = run_counted(command, &mut Counts::default()).await;
        let outcome = if good { Outcome::Done } else { Outcome::Failed };
        self.add(name, start, outcome(Counts::default()));
    }

    fn add(&self, name: &str, start: Instant, outcome: Outcome) {
        if let Outcome::NotRun(why) = &outcome {
            console::line(format_args!("not run: {name}: {why}"));
        }
        self.report.borrow_mut().add(name, start.elapsed(), outcome);
    }
}

/// Runs a command, shows and counts what it prints, and tells whether it ended well.
async fn run_counted(command: Command, counts: &mut Counts) -> bool {
    let status = process::stream(command, |line| {
        counts.read(line);
        console::line(line);
    });
    match status.await {
        Ok(status) => status.success(),
        Err(error) => {
            console::line(format_args!("{error:#}"));
            false
        }
    }
}
