//! The step that cleans up after a deleted TenantSchedule and lets it go: schedule, projection, finalizer. Pure (R36).

use std::mem;

use super::{Input, status};
use crate::{
    crd::{DeletionPolicy, conditions::reason},
    operator::{
        error::Error,
        outcome::{Again, Note, Outcome, is_news},
        schedule_removal::{Progress, RemoveSchedule},
        status_part::TENANT_CONTROL,
        world::{Answer, Reply, Request, Step},
    },
};

/// The step.
#[derive(Debug)]
pub struct Remove {
    input: Input,
    phase: Phase,
    outcome: Outcome,
}

#[derive(Debug)]
enum Phase {
    Begin,
    AskingClaim,
    RemovingSchedule(RemoveSchedule),
    LeavingSchedule(RemoveSchedule),
    Unprojecting,
    Releasing,
    Status,
    End,
}

impl Remove {
    /// For an object that is being deleted.
    #[must_use]
    pub fn new(input: Input) -> Self {
        let outcome = Outcome { again: Again::Never, notes: Vec::new(), failed: None };
        Self { input, phase: Phase::Begin, outcome }
    }

    fn begin(&mut self) -> Option<Request> {
        if !self.input.has_finalizer {
            return None;
        }
        if self.input.force_delete {
            let message = "released without cleaning up in Temporal and the store, as the annotation asks";
            self.outcome.notes.push(Note::warning("ScheduleOrphaned", "Delete", message));
            return self.release();
        }
        match self.input.spec.deletion_policy {
            DeletionPolicy::Orphan => {
                let owner = self.input.installation.schedule_owner(&self.input.key);
                self.leave_schedule(RemoveSchedule::leaving(self.schedule_id(), owner), None)
            }
            DeletionPolicy::Delete => {
                self.phase = Phase::AskingClaim;
                Some(Request::TenantClaim(self.input.spec.tenant_id.clone()))
            }
        }
    }

    fn schedule_id(&self) -> String {
        self.input.installation.names.tenant_schedule(&self.input.spec.tenant_id)
    }

    fn remove_schedule(&mut self, mut machine: RemoveSchedule, reply: Option<Reply>) -> Option<Request> {
        match machine.next(reply) {
            Progress::Ask(request) => {
                self.phase = Phase::RemovingSchedule(machine);
                Some(request)
            }
            Progress::Finished(Ok(existed)) => {
                if existed {
                    let message = format!("deleted schedule {}", self.schedule_id());
                    self.outcome.notes.push(Note::normal("ScheduleDeleted", "Delete", message));
                }
                self.unproject()
            }
            Progress::Finished(Err(error)) => self.blocked(error),
        }
    }

    /// The mark is in Temporal, where a sweep looks: without it what was left on purpose would be taken for a stray.
    fn leave_schedule(&mut self, mut machine: RemoveSchedule, reply: Option<Reply>) -> Option<Request> {
        match machine.next(reply) {
            Progress::Ask(request) => {
                self.phase = Phase::LeavingSchedule(machine);
                Some(request)
            }
            Progress::Finished(Ok(marked)) => {
                if marked {
                    let message = format!("schedule {} stays in Temporal and goes on firing", self.schedule_id());
                    self.outcome.notes.push(Note::normal("ScheduleLeft", "Delete", message));
                }
                self.release()
            }
            Progress::Finished(Err(error)) => self.blocked(error),
        }
    }

    fn release(&mut self) -> Option<Request> {
        self.phase = Phase::Releasing;
        Some(Request::RemoveFinalizer(self.input.key.clone()))
    }

    fn unproject(&mut self) -> Option<Request> {
        self.phase = Phase::Unprojecting;
        let owner = self.input.installation.owner(&self.input.key);
        Some(Request::RemoveTenant(self.input.spec.tenant_id.clone(), owner))
    }

    fn blocked(&mut self, error: Error) -> Option<Request> {
        let status = status::cleanup_blocked(&self.input, &error);
        let whom = error.dependency().map_or("a dependency", |dependency| dependency.name());
        let message = format!("deletion waits for {whom}");
        self.outcome = Outcome::failed(error);
        if is_news(&self.input.status.conditions, reason::CLEANUP_BLOCKED) {
            self.outcome.notes.push(Note::warning(reason::CLEANUP_BLOCKED, "Delete", message));
        }
        let part = TENANT_CONTROL.part(&status);
        if part == TENANT_CONTROL.part(&self.input.status) {
            return None;
        }
        self.phase = Phase::Status;
        Some(Request::ApplyStatus(self.input.key.clone(), part))
    }
}

impl Step for Remove {
    type Outcome = Outcome;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (mem::replace(&mut self.phase, Phase::End), reply) {
            (Phase::Begin, _) => self.begin(),
            (Phase::RemovingSchedule(machine), reply) => self.remove_schedule(machine, reply),
            (Phase::LeavingSchedule(machine), reply) => self.leave_schedule(machine, reply),
            (Phase::Status | Phase::Releasing, Some(Err(error))) => {
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
                None
            }
            (_, Some(Err(error))) => self.blocked(error),
            // Never touch the schedule of the tenant's holder: the loser of a TenantConflict leaves quietly.
            (Phase::AskingClaim, Some(Ok(Answer::Claimant(claimant)))) => {
                if claimant.is_some_and(|claim| claim.owner != self.input.installation.owner(&self.input.key)) {
                    return self.release();
                }
                let owner = self.input.installation.schedule_owner(&self.input.key);
                self.remove_schedule(RemoveSchedule::new(self.schedule_id(), owner), None)
            }
            (Phase::Unprojecting, Some(Ok(_))) => self.release(),
            (Phase::Releasing | Phase::Status | Phase::End, _) => None,
            _ => self.blocked(Error::Unsettled("an answer to another question while a tenant was removed")),
        }
    }

    fn outcome(self) -> Outcome {
        self.outcome
    }
}
