//! A Python environment with the vendor's own client, against which the simulators are tested.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use crate::{console, machine::Machine, process};

/// The vendors' clients, pinned: the tests are the proof that they run unchanged.
const REQUIREMENTS: [&str; 1] = ["hubspot-api-client==12.0.0"];

/// Whether Python can make environments: Debian takes `ensurepip` out of its own and packs it apart.
pub(crate) fn has_venv(machine: &Machine) -> bool {
    let Some(python) = machine.program("python3") else { return false };
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|it| it.path());
    !python.starts_with("/usr/bin") || libraries.into_iter().any(|it| it.join("ensurepip").is_dir())
}

/// Makes the environment and returns its interpreter.
///
/// # Errors
/// When there is no Python 3 with `venv`, or the packages cannot be had.
/// # Idempotency
/// An environment whose mark names the same requirements is taken as it is.
pub(crate) async fn ensure(machine: &Machine) -> anyhow::Result<PathBuf> {
    let directory = machine.target.join("xtask/python");
    let interpreter = directory.join("bin/python");
    let mark = directory.join("requirements.txt");
    let wanted = REQUIREMENTS.join("\n");
    if interpreter.exists() && fs::read_to_string(&mark).is_ok_and(|it| it == wanted) {
        return Ok(interpreter);
    }
    let system = machine.program("python3").context("python3 was not found (Debian: python3 python3-venv)")?;
    let step = console::step("making a Python environment with the vendor's client");
    let mut venv = process::command(system);
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    process::capture(venv).await.context("could not make a Python environment (Debian: package python3-venv)")?;
    let mut install = process::command(&interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(REQUIREMENTS);
    process::capture(install).await.context("could not install the vendor's client")?;
    fs::write(&mark, wanted)?;
    step.done("");
    Ok(interpreter)
}
