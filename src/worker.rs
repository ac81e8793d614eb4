//! The worker process: connects, checks that store and Temporal belong together, registers workflows and activities,
//! polls, drains on SIGTERM. Decides nothing about syncs.

mod recycling;

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use temporalio_common::worker::{VersioningBehavior, WorkerDeploymentOptions, WorkerDeploymentVersion};
use temporalio_sdk::{
    Runtime, Worker, WorkerOptions,
    runtime::{
        RuntimeOptions, WorkflowErrorType,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use tokio::sync::{RwLock, watch};

use self::recycling::Recycling;
use crate::{
    activities::{Activities, shared_budget},
    connectors::http::{AllowedHosts, HttpClient, HttpSettings},
    contract::{TASK_QUEUE, dedicated_queue},
    credentials::Opener,
    health::{self, Liveness, Readiness},
    ids::Names,
    key_files::KeyFiles,
    metrics::Metrics,
    settings::WorkerSettings,
    store::{self, SCHEMA_VERSIONS, Store},
    temporal::{self, Temporal},
    workflows::{CheckConnection, ConnectorSync, ScheduledSync},
};

/// Pause between looks at a dependency that the worker waits for before it polls.
const RECHECK: Duration = Duration::from_secs(2);
/// Runs kept in memory between their workflow tasks; a run evicted is replayed whole (R41: at least 500).
const CACHED_WORKFLOWS: usize = 1_000;

/// Runs a worker until `stop` becomes true and its activities have ended, or the drain time is over.
///
/// # Errors
/// When a setting is wrong, store and Temporal namespace belong to different installations, or the SDK ends the worker.
pub async fn run(settings: WorkerSettings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let readiness = Readiness::new(metrics.clone());
    let health =
        health::serve(settings.health.health_address, Liveness::default(), readiness.clone(), metrics.registry());
    let health = tokio::spawn(health);
    let key_files = KeyFiles::new(readiness.clone(), metrics.clone());
    let (drain, draining) = watch::channel(false);
    tokio::spawn(follow(stop, drain.clone()));
    let mut drained = draining.clone();
    let work = async {
        temporal::Plan::of(&settings.temporal)?;
        let opener = Opener::from_file(&settings.identity_file, &key_files).await?;
        let http = HttpClient::new(source_settings(&settings).await?).context("HTTP client for sources")?;
        let store = ready_store(&settings, &key_files, &readiness).await?;
        let (temporal, installation_id) = ready_temporal(&settings, &key_files, &readiness, store.as_ref()).await?;
        let activities = Activities {
            installation_id,
            budget: shared_budget(&store),
            store,
            temporal: temporal.clone(),
            pool: settings.pool.clone(),
            opener,
            recipients: settings.recipients_directory.clone(),
            http,
            names: Names::new(settings.temporal.cluster_id.as_deref()),
            tenant_syncs: settings.tenant_share(),
            metrics,
            draining,
            company: RwLock::default(),
        };
        poll(&settings, &temporal, activities, drain).await
    };
    tokio::select! {
        served = health => anyhow::bail!("health server on {}: {served:?}", settings.health.health_address),
        // Before polling there is nothing to drain; `poll` sees `stop` by itself and gets its drain time.
        () = over_time(&mut drained, settings.drain_seconds) => Ok(()),
        () = key_files.clone().keep() => Ok(()),
        done = work => done,
    }
}

async fn follow(mut stop: watch::Receiver<bool>, drain: watch::Sender<bool>) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        drain.send_replace(true);
    }
}

/// Completes when the drain time is over.
async fn over_time(drained: &mut watch::Receiver<bool>, drain_seconds: u64) {
    if drained.wait_for(|drained| *drained).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_secs(drain_seconds + 5)).await;
    tracing::warn!("drain time is over, leaving; unfinished activities are retried elsewhere");
}

async fn source_settings(settings: &WorkerSettings) -> anyhow::Result<HttpSettings> {
    let allowed = AllowedHosts::parse(&settings.allowed_private_hosts).context("--allowed-private-hosts")?;
    let extra_ca_pem = match &settings.source_ca_file {
        Some(path) => Some(tokio::fs::read(path).await.with_context(|| format!("read {}", path.display()))?),
        None => None,
    };
    Ok(HttpSettings { allowed_private_hosts: allowed, extra_ca_pem, ..HttpSettings::default() })
}

