//! The peers, each started anew for every measurement as its users start it: dlt in one process, a Singer tap piped into
//! a Singer target. Both read the source as the product does and write into the same PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Measure,
    database::Database,
    source::{PAGE, PATH, PROPERTIES, Source},
    usage, venv,
};
use crate::{
    certs::write_private,
    machine::Machine,
    process::{self, Service},
    run::Run,
};

/// How often a running peer's end and memory are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// No peer needs this long; a hung one must not hang the benchmark.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A peer that can be run.
pub(super) struct Peer {
    /// What it is called in tables.
    pub(super) name: &'static str,
    /// What it is and how it was set up.
    pub(super) setup: &'static str,
    /// CPU seconds that starting it alone costs.
    pub(super) start_cpu: f64,
    schema: &'static str,
    count: &'static str,
    kind: Kind,
}

enum Kind {
    Dlt { python: PathBuf, script: PathBuf },
    Singer { tap: PathBuf, target: PathBuf },
}

impl Peer {
    /// dlt.
    pub(super) async fn dlt(machine: &Machine) -> anyhow::Result<Self> {
        let python = venv::ensure(machine, "dlt").await?.join("python");
        let script = machine.repository.join("bench/dlt_pipeline.py");
        let path = script.to_string_lossy().into_owned();
        Ok(Self {
            name: "dlt 1.31.0",
            setup: "rest_api source to postgres, write disposition merge (strategy upsert), CSV load files (COPY), one process, buffers of 50,000 items (its default of 5,000 holds less memory)",
            start_cpu: start_cost(&[(&python, &[&path, "--start-only"])]).await?,
            schema: "dlt_bench",
            count: "SELECT count(*) FROM dlt_bench.contacts",
            kind: Kind::Dlt { python, script },
        })
    }

    /// tap-rest-api-msdk and pipelinewise-target-postgres.
    pub(super) async fn singer(machine: &Machine) -> anyhow::Result<Self> {
        let tap = venv::ensure(machine, "tap").await?.join("tap-rest-api-msdk");
        let target = venv::ensure(machine, "target").await?.join("target-postgres");
        Ok(Self {
            name: "Singer chain",
            setup: "tap-rest-api-msdk 1.4.2 | pipelinewise-target-postgres 2.1.2 (COPY into a temporary table, then UPDATE and INSERT by key)",
            start_cpu: start_cost(&[(&tap, &["--help"]), (&target, &["--help"])]).await?,
            schema: "singer_bench",
            count: "SELECT count(*) FROM singer_bench.contacts",
            kind: Kind::Singer { tap, target },
        })
    }

