//! Whether a connector is healthy: the seed's thresholds, the user's own target for the age of the data, and what loads found
//! out. From the store's row and the spec alone. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::Resource as _;

use super::{observe::because, restart};
use crate::{
    contract::workflows::ConnectionStatus,
    crd::{
        Connector, ConnectorSpec, ConnectorState, ConnectorStatus,
        conditions::{HEALTHY, reason},
    },
    operator::status_part::Wish,
    store::{self, ConnectorStatusRow, Day, RunOutcome, RunRow},
};

/// Seed: failed batches per sync, alert threshold.
const MAX_FAILED_BATCHES: u64 = 10;
/// A record created or deleted while the source was counting makes one count differ, not two in a row.
const MISMATCHES: u32 = 2;
/// Seed: sync duration, alert threshold.
const MAX_DURATION: SignedDuration = SignedDuration::from_mins(30);
/// Seed: workflow failures a day, alert threshold.
const MAX_FAILURES_A_DAY: u32 = 3;
/// Seed: activity retry rate, alert threshold, in percent.
const MAX_RETRY_PERCENT: u64 = 20;
/// Fewer attempts say nothing of a rate: a quiet sync has three, and one retry among them is no trouble.
const JUDGED_FROM: u64 = 20;

/// Reasons that deserve an Event: nothing else tells them.
pub const TOLD: [&str; 6] = [
    reason::SWEEP_SUSPICIOUS,
    reason::COUNT_MISMATCH,
    reason::TOO_MANY_FAILURES,
    reason::TOO_MANY_RETRIES,
    reason::RESTARTS_EXHAUSTED,
    reason::STALE,
];

/// What the user wants of a connector.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its spec.
    pub spec: &'a ConnectorSpec,
    /// When the object was made.
    pub created_at: Option<Timestamp>,
}

impl<'a> From<&'a Connector> for Wanted<'a> {
    fn from(object: &'a Connector) -> Self {
        let created_at = object.meta().creation_timestamp.as_ref().map(|at| at.0);
        Self { spec: &object.spec, created_at }
    }
}

/// `Healthy`. The user's own target goes before every other verdict, which it tells, too.
#[must_use]
pub fn verdict(row: &ConnectorStatusRow, wanted: Wanted<'_>, current: &ConnectorStatus, now: Timestamp) -> Wish {
    let verdict = of_runs(row, wanted, current, now);
    let Some(target) = wanted.spec.freshness_target.as_ref().filter(|_| is_stale(row, wanted, now)) else {
        return verdict;
    };
    let besides = verdict.failing().map(|message| format!("; {message}")).unwrap_or_default();
    Wish::no(HEALTHY, reason::STALE, format!("no sync has completed within spec.freshnessTarget, {target}{besides}"))
}

/// From when on what is stored is older than the spec wants it: from this alone a status changes although nothing happens.
#[must_use]
pub fn stale_at(row: &ConnectorStatusRow, wanted: Wanted<'_>) -> Option<Timestamp> {
    let target = wanted.spec.freshness_target.as_ref().filter(|_| wanted.spec.state == ConnectorState::Running)?;
    row.last_success_at.or(wanted.created_at)?.checked_add(target.duration()).ok()
}

fn is_stale(row: &ConnectorStatusRow, wanted: Wanted<'_>, now: Timestamp) -> bool {
    stale_at(row, wanted).is_some_and(|at| at <= now)
}

/// The seed's thresholds. While a run is at work the verdict on the one before stands, unless this one takes too long.
fn of_runs(row: &ConnectorStatusRow, wanted: Wanted<'_>, current: &ConnectorStatus, now: Timestamp) -> Wish {
    if row.connection_status == ConnectionStatus::Connected && !row.connection_reason.is_empty() {
        // The credential was good once, and now runs end before they begin.
        return Wish::no(HEALTHY, reason::SOURCE_UNREACHABLE, because("the source cannot be used", row));
    }
    let Some(run) = &row.last_run else {
        return Wish::unknown(HEALTHY, reason::NO_SYNC_YET, "no sync has run yet");
    };
    match run.outcome {
        None => while_running(run, current, now),
        Some(RunOutcome::Failed | RunOutcome::Terminated) => of_failed(row, run, wanted),
        Some(RunOutcome::Complete | RunOutcome::More) => of_ended(row, run),
    }
}

