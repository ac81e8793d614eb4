//! `cargo xtask faults`: many lives under random kills and the ten-minute outage, with a line for each life, a table, and
//! a report. What is killed and what must hold afterwards is the tests' business (`tests/it/faults`).

use std::{fmt::Write as _, fs, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{backends::Stage, console, machine::Machine, process, random};

const KILLS: &str = "faults::random_kills::whatever_is_killed_whenever_the_rows_equal_those_of_an_undisturbed_life";
const OUTAGE: &str = "faults::long::a_ten_minute_outage_of_the_store_in_mid_sync_dead_letters_nothing";
/// What the test prints before each life's report.
const MARK: &str = "fault-run ";
const DOCUMENT: &str = "docs/faults.md";

/// Options of `cargo xtask faults`.
#[derive(Args)]
pub(crate) struct Options {
    /// How many lives; ten at a time share servers and kills.
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// Seed of the first ten, the next ten have the next one. Default: drawn, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Leave out the ten-minute outage of the store, which runs beside the kills.
    #[arg(long)]
    without_outage: bool,
    /// Write the result to docs/faults.md too.
    #[arg(long)]
    write_docs: bool,
}

/// A life as the test reports it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Life {
    seed: String,
    records: u64,
    batch_size: u64,
    started_by: String,
    kills: Kills,
    worker_left_by_itself: u64,
    seconds: u64,
    rows: u64,
    dead_letters: u64,
    processed: u64,
    wrong: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kills {
    worker: u64,
    temporal: u64,
    postgres: u64,
}

impl Kills {
    fn all(self) -> u64 {
        self.worker + self.temporal + self.postgres
    }
}

/// Everything a call found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    date: String,
    command: String,
    seconds: u64,
    ten_minute_outage: Option<bool>,
    lives: Vec<Life>,
}

/// Runs the lives and the outage, prints and writes what came of them.
///
/// # Errors
/// When a life ended otherwise than undisturbed, fewer lives than wanted were told, or the outage cost something.
pub(crate) async fn run(machine: &Machine, yes: bool, options: &Options) -> anyhow::Result<()> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => u64::from_str_radix(&random::hexadecimal(3)?, 16).context("hexadecimal digits")?,
    };
    let stage = Stage::set(machine, yes, "faults").await?;
    console::line(format_args!("seed {seed}; logs: {}", stage.run.logs.display()));
    let start = Instant::now();
    let outage = async { if options.without_outage { None } else { Some(stage.play(OUTAGE, &[], |_| {}).await) } };
    let mut lives = Vec::new();
    let variables = [("GTM_TEST_FAULT_SEED", seed.to_string()), ("GTM_TEST_FAULT_RUNS", options.runs.to_string())];
    let kills =
        stage.play(KILLS, &variables, |line| match line.split_once(MARK).map(|it| serde_json::from_str(it.1)) {
            Some(Ok(life)) => {
                lives.push(life);
                progress(&lives, options.runs, start.elapsed());
            }
            _ => console::line(line),
        });
    let (outage, kills) = tokio::join!(outage, kills);
    let report = Report {
        date: today().await?,
        command: format!("cargo xtask faults --runs {} --seed {seed}", options.runs),
        seconds: start.elapsed().as_secs(),
        ten_minute_outage: outage.as_ref().map(Result::is_ok),
        lives,
    };
    write(machine, &report, options.write_docs)?;
    console::line(report.table());
    kills?;
    outage.transpose()?;
    ensure!(report.lives.len() as u64 == options.runs, "{} of {} lives were told", report.lives.len(), options.runs);
    Ok(())
}

fn progress(lives: &[Life], runs: u64, elapsed: Duration) {
    let Some(Life { seed, records, rows, kills, wrong, .. }) = lives.last() else { return };
    let verdict = if wrong.is_empty() { "equal".to_owned() } else { format!("WRONG: {}", wrong.join("; ")) };
    let Kills { worker, temporal, postgres } = kills;
    console::line(format_args!(
        "{:>4}/{runs} {:>12}  life {seed:>12}: {records} records, killed worker {worker}×, Temporal {temporal}×, \
         PostgreSQL {postgres}×; {rows} rows {verdict}",
        lives.len(),
        console::seconds(elapsed),
    ));
}

async fn today() -> anyhow::Result<String> {
    let mut command = process::command("date");
    command.args(["-u", "+%Y-%m-%d"]);
    Ok(process::capture(command).await?.trim().to_owned())
}

fn write(machine: &Machine, report: &Report, documents: bool) -> anyhow::Result<()> {
    let directory = machine.target.join("faults");
    fs::create_dir_all(&directory)?;
    let path = directory.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(report)?)
        .with_context(|| format!("could not write {}", path.display()))?;
    console::line(format_args!("\n{}", path.display()));
    if documents {
        fs::write(machine.repository.join(DOCUMENT), report.document())
            .with_context(|| format!("could not write {DOCUMENT}"))?;
        console::line(DOCUMENT);
    }
    Ok(())
}

