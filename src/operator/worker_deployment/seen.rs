//! What one round of a rollout has learnt of the outside, answer by answer, with the effects of its own requests. Pure.
//! Decides nothing: `rollout` does, and never on a plan made before the last answer (R36).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    pool::Wanted,
    requests::{Build, WorkerAnswer, WorkerRequest},
};
use crate::temporal::{
    WorkerVersion,
    worker_deployments::{SeenDeployment, SeenVersion, VersionState},
};

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The pool's Deployments, the unversioned one of earlier charts among them.
    pub(super) builds: Option<Vec<Build>>,
    /// The wanted one was applied in this round.
    pub(super) is_applied: bool,
    /// What Temporal knows; inside, `None` = nothing.
    pub(super) routing: Option<Option<SeenDeployment>>,
    /// Build ids that poll.
    pub(super) polling: Option<BTreeSet<String>>,
    /// Tasks that wait for the current build.
    pub(super) backlog: Option<u64>,
    /// Open runs of these builds together.
    pub(super) open_runs: BTreeMap<Vec<WorkerVersion>, u64>,
    /// Versions whose removal was tried in this round.
    pub(super) tried: BTreeSet<String>,
    /// The wanted build was made current in this round.
    pub(super) is_promoted: bool,
}

impl Seen {
    /// The Deployment of a build.
    pub(super) fn build(&self, build: &str) -> Option<&Build> {
        self.builds.iter().flatten().find(|found| found.build.as_deref() == Some(build))
    }

    /// The build that takes new runs.
    pub(super) fn current(&self) -> Option<&str> {
        self.routing.as_ref()?.as_ref()?.current.as_deref()
    }

    /// What Temporal knows of each build.
    pub(super) fn versions(&self) -> &[SeenVersion] {
        self.routing.as_ref().and_then(Option::as_ref).map(|seen| seen.versions.as_slice()).unwrap_or_default()
    }

    /// What a build is there for; `None` = it never polled.
    pub(super) fn state(&self, build: &str) -> Option<VersionState> {
        self.versions().iter().find(|version| version.build == build).map(|version| version.state)
    }

    /// The unversioned Deployment of earlier charts.
    pub(super) fn unversioned(&self, wanted: &Wanted) -> Option<&Build> {
        let is = |found: &&Build| found.build.is_none() && found.key.name == wanted.unversioned;
        self.builds.iter().flatten().find(is)
    }

    /// Takes the answer to a request in; `false` if it is one to another question.
    pub(super) fn learn(&mut self, request: WorkerRequest, answer: WorkerAnswer, wanted: &Wanted) -> bool {
        match (request, answer) {
            (WorkerRequest::List(..), WorkerAnswer::Deployments(found)) => {
                // The template's labels are other pools', too.
                let ours = |build: &Build| build.pool.as_ref().is_none_or(|pool| *pool == wanted.pool);
                self.builds = Some(found.into_iter().filter(ours).collect());
            }
            (WorkerRequest::Apply(_), WorkerAnswer::Applied(build)) => {
                self.is_applied = true;
                let builds = self.builds.get_or_insert_default();
                builds.retain(|found| found.key.name != build.key.name);
                builds.push(*build);
            }
            (WorkerRequest::Scale(key, replicas), WorkerAnswer::Done) => {
                let mut builds = self.builds.iter_mut().flatten();
                if let Some(build) = builds.find(|build| build.key == key) {
                    build.replicas = replicas;
                }
            }
            (WorkerRequest::Remove(key), WorkerAnswer::Done) => {
                let builds = self.builds.get_or_insert_default();
                // Its pods poll for a while yet; the version is next round's.
                let removed = builds.extract_if(.., |build| build.key == key);
                self.tried.extend(removed.filter_map(|build| build.build));
            }
            (WorkerRequest::Describe(_), WorkerAnswer::Versions(seen)) => self.routing = Some(seen),
            (WorkerRequest::Polling(..), WorkerAnswer::Polling(builds)) => self.polling = Some(builds),
            (WorkerRequest::SetCurrent(version, _), WorkerAnswer::Done) => self.promoted(&version.build),
            (WorkerRequest::Backlog(_), WorkerAnswer::Count(tasks)) => self.backlog = Some(tasks),
            (WorkerRequest::CountOpenRuns(versions), WorkerAnswer::Count(runs)) => {
                self.open_runs.insert(versions, runs);
            }
            (WorkerRequest::RemoveVersion(version), WorkerAnswer::Done) => self.removed(version.build),
            _ => return false,
        }
        true
    }

    /// A version could not be removed yet.
    pub(super) fn removal_refused(&mut self, build: String) {
        self.tried.insert(build);
    }

    fn removed(&mut self, build: String) {
        if let Some(Some(seen)) = &mut self.routing {
            seen.versions.retain(|version| version.build != build);
        }
        self.tried.insert(build);
    }

    fn promoted(&mut self, build: &str) {
        self.is_promoted = true;
        let Some(Some(seen)) = &mut self.routing else { return };
        for version in &mut seen.versions {
            if version.build == build {
                version.state = VersionState::Current;
            } else if version.state == VersionState::Current {
                version.state = VersionState::Draining;
            }
        }
        seen.current = Some(build.to_owned());
        // Of the former one.
        self.backlog = None;
    }
}
