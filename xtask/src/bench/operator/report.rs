//! The goals with their verdicts, and the contenders side by side, as rows of text. Measures nothing; the written page is
//! `page`'s.

use serde_json::{Value, json};

use super::{
    Options, Size,
    contender::{CONCURRENCY, Contender},
    exposition::Counts,
    findings::{Findings, Measured, Syncing, megabytes},
    phases::{Cold, Edits, Idle, Restart},
    staleness::Ages,
    tick,
};
use crate::{
    bench::{
        figures::{Figure, grouped},
        report::{Goal, machine_line},
    },
    machine::Machine,
};

/// Status writes a second that the operator allows itself for what it observes (`RATE` in `src/operator/status_pace.rs`).
const BUDGET: f64 = 100.0;
const NOT_MEASURED: &str = "not measured";

/// A row of the comparison, a cell a contender.
pub(super) struct Row {
    pub(super) what: &'static str,
    digits: usize,
    /// One value or two, or a median with its least and most; without any, whether that is so because something failed.
    pub(super) cells: Vec<Result<Vec<f64>, bool>>,
}

/// Bars of the plots: whose, how long, whether it is the product's.
pub(super) struct Bars {
    pub(super) seconds: Vec<(String, f64, bool)>,
    pub(super) megabytes: Vec<(String, f64, bool)>,
}

/// The whole report.
pub(super) struct Report {
    pub(super) command: String,
    pub(super) machine: String,
    pub(super) setting: String,
    pub(super) goals: Vec<Goal>,
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    pub(super) remarks: Vec<String>,
    pub(super) bars: Bars,
    /// What the servers counted in each phase of each contender, for the figures.
    pub(super) counted: Value,
}

impl Report {
    /// Judges and lays out.
    pub(super) fn new(machine: &Machine, options: &Options, size: Size, load: &str, findings: &Findings) -> Self {
        Self {
            command: command(options),
            machine: machine_line(machine, load.split_whitespace().next().unwrap_or("unknown")),
            setting: format!(
                "{} TenantSchedules, each in a namespace of its own with a Secret; {} Connectors; {} syncs at work at once",
                grouped(count(size.tenants), 0),
                grouped(count(size.connectors), 0),
                grouped(count(size.syncs), 0)
            ),
            goals: goals(findings, size),
            columns: findings.contenders.iter().map(|it| it.contender.name()).collect(),
            rows: rows(findings, size),
            remarks: remarks(findings, size),
            bars: bars(findings),
            counted: findings.contenders.iter().map(|it| (it.contender.name().to_owned(), counted(it))).collect(),
        }
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = format!("\n{}\n{}\n{}\n\n", self.command, self.machine, self.setting);
        for goal in &self.goals {
            let mark = if goal.met { "met   " } else { "MISSED" };
            text += &format!("{mark}  {}: {} (goal {})\n", goal.what, goal.found, goal.wanted);
        }
        text += &format!("\n{:58}", "");
        for column in &self.columns {
            text += &format!("{column:>28}");
        }
        for row in &self.rows {
            text += &format!("\n{:58}", row.what);
            for cell in row.texts() {
                text += &format!("{cell:>28}");
            }
        }
        text += "\n";
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        text
    }
}