/// Waits until the store answers and the operator has brought its schema into this build's range (R25).
async fn ready_store(
    settings: &WorkerSettings,
    key_files: &KeyFiles,
    readiness: &Readiness,
) -> anyhow::Result<Arc<dyn Store>> {
    loop {
        let state = match store::open_with(&settings.store, key_files).await {
            Ok(store) => match store.schema_version().await {
                Ok(version) if SCHEMA_VERSIONS.contains(&version) => {
                    readiness.set("store", Ok(()));
                    return Ok(store);
                }
                Ok(version) => format!("schema version {version}, this build works with {SCHEMA_VERSIONS:?}"),
                Err(error) => error.to_string(),
            },
            Err(error @ store::Error::Url) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if readiness.set("store", Err(state.clone())) {
            tracing::warn!(state, "waiting for the store");
        }
        tokio::time::sleep(RECHECK).await;
    }
}

/// Waits for Temporal, and for the operator's marker that says to which store the namespace belongs (R17, R51).
/// Gives the installation id, which store and marker agree on.
async fn ready_temporal(
    settings: &WorkerSettings,
    key_files: &KeyFiles,
    readiness: &Readiness,
    store: &dyn Store,
) -> anyhow::Result<(Temporal, String)> {
    let pool = settings.pool.as_ref().map(|tenant| format!("-{tenant}")).unwrap_or_default();
    let identity = format!("gtm-sync-worker{pool}@{}", std::process::id());
    let temporal = Temporal::connect_patiently(&settings.temporal, &identity, key_files, |error, _| {
        if readiness.set("temporal", Err(error.to_string())) {
            tracing::warn!(%error, "waiting for Temporal");
        }
    });
    let temporal = temporal.await?;
    loop {
        let installation_id = match store.installation_id().await {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%error, "waiting for the store");
                tokio::time::sleep(RECHECK).await;
                continue;
            }
        };
        let state = match temporal.check_installation(&installation_id).await {
            Ok(crate::temporal::Installation::Ours) => {
                readiness.set("temporal", Ok(()));
                return Ok((temporal, installation_id));
            }
            Ok(crate::temporal::Installation::Unmarked) => "namespace not yet marked by the operator".to_owned(),
            Err(error @ crate::temporal::Error::AnotherInstallation { .. }) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if readiness.set("temporal", Err(state.clone())) {
            tracing::warn!(state, "waiting for Temporal");
        }
        tokio::time::sleep(RECHECK).await;
    }
}

/// Registers everything, or for a dedicated pool the activities alone, and polls until `activities.draining` and the drain time
/// after it. `drain` is told when this process has done its number of activities.
///
/// # Errors
/// When the SDK ends the worker.
pub async fn poll(
    settings: &WorkerSettings,
    temporal: &Temporal,
    activities: Activities,
    drain: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let runtime = Runtime::from_current_tokio(RuntimeOptions::default()).context("Temporal runtime")?;
    let mut draining = activities.draining.clone();
    let slots = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(settings.max_concurrent_workflows))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.max_concurrent_activities))
        // `resolve`, of which a workflow task has one at a time.
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(settings.max_concurrent_workflows))
        // Registered with none; the SDK wants a number all the same.
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let queue = settings.pool.as_ref().map_or_else(|| TASK_QUEUE.to_owned(), dedicated_queue);
    let options = WorkerOptions::new(queue.clone())
        .maybe_deployment_options(versioned(settings))
        .tuner(slots)
        .max_cached_workflows(CACHED_WORKFLOWS)
        .graceful_shutdown_period(Duration::from_secs(settings.drain_seconds))
        // A nondeterministic run fails instead of blocking its connector: the store holds its place (R21).
        .workflow_failure_errors(HashSet::from([WorkflowErrorType::Nondeterminism]))
        .register_activities(activities)
        .activity_inbound_interceptor(Recycling::after(settings.recycle_after_activities, drain));
    // Workflows always run on the shared queue (R22).
    let options = match &settings.pool {
        Some(_) => options,
        None => options
            .register_workflow::<ConnectorSync>()?
            .register_workflow::<ScheduledSync>()?
            .register_workflow::<CheckConnection>()?,
    };
    let mut worker = Worker::new(&runtime, temporal.sdk_client()?, options.build()).context("start the worker")?;
    let shut_down = worker.shutdown_handle();
    tokio::spawn(async move {
        if draining.wait_for(|stop| *stop).await.is_ok() {
            tracing::info!("draining");
            shut_down();
        }
    });
    tracing::info!(queue, build = settings.build_id, "polling");
    worker.run().await.context("worker")?;
    Ok(())
}

/// With a build of its own a run stays with the build that began it, so that no code of another one ever replays it;
/// without one (processes by hand, tests) any worker takes any run.
fn versioned(settings: &WorkerSettings) -> Option<WorkerDeploymentOptions> {
    let (deployment, build) = (settings.worker_deployment.as_ref()?, settings.build_id.as_ref()?);
    let version = WorkerDeploymentVersion::builder().deployment_name(deployment).build_id(build).build();
    let options = WorkerDeploymentOptions::new(version).use_worker_versioning(true);
    Some(options.default_versioning_behavior(VersioningBehavior::Pinned).build())
}
