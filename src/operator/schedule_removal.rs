//! Deletes one schedule in Temporal if it is ours. A part of a step: pure, shared by tenants, connectors and the sweep.

use super::{
    error::Error,
    world::{Answer, Reply, Request},
};
use crate::temporal::schedules::ScheduleOwner;

/// How it goes on.
pub enum Progress {
    /// Ask this.
    Ask(Request),
    /// Finished: whether there was one of ours; or it must be tried later.
    Finished(Result<bool, Error>),
}

/// The machine.
#[derive(Debug)]
pub struct RemoveSchedule {
    id: String,
    owner: ScheduleOwner,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Begin,
    Describing,
    Deleting,
}

impl RemoveSchedule {
    /// For the schedule `id`, if `owner` made it.
    #[must_use]
    pub fn new(id: String, owner: ScheduleOwner) -> Self {
        Self { id, owner, phase: Phase::Begin }
    }

    /// The next request, or the end.
    pub fn next(&mut self, reply: Option<Reply>) -> Progress {
        match (self.phase, reply) {
            (Phase::Begin, _) => {
                self.phase = Phase::Describing;
                Progress::Ask(Request::DescribeSchedule(self.id.clone()))
            }
            (_, Some(Err(error))) => Progress::Finished(Err(error)),
            (Phase::Describing, Some(Ok(Answer::Schedule(Some(seen))))) if seen.owner.as_ref() == Some(&self.owner) => {
                self.phase = Phase::Deleting;
                Progress::Ask(Request::DeleteSchedule(self.id.clone()))
            }
            (Phase::Describing, Some(Ok(Answer::Schedule(_)))) => Progress::Finished(Ok(false)),
            (Phase::Deleting, Some(Ok(_))) => Progress::Finished(Ok(true)),
            _ => {
                Progress::Finished(Err(Error::Unsettled("an answer to another question while a schedule was removed")))
            }
        }
    }
}
