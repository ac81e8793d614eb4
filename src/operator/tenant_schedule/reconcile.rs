//! The step that applies a TenantSchedule: finalizer, claim, schedule, tokens, status. Pure (R36).

use std::{mem, time::Duration};

use super::{Input, build, status};
use crate::{
    crd::{HandledTenantTokens, TenantScheduleStatus, conditions::reason},
    operator::{
        error::Error,
        maintenance,
        outcome::{Again, Note, Outcome, is_news},
        schedule::{EnsureSchedule, Ensured, Problem, Progress},
        schedule_shown::{self, Shown},
        schedule_terms::Terms,
        status_part::TENANT_CONTROL,
        world::{Answer, Reply, Request, Step},
    },
    store::{ClaimOutcome, MAX_DEDICATED_POOLS, Owner},
};

/// Rest after a refusal, which only an edit or an admin mends: the edit triggers, this catches the admin.
const REFUSED_RECHECK: Duration = Duration::from_secs(60);

/// The step.
#[derive(Debug)]
pub struct Reconcile {
    input: Input,
    resync: Duration,
    handled: HandledTenantTokens,
    fresh: HandledTenantTokens,
    ensured: Option<Box<Ensured>>,
    phase: Phase,
    outcome: Outcome,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Finalizer,
    Claiming,
    EnsuringPool,
    Ensuring(Box<EnsureSchedule>),
    Triggering,
    Status,
    End,
}

impl Reconcile {
    /// For an object that is not being deleted; settled objects are looked at every `resync`.
    #[must_use]
    pub fn new(input: Input, resync: Duration) -> Self {
        let handled = status::handled_before(&input);
        let fresh = status::fresh_tokens(&input, &handled);
        let outcome = Outcome::settled(resync);
        Self { input, resync, handled, fresh, ensured: None, phase: Phase::Begin, outcome }
    }

    fn claim(&mut self) -> Option<Request> {
        self.phase = Phase::Claiming;
        Some(Request::PutTenant(build::projection(&self.input)))
    }

    fn claimed(&mut self, outcome: ClaimOutcome) -> Option<Request> {
        match outcome {
            ClaimOutcome::Held if self.input.spec.workers.is_dedicated() => {
                self.phase = Phase::EnsuringPool;
                Some(Request::EnsurePool(self.input.spec.tenant_id.clone()))
            }
            ClaimOutcome::Held => self.schedule(),
            ClaimOutcome::NoPoolLeft => {
                let message = format!(
                    "{MAX_DEDICATED_POOLS} tenants have workers of their own, and no more may: use mode Shared, or wait until one leaves; until then nothing of this object is applied"
                );
                self.refuse(reason::TOO_MANY_POOLS, message)
            }
            ClaimOutcome::HeldBy(owner) => {
                let message = conflict_message(&self.input, &owner);
                self.refuse(reason::TENANT_CONFLICT, message)
            }
        }
    }

    fn schedule(&mut self) -> Option<Request> {
        let wanted = build::schedule(&self.input);
        if maintenance::leaves_out_all_of_one(&wanted.crons, &wanted.excluded) {
            let message = "spec.maintenanceWindows leave no tick of one of spec.schedules: take that one away";
            return self.refuse(reason::INVALID_SPEC, message);
        }
        let policies = Terms::from(&self.input.spec).policies;
        let status = self.input.status.schedule.as_ref();
        self.ensure(Box::new(EnsureSchedule::new(wanted, policies, status, self.input.now)), None)
    }

    fn ensure(&mut self, mut machine: Box<EnsureSchedule>, reply: Option<Reply>) -> Option<Request> {
        match machine.next(reply) {
            Progress::Ask(request) => {
                self.phase = Phase::Ensuring(machine);
                Some(request)
            }
            Progress::Finished(Ok(ensured)) => {
                let before = status::shown(&self.input.status);
                let shown = Shown::of(&ensured, &before, self.input.now);
                let conditions = &self.input.status.conditions;
                self.outcome.notes.extend(schedule_shown::notes(&ensured, conditions, &before, &shown));
                self.ensured = Some(ensured);
                self.trigger()
            }
            Progress::Finished(Err(Problem::Foreign)) => {
                let id = build::schedule(&self.input).id;
                let message = format!(
                    "schedule {id} exists in Temporal and was not made for this object; spec.conflictPolicy: Adopt takes it over"
                );
                self.refuse(reason::SCHEDULE_CONFLICT, message)
            }
            Progress::Finished(Err(Problem::Refused)) => {
                let message = "Temporal does not accept this schedule: check spec.schedules and spec.timeZone";
                self.refuse(reason::SCHEDULE_REFUSED, message)
            }
            Progress::Finished(Err(Problem::Later(error))) => self.later(error),
        }
    }

