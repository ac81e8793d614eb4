//! What becomes of builds that no longer take new runs: they drain, rest without pods for as long as their runs can be asked
//! or reset, and leave. Pure; first what is to be known, then pods, then versions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    requests::{Build, WorkerRequest},
    rollout::Input,
    seen::Seen,
};
use crate::temporal::{WorkerVersion, worker_deployments::VersionState};

/// Builds without open runs that are kept, whatever the retention: the server holds a hundred versions (R52).
const KEPT: usize = 20;

/// The next thing to ask or do about former builds. While no build takes new runs, nothing is taken away.
pub(super) fn wish(input: &Input, seen: &Seen) -> Option<WorkerRequest> {
    let current = seen.current()?;
    if current == input.wanted.version.build
        && let Some(unversioned) = seen.unversioned(&input.wanted)
    {
        return Some(WorkerRequest::Remove(unversioned.key.clone()));
    }
    let former = Former { input, seen };
    former.open_runs().or_else(|| former.retention()).or_else(|| former.pods()).or_else(|| former.versions())
}

struct Former<'a> {
    input: &'a Input,
    seen: &'a Seen,
}

impl Former<'_> {
    fn is_former(&self, build: &str) -> bool {
        build != self.input.wanted.version.build && Some(build) != self.seen.current()
    }

    fn version(&self, build: &str) -> WorkerVersion {
        WorkerVersion { build: build.to_owned(), ..self.input.wanted.version.clone() }
    }

    /// Former builds that Temporal thinks nobody needs. A reset, or a pin by hand, may have brought a run back.
    fn idle(&self) -> Vec<WorkerVersion> {
        let idle = self.seen.versions().iter().filter(|version| {
            let is_idle = matches!(version.state, VersionState::Drained { .. } | VersionState::Inactive);
            is_idle && self.is_former(&version.build) && !self.seen.tried.contains(&version.build)
        });
        let mut idle: Vec<_> = idle.map(|version| self.version(&version.build)).collect();
        idle.sort();
        idle
    }

    /// One count for all of them, which is mostly nought; else one for each.
    fn open_runs(&self) -> Option<WorkerRequest> {
        let idle = self.idle();
        // What was counted together may have lost a member since.
        let together = self.seen.open_runs.iter().find(|(of, _)| idle.iter().all(|version| of.contains(version)));
        match together {
            _ if idle.is_empty() => None,
            None => Some(WorkerRequest::CountOpenRuns(idle)),
            Some((_, 0)) => None,
            Some(_) => {
                let mut each = idle.into_iter().map(|version| vec![version]);
                each.find(|of| !self.seen.open_runs.contains_key(of)).map(WorkerRequest::CountOpenRuns)
            }
        }
    }

    fn has_open_runs(&self, build: &str) -> bool {
        let counts = self.seen.open_runs.iter().filter(|(of, _)| of.iter().any(|version| version.build == build));
        // The smallest set that holds it says most about it.
        counts.min_by_key(|(of, _)| of.len()).is_some_and(|(_, runs)| *runs > 0)
    }

    fn drained_builds(&self) -> impl Iterator<Item = (&Build, Timestamp)> {
        self.seen.builds.iter().flatten().filter_map(|build| {
            let id = build.build.as_deref().filter(|id| self.is_former(id))?;
            match self.seen.state(id) {
                Some(VersionState::Drained { since }) => Some((build, since)),
                _ => None,
            }
        })
    }

    fn retention(&self) -> Option<WorkerRequest> {
        let needs_it = self.input.memory.retention.is_none() && self.drained_builds().next().is_some();
        needs_it.then_some(WorkerRequest::Retention)
    }

    fn pods(&self) -> Option<WorkerRequest> {
        let builds = self.seen.builds.iter().flatten();
        builds
            .filter(|build| build.build.as_deref().is_some_and(|id| self.is_former(id)))
            .find_map(|build| self.pods_of(build))
    }

    fn pods_of(&self, build: &Build) -> Option<WorkerRequest> {
        let id = build.build.as_deref()?;
        let work = || (build.replicas < 1).then(|| WorkerRequest::Scale(build.key.clone(), 1));
        let leave = || Some(WorkerRequest::Remove(build.key.clone()));
        match self.seen.state(id) {
            Some(VersionState::Draining | VersionState::Current) => work(),
            Some(_) if self.has_open_runs(id) => work(),
            Some(VersionState::Drained { since }) if self.is_kept(id, since) => {
                (build.replicas > 0).then(|| WorkerRequest::Scale(build.key.clone(), 0))
            }
            // It never took a run, or nobody can ask for its runs any more.
            Some(VersionState::Drained { .. } | VersionState::Inactive) | None => leave(),
        }
    }

    fn is_kept(&self, id: &str, since: Timestamp) -> bool {
        let retention = self.input.memory.retention.unwrap_or(Duration::MAX);
        let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        let newer =
            self.drained_builds().filter(|(build, at)| (*at, build.build.as_deref()) > (since, Some(id))).count();
        self.input.now.duration_since(since) < retention && newer < KEPT
    }

    /// A version goes when its pods are gone: the server refuses one that polls, and so would a deletion wait for ever.
    fn versions(&self) -> Option<WorkerRequest> {
        let gone =
            |version: &WorkerVersion| self.seen.build(&version.build).is_none() && !self.has_open_runs(&version.build);
        self.idle().into_iter().find(gone).map(WorkerRequest::RemoveVersion)
    }
}
