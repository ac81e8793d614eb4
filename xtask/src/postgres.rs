//! One PostgreSQL server for a run: fresh data directory, free port, a password of its own, nothing durable.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::{
    certs::write_private,
    machine::{Machine, is_executable},
    process::{self, Farewell, Service},
    random,
    run::Run,
};

const USER: &str = "postgres";
/// Where distributions put the server's programs, newest first, for they are seldom in PATH.
const DEBIAN: &str = "/usr/lib/postgresql";
const START: Duration = Duration::from_secs(60);

/// A running server; dropping it ends it.
pub(crate) struct Postgres {
    /// `postgres://postgres:<password>@address:port`, without database.
    server: String,
    service: Service,
}

/// The data dies with the run: durability would only cost time.
const NOT_DURABLE: [&str; 5] =
    ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=300", "shared_buffers=128MB"];

impl Postgres {
    /// Makes a data directory and starts a server on `address`.
    pub(crate) async fn start(machine: &Machine, run: &Run, address: IpAddr) -> anyhow::Result<Self> {
        Self::start_with(machine, run, address, &NOT_DURABLE).await
    }

    /// The same with settings of the caller's.
    pub(crate) async fn start_with(
        machine: &Machine,
        run: &Run,
        address: IpAddr,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let programs = programs(machine).context("PostgreSQL's programs (initdb, postgres) were not found")?;
        let directory = run.scratch.join("postgres");
        fs::create_dir(&directory)?;
        // It protects the server from other users of the machine: a superuser of PostgreSQL can run programs.
        let password = random::hexadecimal(18)?;
        let password_file = directory.join("password");
        write_private(&password_file, &password)?;
        if machine.root {
            process::capture(with_arguments(process::command("chown"), &["-R", USER], &directory)).await?;
        }
        let data = directory.join("data");
        let mut initdb = as_server_user(machine, &programs.join("initdb"))?;
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]);
        initdb.args(["--username", USER]).arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&data);
        initdb.current_dir(&directory);
        process::capture(initdb).await.context("could not initialise PostgreSQL")?;
        allow_pods(&data.join("pg_hba.conf"))?;
        let port = process::free_port(address)?;
        let mut command = as_server_user(machine, &programs.join("postgres"))?;
        command.current_dir(&directory).arg("-D").arg(&data).arg("-k").arg(&directory).arg("-p").arg(port.to_string());
        command.arg("-c").arg(format!("listen_addresses={address}")).args(["-c", "log_min_messages=warning"]);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        // Fast shutdown: it waits for no client; killed, it would leave its shared memory behind.
        let farewell = Farewell::Ask(Signal::INT, Duration::from_secs(5));
        let mut service = Service::start("postgres", command, &run.logs)?.with_farewell(farewell);
        let server = format!("postgres://{USER}:{password}@{address}:{port}");
        let url = format!("{server}/postgres");
        process::ready(&mut service, START, || answers(&url)).await?;
        Ok(Self { server, service })
    }

    /// Its process, the parent of those that serve.
    pub(crate) fn id(&self) -> u32 {
        self.service.id()
    }

    /// URL of a database on this server, with the superuser's name and password.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server)
    }

    /// Creates an empty database and returns its URL.
    pub(crate) async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        connect(&self.url("postgres")).await?.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(self.url(name))
    }
}

/// A connection; it ends when the client is dropped.
pub(crate) async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn answers(url: &str) -> anyhow::Result<()> {
    connect(url).await?.simple_query("SELECT 1").await?;
    Ok(())
}

/// Lets every address in that the server listens on, with the password.
fn allow_pods(rules: &Path) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(rules).context("could not open pg_hba.conf")?;
    writeln!(file, "host all all all scram-sha-256").context("could not write pg_hba.conf")
}

fn with_arguments(mut command: Command, arguments: &[&str], path: &Path) -> Command {
    command.args(arguments).arg(path);
    command
}

/// PostgreSQL refuses to run as root, so root runs it as the user its package made.
fn as_server_user(machine: &Machine, program: &Path) -> anyhow::Result<Command> {
    if !machine.root {
        return Ok(process::command(program));
    }
    let users = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
    if !users.lines().any(|it| it.starts_with("postgres:")) {
        bail!("PostgreSQL does not run as root and there is no user `postgres`: install the package postgresql");
    }
    let setpriv = machine.program("setpriv").context("setpriv (package util-linux) was not found")?;
    let mut command = process::command(setpriv);
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// The directory with initdb and postgres: beside what PATH finds, else the newest version of a distribution.
pub(crate) fn programs(machine: &Machine) -> Option<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|it| it.path()).collect();
    versions.sort();
    let packaged = versions.into_iter().rev().map(|it| it.join("bin"));
    let in_path = machine.program("postgres").and_then(|it| it.parent().map(Path::to_owned));
    packaged.chain(in_path).find(|it| is_executable(&it.join("initdb")) && is_executable(&it.join("postgres")))
}
