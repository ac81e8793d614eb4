//! What was deleted while nobody watched: registry rows of Connectors that are gone (R11). Marks them as removed, which is
//! reversible; never touches canonical rows (`purge` does, where it was asked for), nor schedules (`census` does).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::Resource as _;

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

/// Why a pass marks less than it found missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicious {
    /// The watch shows no Connector at all, the registry some: more likely the view is wrong than all were deleted.
    NothingInView,
    /// More than the limit went at once.
    TooMany,
}

/// Since when rows are seen without their object, by uid. A restart begins anew.
#[derive(Debug, Default)]
pub struct Missing(HashMap<String, Timestamp>);

/// What a pass does.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be marked.
    pub gone: Vec<ProjectedConnector>,
    /// What a person should look at.
    pub suspicious: Option<Suspicious>,
}

impl Missing {
    /// Rows whose object is gone. Of more than may go at once only those are marked that have been missing for the grace: a
    /// cluster that is being rebuilt has its objects by then, and who deleted them need not come back to say so. The last one
    /// is always more than may go at once. Pure.
    pub fn plan(
        &mut self,
        rows: &[ProjectedConnector],
        watches: impl Fn(&str) -> bool,
        exists: impl Fn(&ProjectedConnector) -> bool,
        in_view: usize,
        grace: Duration,
        now: Timestamp,
    ) -> Plan {
        let ours = rows.iter().filter(|row| row.removed_at.is_none() && watches(&row.owner.namespace));
        let (there, gone): (Vec<_>, Vec<_>) = ours.partition(|row| exists(row));
        let uids: HashSet<_> = gone.iter().map(|row| row.uid.as_str()).collect();
        self.0.retain(|uid, _| uids.contains(uid.as_str()));
        let mut is_new = |row: &ProjectedConnector| {
            let since = *self.0.entry(row.uid.clone()).or_insert(now);
            Duration::try_from(now.duration_since(since)).unwrap_or_default() < grace
        };
        let (new, old): (Vec<_>, Vec<_>) = gone.into_iter().cloned().partition(|row| is_new(row));
        if in_view == 0 && !(new.is_empty() && old.is_empty()) {
            return Plan { gone: Vec::new(), suspicious: Some(Suspicious::NothingInView) };
        }
        if there.is_empty() && !new.is_empty() || is_too_many(new.len(), there.len() + new.len() + old.len()) {
            return Plan { gone: old, suspicious: Some(Suspicious::TooMany) };
        }
        Plan { gone: [old, new].concat(), suspicious: None }
    }
}

/// Whether so many of so many are more than may be removed without a question (R11).
pub(super) fn is_too_many(gone: usize, total: usize) -> bool {
    gone > MANY.max(total * MANY_PERCENT / 100)
}

