//! Deletes the rows of Connectors that are gone and asked for it (`dataPolicy: Delete`), after a grace, a few at a time
//! (R11). Marking a Connector as gone is `sweep`'s; nothing without that word is ever deleted.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    context::Context,
    error::Error,
    live_world::{STORE_BULK_DEADLINE, store_deadline},
};
use crate::{
    error_class::Class,
    health::Pulse,
    metrics::Removal,
    model::config::DataPolicy,
    store::{self, ProjectedConnector},
};

/// Connectors whose purge may go on in one pass.
const AT_ONCE: usize = 20;
/// Calls for one connector in one pass, ten thousand rows each: the rest is left to the next pass.
const CALLS: usize = 1_000;

/// Rows of the registry whose data is to be deleted now, the longest gone first. Pure.
#[must_use]
pub fn due(
    rows: &[ProjectedConnector],
    watches: impl Fn(&str) -> bool,
    exists: impl Fn(&ProjectedConnector) -> bool,
    grace: Duration,
    now: Timestamp,
) -> Vec<ProjectedConnector> {
    let long_gone = |row: &&ProjectedConnector| {
        let gone_for = row.removed_at.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
        gone_for.is_some_and(|gone_for| gone_for >= grace)
    };
    let wanted = |row: &&ProjectedConnector| row.data_policy == DataPolicy::Delete && watches(&row.owner.namespace);
    let mut due: Vec<_> = rows.iter().filter(wanted).filter(long_gone).filter(|row| !exists(row)).cloned().collect();
    due.sort_by_key(|row| row.removed_at);
    due.truncate(AT_ONCE);
    due
}

/// Purges what is due of the registry as just read.
///
/// # Errors
/// The store's; the next pass goes on where this one ended.
pub async fn pass(rows: &[ProjectedConnector], pulse: &Pulse, context: &Context) -> Result<(), Error> {
    let fleet = &context.fleet;
    let exists = |row: &ProjectedConnector| fleet.has_connector(&row.owner.namespace, &row.owner.name, &row.tenant_id);
    for row in due(rows, |namespace| fleet.watches(namespace), exists, context.purge_grace, context.world.now()) {
        purge(&row, pulse, context).await?;
    }
    Ok(())
}

async fn purge(row: &ProjectedConnector, pulse: &Pulse, context: &Context) -> Result<(), Error> {
    let (tenant, connector) = (&row.tenant_id, &row.connector_id);
    for _ in 0..CALLS {
        pulse.beat();
        let purged = store_deadline(STORE_BULK_DEADLINE, context.store.purge_connector(tenant, connector)).await;
        context.leadership.heed(&purged);
        let purged = match purged {
            Err(store::Error::NotLeader) => return Err(Error::Store(store::Error::NotLeader)),
            // It came back while it was purged: it reads everything again.
            Err(error) if error.class() == Class::Conflict || error.class() == Class::Invalid => {
                tracing::warn!(%tenant, %connector, %error, "purge left off");
                return Ok(());
            }
            purged => purged.map_err(Error::Store)?,
        };
        context.metrics.removed.get_or_create(&Removal { kind: "purged" }).inc_by(purged.rows);
        if purged.done {
            tracing::info!(%tenant, %connector, "deleted long enough ago: its rows are purged, as its dataPolicy says");
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn gone(name: &str, removed_at: Option<&str>, data_policy: DataPolicy) -> ProjectedConnector {
        ProjectedConnector {
            tenant_id: "acme".parse().expect("id"),
            connector_id: name.parse().expect("id"),
            owner: Owner { cluster_id: String::new(), namespace: "acme".to_owned(), name: name.to_owned() },
            uid: "1".to_owned(),
            generation: 1,
            removed_at: removed_at.map(at),
            data_policy,
        }
    }

    fn names(rows: &[ProjectedConnector], watched: bool, exists: bool) -> Vec<String> {
        let due = due(rows, |_| watched, |_| exists, DAY, at("2026-11-23T12:00:00Z"));
        due.into_iter().map(|row| row.owner.name).collect()
    }

    #[test]
    fn only_what_asked_for_it_is_gone_for_the_whole_grace_and_does_not_exist_is_due() {
        let (long_ago, just_now) = (Some("2026-11-22T12:00:00Z"), Some("2026-11-22T12:00:01Z"));
        let rows = [
            gone("due", long_ago, DataPolicy::Delete),
            gone("earlier", Some("2026-11-01T00:00:00Z"), DataPolicy::Delete),
            gone("retained", long_ago, DataPolicy::Retain),
            gone("in-grace", just_now, DataPolicy::Delete),
            gone("there", None, DataPolicy::Delete),
        ];
        assert_eq!(names(&rows, true, false), ["earlier", "due"]);
        assert!(names(&rows, false, false).is_empty(), "another operator's namespace");
        assert!(names(&rows, true, true).is_empty(), "it came back and is not projected yet");
    }

    #[test]
    fn a_pass_purges_a_few_connectors_only() {
        let name = |number: usize| format!("c{number}");
        let rows: Vec<_> =
            (0..50).map(|number| gone(&name(number), Some("2026-11-01T00:00:00Z"), DataPolicy::Delete)).collect();
        assert_eq!(names(&rows, true, false).len(), AT_ONCE);
    }
}
