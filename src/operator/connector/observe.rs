//! The observed part of a Connector's status: connection, progress, last run, cursor, dead letters; and what of it is news.
//! From the store's row alone. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::{
    contract::workflows::{ConnectionStatus, SyncStats},
    crd::{
        Connection, ConnectionState, ConnectorStatus, CursorSummary, DeadLetters, Findings, LastSync, LastSyncOutcome,
        Phase, Progress, RefusedSweep, StreamCount,
        conditions::{CONNECTED, HEALTHY, SYNCING, reason},
    },
    operator::{
        outcome::Note,
        schedule_shown,
        status_part::{CONNECTOR_OBSERVED, Wish, status_of, time},
    },
    store::{self, ConnectorStatusRow, RunOutcome, RunRow},
};

/// Seed: failed batches per sync, alert threshold.
const MAX_FAILED_BATCHES: u64 = 10;
/// A record created or deleted while the source was counting makes one count differ, not two in a row.
const MISMATCHES: u32 = 2;
/// Seed: sync duration, alert threshold.
const MAX_DURATION: SignedDuration = SignedDuration::from_mins(30);

/// The status as the row has it. Fields of the reconciler are left as they are.
#[must_use]
pub fn status(row: &ConnectorStatusRow, current: &ConnectorStatus, now: Timestamp) -> ConnectorStatus {
    let running = row.last_run.as_ref().filter(|run| run.outcome.is_none());
    let ended = row.last_run.as_ref().filter(|run| run.outcome.is_some());
    let mut status = current.clone();
    status.connection = Some(Connection {
        status: match row.connection_status {
            ConnectionStatus::Pending => ConnectionState::Pending,
            ConnectionStatus::Connected => ConnectionState::Connected,
            ConnectionStatus::Disconnected => ConnectionState::Disconnected,
        },
        checked_at: row.connection_checked_at.map(time),
        account_id: row.account_id.clone(),
    });
    status.progress = row.last_run.as_ref().map(progress);
    // While a run is at work, the one before it is still the last that ended.
    status.last_sync = ended.map(last_sync).or(status.last_sync);
    status.last_success_time = row.last_success_at.map(time);
    let oldest = row.cursor.streams.values().min().copied();
    status.cursor = oldest.map(|oldest| CursorSummary { oldest_watermark: Some(time(oldest)) });
    status.position = Some(row.position);
    status.dead_letters = Some(DeadLetters { count: row.dead_letters });
    status.findings = findings(&row.findings);
    let overdue = schedule_shown::overdue(current.overdue_since.as_ref());
    // A run that failed is the nearer trouble.
    let healthy = healthy(row, current, now).map(|wish| if wish.is_no() { wish } else { overdue.unwrap_or(wish) });
    let wishes = [Some(connected(row)), healthy, Some(syncing(running))];
    status.conditions =
        CONNECTOR_OBSERVED.conditions(&current.conditions, wishes.into_iter().flatten().collect(), None, now);
    status
}

/// Transitions that deserve an Event.
#[must_use]
pub fn notes(before: &ConnectorStatus, after: &ConnectorStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let (was, is) = (status_of(&before.conditions, CONNECTED), status_of(&after.conditions, CONNECTED));
    if was != is && is == Some("True") {
        notes.push(Note::normal("Connected", "CheckConnection", "the source accepts the credential"));
    }
    if was != is && is == Some("False") {
        let message = "the source refuses the credential; a new one in the Secret is tried at once";
        notes.push(Note::warning("ConnectionRefused", "CheckConnection", message));
    }
    let healthy = |status: &ConnectorStatus| status.conditions.iter().find(|of| of.type_ == HEALTHY).cloned();
    if let Some(is) = healthy(after).filter(|is| healthy(before).is_none_or(|was| was.reason != is.reason)) {
        let found = [reason::SWEEP_SUSPICIOUS, reason::COUNT_MISMATCH].into_iter().find(|found| *found == is.reason);
        notes.extend(found.map(|found| Note::warning(found, "Sync", is.message)));
    }
    let ended = after.last_sync.as_ref().filter(|sync| before.last_sync.as_ref() != Some(sync));
    if let Some(sync) = ended.filter(|sync| sync.outcome == LastSyncOutcome::Failed) {
        let why = sync.error.as_deref().unwrap_or("no reason recorded");
        notes.push(Note::warning("SyncFailed", "Sync", format!("{} failed: {why}", sync.workflow_id)));
    }
    notes
}

