//! Servers of a test's own, which it may kill at any moment and start again where they were: PostgreSQL on its data
//! directory, Temporal's development server on its file. They end with their handle.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use gtm_sync::{key_files::KeyFiles, settings::TemporalSettings, temporal::Temporal};

use super::{authority::Authority, eventually, fresh, service};

pub(super) const START: Duration = Duration::from_secs(90);

/// A process that ends with its handle.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("log file");
        let error = log.try_clone().expect("log file");
        Self(command.stdin(Stdio::null()).stdout(log).stderr(error).spawn().expect("the server starts"))
    }

    /// The processes that this one started.
    fn children(&self) -> Vec<String> {
        let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps");
        let own = self.0.id().to_string();
        let of_own = |line: &str| {
            let mut words = line.split_whitespace();
            let child = words.next()?;
            (words.next()? == own).then(|| child.to_owned())
        };
        String::from_utf8_lossy(&output.stdout).lines().filter_map(of_own).collect()
    }

    /// Kill −9 of it and of all that it started, at once.
    fn kill(&mut self) {
        let children = self.children();
        self.0.kill().expect("kill -9");
        if !children.is_empty() {
            // Some may have noticed and left.
            Command::new("kill").arg("-9").args(&children).stderr(Stdio::null()).status().expect("kill");
        }
        self.0.wait().expect("reaped");
        while children.iter().any(|child| is_alive(child)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.try_wait().ok().flatten().is_none() {
            self.kill();
        }
    }
}

/// A process that only waits to be reaped has ended.
fn is_alive(id: &str) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", id]).output().expect("ps");
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

/// A PostgreSQL server with a data directory, port and password of its own.
pub struct PostgresServer {
    /// Of the superuser's database `postgres`.
    pub url: String,
    /// The same by the server's socket, whatever it demands of connections by network.
    pub socket_url: String,
    port: u16,
    by_tls: bool,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

impl PostgresServer {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("temporary directory"), false).await
    }

    /// One that takes connections by network only with TLS, the password, and a certificate that names the role.
    pub async fn demanding(servers: &Authority, clients: &Authority) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        write_certificates(directory.path(), servers, clients);
        Self::start_in(directory, true).await
    }

    /// Other certificates from now on; who is connected stays so.
    pub async fn replace_certificates(&self, servers: &Authority, clients: &Authority) {
        write_certificates(self.directory.path(), servers, clients);
        own(self.directory.path());
        self.execute("SELECT pg_reload_conf()").await;
    }

    /// As the superuser.
    pub async fn execute(&self, sql: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.socket_url, tokio_postgres::NoTls).await.expect("the socket");
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await.expect("executed");
        drop(client);
        connection.await.expect("task").expect("closed");
    }

    async fn start_in(directory: tempfile::TempDir, by_tls: bool) -> Self {
        let (port, password) = (free_port(), fresh("password"));
        std::fs::write(directory.path().join("password"), &password).expect("password file");
        own(directory.path());
        let mut initdb = as_server_user("initdb", directory.path());
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]);
        initdb.args(["--username=postgres", "--pwfile=password", "--pgdata=data"]);
        let made = initdb.stdin(Stdio::null()).output().expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        if by_tls {
            let rules = "local all all scram-sha-256\nhostssl all all all scram-sha-256 clientcert=verify-full\n";
            std::fs::write(directory.path().join("data/pg_hba.conf"), rules).expect("written");
        }
        let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
        let socket = directory.path().display().to_string().replace('/', "%2F");
        let socket_url = format!("postgres:///postgres?host={socket}&port={port}&user=postgres&password={password}");
        let mut server = Self { url, socket_url, port, by_tls, directory, process: None };
        server.resume();
        server.ready().await;
        server
    }

    /// Kill −9 of the server and all its backends; no process of it is left when this returns.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same data and port. A process is killed here, not the machine: what was written is in
    /// the kernel's hands, so no commit depends on fsync; the order of commit and answer is as in production.
    pub fn resume(&mut self) {
        let mut command = as_server_user("postgres", self.directory.path());
        command.args(["-D", "data", "-k", ".", "-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=100",
            "shared_buffers=64MB",
            "log_min_messages=warning",
        ] {
            command.args(["-c", setting]);
        }
        if self.by_tls {
            for (setting, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "clients.crt")] {
                command.arg("-c").arg(format!("{setting}={}", self.directory.path().join(file).display()));
            }
            command.args(["-c", "ssl=on"]);
        }
        self.process = Some(Process::start(&mut command, &self.directory.path().join("log")));
    }

    /// Waits until it takes connections; after a kill it first replays its log.
    pub async fn ready(&self) {
        eventually("PostgreSQL answers", START, || async {
            let (client, connection) = tokio_postgres::connect(&self.socket_url, tokio_postgres::NoTls).await.ok()?;
            let connection = tokio::spawn(connection);
            let answered = client.simple_query("SELECT 1").await.is_ok();
            drop(client);
            connection.abort();
            answered.then_some(())
        })
        .await;
    }
}

