//! A rollout's requests, sent: Deployments to the API server, versions to Temporal. Decides nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use super::{
    pool::disruption_budget,
    requests::{Build, DeploymentKey, WorkerAnswer, WorkerRequest},
};
use crate::{
    error_class::Class,
    operator::{
        error::Error,
        live_world::{LiveWorld, deadline},
    },
    temporal::{self, Temporal},
};

/// Field manager.
const MANAGER: &str = "gtmclarity-operator/worker-deployment";

impl LiveWorld {
    /// What the API server says to a rollout.
    pub(in crate::operator) async fn deployments(&self, request: WorkerRequest) -> Result<WorkerAnswer, Error> {
        match request {
            WorkerRequest::List(namespace, labels) => self.list_deployments(&namespace, &labels).await,
            WorkerRequest::Apply(deployment) => {
                let api = self.deployments_of(&deployment.namespace().unwrap_or_default());
                let params = PatchParams::apply(MANAGER).force();
                let (name, patch) = (deployment.name_any(), Patch::Apply(&deployment));
                let applied = deadline("apply a Deployment of workers", api.patch(&name, &params, &patch)).await?;
                if let Some(budget) = disruption_budget(&applied) {
                    let api: Api<PodDisruptionBudget> =
                        Api::namespaced(self.client.clone(), applied.namespace().as_deref().unwrap_or_default());
                    let patch = Patch::Apply(&budget);
                    deadline("apply a disruption budget of workers", api.patch(&name, &params, &patch)).await?;
                }
                Ok(WorkerAnswer::Applied(Box::new(Build::of(&applied))))
            }
            WorkerRequest::Scale(key, replicas) => {
                let patch = json!({"metadata": {"uid": key.uid}, "spec": {"replicas": replicas}});
                let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                let (api, patch) = (self.deployments_of(&key.namespace), Patch::Merge(&patch));
                let scaled = deadline("scale a Deployment of workers", api.patch(&key.name, &params, &patch)).await;
                gone_is_done(scaled.map(drop))
            }
            WorkerRequest::Remove(key) => self.remove_deployment(key).await,
            _ => unreachable!("`call` sends requests of Kubernetes only"),
        }
    }

    async fn list_deployments(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<WorkerAnswer, Error> {
        let selector: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let params = ListParams::default().labels(&selector.join(","));
        let api = self.deployments_of(namespace);
        let listed = deadline("list the Deployments of workers", api.list(&params)).await?;
        Ok(WorkerAnswer::Deployments(listed.items.iter().map(Build::of).collect()))
    }

    async fn remove_deployment(&self, key: DeploymentKey) -> Result<WorkerAnswer, Error> {
        let preconditions = Some(Preconditions { uid: Some(key.uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let api = self.deployments_of(&key.namespace);
        let removed = deadline("delete a Deployment of workers", api.delete(&key.name, &params)).await;
        gone_is_done(removed.map(drop))
    }

    fn deployments_of(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Not found, or another life of its name.
fn gone_is_done(answer: Result<(), Error>) -> Result<WorkerAnswer, Error> {
    match answer {
        Err(error) if error.class() != Class::Conflict => Err(error),
        _ => Ok(WorkerAnswer::Done),
    }
}

/// What Temporal says to a rollout.
pub(in crate::operator) async fn versions(
    temporal: &Temporal,
    request: WorkerRequest,
) -> Result<WorkerAnswer, temporal::Error> {
    Ok(match request {
        WorkerRequest::Describe(name) => WorkerAnswer::Versions(temporal.describe_worker_deployment(&name).await?),
        WorkerRequest::Polling(deployment, queue) => {
            WorkerAnswer::Polling(temporal.polling_builds(&deployment, &queue).await?)
        }
        WorkerRequest::SetCurrent(version, token) => {
            temporal.set_current_version(&version, &token).await?;
            WorkerAnswer::Done
        }
        WorkerRequest::UnsetCurrent(deployment, token) => {
            temporal.unset_current_version(&deployment, &token).await?;
            WorkerAnswer::Done
        }
        WorkerRequest::Backlog(version) => WorkerAnswer::Count(temporal.backlog(&version).await?),
        WorkerRequest::CountOpenRuns(versions) => WorkerAnswer::Count(temporal.count_open_runs(&versions).await?),
        WorkerRequest::RemoveVersion(version) => {
            temporal.delete_worker_version(&version).await?;
            WorkerAnswer::Done
        }
        WorkerRequest::RemoveDeployment(name) => {
            temporal.delete_worker_deployment(&name).await?;
            WorkerAnswer::Done
        }
        WorkerRequest::Retention => WorkerAnswer::Retention(temporal.retention().await?),
        _ => unreachable!("`call` sends requests of Temporal only"),
    })
}
