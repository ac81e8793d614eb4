//! The figures of a benchmark: medians and spreads, ratios first, as text, as docs/benchmarks.md and as plots.
//! It computes and formats; it measures nothing.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::{
    Measure, Measures, Options, Stage,
    chart::{self, Bar},
    database::Database,
    peers::Peer,
};
use crate::{console, machine::Machine};

/// A figure of several measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (values.first(), values.last()) else { return Self::default() };
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, least, most }
    }

    /// The median, and the spread where there is one.
    fn show(&self, digits: usize) -> String {
        let median = format!("{:.digits$}", self.median);
        if (self.most - self.least).abs() < f64::EPSILON {
            return median;
        }
        format!("{median} ({:.digits$}–{:.digits$})", self.least, self.most)
    }
}

/// One line of the table.
struct Line {
    name: String,
    /// What it stands for in plots; `None` = not plotted.
    plotted: bool,
    ours: bool,
    per_cpu_second: Figure,
    per_second: Figure,
    wall: Figure,
    cpu: Figure,
    postgres_cpu: Figure,
    temporal_cpu: Figure,
    peak_mib: Figure,
    /// All CPU that moves records, source left out.
    all_cpu: Figure,
}

/// A goal of ours and what came out.
struct Goal {
    what: String,
    wanted: String,
    found: String,
    met: bool,
}

/// The whole report.
pub(super) struct Report {
    command: String,
    machine: String,
    setting: String,
    source: String,
    lines: Vec<Line>,
    goals: Vec<Goal>,
    remarks: Vec<String>,
    setups: Vec<String>,
    records: u64,
}

impl Report {
    /// Computes everything there is to say.
    pub(super) fn new(
        machine: &Machine,
        options: &Options,
        stage: &Stage,
        peers: &[Peer],
        measures: &Measures,
    ) -> Self {
        let records = stage.source.records;
        let line = |name: &str, ours, plotted, values: &[Measure]| Line::of(name, ours, plotted, records, values);
        let measure_of = |syncs: &[super::Sync]| syncs.iter().map(|it| it.measure).collect::<Vec<_>>();
        let first = line("gtm-sync, first load", true, true, &measure_of(&measures.first));
        let again = line("gtm-sync, unchanged", true, false, &measure_of(&measures.again));
        let raw = line("raw SQL, first load", false, false, &measures.raw_first);
        let raw_again = line("raw SQL, unchanged", false, false, &measures.raw_again);
        let peer_lines: Vec<_> =
            peers.iter().zip(&measures.peers).map(|(peer, values)| line(peer.name, false, true, values)).collect();
        let goals = goals(&first, &again, &raw, &peer_lines, stage, measures);
        let mut setups = vec![SETUP_PRODUCT.to_owned()];
        setups.extend(peers.iter().map(|it| {
            format!(
                "**{}**: {}. Its start alone costs {:.1} CPU-seconds, which are in its figures.",
                it.name, it.setup, it.start_cpu
            )
        }));
        setups.push(SETUP_RAW.to_owned());
        let mut lines = vec![first, again];
        lines.extend(peer_lines);
        lines.extend([raw, raw_again]);
        Self {
            command: command(options),
            machine: machine_line(machine),
            setting: format!("PostgreSQL {} ({}; the rest are defaults)", stage.database.version, Database::settings()),
            source: source_line(stage),
            lines,
            goals,
            remarks: remarks(stage, measures),
            setups,
            records,
        }
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = format!("\n{}\n{}\n{}\n{}\n\n", self.command, self.machine, self.setting, self.source);
        for goal in &self.goals {
            let mark = if goal.met { "met   " } else { "MISSED" };
            text += &format!("{mark}  {}: {} (goal {})\n", goal.what, goal.found, goal.wanted);
        }
        text += &format!(
            "\n{:22}{:>26}{:>18}{:>18}{:>12}{:>12}{:>16}\n",
            "", "records/CPU-s", "wall s", "client CPU s", "PG CPU s", "Temporal", "peak MiB"
        );
        for line in &self.lines {
            text += &format!(
                "{:22}{:>26}{:>18}{:>18}{:>12.2}{:>12}{:>16}\n",
                line.name,
                line.per_cpu_second.show(0),
                line.wall.show(2),
                line.cpu.show(2),
                line.postgres_cpu.median,
                or_dash(line.temporal_cpu.median, 2),
                or_dash(line.peak_mib.median, 0),
            );
        }
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        text
    }

