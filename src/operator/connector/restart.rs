//! The run that follows the last one without a tick: at once after one that ended at its budget (R21), with back-off after one
//! that failed (`spec.autoRestart`). From the store's row and the spec, so that no operator forgets it. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    contract::{
        CONNECTOR_SYNC_WORKFLOW,
        workflows::{ConnectionStatus, ConnectorSyncInput},
    },
    crd::{AutoRestart, AutoRestartStatus, ConnectorSpec, ConnectorState},
    operator::{
        names::Installation,
        status_part::time,
        world::{Request, StartWorkflow},
    },
    store::{ConnectorStatusRow, RunOutcome},
    temporal::client::IdReuse,
};

/// The next run.
#[derive(Debug, Clone, PartialEq)]
pub struct NextRun {
    /// When it is due.
    pub at: Timestamp,
    /// Failures in a row before it; none after a run that ended at its budget.
    pub failures: u32,
    /// The end of the run that it follows.
    pub follows: Timestamp,
}

impl NextRun {
    /// Its id is made of the end of the run that it follows: one run follows, however often that one's end is read.
    #[must_use]
    pub fn request(&self, row: &ConnectorStatusRow, installation: &Installation) -> Request {
        let (tenant_id, connector_id) = (row.tenant_id.clone(), row.connector_id.clone());
        let input = ConnectorSyncInput { tenant_id, connector_id, full_sync: false };
        Request::StartWorkflow(StartWorkflow {
            workflow_type: CONNECTOR_SYNC_WORKFLOW,
            workflow_id: installation.names.sync_run(&row.tenant_id, &row.connector_id, self.follows),
            input: serde_json::to_value(input).expect("two text fields and a flag"),
            reuse: IdReuse::UntilCompleted,
        })
    }
}

/// The run that somebody must start, if it is not a tick's business. It goes on where the last one stood.
#[must_use]
pub fn next_run(row: &ConnectorStatusRow, spec: &ConnectorSpec) -> Option<NextRun> {
    let run = row.last_run.as_ref()?;
    let follows = run.finished_at.filter(|_| spec.state == ConnectorState::Running)?;
    match run.outcome? {
        RunOutcome::More => Some(NextRun { at: follows, failures: 0, follows }),
        // A refused credential is checked again with a back-off of its own.
        RunOutcome::Failed if row.connection_status != ConnectionStatus::Disconnected => {
            let policy = policy(spec).filter(|policy| row.failed_in_row <= most(policy))?;
            let at = follows.checked_add(back_off(policy, row.failed_in_row)).ok()?;
            Some(NextRun { at, failures: row.failed_in_row, follows })
        }
        _ => None,
    }
}

/// Whether the last run failed, and so did every restart that there may be.
#[must_use]
pub fn is_exhausted(row: &ConnectorStatusRow, spec: &ConnectorSpec) -> bool {
    policy(spec).is_some_and(|policy| row.failed_in_row > most(policy))
}

/// For the status: nothing while nothing failed, or nobody asked for it.
#[must_use]
pub fn shown(row: &ConnectorStatusRow, spec: &ConnectorSpec) -> Option<AutoRestartStatus> {
    let policy = policy(spec).filter(|_| row.failed_in_row > 0)?;
    let next = next_run(row, spec).filter(|next| next.failures > 0);
    // The last failure's restart is still to come.
    let used = row.failed_in_row - u32::from(next.is_some());
    let count = i32::try_from(used.min(most(policy))).unwrap_or(i32::MAX);
    Some(AutoRestartStatus { count, next_attempt_at: next.map(|next| time(next.at)) })
}

fn policy(spec: &ConnectorSpec) -> Option<&AutoRestart> {
    spec.auto_restart.as_ref().filter(|policy| policy.enabled)
}

fn most(policy: &AutoRestart) -> u32 {
    u32::try_from(policy.max_restarts).unwrap_or(0)
}

fn back_off(policy: &AutoRestart, failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(30));
    policy.initial_backoff.duration().saturating_mul(doubled).min(policy.max_backoff.duration())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::connector::health::tests::{at, row, run, spec};

    fn failed(times: u32) -> ConnectorStatusRow {
        ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Failed))), failed_in_row: times, ..row() }
    }

    fn restarting() -> ConnectorSpec {
        spec(json!({"autoRestart": {"maxRestarts": 3, "initialBackoff": "1m", "maxBackoff": "3m"}}))
    }

    #[test]
    fn a_failed_run_is_followed_after_a_growing_pause_as_often_as_may_be() {
        let due = |times| next_run(&failed(times), &restarting()).map(|next| next.at);
        assert_eq!(due(1), Some(at("2026-11-23T01:06:00Z")));
        assert_eq!(due(2), Some(at("2026-11-23T01:07:00Z")));
        assert_eq!(due(3), Some(at("2026-11-23T01:08:00Z")), "three minutes are the longest");
        assert_eq!(due(4), None);
        assert_eq!(
            [3, 4].map(|times| is_exhausted(&failed(times), &restarting())),
            [false, true],
            "the third restart may still do it"
        );
        let shown =
            |times| shown(&failed(times), &restarting()).map(|shown| (shown.count, shown.next_attempt_at.is_some()));
        assert_eq!(
            [0, 1, 3, 4, 9].map(shown),
            [None, Some((0, true)), Some((2, true)), Some((3, false)), Some((3, false))]
        );
    }

    #[test]
    fn nobody_restarts_what_was_not_asked_for_was_ended_from_outside_or_is_refused() {
        assert_eq!(next_run(&failed(1), &spec(json!({}))), None, "the next tick is soon enough");
        assert_eq!(next_run(&failed(1), &spec(json!({"autoRestart": {"enabled": false}}))), None);
        let paused = spec(json!({"autoRestart": {}, "state": "Paused"}));
        assert_eq!(next_run(&failed(1), &paused), None);
        let terminated = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::Terminated))), ..failed(1) };
        assert_eq!(next_run(&terminated, &restarting()), None);
        let refused = ConnectorStatusRow { connection_status: ConnectionStatus::Disconnected, ..failed(1) };
        assert_eq!(next_run(&refused, &restarting()), None);
    }

    #[test]
    fn a_run_that_ended_at_its_budget_is_followed_at_once_by_one_whose_id_is_made_of_its_end() {
        let more = ConnectorStatusRow { last_run: Some(run(Some(RunOutcome::More))), ..row() };
        let next = next_run(&more, &spec(json!({}))).expect("the next run");
        assert_eq!((next.at, next.failures), (at("2026-11-23T01:05:00Z"), 0));
        let installation = Installation::new("installation".to_owned(), None);
        let Request::StartWorkflow(start) = next.request(&more, &installation) else { panic!("a start") };
        assert_eq!(start.workflow_id, "sync-acme-hubspot-2026-11-23T01:05:00Z");
        assert_eq!((start.reuse, &start.input["fullSync"]), (IdReuse::UntilCompleted, &json!(false)));
        assert_eq!(next_run(&more, &spec(json!({"state": "Stopped"}))), None);
    }
}
