//! `listConnectedConnectors`: what a tick has to start, and how long it may wait.

use temporalio_sdk::activities::ActivityError;

use super::{Activities, attempt::Attempt, failure};
use crate::contract::activities::{ListConnectedInput, ListConnectedResult, ListedConnector};

/// Reads only.
pub(super) async fn run(
    activities: &Activities,
    attempt: Attempt,
    input: &ListConnectedInput,
) -> Result<ListConnectedResult, ActivityError> {
    let tenant = &input.tenant_id;
    let listing = attempt.patiently(|| activities.store.list_connected(tenant)).await.map_err(failure::of_store)?;
    let connectors = listing.connectors.into_iter().map(|(connector_id, own_schedule)| ListedConnector {
        workflow_id_base: activities.names.connector_schedule(tenant, &connector_id),
        connector_id,
        own_schedule,
    });
    Ok(ListConnectedResult { connectors: connectors.collect(), wait_seconds: listing.wait_seconds.map(u64::from) })
}
