//! A cluster and a Temporal for one pool, in memory: pods get ready and poll when time goes by, the server refuses what the real
//! one refuses, and whoever takes a pod from a run is caught at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};

use super::super::{
    pool::{SHARED, Wanted, tests::TEMPLATE, tests::wanted},
    requests::{Build, DeploymentKey, WorkerAnswer, WorkerRequest},
    rollout::{Input, Memory, Outcome, Rollout},
};
use crate::{
    error_class::Class,
    operator::{
        error::Error,
        world::{Answer, Reply, Request, Step, World, drive},
        world_fake::{Fault, faults},
    },
    temporal::{
        self, WorkerVersion,
        worker_deployments::{SeenDeployment, SeenVersion, VersionState},
    },
};

/// As the server's `matching.PollerHistoryTTL`.
const POLLER_HISTORY: SignedDuration = SignedDuration::from_mins(5);
pub(super) const RETENTION: Duration = Duration::from_secs(86_400);

/// The shared pool with this image and these bounds.
pub(super) fn image(image: &str, least: i32, most: i32) -> Wanted {
    let template = TEMPLATE.replace("image: x", &format!("image: {image}"));
    wanted(&template.replace("replicas: 1", &format!("replicas: {least}")), Some(most))
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) deployments: Vec<Build>,
    pub(super) temporal: Option<SeenDeployment>,
    /// Build → when it last polled.
    pub(super) polled: BTreeMap<String, Timestamp>,
    /// Open runs pinned to a build.
    pub(super) runs: BTreeMap<String, u64>,
    pub(super) backlog: u64,
    /// Builds whose pods never get ready.
    pub(super) broken: BTreeSet<String>,
    /// Builds whose Deployments the API server does not take.
    pub(super) refused: BTreeSet<String>,
    /// Builds whose pods get ready and never poll: an image from before there were versions.
    pub(super) silent: BTreeSet<String>,
    pub(super) calls: Vec<WorkerRequest>,
    changes: u8,
    uids: usize,
}

pub(super) struct Fleet {
    state: Mutex<State>,
    fault: Mutex<Option<Fault>>,
    pub(super) now: Mutex<Timestamp>,
    memory: Mutex<Memory>,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            fault: Mutex::default(),
            now: Mutex::new(Timestamp::from_second(1_700_000_000).expect("in range")),
            memory: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The calls from now on are counted from 0, and one of them fails so.
    pub(super) fn fail(&self, fault: Option<Fault>) {
        self.state().calls.clear();
        *self.fault.lock().expect("no panic") = fault;
    }

    pub(super) fn now(&self) -> Timestamp {
        *self.now.lock().expect("no panic")
    }

    /// Time goes by: pods follow, and poll.
    pub(super) fn pass(&self, time: SignedDuration) {
        *self.now.lock().expect("no panic") += time;
        let now = self.now();
        self.state().follow(now);
    }

    /// A round.
    pub(super) fn round(&self, wanted: &Wanted) -> Outcome {
        self.round_with(wanted, 0, false)
    }

    pub(super) fn round_with(&self, wanted: &Wanted, due: u64, is_full: bool) -> Outcome {
        let outcome = self.drive(|| {
            let memory = self.memory.lock().expect("no panic").clone();
            Rollout::new(Input { wanted: Arc::new(wanted.clone()), now: self.now(), due, is_full, memory })
        });
        *self.memory.lock().expect("no panic") = outcome.memory.clone();
        outcome
    }

    /// A process that dies at it is followed by one that begins anew.
    pub(super) fn drive<S: Step>(&self, step: impl Fn() -> S) -> S::Outcome {
        loop {
            if let Some(outcome) = drive(self, step()).now_or_never() {
                return outcome;
            }
            self.restart();
        }
    }

    /// Rounds, ten seconds apart, until nothing but looks is left to do; the last outcome, and what was told.
    pub(super) fn settle(&self, wanted: &Wanted) -> (Outcome, Vec<&'static str>) {
        let mut told = Vec::new();
        for _ in 0..40 {
            let before = format!("{:?}", self.shape());
            let outcome = self.round(wanted);
            told.extend(outcome.notes.iter().map(|note| note.reason));
            let is_quiet = format!("{:?}", self.shape()) == before && outcome.failed.is_none();
            self.pass(SignedDuration::from_secs(10));
            if is_quiet && format!("{:?}", self.shape()) == before {
                return (outcome, told);
            }
        }
        panic!("no rest: {:#?}", self.state());
    }

    /// A new process: nothing is remembered.
    pub(super) fn restart(&self) {
        *self.memory.lock().expect("no panic") = Memory::default();
    }

