//! Takes away what a pool has left behind that nobody needs any more: its Deployments, then its builds in Temporal, then its
//! place among the namespace's Worker Deployments, of which there are a hundred (R22). Only a pool of a tenant's own leaves: no
//! run is ever pinned to one, since workflows run on the shared workers. Pure (R36); what cannot go yet goes in a later round.

use std::collections::{BTreeMap, BTreeSet};

use super::requests::{Build, WorkerAnswer, WorkerRequest};
use crate::{
    error_class::Class,
    operator::{
        error::Error,
        world::{Answer, Reply, Request, Step},
    },
    temporal::{
        WorkerVersion,
        worker_deployments::{SeenDeployment, VersionState},
    },
};

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Where its Deployments are.
    pub namespace: String,
    /// Labels that they have and no other pool's.
    pub labels: BTreeMap<String, String>,
    /// Its name in Temporal.
    pub deployment: String,
}

/// How far a round came.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// There is nothing left of it.
    pub is_gone: bool,
    /// Why the round ended early.
    pub failed: Option<Error>,
}

/// The step.
#[derive(Debug)]
pub struct Leave {
    leaving: Leaving,
    builds: Option<Vec<Build>>,
    /// What Temporal knows; inside, `None` = nothing.
    routing: Option<Option<SeenDeployment>>,
    /// Versions that cannot go yet: their pollers are remembered for some minutes, and drainage is looked at as rarely.
    waiting: BTreeSet<String>,
    /// No build takes new work from this round on, even if an answer should lag behind that.
    is_unset: bool,
    asked: Option<WorkerRequest>,
    failed: Option<Error>,
}

impl Leave {
    /// A round.
    #[must_use]
    pub fn new(leaving: Leaving) -> Self {
        let waiting = BTreeSet::new();
        Self { leaving, builds: None, routing: None, waiting, is_unset: false, asked: None, failed: None }
    }

    fn wish(&self) -> Option<WorkerRequest> {
        let Leaving { namespace, labels, deployment } = &self.leaving;
        let Some(builds) = &self.builds else { return Some(WorkerRequest::List(namespace.clone(), labels.clone())) };
        if let Some(build) = builds.first() {
            return Some(WorkerRequest::Remove(build.key.clone()));
        }
        let Some(routing) = &self.routing else { return Some(WorkerRequest::Describe(deployment.clone())) };
        let seen = routing.as_ref()?;
        if seen.current.is_some() {
            return (!self.is_unset)
                .then(|| WorkerRequest::UnsetCurrent(deployment.clone(), seen.conflict_token.clone()));
        }
        if seen.versions.is_empty() {
            return Some(WorkerRequest::RemoveDeployment(deployment.clone()));
        }
        let may_go = |state| matches!(state, VersionState::Drained { .. } | VersionState::Inactive);
        let mut versions = seen.versions.iter();
        let next = versions.find(|version| may_go(version.state) && !self.waiting.contains(&version.build))?;
        let version = WorkerVersion { deployment: deployment.clone(), build: next.build.clone() };
        Some(WorkerRequest::RemoveVersion(version))
    }

    fn learn(&mut self, request: WorkerRequest, answer: WorkerAnswer) {
        match (request, answer) {
            (WorkerRequest::List(..), WorkerAnswer::Deployments(found)) => self.builds = Some(found),
            (WorkerRequest::Remove(key), WorkerAnswer::Done) => {
                self.builds.get_or_insert_default().retain(|build| build.key != key);
            }
            (WorkerRequest::Describe(_), WorkerAnswer::Versions(seen)) => self.routing = Some(seen),
            // Its token and its versions' states are others now.
            (WorkerRequest::UnsetCurrent(..), WorkerAnswer::Done) => {
                self.routing = None;
                self.is_unset = true;
            }
            (WorkerRequest::RemoveVersion(version), WorkerAnswer::Done) => {
                let versions = self.routing.iter_mut().flatten().map(|seen| &mut seen.versions);
                versions.for_each(|versions| versions.retain(|known| known.build != version.build));
            }
            (WorkerRequest::RemoveDeployment(_), WorkerAnswer::Done) => self.routing = Some(None),
            _ => self.failed = Some(Error::Unsettled("an answer to another question while workers were taken away")),
        }
    }
}

impl Step for Leave {
    type Outcome = Outcome;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (self.asked.take(), reply) {
            (None, _) | (_, None) => {}
            (Some(request), Some(Ok(Answer::Workers(answer)))) => self.learn(request, answer),
            (Some(WorkerRequest::RemoveVersion(version)), Some(Err(error))) if error.class() == Class::Conflict => {
                self.waiting.insert(version.build);
            }
            (_, Some(Ok(_))) => {
                self.failed = Some(Error::Unsettled("an answer of another kind while workers were taken away"));
            }
            (_, Some(Err(error))) => self.failed = Some(error),
        }
        self.asked = if self.failed.is_none() { self.wish() } else { None };
        self.asked.clone().map(Request::Workers)
    }

    fn outcome(self) -> Outcome {
        let is_gone =
            self.failed.is_none() && self.builds.is_some_and(|builds| builds.is_empty()) && self.routing == Some(None);
        Outcome { is_gone, failed: self.failed }
    }
}