fn of_failed(row: &ConnectorStatusRow, run: &RunRow, wanted: Wanted<'_>) -> Wish {
    let why = run.error.as_deref().unwrap_or("it was ended from outside");
    let failed = format!("the last sync failed: {why}");
    if run.outcome == Some(RunOutcome::Failed) && restart::is_exhausted(row, wanted.spec) {
        let message = format!("all restarts of spec.autoRestart are used up, the next tick tries again; {failed}");
        return Wish::no(HEALTHY, reason::RESTARTS_EXHAUSTED, message);
    }
    if row.day.failures > MAX_FAILURES_A_DAY {
        return too_many_failures(&format!("; {failed}"));
    }
    Wish::no(HEALTHY, reason::LAST_SYNC_FAILED, failed)
}

fn too_many_failures(besides: &str) -> Wish {
    let message = format!("more than {MAX_FAILURES_A_DAY} syncs failed within 24 hours{besides}");
    Wish::no(HEALTHY, reason::TOO_MANY_FAILURES, message)
}

fn of_ended(row: &ConnectorStatusRow, run: &RunRow) -> Wish {
    let duration = run.finished_at.map(|end| end.duration_since(run.started_at)).unwrap_or_default();
    match run {
        _ if !row.findings.refused_sweeps.is_empty() => {
            Wish::no(HEALTHY, reason::SWEEP_SUSPICIOUS, refused_sweeps(&row.findings))
        }
        _ if run.stats.failed_batches > MAX_FAILED_BATCHES => {
            let message = format!("the last sync had more than {MAX_FAILED_BATCHES} batches with rejected records");
            Wish::no(HEALTHY, reason::TOO_MANY_FAILED_BATCHES, message)
        }
        _ if run.error.is_some() => {
            let why = run.error.as_deref().unwrap_or_default();
            Wish::no(HEALTHY, reason::STREAM_FAILED, format!("the last sync left streams out: {why}"))
        }
        _ if mismatched(&row.findings).next().is_some() => {
            Wish::no(HEALTHY, reason::COUNT_MISMATCH, mismatches(&row.findings))
        }
        _ if row.day.failures > MAX_FAILURES_A_DAY => too_many_failures(""),
        _ if too_many_retries(&row.day) => {
            let message = format!(
                "more than {MAX_RETRY_PERCENT} % of the activity attempts of the newest syncs of the last 24 hours were retries"
            );
            Wish::no(HEALTHY, reason::TOO_MANY_RETRIES, message)
        }
        _ if duration > MAX_DURATION => slow(),
        _ => Wish::yes(HEALTHY, reason::LAST_SYNC_SUCCEEDED, "the last sync completed within the thresholds"),
    }
}

fn too_many_retries(day: &Day) -> bool {
    day.attempts >= JUDGED_FROM && day.retries.saturating_mul(100) > day.attempts.saturating_mul(MAX_RETRY_PERCENT)
}

fn while_running(run: &RunRow, current: &ConnectorStatus, now: Timestamp) -> Wish {
    if run.parked.is_none() && now.duration_since(run.started_at) > MAX_DURATION {
        return slow();
    }
    let standing = current.conditions.iter().find(|condition| condition.type_ == HEALTHY);
    let known = [
        reason::LAST_SYNC_SUCCEEDED,
        reason::LAST_SYNC_FAILED,
        reason::RESTARTS_EXHAUSTED,
        reason::TOO_MANY_FAILURES,
        reason::TOO_MANY_RETRIES,
        reason::TOO_MANY_FAILED_BATCHES,
        reason::STREAM_FAILED,
        reason::SWEEP_SUSPICIOUS,
        reason::COUNT_MISMATCH,
        reason::SYNC_SLOW,
    ];
    let kept = standing.and_then(|standing| {
        let reason = known.into_iter().find(|known| *known == standing.reason)?;
        let message = standing.message.clone();
        Some(if standing.status == "True" {
            Wish::yes(HEALTHY, reason, message)
        } else {
            Wish::no(HEALTHY, reason, message)
        })
    });
    kept.unwrap_or_else(|| Wish::unknown(HEALTHY, reason::NO_SYNC_YET, "the first sync is at work"))
}

