//! The step that applies a Connector: claim, Secret, projection, own schedule, runs asked for, check, status. Pure but for
//! the randomness of sealing, which decides nothing (R36).

use std::{mem, time::Duration};

use super::{
    Input, build, check, dereference,
    dereference::{Problem, SealsTo},
    status::{self, OwnSchedule},
    tokens,
};
use crate::{
    crd::{
        ConnectorState, ConnectorStatus, HandledConnectorTokens, NOT_OBSERVED,
        conditions::{READY, reason},
    },
    error_class::Class,
    model::config::SecretFields,
    operator::{
        error::Error,
        maintenance,
        outcome::{Again, Note, Outcome, is_news},
        schedule::{self, EnsureSchedule, Ensured},
        schedule_removal::{self, RemoveSchedule},
        schedule_shown::{self, Shown},
        status_part::{CONNECTOR_CONTROL, status_of},
        world::{Answer, Reply, Request, Step},
    },
    store::{BaseCredential, ConnectorAnswer, Owner, Pool, TenantClaim, Verb},
    temporal::schedules::WantedSchedule,
};

/// Rest after a refusal that only an edit mends: the edit triggers, this catches what nobody watches.
const REFUSED_RECHECK: Duration = Duration::from_secs(60);

/// The step.
#[derive(Debug)]
pub struct Reconcile {
    input: Input,
    resync: Duration,
    allowed_hosts: Vec<String>,
    seals_to: SealsTo,
    answer: Option<Box<ConnectorAnswer>>,
    /// What the Secret lacks; told after the rest of the spec was projected, so that pausing works without a Secret.
    problem: Option<Problem>,
    own: OwnSchedule,
    runs: Vec<tokens::Run>,
    failed_verbs: Vec<Verb>,
    checks: Option<check::Memory>,
    check: Option<Request>,
    phase: Phase,
    outcome: Outcome,
}

/// What a Connector's reconcile leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// When to look again, what to tell.
    pub outcome: Outcome,
    /// The store holds this object's projection.
    pub projected: bool,
    /// To be remembered of checks.
    pub checks: Option<check::Memory>,
    /// The check that is to be started, in its own time (`connection_checks`).
    pub check: Option<Request>,
}

#[derive(Debug)]
enum Phase {
    Begin,
    AskingClaim,
    EnsuringPool,
    GettingSecret,
    Projecting,
    Ensuring(Box<EnsureSchedule>),
    RemovingSchedule(RemoveSchedule, Option<Problem>),
    Starting(tokens::Run),
    Status,
    End,
}

impl Reconcile {
    /// For an object that is not being deleted; settled objects are looked at every `resync`.
    #[must_use]
    pub fn new(input: Input, resync: Duration) -> Self {
        Self {
            checks: input.checks,
            check: None,
            own: OwnSchedule { status: input.status.schedule.clone(), ensured: None },
            input,
            resync,
            allowed_hosts: Vec::new(),
            seals_to: SealsTo::Shared,
            answer: None,
            problem: None,
            runs: Vec::new(),
            failed_verbs: Vec::new(),
            phase: Phase::Begin,
            outcome: Outcome::settled(resync),
        }
    }

    fn begin(&mut self) -> Option<Request> {
        match build::validate(&self.input) {
            Ok(hosts) => self.allowed_hosts = hosts,
            Err(problem) => return self.refuse(problem),
        }
        if self.input.tenant.is_none() && self.input.status.observed_generation == NOT_OBSERVED {
            return self.without_tenant();
        }
        self.phase = Phase::AskingClaim;
        Some(Request::TenantClaim(self.input.spec.tenant_id.clone()))
    }

    fn no_tenant(&self) -> Problem {
        let tenant = &self.input.spec.tenant_id;
        let message = format!("no TenantSchedule in this namespace holds tenant {tenant}");
        Problem { reason: reason::TENANT_SCHEDULE_NOT_FOUND, message }
    }

    fn without_tenant(&mut self) -> Option<Request> {
        let problem = self.no_tenant();
        // In a cluster made anew the TenantSchedule may come later; the schedule that is there stays as people and time
        // have left it (R45).
        if self.input.status.observed_generation == NOT_OBSERVED && !self.input.spec.sync.schedules.is_empty() {
            return self.refuse(problem);
        }
        self.unschedule(Some(problem))
    }