fn write_certificates(directory: &Path, servers: &Authority, clients: &Authority) {
    let pair = servers.server("127.0.0.1");
    for (file, pem) in [("server.crt", &pair.certificate), ("server.key", &pair.key), ("clients.crt", &clients.pem())] {
        let path = directory.join(file);
        std::fs::write(&path, pem).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    }
}

/// Gives a directory to the user that the server runs as.
fn own(directory: &Path) {
    if runs_as_root() {
        let owner = Command::new("chown").args(["-R", "postgres"]).arg(directory).status().expect("chown");
        assert!(owner.success(), "chown: {owner}");
    }
}

fn runs_as_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.starts_with(b"0\n")
}

/// PostgreSQL refuses to run as root.
fn as_server_user(program: &str, directory: &Path) -> Command {
    let program = PathBuf::from(service("GTM_TEST_POSTGRES_PROGRAMS")).join(program);
    let mut command = if runs_as_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(directory);
    command
}

/// Temporal's development server, with its state in a file.
pub struct TemporalServer {
    /// `host:port` of the frontend.
    pub address: String,
    /// Its dynamic configuration, `key=value`.
    config: Vec<String>,
    port: u16,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

impl TemporalServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these values, `key=value`, of its dynamic configuration.
    pub async fn start_with(config: &[&str]) -> Self {
        let (directory, port) = (tempfile::tempdir().expect("temporary directory"), free_port());
        let config = config.iter().map(|&value| value.to_owned()).collect();
        let mut server = Self { address: format!("127.0.0.1:{port}"), config, port, directory, process: None };
        server.resume();
        server.ready().await;
        server
    }

    /// Kill −9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same file and port.
    pub fn resume(&mut self) {
        let mut command = Command::new(service("GTM_TEST_TEMPORAL_CLI"));
        command.args(["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--log-level", "warn", "--disable-config-file", "--disable-config-env"]);
        command.arg("--db-filename").arg(self.directory.path().join("temporal.db"));
        for value in &self.config {
            command.args(["--dynamic-config-value", value]);
        }
        self.process = Some(Process::start(&mut command, &self.directory.path().join("log")));
    }

    /// Throws its state away, as when a volume is lost; it must not be running.
    pub fn forget(&self) {
        for entry in std::fs::read_dir(self.directory.path()).expect("directory").flatten() {
            if entry.file_name().to_string_lossy().starts_with("temporal.db") {
                std::fs::remove_file(entry.path()).expect("removed");
            }
        }
    }

    /// Waits until it serves its default namespace.
    pub async fn ready(&self) {
        let settings = TemporalSettings {
            temporal_address: self.address.clone(),
            temporal_namespace: "default".to_owned(),
            cluster_id: None,
            tls: Default::default(),
        };
        eventually("Temporal answers", START, || async {
            let temporal = Temporal::connect(&settings, "tests", &KeyFiles::default()).await.ok()?;
            temporal.workflow_state("none").await.ok().map(drop)
        })
        .await;
    }
}
