//! What a kubelet does to the kernel outside its namespaces, control groups and settings, and how it is undone —
//! by name of the run alone, so that a later run can undo it for one that was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Settings that a kubelet changes at its start (kubernetes/pkg/kubelet/cm/container_manager_linux.go, v1.35).
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
const SAVED: &str = "kernel-settings";

/// Name of the control group under which all pods of run `id` live.
pub(crate) fn control_group(id: &str) -> String {
    format!("gtm-{id}")
}

/// Makes the run's control group in every hierarchy and notes the settings.
///
/// # Errors
/// When we may not.
pub(crate) fn prepare(id: &str, directory: &Path) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(control_group(id));
        fs::create_dir_all(&group).with_context(|| format!("could not create {}", group.display()))?;
    }
    let values =
        SETTINGS.iter().filter_map(|it| Some(format!("{it} {}", fs::read_to_string(setting(it)).ok()?.trim())));
    fs::write(directory.join(SAVED), values.collect::<Vec<_>>().join("\n")).context("could not note kernel settings")
}

/// Undoes what run `id` did. Safe to repeat; what is not there is fine.
pub(crate) fn remove_leftovers(id: &str, directory: &Path) {
    for hierarchy in hierarchies() {
        remove_group(&hierarchy.join(control_group(id)));
    }
    for line in fs::read_to_string(directory.join(SAVED)).unwrap_or_default().lines() {
        if let Some((name, value)) = line.split_once(' ') {
            let _read_only = fs::write(setting(name), value);
        }
    }
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

/// With control groups v1 (or both) one directory a controller, with v2 alone the root itself.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CONTROL_GROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|it| it.path());
    // Some names are links to a directory that holds two controllers.
    entries.filter(|it| !it.is_symlink() && it.join("cgroup.procs").exists()).collect()
}

/// Removes a group with its children; a group is busy for a moment after its last process has died.
fn remove_group(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for child in entries.flatten().map(|it| it.path()).filter(|it| it.is_dir()) {
        remove_group(&child);
    }
    for _ in 0..50 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}
