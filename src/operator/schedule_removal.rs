//! Takes leave of one schedule in Temporal if it is ours: deletes it, or marks it as left on purpose. A part of a step:
//! pure, shared by tenants, connectors and sweeps.

use super::{
    error::Error,
    world::{Answer, Reply, Request},
};
use crate::{
    error_class::Class,
    temporal::schedules::{ScheduleOwner, SeenSchedule},
};

/// Marks in one go before it is left to the next: updates are asynchronous on the server, and somebody else may race.
const MAX_MARKS: u8 = 3;

/// How it goes on.
pub enum Progress {
    /// Ask this.
    Ask(Request),
    /// Finished: whether there was one of ours, and not yet so; or it must be tried later.
    Finished(Result<bool, Error>),
}

/// The machine.
#[derive(Debug)]
pub struct RemoveSchedule {
    id: String,
    owner: ScheduleOwner,
    leave: bool,
    marks: u8,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Begin,
    Describing,
    Deleting,
    Marking,
}

impl RemoveSchedule {
    /// Deletes the schedule `id`, if `owner` made it.
    #[must_use]
    pub fn new(id: String, owner: ScheduleOwner) -> Self {
        Self { id, owner, leave: false, marks: 0, phase: Phase::Begin }
    }

    /// Marks it as left, so that no sweep takes it.
    #[must_use]
    pub fn leaving(id: String, owner: ScheduleOwner) -> Self {
        Self { leave: true, ..Self::new(id, owner) }
    }

    /// The next request, or the end.
    pub fn next(&mut self, reply: Option<Reply>) -> Progress {
        match (self.phase, reply) {
            (Phase::Begin, _) => self.describe(),
            (Phase::Marking, Some(Err(error))) if error.class() == Class::Conflict => self.describe(),
            (_, Some(Err(error))) => Progress::Finished(Err(error)),
            (Phase::Describing, Some(Ok(Answer::Schedule(Some(seen))))) if seen.owner.as_ref() == Some(&self.owner) => {
                self.part(*seen)
            }
            (Phase::Describing, Some(Ok(Answer::Schedule(_)))) => Progress::Finished(Ok(false)),
            (Phase::Deleting, Some(Ok(_))) => Progress::Finished(Ok(true)),
            // Servers drop a lost race quietly: only the mark that is seen is there.
            (Phase::Marking, Some(Ok(_))) => self.describe(),
            _ => unsettled("an answer to another question while a schedule was removed"),
        }
    }

    fn describe(&mut self) -> Progress {
        self.phase = Phase::Describing;
        Progress::Ask(Request::DescribeSchedule(self.id.clone()))
    }

    fn part(&mut self, seen: SeenSchedule) -> Progress {
        if !self.leave {
            self.phase = Phase::Deleting;
            return Progress::Ask(Request::DeleteSchedule(self.id.clone()));
        }
        if seen.left {
            return Progress::Finished(Ok(self.marks > 0));
        }
        if self.marks == MAX_MARKS {
            return unsettled("the schedule is not yet marked as left");
        }
        self.marks += 1;
        self.phase = Phase::Marking;
        Progress::Ask(Request::LeaveSchedule(self.id.clone(), seen.conflict_token))
    }
}

fn unsettled(why: &'static str) -> Progress {
    Progress::Finished(Err(Error::Unsettled(why)))
}
