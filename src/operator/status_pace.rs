//! When an observed status may be written: the API server takes some 190 status writes a second (docs/facts.md, Kubernetes), a fleet has far more news than that (R40). Pure but for the clock it is handed.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{status_part::status_of, world::ObjectKey};
use crate::crd::{
    ConnectorStatus, LastSyncOutcome,
    conditions::{CONNECTED, HEALTHY, SYNCING, reason},
};

/// Status writes a second for all objects together: half of what the API server takes. With 1,000 runs at work their counters
/// are then about 12 s old at most; at half of that they would be 20 s old.
const RATE: f64 = 100.0;
/// Saved up while nothing happens, or while a round takes longer than a second.
const BURST: f64 = 200.0;
/// Counters of one object move at most this often.
const COUNTERS: SignedDuration = SignedDuration::from_secs(10);
/// A run that changed nothing is shown at most this often, once the bucket runs low (R40).
const QUIET: SignedDuration = SignedDuration::from_mins(15);
/// A run this young is not shown yet: most end before, and cost one write instead of two (R40).
const YOUNG: SignedDuration = SignedDuration::from_secs(2);

/// How much a change matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A condition or a result: at once.
    Now,
    /// Numbers of a run at work.
    Counters,
    /// A run that changed nothing.
    Quiet,
    /// That a connection was not checked yet.
    Unchecked,
}

/// How much the change between two statuses of a Connector matters.
#[must_use]
pub fn urgency(before: &ConnectorStatus, after: &ConnectorStatus) -> Urgency {
    let verdict = |status: &ConnectorStatus, of: &str| {
        let found = status.conditions.iter().find(|condition| condition.type_ == of);
        found.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    };
    let turned = [CONNECTED, HEALTHY].iter().any(|of| verdict(before, of) != verdict(after, of));
    if before.connection.is_none() && is_unchecked(after) {
        return Urgency::Unchecked;
    }
    if turned || before.connection.is_none() {
        return Urgency::Now;
    }
    match &after.last_sync {
        Some(ended) if before.last_sync.as_ref() != Some(ended) => {
            let quiet = ended.outcome == LastSyncOutcome::Complete
                && ended.records_written == 0
                && ended.errors_count == 0
                // A run that was shown at work must be shown to have ended.
                && status_of(&before.conditions, SYNCING) != Some("True");
            if quiet { Urgency::Quiet } else { Urgency::Now }
        }
        _ => Urgency::Counters,
    }
}

/// The status of a connector of which nothing is known but that its first check has not ended.
fn is_unchecked(status: &ConnectorStatus) -> bool {
    let told = status.conditions.iter().find(|condition| condition.type_ == CONNECTED).map(|of| of.reason.as_str());
    told == Some(reason::CHECK_PENDING) && status.progress.is_none()
}

/// The bucket and when each object was last written.
#[derive(Debug)]
pub struct Pace {
    tokens: f64,
    filled_at: Timestamp,
    written: HashMap<ObjectKey, Timestamp>,
}

