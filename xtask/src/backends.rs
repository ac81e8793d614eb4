//! Temporal and PostgreSQL alone: what the tests of faults and the recorder of histories stand on. No API server.

use std::net::Ipv4Addr;

use anyhow::Context as _;

use crate::{
    console, debian,
    machine::Machine,
    postgres::Postgres,
    process,
    run::Run,
    services,
    temporal::Temporal,
    test_binaries::{self, TestBinary},
    tools::{self, Toolbox},
};

/// Both servers, running; dropping them ends them.
pub(crate) struct Backends {
    temporal: Temporal,
    postgres: Postgres,
}

impl Backends {
    /// Starts both at once.
    pub(crate) async fn start(machine: &Machine, run: &Run, tools: &Toolbox) -> anyhow::Result<Self> {
        let address = Ipv4Addr::LOCALHOST.into();
        let step = console::step("starting Temporal and PostgreSQL");
        let (temporal, postgres) =
            tokio::try_join!(Temporal::start(run, tools, address, false), Postgres::start(machine, run, address))?;
        step.done("");
        Ok(Self { temporal, postgres })
    }

    /// Variables by which tests find them and the programs they start themselves.
    pub(crate) fn variables(&self, machine: &Machine, tools: &Toolbox) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("GTM_TEST_TEMPORAL_ADDRESS", self.temporal.address.clone()),
            ("GTM_TEST_POSTGRES_URL", self.postgres.url("postgres")),
        ];
        variables.extend(services::tool_variables(machine, tools, None));
        variables
    }
}

/// The `it` test binary with both servers up, for one test of it.
pub(crate) struct Stage {
    program: TestBinary,
    variables: Vec<(&'static str, String)>,
    _backends: Backends,
    /// Its logs.
    pub(crate) run: Run,
}

impl Stage {
    /// Builds the tests and starts the servers.
    pub(crate) async fn set(machine: &Machine, yes: bool, kind: &str) -> anyhow::Result<Self> {
        debian::ensure(machine, yes, &[debian::POSTGRESQL]).await?;
        let tools = tools::ensure(machine, tools::SERVICES).await?;
        let binaries = test_binaries::build(machine).await?;
        let program = binaries.into_iter().find(|it| it.is_integration(&machine.repository, "it"));
        let program = program.context("the test binary `it` was not built")?;
        let run = Run::start(machine, kind)?;
        let backends = Backends::start(machine, &run, &tools).await?;
        let variables = backends.variables(machine, &tools);
        Ok(Self { program, variables, _backends: backends, run })
    }

    /// Runs one test, with these variables too, and hands over what it prints.
    ///
    /// # Errors
    /// When the test cannot be started or fails.
    pub(crate) async fn play(
        &self,
        test: &str,
        variables: &[(&str, String)],
        on_line: impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let mut command = process::command(&self.program.program);
        command.current_dir(&self.program.package).env("CARGO_MANIFEST_DIR", &self.program.package);
        command.args(["--include-ignored", "--nocapture", "--exact", test]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let status = process::stream(command, on_line).await?;
        anyhow::ensure!(status.success(), "{test} failed");
        Ok(())
    }
}
