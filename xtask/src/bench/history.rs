//! What a sync's workflow history tells: its length, its largest payload, and for how much of its time nothing but
//! orchestration was going on: no `syncBatch` and no `writeRecords` was at work.

use std::{collections::HashMap, process::Command};

use anyhow::Context as _;
use serde_json::Value;

use crate::process;

/// The activities that move records.
const MOVING: [&str; 2] = ["syncBatch", "writeRecords"];
/// Members of an event that hold payloads.
const PAYLOADS: [&str; 5] = ["input", "result", "details", "lastCompletionResult", "lastFailure"];

/// Figures of one sync, all its executions together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    /// Executions: one, and one more for each continue-as-new.
    pub(super) executions: usize,
    /// Events of the longest execution.
    pub(super) events: usize,
    /// Bytes of the largest payload list.
    pub(super) largest_payload: usize,
    /// Seconds from the first event to the last.
    pub(super) seconds: f64,
    /// Seconds in which no activity that moves records was at work.
    pub(super) idle_seconds: f64,
    /// Seconds of fetching, seconds of writing.
    pub(super) busy_seconds: [f64; 2],
    /// Commits.
    pub(super) commits: usize,
}

impl History {
    /// Reads the history through the command-line client, going back over continued executions.
    pub(super) async fn read(show: impl Fn(&[&str]) -> Command) -> anyhow::Result<Self> {
        let mut executions = Vec::new();
        let mut run_id = String::new();
        loop {
            let command = if run_id.is_empty() { show(&[]) } else { show(&["--run-id", &run_id]) };
            let text = process::capture(command).await.context("could not read the history")?;
            let history: Value = serde_json::from_str(&text).context("the history is no JSON")?;
            let events = history["events"].as_array().context("the history holds no events")?.clone();
            let first = &events.first().context("the history is empty")?["workflowExecutionStartedEventAttributes"];
            let before = first["continuedExecutionRunId"].as_str().unwrap_or_default().to_owned();
            executions.push(events);
            if before.is_empty() {
                executions.reverse();
                return Self::of(&executions);
            }
            run_id = before;
        }
    }

    fn of(executions: &[Vec<Value>]) -> anyhow::Result<Self> {
        let mut history = Self { executions: executions.len(), ..Self::default() };
        let (mut spans, mut ends) = (Vec::new(), (f64::MAX, 0.0_f64));
        for events in executions {
            history.events = history.events.max(events.len());
            for event in events {
                let at = seconds(event["eventTime"].as_str().context("an event has no time")?)?;
                ends = (ends.0.min(at), ends.1.max(at));
                history.largest_payload = history.largest_payload.max(largest_payload(event));
            }
            spans.extend(activities(events)?);
        }
        for (name, start, end) in &spans {
            let place = usize::from(*name == MOVING[1]);
            history.busy_seconds[place] += end - start;
            history.commits += place;
        }
        history.seconds = ends.1 - ends.0;
        history.idle_seconds = history.seconds - covered(spans.iter().map(|it| (it.1, it.2)).collect());
        Ok(history)
    }

    /// The share of the time in which nothing but orchestration went on.
    pub(super) fn idle_share(&self) -> f64 {
        if self.seconds > 0.0 { self.idle_seconds / self.seconds } else { 0.0 }
    }
}

/// Name, start and end of each activity that moves records.
fn activities(events: &[Value]) -> anyhow::Result<Vec<(&str, f64, f64)>> {
    let (mut names, mut starts, mut spans) = (HashMap::new(), HashMap::new(), Vec::new());
    for event in events {
        let at = seconds(event["eventTime"].as_str().context("an event has no time")?)?;
        if let Some(scheduled) = event.get("activityTaskScheduledEventAttributes") {
            names.insert(event["eventId"].to_string(), scheduled["activityType"]["name"].as_str().unwrap_or_default());
        } else if let Some(started) = event.get("activityTaskStartedEventAttributes") {
            starts.insert(started["scheduledEventId"].to_string(), at);
        } else if let Some(completed) = event.get("activityTaskCompletedEventAttributes") {
            let scheduled = completed["scheduledEventId"].to_string();
            let name = names.get(&scheduled).copied().unwrap_or_default();
            if let (true, Some(start)) = (MOVING.contains(&name), starts.get(&scheduled)) {
                spans.push((name, *start, at));
            }
        }
    }
    Ok(spans)
}

