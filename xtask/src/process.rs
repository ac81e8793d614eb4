//! Child processes: each in its own process group, its output in a log file, ended by id when its handle is dropped —
//! on return, error, Ctrl-C and panic alike. On Linux they die with us even when we are killed.

use std::{
    fs::{self, File},
    future::Future,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::Instant,
};

const WRAPPER: &str = "/usr/bin/setpriv";
const WRAPPER_ARGUMENTS: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// A command in a process group of its own, without standard input, that dies with us.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = if cfg!(target_os = "linux") && Path::new(WRAPPER).exists() {
        let mut command = Command::new(WRAPPER);
        command.args(WRAPPER_ARGUMENTS).arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    command.process_group(0).stdin(Stdio::null());
    // What `cargo xtask` says about xtask itself: build scripts that look at it (ring's) would run again, and all that depends on
    // them be built again, whenever cargo is called by us after it was called by hand.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Program and arguments as a person would type them, without our wrapper.
fn described(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|it| it.to_string_lossy());
    let skipped = if command.get_program() == WRAPPER { 1 + WRAPPER_ARGUMENTS.len() } else { 0 };
    let text = words.skip(skipped).collect::<Vec<_>>().join(" ");
    text.chars().take(160).collect()
}

/// Ends a whole process group when dropped, unless it was released first.
struct Group(Option<Pid>);

