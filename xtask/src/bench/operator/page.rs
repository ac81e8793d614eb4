//! docs/benchmarks/operator.md, its plots, its figures as JSON, and its part of docs/benchmarks.md. Computes nothing.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::report::Report;
use crate::bench::{
    chart::{self, Bar},
    figures::grouped,
    page::{self, put},
};

const PAGE: &str = "operator.md";
const FIGURES: &str = "operator.json";

const MEASURED: &str = "
## What is measured

- **The fleet** is declared once, with nobody at work, and what etcd then holds is kept; every contender begins with the same bytes, a freshly started
  API server (the real one, etcd without fsync), and an empty Temporal (its development server, in memory). A watcher, which costs all of them the same, notes when each state is seen.
- **The floor**: a client that does nothing but the writes gtm-sync needs, finalizer and status of each TenantSchedule and status of each Connector, of the same shape and size, by as many writers as gtm-sync
  has reconciles at once, each as fast as it is answered.
- **gtm-sync**: the release build's operator as one process with a Lease, its store PostgreSQL (Debian's defaults, durable). Each Connector costs it a read of its Secret, sealing, a
  transaction, and the start of a check, too. No worker runs: what workers leave in the store, results of checks, commits of batches, ends of runs, is written there by the benchmark, for real ones would leave no core to the operator.
- **controller-runtime**: an operator of the same shape (`xtask/tools/operator-peer`), written as kubebuilder scaffolds it: finalizers by Update on both kinds, the schedule described at each reconcile, status by Update when it
  changed, Secrets from the cache, checks started through the Go SDK. It has no store, seals nothing and observes no runs: work that it is spared. *default*: one reconcile at a time, every event is one. *tuned*: as many at once as
  gtm-sync, only generations count, managed fields are dropped from the cache. Neither has a client-side limit, as since controller-runtime 0.21.
- **API writes** are those that the API server counts (`apiserver_request_total`) for TenantSchedules, Connectors, Events, Secrets and ConfigMaps; **Temporal requests** are those its frontend counts (`service_requests`).
- **Edits in the storm** are made when half of all objects are Ready, to a TenantSchedule and a Connector; **at rest** five of each, one after another: median (least–most). A schedule's change in Temporal is timed by Temporal.
- **Ages**: every sync commits a batch each two seconds, ten connections a second are refused. An age lasts from the answer to the commit until the watcher sees it, or a later state, in the custom resource.

## What this does not show

- A cluster with a network, admission webhooks, or etcd on disks: writes are slower there, for all contenders.
- A production Temporal: its limits a second are lower, and its answers take longer.
- Absolute speed elsewhere: cores are few and shared by all of these servers. Compare ratios.
";

impl Report {
    /// Keeps the figures beside the logs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn keep(&self, path: &Path) -> anyhow::Result<()> {
        put(path, &self.figures())
    }

    /// Writes pages, plots and figures.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, repository: &Path) -> anyhow::Result<()> {
        let directory = repository.join("docs/benchmarks");
        fs::create_dir_all(&directory)?;
        put(&directory.join(FIGURES), &self.figures())?;
        let remark = "the whole fleet, from the operator's start; shorter is better";
        put(&directory.join("operator-ready.svg"), &plot("Seconds until all is Ready", remark, &self.bars.seconds))?;
        let remark = "the operator's peak; shorter is better";
        put(&directory.join("operator-memory.svg"), &plot("Memory, MB", remark, &self.bars.megabytes))?;
        put(&directory.join(PAGE), &format!("# A fleet of objects\n\n{}{MEASURED}", self.findings("")))?;
        let pages = repository.join("docs/benchmarks.md");
        let text = fs::read_to_string(&pages).with_context(|| format!("no {}", pages.display()))?;
        let part = format!(
            "## Operator\n\n{}\nWhat is measured, and what this does not show: [{PAGE}](benchmarks/{PAGE}).\n",
            self.findings("benchmarks/")
        );
        put(&pages, &page::with_part(&text, "operator", &part))
    }

    fn findings(&self, plots: &str) -> String {
        let mut text = format!(
            "Written by `{}`. Do not edit: run it. [Figures as JSON]({plots}{FIGURES}).\n\n{}\n\n{}\n\n| what | goal | found | |\n|---|---|---|---|\n",
            self.command, self.machine, self.setting
        );
        for goal in &self.goals {
            let mark = if goal.met { "met" } else { "**missed**" };
            text += &format!("| {} | {} | {} | {mark} |\n", goal.what, goal.wanted, goal.found);
        }
        text += &format!(
            "\n![seconds until all is Ready]({plots}operator-ready.svg)\n\n![memory]({plots}operator-memory.svg)\n\n|"
        );
        for column in &self.columns {
            text += &format!(" | {column}");
        }
        text += &format!(" |\n|---{}|\n", "|---".repeat(self.columns.len()));
        for row in &self.rows {
            text += &format!("| {} | {} |\n", row.what, row.texts().collect::<Vec<_>>().join(" | "));
        }
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        text
    }

    fn figures(&self) -> String {
        let goals =
            self.goals.iter().map(|it| json!({"what": it.what, "goal": it.wanted, "found": it.found, "met": it.met}));
        let contenders = self.columns.iter().enumerate().map(|(at, name)| {
            let figures = self.rows.iter().map(|row| {
                let values = row.cells[at].as_ref().map_or(Value::Null, |it| match it.as_slice() {
                    [value] => json!(value),
                    values => json!(values),
                });
                (row.what.to_owned(), values)
            });
            ((*name).to_owned(), Value::Object(figures.collect()))
        });
        let figures = json!({
            "command": self.command,
            "machine": self.machine,
            "setting": self.setting,
            "goals": goals.collect::<Vec<_>>(),
            "contenders": contenders.collect::<serde_json::Map<_, _>>(),
            "counted": self.counted,
            "remarks": self.remarks,
        });
        format!("{figures:#}\n")
    }
}

fn plot(title: &str, remark: &str, bars: &[(String, f64, bool)]) -> String {
    let bars = bars.iter().map(|(label, value, ours)| Bar {
        label: label.clone(),
        value: *value,
        figure: grouped(*value, 0),
        ours: *ours,
    });
    chart::draw(title, remark, &bars.collect::<Vec<_>>())
}
