//! What a rollout asks of the outside and is told: Deployments of one namespace, and one Worker Deployment in Temporal.
//! Carried by `operator::world`, so that whoever answers there may lose, delay or falsify any of it (R36).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;

use super::pool::{APPLIED_ANNOTATION, BUILD_LABEL, POOL_LABEL};
use crate::temporal::{WorkerVersion, worker_deployments::SeenDeployment};

/// A Deployment by name; the uid tells one life of a name from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// One call to the outside.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerRequest {
    /// Deployments of a namespace that have these labels → `Deployments`.
    List(String, BTreeMap<String, String>),
    /// Server-side apply, of its disruption budget, too → `Applied`.
    Apply(Box<Deployment>),
    /// Sets the number of pods → `Done`; `Done` too if it (by uid) is gone.
    Scale(DeploymentKey, i32),
    /// Deletes it, and its pods by the garbage collector → `Done`; `Done` too if it (by uid) is gone.
    Remove(DeploymentKey),
    /// `Temporal::describe_worker_deployment` → `Versions`.
    Describe(String),
    /// `Temporal::polling_builds` of a Worker Deployment and a queue → `Polling`.
    Polling(String, String),
    /// `Temporal::set_current_version` with a conflict token → `Done`.
    SetCurrent(WorkerVersion, Vec<u8>),
    /// `Temporal::unset_current_version` of a Worker Deployment with a conflict token → `Done`.
    UnsetCurrent(String, Vec<u8>),
    /// `Temporal::backlog` → `Count`.
    Backlog(WorkerVersion),
    /// `Temporal::count_open_runs` → `Count`.
    CountOpenRuns(Vec<WorkerVersion>),
    /// `Temporal::delete_worker_version` → `Done`.
    RemoveVersion(WorkerVersion),
    /// `Temporal::delete_worker_deployment` → `Done`.
    RemoveDeployment(String),
    /// `Temporal::retention` → `Retention`.
    Retention,
}

impl WorkerRequest {
    /// Whether Temporal is asked, rather than the Kubernetes API.
    #[must_use]
    pub fn is_for_temporal(&self) -> bool {
        !matches!(self, Self::List(..) | Self::Apply(_) | Self::Scale(..) | Self::Remove(_))
    }
}

/// What the outside said.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerAnswer {
    /// To `List`.
    Deployments(Vec<Build>),
    /// To `Apply`: as it now is.
    Applied(Box<Build>),
    /// To `Describe`; `None` = Temporal has never heard of it.
    Versions(Option<SeenDeployment>),
    /// To `Polling`: build ids.
    Polling(BTreeSet<String>),
    /// To `Backlog` and `CountOpenRuns`.
    Count(u64),
    /// To `Retention`.
    Retention(Duration),
    /// It is so.
    Done,
}

/// A Deployment of workers as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Which one.
    pub key: DeploymentKey,
    /// The pool; `None` for one that no rollout made.
    pub pool: Option<String>,
    /// The build; `None` for one that no rollout made.
    pub build: Option<String>,
    /// Pods wanted.
    pub replicas: i32,
    /// Pods ready.
    pub ready: i32,
    /// The digest of what was last applied.
    pub applied: Option<String>,
    /// Its controller has given up waiting for its pods.
    pub is_stuck: bool,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

impl Build {
    /// From the object.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let key = DeploymentKey {
            namespace: deployment.namespace().unwrap_or_default(),
            name: deployment.name_any(),
            uid: deployment.uid().unwrap_or_default(),
        };
        let status = deployment.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        Self {
            key,
            pool: deployment.labels().get(POOL_LABEL).cloned(),
            build: deployment.labels().get(BUILD_LABEL).cloned(),
            // The API server's default where nothing was said.
            replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or_default(),
            applied: deployment.annotations().get(APPLIED_ANNOTATION).cloned(),
            is_stuck: conditions.iter().any(|it| it.type_ == "Progressing" && it.status == "False"),
            created_at: deployment.creation_timestamp().map(|at| at.0),
        }
    }
}
