//! The observed part of a TenantSchedule's status: its connectors, counted, and whether workers are there. Pure.

use jiff::Timestamp;

use crate::{
    contract::workflows::ConnectionStatus,
    crd::{
        ConnectorCounts, PausedBy, TenantScheduleStatus,
        conditions::{HEALTHY, reason},
    },
    operator::{
        schedule_shown,
        status_part::{TENANT_OBSERVED, Wish, time},
        worker_deployment::status::Availability,
    },
    store::ConnectorStatusRow,
};

/// What is known of one connector of the tenant.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its row, if the store has one.
    pub row: Option<ConnectorStatusRow>,
    /// Its condition `Healthy`: `True`, `False` or `Unknown`.
    pub healthy: Option<String>,
}

/// The status with what was observed. Fields of the reconciler are left as they are.
#[must_use]
pub fn status(
    members: &[Member],
    workers: Option<&Availability>,
    current: &TenantScheduleStatus,
    now: Timestamp,
) -> TenantScheduleStatus {
    let rows = || members.iter().filter_map(|member| member.row.as_ref());
    let failing = members.iter().filter(|member| member.healthy.as_deref() == Some("False")).count();
    let connected = rows().filter(|row| row.connection_status == ConnectionStatus::Connected).count();
    let mut status = current.clone();
    status.connectors = Some(ConnectorCounts {
        total: count(members.len()),
        connected: count(connected),
        failing: count(failing),
        dead_letters: rows().map(|row| row.dead_letters).sum(),
    });
    status.last_success_time = rows().filter_map(|row| row.last_success_at).max().map(time);
    let paused_by = current.pause.as_ref().map(|pause| pause.by);
    let healthy = if paused_by == Some(PausedBy::Failure) {
        Wish::no(HEALTHY, reason::PAUSED_BY_FAILURE, "Temporal paused the schedule, because a run failed: status.pause")
    } else if let Some(overdue) = schedule_shown::overdue(current.overdue_since.as_ref()) {
        overdue
    } else if failing > 0 {
        // No number in the message: it would change with every connector.
        Wish::no(HEALTHY, reason::CONNECTORS_FAILING, "at least one of the tenant's connectors is not healthy")
    } else if members.iter().any(|member| member.healthy.as_deref() == Some("True")) {
        Wish::yes(HEALTHY, reason::LAST_SYNC_SUCCEEDED, "the last syncs completed within the thresholds")
    } else {
        Wish::unknown(HEALTHY, reason::NO_SYNC_YET, "no sync has run yet")
    };
    let workers = workers.map(Availability::wish);
    let wishes = [Some(healthy), workers].into_iter().flatten().collect();
    status.conditions = TENANT_OBSERVED.conditions(&current.conditions, wishes, None, now);
    status
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::{PauseStatus, conditions::WORKERS_AVAILABLE},
        operator::{status_part::status_of, worker_deployment::status::Pods},
    };

    fn members(healthy: &[Option<&str>]) -> Vec<Member> {
        healthy.iter().map(|healthy| Member { row: None, healthy: healthy.map(str::to_owned) }).collect()
    }

    #[test]
    fn one_failing_connector_makes_the_tenant_unhealthy() {
        let now: Timestamp = "2026-11-23T01:00:00Z".parse().expect("timestamp");
        let of = |healthy: &[Option<&str>]| {
            let status = status(&members(healthy), None, &TenantScheduleStatus::default(), now);
            let counts = status.connectors.expect("counts");
            (status_of(&status.conditions, HEALTHY).map(str::to_owned), counts.total, counts.failing)
        };
        assert_eq!(of(&[]), (Some("Unknown".to_owned()), 0, 0));
        assert_eq!(of(&[Some("True"), None]), (Some("True".to_owned()), 2, 0));
        assert_eq!(of(&[Some("True"), Some("False")]), (Some("False".to_owned()), 2, 1));
    }

    #[test]
    fn a_tenant_whose_schedule_a_failure_paused_is_not_healthy() {
        let now: Timestamp = "2026-11-23T01:00:00Z".parse().expect("timestamp");
        let pause = |by| PauseStatus { by, since: time(now), note: String::new() };
        for (by, expected) in [(PausedBy::Failure, "False"), (PausedBy::Person, "True"), (PausedBy::Spec, "True")] {
            let current = TenantScheduleStatus { pause: Some(pause(by)), ..TenantScheduleStatus::default() };
            let status = status(&members(&[Some("True")]), None, &current, now);
            assert_eq!(status_of(&status.conditions, HEALTHY), Some(expected), "{by:?}");
        }
    }

    #[test]
    fn a_tenant_of_which_a_tick_is_overdue_is_not_healthy_until_it_is_not() {
        let now: Timestamp = "2026-11-23T01:00:00Z".parse().expect("timestamp");
        let reason = |current: &TenantScheduleStatus| {
            let conditions = status(&members(&[Some("True")]), None, current, now).conditions;
            conditions.into_iter().find(|of| of.type_ == HEALTHY).map(|of| of.reason).unwrap_or_default()
        };
        let overdue = TenantScheduleStatus { overdue_since: Some(time(now)), ..TenantScheduleStatus::default() };
        assert_eq!(
            (reason(&overdue).as_str(), reason(&TenantScheduleStatus::default()).as_str()),
            ("Overdue", "LastSyncSucceeded")
        );
    }

    #[test]
    fn workers_are_shown_only_where_the_operator_deploys_them() {
        let now: Timestamp = "2026-11-23T01:00:00Z".parse().expect("timestamp");
        let of = |workers| {
            let status = status(&[], workers, &TenantScheduleStatus::default(), now);
            status_of(&status.conditions, WORKERS_AVAILABLE).map(str::to_owned)
        };
        assert_eq!(of(None), None);
        assert_eq!(of(Some(&Availability { pods: Pods::Missing, is_stalled: false })), Some("False".to_owned()));
        assert_eq!(of(Some(&Availability { pods: Pods::Ready, is_stalled: true })), Some("True".to_owned()));
    }
}
