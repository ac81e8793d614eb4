//! `gtm-simulators` as a command: serving, comparing, exit codes.
#![allow(missing_docs, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use simulators::checker::{Defect, Report};

const BINARY: &str = env!("CARGO_BIN_EXE_gtm-simulators");

/// A served account; killed with the test.
struct Served {
    process: Child,
    port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().expect("still running");
        self.process.wait().expect("our own child");
    }
}

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a writable target directory");
    directory
}

async fn serve(directory: &Path) -> Served {
    let (token, port_file) = (directory.join("token"), directory.join("port"));
    std::fs::write(&token, "from a file\n").expect("writable");
    let process = Command::new(BINARY)
        .args(["hubspot", "--records", "50", "--listen", "127.0.0.1:0"])
        .arg("--token-file")
        .arg(token)
        .arg("--port-file")
        .arg(&port_file)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let port = loop {
        match std::fs::read_to_string(&port_file) {
            Ok(port) => break port.parse().expect("a port, never half of it"),
            Err(_) => assert!(tokio::time::Instant::now() < end, "no port within 30 s"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    Served { process, port }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().expect("the binary starts")
}

/// An empty store with the read contract's tables.
fn empty_store(directory: &Path) -> String {
    let file = directory.join("store.db");
    let connection = rusqlite::Connection::open(&file).expect("writable");
    let envelope = "tenant_id TEXT, connector_id TEXT, source_id TEXT, source_updated_at TEXT, deleted_at TEXT";
    let columns = "name, domain, email, first_name, last_name, amount, stage, pipeline, kind, subject, active,
        account_source_id, owner_source_id";
    for view in ["account", "contact", "opportunity", "activity", "owner", "stage"] {
        let sql = format!("CREATE TABLE canonical_{view} ({envelope}, {columns})");
        connection.execute_batch(&sql).expect("plain SQL");
    }
    let rest = "CREATE TABLE dead_letter (tenant_id, connector_id, entity, source_id);
        CREATE TABLE sync_state (tenant_id, connector_id, account_id, cursor)";
    connection.execute_batch(rest).expect("plain SQL");
    format!("sqlite:{}", file.display())
}

#[tokio::test]
async fn check_exits_one_with_findings_and_two_when_it_cannot_compare() {
    let directory = directory("check");
    let served = serve(&directory).await;
    let (simulator, database) = (format!("http://127.0.0.1:{}", served.port), empty_store(&directory));
    let check = |simulator: &str, database: &str, more: &[&str]| {
        let mut arguments = vec!["check", "--simulator", simulator, "--database", database];
        arguments.extend(["--tenant", "acme", "--connector", "hubspot"]);
        arguments.extend(more);
        run(&arguments)
    };
    let found = check(&simulator, &database, &["-o", "json"]);
    assert_eq!(found.status.code(), Some(1));
    let report: Report = serde_json::from_slice(&found.stdout).expect("one JSON document");
    assert!(report.count(Defect::NoCursor) >= 5, "{report}");
    let text = check(&simulator, &database, &[]);
    assert_eq!(String::from_utf8_lossy(&text.stdout).trim_end(), report.to_string(), "the same for people");

    for (simulator, database) in
        [("http://127.0.0.1:1", &*database), (&simulator, "sqlite:/nowhere"), (&simulator, "mysql://x")]
    {
        let failed = check(simulator, database, &[]);
        assert_eq!((failed.status.code(), failed.stdout.len()), (Some(2), 0), "{simulator} {database}");
        assert!(!failed.stderr.is_empty());
    }
    std::fs::remove_dir_all(&directory).expect("the test's own directory");
}

#[test]
fn help_names_every_option_and_wrong_counts_are_refused() {
    let help = run(&["hubspot", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    for option in ["--listen", "--records", "--seed", "--token-file", "--port-file", "--oauth-rotate", "--daily"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    for records in ["9", "4000001", "many"] {
        assert_eq!(run(&["hubspot", "--records", records]).status.code(), Some(2));
    }
}
