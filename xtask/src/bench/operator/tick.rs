//! One tick of every tenant at the same minute: all schedules are edited to it, then Temporal is asked which runs it started.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Bench, Size, stage::Stage, watched::clock};
use crate::bench::history;

/// The spread that is asked for: over it the starts stay far below the server's 30 a second.
const WINDOW: Duration = Duration::from_secs(60);
/// The server may start what is due this much later.
const LATE: f64 = 10.0;
/// Edits at once.
const EDITORS: usize = 8;
/// Edits a second that every operator should manage, for the time to leave before the tick.
const EDITS_A_SECOND: usize = 25;
const MINUTE: f64 = 60.0;

/// What a tick started.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tick {
    /// Tenants that were to tick.
    pub(super) tenants: usize,
    /// Seconds until all edits were in Temporal and in status.
    pub(super) edited_in: f64,
    /// Tenants without a run.
    pub(super) missed: usize,
    /// Runs beyond the first of a tenant.
    pub(super) twice: usize,
    /// Runs outside the window.
    pub(super) outside: usize,
    /// Seconds after the minute at which the first, the middle and the last run began.
    pub(super) at: [f64; 3],
    /// Most starts in one second.
    pub(super) most: usize,
}

/// Seconds of the window.
pub(super) fn window() -> u64 {
    WINDOW.as_secs()
}

/// Makes all tenants tick at one minute and counts.
pub(super) async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> anyhow::Result<Tick> {
    let tenants = bench.size.tenants;
    let lead = u32::try_from(tenants / EDITS_A_SECOND)? + 20;
    let minute = ((clock() + f64::from(lead)) / MINUTE).ceil() * MINUTE;
    let start = Instant::now();
    let edits = stream::iter((0..tenants).map(|number| {
        let spec = json!({"schedules": [cron(minute)], "spread": {"window": format!("{}s", WINDOW.as_secs())}});
        let stage = &*stage;
        async move {
            let name = Size::tenant(number);
            let (_, generation) = stage.edit(true, &name, spec).await?;
            anyhow::Ok((name, generation))
        }
    }));
    let edited: Vec<_> = edits.buffer_unordered(EDITORS).try_collect().await?;
    for (name, generation) in edited {
        stage.watched.caught_up(true, &name, generation, bench.patience).await?;
    }
    let edited_in = start.elapsed().as_secs_f64();
    let left = minute - clock();
    ensure!(left > 1.0, "the edits took {edited_in:.0} s, the tick did not wait for them");
    sleep(Duration::from_secs_f64(left + LATE) + WINDOW).await;
    // Visibility follows the starts.
    sleep(Duration::from_secs(5)).await;
    let limit = (tenants * 3).to_string();
    let query = "WorkflowType = 'scheduledSyncWorkflow'";
    let listed = stage.temporal(&["workflow", "list", "--query", query, "--limit", &limit]).await?;
    Ok(Tick { edited_in, ..Tick::of(&listed, tenants, minute)? })
}

/// The cron expression of a minute of a day, which comes again a day later.
pub(super) fn cron(minute: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole minutes after 1970")]
    let minutes = (minute / MINUTE) as u64;
    format!("{} {} * * *", minutes % 60, minutes / 60 % 24)
}

impl Tick {
    fn of(listed: &Value, tenants: usize, minute: f64) -> anyhow::Result<Self> {
        let (mut runs, mut starts) = (HashMap::<&str, usize>::new(), Vec::new());
        for run in listed.as_array().context("Temporal's list is none")? {
            let id = run["execution"]["workflowId"].as_str().context("a run without an id")?;
            // The server appends the tick's time; other ticks are not asked for.
            let Some((schedule, of)) = id.len().checked_sub("-2026-11-23T00:00:00Z".len()).map(|it| id.split_at(it))
            else {
                continue;
            };
            if history::seconds(&of[1..]).ok() != Some(minute) {
                continue;
            }
            *runs.entry(schedule).or_default() += 1;
            starts.push(history::seconds(run["startTime"].as_str().context("a run without a start")?)? - minute);
        }
        starts.sort_by(f64::total_cmp);
        let mut seconds = HashMap::<u64, usize>::new();
        for start in &starts {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds after the minute")]
            let second = start.max(0.0) as u64;
            *seconds.entry(second).or_default() += 1;
        }
        let at = |index: usize| starts.get(index).copied().unwrap_or_default();
        let ends = WINDOW.as_secs_f64() + LATE;
        Ok(Self {
            tenants,
            edited_in: 0.0,
            missed: tenants.saturating_sub(runs.len()),
            twice: runs.values().map(|it| it - 1).sum(),
            outside: starts.iter().filter(|it| !(0.0..=ends).contains(*it)).count(),
            at: [at(0), at(starts.len() / 2), at(starts.len().saturating_sub(1))],
            most: seconds.values().copied().max().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, start: &str) -> Value {
        json!({"execution": {"workflowId": format!("scheduled-sync-{id}")}, "startTime": start})
    }

    #[test]
    fn missed_double_and_late_runs_of_one_tick_are_told_apart() {
        let minute = history::seconds("2026-11-23T12:05:00Z").unwrap();
        assert_eq!(cron(minute), "5 12 * * *");
        let listed = json!([
            run("a-2026-11-23T12:05:00Z", "2026-11-23T12:05:02.5Z"),
            run("b-2026-11-23T12:05:00Z", "2026-11-23T12:05:02.9Z"),
            run("b-2026-11-23T12:05:00Z", "2026-11-23T12:06:59Z"),
            run("b-2026-11-23T08:00:00Z", "2026-11-23T08:00:00Z"),
            run("a-token", "2026-11-23T12:05:00Z"),
        ]);
        let tick = Tick::of(&listed, 3, minute).unwrap();
        assert_eq!((tick.missed, tick.twice, tick.outside, tick.most), (1, 1, 1, 2));
        assert_eq!(tick.at, [2.5, 2.9, 119.0].map(|it: f64| (it * 10.0).round() / 10.0));
    }
}
