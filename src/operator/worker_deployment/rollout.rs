//! One round of a pool's rollout: the wanted build is applied, waited for, made current; the pods of all builds are counted
//! out; former builds drain, rest and leave (`former`). Pure (R36): every request follows from the answers so far, so a round
//! that is cut off anywhere is continued by the next.
//!
//! The order is what keeps it out of the deadlocks of its peers: a build has a pod before and until it is current, and while
//! runs are open on it; its pods go before its version does; nothing takes traffic that does not poll.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    former,
    pool::{Replicas, Wanted},
    requests::{Build, WorkerAnswer, WorkerRequest},
    scaling::{self, Load},
    seen::Seen,
    status::{Availability, Pods},
};
use crate::{
    error_class::Class,
    operator::{
        error::Error,
        outcome::Note,
        world::{Answer, Reply, Request, Step},
    },
    temporal::WorkerVersion,
};

/// What a round goes by.
#[derive(Debug, Clone)]
pub struct Input {
    /// The build that should take the work.
    pub wanted: Arc<Wanted>,
    /// The time.
    pub now: Timestamp,
    /// Runs that begin within the time that a pod needs to start.
    pub due: u64,
    /// Apply what looks applied, too: somebody may have edited it.
    pub is_full: bool,
    /// From the round before.
    pub memory: Memory,
}

/// What a round leaves for the next one. In memory only: a new process waits a little longer, and is right all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The namespace's.
    pub retention: Option<Duration>,
    /// Since when the wanted build should have had a ready pod, or been current.
    pub waiting: Option<(String, Timestamp)>,
    /// People were told that it takes too long.
    pub is_stalled: bool,
    /// Since when there are too many pods.
    pub lull: Option<Timestamp>,
}

/// What a round leaves to its shell.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// As tenants are told; `None` = not seen in this round.
    pub availability: Option<Availability>,
    /// The wanted build is current and nothing is on its way.
    pub is_settled: bool,
    /// For the next round.
    pub memory: Memory,
    /// What to tell.
    pub notes: Vec<Note>,
    /// Why the round ended early.
    pub failed: Option<Error>,
}

/// The step.
#[derive(Debug)]
pub struct Rollout {
    input: Input,
    seen: Seen,
    target: Option<i32>,
    asked: Option<WorkerRequest>,
    /// The API server does not take the wanted build: those that are there are kept all the same.
    refused: Option<Error>,
    failed: Option<Error>,
}

impl Rollout {
    /// A round.
    #[must_use]
    pub fn new(input: Input) -> Self {
        Self { input, seen: Seen::default(), target: None, asked: None, refused: None, failed: None }
    }

    /// The first thing that is not known yet, or not as it should be.
    fn wish(&mut self) -> Option<WorkerRequest> {
        let wanted = Arc::clone(&self.input.wanted);
        if self.seen.builds.is_none() {
            return Some(WorkerRequest::List(wanted.namespace(), wanted.selector.clone()));
        }
        if let Some(deployment) = self.to_apply() {
            return Some(WorkerRequest::Apply(Box::new(deployment)));
        }
        if self.seen.routing.is_none() {
            return Some(WorkerRequest::Describe(wanted.version.deployment.clone()));
        }
        self.promotion().or_else(|| self.scale()).or_else(|| former::wish(&self.input, &self.seen))
    }

    fn to_apply(&self) -> Option<k8s_openapi::api::apps::v1::Deployment> {
        let wanted = &self.input.wanted;
        let found = self.seen.build(&wanted.version.build);
        let is_as_wanted = found.is_some_and(|found| found.applied.as_deref() == Some(wanted.digest()));
        if self.seen.is_applied || self.refused.is_some() || (is_as_wanted && !self.input.is_full) {
            return None;
        }
        let mut deployment = wanted.deployment.clone();
        if let (Replicas::Between { least, most }, Some(spec)) = (wanted.replicas, &mut deployment.spec) {
            // A new build begins with as many pods as the pool has, so that its turn is no dip.
            let largest = self.seen.builds.iter().flatten().map(|build| build.replicas).max().unwrap_or_default();
            let first = largest.clamp(least, most).max(1);
            spec.replicas = Some(found.map_or(first, |found| found.replicas));
        }
        Some(deployment)
    }

