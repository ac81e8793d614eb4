//! Keeps the links to Temporal and the store: connects in its own time, writes the installation marker, and probes what is
//! down, so that recovery is noticed within seconds and not at the end of the longest back-off.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::watch;

use super::{
    context::Context,
    dependencies::Dependencies,
    error::{Dependency, Error},
    live_world::{STORE_DEADLINE, deadline, store_deadline},
};
use crate::{
    key_files::KeyFiles,
    settings::TemporalSettings,
    temporal::{self, Temporal},
};

/// How often a dependency that is down is probed.
const PROBE: Duration = Duration::from_secs(2);
/// A link beats between its calls, which have shorter deadlines, and the longest pause between two attempts to connect.
const BEAT: Duration = Duration::from_secs(30);

/// Connects to Temporal and stays at it. The slot is filled only while the namespace is ours (R17).
///
/// # Errors
/// Only what waiting does not mend (the settings).
pub async fn keep_temporal(
    settings: TemporalSettings,
    key_files: KeyFiles,
    slot: watch::Sender<Result<Temporal, temporal::Error>>,
    context: Arc<Context>,
) -> Result<(), temporal::Error> {
    let identity = format!("gtm-sync-operator@{}", std::process::id());
    let dependencies = context.dependencies.clone();
    let pulse = context.liveness.pulse("link to Temporal", BEAT);
    let waiting = |error: &temporal::Error, _| {
        pulse.beat();
        dependencies.down(Dependency::Temporal, &Error::Temporal(error.clone()));
        slot.send_modify(|slot| *slot = Err(error.clone()));
    };
    let temporal = Temporal::connect_patiently(&settings, &identity, &key_files, waiting).await?;
    let mut marked_ago = None;
    loop {
        pulse.beat();
        let due = marked_ago.is_none_or(|ago| ago >= context.resync);
        if due || context.dependencies.is_down(Dependency::Temporal) {
            let marked = temporal.ensure_installation(&context.installation.id).await;
            fill(&slot, &temporal, &marked);
            // Restarted empty: every schedule is gone, too. (At our own first start there is none to miss.)
            if marked == Ok(true) && marked_ago.is_some() {
                tracing::warn!("the installation marker was missing; every schedule is looked at again");
                context.fleet.trigger_all();
            }
            if marked.is_ok() {
                marked_ago = Some(Duration::ZERO);
            }
            context.dependencies.observe(Dependency::Temporal, &marked.map_err(Error::Temporal));
        }
        tokio::time::sleep(PROBE).await;
        marked_ago = marked_ago.map(|ago| ago + PROBE);
    }
}

/// Lets requests through, or refuses them all. An outage is left to each request to find out.
fn fill(
    slot: &watch::Sender<Result<Temporal, temporal::Error>>,
    temporal: &Temporal,
    marked: &Result<bool, temporal::Error>,
) {
    match marked {
        Ok(_) if slot.borrow().is_err() => slot.send_modify(|slot| *slot = Ok(temporal.clone())),
        Err(error @ temporal::Error::AnotherInstallation { .. }) => {
            if slot.borrow().as_ref().err() != Some(error) {
                tracing::error!(%error, "refusing to touch this Temporal namespace");
            }
            slot.send_modify(|slot| *slot = Err(error.clone()));
        }
        _ => {}
    }
}

/// Probes the store while it is down.
pub async fn keep_store(context: Arc<Context>) {
    let pulse = context.liveness.pulse("link to the store", BEAT);
    loop {
        pulse.beat();
        if context.dependencies.is_down(Dependency::Store) {
            let answer = store_deadline(STORE_DEADLINE, context.store.schema_version()).await.map_err(Error::Store);
            context.dependencies.observe(Dependency::Store, &answer);
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// Probes the Kubernetes API while it is down.
pub async fn keep_kubernetes(client: Client, context: Arc<Context>) {
    let pulse = context.liveness.pulse("link to the Kubernetes API", BEAT);
    loop {
        pulse.beat();
        if context.dependencies.is_down(Dependency::Kubernetes) {
            let answer = deadline("tell its version", client.apiserver_version()).await;
            context.dependencies.observe(Dependency::Kubernetes, &answer);
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// Wakes every object that backs off, whenever a dependency is back.
pub async fn wake_after_recovery(dependencies: Dependencies, context: Arc<Context>) {
    let mut recoveries = dependencies.recoveries();
    while recoveries.changed().await.is_ok() {
        for key in context.back_off.wake() {
            context.fleet.trigger(&key);
        }
    }
}