    /// Build → pods wanted, and build → what it is there for.
    pub(super) fn shape(&self) -> (BTreeMap<String, i32>, BTreeMap<String, VersionState>) {
        let state = self.state();
        let pods = state.deployments.iter().map(|it| (it.build.clone().unwrap_or_default(), it.replicas));
        let versions = state.temporal.iter().flat_map(|seen| &seen.versions);
        (pods.collect(), versions.map(|version| (version.build.clone(), version.state)).collect())
    }

    pub(super) fn pods(&self, wanted: &Wanted) -> Option<i32> {
        self.shape().0.get(&wanted.version.build).copied()
    }

    pub(super) fn version(&self, wanted: &Wanted) -> Option<VersionState> {
        self.shape().1.get(&wanted.version.build).copied()
    }

    /// The server looks whether draining builds still have runs.
    pub(super) fn look_at_drainage(&self) {
        let (now, mut state) = (self.now(), self.state());
        let State { temporal, runs, .. } = &mut *state;
        for version in temporal.iter_mut().flat_map(|seen| &mut seen.versions) {
            if version.state == VersionState::Draining && runs.get(&version.build).is_none_or(|runs| *runs == 0) {
                version.state = VersionState::Drained { since: now };
            }
        }
    }
}

#[async_trait]
impl World for Fleet {
    async fn call(&self, request: Request) -> Reply {
        let Request::Workers(request) = request else { panic!("not a rollout's: {request:?}") };
        let number = self.state().calls.len();
        self.state().calls.push(request.clone());
        let (now, whole) = (self.now(), Request::Workers(request.clone()));
        let fault = self.fault.lock().expect("no panic").filter(|fault| fault.at() == number);
        match fault {
            Some(Fault::Lost(_)) => Err(faults::outage(&whole)),
            Some(Fault::Conflict(_)) => Err(faults::conflict(&whole)),
            Some(Fault::RateLimited(_)) => Err(faults::rate_limit(&whole)),
            Some(Fault::AnswerLost(_)) => {
                let _effect = self.state().answer(request, now);
                Err(faults::outage(&whole))
            }
            Some(Fault::CrashBefore(_)) => std::future::pending().await,
            Some(Fault::CrashAfter(_)) => {
                let _effect = self.state().answer(request, now);
                std::future::pending().await
            }
            None => self.state().answer(request, now).map(Answer::Workers),
        }
    }
}

impl State {
    fn follow(&mut self, now: Timestamp) {
        for deployment in &mut self.deployments {
            let Some(build) = deployment.build.clone().filter(|_| deployment.pool.as_deref() == Some(SHARED)) else {
                continue;
            };
            deployment.ready = if self.broken.contains(&build) { 0 } else { deployment.replicas };
            if deployment.ready == 0 || self.silent.contains(&build) {
                continue;
            }
            self.polled.insert(build.clone(), now);
            let seen = self.temporal.get_or_insert_with(|| SeenDeployment {
                conflict_token: vec![0],
                current: None,
                versions: Vec::new(),
            });
            if !seen.versions.iter().any(|version| version.build == build) {
                seen.versions.push(SeenVersion { build, state: VersionState::Inactive });
            }
        }
    }

    fn answer(&mut self, request: WorkerRequest, now: Timestamp) -> Result<WorkerAnswer, Error> {
        Ok(match request {
            WorkerRequest::List(..) => WorkerAnswer::Deployments(self.deployments.clone()),
            WorkerRequest::Apply(deployment) => {
                let mut build = Build::of(&deployment);
                if build.build.as_ref().is_some_and(|id| self.refused.contains(id)) {
                    let (code, class) = ("422".to_owned(), Class::Invalid);
                    return Err(Error::Kubernetes { attempted: "apply", code, class });
                }
                match self.deployments.iter_mut().find(|found| found.key.name == build.key.name) {
                    Some(found) => {
                        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                        build = Build { key: found.key.clone(), ready: found.ready, ..build };
                        build.replicas = replicas.unwrap_or(found.replicas);
                        *found = build.clone();
                    }
                    None => {
                        self.uids += 1;
                        build.key.uid = format!("uid-{}", self.uids);
                        self.deployments.push(build.clone());
                    }
                }
                WorkerAnswer::Applied(Box::new(build))
            }
            WorkerRequest::Scale(key, replicas) => {
                if replicas == 0 {
                    self.may_lose_its_pods(&key);
                }
                if let Some(found) = self.deployments.iter_mut().find(|found| found.key == key) {
                    found.replicas = replicas;
                }
                WorkerAnswer::Done
            }
            WorkerRequest::Remove(key) => {
                self.may_lose_its_pods(&key);
                self.deployments.retain(|found| found.key != key);
                WorkerAnswer::Done
            }
            WorkerRequest::Describe(_) => WorkerAnswer::Versions(self.temporal.clone()),
            WorkerRequest::Polling(..) => WorkerAnswer::Polling(self.polled.keys().cloned().collect()),
            WorkerRequest::SetCurrent(version, token) => self.set_current(&version, &token)?,
            WorkerRequest::UnsetCurrent(_, token) => self.unset_current(&token)?,
            WorkerRequest::RemoveDeployment(_) => self.remove_deployment()?,
            WorkerRequest::Backlog(_) => WorkerAnswer::Count(self.backlog),
            WorkerRequest::CountOpenRuns(versions) => {
                WorkerAnswer::Count(versions.iter().filter_map(|version| self.runs.get(&version.build)).sum())
            }
            WorkerRequest::RemoveVersion(version) => self.remove_version(&version, now)?,
            WorkerRequest::Retention => WorkerAnswer::Retention(RETENTION),
        })
    }