fn goals(findings: &Findings, size: Size) -> Vec<Goal> {
    let product = findings.product();
    let cold = product.and_then(|it| it.cold.as_ref());
    let restart = product.and_then(|it| it.restart.as_ref());
    let idle = product.and_then(|it| it.idle.as_ref());
    let syncing = product.and_then(|it| it.syncing.as_ref());
    let tick = product.and_then(|it| it.tick.as_ref());
    let floor = findings.floor_seconds();
    let at_most = |what: &str, limit: f64, unit: &str, found: Option<f64>, digits: usize| Goal {
        what: what.to_owned(),
        wanted: format!("≤ {limit}{unit}"),
        found: found.map_or_else(|| NOT_MEASURED.to_owned(), |it| format!("{it:.digits$}{unit}")),
        met: found.is_some_and(|it| it <= limit),
    };
    let none = |what: &str, found: Option<f64>| Goal { wanted: "0".to_owned(), ..at_most(what, 0.0, "", found, 0) };
    let age = |what: &str, limit: f64, ages: Option<&Ages>| {
        let goal = at_most(what, limit, " s", ages.map(|it| it.percentile(99)), 2);
        let lost = ages.map_or(0, |it| it.lost);
        if lost == 0 { goal } else { Goal { found: format!("{}, {lost} never shown", goal.found), met: false, ..goal } }
    };
    let ratio = cold.zip(floor).map(|(cold, floor)| cold.seconds / floor);
    let spread = tick.map(|it| count(it.missed + it.twice + it.outside));
    vec![
        at_most("start to all Ready, against the API server's own floor", 1.25, " ×", ratio, 2),
        at_most("API writes a Connector until all Ready", 1.0, "", cold.map(|it| a_connector(it, size)), 3),
        at_most("API writes a TenantSchedule until all Ready", 3.0, "", cold.map(|it| a_tenant(it, size)), 3),
        none("API writes after a restart, but the Lease", restart.map(|it| it.tally.all_written())),
        at_most("operator's peak memory", 80.0, " MB", product.and_then(Measured::peak_megabytes), 0),
        none("API writes in 10 idle minutes, but the Lease", idle.map(Idle::writes_in_ten_minutes)),
        at_most("CPU of the idle operator, of one core", 0.5, " %", idle.map(Idle::cpu_percent), 2),
        age("age of a condition, p99", 2.0, syncing.map(|it| &it.staleness.conditions)),
        age("age of a counter, p99", 15.0, syncing.map(|it| &it.staleness.counters)),
        at_most("statuses written a second while they sync", BUDGET, "", syncing.map(Syncing::statuses_a_second), 1),
        none("ticks missed, doubled or outside their spread", spread),
    ]
}

/// Writes a Connector: all of them in all parts, Events too, by objects and edits that needed one each.
fn a_connector(cold: &Cold, size: Size) -> f64 {
    // The edit in the storm is one write of ours and one of the operator's.
    (cold.tally.written("connectors") - 2.0).max(0.0) / count(size.connectors)
}

fn a_tenant(cold: &Cold, size: Size) -> f64 {
    (cold.tally.written("tenantschedules") + cold.tally.written("events") - 2.0).max(0.0) / count(size.tenants)
}

