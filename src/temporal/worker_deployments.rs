//! Worker Deployments: which builds of a pool's workers Temporal has seen, which one takes new runs, which still hold runs, and
//! what waits for them. Raw gRPC: the SDK has nothing of it. Decides nothing.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use temporalio_common::protos::temporal::api::{
    deployment::v1::{
        WorkerDeploymentInfo, WorkerDeploymentVersion, worker_deployment_info::WorkerDeploymentVersionSummary,
    },
    enums::v1::{TaskQueueType, VersionDrainageStatus},
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{
        CountWorkflowExecutionsRequest, DeleteWorkerDeploymentRequest, DeleteWorkerDeploymentVersionRequest,
        DescribeNamespaceRequest, DescribeTaskQueueRequest, DescribeWorkerDeploymentRequest,
        DescribeWorkerDeploymentVersionRequest, SetWorkerDeploymentCurrentVersionRequest,
    },
};

use super::{
    Error, Temporal,
    client::{call, timed},
};
use crate::clock;

/// A poll lasts up to a minute and is noted when it begins: one that is older is nobody's.
const POLL: SignedDuration = SignedDuration::from_secs(90);

/// One build of a Worker Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerVersion {
    /// Name of the Worker Deployment, unique in the Temporal namespace.
    pub deployment: String,
    /// Its build id.
    pub build: String,
}

/// A Worker Deployment as Temporal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDeployment {
    /// Proves at a change that nobody else changed it meanwhile.
    pub conflict_token: Vec<u8>,
    /// The build that takes new runs.
    pub current: Option<String>,
    /// Every build that ever polled and was not removed, the current one among them.
    pub versions: Vec<SeenVersion>,
}

/// A build as Temporal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVersion {
    /// Its build id.
    pub build: String,
    /// What it is there for.
    pub state: VersionState,
}

/// What a build is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// It has polled and never took a run.
    Inactive,
    /// It takes new runs.
    Current,
    /// It takes no new runs, and open ones are pinned to it (or somebody ramps it by hand).
    Draining,
    /// No run was open on it when the server last looked. It does not look again: a reset brings runs back.
    Drained {
        /// When that was first seen.
        since: Timestamp,
    },
}