    /// One load into an empty schema.
    pub(super) async fn load(&self, run: &Run, database: &Database, source: &Source) -> anyhow::Result<Measure> {
        let staging = self.schema.replace("_bench", "_bench_staging");
        let schema = self.schema;
        database
            .clean(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; DROP SCHEMA IF EXISTS {staging} CASCADE"))
            .await?;
        let directory = run.directory.join(schema);
        let _absent = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        let command = self.command(&directory, database, source)?;
        let measure = measured(command, schema, run, database, source).await?;
        let landed = database.number(self.count).await?;
        ensure!(landed == source.records, "{}: {landed} of {} records landed", self.name, source.records);
        Ok(measure)
    }

    fn command(&self, directory: &Path, database: &Database, source: &Source) -> anyhow::Result<Command> {
        match &self.kind {
            Kind::Dlt { python, script } => {
                let mut command = process::command(python);
                command.arg(script).current_dir(directory).env("BENCH_DIRECTORY", directory).env("HOME", directory);
                command.env("BENCH_URL", &source.url).env("BENCH_TOKEN", &source.token).env("BENCH_PATH", PATH);
                command.env("BENCH_PROPERTIES", PROPERTIES).env("BENCH_PAGE", PAGE.to_string());
                command.env("BENCH_DATABASE_URL", &database.url).env("RUNTIME__DLTHUB_TELEMETRY", "false");
                command.env("DATA_WRITER__BUFFER_MAX_ITEMS", "50000").env("NORMALIZE__WORKERS", "1");
                command.env("NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION", "true");
                Ok(command)
            }
            Kind::Singer { tap, target } => {
                write_private(&directory.join("tap.json"), &tap_config(source))?;
                write_private(&directory.join("target.json"), &target_config(&database.url)?)?;
                let mut command = process::command("/bin/sh");
                command.current_dir(directory).env("TAP", tap).env("TARGET", target);
                // Without the exit code of the tap a half-read source would pass for a load; rows are counted besides.
                command.args(["-c", "{ \"$TAP\" --config tap.json || touch failed; } | \"$TARGET\" --config target.json >state && ! test -e failed"]);
                Ok(command)
            }
        }
    }
}

/// Runs a peer to its end.
async fn measured(
    command: Command,
    name: &str,
    run: &Run,
    database: &Database,
    source: &Source,
) -> anyhow::Result<Measure> {
    let cpu = || [usage::of_ended_children(), usage::of_family(database.id()), usage::of_process(source.id())];
    let (start, before) = (Instant::now(), cpu());
    let mut service = Service::start(name, command, &run.logs)?;
    let mut peak_kib = 0;
    while !service.ended_well()? {
        ensure!(start.elapsed() < LONGEST, "{name} did not end in {LONGEST:?}");
        peak_kib = peak_kib.max(usage::group_resident_kib(service.id()));
        tokio::time::sleep(LOOK).await;
    }
    let (wall, after) = (start.elapsed(), cpu());
    let [cpu, postgres_cpu, source_cpu] =
        std::array::from_fn(|it| (after[it].saturating_sub(before[it])).as_secs_f64());
    Ok(Measure { wall: wall.as_secs_f64(), cpu, postgres_cpu, temporal_cpu: 0.0, source_cpu, peak_kib })
}

/// CPU seconds of programs that start and do nothing; the second time, when their files are in memory and compiled.
async fn start_cost(programs: &[(&Path, &[&str])]) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for (program, arguments) in programs {
        let start = || {
            let mut command = process::command(program);
            command.args(*arguments);
            process::capture(command)
        };
        start().await.context("a peer does not start")?;
        let before = usage::of_ended_children();
        start().await?;
        sum += (usage::of_ended_children() - before).as_secs_f64();
    }
    Ok(sum)
}

fn tap_config(source: &Source) -> String {
    json!({
        "api_url": source.url,
        "headers": {"Authorization": format!("Bearer {}", source.token)},
        "pagination_request_style": "default",
        "pagination_response_style": "default",
        "next_page_token_path": "$.paging.next.after",
        "pagination_next_page_param": "after",
        "num_inference_records": 500,
        "streams": [{
            "name": "contacts",
            "path": PATH,
            "params": {"limit": PAGE, "archived": "false", "properties": PROPERTIES, "associations": "companies"},
            "records_path": "$.results[*]",
            "primary_keys": ["id"],
        }],
    })
    .to_string()
}

fn target_config(url: &str) -> anyhow::Result<String> {
    let text = || url.strip_prefix("postgres://")?.split_once('@');
    let (user, place) = text().context("the database's URL has no user")?;
    let (user, password) = user.split_once(':').context("the database's URL has no password")?;
    let (host, database) = place.split_once('/').context("the database's URL names no database")?;
    let (host, port) = host.split_once(':').context("the database's URL has no port")?;
    let config = json!({
        "host": host, "port": port.parse::<u16>()?, "user": user, "password": password, "dbname": database,
        "default_target_schema": "singer_bench",
        "batch_size_rows": 100_000,
        "add_metadata_columns": false,
        "hard_delete": false,
    });
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_gets_the_parts_of_the_url() {
        let config: serde_json::Value =
            serde_json::from_str(&target_config("postgres://me:secret@127.0.0.1:5433/bench").unwrap()).unwrap();
        assert_eq!(
            (&config["host"], &config["port"], &config["dbname"]),
            (&json!("127.0.0.1"), &json!(5433), &json!("bench"))
        );
        assert!(target_config("postgres://127.0.0.1/bench").is_err());
    }
}