/// What was not deleted, and how to say that it may be.
fn refused_sweeps(findings: &store::Findings) -> String {
    let refused = findings.refused_sweeps.iter();
    let refused = refused.map(|(stream, sweep)| format!("{} of {} rows of {stream}", sweep.unseen, sweep.live));
    format!(
        "the last sync that read everything did not find {} at the source and deleted none of them; look at the source, then delete them with a new spec.requests.confirmSweep.token",
        refused.collect::<Vec<_>>().join(", ")
    )
}

fn mismatched(findings: &store::Findings) -> impl Iterator<Item = (&String, &store::StreamCount)> {
    findings.counts.iter().filter(|(_, count)| count.mismatches >= MISMATCHES)
}

fn mismatches(findings: &store::Findings) -> String {
    let told = mismatched(findings).map(|(stream, count)| {
        format!(
            "{stream}: {} at the source, {} rows and {} dead letters here",
            count.source, count.rows, count.dead_letters
        )
    });
    format!("two counts in a row did not agree: {}", told.collect::<Vec<_>>().join("; "))
}

fn slow() -> Wish {
    Wish::no(HEALTHY, reason::SYNC_SLOW, "the sync took, or takes, more than 30 minutes")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::{contract::workflows::SyncStats, operator::connector::observe};

    const SOON: &str = "2026-11-23T01:06:00Z";

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    pub(crate) fn row() -> ConnectorStatusRow {
        ConnectorStatusRow {
            tenant_id: "acme".parse().expect("id"),
            connector_id: "hubspot".parse().expect("id"),
            connection_status: ConnectionStatus::Connected,
            connection_reason: String::new(),
            connection_checked_at: None,
            account_id: None,
            cursor: crate::model::cursor::Cursor::default(),
            last_run: None,
            last_success_at: None,
            dead_letters: 0,
            position: 0,
            findings: store::Findings::default(),
            failed_in_row: 0,
            day: Day::default(),
            updated_at: at("2026-11-23T01:00:00Z"),
        }
    }

    pub(crate) fn run(outcome: Option<RunOutcome>) -> RunRow {
        RunRow {
            workflow_id: "sync-acme-hubspot-x".to_owned(),
            run_no: 1,
            full_sync: false,
            started_at: at("2026-11-23T01:00:00Z"),
            finished_at: outcome.map(|_| at("2026-11-23T01:05:00Z")),
            outcome,
            error: None,
            entity_type: "contacts".to_owned(),
            stats: SyncStats { records_processed: 7, ..SyncStats::default() },
            parked: None,
        }
    }

    pub(crate) fn spec(extra: serde_json::Value) -> ConnectorSpec {
        let mut spec = serde_json::json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
            "credentials": {"secretRef": {"name": "crm"}}});
        for (name, value) in extra.as_object().expect("an object") {
            spec[name] = value.clone();
        }
        serde_json::from_value(spec).expect("a spec")
    }

    /// Status, reason and message of `Healthy`.
    pub(crate) fn healthy(status: &ConnectorStatus) -> [String; 3] {
        let found = status.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        [found.status.clone(), found.reason.clone(), found.message.clone()]
    }

    fn shown(row: &ConnectorStatusRow, spec: &ConnectorSpec, before: &ConnectorStatus, now: &str) -> ConnectorStatus {
        let wanted = Wanted { spec, created_at: Some(at("2026-11-22T00:00:00Z")) };
        observe::status(row, wanted, before, at(now))
    }

    fn verdict(row: &ConnectorStatusRow, now: &str) -> (String, String) {
        let [status, reason, _] = healthy(&shown(row, &spec(json!({})), &ConnectorStatus::default(), now));
        (status, reason)
    }

    #[test]
    fn a_connected_source_that_cannot_be_used_any_more_is_unhealthy_and_says_why() {
        let mut unusable = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), ..row() };
        unusable.connection_status = ConnectionStatus::Connected;
        unusable.connection_reason = "the source account changed from 1 to 2".to_owned();
        let expected = ("False".to_owned(), reason::SOURCE_UNREACHABLE.to_owned());
        assert_eq!(verdict(&unusable, "2026-11-23T01:06:00Z"), expected);
    }

    #[test]
    fn health_follows_the_seeds_thresholds() {
        let of = |run: RunRow| verdict(&ConnectorStatusRow { last_run: Some(run), ..row() }, SOON).1;
        assert_eq!(verdict(&row(), SOON), ("Unknown".to_owned(), reason::NO_SYNC_YET.to_owned()));
        assert_eq!(of(run(Some(RunOutcome::Complete))), reason::LAST_SYNC_SUCCEEDED);
        assert_eq!(of(run(Some(RunOutcome::Failed))), reason::LAST_SYNC_FAILED);
        assert_eq!(of(run(Some(RunOutcome::Terminated))), reason::LAST_SYNC_FAILED);
        let mut many = run(Some(RunOutcome::Complete));
        many.stats.failed_batches = 10;
        assert_eq!(of(many.clone()), reason::LAST_SYNC_SUCCEEDED, "ten are not more than ten");
        many.stats.failed_batches = 11;
        assert_eq!(of(many), reason::TOO_MANY_FAILED_BATCHES);
        let mut long = run(Some(RunOutcome::Complete));
        long.finished_at = Some(at("2026-11-23T01:30:01Z"));
        assert_eq!(of(long), reason::SYNC_SLOW);
    }

    #[test]
    fn a_run_at_work_is_slow_after_half_an_hour_unless_it_waits() {
        let mut working = ConnectorStatusRow { last_run: Some(run(None)), ..row() };
        assert_eq!(verdict(&working, "2026-11-23T01:29:00Z").1, reason::NO_SYNC_YET);
        assert_eq!(verdict(&working, "2026-11-23T01:31:00Z").1, reason::SYNC_SLOW);
        let parked = crate::contract::activities::Parked {
            until: at("2026-11-23T05:00:00Z"),
            reason: "QuotaExhausted".to_owned(),
        };
        working.last_run.as_mut().expect("run").parked = Some(parked);
        assert_eq!(verdict(&working, "2026-11-23T01:31:00Z").1, reason::NO_SYNC_YET);
    }

    #[test]
    fn more_than_three_failures_a_day_are_told_also_when_the_last_sync_succeeded() {
        let of = |failures, outcome| {
            let day = Day { failures, ..Day::default() };
            verdict(&ConnectorStatusRow { last_run: Some(run(Some(outcome))), day, ..row() }, SOON).1
        };
        assert_eq!(of(3, RunOutcome::Complete), reason::LAST_SYNC_SUCCEEDED, "three are not more than three");
        assert_eq!(of(4, RunOutcome::Complete), reason::TOO_MANY_FAILURES);
        assert_eq!(of(3, RunOutcome::Failed), reason::LAST_SYNC_FAILED);
        assert_eq!(of(4, RunOutcome::Failed), reason::TOO_MANY_FAILURES);
        assert_eq!(of(4, RunOutcome::Terminated), reason::TOO_MANY_FAILURES);
    }

    #[test]
    fn more_than_a_fifth_of_retries_is_told_once_there_are_enough_attempts_to_judge() {
        let of = |attempts, retries| {
            let day = Day { attempts, retries, ..Day::default() };
            verdict(&ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), day, ..row() }, SOON).1
        };
        assert_eq!(of(100, 20), reason::LAST_SYNC_SUCCEEDED, "20 % are not more than 20 %");
        assert_eq!(of(100, 21), reason::TOO_MANY_RETRIES);
        assert_eq!(of(4, 1), reason::LAST_SYNC_SUCCEEDED, "one retry of a quiet sync");
    }

    #[test]
    fn used_up_restarts_are_told_and_only_where_they_were_asked_for() {
        let day = Day { failures: 9, ..Day::default() };
        let failed =
            ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Failed))), failed_in_row: 4, day, ..row() };
        let of = |extra| healthy(&shown(&failed, &spec(extra), &ConnectorStatus::default(), SOON))[1].clone();
        assert_eq!(of(json!({"autoRestart": {"maxRestarts": 3}})), reason::RESTARTS_EXHAUSTED);
        assert_eq!(of(json!({"autoRestart": {"maxRestarts": 4}})), reason::TOO_MANY_FAILURES);
        assert_eq!(of(json!({})), reason::TOO_MANY_FAILURES);
    }

    #[test]
    fn what_is_older_than_the_target_is_stale_whatever_else_is_wrong_and_fresh_data_costs_no_write() {
        let target = spec(json!({"freshnessTarget": "2h"}));
        let success = Some(at("2026-11-23T01:05:00Z"));
        let complete = Some(run(Some(RunOutcome::Complete)));
        let fresh = ConnectorStatusRow { last_run: complete, last_success_at: success, ..row() };
        let before = shown(&fresh, &target, &ConnectorStatus::default(), SOON);
        assert_eq!(healthy(&before)[0], "True");
        let still = shown(&fresh, &target, &before, "2026-11-23T03:04:59Z");
        assert_eq!(still, before, "nothing to write while it is fresh");
        let wanted = Wanted { spec: &target, created_at: None };
        assert_eq!(stale_at(&fresh, wanted), Some(at("2026-11-23T03:05:00Z")));
        let stale = shown(&fresh, &target, &before, "2026-11-23T03:05:00Z");
        assert_eq!(healthy(&stale), ["False", reason::STALE, "no sync has completed within spec.freshnessTarget, 2h"]);
        let told =
            |before, after| observe::notes(before, after).into_iter().map(|note| note.reason).collect::<Vec<_>>();
        assert_eq!(told(&before, &stale), [reason::STALE]);
        let later = shown(&fresh, &target, &stale, "2026-11-25T00:00:00Z");
        assert_eq!((later == stale, told(&stale, &later).len()), (true, 0), "told and written once");

        let down = ConnectorStatusRow { connection_reason: "503".to_owned(), ..fresh.clone() };
        let message = healthy(&shown(&down, &target, &before, "2026-11-23T04:00:00Z"))[2].clone();
        assert!(message.ends_with("2h; the source cannot be used: 503"), "{message}");
        let never = healthy(&shown(&row(), &target, &ConnectorStatus::default(), SOON));
        assert_eq!(never[1], reason::STALE, "made a day ago, and no sync has completed");
        let paused = spec(json!({"freshnessTarget": "2h", "state": "Paused"}));
        assert_eq!(healthy(&shown(&row(), &paused, &ConnectorStatus::default(), SOON))[1], reason::NO_SYNC_YET);
        assert_eq!(stale_at(&row(), Wanted { spec: &spec(json!({})), created_at: None }), None);
    }

    #[test]
    fn a_verdict_stands_while_the_next_run_is_at_work() {
        let day = Day { failures: 4, ..Day::default() };
        let failed = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Failed))), day, ..row() };
        let before = shown(&failed, &spec(json!({})), &ConnectorStatus::default(), SOON);
        let working = ConnectorStatusRow { last_run: Some(run(None)), ..row() };
        assert_eq!(healthy(&shown(&working, &spec(json!({})), &before, SOON)), healthy(&before));
    }
}
