//! Leadership by a Lease of coordination.k8s.io: one operator acts, others wait. Does not guarantee that never two act
//! (no lease can, R26); every write must be safe against that by itself.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;

use super::{error::Error, live_world::deadline};
use crate::{clock, error_class::Class};

/// Name of the Lease in the operator's namespace.
const LEASE_NAME: &str = "gtm-sync-operator";
/// How long a silent holder keeps it.
const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews and others look.
const PERIOD: Duration = Duration::from_secs(4);

/// A claim to leadership.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    /// The Lease as last seen, and since when it has not changed by *our* clock: the holder's clock may be wrong.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    /// For an operator in `namespace`, under an identity of its own.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        let identity = format!("gtm-sync-operator-{}", uuid::Uuid::new_v4());
        Self { api: Api::namespaced(client, namespace), identity, seen: None }
    }

    /// Waits until this process leads.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    pub async fn acquire(&mut self) {
        let mut told = false;
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) if !told => {
                    tracing::info!("another operator leads; standing by");
                    told = true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot take the Lease yet"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews until leadership is lost: taken by another, or not renewed within the Lease's duration.
    ///
    /// # Cancellation
    /// May be dropped at any await; the Lease then ends by itself.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            match self.attempt().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) if renewed.elapsed() < DURATION => tracing::warn!(%error, "cannot renew the Lease yet"),
                Err(_) => return,
            }
        }
    }

    /// Gives the Lease back, so that a successor need not wait; a failure only costs the wait.
    pub async fn release(&mut self) {
        let Some((mut lease, _)) = self.seen.take() else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        let params = PostParams::default();
        let released = deadline("release the Lease", self.api.replace(LEASE_NAME, &params, &lease)).await;
        if let Err(error) = released {
            tracing::debug!(%error, "the Lease was not released");
        }
    }

    /// Takes or renews the Lease where it is free, ours or silent; whether it is ours now.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let found = deadline("get the Lease", self.api.get_opt(LEASE_NAME)).await?;
        let Some(found) = found else {
            let wanted = self.wanted(None);
            let created = deadline("create the Lease", self.api.create(&PostParams::default(), &wanted)).await;
            return self.written(created);
        };
        if !self.may_take(&found) {
            return Ok(false);
        }
        let wanted = self.wanted(Some(&found));
        let params = PostParams::default();
        let replaced = deadline("replace the Lease", self.api.replace(LEASE_NAME, &params, &wanted)).await;
        self.written(replaced)
    }

    /// Remembers when the Lease last moved; a holder that is silent for its duration has lost it.
    fn may_take(&mut self, found: &Lease) -> bool {
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let unchanged_since = match &self.seen {
            Some((seen, since)) if seen.spec == found.spec => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((found.clone(), now));
                now
            }
        };
        let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(DURATION, Duration::from_secs);
        holder.is_none_or(|holder| holder == self.identity) || unchanged_since.elapsed() >= duration
    }

    fn written(&mut self, answer: Result<Lease, Error>) -> Result<bool, Error> {
        match answer {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            // Somebody else was faster.
            Err(error) if error.class() == Class::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, found: Option<&Lease>) -> Lease {
        let before = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let now = MicroTime(clock::now());
        let name = Some(LEASE_NAME.to_owned());
        let metadata =
            found.map_or_else(|| ObjectMeta { name, ..ObjectMeta::default() }, |lease| lease.metadata.clone());
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
                ..LeaseSpec::default()
            }),
        }
    }
}
