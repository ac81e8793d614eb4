//! Makes one schedule in Temporal be as wanted: create, update with conflict token, or nothing. A part of a step:
//! pure, shared by tenants and connectors. Does not decide what is wanted.

use super::{
    error::Error,
    world::{Answer, Reply, Request},
};
use crate::{
    crd::ScheduleStatus,
    error_class::Class,
    temporal::schedules::{SeenSchedule, WantedSchedule},
};

/// Writes in one go before it is left to the next: updates are asynchronous on the server, and somebody else may race.
const MAX_WRITES: u8 = 3;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// There was no such schedule.
    Created,
    /// The spec changed.
    Updated,
    /// Somebody edited it by hand.
    DriftCorrected,
}

/// A schedule that is as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// As the server describes it.
    pub seen: SeenSchedule,
    /// For the status.
    pub status: ScheduleStatus,
    /// What it took.
    pub change: Change,
}

/// Why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A schedule of this id belongs to somebody else.
    Foreign,
    /// Temporal does not accept it: a cron string or time zone it does not know.
    Refused,
    /// Temporal is away, or the race was lost: later.
    Later(Error),
}

/// How it goes on.
pub enum Progress {
    /// Ask this.
    Ask(Request),
    /// Finished.
    Finished(Result<Box<Ensured>, Problem>),
}

/// The machine.
#[derive(Debug)]
pub struct EnsureSchedule {
    wanted: WantedSchedule,
    known_echo: Option<String>,
    change: Change,
    writes: u8,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Begin,
    Describing,
    Writing,
}

impl EnsureSchedule {
    /// For a wanted schedule; `status` is what the last reconcile left, whose echo tells an edit by hand.
    #[must_use]
    pub fn new(wanted: WantedSchedule, status: Option<&ScheduleStatus>) -> Self {
        let known_echo = status
            .filter(|status| status.id == wanted.id && status.spec_hash == wanted.hash())
            .and_then(|status| status.echo_hash.clone());
        Self { wanted, known_echo, change: Change::None, writes: 0, phase: Phase::Begin }
    }

    /// The next request, or the end.
    pub fn next(&mut self, reply: Option<Reply>) -> Progress {
        match (self.phase, reply) {
            (Phase::Begin, _) => self.describe(),
            (Phase::Describing, Some(Ok(Answer::Schedule(None)))) => {
                self.write(Change::Created, Request::CreateSchedule(Box::new(self.wanted.clone())))
            }
            (Phase::Describing, Some(Ok(Answer::Schedule(Some(seen))))) => self.compare(*seen),
            // Lost a race, or it vanished: look again.
            (Phase::Writing, Some(Ok(_))) => self.describe(),
            (Phase::Writing, Some(Err(error))) if error.class() == Class::Conflict => self.describe(),
            (_, Some(Err(error))) if error.class() == Class::Invalid => Progress::Finished(Err(Problem::Refused)),
            (_, Some(Err(error))) => Progress::Finished(Err(Problem::Later(error))),
            (_, other) => {
                debug_assert!(false, "not an answer to what was asked: {other:?}");
                later("an answer to another question while a schedule was ensured")
            }
        }
    }

    fn describe(&mut self) -> Progress {
        self.phase = Phase::Describing;
        Progress::Ask(Request::DescribeSchedule(self.wanted.id.clone()))
    }

    fn compare(&mut self, seen: SeenSchedule) -> Progress {
        if seen.owner.as_ref() != Some(&self.wanted.owner) {
            return Progress::Finished(Err(Problem::Foreign));
        }
        let hash = self.wanted.hash();
        let as_wanted = seen.wanted_hash.as_deref() == Some(hash.as_str());
        // Without a known echo (status lost) only a pause can be told: adopted, it would silence the tenant for good.
        let edited = match &self.known_echo {
            Some(known) => *known != seen.echo,
            None => seen.paused != self.wanted.paused,
        };
        if as_wanted && (self.writes > 0 || !edited) {
            let status =
                ScheduleStatus { id: self.wanted.id.clone(), spec_hash: hash, echo_hash: Some(seen.echo.clone()) };
            return Progress::Finished(Ok(Box::new(Ensured { seen, status, change: self.change })));
        }
        let change = if as_wanted { Change::DriftCorrected } else { Change::Updated };
        let token = seen.conflict_token;
        self.write(change, Request::UpdateSchedule(Box::new(self.wanted.clone()), token))
    }

    fn write(&mut self, change: Change, request: Request) -> Progress {
        if self.writes == MAX_WRITES {
            return later("the schedule is not yet as it was written");
        }
        self.writes += 1;
        self.phase = Phase::Writing;
        if self.change == Change::None {
            self.change = change;
        }
        Progress::Ask(request)
    }
}