    /// The wanted build becomes current once a pod of it is ready and it polls, and not before.
    fn promotion(&self) -> Option<WorkerRequest> {
        let wanted = &self.input.wanted;
        let seen = self.seen.routing.as_ref()?.as_ref()?;
        if self.is_current() || self.wanted_build()?.ready < 1 {
            return None;
        }
        match &self.seen.polling {
            None => Some(WorkerRequest::Polling(wanted.version.deployment.clone(), wanted.queue.clone())),
            Some(polling) if polling.contains(&wanted.version.build) => {
                Some(WorkerRequest::SetCurrent(wanted.version.clone(), seen.conflict_token.clone()))
            }
            Some(_) => None,
        }
    }

    /// The pods of the wanted build, and of the one whose place it takes, which works until then.
    fn scale(&mut self) -> Option<WorkerRequest> {
        let current = self.seen.current().map(str::to_owned);
        let bounds = match self.input.wanted.replicas {
            Replicas::Between { least, most } => Some((least, most)),
            Replicas::External => None,
        };
        if let (Some(build), Some((least, most)), None) = (&current, bounds, self.seen.backlog)
            && least < most
        {
            return Some(WorkerRequest::Backlog(self.version(build)));
        }
        let target = bounds.and_then(|(least, most)| self.target(least, most));
        let serving = current.as_deref().and_then(|current| self.seen.build(current));
        let builds: Vec<_> = serving.into_iter().chain(self.wanted_build()).cloned().collect();
        builds.into_iter().find_map(|build| {
            let is_current = build.build == current;
            match target {
                // Not yet current: never without a pod, or it never polls and never is.
                _ if !is_current && build.replicas == 0 => {
                    Some(WorkerRequest::Scale(build.key, target.unwrap_or(1).max(1)))
                }
                Some(0) if is_current && build.replicas > 0 => self.rest(&build),
                Some(target) if build.replicas != target.max(i32::from(!is_current)) => {
                    Some(WorkerRequest::Scale(build.key, target.max(i32::from(!is_current))))
                }
                _ => None,
            }
        })
    }

    /// To zero, unless a run is open: one that waits is answered for, and goes on, without a start from nothing.
    fn rest(&self, build: &Build) -> Option<WorkerRequest> {
        let versions = vec![self.version(build.build.as_deref()?)];
        match self.seen.open_runs.get(&versions) {
            None => Some(WorkerRequest::CountOpenRuns(versions)),
            Some(0) => Some(WorkerRequest::Scale(build.key.clone(), 0)),
            Some(_) => (build.replicas > 1).then(|| WorkerRequest::Scale(build.key.clone(), 1)),
        }
    }

    /// Decided once a round, by the build that does the work.
    fn target(&mut self, least: i32, most: i32) -> Option<i32> {
        if self.target.is_none() {
            let serving = self.seen.current().and_then(|current| self.seen.build(current));
            let build = serving.or_else(|| self.wanted_build())?;
            let load = Load {
                backlog: self.seen.backlog.unwrap_or_default(),
                due: self.input.due,
                slots: self.input.wanted.activity_slots(),
                replicas: build.replicas,
                ready: build.ready,
            };
            let mut lull = self.input.memory.lull.filter(|_| self.is_current());
            self.target = Some(scaling::target(least, most, load, &mut lull, self.input.now));
            // Nothing leaves in the middle of a rollout, nor as soon as it is over.
            self.input.memory.lull = lull.filter(|_| self.is_current());
        }
        self.target
    }

    /// Whether the round may go on.
    fn learn(&mut self, request: WorkerRequest, reply: Reply) -> bool {
        match (request, reply) {
            (WorkerRequest::Retention, Ok(Answer::Workers(WorkerAnswer::Retention(retention)))) => {
                self.input.memory.retention = Some(retention);
            }
            (request, Ok(Answer::Workers(answer))) => {
                if !self.seen.learn(request, answer, &self.input.wanted) {
                    self.failed = Some(Error::Unsettled("an answer to another question in a rollout of workers"));
                }
            }
            // It is polled for until its pods are gone for some minutes: the next rounds try again.
            (WorkerRequest::RemoveVersion(version), Err(error)) if error.class() == Class::Conflict => {
                self.seen.removal_refused(version.build);
            }
            (WorkerRequest::Apply(_), Err(error)) if error.class() == Class::Invalid => self.refused = Some(error),
            (_, Ok(_)) => self.failed = Some(Error::Unsettled("an answer of another kind in a rollout of workers")),
            (_, Err(error)) => self.failed = Some(error),
        }
        self.failed.is_none()
    }

