//! `gtm-sync runs`: how a connector's runs went, also those that Temporal has forgotten.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Common, Format, Whose, known, open, print_json, remark, table};
use crate::store::{RunOutcome, RunRow};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a connector's runs, the newest first.
    List {
        #[command(flatten)]
        whose: Whose,
        /// At most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    /// Runs it.
    pub(super) async fn run(self, output: &mut dyn Write) -> anyhow::Result<()> {
        let Self::List { whose, limit, common } = self;
        let store = open(&common.store).await?;
        known(store.as_ref(), &whose).await?;
        let runs = store.runs(&whose.tenant, &whose.connector, limit as usize).await?;
        match common.output {
            Format::Json => print_json(output, &runs.iter().map(described).collect()),
            Format::Table if runs.is_empty() => {
                remark("no runs yet");
                Ok(())
            }
            Format::Table => {
                let head = ["RUN", "KIND", "STARTED", "ENDED", "OUTCOME", "RECORDS", "WRITTEN", "ERRORS", "ERROR"];
                Ok(table::print(output, &head, &runs.iter().map(row).collect::<Vec<_>>())?)
            }
        }
    }
}

fn outcome(run: &RunRow) -> &'static str {
    match run.outcome {
        None if run.parked.is_some() => "waits",
        None => "at work",
        Some(RunOutcome::Complete) => "complete",
        Some(RunOutcome::More) => "more",
        Some(RunOutcome::Failed) => "failed",
        Some(RunOutcome::Terminated) => "terminated",
    }
}

fn row(run: &RunRow) -> Vec<String> {
    let waits = run.parked.as_ref().map(|parked| format!("{} until {:.0}", parked.reason, parked.until));
    vec![
        run.workflow_id.clone(),
        if run.full_sync { "full" } else { "incremental" }.to_owned(),
        format!("{:.0}", run.started_at),
        run.finished_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
        outcome(run).to_owned(),
        run.stats.records_processed.to_string(),
        run.stats.records_written.to_string(),
        run.stats.errors_count.to_string(),
        run.error.clone().or(waits).unwrap_or_else(|| "-".to_owned()),
    ]
}

fn described(run: &RunRow) -> Value {
    json!({
        "run": run.workflow_id,
        "fullSync": run.full_sync,
        "startedAt": run.started_at,
        "finishedAt": run.finished_at,
        "outcome": outcome(run),
        "stats": run.stats,
        "parked": run.parked,
        "error": run.error,
    })
}