fn later(why: &'static str) -> Progress {
    Progress::Finished(Err(Problem::Later(Error::Unsettled(why))))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::temporal::{
        self, StartOutcome,
        schedules::{Overlap, ScheduleOwner},
    };

    pub(in crate::operator) fn wanted() -> WantedSchedule {
        WantedSchedule {
            id: "scheduled-sync-acme".to_owned(),
            owner: ScheduleOwner {
                installation_id: "i".to_owned(),
                kind: "TenantSchedule".to_owned(),
                namespace: "acme".to_owned(),
                name: "acme".to_owned(),
            },
            crons: vec!["0 */4 * * *".to_owned()],
            time_zone: "UTC".to_owned(),
            jitter: Duration::ZERO,
            overlap: Overlap::Skip,
            catch_up_window: Duration::from_secs(60),
            pause_on_failure: false,
            paused: false,
            workflow_type: "scheduledSyncWorkflow".to_owned(),
            workflow_id: "scheduled-sync-acme".to_owned(),
            input: serde_json::json!({"tenantId": "acme"}),
        }
    }

    /// What a server would describe of `wanted`.
    pub(in crate::operator) fn seen(wanted: &WantedSchedule) -> SeenSchedule {
        SeenSchedule {
            owner: Some(wanted.owner.clone()),
            wanted_hash: Some(wanted.hash()),
            echo: format!("echo of {}", wanted.hash()),
            conflict_token: vec![1],
            paused: wanted.paused,
            note: String::new(),
            next_run: Some("2026-11-23T04:00:00Z".parse().expect("timestamp")),
            last_run: None,
            running: Vec::new(),
            missed_catch_up: 0,
            overlap_skipped: 0,
        }
    }

    fn described(seen: SeenSchedule) -> Option<Reply> {
        Some(Ok(Answer::Schedule(Some(Box::new(seen)))))
    }

    fn asks(progress: &Progress, expected: &str) {
        match progress {
            Progress::Ask(request) => assert!(format!("{request:?}").starts_with(expected), "{request:?}"),
            Progress::Finished(end) => panic!("finished with {end:?}, expected {expected}"),
        }
    }

    fn change(progress: Progress) -> Change {
        match progress {
            Progress::Finished(Ok(ensured)) => ensured.change,
            Progress::Finished(Err(problem)) => panic!("{problem:?}"),
            Progress::Ask(request) => panic!("asks {request:?}"),
        }
    }

    #[test]
    fn a_missing_schedule_is_created_and_described_once() {
        let mut machine = EnsureSchedule::new(wanted(), None);
        asks(&machine.next(None), "DescribeSchedule");
        asks(&machine.next(Some(Ok(Answer::Schedule(None)))), "CreateSchedule");
        asks(&machine.next(Some(Ok(Answer::Started(StartOutcome::Started)))), "DescribeSchedule");
        assert_eq!(change(machine.next(described(seen(&wanted())))), Change::Created);
    }

    #[test]
    fn nothing_is_written_when_hash_and_echo_are_known() {
        let status =
            ScheduleStatus { id: wanted().id, spec_hash: wanted().hash(), echo_hash: Some(seen(&wanted()).echo) };
        let mut machine = EnsureSchedule::new(wanted(), Some(&status));
        asks(&machine.next(None), "DescribeSchedule");
        assert_eq!(change(machine.next(described(seen(&wanted())))), Change::None);
    }

    #[test]
    fn an_edit_by_hand_shows_as_another_echo_and_is_put_right_with_the_conflict_token() {
        let status =
            ScheduleStatus { id: wanted().id, spec_hash: wanted().hash(), echo_hash: Some("as it was".to_owned()) };
        let mut machine = EnsureSchedule::new(wanted(), Some(&status));
        let _ = machine.next(None);
        match machine.next(described(seen(&wanted()))) {
            Progress::Ask(Request::UpdateSchedule(_, token)) => assert_eq!(token, vec![1]),
            _ => panic!("expected an update"),
        }
        asks(&machine.next(Some(Ok(Answer::Done))), "DescribeSchedule");
        assert_eq!(change(machine.next(described(seen(&wanted())))), Change::DriftCorrected);
    }

    #[test]
    fn after_a_lost_status_an_equal_hash_is_adopted_without_a_write() {
        let mut machine = EnsureSchedule::new(wanted(), None);
        let _ = machine.next(None);
        assert_eq!(change(machine.next(described(seen(&wanted())))), Change::None);
    }

    #[test]
    fn after_a_lost_status_a_pause_by_hand_is_put_right() {
        let mut paused = seen(&wanted());
        paused.paused = !wanted().paused;
        let mut machine = EnsureSchedule::new(wanted(), None);
        let _ = machine.next(None);
        asks(&machine.next(described(paused)), "UpdateSchedule");
    }

    #[test]
    fn a_foreign_schedule_is_never_touched() {
        let mut foreign = seen(&wanted());
        foreign.owner = None;
        let mut machine = EnsureSchedule::new(wanted(), None);
        let _ = machine.next(None);
        assert!(matches!(machine.next(described(foreign)), Progress::Finished(Err(Problem::Foreign))));
    }

    #[test]
    fn an_update_that_the_server_drops_is_repeated_a_few_times_only() {
        let mut old = seen(&wanted());
        old.wanted_hash = Some("old".to_owned());
        let mut machine = EnsureSchedule::new(wanted(), None);
        let _ = machine.next(None);
        for _ in 0..MAX_WRITES {
            asks(&machine.next(described(old.clone())), "UpdateSchedule");
            let conflict = temporal::Error::Conflict { attempted: "update a schedule", code: String::new() };
            asks(&machine.next(Some(Err(Error::Temporal(conflict)))), "DescribeSchedule");
        }
        assert!(matches!(machine.next(described(old)), Progress::Finished(Err(Problem::Later(_)))));
    }
}