/// Seconds that at least one of the spans covers.
fn covered(mut spans: Vec<(f64, f64)>) -> f64 {
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut until) = (0.0, f64::MIN);
    for (start, end) in spans {
        sum += (end - start.max(until)).max(0.0);
        until = until.max(end);
    }
    sum
}

fn largest_payload(event: &Value) -> usize {
    let attributes = event.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("EventAttributes"));
    let payloads = attributes.flat_map(|(_, it)| PAYLOADS.iter().filter_map(|name| it.get(name)));
    payloads.map(|it| it.to_string().len()).max().unwrap_or(0)
}

/// Seconds of the day-and-time text that the server writes, since the epoch.
pub(super) fn seconds(text: &str) -> anyhow::Result<f64> {
    let parts: Vec<f64> = text
        .trim_end_matches('Z')
        .split(['-', 'T', ':'])
        .map(|it| it.parse().with_context(|| format!("{text:?} is no time")))
        .collect::<anyhow::Result<_>>()?;
    let [year, month, day, hour, minute, second] = parts[..] else { anyhow::bail!("{text:?} is no time") };
    // Days since 1970-01-01 in the proleptic Gregorian calendar: March is the first month, so that leap days come last.
    let (year, month) = if month > 2.0 { (year, month - 3.0) } else { (year - 1.0, month + 9.0) };
    let leap_days = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    let days = year * 365.0 + leap_days + (153.0_f64.mul_add(month, 2.0) / 5.0).floor() + day - 719_469.0;
    Ok(days.mul_add(86_400.0, hour * 3_600.0) + minute * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn activity(id: u32, name: &str, start: &str, end: &str) -> Vec<Value> {
        let (id, at) = (id.to_string(), |time: &str| format!("2026-11-23T00:00:{time}Z"));
        vec![
            json!({"eventId": id, "eventTime": at("00"), "activityTaskScheduledEventAttributes": {"activityType": {"name": name}, "input": [{"seq": 1}]}}),
            json!({"eventTime": at(start), "activityTaskStartedEventAttributes": {"scheduledEventId": id}}),
            json!({"eventTime": at(end), "activityTaskCompletedEventAttributes": {"scheduledEventId": id, "result": [{"staged": "x"}]}}),
        ]
    }

    #[test]
    fn overlapping_work_counts_once_and_what_nothing_covers_is_idle() {
        let mut events =
            vec![json!({"eventTime": "2026-11-23T00:00:00Z", "workflowExecutionStartedEventAttributes": {}})];
        events.extend(activity(1, "authenticate", "00", "01"));
        events.extend(activity(2, "syncBatch", "01.5", "04"));
        events.extend(activity(3, "writeRecords", "03", "06.5"));
        events.push(json!({"eventTime": "2026-11-23T00:00:10Z", "workflowExecutionCompletedEventAttributes": {}}));
        let history = History::of(&[events]).unwrap();
        assert_eq!((history.executions, history.events, history.commits), (1, 11, 1));
        assert_eq!(history.largest_payload, r#"[{"staged":"x"}]"#.len());
        assert!((history.seconds - 10.0).abs() < 1e-6 && (history.idle_seconds - 5.0).abs() < 1e-6, "{history:?}");
        assert!((history.idle_share() - 0.5).abs() < 1e-6 && (history.busy_seconds[0] - 2.5).abs() < 1e-6);
    }

    #[test]
    fn times_of_any_day_are_seconds_since_the_epoch() {
        assert!(seconds("1970-01-01T00:00:00Z").unwrap().abs() < 1e-9);
        assert!((seconds("2024-03-01T12:30:15.25Z").unwrap() - 1_709_296_215.25).abs() < 1e-3);
        assert!(seconds("yesterday").is_err());
    }
}
