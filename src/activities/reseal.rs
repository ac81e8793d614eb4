//! `reseal`: opens refreshed tokens with a key of this worker and seals them to the workers that the base credential is
//! sealed to: after a tenant got workers of its own, or left them. Nobody else could, and they are the only copy (R7).
//! The recipient comes from Kubernetes, never from the store: who can write there must not learn a token (R14).

use std::path::Path;

use temporalio_sdk::activities::ActivityError;

use super::{attempt::Attempt, failure};
use crate::{
    contract::{
        activities::{ResealInput, ResealResult},
        failures,
    },
    credentials::{Opener, RefreshLock, Sealer, recipient_name},
    error_class::Class,
    store::{Pool, Route, Store},
};

/// What it works with.
pub(super) struct Reseal<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) opener: &'a Opener,
    /// Where the recipients of all pools are mounted.
    pub(super) recipients: Option<&'a Path>,
}

impl Reseal<'_> {
    /// Seals the overlay anew, if that is needed.
    ///
    /// # Idempotency
    /// By the keys: once both are sealed alike there is nothing to do. Under the refresh lock, so that no refresh comes
    /// between reading and writing.
    pub(super) async fn run(&self, attempt: Attempt, input: &ResealInput) -> Result<ResealResult, ActivityError> {
        let (tenant, connector) = (&input.tenant_id, &input.connector_id);
        let route = attempt.patiently(|| self.store.route(tenant, connector)).await.map_err(failure::of_store)?;
        let Some((_, wanted)) = route.reseal() else { return Ok(ResealResult { resealed: false }) };
        let sealer = self.sealer(input, &route, wanted).await?;
        let lock = attempt.patiently(|| self.store.lock_refresh(tenant, connector)).await.map_err(failure::of_store)?;
        let lock = lock.ok_or_else(|| unavailable("a token is being refreshed".to_owned()))?;
        let resealed = self.locked(attempt, &lock, route.credential_revision, &sealer).await;
        if !matches!(resealed, Ok(ResealResult { resealed: true }))
            && let Err(error) = self.store.release_refresh(&lock).await
        {
            // Without this the lock ends by itself after a minute.
            tracing::warn!(%tenant, %connector, %error, "refresh lock not released");
        }
        resealed
    }

    async fn locked(
        &self,
        attempt: Attempt,
        lock: &RefreshLock,
        credential_revision: i64,
        sealer: &Sealer,
    ) -> Result<ResealResult, ActivityError> {
        let overlay = attempt.patiently(|| self.store.overlay(&lock.tenant, &lock.connector)).await;
        let overlay = overlay.map_err(failure::of_store)?.filter(|of| of.credential_revision == credential_revision);
        let Some(overlay) = overlay else { return Ok(ResealResult { resealed: false }) };
        let envelope = self.opener.open(&overlay.sealed).map_err(failure::of_seal)?;
        envelope.check_owner(&lock.tenant, &lock.connector).map_err(failure::of_seal)?;
        let sealed = sealer.seal(envelope);
        match attempt.patiently(|| self.store.save_overlay(lock, credential_revision, &sealed)).await {
            Ok(()) => {
                tracing::info!(tenant = %lock.tenant, connector = %lock.connector, "refreshed token sealed to other workers");
                Ok(ResealResult { resealed: true })
            }
            // The credential was replaced meanwhile, or an answer was lost: the next attempt looks anew.
            Err(error) if error.class() == Class::Conflict => Err(unavailable(error.to_string())),
            Err(error) => Err(failure::of_store(error)),
        }
    }

    /// For the workers that the base credential is sealed to: ourselves, or a pool whose recipient is mounted here.
    async fn sealer(&self, input: &ResealInput, route: &Route, wanted: &str) -> Result<Sealer, ActivityError> {
        let own = self.opener.sealer();
        if own.key_id() == wanted {
            return Ok(own);
        }
        let name = recipient_name((route.pool == Pool::Dedicated).then_some(&input.tenant_id));
        let missing = || unavailable(format!("the recipient with key {wanted} is not mounted yet: file {name}"));
        let directory = self.recipients.ok_or_else(missing)?;
        let text = tokio::fs::read_to_string(directory.join(&name)).await.map_err(|_| missing())?;
        Sealer::new(&text).ok().filter(|sealer| sealer.key_id() == wanted).ok_or_else(missing)
    }
}