    fn claimant(&mut self, claimant: Option<TenantClaim>) -> Option<Request> {
        let held = claimant.filter(|claim| claim.owner != Owner::nobody());
        let Some(TenantClaim { owner, pool, removed }) = held else {
            return if self.input.tenant.is_some() { self.unclaimed() } else { self.without_tenant() };
        };
        let ours =
            owner.cluster_id == self.input.installation.cluster_id && owner.namespace == self.input.key.namespace;
        // Of a tenant that was let go with its schedule (Orphan), ticks go on: state and credential are still the Connector's.
        if !ours || removed && self.input.tenant.is_none() {
            return self.without_tenant();
        }
        // The one that was found lost its tenant to another of this namespace: nothing is applied by its terms.
        if self.input.tenant.as_ref().is_some_and(|tenant| tenant.name != owner.name) {
            return self.unclaimed();
        }
        if pool == Pool::Dedicated {
            // By the claim, not by the tenant's spec, which may not be granted: credentials go where activities go.
            self.phase = Phase::EnsuringPool;
            return Some(Request::EnsurePool(self.input.spec.tenant_id.clone()));
        }
        self.dereference()
    }

    fn dereference(&mut self) -> Option<Request> {
        match dereference::request(&self.input) {
            Some(request) => {
                self.phase = Phase::GettingSecret;
                Some(request)
            }
            None => self.credential(None),
        }
    }

    /// The TenantSchedule is there and holds no tenant yet, or no longer (a store set back to an older state): it is behind,
    /// and nothing of its Connectors is removed for that.
    fn unclaimed(&mut self) -> Option<Request> {
        if self.input.tenant.as_ref().is_some_and(|tenant| tenant.is_observed) {
            let tenant = &self.input.spec.tenant_id;
            let message = format!("the TenantSchedule of tenant {tenant} does not hold it yet; its status says why");
            return self.refuse(Problem { reason: reason::TENANT_SCHEDULE_NOT_FOUND, message });
        }
        // Both were applied together: the end of the TenantSchedule's first reconcile triggers this one again. A refusal that
        // is void a moment later would be a write for every Connector of a new fleet.
        self.wait()
    }

    fn wait(&mut self) -> Option<Request> {
        self.outcome.again = Again::After(REFUSED_RECHECK.min(self.resync));
        None
    }

    fn credential(&mut self, content: Option<SecretFields>) -> Option<Request> {
        match dereference::from_secret(&self.input, &self.seals_to, self.allowed_hosts.clone(), content) {
            Ok(credential) => self.project(Some(credential)),
            Err(problem) => {
                self.problem = Some(problem);
                self.project(None)
            }
        }
    }

    /// A refusal to read is the user's to mend, anything else is an outage.
    fn no_secret(&mut self, error: Error) -> Option<Request> {
        if error.class() != Class::Unauthorised {
            return self.later(error);
        }
        let message = "the operator may not read Secrets of this namespace".to_owned();
        self.problem = Some(Problem { reason: reason::SECRET_FORBIDDEN, message });
        self.project(None)
    }

    fn project(&mut self, credential: Option<BaseCredential>) -> Option<Request> {
        self.phase = Phase::Projecting;
        let projection = build::projection(&self.input, credential, tokens::present(&self.input));
        Some(Request::PutConnector(Box::new(projection)))
    }

    fn projected(&mut self, answer: Box<ConnectorAnswer>) -> Option<Request> {
        if answer.name_taken {
            let message =
                "another Connector has the same joined name sync-{tenantId}-{connectorId}; rename one".to_owned();
            return self.refuse(Problem { reason: reason::NAME_TAKEN, message });
        }
        self.runs = tokens::runs(&self.input, &answer);
        self.answer = Some(answer);
        if self.input.tenant.is_none() {
            self.failed_verbs.extend(mem::take(&mut self.runs).into_iter().flat_map(|run| run.verbs));
            return self.unschedule(Some(self.no_tenant()));
        }
        let wanted = self.input.tenant.as_ref().and_then(|tenant| build::schedule(&self.input, tenant));
        match wanted {
            Some(wanted) => self.schedule(wanted),
            None => self.unschedule(None),
        }
    }

    fn schedule(&mut self, wanted: WantedSchedule) -> Option<Request> {
        if maintenance::leaves_out_all_of_one(&wanted.crons, &wanted.excluded) {
            let what = "would never start: its tenant's spec.maintenanceWindows leave no tick of one of sync.schedules";
            return self.refuse_schedule(reason::INVALID_SPEC, what);
        }
        let policies = self.input.tenant.as_ref().map(|tenant| tenant.terms.policies).unwrap_or_default();
        let status = self.own.status.as_ref();
        self.ensure(Box::new(EnsureSchedule::new(wanted, policies, status, self.input.now)), None)
    }

