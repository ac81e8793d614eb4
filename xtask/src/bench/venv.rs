//! Python environments of the peers, one each because their dependencies clash, cached for all checkouts of this user.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use crate::{console, machine::Machine, process};

/// Makes the environment of `bench/{name}-requirements.txt` and returns its `bin` directory.
///
/// # Errors
/// When there is no Python 3 with `venv`, or the packages cannot be had.
/// # Idempotency
/// An environment whose mark holds the same requirements is taken as it is.
pub(super) async fn ensure(machine: &Machine, name: &str) -> anyhow::Result<PathBuf> {
    let requirements = machine.repository.join(format!("bench/{name}-requirements.txt"));
    let wanted = fs::read_to_string(&requirements).with_context(|| format!("no {}", requirements.display()))?;
    let directory = machine.cache.join("python").join(name);
    let (programs, mark) = (directory.join("bin"), directory.join("requirements.txt"));
    if fs::read_to_string(&mark).is_ok_and(|it| it == wanted) {
        return Ok(programs);
    }
    let python = machine.program("python3").context("python3 was not found (Debian: python3 python3-venv)")?;
    let step = console::step(format!("making a Python environment for {name}"));
    fs::create_dir_all(directory.parent().expect("it lies below the cache"))?;
    let mut venv = process::command(python);
    venv.args(["-m", "venv", "--clear"]).arg(&directory);
    process::capture(venv).await.context("could not make a Python environment (Debian: package python3-venv)")?;
    let mut install = process::command(programs.join("python"));
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    process::capture(install).await.with_context(|| {
        format!("could not install what {} names; is there a way to a package index?", requirements.display())
    })?;
    fs::write(&mark, wanted)?;
    step.done("");
    Ok(programs)
}
