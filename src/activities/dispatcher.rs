//! The dispatcher (seed): from (tenant, connector) to the connector-specific source, its credential opened and checked.
//! The one place where a worker holds a secret in the clear; it never leaves the source that is opened with it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use temporalio_sdk::activities::ActivityError;

use super::{Activities, attempt::Attempt, failure};
use crate::{
    clock,
    connectors::{
        Source,
        budget::{Budget, Grant, Key, Limit},
        registry::{self, Opening},
    },
    contract::{activities::AuthenticateInput, failures, workflows::ConnectionStatus},
    credentials::{Envelope, TokenStore, seal},
    error_class::Class,
    ids::{ConnectorId, TenantId},
    model::pseudonym::PseudonymKey,
    store::{ConnectionFound, ConnectorRecord, Store},
};

/// A connector ready to be read.
pub(super) struct Opened {
    /// As the store has it now.
    pub(super) record: ConnectorRecord,
    /// Its source.
    pub(super) source: Box<dyn Source>,
}

/// Why a connector could not be opened, and the credential revision to blame, if any.
pub(super) struct Refused {
    failure: ActivityError,
    /// What a check records: the revision and the reason; `None` when the connector itself is the problem.
    found: Option<(i64, ConnectionFound)>,
}

impl Refused {
    fn plain(failure: ActivityError) -> Self {
        Self { failure, found: None }
    }

    fn credential(record: &ConnectorRecord, status: Option<ConnectionStatus>, failure: ActivityError) -> Self {
        let found = ConnectionFound { status, reason: failure::text(&failure), account_id: None };
        Self { failure, found: Some((record.credential_revision, found)) }
    }

    pub(super) fn into_failure(self) -> ActivityError {
        self.failure
    }

    /// Records the refusal where the operator reads it, and gives the failure back.
    pub(super) async fn record(
        self,
        activities: &Activities,
        attempt: Attempt,
        input: &AuthenticateInput,
    ) -> ActivityError {
        if let Some((revision, found)) = &self.found {
            let (tenant, connector) = (&input.tenant_id, &input.connector_id);
            let set = || activities.store.set_connection(tenant, connector, *revision, found);
            if let Err(error) = attempt.patiently(set).await {
                return failure::of_store(error);
            }
        }
        self.failure
    }
}

/// Reads the connector, opens its credential, checks what it is for (R14) and opens the source. Sends nothing.
pub(super) async fn open(
    activities: &Activities,
    attempt: Attempt,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Opened, Refused> {
    let record = attempt.patiently(|| activities.store.connector(tenant, connector)).await;
    let record = record.map_err(|error| Refused::plain(failure::of_store(error)))?.ok_or_else(|| {
        let text = format!("no connector {connector} of tenant {tenant}: it was never applied, or was deleted");
        Refused::plain(failure::failure_text(failures::INVALID_INPUT, text))
    })?;
    let envelope = open_credential(activities, &record, tenant, connector)?;
    let opening = Opening {
        tenant: tenant.clone(),
        connector: connector.clone(),
        config: record.config.clone(),
        account_id: record.account_id.clone(),
        envelope,
        credential_revision: record.credential_revision,
        tokens: Arc::clone(&activities.store) as Arc<dyn TokenStore>,
        budget: Arc::clone(&activities.budget) as Arc<dyn Budget>,
        http: activities.http.clone(),
        opener: activities.opener.clone(),
        pseudonym_key: PseudonymKey::of(&activities.installation_id, tenant),
    };
    match registry::open(opening) {
        Ok(source) => Ok(Opened { record, source }),
        Err(error) => Err(Refused::credential(&record, None, failure::of_source(error))),
    }
}

fn open_credential(
    activities: &Activities,
    record: &ConnectorRecord,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Envelope, Refused> {
    let disconnected = Some(ConnectionStatus::Disconnected);
    let Some(credential) = &record.credential else {
        let failure = failure::failure_text(failures::UNAUTHORISED, "no credential has been projected yet".to_owned());
        return Err(Refused::credential(record, None, failure));
    };
    let opened = activities.opener.open(&credential.sealed).and_then(|envelope| {
        envelope.check(tenant, connector, &registry::host(&record.config.source))?;
        Ok(envelope)
    });
    opened.map_err(|error: seal::Error| {
        // A key that this worker lacks says nothing of the credential: keys are being rotated, or this is another pool's.
        let status = if matches!(error, seal::Error::NoIdentity(_)) { None } else { disconnected };
        Refused::credential(record, status, failure::of_seal(error))
    })
}

/// The budget shared through the store.
pub(super) struct StoreBudget(pub(super) Arc<dyn Store>);

#[async_trait]
impl Budget for StoreBudget {
    async fn take(&self, key: &Key, limit: &Limit, want: u32) -> Result<Grant, Class> {
        self.0.take_budget(key, limit, want).await.map_err(|error| error.class())
    }

    async fn park(&self, key: &Key, wait: Duration, reason: &str) -> Result<(), Class> {
        let parked = self.0.park_budget(key, clock::now() + wait, reason).await;
        parked.map_err(|error| error.class())
    }
}
