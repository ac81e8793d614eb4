//! The step that applies a TenantSchedule: finalizer; then, by itself, claim, pool, schedule, tokens, status. Pure (R36).

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Input, build, status,
    tokens::{self, Verdict},
};
use crate::{
    crd::{ConflictPolicy, HandledTenantTokens, TenantScheduleStatus, conditions::reason},
    error_class::Class,
    operator::{
        error::Error,
        maintenance,
        outcome::{Again, Note, Outcome, is_news},
        schedule::{EnsureSchedule, Ensured, Problem, Progress},
        schedule_pause::BY_CRON,
        schedule_shown::{self, Shown},
        schedule_terms::Terms,
        status_part::TENANT_CONTROL,
        world::{Answer, Reply, Request, Step},
    },
    store::{ClaimOutcome, MAX_DEDICATED_POOLS, Owner, TenantVerb},
    temporal::{StartOutcome, cron_workflows::CronWorkflow},
};

/// Rest after a refusal, which only an edit or an admin mends: the edit triggers, this catches the admin.
const REFUSED_RECHECK: Duration = Duration::from_secs(60);

/// Rest after the finalizer was added; the watch triggers long before, unless it was interrupted.
const FINALIZER_ECHO: Duration = Duration::from_secs(10);

/// The step.
#[derive(Debug)]
pub struct Reconcile {
    input: Input,
    resync: Duration,
    handled: HandledTenantTokens,
    /// Tokens that are recorded and still to be judged.
    recorded: VecDeque<Recorded>,
    /// Ticks for the tenant beside the schedule.
    cron: Option<Box<CronWorkflow>>,
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
    FindingCron,
    Ensuring(Box<EnsureSchedule>),
    EndingCron,
    Recording,
    CarryingOut(Recorded),
    Status,
    End,
}

/// A token, and when this life of the object recorded it.
#[derive(Debug)]
struct Recorded {
    verb: TenantVerb,
    token: String,
    at: Option<Timestamp>,
}

impl Reconcile {
    /// For an object that is not being deleted; settled objects are looked at every `resync`.
    #[must_use]
    pub fn new(input: Input, resync: Duration) -> Self {
        let handled = tokens::handled_before(&input);
        let (recorded, outcome) = (VecDeque::new(), Outcome::settled(resync));
        Self { input, resync, handled, recorded, cron: None, ensured: None, phase: Phase::Begin, outcome }
    }

