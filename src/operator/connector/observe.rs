//! The observed part of a Connector's status: connection, progress, last run, cursor, dead letters; and what of it is news.
//! From the store's row alone. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::{
    contract::workflows::{ConnectionStatus, SyncStats},
    crd::{
        Connection, ConnectionState, ConnectorStatus, CursorSummary, DeadLetters, LastSync, LastSyncOutcome, Phase,
        Progress,
        conditions::{CONNECTED, HEALTHY, SYNCING, reason},
    },
    operator::{
        outcome::Note,
        status_part::{CONNECTOR_OBSERVED, Wish, status_of, time},
    },
    store::{ConnectorStatusRow, RunOutcome, RunRow},
};

/// Seed: failed batches per sync, alert threshold.
const MAX_FAILED_BATCHES: u64 = 10;
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
    status.dead_letters = Some(DeadLetters { count: row.dead_letters });
    let wishes = [Some(connected(row)), healthy(row, current, now), Some(syncing(running))];
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
        _ if run.stats.failed_batches > MAX_FAILED_BATCHES => {
            let message = format!("the last sync had more than {MAX_FAILED_BATCHES} batches with rejected records");
            Wish::no(HEALTHY, reason::TOO_MANY_FAILED_BATCHES, message)
        }
        _ if run.error.is_some() => {
            let why = run.error.as_deref().unwrap_or_default();
            Wish::no(HEALTHY, reason::STREAM_FAILED, format!("the last sync left streams out: {why}"))
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
