//! Applies the workers' Deployment and watches its pods by looking every few seconds.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::sync::watch;

use super::status::Availability;
use crate::{
    metrics::Reconcile,
    operator::{
        context::Context,
        error::{Dependency, Error},
        live_world::deadline,
    },
};

/// Field manager.
const MANAGER: &str = "gtmclarity-operator/worker-deployment";
/// How often its pods are counted.
const LOOK: Duration = Duration::from_secs(5);
/// A round is two calls of 10 s at most, and a pause.
const BEAT: Duration = Duration::from_secs(30);

/// Keeps the Deployment as wanted and tells how many of its pods are ready.
pub async fn keep(
    wanted: Deployment,
    api: Api<Deployment>,
    availability: watch::Sender<Option<Availability>>,
    context: Arc<Context>,
) {
    availability.send_replace(Some(Availability::Pending));
    let pulse = context.liveness.pulse("workers", BEAT);
    let mut applied_ago = None;
    loop {
        pulse.beat();
        if applied_ago.is_none_or(|ago| ago >= context.resync) && context.leadership.is_current() {
            let applied = apply(&api, &wanted).await;
            count(&applied, &context);
            applied_ago = applied.is_ok().then_some(Duration::ZERO);
        }
        let found = deadline("get the workers' Deployment", api.get_opt(&wanted.name_any())).await;
        context.dependencies.observe(Dependency::Kubernetes, &found);
        if let Ok(found) = found {
            if found.is_none() {
                applied_ago = None;
            }
            let now = Some(Availability::of(found.as_ref()));
            availability.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        tokio::time::sleep(LOOK).await;
        applied_ago = applied_ago.map(|ago| ago + LOOK);
    }
}

async fn apply(api: &Api<Deployment>, wanted: &Deployment) -> Result<Deployment, Error> {
    let params = PatchParams::apply(MANAGER).force();
    deadline("apply the workers' Deployment", api.patch(&wanted.name_any(), &params, &Patch::Apply(wanted))).await
}

fn count(applied: &Result<Deployment, Error>, context: &Context) {
    context.dependencies.observe(Dependency::Kubernetes, applied);
    let result = applied.as_ref().err().map_or("Success", |error| error.class().name());
    context.metrics.reconciles.get_or_create(&Reconcile { kind: "WorkerDeployment", result }).inc();
    if let Err(error) = applied {
        tracing::warn!(%error, "the workers' Deployment was not applied; it is tried again");
    }
}