/// Sweeps at the start and every resync.
pub async fn keep(context: Arc<Context>) {
    context.fleet.ready().await;
    let pulse = context.liveness.pulse("sweep", context.resync.max(PASS));
    let (mut missing, mut told, mut pause) = (Missing::default(), None, FIRST_PAUSE);
    loop {
        pulse.beat();
        let mut rest = context.resync;
        match pass(&mut missing, &pulse, &context).await {
            Ok(suspicious) => {
                pause = FIRST_PAUSE;
                if let Some(why) = suspicious.filter(|_| told != suspicious) {
                    let message = message(why, context.orphan_grace);
                    tracing::error!("{message}");
                    context.announcer.about_operator(Note::warning("SweepSuspicious", "Sweep", message));
                }
                told = suspicious;
            }
            // What was deleted meanwhile does not wait for the next resync.
            Err(error) => {
                tracing::debug!(%error, "sweep not finished; the next one goes on");
                rest = rest.min(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::time::sleep(rest).await;
    }
}

fn message(why: Suspicious, grace: Duration) -> String {
    match why {
        Suspicious::NothingInView => {
            "no object is in view, but the store knows Connectors: they are left as they are; check CRDs, kubeconfig and watched namespaces"
                .to_owned()
        }
        Suspicious::TooMany => format!(
            "more Connectors are gone at once than are marked removed without a question: they are left as they are for {grace:?}, and marked if they are still missing then; apply them again, or check watched namespaces"
        ),
    }
}

/// One pass over the registry; what a person should look at.
///
/// # Errors
/// When a dependency is away; what was begun is gone on with by the next pass.
pub async fn pass(missing: &mut Missing, pulse: &Pulse, context: &Context) -> Result<Option<Suspicious>, Error> {
    let cluster_id = &context.installation.cluster_id;
    let rows = store_deadline(STORE_DEADLINE, context.store.projected_connectors(cluster_id)).await;
    let rows = rows.map_err(Error::Store)?;
    let fleet = &context.fleet;
    remember(&rows, context);
    let in_view = fleet.count(Kind::Connector) + fleet.count(Kind::TenantSchedule);
    let exists = |row: &ProjectedConnector| fleet.has_connector(&row.owner.namespace, &row.owner.name, &row.tenant_id);
    let watches = |namespace: &str| fleet.watches(namespace);
    let Plan { gone, suspicious } =
        missing.plan(&rows, watches, exists, in_view, context.orphan_grace, context.world.now());
    for row in gone {
        let key = key_of(&row);
        tracing::info!(object = %key, "gone while nobody watched; its registry row is marked removed");
        pulse.beat();
        let gone = Gone { key: key.clone(), tenant_id: row.tenant_id, connector_id: row.connector_id };
        let outcome = drive(&context.world, Remove::mark(gone, context.installation.clone())).await;
        if let Some(error) = outcome.failed {
            return Err(error);
        }
        // Its next life may have been reconciled a moment before.
        fleet.trigger(&key);
    }
    // Nothing brings rows back: not while the view is in doubt.
    if suspicious != Some(Suspicious::NothingInView) {
        purge::pass(&rows, pulse, context).await?;
    }
    Ok(suspicious)
}

/// A former process projected them. Reconciles that reach the store say so themselves; a Connector that is refused before has
/// a status to be shown as well.
fn remember(rows: &[ProjectedConnector], context: &Context) {
    for row in rows {
        let key = key_of(row);
        let object = context.fleet.connector(&key.namespace, &key.name);
        if object.is_some_and(|of| of.meta().uid.as_deref() == Some(&row.uid) && of.spec.tenant_id == row.tenant_id) {
            context.memory.holds((row.tenant_id.clone(), row.connector_id.clone()), &key);
        }
    }
}

fn key_of(row: &ProjectedConnector) -> ObjectKey {
    ObjectKey {
        kind: Kind::Connector,
        namespace: row.owner.namespace.clone(),
        name: row.owner.name.clone(),
        uid: row.uid.clone(),
    }
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
    // Its next life may have been reconciled a moment before, and this schedule been taken for its own.
    context.fleet.trigger(key);
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
                uid: number.to_string(),
                generation: 1,
                removed_at: None,
                data_policy: crate::model::config::DataPolicy::Retain,
            })
            .collect()
    }

    const GRACE: Duration = Duration::from_secs(3_600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).expect("a time")
    }

    /// A pass over so many rows, of which the first `gone` have no object.
    fn swept(missing: &mut Missing, count: usize, gone: usize, now: Timestamp) -> (usize, Option<Suspicious>) {
        let exists = |row: &ProjectedConnector| row.owner.name[1..].parse::<usize>().expect("number") >= gone;
        let plan = missing.plan(&rows(count), |_| true, exists, count - gone, GRACE, now);
        (plan.gone.len(), plan.suspicious)
    }

    #[test]
    fn a_few_are_swept_many_at_once_are_not() {
        let first = |count, gone| swept(&mut Missing::default(), count, gone, at(0));
        assert_eq!(first(100, 3), (3, None));
        assert_eq!(first(100, 21), (0, Some(Suspicious::TooMany)));
        assert_eq!(first(1_000, 50), (50, None));
        assert_eq!(first(1_000, 51), (0, Some(Suspicious::TooMany)));
    }

    #[test]
    fn many_that_stay_away_are_swept_after_the_grace_and_those_that_came_back_begin_anew() {
        let mut missing = Missing::default();
        assert_eq!(swept(&mut missing, 100, 30, at(0)), (0, Some(Suspicious::TooMany)));
        assert_eq!(swept(&mut missing, 100, 25, at(3_000)), (0, Some(Suspicious::TooMany)), "five came");
        assert_eq!(swept(&mut missing, 100, 30, at(3_600)), (30, None), "25 are old, and five are few");
        assert_eq!(swept(&mut missing, 100, 60, at(3_700)), (25, Some(Suspicious::TooMany)), "35 went at once");
    }

    #[test]
    fn the_last_one_is_swept_after_the_grace_where_other_objects_are_in_view() {
        let mut missing = Missing::default();
        let mut pass = |now| {
            let plan = missing.plan(&rows(1), |_| true, |_| false, 1, GRACE, at(now));
            (plan.gone.len(), plan.suspicious)
        };
        assert_eq!(pass(0), (0, Some(Suspicious::TooMany)), "a cluster that is rebuilt may show its tenants first");
        assert_eq!(pass(3_600), (1, None));
    }

    #[test]
    fn an_empty_view_sweeps_nothing_and_other_namespaces_are_left_alone() {
        let mut missing = Missing::default();
        for now in [0, 4_000] {
            assert_eq!(swept(&mut missing, 2, 2, at(now)), (0, Some(Suspicious::NothingInView)), "however long");
        }
        let nothing = Plan { gone: Vec::new(), suspicious: None };
        let mut removed = rows(1);
        assert_eq!(missing.plan(&removed, |_| false, |_| false, 1, GRACE, at(0)), nothing);
        removed[0].removed_at = Some("2026-11-23T01:00:00Z".parse().expect("timestamp"));
        assert_eq!(missing.plan(&removed, |_| true, |_| false, 1, GRACE, at(0)), nothing);
    }
}
