//! The observed part of a Connector's status: connection, progress, last run, cursor, dead letters; and what of it is news.
//! From the store's row and the spec alone; whether the connector is healthy says `health`. Pure.

use jiff::Timestamp;

use super::{
    health::{self, Wanted},
    restart,
};

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

/// The status as the row has it. Fields of the reconciler are left as they are.
#[must_use]
pub fn status(
    row: &ConnectorStatusRow,
    wanted: Wanted<'_>,
    current: &ConnectorStatus,
    now: Timestamp,
) -> ConnectorStatus {
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
    status.auto_restart = restart::shown(row, wanted.spec);
    let healthy = health::verdict(row, wanted, current, now);
    // A run that failed is the nearer trouble.
    let overdue = schedule_shown::overdue(current.overdue_since.as_ref()).filter(|_| healthy.failing().is_none());
    let wishes = vec![connected(row), overdue.unwrap_or(healthy), syncing(running)];
    status.conditions = CONNECTOR_OBSERVED.conditions(&current.conditions, wishes, None, now);
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
        let message = "the source refuses the credential; a new one in the Secret is found within minutes, or at once by the annotation sync.gtmclarity.io/requested-at";
        notes.push(Note::warning("ConnectionRefused", "CheckConnection", message));
    }
    let healthy = |status: &ConnectorStatus| status.conditions.iter().find(|of| of.type_ == HEALTHY).cloned();
    if let Some(is) = healthy(after).filter(|is| healthy(before).is_none_or(|was| was.reason != is.reason)) {
        let found = health::TOLD.into_iter().find(|told| *told == is.reason);
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

/// What happened, and why where it is known.
pub(super) fn because(what: &str, row: &ConnectorStatusRow) -> String {
    if row.connection_reason.is_empty() { what.to_owned() } else { format!("{what}: {}", row.connection_reason) }
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
    use serde_json::json;

    use super::*;
    use crate::operator::connector::health::tests::{at, healthy as verdict, row, run, spec};

    fn seen(row: &ConnectorStatusRow, before: &ConnectorStatus, now: Timestamp) -> ConnectorStatus {
        status(row, Wanted { spec: &spec(json!({})), created_at: None }, before, now)
    }

    #[test]
    fn a_refused_sweep_is_told_with_the_way_to_confirm_it_and_stays_told_while_the_next_run_is_at_work() {
        let now = at("2026-11-23T01:06:00Z");
        let mut suspicious = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), ..row() };
        let refused = crate::model::cursor::RefusedSweep { unseen: 900, live: 1_000 };
        suspicious.findings.refused_sweeps.insert("contacts".to_owned(), refused);
        let shown = seen(&suspicious, &ConnectorStatus::default(), now);
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
        let working = seen(&suspicious, &shown, now);
        let kept = working.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        assert_eq!(kept, healthy);
        suspicious.last_run = Some(run(Some(RunOutcome::Failed)));
        assert_eq!(
            verdict(&seen(&suspicious, &ConnectorStatus::default(), now))[1],
            reason::LAST_SYNC_FAILED,
            "the nearer trouble"
        );
    }

    #[test]
    fn one_count_that_differs_is_shown_two_in_a_row_are_unhealthy() {
        let mut counted = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), position: 7, ..row() };
        let differing = |mismatches| store::StreamCount { source: 10, rows: 7, dead_letters: 1, mismatches };
        counted.findings.counts.insert("deals".to_owned(), differing(1));
        let now = at("2026-11-23T01:06:00Z");
        let shown = seen(&counted, &ConnectorStatus::default(), now);
        assert_eq!(verdict(&seen(&counted, &ConnectorStatus::default(), now))[1], reason::LAST_SYNC_SUCCEEDED);
        let count = &shown.findings.expect("findings").counts[0];
        assert_eq!((count.stream.as_str(), count.source, count.rows, count.dead_letters), ("deals", 10, 7, 1));
        assert_eq!(shown.position, Some(7));
        counted.findings.counts.insert("deals".to_owned(), differing(2));
        let shown = seen(&counted, &ConnectorStatus::default(), now);
        let healthy = shown.conditions.iter().find(|condition| condition.type_ == HEALTHY).expect("Healthy");
        assert_eq!(healthy.reason, reason::COUNT_MISMATCH);
        assert!(healthy.message.contains("deals: 10 at the source, 7 rows and 1 dead letters here"), "{healthy:?}");
    }

    #[test]
    fn a_connector_of_which_a_tick_is_overdue_is_not_healthy_unless_its_last_run_failed() {
        let now = at("2026-11-23T01:06:00Z");
        let overdue = ConnectorStatus { overdue_since: Some(time(now)), ..ConnectorStatus::default() };
        for (outcome, expected) in [(RunOutcome::Complete, "Overdue"), (RunOutcome::Failed, "LastSyncFailed")] {
            let row = ConnectorStatusRow { last_run: Some(run(Some(outcome))), ..row() };
            assert_eq!(verdict(&seen(&row, &overdue, now))[..2], ["False", expected]);
        }
    }

    #[test]
    fn the_last_run_stays_shown_while_the_next_is_at_work() {
        let now = at("2026-11-23T01:06:00Z");
        let ended = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Complete))), ..row() };
        let before = seen(&ended, &ConnectorStatus::default(), now);
        let working = seen(&ConnectorStatusRow { last_run: Some(run(None)), ..row() }, &before, now);
        assert_eq!(working.last_sync, before.last_sync);
        assert_eq!(
            before.progress.as_ref().map(|progress| progress.phase),
            Some(Phase::Complete),
            "kept after its end"
        );
        assert_eq!(working.progress.as_ref().map(|progress| progress.records_processed), Some(7));
        assert_eq!(status_of(&working.conditions, HEALTHY), Some("True"));
        assert_eq!(status_of(&working.conditions, SYNCING), Some("True"));
        assert_eq!(seen(&ended, &working, now), before, "nothing changed but what had changed");
    }

    #[test]
    fn events_tell_transitions_once() {
        let now = at("2026-11-23T01:06:00Z");
        let refused = ConnectorStatusRow { connection_status: ConnectionStatus::Disconnected, ..row() };
        let (before, after) = (ConnectorStatus::default(), seen(&refused, &ConnectorStatus::default(), now));
        let reasons = |notes: Vec<Note>| notes.into_iter().map(|note| note.reason).collect::<Vec<_>>();
        assert_eq!(reasons(notes(&before, &after)), ["ConnectionRefused"]);
        assert!(notes(&after, &seen(&refused, &after, now)).is_empty());
        let mut failed = run(Some(RunOutcome::Failed));
        failed.error = Some("Unauthorised".to_owned());
        let failed = seen(&ConnectorStatusRow { last_run: Some(failed), ..row() }, &after, now);
        assert_eq!(reasons(notes(&after, &failed)), ["Connected", "SyncFailed"]);
    }
}
