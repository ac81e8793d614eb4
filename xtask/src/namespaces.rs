//! The namespaces a node lives in (mounts, processes, network, host name), held by one process: ending that process ends
//! and unmounts everything inside. The cable to the machine is `network`'s.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{
    machine::Machine,
    process::{self, Farewell, Service},
    run::Run,
};

const INIT: &str = include_str!("../tools/node-init.sh");

/// Living namespaces; dropping them ends all processes in them.
pub(crate) struct Namespaces {
    enter: PathBuf,
    init: u32,
    holder: Option<Service>,
}

impl Namespaces {
    /// Makes them and starts their first process.
    pub(crate) async fn create(machine: &Machine, run: &Run) -> anyhow::Result<Self> {
        let find = |name: &str| machine.program(name).with_context(|| format!("{name} (util-linux) was not found"));
        let directory = run.directory.join("node");
        fs::create_dir_all(&directory)?;
        let (script, told) = (directory.join("init.sh"), directory.join("init.pid"));
        fs::write(&script, INIT)?;
        let mut command = process::command(find("unshare")?);
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--", "/bin/sh"]);
        command.arg(&script).arg(&directory).arg(&told);
        // The holder ignores SIGTERM by design, and nothing in it needs a farewell.
        let mut holder = Service::start("node-init", command, &run.logs)?.with_farewell(Farewell::Kill);
        let is_told = || async { fs::metadata(&told).map(drop).context("it has not told its process id") };
        process::ready(&mut holder, Duration::from_secs(20), is_told).await?;
        let init = fs::read_to_string(&told)?.trim().parse().context("the process id is not a number")?;
        ensure!(is_alive(init), "the node's first process is gone");
        Ok(Self { enter: find("nsenter")?, init, holder: Some(holder) })
    }

    /// Process id of the first process, as the machine sees it.
    pub(crate) fn init(&self) -> u32 {
        self.init
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = process::command(&self.enter);
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"]).arg(program.as_ref());
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.holder = None;
        // The kernel kills everything inside before the first process is gone.
        for _ in 0..500 {
            if !is_alive(self.init) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process exists and has not ended; one that nobody has reaped yet has ended.
fn is_alive(id: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|it| !it.is_empty() && !it.starts_with(['Z', 'X']))
}