impl Report {
    fn wrong(&self) -> impl Iterator<Item = &Life> {
        self.lives.iter().filter(|life| !life.wrong.is_empty())
    }

    /// What is counted, by name.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let sum = |of: &dyn Fn(&Life) -> u64| self.lives.iter().map(of).sum::<u64>();
        let killed = |of: &dyn Fn(Kills) -> u64| sum(&|life| of(life.kills)).to_string();
        let fewest = self.lives.iter().map(|life| life.kills.all()).min().unwrap_or(0);
        let outage = match self.ten_minute_outage {
            Some(true) => "dead-lettered nothing",
            Some(false) => "FAILED",
            None => "left out",
        };
        vec![
            ("lives", self.lives.len().to_string()),
            (
                "lives whose rows, dead letters or counts differ from the undisturbed ones",
                self.wrong().count().to_string(),
            ),
            ("kill −9 of the worker while a life's sync was at work", killed(&|kills| kills.worker)),
            ("kill −9 of Temporal, likewise", killed(&|kills| kills.temporal)),
            ("kill −9 of PostgreSQL, likewise", killed(&|kills| kills.postgres)),
            ("fewest kills that one life met", fewest.to_string()),
            ("records processed under kills", sum(&|life| life.processed).to_string()),
            ("rows compared byte for byte", sum(&|life| life.rows).to_string()),
            ("records that were dead-lettered on both sides", sum(&|life| life.dead_letters).to_string()),
            ("ten-minute outage of PostgreSQL in mid-sync", outage.to_owned()),
            ("time", console::seconds(Duration::from_secs(self.seconds))),
        ]
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for (name, figure) in self.figures() {
            let _to_memory = write!(text, "\n{name:76} {figure:>22}");
        }
        text
    }

    fn document(&self) -> String {
        let rows: String = self.figures().iter().map(|(name, figure)| format!("| {name} | {figure} |\n")).collect();
        let seeds: Vec<_> = self.lives.iter().filter_map(|life| life.seed.strip_suffix("/0")).collect();
        let wrong: String = self.wrong().map(|life| format!("- {}: {}\n", life.seed, life.wrong.join("; "))).collect();
        let wrong = if wrong.is_empty() { String::new() } else { format!("\n## What differed\n\n{wrong}") };
        format!(
            "# Lives under random kills\n\n\
             Measured on {date} by `{command} --write-docs`; written by it.\n\n\
             A *life* is one connector from its first load over an increment to one with deletions and merges, on servers of \
             its own: Temporal on a file, PostgreSQL on a data directory, a worker process. Ten lives share the servers \
             and their kills, each at another place of its work when a kill comes. In each of its three syncs worker, \
             Temporal and PostgreSQL are killed with SIGKILL in a random order, one of them twice in a row, each at a random \
             moment after the last commit, and come back after up to 1.5 s. Records are edited meanwhile.\n\n\
             Afterwards the checker finds nothing, and canonical rows, dead letters and counts equal those of an \
             installation that read the same accounts undisturbed: all columns but run, times of writing, \
             observation number and canonical id. A constraint of the tests in the database refuses every commit \
             whose resume point is ahead of its rows. Processes are killed, not machines: PostgreSQL runs with fsync off.\n\n\
             | | |\n|---|---:|\n{rows}\nSeeds: {seeds}\n{wrong}",
            date = self.date,
            command = self.command,
            seeds = seeds.join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"test faults::x ... fault-run {"seed":"7/0","records":3080,"batchSize":500,"startedBy":"tick",
        "kills":{"worker":4,"temporal":4,"postgres":3},"workerLeftByItself":0,"seconds":185,"rows":3169,"deadLetters":6,
        "processed":3625,"wrong":[]}"#;

    fn report(wrong: &[&str]) -> Report {
        let (_, json) = LINE.split_once(MARK).unwrap();
        let mut life: Life = serde_json::from_str(json).unwrap();
        life.wrong = wrong.iter().map(|&it| it.to_owned()).collect();
        let command = "cargo xtask faults --runs 1 --seed 7".to_owned();
        Report {
            date: "2026-11-23".to_owned(),
            command,
            seconds: 185,
            ten_minute_outage: Some(true),
            lives: vec![life],
        }
    }

    #[test]
    fn a_life_is_read_from_the_tests_output_and_counted() {
        let document = report(&[]).document();
        for part in ["| lives | 1 |", "worker while a life's sync was at work | 4 |", "Seeds: 7\n", "--seed 7"] {
            assert!(document.contains(part), "{part}: {document}");
        }
        assert!(!document.contains("What differed"));
    }

    #[test]
    fn what_differed_is_told_with_its_seed() {
        let document = report(&["account: 1 differ"]).document();
        assert!(document.contains("- 7/0: account: 1 differ"), "{document}");
    }
}
