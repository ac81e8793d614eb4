//! Builds all test binaries in one go and sorts them into layers. They are run directly, not through `cargo test`:
//! selecting packages there changes which features are unified, and would build half the tree again for each layer.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Deserialize;

use crate::{machine::Machine, process};

/// A built test binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestBinary {
    /// What to call it, e.g. `simulators` or `it`.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Directory of its package, where cargo would run it.
    pub(crate) package: PathBuf,
    /// Whether it is an integration test, with a file of its own under `tests/`.
    integration: bool,
}

/// One line of cargo's JSON output, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds every test binary and every program of the workspace.
///
/// # Errors
/// When something does not compile; cargo has then said what.
pub(crate) async fn build(machine: &Machine) -> anyhow::Result<Vec<TestBinary>> {
    let mut binaries = Vec::new();
    cargo(machine, &["test", "--no-run"], |line| binaries.extend(read(line))).await?;
    build_programs(machine).await?;
    Ok(binaries)
}

/// Builds the programs of the workspace, with the same features as the tests.
///
/// # Errors
/// When something does not compile; cargo has then said what.
pub(crate) async fn build_programs(machine: &Machine) -> anyhow::Result<()> {
    cargo(machine, &["build", "--bins"], |_| {}).await
}

async fn cargo(machine: &Machine, arguments: &[&str], on_line: impl FnMut(&str)) -> anyhow::Result<()> {
    let mut command = process::command(machine.program("cargo").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&machine.repository).args(arguments);
    command.args(["--workspace", "--quiet", "--message-format", "json-render-diagnostics"]);
    let status = process::stream(command, on_line).await?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

fn read(line: &str) -> Option<TestBinary> {
    let message: Message = serde_json::from_str(line).ok()?;
    let target = message.target.filter(|_| message.profile.is_some_and(|it| it.test))?;
    Some(TestBinary {
        integration: target.kind.iter().any(|it| it == "test"),
        name: target.name,
        program: message.executable?,
        package: message.manifest_path?.parent()?.to_owned(),
    })
}

impl TestBinary {
    /// A test of the stand-ins.
    pub(crate) fn is_of_simulators(&self) -> bool {
        self.package.file_name() == Some("simulators".as_ref())
    }

    /// The integration test of that name in the root package.
    pub(crate) fn is_integration(&self, repository: &Path, name: &str) -> bool {
        self.integration && self.name == name && self.package == repository
    }

    /// Whatever needs no service.
    pub(crate) fn is_unit(&self) -> bool {
        !self.integration && !self.is_of_simulators()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_of_an_integration_test_is_recognised() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/Cargo.toml","target":{"kind":["test"],"name":"it"},
            "profile":{"test":true},"executable":"/r/target/debug/deps/it-1"}"#;
        let binary = read(&line.replace('\n', "")).unwrap();
        assert!(binary.is_integration(Path::new("/r"), "it"));
        assert!(!binary.is_unit() && !binary.is_of_simulators());
    }

    #[test]
    fn a_program_is_no_test_binary() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/Cargo.toml","target":{"kind":["bin"],"name":"x"},"profile":{"test":false},"executable":"/r/x"}"#;
        assert_eq!(read(line), None);
    }
}