    fn version(&self, build: &str) -> WorkerVersion {
        WorkerVersion { build: build.to_owned(), ..self.input.wanted.version.clone() }
    }

    fn wanted_build(&self) -> Option<&Build> {
        self.seen.build(&self.input.wanted.version.build)
    }

    fn is_current(&self) -> bool {
        self.seen.current() == Some(self.input.wanted.version.build.as_str())
    }
}

impl Step for Rollout {
    type Outcome = Outcome;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        if let (Some(request), Some(reply)) = (self.asked.take(), reply)
            && !self.learn(request, reply)
        {
            return None;
        }
        self.asked = self.wish();
        self.asked.clone().map(Request::Workers)
    }

    fn outcome(mut self) -> Outcome {
        let mut notes = Vec::new();
        if self.seen.is_promoted {
            let message = format!("Deployment {} takes all new syncs", self.input.wanted.name());
            notes.push(Note::normal("WorkerRolloutFinished", "Rollout", message));
        }
        let is_seen = self.seen.builds.is_some() && self.seen.routing.is_some();
        if is_seen {
            let was_stalled = std::mem::replace(&mut self.input.memory.is_stalled, false);
            let is_overdue = self.is_overdue();
            let is_stuck = self.wanted_build().is_some_and(|build| build.is_stuck);
            self.input.memory.is_stalled = !self.is_current() && (is_overdue || is_stuck);
            if self.input.memory.is_stalled && !was_stalled {
                let message = format!(
                    "the pods of Deployment {} do not get ready, or do not poll; it takes no work until they do",
                    self.input.wanted.name()
                );
                notes.push(Note::warning("WorkerRolloutStalled", "Rollout", message));
            }
        }
        let is_up = self.wanted_build().is_some_and(|build| build.ready > 0 || build.replicas == 0);
        Outcome {
            availability: is_seen.then(|| self.availability()),
            is_settled: self.failed.is_none() && self.refused.is_none() && self.is_current() && is_up,
            memory: self.input.memory,
            notes,
            failed: self.failed.or(self.refused),
        }
    }
}

impl Rollout {
    /// Whether the wanted build should have had a ready pod, or been current, for too long.
    fn is_overdue(&mut self) -> bool {
        let wanted = &self.input.wanted;
        let has_no_pod = self.wanted_build().is_none_or(|build| build.ready == 0 && build.replicas > 0);
        if self.is_current() && !has_no_pod {
            self.input.memory.waiting = None;
            return false;
        }
        let (build, now) = (wanted.version.build.clone(), self.input.now);
        let deadline = SignedDuration::from_secs(wanted.progress_deadline_seconds().into());
        let waiting = self.input.memory.waiting.take().filter(|(of, _)| *of == build);
        let (_, since) = self.input.memory.waiting.insert(waiting.unwrap_or((build, now)));
        now.duration_since(*since) >= deadline
    }

    fn availability(&self) -> Availability {
        let current = self.seen.current().and_then(|current| self.seen.build(current));
        let serving = current.or_else(|| self.seen.unversioned(&self.input.wanted));
        // Without a most there is never one.
        let rests = matches!(self.input.wanted.replicas, Replicas::Between { least: 0, most: 1.. });
        let deadline = SignedDuration::from_secs(self.input.wanted.progress_deadline_seconds().into());
        let is_starting = |build: &Build| {
            let since = self.input.memory.waiting.as_ref().map_or(self.input.now, |(_, since)| *since);
            build.replicas == 0 || self.input.now.duration_since(since) < deadline
        };
        let pods = match serving {
            Some(build) if rests && (build.ready > 0 || is_starting(build)) => Pods::OnDemand,
            Some(build) if build.ready > 0 => Pods::Ready,
            None if self.refused.is_some() => Pods::Refused,
            _ => Pods::Missing,
        };
        Availability { pods, is_stalled: self.input.memory.is_stalled }
    }
}
