//! `resolve`: which workers serve a connector. A local activity of the shared workers: one look at the store, no rights, no
//! secret, no wait (R22, R41).

use temporalio_sdk::activities::ActivityError;

use super::{Activities, failure};
use crate::{
    contract::{
        TASK_QUEUE,
        activities::{ResolveInput, ResolveResult},
        dedicated_queue,
    },
    store::{Pool, Route},
};

/// Reads only.
pub(super) async fn run(activities: &Activities, input: &ResolveInput) -> Result<ResolveResult, ActivityError> {
    let route = activities.store.route(&input.tenant_id, &input.connector_id).await.map_err(failure::of_store)?;
    Ok(decided(&route, &dedicated_queue(&input.tenant_id), |key_id| activities.opener.knows(key_id)))
}

/// Tokens that were refreshed where the tenant was before are sealed anew there: by the shared workers, who ask here and know
/// their keys, or by its own. An older key of the same workers is no reason: they hold it until nothing is sealed with it.
fn decided(route: &Route, own_queue: &str, is_ours: impl Fn(&str) -> bool) -> ResolveResult {
    let own = (route.pool == Pool::Dedicated).then(|| own_queue.to_owned());
    let reseal_on = route.reseal().and_then(|(key_id, _)| match (route.pool, is_ours(key_id)) {
        (Pool::Dedicated, true) => Some(TASK_QUEUE.to_owned()),
        (Pool::Left, false) => Some(own_queue.to_owned()),
        _ => None,
    });
    ResolveResult { task_queue: own, reseal_on }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pool: Pool, overlay: Option<&str>) -> (Option<String>, Option<String>) {
        let route = Route {
            pool,
            credential_revision: 1,
            credential_key: Some(if pool == Pool::Dedicated { "own" } else { "shared" }.to_owned()),
            overlay_key: overlay.map(str::to_owned),
        };
        let ResolveResult { task_queue, reseal_on } =
            decided(&route, "connector-sync-acme", |key_id| key_id.starts_with("shared"));
        (task_queue, reseal_on)
    }

    #[test]
    fn a_dedicated_tenant_is_sent_to_its_queue_and_everybody_else_to_the_shared_one() {
        let own = || Some("connector-sync-acme".to_owned());
        assert_eq!(asked(Pool::Shared, None), (None, None));
        assert_eq!(asked(Pool::Shared, Some("shared")), (None, None));
        assert_eq!(asked(Pool::Dedicated, Some("own")), (own(), None));
        assert_eq!(asked(Pool::Left, Some("shared")), (None, None));
    }

    #[test]
    fn tokens_of_the_former_workers_are_sealed_anew_by_them() {
        let (own, shared) = (|| Some("connector-sync-acme".to_owned()), || Some(TASK_QUEUE.to_owned()));
        assert_eq!(asked(Pool::Dedicated, Some("shared")), (own(), shared()), "moves in");
        assert_eq!(asked(Pool::Left, Some("own")), (None, own()), "moves out");
        assert_eq!(asked(Pool::Shared, Some("shared-before")), (None, None), "rotated: they still hold it");
        assert_eq!(asked(Pool::Left, Some("shared-before")), (None, None));
        assert_eq!(asked(Pool::Dedicated, Some("own-before")), (own(), None));
        assert_eq!(asked(Pool::Shared, Some("lost")), (None, None), "nobody else could have it: `authenticate` tells");
    }
}
