//! Keeps the links to Temporal and the store: connects in its own time, writes the installation marker, and probes what is
//! down, so that recovery is noticed within seconds and not at the end of the longest back-off.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    context::Context,
    dependencies::Dependencies,
    error::{Dependency, Error},
};
use crate::{
    settings::TemporalSettings,
    temporal::{self, Temporal},
};

/// How often a dependency that is down is probed.
const PROBE: Duration = Duration::from_secs(2);

/// Connects to Temporal and stays at it. The slot is filled only while the namespace is ours (R17).
///
/// # Errors
/// Only what waiting does not mend (the address).
pub async fn keep_temporal(
    settings: TemporalSettings,
    slot: watch::Sender<Option<Temporal>>,
    context: Arc<Context>,
) -> Result<(), temporal::Error> {
    let identity = format!("gtm-sync-operator@{}", std::process::id());
    let dependencies = context.dependencies.clone();
    let waiting = |error: &temporal::Error, _| {
        dependencies.down(Dependency::Temporal, &Error::Temporal(error.clone()));
    };
    let temporal = Temporal::connect_patiently(&settings, &identity, waiting).await?;
    let mut refused = false;
    let mut rested = Duration::ZERO;
    loop {
        if !slot.borrow().is_some() || context.dependencies.is_down(Dependency::Temporal) || rested >= context.resync {
            rested = Duration::ZERO;
            let marked = temporal.ensure_installation(&context.installation.id).await;
            let ours = !matches!(marked, Err(temporal::Error::AnotherInstallation { .. }));
            if let (false, Err(error)) = (ours, &marked) {
                if !refused {
                    tracing::error!(%error, "refusing to touch this Temporal namespace");
                }
                context.dependencies.down(Dependency::Temporal, &Error::Temporal(error.clone()));
                slot.send_replace(None);
            }
            refused = !ours;
            if marked.is_ok() && slot.borrow().is_none() {
                slot.send_replace(Some(temporal.clone()));
            }
            if ours {
                context.dependencies.observe(Dependency::Temporal, &marked.map_err(Error::Temporal));
            }
        }
        tokio::time::sleep(PROBE).await;
        rested += PROBE;
    }
}

/// Probes the store while it is down.
pub async fn keep_store(context: Arc<Context>) {
    loop {
        if context.dependencies.is_down(Dependency::Store) {
            let answer = context.store.schema_version().await.map_err(Error::Store);
            context.dependencies.observe(Dependency::Store, &answer);
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
