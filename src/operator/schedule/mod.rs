//! Makes one schedule in Temporal be as wanted: create, update with conflict token, or nothing. A part of a step:
//! pure, shared by tenants and connectors. Does not decide what is wanted.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    error::Error,
    schedule_pause::wanted_state,
    schedule_terms::Policies,
    world::{Answer, Reply, Request},
};
use crate::{
    crd::{ConflictPolicy, DriftPolicy, ScheduleStatus},
    error_class::Class,
    temporal::schedules::{ScheduleState, ScheduleUpdate, SeenSchedule, WantedSchedule, edited_parts},
};

/// Writes in one go before it is left to the next: updates are asynchronous on the server, and somebody else may race.
const MAX_WRITES: u8 = 3;
/// What an edit is named after that shows in no digest: our marks on the action are gone.
const UNMARKED: &str = "the memo of the workflow it starts";

/// What was done to the schedule, pauses aside.
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
    /// It was not ours.
    Adopted,
}

/// A schedule that is as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// As the server describes it; `None` = its end has passed and the server has forgotten it.
    pub seen: Option<SeenSchedule>,
    /// For the status.
    pub status: ScheduleStatus,
    /// What it took.
    pub change: Change,
    /// What somebody edited by hand and is left so, by the names of a spec's fields.
    pub drift: Vec<&'static str>,
    /// A tick starts within this long after its time.
    pub spread: Duration,
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
    policies: Policies,
    has_ended: bool,
    known_echo: Option<String>,
    change: Change,
    content_written: bool,
    /// Conflict token of what our last write was to replace.
    written_over: Vec<u8>,
    writes: u8,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Begin,
    Describing,
    Writing,
}

/// What a schedule of ours is, beside what is wanted.
enum Verdict {
    AsWanted,
    Write(Change),
    Drift(Vec<&'static str>),
}

impl EnsureSchedule {
    /// For a wanted schedule; `status` is what the last reconcile left, whose echo tells an edit by hand.
    #[must_use]
    pub fn new(wanted: WantedSchedule, policies: Policies, status: Option<&ScheduleStatus>, now: Timestamp) -> Self {
        let known_echo = status
            .filter(|status| status.id == wanted.id && status.spec_hash == wanted.hash())
            .and_then(|status| status.echo_hash.clone());
        Self {
            has_ended: wanted.end_at.is_some_and(|end| end <= now),
            wanted,
            policies,
            known_echo,
            change: Change::None,
            content_written: false,
            written_over: Vec::new(),
            writes: 0,
            phase: Phase::Begin,
        }
    }

    /// The next request, or the end.
    pub fn next(&mut self, reply: Option<Reply>) -> Progress {
        match (self.phase, reply) {
            (Phase::Begin, _) => self.describe(),
            (Phase::Describing, Some(Ok(Answer::Schedule(None)))) if self.has_ended => self.finished(None, Vec::new()),
            (Phase::Describing, Some(Ok(Answer::Schedule(None)))) => {
                self.content_written = true;
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
        let is_ours = seen.owner.as_ref() == Some(&self.wanted.owner);
        if !is_ours && self.policies.conflict == ConflictPolicy::Refuse {
            return Progress::Finished(Err(Problem::Foreign));
        }
        // Always from what is there: an update replaces the state, too, with people's pauses in it.
        let state = wanted_state(self.wanted.suspended, self.policies.pause, &seen.state);
        let verdict = if is_ours { self.verdict(&seen) } else { Verdict::Write(Change::Adopted) };
        let drift = match verdict {
            Verdict::AsWanted => Vec::new(),
            Verdict::Drift(parts) if self.policies.drift == DriftPolicy::Report => parts,
            Verdict::Drift(_) => return self.update(Change::DriftCorrected, &seen, state),
            Verdict::Write(change) => return self.update(change, &seen, state),
        };
        if state != seen.state {
            return self.update(Change::None, &seen, state);
        }
        self.finished(Some(seen), drift)
    }

    fn verdict(&self, seen: &SeenSchedule) -> Verdict {
        match (&seen.wanted_hash, &self.known_echo) {
            // Its object is back.
            _ if seen.left && !self.content_written => Verdict::Write(Change::Updated),
            (Some(hash), known) if *hash == self.wanted.hash() => match known {
                // An edit that is still there is not the echo of its correction: the server has yet to carry that out.
                Some(known)
                    if *known != seen.echo && (!self.content_written || self.written_over == seen.conflict_token) =>
                {
                    Verdict::Drift(edited_parts(known, &seen.echo))
                }
                // Without a known echo (status lost) an edit by hand cannot be told.
                _ => Verdict::AsWanted,
            },
            // Another hash is one of our own writes; none at all is somebody's who dropped our marks.
            (None, Some(known)) if !self.content_written => {
                let parts = edited_parts(known, &seen.echo);
                Verdict::Drift(if parts.is_empty() { vec![UNMARKED] } else { parts })
            }
            _ => Verdict::Write(Change::Updated),
        }
    }

    /// `Change::None` writes the state only.
    fn update(&mut self, change: Change, seen: &SeenSchedule, state: ScheduleState) -> Progress {
        let content = (change != Change::None).then(|| self.wanted.clone());
        self.content_written |= content.is_some();
        self.written_over.clone_from(&seen.conflict_token);
        let (id, conflict_token) = (self.wanted.id.clone(), seen.conflict_token.clone());
        let update = ScheduleUpdate { id, content, state, conflict_token };
        self.write(change, Request::UpdateSchedule(Box::new(update)))
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

    fn finished(&mut self, seen: Option<SeenSchedule>, drift: Vec<&'static str>) -> Progress {
        // What is reported must show again next time.
        let adopts_echo = drift.is_empty();
        let echo = seen.as_ref().filter(|_| adopts_echo).map(|seen| seen.echo.clone());
        let status = ScheduleStatus {
            id: self.wanted.id.clone(),
            spec_hash: self.wanted.hash(),
            echo_hash: echo.or_else(|| self.known_echo.clone()),
        };
        let (change, spread) = (self.change, self.wanted.jitter);
        Progress::Finished(Ok(Box::new(Ensured { seen, status, change, drift, spread })))
    }
}

fn later(why: &'static str) -> Progress {
    Progress::Finished(Err(Problem::Later(Error::Unsettled(why))))
}

#[cfg(test)]
pub(super) mod tests;