    fn trigger(&mut self) -> Option<Request> {
        let token = self.fresh.trigger.as_ref().or(self.fresh.requested_at.as_ref());
        match token {
            Some(token) => {
                self.phase = Phase::Triggering;
                Some(build::tick_by_token(&self.input, token))
            }
            None => self.applied(),
        }
    }

    fn triggered(&mut self) -> Option<Request> {
        if let Some(token) = self.fresh.trigger.take() {
            self.handled.trigger = Some(token);
        } else if let Some(token) = self.fresh.requested_at.take() {
            self.handled.requested_at = Some(token);
        }
        self.outcome.notes.push(Note::normal("RunTriggered", "Trigger", "started a sync of the tenant's connectors"));
        self.trigger()
    }

    fn applied(&mut self) -> Option<Request> {
        let ensured = self.ensured.as_ref()?;
        if self.outcome.failed.is_none() {
            self.outcome.again = Again::After(schedule_shown::look_again(ensured, self.input.now, self.resync));
        }
        let status = status::applied(&self.input, &self.handled, ensured);
        self.write(&status)
    }

    fn refuse(&mut self, reason: &'static str, message: impl Into<String>) -> Option<Request> {
        let message = message.into();
        if is_news(&self.input.status.conditions, reason) {
            self.outcome.notes.push(Note::warning(reason, "Reconcile", message.clone()));
        }
        self.outcome.again = Again::After(REFUSED_RECHECK);
        let status = status::refused(&self.input, &self.handled, reason, message);
        self.write(&status)
    }

    fn later(&mut self, error: Error) -> Option<Request> {
        let status = status::waiting_for(&self.input, &self.handled, &error);
        self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
        self.write(&status?)
    }

    fn write(&mut self, status: &TenantScheduleStatus) -> Option<Request> {
        let part = TENANT_CONTROL.part(status);
        if part == TENANT_CONTROL.part(&self.input.status) {
            return None;
        }
        self.phase = Phase::Status;
        Some(Request::ApplyStatus(self.input.key.clone(), part))
    }
}

impl Step for Reconcile {
    type Outcome = Outcome;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (mem::replace(&mut self.phase, Phase::End), reply) {
            (Phase::Begin, _) if !self.input.has_finalizer => {
                self.phase = Phase::Finalizer;
                Some(Request::AddFinalizer(self.input.key.clone()))
            }
            (Phase::Begin, _) | (Phase::Finalizer, Some(Ok(_))) => self.claim(),
            (Phase::Claiming, Some(Ok(Answer::Claim(outcome)))) => self.claimed(outcome),
            (Phase::Ensuring(machine), reply) => self.ensure(machine, reply),
            (Phase::Triggering, Some(Ok(_))) => self.triggered(),
            (Phase::Triggering, Some(Err(error))) => {
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
                self.applied()
            }
            (Phase::Status | Phase::Finalizer, Some(Err(error))) => {
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
                None
            }
            (Phase::EnsuringPool, Some(Ok(Answer::Recipient(_)))) => self.schedule(),
            (Phase::Claiming | Phase::EnsuringPool, Some(Err(error))) => self.later(error),
            (Phase::Status, Some(Ok(_))) | (Phase::End, _) => None,
            (_, _) => self.later(Error::Unsettled("an answer to another question while a tenant was reconciled")),
        }
    }

    fn outcome(self) -> Outcome {
        self.outcome
    }
}

/// Other namespaces are named only in the operator's log: they may be another customer's.
fn conflict_message(input: &Input, owner: &Owner) -> String {
    let tenant = &input.spec.tenant_id;
    if owner.cluster_id == input.installation.cluster_id && owner.namespace == input.key.namespace {
        format!("tenant {tenant} is held by TenantSchedule {}; one object per tenant", owner.name)
    } else {
        format!("tenant {tenant} is held by a TenantSchedule of another namespace; a claim never passes on by itself")
    }
}
