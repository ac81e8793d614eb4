//! What was deleted while nobody watched: registry rows and own schedules of Connectors that are gone (R11).
//! Marks rows as removed, which is reversible; never touches canonical rows (`purge` does, where it was asked for), nor
//! schedules that no row leads to (`census` does).

use std::{sync::Arc, time::Duration};

use super::{
    connector::remove::{Gone, Remove},
    context::Context,
    error::Error,
    live_world::{STORE_BULK_DEADLINE, STORE_DEADLINE, store_deadline},
    outcome::{Note, Outcome},
    purge,
    world::{Kind, ObjectKey, drive},
};
use crate::{health::Pulse, store::ProjectedConnector};

/// A fleet may shrink by this many at once without a question (R11) …
const MANY: usize = 20;
/// … or by this share, in percent.
const MANY_PERCENT: usize = 5;
/// First pause after a sweep or an attempt to follow a deletion that failed …
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … and the longest.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pass beats between its calls, of which a purge is the longest.
const PASS: Duration = STORE_BULK_DEADLINE;

/// Why a pass removes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicious {
    /// The watch shows no Connector at all, the registry some: more likely the view is wrong than all were deleted.
    NothingInView,
    /// More than the limit are gone at once.
    TooMany,
}

/// Rows whose CR is gone. Pure.
///
/// # Errors
/// `Suspicious` when so much is gone that a person should look.
pub fn orphans(
    rows: Vec<ProjectedConnector>,
    watches: impl Fn(&str) -> bool,
    exists: impl Fn(&ProjectedConnector) -> bool,
    in_view: usize,
) -> Result<Vec<ProjectedConnector>, Suspicious> {
    let rows: Vec<_> =
        rows.into_iter().filter(|row| row.removed_at.is_none() && watches(&row.owner.namespace)).collect();
    let total = rows.len();
    let gone: Vec<_> = rows.into_iter().filter(|row| !exists(row)).collect();
    if !gone.is_empty() && in_view == 0 {
        return Err(Suspicious::NothingInView);
    }
    if is_too_many(gone.len(), total) {
        return Err(Suspicious::TooMany);
    }
    Ok(gone)
}

/// Whether so many of so many are more than may be removed without a question (R11).
pub(super) fn is_too_many(gone: usize, total: usize) -> bool {
    gone > MANY.max(total * MANY_PERCENT / 100)
}