    /// Writes docs/benchmarks.md and the plots.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, repository: &Path) -> anyhow::Result<()> {
        let plots = repository.join("docs/benchmarks");
        fs::create_dir_all(&plots)?;
        let put = |path: std::path::PathBuf, text: String| {
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
            console::line(format_args!("wrote {}", path.display()));
            anyhow::Ok(())
        };
        let remark = format!("{} records, HTTP JSON to PostgreSQL; median; longer is better", self.records);
        put(
            plots.join("sync-cpu.svg"),
            self.plot("Records a CPU-second of the client", &remark, |it| (it.per_cpu_second.median, 0)),
        )?;
        let remark = format!("{} records, median of the client's peaks; shorter is better", self.records);
        put(plots.join("sync-memory.svg"), self.plot("Peak memory, MiB", &remark, |it| (it.peak_mib.median, 0)))?;
        put(repository.join("docs/benchmarks.md"), self.markdown())
    }

    fn plot(&self, title: &str, remark: &str, value: impl Fn(&Line) -> (f64, usize)) -> String {
        let bars = self.lines.iter().filter(|it| it.plotted).map(|line| {
            let (value, digits) = value(line);
            Bar { label: line.name.clone(), value, figure: grouped(value, digits), ours: line.ours }
        });
        chart::draw(title, remark, &bars.collect::<Vec<_>>())
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# Benchmarks\n\nWritten by `{}`. Do not edit: run it.\n\n{}\n\n{}\n\n{}\n\n",
            self.command, self.machine, self.setting, self.source
        );
        text += "| what | goal | found | |\n|---|---|---|---|\n";
        for goal in &self.goals {
            let mark = if goal.met { "met" } else { "**missed**" };
            text += &format!("| {} | {} | {} | {mark} |\n", goal.what, goal.wanted, goal.found);
        }
        text += "\n![records a CPU-second](benchmarks/sync-cpu.svg)\n\n![peak memory](benchmarks/sync-memory.svg)\n\n";
        text += "| | records / CPU-s of the client | records / s | wall s | client CPU s | PostgreSQL CPU s | Temporal CPU s | all of them | peak memory MiB |\n|---|---|---|---|---|---|---|---|---|\n";
        for line in &self.lines {
            text += &format!(
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
            );
        }
        text += "\nMedian (least–most).\n\n";
        for remark in &self.remarks {
            text += &format!("{remark}\n\n");
        }
        text += "## What is measured\n\n";
        for setup in &self.setups {
            text += &format!("- {setup}\n");
        }
        text + NOT_SHOWN
    }
}

const SETUP_PRODUCT: &str = "**gtm-sync**: the release build's worker as one process, one Connector declared by custom \
resources, its stream `contacts` synced in full by `connectorSyncWorkflow` through Temporal's development server, all four \
activities; the default batch size. It also reads the archive for tombstones, which the others do not; only live records are counted. \
*First load*: into an empty table. *Unchanged*: the same again; that no row was written is checked.";
const SETUP_RAW: &str = "**raw SQL**: the rows gtm-sync wrote, in memory as COPY text, by one connection: COPY into a temporary \
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

impl Line {
    fn of(name: &str, ours: bool, plotted: bool, records: u64, measures: &[Measure]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let records = records as f64;
        let figure = |value: &dyn Fn(&Measure) -> f64| Figure::of(measures.iter().map(value));
        Self {
            name: name.to_owned(),
            ours,
            plotted,
            per_cpu_second: figure(&|it| records / it.cpu.max(0.01)),
            per_second: figure(&|it| records / it.wall),
            wall: figure(&|it| it.wall),
            cpu: figure(&|it| it.cpu),
            postgres_cpu: figure(&|it| it.postgres_cpu),
            temporal_cpu: figure(&|it| it.temporal_cpu),
            peak_mib: figure(&|it| mib(it.peak_kib)),
            all_cpu: figure(&|it| it.cpu + it.postgres_cpu + it.temporal_cpu),
        }
    }
}