fn rows(findings: &Findings, size: Size) -> Vec<Row> {
    let row = |what, digits, of: &dyn Fn(&Measured) -> Option<Vec<f64>>| Row {
        what,
        digits,
        cells: findings.contenders.iter().map(|it| of(it).ok_or(it.failure.is_some())).collect(),
    };
    let one = |what, digits, of: &dyn Fn(&Measured) -> Option<f64>| row(what, digits, &|it| of(it).map(|it| vec![it]));
    let cold = |what, digits, of: &dyn Fn(&Cold) -> f64| one(what, digits, &|it| it.cold.as_ref().map(of));
    let restart = |what, digits, of: &dyn Fn(&Restart) -> f64| one(what, digits, &|it| it.restart.as_ref().map(of));
    let idle = |what, digits, of: &dyn Fn(&Idle) -> f64| one(what, digits, &|it| it.idle.as_ref().map(of));
    let edit = |what, of: &dyn Fn(&Edits) -> Figure| {
        row(what, 3, &|it| {
            let of = of(it.edits.as_ref()?);
            Some(vec![of.median, of.least, of.most])
        })
    };
    let (tenants, connectors) = (count(size.tenants), count(size.connectors));
    let floor = findings.floor_seconds();
    vec![
        cold("start to all Ready, s", 1, &|it| it.seconds),
        one("… against the floor, ×", 2, &|it| Some(it.cold.as_ref()?.seconds / floor?)),
        cold("operator's CPU until then, s", 1, &|it| it.cpu),
        cold("API server's and etcd's, s", 1, &|it| it.tally.server_cpu[0]),
        cold("Temporal's, s", 1, &|it| it.tally.server_cpu[1]),
        cold("API writes a Connector", 3, &|it| a_connector(it, size)),
        cold("API writes a TenantSchedule, Events too", 3, &|it| a_tenant(it, size)),
        cold("writes refused as out of date", 0, &|it| it.tally.refused()),
        cold("Temporal requests a TenantSchedule", 2, &|it| it.tally.schedule_requests() / tenants),
        cold("requests for connection checks a Connector", 2, &|it| it.tally.check_requests() / connectors),
        row("memory when all Ready and its peak, MB", 0, &|it| Some(it.cold.as_ref()?.memory.map(megabytes).to_vec())),
        cold("edit of a TenantSchedule in the storm, s", 2, &|it| it.edits[0]),
        one("… its schedule in Temporal, s", 2, &|it| it.cold.as_ref()?.schedule_edit),
        cold("edit of a Connector in the storm, s", 2, &|it| it.edits[1]),
        one("all connections told at once, s", 1, &|it| Some(it.connected.as_ref()?.seconds)),
        one("… API writes a Connector", 3, &|it| {
            Some(it.connected.as_ref()?.tally.written("connectors") / connectors)
        }),
        one("then written on for, s", 0, &|it| it.rest_seconds),
        restart("restart until all looked at, s", 1, &|it| it.seconds),
        restart("… API writes, but the Lease", 0, &|it| it.tally.all_written()),
        restart("… Temporal requests a TenantSchedule", 2, &|it| it.tally.schedule_requests() / tenants),
        restart("… operator's CPU, s", 1, &|it| it.cpu),
        edit("edit of a TenantSchedule at rest, s", &|it| it.tenant),
        edit("… its schedule in Temporal, s", &|it| it.schedule),
        edit("edit of a Connector at rest, s", &|it| it.connector),
        idle("idle: API writes in 10 minutes, but the Lease", 0, &Idle::writes_in_ten_minutes),
        idle("idle: CPU of one core, %", 2, &Idle::cpu_percent),
        idle("idle: memory, MB", 0, &|it| megabytes(it.memory[0])),
        row("age of a condition, p50 and p99, s", 2, &|it| Some(ages(&it.syncing.as_ref()?.staleness.conditions))),
        row("age of a counter, p50 and p99, s", 2, &|it| Some(ages(&it.syncing.as_ref()?.staleness.counters))),
        one("statuses written a second while they sync", 1, &|it| it.syncing.as_ref().map(Syncing::statuses_a_second)),
        one("Events a second while they sync", 1, &|it| {
            it.syncing.as_ref().map(|it| it.tally.written("events") / it.seconds)
        }),
    ]
}

impl Row {
    /// Cells as text.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.cells.iter().map(|cell| match cell {
            Ok(values) => {
                let texts: Vec<_> = values.iter().map(|it| grouped(*it, self.digits)).collect();
                match texts.as_slice() {
                    [median, least, most] => format!("{median} ({least}–{most})"),
                    texts => texts.join(", "),
                }
            }
            Err(true) => "failed".to_owned(),
            Err(false) => "–".to_owned(),
        })
    }
}

fn ages(of: &Ages) -> Vec<f64> {
    vec![of.percentile(50), of.percentile(99)]
}