    fn ensure(&mut self, mut machine: Box<EnsureSchedule>, reply: Option<Reply>) -> Option<Request> {
        use schedule::{Problem as ScheduleProblem, Progress};
        let refusal = match machine.next(reply) {
            Progress::Ask(request) => {
                self.phase = Phase::Ensuring(machine);
                return Some(request);
            }
            Progress::Finished(Ok(ensured)) => return self.ensured(ensured),
            Progress::Finished(Err(ScheduleProblem::Later(error))) => return self.later(error),
            Progress::Finished(Err(ScheduleProblem::Foreign)) => {
                (reason::SCHEDULE_CONFLICT, "exists in Temporal and was not made for this object")
            }
            Progress::Finished(Err(ScheduleProblem::Refused)) => {
                (reason::SCHEDULE_REFUSED, "is not accepted by Temporal: check spec.sync.schedules")
            }
        };
        self.refuse_schedule(refusal.0, refusal.1)
    }

    fn ensured(&mut self, ensured: Box<Ensured>) -> Option<Request> {
        let before = status::shown(&self.input.status);
        let Input { now, punctuality, .. } = self.input;
        let shown = Shown::of(&ensured, &before, now, punctuality);
        let conditions = &self.input.status.conditions;
        self.outcome.notes.extend(schedule_shown::notes(&ensured, conditions, &before, &shown));
        self.outcome.again = Again::After(schedule_shown::look_again(&ensured, &shown, now, punctuality, self.resync));
        self.own = OwnSchedule { status: Some(ensured.status.clone()), ensured: Some(ensured) };
        self.start()
    }

    fn refuse_schedule(&mut self, reason: &'static str, what: &str) -> Option<Request> {
        // What was asked for is started once the schedule is mended: it is not told as handled before.
        self.failed_verbs.extend(mem::take(&mut self.runs).into_iter().flat_map(|run| run.verbs));
        let message = format!("schedule {} {what}", build::schedule_id(&self.input));
        self.refuse(Problem { reason, message })
    }

    /// Removes the own schedule where there may be one, then goes on, or refuses with `problem`.
    fn unschedule(&mut self, problem: Option<Problem>) -> Option<Request> {
        if self.own.status.is_none() && self.is_known_without_schedule(problem.is_some()) {
            return self.unscheduled(problem);
        }
        let owner = self.input.installation.schedule_owner(&self.input.key);
        self.remove_schedule(RemoveSchedule::new(build::schedule_id(&self.input), owner), problem, None)
    }

    /// A status that was lost, or never written, knows of no schedule either: only one that came to its end about this
    /// generation was written after Temporal had been asked. Refusals alone do not ask again and again. Nor does the first
    /// projection there ever was: no other can have asked for a schedule.
    fn is_known_without_schedule(&self, refusing: bool) -> bool {
        let status = &self.input.status;
        let is_first = self.answer.as_ref().is_some_and(|answer| answer.revision == 1);
        is_first
            || status.observed_generation == self.input.generation
                && (refusing || status_of(&status.conditions, READY) == Some("True"))
    }

    fn remove_schedule(
        &mut self,
        mut machine: RemoveSchedule,
        problem: Option<Problem>,
        reply: Option<Reply>,
    ) -> Option<Request> {
        match machine.next(reply) {
            schedule_removal::Progress::Ask(request) => {
                self.phase = Phase::RemovingSchedule(machine, problem);
                Some(request)
            }
            schedule_removal::Progress::Finished(Ok(_)) => {
                self.own = OwnSchedule::default();
                self.unscheduled(problem)
            }
            schedule_removal::Progress::Finished(Err(error)) => self.later(error),
        }
    }

    fn unscheduled(&mut self, problem: Option<Problem>) -> Option<Request> {
        match problem {
            Some(problem) => self.refuse(problem),
            None => self.start(),
        }
    }

    fn start(&mut self) -> Option<Request> {
        if self.input.spec.state != ConnectorState::Running && !self.runs.is_empty() {
            let noted = self.runs.iter().any(tokens::Run::is_noted);
            self.runs.clear();
            let message = if noted {
                "spec.state is not Running: what was asked for is noted, the next sync does it"
            } else {
                "a sync was asked for, but spec.state is not Running; ask again with a new token"
            };
            self.outcome.notes.push(Note::warning("RunRefused", "Sync", message));
        }
        if self.runs.is_empty() {
            return self.check();
        }
        let run = self.runs.remove(0);
        let request = build::run(&self.input, run.is_full(), run.at);
        self.phase = Phase::Starting(run);
        Some(request)
    }