    /// The watch brings the object back with it, and the reconcile that follows does all the rest once. To go on here would
    /// have that one look again at what it cannot see yet: a status that was written a moment before.
    fn wait_for_finalizer(&mut self) -> Option<Request> {
        self.outcome.again = Again::After(FINALIZER_ECHO);
        None
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
            ClaimOutcome::Held => self.granted(),
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

    fn granted(&mut self) -> Option<Request> {
        if self.may_have_cron() {
            self.phase = Phase::FindingCron;
            return Some(Request::FindCronWorkflow(self.input.spec.tenant_id.clone()));
        }
        self.schedule()
    }

    /// Asked before a schedule is made, and where one was listed or told: at rest it costs nothing.
    fn may_have_cron(&self) -> bool {
        let status = &self.input.status;
        self.input.cron_suspected || status.schedule.is_none() || !is_news(&status.conditions, reason::LEGACY_CRON)
    }

    fn schedule(&mut self) -> Option<Request> {
        let mut wanted = build::schedule(&self.input);
        // Made and paused: no tick comes twice, and none is lost once the cron workflow ends.
        if self.cron.is_some() && self.input.spec.conflict_policy == ConflictPolicy::Refuse {
            wanted.suspended = Some(BY_CRON);
        }
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
                let Input { now, punctuality, .. } = self.input;
                let shown = Shown::of(&ensured, &before, now, punctuality);
                let again = schedule_shown::look_again(&ensured, &shown, now, punctuality, self.resync);
                self.outcome.again = Again::After(again);
                let conditions = &self.input.status.conditions;
                self.outcome.notes.extend(schedule_shown::notes(&ensured, conditions, &before, &shown));
                self.ensured = Some(ensured);
                self.replace_cron()
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

    /// The schedule stands: it takes the cron workflow's place where that is asked for.
    fn replace_cron(&mut self) -> Option<Request> {
        let Some(cron) = self.cron.clone() else { return self.record() };
        if self.input.spec.conflict_policy == ConflictPolicy::Adopt {
            self.phase = Phase::EndingCron;
            return Some(Request::TerminateCron(cron));
        }
        self.outcome.again = Again::After(REFUSED_RECHECK.min(self.resync));
        if is_news(&self.input.status.conditions, reason::LEGACY_CRON) {
            let message = status::cron_message(&cron);
            self.outcome.notes.push(Note::warning(reason::LEGACY_CRON, "Reconcile", message));
        }
        self.record()
    }

    fn cron_ended(&mut self, was_there: bool) -> Option<Request> {
        if let Some(cron) = self.cron.take().filter(|_| was_there) {
            let message = format!("ended cron workflow {}: the schedule has taken its place", cron.workflow_id);
            self.outcome.notes.push(Note::normal("LegacyCronEnded", "Schedule", message));
        }
        self.record()
    }

    fn record(&mut self) -> Option<Request> {
        let tokens = tokens::to_record(&self.input);
        if tokens.is_empty() {
            return self.applied();
        }
        self.phase = Phase::Recording;
        let recorder = tokens::recorder(&self.input);
        Some(Request::RecordTenantTokens(self.input.spec.tenant_id.clone(), recorder, tokens))
    }

    fn recorded(&mut self, times: &BTreeMap<TenantVerb, Timestamp>) -> Option<Request> {
        let tokens = tokens::to_record(&self.input).into_iter();
        self.recorded = tokens.map(|(verb, token)| Recorded { verb, token, at: times.get(&verb).copied() }).collect();
        self.carry_out()
    }

    fn carry_out(&mut self) -> Option<Request> {
        let Some(next) = self.recorded.pop_front() else { return self.applied() };
        let seen = self.ensured.as_ref().and_then(|ensured| ensured.seen.as_ref());
        match tokens::judge(&self.input, next.verb, &next.token, next.at, seen) {
            Verdict::CarryOut(request) => {
                self.phase = Phase::CarryingOut(next);
                Some(request)
            }
            Verdict::Done => {
                tokens::mirror(&mut self.handled, next.verb, next.token, next.at, None);
                self.carry_out()
            }
            Verdict::Refused(why) => self.refuse_token(next, why),
        }
    }

    fn refuse_token(&mut self, refused: Recorded, why: &'static str) -> Option<Request> {
        let message = format!("backfill {} is refused: {why}; ask again with a new token", refused.token);
        self.outcome.notes.push(Note::warning("BackfillRefused", "Backfill", message));
        tokens::mirror(&mut self.handled, refused.verb, refused.token, refused.at, Some(why));
        self.carry_out()
    }

    fn carried_out(&mut self, done: Recorded, reply: Reply) -> Option<Request> {
        match (reply, done.verb) {
            // It runs already: somebody lost an answer.
            (Ok(Answer::Started(StartOutcome::AlreadyStarted)), _) => {}
            (Ok(_), TenantVerb::Backfill) => {
                let message = format!("backfill {}: its ticks run now", done.token);
                self.outcome.notes.push(Note::normal("BackfillStarted", "Backfill", message));
            }
            (Ok(_), _) => {
                let message = "started a sync of the tenant's connectors";
                self.outcome.notes.push(Note::normal("RunTriggered", "Trigger", message));
            }
            (Err(error), TenantVerb::Backfill) if error.class() == Class::Invalid => {
                return self.refuse_token(done, "RefusedByTemporal");
            }
            (Err(error), _) => return self.not_carried_out(error),
        }
        tokens::mirror(&mut self.handled, done.verb, done.token, done.at, None);
        self.carry_out()
    }

    /// The schedule stands; what tokens ask for is tried again.
    fn not_carried_out(&mut self, error: Error) -> Option<Request> {
        self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
        self.applied()
    }

    fn applied(&mut self) -> Option<Request> {
        let ensured = self.ensured.as_ref()?;
        let status = status::applied(&self.input, &self.handled, ensured, self.cron.as_deref());
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
            (Phase::Begin, _) => self.claim(),
            (Phase::Finalizer, Some(Ok(_))) => self.wait_for_finalizer(),
            (Phase::Claiming, Some(Ok(Answer::Claim(outcome)))) => self.claimed(outcome),
            (Phase::FindingCron, Some(Ok(Answer::CronWorkflow(found)))) => {
                self.cron = found;
                self.schedule()
            }
            (Phase::Ensuring(machine), reply) => self.ensure(machine, reply),
            (Phase::EndingCron, Some(Ok(Answer::Ended(was_there)))) => self.cron_ended(was_there),
            (Phase::EndingCron, Some(Err(error))) => self.not_carried_out(error),
            (Phase::Recording, Some(Ok(Answer::Recorded(times)))) => self.recorded(&times),
            (Phase::Recording, Some(Err(error))) => self.not_carried_out(error),
            (Phase::CarryingOut(token), Some(reply)) => self.carried_out(token, reply),
            (Phase::Status | Phase::Finalizer, Some(Err(error))) => {
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
                None
            }
            (Phase::EnsuringPool, Some(Ok(Answer::Recipient(_)))) => self.granted(),
            (Phase::Claiming | Phase::EnsuringPool | Phase::FindingCron, Some(Err(error))) => self.later(error),
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