fn connected(row: &ConnectorStatusRow) -> Wish {
    match row.connection_status {
        ConnectionStatus::Connected => Wish::yes(CONNECTED, reason::AUTHENTICATED, "the source accepts the credential"),
        ConnectionStatus::Disconnected => {
            Wish::no(CONNECTED, reason::CREDENTIALS_REFUSED, because("the source refuses the credential", row))
        }
        ConnectionStatus::Pending if row.connection_reason.is_empty() => {
            Wish::unknown(CONNECTED, reason::CHECK_PENDING, "not yet checked with this credential")
        }
        ConnectionStatus::Pending => {
            Wish::unknown(CONNECTED, reason::SOURCE_UNREACHABLE, because("could not be checked", row))
        }
    }
}

fn because(what: &str, row: &ConnectorStatusRow) -> String {
    if row.connection_reason.is_empty() { what.to_owned() } else { format!("{what}: {}", row.connection_reason) }
}

/// The seed's thresholds. While a run is at work the verdict on the one before stands, unless this one takes too long.
fn healthy(row: &ConnectorStatusRow, current: &ConnectorStatus, now: Timestamp) -> Option<Wish> {
    if row.connection_status == ConnectionStatus::Connected && !row.connection_reason.is_empty() {
        // The credential was good once, and now runs end before they begin.
        return Some(Wish::no(HEALTHY, reason::SOURCE_UNREACHABLE, because("the source cannot be used", row)));
    }
    let Some(run) = &row.last_run else {
        return Some(Wish::unknown(HEALTHY, reason::NO_SYNC_YET, "no sync has run yet"));
    };
    let Some(outcome) = run.outcome else {
        return Some(while_running(run, current, now));
    };
    let duration = run.finished_at.map(|end| end.duration_since(run.started_at)).unwrap_or_default();
    Some(match outcome {
        RunOutcome::Failed | RunOutcome::Terminated => {
            let why = run.error.as_deref().unwrap_or("it was ended from outside");
            Wish::no(HEALTHY, reason::LAST_SYNC_FAILED, format!("the last sync failed: {why}"))
        }
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
        _ if duration > MAX_DURATION => slow(),
        _ => Wish::yes(HEALTHY, reason::LAST_SYNC_SUCCEEDED, "the last sync completed within the thresholds"),
    })
}