    /// The oracle: no pod is taken from a build that runs are open on, or that waits for its first turn.
    fn may_lose_its_pods(&self, key: &DeploymentKey) {
        let Some(build) = self.deployments.iter().find(|found| found.key == *key) else { return };
        let Some(id) = &build.build else { return };
        assert_eq!(self.runs.get(id).copied().unwrap_or_default(), 0, "{} has open runs", key.name);
        let seen = self.temporal.as_ref().expect("nothing leaves before Temporal knows of anything");
        assert!(seen.current.is_some(), "{} leaves before any build takes the work", key.name);
        let state = seen.versions.iter().find(|version| version.build == *id).map(|version| version.state);
        assert_ne!(state, Some(VersionState::Draining), "{} drains", key.name);
    }

    fn set_current(&mut self, version: &WorkerVersion, token: &[u8]) -> Result<WorkerAnswer, Error> {
        let ready = self.deployments.iter().any(|it| it.build.as_ref() == Some(&version.build) && it.ready > 0);
        assert!(ready, "traffic for a build without a pod");
        let conflict = || Error::Temporal(temporal::Error::Conflict { attempted: "set", code: "token".to_owned() });
        let seen = self.temporal.as_mut().filter(|seen| seen.conflict_token == token).ok_or_else(conflict)?;
        self.changes += 1;
        seen.conflict_token = vec![self.changes];
        for known in &mut seen.versions {
            if known.build == version.build {
                known.state = VersionState::Current;
            } else if known.state == VersionState::Current {
                known.state = VersionState::Draining;
            }
        }
        seen.current = Some(version.build.clone());
        Ok(WorkerAnswer::Done)
    }

    fn unset_current(&mut self, token: &[u8]) -> Result<WorkerAnswer, Error> {
        let conflict = || Error::Temporal(temporal::Error::Conflict { attempted: "unset", code: "token".to_owned() });
        let seen = self.temporal.as_mut().filter(|seen| seen.conflict_token == token).ok_or_else(conflict)?;
        self.changes += 1;
        seen.conflict_token = vec![self.changes];
        let current = seen.versions.iter_mut().filter(|known| known.state == VersionState::Current);
        current.for_each(|known| known.state = VersionState::Draining);
        seen.current = None;
        Ok(WorkerAnswer::Done)
    }

    fn remove_deployment(&mut self) -> Result<WorkerAnswer, Error> {
        let refused =
            || Error::Temporal(temporal::Error::Unavailable { attempted: "remove", code: "Internal".to_owned() });
        if self.temporal.as_ref().is_some_and(|seen| !seen.versions.is_empty()) {
            return Err(refused());
        }
        self.temporal = None;
        Ok(WorkerAnswer::Done)
    }

    fn remove_version(&mut self, version: &WorkerVersion, now: Timestamp) -> Result<WorkerAnswer, Error> {
        let polled = self.polled.get(&version.build);
        let refused = || Error::Temporal(temporal::Error::Conflict { attempted: "remove", code: "polls".to_owned() });
        if polled.is_some_and(|at| now.duration_since(*at) < POLLER_HISTORY) {
            return Err(refused());
        }
        let Some(seen) = self.temporal.as_mut() else { return Ok(WorkerAnswer::Done) };
        let state = seen.versions.iter().find(|known| known.build == version.build).map(|known| known.state);
        if matches!(state, Some(VersionState::Current | VersionState::Draining)) {
            return Err(refused());
        }
        assert_eq!(self.runs.get(&version.build).copied().unwrap_or_default(), 0, "runs lose their version");
        seen.versions.retain(|known| known.build != version.build);
        self.polled.remove(&version.build);
        Ok(WorkerAnswer::Done)
    }
}