fn unavailable(text: String) -> ActivityError {
    failure::failure_text(failures::UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        credentials::{Envelope, Sealed, seal::generate_identity},
        model::config::{ConnectorConfig, DataPolicy, SecretFields, SourceConfig},
        store::{self, BaseCredential, ConnectorProjection, DesiredState, Owner, TenantProjection},
    };

    /// A dedicated tenant whose base credential is sealed to its own workers, and its refreshed token still to the shared ones.
    struct Moved {
        store: Arc<dyn Store>,
        shared: Opener,
        own: Opener,
        directory: tempfile::TempDir,
    }

    fn input() -> ResealInput {
        ResealInput { tenant_id: "acme".parse().expect("id"), connector_id: "hubspot".parse().expect("id") }
    }

    fn envelope(token: &str) -> Envelope {
        let ResealInput { tenant_id, connector_id } = input();
        let fields = SecretFields([("refreshToken".to_owned(), token.to_owned())].into());
        Envelope { tenant_id, connector_id, allowed_hosts: vec!["crm".to_owned()], key_id: String::new(), fields }
    }

    fn opener() -> Opener {
        Opener::new(&generate_identity().0).expect("identity")
    }

    impl Moved {
        async fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let url = format!("sqlite:{}", directory.path().join("store.db").display());
            let store = store::open(&url).await.expect("opens");
            store.migrate().await.expect("migrates");
            let moved = Self { store, shared: opener(), own: opener(), directory };
            moved.project(&moved.shared.sealer(), false).await;
            moved.refresh(&moved.shared.sealer(), "rotated").await;
            moved.project(&moved.own.sealer(), true).await;
            moved.mount(&moved.own.sealer());
            moved
        }

        async fn project(&self, sealer: &Sealer, dedicated: bool) {
            let ResealInput { tenant_id, connector_id } = input();
            let owner = Owner { cluster_id: String::new(), namespace: "acme".to_owned(), name: "acme".to_owned() };
            let uid = "uid".to_owned();
            let tenant = TenantProjection {
                tenant_id: tenant_id.clone(),
                owner: owner.clone(),
                uid: uid.clone(),
                wait_seconds: None,
                dedicated,
            };
            self.store.put_tenant(&tenant).await.expect("projects");
            let connector = ConnectorProjection {
                tenant_id,
                connector_id,
                owner,
                uid,
                generation: 1,
                desired_state: DesiredState::Running,
                config: ConnectorConfig {
                    source: SourceConfig::Hubspot { base_url: None },
                    streams: Vec::new(),
                    batch_size: 100,
                    requests_per_second: None,
                    quota_reserve_percent: 0,
                    max_rejected_percent: 20,
                    max_swept_percent: 10,
                    data_policy: DataPolicy::Retain,
                },
                credential: Some(BaseCredential { sealed: sealer.seal(envelope("first")), digest: "d".to_owned() }),
                own_schedule: false,
                wishes: Default::default(),
            };
            self.store.put_connector(&connector).await.expect("projects");
        }

        async fn refresh(&self, sealer: &Sealer, token: &str) {
            let ResealInput { tenant_id, connector_id } = input();
            let lock = self.store.lock_refresh(&tenant_id, &connector_id).await.expect("asks").expect("free");
            self.store.save_overlay(&lock, 1, &sealer.seal(envelope(token))).await.expect("saves");
        }

        fn mount(&self, own: &Sealer) {
            std::fs::write(self.directory.path().join("recipient.acme"), own.recipient()).expect("written");
        }

        async fn reseal(&self) -> Result<bool, String> {
            let work = Reseal { store: &*self.store, opener: &self.shared, recipients: Some(self.directory.path()) };
            let done = work.run(Attempt::numbered(1), &input()).await;
            done.map(|done| done.resealed)
                .map_err(|error| format!("{}: {}", failure::type_name(&error), failure::text(&error)))
        }

        async fn overlay(&self) -> Sealed {
            let ResealInput { tenant_id, connector_id } = input();
            self.store.overlay(&tenant_id, &connector_id).await.expect("reads").expect("there").sealed
        }
    }

    #[tokio::test]
    async fn a_rotated_token_moves_with_its_tenant_once() {
        let moved = Moved::new().await;
        assert_eq!(
            moved.own.open(&moved.overlay().await),
            Err(crate::credentials::seal::Error::NoIdentity(moved.shared.sealer().key_id().to_owned()))
        );
        assert_eq!(moved.reseal().await, Ok(true));
        let opened = moved.own.open(&moved.overlay().await).expect("its own workers open it");
        assert_eq!(opened.fields, envelope("rotated").fields);
        assert!(moved.shared.open(&moved.overlay().await).is_err(), "and the shared ones do not any more");
        assert_eq!(moved.reseal().await, Ok(false), "a second attempt finds nothing to do");
        moved.refresh(&moved.own.sealer(), "rotated again").await;
        assert_eq!(moved.reseal().await, Ok(false), "the lock is free and a newer token is left alone");
    }

    #[tokio::test]
    async fn a_recipient_that_is_not_the_credentials_gets_nothing() {
        let moved = Moved::new().await;
        moved.mount(&opener().sealer());
        let refused = moved.reseal().await.expect_err("another key");
        assert!(refused.starts_with("Unavailable: the recipient with key"), "{refused}");
        moved.mount(&moved.own.sealer());
        assert_eq!(moved.reseal().await, Ok(true), "it was not mounted yet");
    }

    #[tokio::test]
    async fn while_a_token_is_refreshed_it_is_waited_for_and_the_new_one_moves() {
        let moved = Moved::new().await;
        let ResealInput { tenant_id, connector_id } = input();
        let lock = moved.store.lock_refresh(&tenant_id, &connector_id).await.expect("asks").expect("free");
        assert_eq!(moved.reseal().await, Err("Unavailable: a token is being refreshed".to_owned()));
        moved.store.save_overlay(&lock, 1, &moved.shared.sealer().seal(envelope("newer"))).await.expect("saves");
        assert_eq!(moved.reseal().await, Ok(true));
        assert_eq!(moved.own.open(&moved.overlay().await).expect("opens").fields, envelope("newer").fields);
    }
}