fn while_running(run: &RunRow, current: &ConnectorStatus, now: Timestamp) -> Wish {
    if run.parked.is_none() && now.duration_since(run.started_at) > MAX_DURATION {
        return slow();
    }
    let standing = current.conditions.iter().find(|condition| condition.type_ == HEALTHY);
    let known = [
        reason::LAST_SYNC_SUCCEEDED,
        reason::LAST_SYNC_FAILED,
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

fn syncing(running: Option<&RunRow>) -> Wish {
    match running {
        None => Wish::no(SYNCING, reason::IDLE, "no sync is at work"),
        Some(RunRow { parked: Some(parked), .. }) => {
            Wish::yes(SYNCING, reason::PARKED, format!("the sync waits: {}", parked.reason))
        }
        Some(_) => Wish::yes(SYNCING, reason::RUNNING, "a sync is at work"),
    }
}

fn progress(run: &RunRow) -> Progress {
    Progress {
        workflow_id: run.workflow_id.clone(),
        phase: match run.outcome {
            Some(RunOutcome::Complete | RunOutcome::More) => Phase::Complete,
            Some(RunOutcome::Failed | RunOutcome::Terminated) => Phase::Failed,
            None if run.entity_type.is_empty() => Phase::Authenticating,
            None => Phase::Syncing,
        },
        entity_type: run.entity_type.clone(),
        records_processed: count(run.stats.records_processed),
        errors_count: count(run.stats.errors_count),
        parked_until: run.parked.as_ref().map(|parked| time(parked.until)),
        reason: run.parked.as_ref().map(|parked| parked.reason.clone()),
    }
}

fn last_sync(run: &RunRow) -> LastSync {
    let SyncStats { records_processed, records_written, records_unchanged, errors_count, failed_batches, .. } =
        run.stats;
    LastSync {
        workflow_id: run.workflow_id.clone(),
        start_time: time(run.started_at),
        end_time: run.finished_at.map(time),
        outcome: match run.outcome {
            Some(RunOutcome::Complete) => LastSyncOutcome::Complete,
            Some(RunOutcome::More) => LastSyncOutcome::More,
            Some(RunOutcome::Failed) => LastSyncOutcome::Failed,
            Some(RunOutcome::Terminated) | None => LastSyncOutcome::Terminated,
        },
        records_processed: count(records_processed),
        records_written: count(records_written),
        records_unchanged: count(records_unchanged),
        errors_count: count(errors_count),
        failed_batches: count(failed_batches),
        error: run.error.clone(),
    }
}

/// Nothing while no load has found anything out.
fn findings(found: &store::Findings) -> Option<Findings> {
    let counts = found.counts.iter().map(|(stream, of)| StreamCount {
        stream: stream.clone(),
        source: count(of.source),
        rows: count(of.rows),
        dead_letters: count(of.dead_letters),
        mismatches: i32::try_from(of.mismatches).unwrap_or(i32::MAX),
    });
    let refused = found.refused_sweeps.iter().map(|(stream, of)| RefusedSweep {
        stream: stream.clone(),
        unseen: count(of.unseen),
        live: count(of.live),
    });
    let findings = Findings {
        counted_at: found.counted_at.map(time),
        counts: counts.collect(),
        refused_sweeps: refused.collect(),
    };
    Some(findings).filter(|findings| *findings != Findings::default())
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn row() -> ConnectorStatusRow {
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
            updated_at: at("2026-11-23T01:00:00Z"),
        }
    }

    fn run(outcome: Option<RunOutcome>) -> RunRow {
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

    fn verdict(row: &ConnectorStatusRow, now: &str) -> (String, String) {
        let status = status(row, &ConnectorStatus::default(), at(now));
        let healthy = status.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        (healthy.status.clone(), healthy.reason.clone())
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
        let soon = "2026-11-23T01:06:00Z";
        let of = |run: RunRow| verdict(&ConnectorStatusRow { last_run: Some(run), ..row() }, soon).1;
        assert_eq!(verdict(&row(), soon), ("Unknown".to_owned(), reason::NO_SYNC_YET.to_owned()));
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
    fn a_refused_sweep_is_told_with_the_way_to_confirm_it_and_stays_told_while_the_next_run_is_at_work() {
        let now = at("2026-11-23T01:06:00Z");
        let mut suspicious = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), ..row() };
        let refused = crate::model::cursor::RefusedSweep { unseen: 900, live: 1_000 };
        suspicious.findings.refused_sweeps.insert("contacts".to_owned(), refused);
        let shown = status(&suspicious, &ConnectorStatus::default(), now);
        let healthy = shown.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        assert_eq!((healthy.status.as_str(), healthy.reason.as_str()), ("False", reason::SWEEP_SUSPICIOUS));
        for told in ["900 of 1000 rows of contacts", "spec.requests.confirmSweep.token"] {
            assert!(healthy.message.contains(told), "{}", healthy.message);
        }
        let listed = &shown.findings.as_ref().expect("findings").refused_sweeps;
        assert_eq!((listed.len(), listed[0].unseen, listed[0].live), (1, 900, 1_000));
        let told: Vec<_> = notes(&ConnectorStatus::default(), &shown).into_iter().map(|note| note.reason).collect();
        assert_eq!(told, ["Connected", reason::SWEEP_SUSPICIOUS]);
        assert!(notes(&shown, &shown).is_empty());

        suspicious.last_run = Some(run(None));
        let working = status(&suspicious, &shown, now);
        let kept = working.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        assert_eq!(kept, healthy);
        suspicious.last_run = Some(run(Some(RunOutcome::Failed)));
        assert_eq!(verdict(&suspicious, "2026-11-23T01:06:00Z").1, reason::LAST_SYNC_FAILED, "the nearer trouble");
    }

    #[test]
    fn one_count_that_differs_is_shown_two_in_a_row_are_unhealthy() {
        let mut counted = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), position: 7, ..row() };
        let differing = |mismatches| store::StreamCount { source: 10, rows: 7, dead_letters: 1, mismatches };
        counted.findings.counts.insert("deals".to_owned(), differing(1));
        let now = at("2026-11-23T01:06:00Z");
        let shown = status(&counted, &ConnectorStatus::default(), now);
        assert_eq!(verdict(&counted, "2026-11-23T01:06:00Z").1, reason::LAST_SYNC_SUCCEEDED);
        let count = &shown.findings.expect("findings").counts[0];
        assert_eq!((count.stream.as_str(), count.source, count.rows, count.dead_letters), ("deals", 10, 7, 1));
        assert_eq!(shown.position, Some(7));
        counted.findings.counts.insert("deals".to_owned(), differing(2));
        let shown = status(&counted, &ConnectorStatus::default(), now);
        let healthy = shown.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        assert_eq!(healthy.reason, reason::COUNT_MISMATCH);
        assert!(healthy.message.contains("deals: 10 at the source, 7 rows and 1 dead letters here"), "{healthy:?}");
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
    fn a_connector_of_which_a_tick_is_overdue_is_not_healthy_unless_its_last_run_failed() {
        let now = at("2026-11-23T01:06:00Z");
        let overdue = ConnectorStatus { overdue_since: Some(time(now)), ..ConnectorStatus::default() };
        for (outcome, expected) in [(RunOutcome::Complete, "Overdue"), (RunOutcome::Failed, "LastSyncFailed")] {
            let row = ConnectorStatusRow { last_run: Some(run(Some(outcome))), ..row() };
            let conditions = status(&row, &overdue, now).conditions;
            let healthy = conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
            assert_eq!((healthy.status.as_str(), healthy.reason.as_str()), ("False", expected));
        }
    }

    #[test]
    fn the_last_run_stays_shown_while_the_next_is_at_work() {
        let now = at("2026-11-23T01:06:00Z");
        let ended = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), ..row() };
        let before = status(&ended, &ConnectorStatus::default(), now);
        let working = status(&ConnectorStatusRow { last_run: Some(run(None)), ..row() }, &before, now);
        assert_eq!(working.last_sync, before.last_sync);
        assert_eq!(
            before.progress.as_ref().map(|progress| progress.phase),
            Some(Phase::Complete),
            "kept after its end"
        );
        assert_eq!(working.progress.as_ref().map(|progress| progress.records_processed), Some(7));
        assert_eq!(status_of(&working.conditions, HEALTHY), Some("True"));
        assert_eq!(status_of(&working.conditions, SYNCING), Some("True"));
        assert_eq!(status(&ended, &working, now), before, "nothing changed but what had changed");
    }

    #[test]
    fn events_tell_transitions_once() {
        let now = at("2026-11-23T01:06:00Z");
        let refused = ConnectorStatusRow { connection_status: ConnectionStatus::Disconnected, ..row() };
        let (before, after) = (ConnectorStatus::default(), status(&refused, &ConnectorStatus::default(), now));
        let reasons = |notes: Vec<Note>| notes.into_iter().map(|note| note.reason).collect::<Vec<_>>();
        assert_eq!(reasons(notes(&before, &after)), ["ConnectionRefused"]);
        assert!(notes(&after, &status(&refused, &after, now)).is_empty());
        let mut failed = run(Some(RunOutcome::Failed));
        failed.error = Some("Unauthorised".to_owned());
        let failed = status(&ConnectorStatusRow { last_run: Some(failed), ..row() }, &after, now);
        assert_eq!(reasons(notes(&after, &failed)), ["Connected", "SyncFailed"]);
    }
}