impl Temporal {
    /// Describes a Worker Deployment; `None` if no worker of it has ever polled.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn describe_worker_deployment(&self, name: &str) -> Result<Option<SeenDeployment>, Error> {
        let request = DescribeWorkerDeploymentRequest {
            namespace: self.namespace().to_owned(),
            deployment_name: name.to_owned(),
        };
        let mut service = self.connection().workflow_service();
        match call("describe a worker deployment", service.describe_worker_deployment(timed(request))).await {
            Ok(described) => {
                let info = described.worker_deployment_info;
                let info = info.ok_or(Error::Unreadable { what: "the worker deployment" })?;
                Ok(Some(seen(info, described.conflict_token)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Builds of a Worker Deployment that poll a queue for activities now.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn polling_builds(&self, deployment: &str, queue: &str) -> Result<BTreeSet<String>, Error> {
        let request = DescribeTaskQueueRequest {
            namespace: self.namespace().to_owned(),
            task_queue: Some(TaskQueue { name: queue.to_owned(), ..Default::default() }),
            task_queue_type: TaskQueueType::Activity as i32,
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        let described = call("describe a task queue", service.describe_task_queue(timed(request))).await?;
        let since = (clock::now() - POLL).as_second();
        let polls = described
            .pollers
            .into_iter()
            .filter(|poller| poller.last_access_time.as_ref().is_some_and(|last| last.seconds >= since));
        let versions = polls.filter_map(|poller| poller.deployment_options);
        let ours = versions.filter(|version| version.deployment_name == deployment);
        Ok(ours.map(|version| version.build_id).collect())
    }

    /// About how many tasks, of workflows and activities, wait for a worker of a build.
    ///
    /// # Errors
    /// When Temporal is away or refuses, `NotFound` when the build never polled.
    pub async fn backlog(&self, version: &WorkerVersion) -> Result<u64, Error> {
        let request = DescribeWorkerDeploymentVersionRequest {
            namespace: self.namespace().to_owned(),
            deployment_version: Some(proto(version)),
            report_task_queue_stats: true,
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        let answer = service.describe_worker_deployment_version(timed(request));
        let described = call("describe a worker version", answer).await?;
        let stats = described.version_task_queues.into_iter().filter_map(|queue| queue.stats);
        Ok(stats.map(|stats| u64::try_from(stats.approximate_backlog_count).unwrap_or_default()).sum())
    }

    /// Lets a build take all new runs, if the Worker Deployment still is what the token proves. The server refuses a build
    /// that never polled, or does not poll a queue that the former one served.
    ///
    /// # Errors
    /// `Conflict` when it changed or is refused.
    ///
    /// # Idempotency
    /// By the build.
    pub async fn set_current_version(&self, version: &WorkerVersion, conflict_token: &[u8]) -> Result<(), Error> {
        self.set_current(&version.deployment, &version.build, conflict_token).await
    }

    /// Lets no build take new runs, before a Worker Deployment is removed.
    ///
    /// # Errors
    /// `Conflict` when it changed.
    ///
    /// # Idempotency
    /// By the routing.
    pub async fn unset_current_version(&self, deployment: &str, conflict_token: &[u8]) -> Result<(), Error> {
        self.set_current(deployment, "", conflict_token).await
    }

    async fn set_current(&self, deployment: &str, build: &str, conflict_token: &[u8]) -> Result<(), Error> {
        let request = SetWorkerDeploymentCurrentVersionRequest {
            namespace: self.namespace().to_owned(),
            deployment_name: deployment.to_owned(),
            build_id: build.to_owned(),
            conflict_token: conflict_token.to_vec(),
            identity: self.identity().to_owned(),
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        let answer = service.set_worker_deployment_current_version(timed(request));
        call("make a worker version current", answer).await.map(drop)
    }

    /// Removes a build from a Worker Deployment; one that is gone is fine.
    ///
    /// # Errors
    /// `Conflict` while it is current, drains, or was polled for in the last minutes.
    ///
    /// # Idempotency
    /// By the build.
    pub async fn delete_worker_version(&self, version: &WorkerVersion) -> Result<(), Error> {
        let request = DeleteWorkerDeploymentVersionRequest {
            namespace: self.namespace().to_owned(),
            deployment_version: Some(proto(version)),
            identity: self.identity().to_owned(),
            ..Default::default()
        };
        let mut service = self.connection().workflow_service();
        let answer = service.delete_worker_deployment_version(timed(request));
        match call("remove a worker version", answer).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets a Worker Deployment without builds, so that its place among the namespace's hundred is free; one that is gone
    /// is fine.
    ///
    /// # Errors
    /// `Unavailable` while it has builds: the server calls that an internal error.
    ///
    /// # Idempotency
    /// By its name.
    pub async fn delete_worker_deployment(&self, name: &str) -> Result<(), Error> {
        let request = DeleteWorkerDeploymentRequest {
            namespace: self.namespace().to_owned(),
            deployment_name: name.to_owned(),
            identity: self.identity().to_owned(),
        };
        let mut service = self.connection().workflow_service();
        match call("remove a worker deployment", service.delete_worker_deployment(timed(request))).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How many open runs are pinned to any of these builds. By visibility: a second behind.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn count_open_runs(&self, versions: &[WorkerVersion]) -> Result<u64, Error> {
        let request =
            CountWorkflowExecutionsRequest { namespace: self.namespace().to_owned(), query: open_runs(versions) };
        let mut service = self.connection().workflow_service();
        let counted = call("count runs", service.count_workflow_executions(timed(request))).await?;
        Ok(u64::try_from(counted.count).unwrap_or_default())
    }

    /// How long the namespace keeps closed runs, which can be queried and reset that long.
    ///
    /// # Errors
    /// When Temporal is away or refuses.
    pub async fn retention(&self) -> Result<Duration, Error> {
        let request = DescribeNamespaceRequest { namespace: self.namespace().to_owned(), ..Default::default() };
        let mut service = self.connection().workflow_service();
        let described = call("describe the namespace", service.describe_namespace(timed(request))).await?;
        let retention = described.config.and_then(|config| config.workflow_execution_retention_ttl);
        let seconds = retention.ok_or(Error::Unreadable { what: "the namespace's retention" })?.seconds;
        Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    }
}

fn proto(version: &WorkerVersion) -> WorkerDeploymentVersion {
    WorkerDeploymentVersion { build_id: version.build.clone(), deployment_name: version.deployment.clone() }
}

/// As the server writes the search attribute: deployment and build, joined by a colon (server 1.29,
/// common/worker_versioning). Neither holds a quote: both are names that we made.
fn open_runs(versions: &[WorkerVersion]) -> String {
    let names: Vec<_> = versions.iter().map(|version| format!("'{}:{}'", version.deployment, version.build)).collect();
    format!("ExecutionStatus = 'Running' AND TemporalWorkerDeploymentVersion IN ({})", names.join(", "))
}

fn seen(info: WorkerDeploymentInfo, conflict_token: Vec<u8>) -> SeenDeployment {
    let current = info.routing_config.and_then(|routing| routing.current_deployment_version);
    let current = current.map(|version| version.build_id).filter(|build| !build.is_empty());
    let version = |summary: WorkerDeploymentVersionSummary| {
        let build = summary.deployment_version.as_ref()?.build_id.clone();
        let state = if current.as_ref() == Some(&build) { VersionState::Current } else { state(&summary) };
        Some(SeenVersion { build, state })
    };
    let versions = info.version_summaries.into_iter().filter_map(version).collect();
    SeenDeployment { conflict_token, current, versions }
}

/// Of a build that is not current. From the drainage, which servers older than the summary's own status tell, too.
fn state(summary: &WorkerDeploymentVersionSummary) -> VersionState {
    let drainage = summary.drainage_info.as_ref();
    match drainage.map(|drainage| drainage.status()) {
        Some(VersionDrainageStatus::Drained) => {
            let since = drainage.and_then(|drainage| drainage.last_changed_time.as_ref());
            let since = since.and_then(|at| Timestamp::from_second(at.seconds).ok());
            // Without a time it counts from now on: kept too long rather than too short.
            VersionState::Drained { since: since.unwrap_or_else(clock::now) }
        }
        Some(VersionDrainageStatus::Draining) => VersionState::Draining,
        _ if summary.ramping_since_time.is_some() => VersionState::Draining,
        _ => VersionState::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::deployment::v1::{RoutingConfig, VersionDrainageInfo};

    use super::*;

    fn summary(build: &str, drainage: Option<VersionDrainageStatus>) -> WorkerDeploymentVersionSummary {
        WorkerDeploymentVersionSummary {
            deployment_version: Some(proto(&WorkerVersion { deployment: "d".to_owned(), build: build.to_owned() })),
            drainage_info: drainage.map(|status| VersionDrainageInfo {
                status: status as i32,
                last_changed_time: Some(std::time::SystemTime::UNIX_EPOCH.into()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn builds_are_told_apart_by_what_they_are_there_for() {
        let current = WorkerDeploymentVersion { build_id: "b".to_owned(), deployment_name: "d".to_owned() };
        let info = WorkerDeploymentInfo {
            version_summaries: vec![
                summary("new", None),
                summary("b", None),
                summary("a", Some(VersionDrainageStatus::Draining)),
                summary("0", Some(VersionDrainageStatus::Drained)),
            ],
            routing_config: Some(RoutingConfig { current_deployment_version: Some(current), ..Default::default() }),
            ..Default::default()
        };
        let seen = seen(info, vec![1]);
        assert_eq!(seen.current.as_deref(), Some("b"));
        let since = Timestamp::UNIX_EPOCH;
        let states: Vec<_> = seen.versions.iter().map(|version| version.state).collect();
        assert_eq!(
            states,
            [VersionState::Inactive, VersionState::Current, VersionState::Draining, VersionState::Drained { since }]
        );
    }

    #[test]
    fn open_runs_are_looked_for_by_deployment_and_build() {
        let version = |build: &str| WorkerVersion { deployment: "gtm".to_owned(), build: build.to_owned() };
        assert_eq!(
            open_runs(&[version("a"), version("b")]),
            "ExecutionStatus = 'Running' AND TemporalWorkerDeploymentVersion IN ('gtm:a', 'gtm:b')"
        );
    }
}
