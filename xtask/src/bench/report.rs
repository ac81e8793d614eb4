//! What a benchmark found: its conditions, the table, our goals and whether they were met; and all of it as text for a
//! terminal. It measures nothing; the written page is `page`'s.

use std::fs;

use super::{
    Measure, Measures, Options, Stage, Sync,
    database::Database,
    figures::{Figure, Line, grouped, mib, or_dash},
    history::History,
    page::{SETUP_PRODUCT, SETUP_RAW},
    peers::Peer,
};
use crate::machine::Machine;

/// A goal of ours and what came out.
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) wanted: String,
    pub(super) found: String,
    pub(super) met: bool,
}

/// The whole report.
pub(super) struct Report {
    pub(super) command: String,
    pub(super) machine: String,
    pub(super) setting: String,
    pub(super) source: String,
    pub(super) lines: Vec<Line>,
    pub(super) goals: Vec<Goal>,
    pub(super) remarks: Vec<String>,
    pub(super) setups: Vec<String>,
    pub(super) records: f64,
    pub(super) with_peers: bool,
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
        let measure_of = |syncs: &[Sync]| syncs.iter().map(|it| it.measure).collect::<Vec<_>>();
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
            machine: machine_line(machine, &stage.load),
            setting: format!("PostgreSQL {} ({}; the rest are defaults)", stage.database.version, Database::settings()),
            source: source_line(stage),
            lines,
            goals,
            remarks: remarks(stage, measures),
            setups,
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            records: records as f64,
            with_peers: !peers.is_empty(),
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
    let most = |value: fn(&History) -> usize| {
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
pub(super) fn machine_line(machine: &Machine, load: &str) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": ")).map_or("", |it| it.1);
    let cores = processors.lines().filter(|it| it.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    let date = machine.program("date").and_then(|it| std::process::Command::new(it).args(["-u", "+%F"]).output().ok());
    let date = date.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "{date}, {cores} cores {model}, {} GiB, Linux {}, load {load} when it began",
        kib >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    )
}