fn remarks(findings: &Findings, size: Size) -> Vec<String> {
    let mut remarks = Vec::new();
    let floors = findings.floor.iter().map(|it| match it {
        Ok(seconds) => format!("{seconds:.1} s"),
        Err(why) => format!("failed ({why})"),
    });
    let writes = size.connectors + 2 * size.tenants;
    remarks.push(format!(
        "The floor: {} writes by {} writers of each kind that do nothing else took {}, before and after all others; ratios are to the mean.",
        grouped(count(writes), 0),
        CONCURRENCY,
        floors.collect::<Vec<_>>().join(" and ")
    ));
    if let Some(cold) = findings.product().and_then(|it| it.cold.as_ref()) {
        remarks.push(format!(
            "By gtm-sync's own count it wrote {:.0} statuses of what it had applied until all was Ready, and {:.0} of what it had observed of connections.",
            cold.parts[0], cold.parts[1]
        ));
        let [api_server, temporal] = cold.tally.server_cpu;
        remarks.push(format!(
            "The floor's writers have the cores to themselves and the API server. Until all was Ready the servers alone took {:.0} s of CPU for gtm-sync (API server, etcd and Temporal), and it took {:.0} s itself, on the same cores; PostgreSQL's come on top.",
            api_server + temporal,
            cold.cpu
        ));
    }
    if let Some(idle) = findings.product().and_then(|it| it.idle.as_ref()) {
        remarks.push(format!(
            "Idle was watched for {:.0} s and multiplied up to ten minutes: {:.0} writes were seen.",
            idle.seconds,
            idle.tally.all_written()
        ));
    }
    if let Some(syncing) = findings.product().and_then(|it| it.syncing.as_ref()) {
        let of = &syncing.staleness;
        remarks.push(format!(
            "Ages are of {} committed counts and {} changes of Connected; commits between two writes of a status are as old as the write that shows a later one.",
            grouped(count(of.counters.count()), 0),
            grouped(count(of.conditions.count()), 0)
        ));
    }
    if let Some(tick) = findings.product().and_then(|it| it.tick.as_ref()) {
        remarks.push(format!(
            "A tick of {} tenants at one minute, spread over {} s: {} missed, {} twice, {} outside; the first began after {:.1} s, the middle one after {:.1} s, the last after {:.1} s, \
             at most {} in a second. The edit of all schedules to that minute was in Temporal and in status after {:.1} s.",
            grouped(count(tick.tenants), 0), tick::window(), tick.missed, tick.twice, tick.outside, tick.at[0], tick.at[1], tick.at[2], tick.most, tick.edited_in
        ));
    }
    for measured in &findings.contenders {
        if let Some(why) = &measured.failure {
            remarks.push(format!("{} failed: {why}", measured.contender.name()));
        }
    }
    remarks
}

fn counted(of: &Measured) -> Value {
    let phases = [
        ("cold start", of.cold.as_ref().map(|it| &it.tally)),
        ("connections told", of.connected.as_ref().map(|it| &it.tally)),
        ("restart", of.restart.as_ref().map(|it| &it.tally)),
        ("idle", of.idle.as_ref().map(|it| &it.tally)),
        ("syncing", of.syncing.as_ref().map(|it| &it.tally)),
    ];
    let counts = |of: &Counts| of.each().map(|(what, count)| (what, json!(count))).collect::<Value>();
    let phases = phases.into_iter().filter_map(|(name, tally)| {
        let tally = tally?;
        Some((
            name.to_owned(),
            json!({"API writes": counts(&tally.writes), "Temporal requests": counts(&tally.requests)}),
        ))
    });
    phases.collect()
}

fn bars(findings: &Findings) -> Bars {
    let of = |value: &dyn Fn(&Measured) -> Option<f64>| -> Vec<_> {
        let bars = findings
            .contenders
            .iter()
            .filter_map(|it| Some((it.contender.name().to_owned(), value(it)?, it.contender == Contender::Product)));
        bars.collect()
    };
    let mut seconds = of(&|it| Some(it.cold.as_ref()?.seconds));
    seconds.extend(findings.floor_seconds().map(|it| ("the API server's floor".to_owned(), it, false)));
    Bars { seconds, megabytes: of(&|it| it.peak_megabytes()) }
}

fn command(options: &Options) -> String {
    if options.quick {
        return "cargo xtask bench operator --quick".to_owned();
    }
    let mut command =
        format!("cargo xtask bench operator --tenants {} --connectors {}", options.tenants, options.connectors);
    for (wanted, flag) in [(options.without_peers, " --without-peers"), (options.write_docs, " --write-docs")] {
        command += if wanted { flag } else { "" };
    }
    command
}

fn count(of: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let of = of as f64;
    of
}