impl Pace {
    /// Full.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { tokens: BURST, filled_at: now, written: HashMap::new() }
    }

    /// Whether it may be written now; `run_started_at` of a run at work. Takes a token if so.
    pub fn may_write(
        &mut self,
        key: &ObjectKey,
        urgency: Urgency,
        run_started_at: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        self.fill(now);
        let rested = self.written.get(key).map(|at| now.duration_since(*at));
        let due = match urgency {
            Urgency::Now => true,
            Urgency::Counters => {
                let old_enough = run_started_at
                    .is_none_or(|at| now.duration_since(at) >= if self.is_low() { COUNTERS } else { YOUNG });
                old_enough && rested.is_none_or(|rested| rested >= COUNTERS)
            }
            Urgency::Quiet => !self.is_low() || rested.is_none_or(|rested| rested >= QUIET),
            // The check's result follows, and while a whole fleet is new that would be two writes instead of one.
            Urgency::Unchecked => self.is_full(),
        };
        if !due || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        self.written.insert(key.clone(), now);
        true
    }

    /// When an object was last written.
    #[must_use]
    pub fn last_write(&self, key: &ObjectKey) -> Option<Timestamp> {
        self.written.get(key).copied()
    }

    /// The object is gone.
    pub fn forget_all_but(&mut self, keep: impl Fn(&ObjectKey) -> bool) {
        self.written.retain(|key, _| keep(key));
    }

    /// Whether nothing else is to be told; while one of a fleet is told, the others wait for the next round.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tokens >= BURST
    }

    fn is_low(&self) -> bool {
        self.tokens < BURST / 2.0
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = Duration::try_from(now.duration_since(self.filled_at)).unwrap_or_default();
        self.tokens = (self.tokens + passed.as_secs_f64() * RATE).min(BURST);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::world::Kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Connector, namespace: "acme".to_owned(), name: name.to_owned(), uid: "1".to_owned() }
    }

    fn start() -> Timestamp {
        "2026-11-23T01:00:00Z".parse().expect("timestamp")
    }

    fn after(seconds: i64) -> Timestamp {
        start() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn counters_move_every_ten_seconds_and_a_young_run_is_not_shown() {
        let mut pace = Pace::new(start());
        assert!(!pace.may_write(&key("a"), Urgency::Counters, Some(start()), after(1)));
        assert!(pace.may_write(&key("a"), Urgency::Counters, Some(start()), after(2)));
        assert!(!pace.may_write(&key("a"), Urgency::Counters, Some(start()), after(11)));
        assert!(pace.may_write(&key("a"), Urgency::Counters, Some(start()), after(12)));
        assert!(pace.may_write(&key("a"), Urgency::Now, Some(start()), after(12)), "a condition never waits its turn");
    }

    #[test]
    fn the_fleet_never_writes_faster_than_the_bucket_fills() {
        let mut pace = Pace::new(start());
        let mut written = |second| {
            (0..1_000).filter(|n| pace.may_write(&key(&n.to_string()), Urgency::Now, None, after(second))).count()
        };
        assert_eq!((written(0), written(1), written(2)), (200, 100, 100));
    }

    #[test]
    fn that_a_connection_is_not_checked_yet_is_told_when_there_is_nothing_else_to_tell() {
        let mut pace = Pace::new(start());
        assert!(pace.may_write(&key("a"), Urgency::Unchecked, None, after(0)));
        assert!(!pace.may_write(&key("b"), Urgency::Unchecked, None, after(0)), "one a round");
        assert!(pace.may_write(&key("b"), Urgency::Unchecked, None, after(1)));
        let checked = |reason: &str| ConnectorStatus {
            conditions: vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
                type_: CONNECTED.to_owned(),
                status: "Unknown".to_owned(),
                reason: reason.to_owned(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: super::super::status_part::time(start()),
            }],
            ..ConnectorStatus::default()
        };
        let new = ConnectorStatus::default();
        assert_eq!(urgency(&new, &checked(reason::CHECK_PENDING)), Urgency::Unchecked);
        assert_eq!(urgency(&new, &checked(reason::SOURCE_UNREACHABLE)), Urgency::Now);
    }

    #[test]
    fn runs_that_changed_nothing_wait_while_the_bucket_is_low() {
        let mut pace = Pace::new(start());
        assert!(pace.may_write(&key("a"), Urgency::Quiet, None, after(0)));
        for n in 0..120 {
            assert!(pace.may_write(&key(&n.to_string()), Urgency::Now, None, after(0)));
        }
        assert!(!pace.may_write(&key("a"), Urgency::Quiet, None, after(0)));
        assert!(pace.may_write(&key("a"), Urgency::Quiet, None, after(10)), "filled again");
    }

    #[test]
    fn results_are_urgent_and_quiet_runs_are_not() {
        let ended = |records_written| ConnectorStatus {
            connection: Some(crate::crd::Connection {
                status: crate::crd::ConnectionState::Connected,
                checked_at: None,
                account_id: None,
            }),
            last_sync: Some(crate::crd::LastSync {
                workflow_id: format!("run {records_written}"),
                start_time: super::super::status_part::time(start()),
                end_time: None,
                outcome: LastSyncOutcome::Complete,
                records_processed: 0,
                records_written,
                records_unchanged: 0,
                errors_count: 0,
                failed_batches: 0,
                error: None,
            }),
            ..ConnectorStatus::default()
        };
        assert_eq!(urgency(&ConnectorStatus::default(), &ended(0)), Urgency::Now, "the first observation");
        assert_eq!(urgency(&ended(7), &ended(0)), Urgency::Quiet);
        assert_eq!(urgency(&ended(0), &ended(7)), Urgency::Now);
        assert_eq!(urgency(&ended(0), &ended(0)), Urgency::Counters);
    }
}