/// Sweeps at the start and every resync.
pub async fn keep(context: Arc<Context>) {
    context.fleet.ready().await;
    let pulse = context.liveness.pulse("sweep", context.resync.max(PASS));
    let mut told = false;
    let mut pause = FIRST_PAUSE;
    loop {
        pulse.beat();
        let mut rest = context.resync;
        match pass(&pulse, &context).await {
            Ok(()) => (told, pause) = (false, FIRST_PAUSE),
            Err(Refused::Suspicious(why)) if !told => {
                told = true;
                let message = match why {
                    Suspicious::NothingInView => {
                        "no Connector is in view, but the store knows some: nothing is removed; check CRDs, kubeconfig and watched namespaces"
                    }
                    Suspicious::TooMany => {
                        "more Connectors are gone at once than may be removed without a question: nothing is removed; delete them one by one or check watched namespaces"
                    }
                };
                tracing::error!("{message}");
                context.announcer.about_operator(Note::warning("SweepSuspicious", "Sweep", message));
            }
            Err(Refused::Suspicious(_)) => {}
            // At the start Temporal may not be connected yet: what was deleted meanwhile does not wait for the next resync.
            Err(Refused::Failed(error)) => {
                tracing::debug!(%error, "sweep not finished; the next one goes on");
                rest = rest.min(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::time::sleep(rest).await;
    }
}

/// Why a pass was not finished.
#[derive(Debug)]
pub enum Refused {
    /// A person should look.
    Suspicious(Suspicious),
    /// A dependency is away.
    Failed(Error),
}

/// One pass over the registry.
///
/// # Errors
/// `Refused`; what was begun is gone on with by the next pass.
pub async fn pass(pulse: &Pulse, context: &Context) -> Result<(), Refused> {
    let cluster_id = &context.installation.cluster_id;
    let rows = store_deadline(STORE_DEADLINE, context.store.projected_connectors(cluster_id)).await;
    let rows = rows.map_err(|error| Refused::Failed(Error::Store(error)))?;
    let fleet = &context.fleet;
    let in_view = fleet.count(Kind::Connector);
    let exists = |row: &ProjectedConnector| fleet.has_connector(&row.owner.namespace, &row.owner.name, &row.tenant_id);
    let gone = orphans(rows.clone(), |namespace| fleet.watches(namespace), exists, in_view);
    for row in gone.map_err(Refused::Suspicious)? {
        let key = ObjectKey {
            kind: Kind::Connector,
            namespace: row.owner.namespace.clone(),
            name: row.owner.name.clone(),
            uid: row.uid.clone(),
        };
        tracing::info!(object = %key, "gone while nobody watched; its registry row is marked removed");
        pulse.beat();
        let gone = Gone { key, tenant_id: row.tenant_id, connector_id: row.connector_id };
        let outcome = drive(&context.world, Remove::new(gone, context.installation.clone())).await;
        if let Some(error) = outcome.failed {
            return Err(Refused::Failed(error));
        }
    }
    purge::pass(&rows, pulse, context).await.map_err(Refused::Failed)
}

/// Follows one deletion that the watch saw, until it is done or such an object exists again: a name may come back for another tenant.
pub async fn follow(gone: Gone, context: Arc<Context>) {
    context.memory.forget(&gone.key);
    let mut pause = FIRST_PAUSE;
    while let Err(error) = attempt(&gone, &context).await {
        tracing::debug!(object = %gone.key, %error, "deletion not followed yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One attempt to follow a deletion; nothing is left to do where such an object exists again.
///
/// # Errors
/// When a dependency is away: try again.
pub async fn attempt(gone: &Gone, context: &Context) -> Result<(), Error> {
    let key = &gone.key;
    if context.fleet.has_connector(&key.namespace, &key.name, &gone.tenant_id) {
        return Ok(());
    }
    let Outcome { failed, .. } = drive(&context.world, Remove::new(gone.clone(), context.installation.clone())).await;
    if let Some(error) = failed {
        return Err(error);
    }
    tracing::info!(object = %key, "deleted; its registry row is marked removed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    fn rows(count: usize) -> Vec<ProjectedConnector> {
        (0..count)
            .map(|number| ProjectedConnector {
                tenant_id: "acme".parse().expect("id"),
                connector_id: format!("c{number}").parse().expect("id"),
                owner: Owner { cluster_id: String::new(), namespace: "acme".to_owned(), name: format!("c{number}") },
                uid: "1".to_owned(),
                generation: 1,
                removed_at: None,
                data_policy: crate::model::config::DataPolicy::Retain,
            })
            .collect()
    }

    fn swept(count: usize, gone: usize) -> Result<usize, Suspicious> {
        let exists = |row: &ProjectedConnector| row.owner.name[1..].parse::<usize>().expect("number") >= gone;
        orphans(rows(count), |_| true, exists, count - gone).map(|gone| gone.len())
    }

    #[test]
    fn a_few_are_swept_many_at_once_are_not() {
        assert_eq!(swept(100, 3), Ok(3));
        assert_eq!(swept(100, 21), Err(Suspicious::TooMany));
        assert_eq!(swept(1_000, 50), Ok(50));
        assert_eq!(swept(1_000, 51), Err(Suspicious::TooMany));
    }

    #[test]
    fn an_empty_view_sweeps_nothing_and_other_namespaces_are_left_alone() {
        assert_eq!(swept(2, 2), Err(Suspicious::NothingInView));
        assert_eq!(orphans(rows(5), |_| false, |_| false, 1).map(|gone| gone.len()), Ok(0));
        let mut removed = rows(1);
        removed[0].removed_at = Some("2026-11-23T01:00:00Z".parse().expect("timestamp"));
        assert_eq!(orphans(removed, |_| true, |_| false, 1).map(|gone| gone.len()), Ok(0));
    }
}
