//! docs/benchmarks.md and its plots: the report for readers who were not there. It computes nothing.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::{
    chart::{self, Bar},
    figures::{Line, grouped, or_dash},
    report::Report,
};
use crate::console;

pub(super) const SETUP_PRODUCT: &str = "**gtm-sync**: the release build's worker as one process, one Connector declared by custom \
resources, its stream `contacts` synced in full by `connectorSyncWorkflow` through Temporal's development server, all four \
activities; the default batch size. It also reads the archive for tombstones, which the others do not; only live records are counted. \
*First load*: into an empty table. *Unchanged*: the same again; that no row was written is checked.";
pub(super) const SETUP_RAW: &str = "**raw SQL**: the rows gtm-sync wrote, in memory as COPY text, by one connection: COPY into a temporary \
table, `INSERT … ON CONFLICT … DO UPDATE … WHERE … IS DISTINCT FROM`, 50,000 rows a commit, into a table of the same shape and \
keys. No source, no parsing, no staging, no resume point.";

const NOT_SHOWN: &str = "
All contenders read the same pages (100 records, the most HubSpot gives) of one process on the loopback that renders each page
once, with the same parameters, and write into one PostgreSQL. Every contender's live rows are counted after each load. CPU time
is that of the process and the children it waited for, from /proc; peak memory is VmHWM of the worker, for peers the largest sum
over their processes seen every 50 ms. The measurements are interleaved: contender after contender, then the next round.

## What this does not show

- How long a sync of a real account takes: HubSpot allows 10 to 25 requests a second, 1,000 to 2,500 records. CPU matters
  because one worker syncs many tenants.
- TLS, compression of answers and network latency: none of the contenders pays for them here.
- Speed of other streams, of increments by search, or of SQLite.
- Absolute speed elsewhere: cores are few and shared here. Compare ratios.
";

impl Report {
    /// Writes docs/benchmarks.md and its plots; without peers docs/benchmarks/large.md, which has none.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, repository: &Path) -> anyhow::Result<()> {
        let (docs, plots) = (repository.join("docs"), repository.join("docs/benchmarks"));
        fs::create_dir_all(&plots)?;
        if !self.with_peers {
            let head = "[All contenders](../benchmarks.md), and what this measures; here larger and without peers.\n\n";
            return put(&plots.join(LARGE), &format!("# A large sync\n\n{head}{}", self.findings("")));
        }
        let remark = format!("{} records, HTTP JSON to PostgreSQL; median; longer is better", grouped(self.records, 0));
        let cpu = self.plot("Records a CPU-second of the client", &remark, |it| it.per_cpu_second.median);
        put(&plots.join("sync-cpu.svg"), &cpu)?;
        let remark = format!("{} records, median of the client's peaks; shorter is better", grouped(self.records, 0));
        put(&plots.join("sync-memory.svg"), &self.plot("Peak memory, MiB", &remark, |it| it.peak_mib.median))?;
        let path = docs.join("benchmarks.md");
        // The other benchmark's part stays as it is.
        let before = fs::read_to_string(&path).unwrap_or_default();
        put(&path, &with_part(&self.page(plots.join(LARGE).exists()), "operator", part(&before, "operator")))
    }

    fn plot(&self, title: &str, remark: &str, value: impl Fn(&Line) -> f64) -> String {
        let bars = self.lines.iter().filter(|it| it.plotted).map(|line| {
            let value = value(line);
            Bar { label: line.name.clone(), value, figure: grouped(value, 0), ours: line.ours }
        });
        chart::draw(title, remark, &bars.collect::<Vec<_>>())
    }

    fn page(&self, has_large: bool) -> String {
        let plots =
            "![records a CPU-second](benchmarks/sync-cpu.svg)\n\n![peak memory](benchmarks/sync-memory.svg)\n\n";
        let mut text = format!("# Benchmarks\n\n{}", self.findings(plots));
        if has_large {
            text += &format!("A larger sync: [{LARGE}](benchmarks/{LARGE}).\n\n");
        }
        text += "## What is measured\n\n";
        for setup in &self.setups {
            text += &format!("- {setup}\n");
        }
        text + NOT_SHOWN
    }

    /// Conditions, goals, table and remarks, with `plots` before the table.
    fn findings(&self, plots: &str) -> String {
        let mut text = format!(
            "Written by `{}`. Do not edit: run it.\n\n{}\n\n{}\n\n{}\n\n| what | goal | found | |\n|---|---|---|---|\n",
            self.command, self.machine, self.setting, self.source
        );
        for goal in &self.goals {
            let mark = if goal.met { "met" } else { "**missed**" };
            text += &format!("| {} | {} | {} | {mark} |\n", goal.what, goal.wanted, goal.found);
        }
        text += &format!("\n{plots}{HEAD}\n|---|---|---|---|---|---|---|---|---|\n");
        for line in &self.lines {
            text += &row(line);
        }
        text += "\nMedian (least–most).\n\n";
        for remark in &self.remarks {
            text += &format!("{remark}\n\n");
        }
        text
    }
}

/// Page of the last run without peers, beside the plots.
const LARGE: &str = "large.md";

const HEAD: &str = "| | records / CPU-s of the client | records / s | wall s | client CPU s | PostgreSQL CPU s | Temporal CPU s \
| all of them | peak memory MiB |";

fn row(line: &Line) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        line.name,
        line.per_cpu_second.show(0),
        line.per_second.show(0),
        line.wall.show(2),
        line.cpu.show(2),
        line.postgres_cpu.show(2),
        or_dash(line.temporal_cpu.median, 2),
        line.all_cpu.show(2),
        or_dash(line.peak_mib.median, 0),
    )
}

/// A part of a page, which another benchmark writes: what stands between its two marks.
fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let between = text.split_once(&begin(name)).and_then(|(_, rest)| rest.split_once(&end(name)));
    between.map_or("", |(part, _)| part)
}

/// The page with this part in place of the former, at its end where there was none.
pub(super) fn with_part(text: &str, name: &str, part: &str) -> String {
    let (begin, end) = (begin(name), end(name));
    let (before, after) = match (text.split_once(&begin), text.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after),
        _ => (format!("{}\n", text.trim_end_matches('\n')) + "\n", ""),
    };
    if part.is_empty() { text.to_owned() } else { format!("{before}{begin}{part}{end}{after}") }
}

fn begin(name: &str) -> String {
    format!("<!-- begin: {name} -->\n")
}

fn end(name: &str) -> String {
    format!("<!-- end: {name} -->\n")
}

pub(super) fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    console::line(format_args!("wrote {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_benchmark_replaces_its_own_part_of_the_page_and_keeps_the_others() {
        let first = with_part("# Page\n\ntext\n", "operator", "one\n");
        assert!(first.starts_with("# Page\n\ntext\n\n") && part(&first, "operator") == "one\n");
        let second = with_part(&first, "operator", "two\n");
        assert_eq!(second, first.replace("one", "two"));
        let rewritten = with_part("# New\n", "operator", part(&second, "operator"));
        assert!(rewritten.starts_with("# New\n") && part(&rewritten, "operator") == "two\n");
        assert_eq!(with_part("# New\n", "operator", part("# Old\n", "operator")), "# New\n");
    }
}