fn goals(first: &Line, again: &Line, raw: &Line, peers: &[Line], stage: &Stage, measures: &Measures) -> Vec<Goal> {
    let at_least = |what: &str, wanted: f64, unit: &str, found: f64, digits: usize| Goal {
        what: what.to_owned(),
        wanted: format!("≥ {wanted}{unit}"),
        found: format!("{found:.digits$}{unit}"),
        met: found >= wanted,
    };
    let at_most = |what: &str, wanted: f64, unit: &str, found: f64, digits: usize| Goal {
        what: what.to_owned(),
        wanted: format!("≤ {wanted}{unit}"),
        found: format!("{found:.digits$}{unit}"),
        met: found <= wanted,
    };
    let mut goals: Vec<_> = peers
        .iter()
        .zip([10.0, 20.0])
        .map(|(peer, wanted)| {
            let what = format!("records a CPU-second, against {}", peer.name);
            at_least(&what, wanted, " ×", first.per_cpu_second.median / peer.per_cpu_second.median, 1)
        })
        .collect();
    let share = first.per_second.median / raw.per_second.median * 100.0;
    goals.push(at_least("records a second, share of raw SQL", 60.0, " %", share, 0));
    let faster = again.per_second.median / first.per_second.median;
    goals.push(at_least("unchanged re-sync, speed against the first load", 1.3, " ×", faster, 2));
    let above_idle = first.peak_mib.most.max(again.peak_mib.most) - mib(stage.product.idle_kib);
    goals.push(at_most("worker's peak memory during a sync, above the idle worker's", 64.0, " MiB", above_idle, 0));
    let idle = Figure::of(measures.first.iter().map(|it| it.history.idle_share() * 100.0));
    goals.push(at_most("time in which neither fetch nor write is at work", 10.0, " %", idle.median, 1));
    let most = |value: fn(&super::history::History) -> usize| {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let most = measures.first.iter().map(|it| value(&it.history)).max().unwrap_or(0) as f64;
        most
    };
    goals.push(at_most("events in a history", 2_000.0, "", most(|it| it.events), 0));
    goals.push(at_most("largest payload in a history", 5_000.0, " bytes", most(|it| it.largest_payload), 0));
    goals
}

fn remarks(stage: &Stage, measures: &Measures) -> Vec<String> {
    let mut remarks = Vec::new();
    let idle = mib(stage.product.idle_kib);
    remarks.push(format!("The idle worker holds {idle:.0} MiB before its first sync; the peaks include it."));
    if let Some(sync) = measures.first.last() {
        let history = &sync.history;
        remarks.push(format!(
            "The last first load took {:.2} s by its history: {:.2} s of fetching and {:.2} s of writing, which overlap, {} commits, \
             {} execution(s); in {:.2} s neither was at work.",
            history.seconds, history.busy_seconds[0], history.busy_seconds[1], history.commits, history.executions, history.idle_seconds
        ));
    }
    remarks
}

fn source_line(stage: &Stage) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = stage.source.bytes as f64;
    format!(
        "Source: {} contacts, {:.1} MB of JSON; it serves {} records a second to a client that drops them.",
        stage.source.records,
        bytes / 1e6,
        grouped(stage.source.records_per_second, 0)
    )
}

fn command(options: &Options) -> String {
    if options.quick {
        return "cargo xtask bench sync --quick".to_owned();
    }
    let peers = if options.without_peers { " --without-peers" } else { "" };
    let docs = if options.write_docs { " --write-docs" } else { "" };
    format!("cargo xtask bench sync --records {} --runs {}{peers}{docs}", options.records, options.runs)
}

/// Processor, cores, kernel, date and load, as the machine tells them.
fn machine_line(machine: &Machine) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": ")).map_or("", |it| it.1);
    let cores = processors.lines().filter(|it| it.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let date = machine.program("date").and_then(|it| std::process::Command::new(it).args(["-u", "+%F"]).output().ok());
    let date = date.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "{date}, {cores} cores {model}, {} GiB, Linux {}, load {load} at the end",
        kib >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

fn mib(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let kib = kib as f64;
    kib / 1_024.0
}

fn or_dash(value: f64, digits: usize) -> String {
    if value > 0.0 { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// `12,345`.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |it| (it.0, format!(".{}", it.1)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_its_spread() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]).show(1), "2.0 (1.0–3.0)");
        assert_eq!(Figure::of([4.0, 2.0]).median, 3.0);
        assert_eq!(Figure::of([5.0]).show(0), "5");
        assert_eq!(Figure::of([]), Figure::default());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.5, 1), "999.5");
    }

    #[test]
    fn a_line_counts_records_by_the_clients_own_cpu_time() {
        let measure =
            Measure { wall: 2.0, cpu: 0.5, postgres_cpu: 1.0, temporal_cpu: 0.25, source_cpu: 9.0, peak_kib: 2_048 };
        let line = Line::of("x", true, true, 1_000, &[measure]);
        assert_eq!((line.per_cpu_second.median, line.per_second.median), (2_000.0, 500.0));
        assert_eq!((line.all_cpu.median, line.peak_mib.median), (1.75, 2.0));
    }
}