impl Group {
    fn of(id: Option<u32>) -> Self {
        Self(id.and_then(|it| Pid::from_raw(it.cast_signed())))
    }
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _already_gone = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot start or does not end with 0; the message holds the end of what it said.
/// # Cancellation
/// Dropping the future kills the process group.
pub(crate) async fn capture(command: Command) -> anyhow::Result<String> {
    let text = described(&command);
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("could not start `{text}`"))?;
    let mut group = Group::of(child.id());
    let output = child.wait_with_output().await.with_context(|| format!("could not wait for `{text}`"))?;
    group.0 = None;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{text}` ended with {}:\n{}", output.status, tail(&format!("{stdout}{stderr}"), 30));
    }
    Ok(stdout)
}

/// Runs a command to its end with `input` on its standard input and returns its standard output.
///
/// # Errors
/// As [`capture`].
pub(crate) async fn capture_with_input(mut command: Command, input: &str) -> anyhow::Result<String> {
    let mut file = tempfile::tempfile().context("could not make a temporary file")?;
    std::io::Write::write_all(&mut file, input.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    command.stdin(file);
    capture(command).await
}

/// Runs a command to its end, handing over each line of its standard output; standard error goes where ours goes.
///
/// # Errors
/// When it cannot start.
/// # Cancellation
/// Dropping the future kills the process group.
pub(crate) async fn stream(command: Command, mut on_line: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
    let text = described(&command);
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("could not start `{text}`"))?;
    let mut group = Group::of(child.id());
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut bytes = Vec::new();
    while lines.read_until(b'\n', &mut bytes).await? > 0 {
        on_line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    let status = child.wait().await.with_context(|| format!("could not wait for `{text}`"))?;
    group.0 = None;
    Ok(status)
}

/// Runs a command to its end with all its output in `log`.
///
/// # Errors
/// When it cannot start or does not end with 0; the message holds the end of the log.
pub(crate) async fn logged(mut command: Command, log: &Path) -> anyhow::Result<()> {
    let text = described(&command);
    let file = File::create(log).with_context(|| format!("could not create {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("could not start `{text}`"))?;
    let mut group = Group::of(child.id());
    let status = child.wait().await?;
    group.0 = None;
    if !status.success() {
        bail!("`{text}` ended with {status}; the end of {}:\n{}", log.display(), tail_of(log));
    }
    Ok(())
}

/// A process that runs until its handle is dropped.
pub(crate) struct Service {
    name: String,
    child: Child,
    group: Group,
    log: PathBuf,
    farewell: Farewell,
}

/// How a process is ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Farewell {
    /// At once: nothing it holds is worth saving.
    Kill,
    /// By a signal first, and after this time the hard way.
    Ask(Signal, Duration),
}

impl Service {
    /// Starts a process whose output goes to `{logs}/{name}.log`.
    ///
    /// # Errors
    /// When the log cannot be written or the program cannot be started.
    pub(crate) fn start(name: &str, mut command: Command, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("could not start {name}"))?;
        let group = Group::of(Some(child.id()));
        Ok(Self {
            name: name.to_owned(),
            child,
            group,
            log,
            farewell: Farewell::Ask(Signal::TERM, Duration::from_secs(5)),
        })
    }

    /// Ends otherwise than by SIGTERM and five seconds.
    pub(crate) fn with_farewell(mut self, farewell: Farewell) -> Self {
        self.farewell = farewell;
        self
    }

    /// Its process id, which is also that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended; an end other than with 0 is an error with the end of its log.
    pub(crate) fn ended_well(&mut self) -> anyhow::Result<bool> {
        match self.child.try_wait()? {
            Some(status) if status.success() => Ok(true),
            _ => self.check().map(|()| false),
        }
    }

    /// Fails when the process has ended by itself, with the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended with {status}; the end of {}:\n{}", self.name, self.log.display(), tail_of(&self.log))
            }
        }
    }

    fn ended_within(&mut self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Farewell::Ask(signal, grace) = self.farewell {
            self.group.signal(signal);
            self.ended_within(grace);
        }
        self.group.signal(Signal::KILL);
        let _reaped = self.child.wait();
    }
}

/// Waits until `probe` succeeds, watching that the process behind it is alive.
///
/// # Errors
/// When the process ends or the deadline passes, with the last answer of the probe.
pub(crate) async fn ready<F>(service: &mut Service, deadline: Duration, probe: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let end = Instant::now() + deadline;
    loop {
        service.check()?;
        let answer = tokio::time::timeout(Duration::from_secs(5), probe()).await.unwrap_or_else(|it| Err(it.into()));
        match answer {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => {
                let name = &service.name;
                let log = service.log.display();
                return Err(error.context(format!("{name} was not ready within {deadline:?}; its log: {log}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A TCP port that nobody listens on at this moment.
pub(crate) fn free_port(address: IpAddr) -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind(SocketAddr::new(address, 0)).with_context(|| format!("no free port on {address}"))?;
    Ok(listener.local_addr()?.port())
}

/// `port` when it is free, else any free one.
pub(crate) fn free_port_preferring(address: IpAddr, port: u16) -> anyhow::Result<u16> {
    match TcpListener::bind(SocketAddr::new(address, port)) {
        Ok(_) => Ok(port),
        Err(_) => free_port(address),
    }
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn tail_of(log: &Path) -> String {
    tail(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()), 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn is_alive(id: &str) -> bool {
        // A process nobody has reaped yet has ended; what follows the name in brackets is its state.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|it| !it.is_empty() && !it.starts_with(['Z', 'X']))
    }

    #[tokio::test]
    async fn a_failed_command_tells_its_arguments_and_the_end_of_what_it_said() {
        let error = capture(shell("echo first; echo why >&2; exit 3")).await.unwrap_err().to_string();
        assert!(error.starts_with("`/bin/sh -c echo first"), "{error}");
        assert!(error.contains("exit status: 3") && error.ends_with("why"), "{error}");
    }

    #[tokio::test]
    async fn lines_are_handed_over_as_they_come() {
        let mut lines = Vec::new();
        let status = stream(shell("echo one; echo two"), |line| lines.push(line.to_owned())).await.unwrap();
        assert!(status.success());
        assert_eq!(lines, ["one", "two"]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn dropping_a_service_ends_its_children_too() {
        let logs = tempfile::tempdir().unwrap();
        let mut service = Service::start("parent", shell("sleep 1000 & echo $!; wait"), logs.path()).unwrap();
        let told = || async {
            fs::read_to_string(logs.path().join("parent.log"))?.trim().parse::<u32>().map(drop).map_err(Into::into)
        };
        ready(&mut service, Duration::from_secs(20), told).await.unwrap();
        let child = fs::read_to_string(logs.path().join("parent.log")).unwrap().trim().to_owned();
        assert!(is_alive(&child));
        drop(service);
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_alive(&child) {
            assert!(Instant::now() < deadline, "the grandchild is still there");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_service_that_ends_at_its_start_fails_at_once_with_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut service = Service::start("brief", shell("echo wrong flag; exit 2"), logs.path()).unwrap();
        let never = || async { bail!("not ready") };
        let error = ready(&mut service, Duration::from_secs(20), never).await.unwrap_err().to_string();
        assert!(error.contains("brief ended with exit status: 2") && error.ends_with("wrong flag"), "{error}");
    }
}
