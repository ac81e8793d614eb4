//! One run of services: a directory of its own with logs, and the promise that nothing else stays behind,
//! not even after `kill -9` (the next run sweeps what a dead one left).

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{kernel, machine::Machine};

/// How many runs keep their logs.
const KEPT_LOGS: usize = 6;
const LOCK: &str = "lock";
const LOGS: &str = "logs";

/// A running run; dropping it removes everything but the logs.
pub(crate) struct Run {
    /// Short and unique on this machine; part of every name we make outside the directory.
    pub(crate) id: String,
    /// `target/xtask/runs/{kind}-{id}`: large files, e.g. images and pods.
    pub(crate) directory: PathBuf,
    /// A directory under the system's temporary one that other users may enter: PostgreSQL refuses to run as root, and
    /// a checkout below /root is closed to its user.
    pub(crate) scratch: PathBuf,
    /// Log files.
    pub(crate) logs: PathBuf,
    _lock: File,
}

impl Run {
    /// Sweeps dead runs and makes a new one.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub(crate) fn start(machine: &Machine, kind: &str) -> anyhow::Result<Self> {
        let runs = machine.target.join("xtask/runs");
        fs::create_dir_all(&runs).with_context(|| format!("could not create {}", runs.display()))?;
        sweep(&runs);
        let prefix = format!("{kind}-");
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(&runs)?.keep();
        let lock = File::create(directory.join(LOCK))?;
        lock.try_lock().context("a fresh directory's lock is taken")?;
        let id = id_of(&directory);
        let scratch = scratch_of(&id);
        let logs = directory.join(LOGS);
        fs::create_dir(&logs)?;
        fs::create_dir(&scratch).with_context(|| format!("could not create {}", scratch.display()))?;
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o711))?;
        Ok(Self { id, directory, scratch, logs, _lock: lock })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove_leftovers(&self.directory);
    }
}

/// The last part of the directory's name, after the kind.
fn id_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('-').next().unwrap_or_default().trim_start_matches('.').to_owned()
}

fn scratch_of(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("gtm-sync-{id}"))
}

/// Cleans up after runs whose process is gone, which their free lock tells, and drops old logs.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    let mut finished = Vec::new();
    for directory in entries.filter_map(|it| it.ok().map(|it| it.path())) {
        match File::open(directory.join(LOCK)) {
            Ok(lock) if lock.try_lock().is_err() => continue,
            Ok(_) => remove_leftovers(&directory),
            Err(_) => {}
        }
        finished.push(directory);
    }
    finished.sort_by_key(|it| it.metadata().and_then(|it| it.modified()).ok());
    for directory in finished.iter().rev().skip(KEPT_LOGS) {
        let _gone = fs::remove_dir_all(directory);
    }
}

/// Removes all that a run made outside its logs. Safe to repeat; what is not there is fine.
fn remove_leftovers(directory: &Path) {
    let id = id_of(directory);
    kernel::remove_leftovers(&id, directory);
    let _absent = fs::remove_dir_all(scratch_of(&id));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok).filter(|it| it.file_name() != LOGS) {
        let _gone = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(target: &Path) -> Machine {
        let mut machine = Machine::look();
        machine.target = target.to_owned();
        machine
    }

    #[test]
    fn a_finished_run_leaves_its_logs_and_nothing_else() {
        let target = tempfile::tempdir().unwrap();
        let run = Run::start(&machine(target.path()), "trial").unwrap();
        let (directory, scratch) = (run.directory.clone(), run.scratch.clone());
        fs::write(directory.join("large"), "pods").unwrap();
        fs::write(run.logs.join("a.log"), "text").unwrap();
        drop(run);
        assert!(!scratch.exists());
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, [LOGS]);
    }

    #[test]
    fn a_new_run_sweeps_a_killed_one_and_spares_a_living_one() {
        let target = tempfile::tempdir().unwrap();
        let machine = machine(target.path());
        let killed = Run::start(&machine, "killed").unwrap();
        let (directory, scratch) = (killed.directory.clone(), killed.scratch.clone());
        // As after `kill -9`: the lock is free, nothing was removed.
        let Run { _lock, .. } = &killed;
        _lock.unlock().unwrap();
        std::mem::forget(killed);
        let living = Run::start(&machine, "living").unwrap();
        assert!(!scratch.exists() && !directory.join(LOCK).exists());
        let _another = Run::start(&machine, "another").unwrap();
        assert!(living.scratch.exists() && living.directory.join(LOCK).exists());
    }
}