    fn started(&mut self, run: tokens::Run, reply: Reply) -> Option<Request> {
        match reply {
            Ok(_) => {
                let what = if run.is_full() { "a full sync" } else { "a sync" };
                self.outcome.notes.push(Note::normal("RunTriggered", "Sync", format!("started {what}")));
            }
            Err(error) => {
                self.failed_verbs.extend(run.verbs);
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
            }
        }
        self.start()
    }

    fn check(&mut self) -> Option<Request> {
        let (revision, credential) =
            self.answer.as_ref().map_or((0, 0), |answer| (answer.revision, answer.credential_revision));
        let plan = build::check_plan(&self.input, revision, credential);
        self.check = plan.start.then(|| build::check(&self.input));
        self.checks = plan.memory.or(self.checks);
        if let Again::After(rest) = self.outcome.again {
            self.outcome.again = Again::After(plan.again.map_or(rest, |again| again.min(rest)));
        }
        match self.problem.take() {
            Some(problem) => self.refuse(problem),
            None => self.applied(),
        }
    }

    fn applied(&mut self) -> Option<Request> {
        let handled = self.handled();
        let status = status::applied(&self.input, handled, &self.own);
        self.write(&status)
    }

    fn refuse(&mut self, problem: Problem) -> Option<Request> {
        if is_news(&self.input.status.conditions, problem.reason) {
            self.outcome.notes.push(Note::warning(problem.reason, "Reconcile", problem.message.clone()));
        }
        // A Secret that comes later triggers nothing (it is not watched), so look soon, then ever more rarely.
        self.outcome.again = match problem.reason {
            reason::SECRET_NOT_FOUND | reason::SECRET_KEY_MISSING | reason::SECRET_FORBIDDEN => {
                Again::BackOff(Duration::ZERO)
            }
            // The one that comes triggers its Connectors.
            _ if self.input.tenant.is_none() => Again::After(self.resync),
            _ => Again::After(REFUSED_RECHECK.min(self.resync)),
        };
        let handled = self.handled();
        let status = status::refused(&self.input, handled, &self.own, &problem);
        self.write(&status)
    }

    fn later(&mut self, error: Error) -> Option<Request> {
        let status = status::waiting_for(&self.input, tokens::mirror_unasked(&self.input), &error);
        self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
        self.write(&status?)
    }

    fn handled(&self) -> Option<HandledConnectorTokens> {
        match &self.answer {
            Some(answer) => tokens::mirror(&self.input, &self.failed_verbs, Some(answer)),
            None => tokens::mirror_unasked(&self.input),
        }
    }

    fn write(&mut self, status: &ConnectorStatus) -> Option<Request> {
        let part = CONNECTOR_CONTROL.part(status);
        if part == CONNECTOR_CONTROL.part(&self.input.status) {
            return None;
        }
        self.phase = Phase::Status;
        Some(Request::ApplyStatus(self.input.key.clone(), part))
    }
}

impl Step for Reconcile {
    type Outcome = Left;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (mem::replace(&mut self.phase, Phase::End), reply) {
            (Phase::Begin, _) => self.begin(),
            (Phase::AskingClaim, Some(Ok(Answer::Claimant(claimant)))) => self.claimant(claimant),
            (Phase::EnsuringPool, Some(Ok(Answer::Recipient(recipient)))) => {
                self.seals_to = SealsTo::Own(recipient);
                self.dereference()
            }
            (Phase::GettingSecret, Some(Ok(Answer::Secret(content)))) => self.credential(content),
            (Phase::GettingSecret, Some(Err(error))) => self.no_secret(error),
            (Phase::Projecting, Some(Ok(Answer::Connector(answer)))) => self.projected(answer),
            (Phase::Ensuring(machine), reply) => self.ensure(machine, reply),
            (Phase::RemovingSchedule(machine, problem), reply) => self.remove_schedule(machine, problem, reply),
            (Phase::Starting(run), Some(reply)) => self.started(run, reply),
            (Phase::Status, Some(Err(error))) => {
                self.outcome = Outcome { notes: mem::take(&mut self.outcome.notes), ..Outcome::failed(error) };
                None
            }
            (Phase::Status, Some(Ok(_))) | (Phase::End, _) => None,
            (_, Some(Err(error))) => self.later(error),
            (_, _) => self.later(Error::Unsettled("an answer to another question while a connector was reconciled")),
        }
    }

    fn outcome(self) -> Left {
        Left { outcome: self.outcome, projected: self.answer.is_some(), checks: self.checks, check: self.check }
    }
}
