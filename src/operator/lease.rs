//! Leadership by a Lease of coordination.k8s.io: one operator acts, others wait. Does not guarantee that never two act
//! (no lease can, R26); every write must be safe against that by itself.
//!
//! The holder stops acting a third of the Lease's time before another may take it. It counts from before the renewal that
//! succeeded, others from when they saw it, each by its own clock.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{error::Error, leadership::Leadership, live_world::deadline};
use crate::{clock, health::Liveness};

/// Name of the Lease in the operator's namespace.
const LEASE_NAME: &str = "gtm-sync-operator";

/// The times of a Lease, in the proportions of Kubernetes' own components: 15 s, 10 s, 2 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    /// How long a silent holder keeps it.
    lasts: Duration,
    /// How long the holder acts without a renewal.
    renewed_for: Duration,
    /// Between two attempts, of the holder and of those who wait.
    retry: Duration,
    /// One attempt, of two calls.
    attempt: Duration,
}

impl Times {
    fn of(lasts: Duration) -> Self {
        Self { lasts, renewed_for: lasts * 2 / 3, retry: lasts * 2 / 15, attempt: lasts / 5 }
    }
}

/// A claim to leadership.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    times: Times,
    /// The Lease as last seen, and since when it has not changed by *our* clock: the holder's clock may be wrong.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    /// For an operator in `namespace`, under an identity of its own; a silent holder keeps the Lease for `lasts`.
    /// The client should be of its own: a renewal must not wait behind other calls.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lasts: Duration) -> Self {
        let identity = format!("gtm-sync-operator-{}", uuid::Uuid::new_v4());
        Self { api: Api::namespaced(client, namespace), identity, times: Times::of(lasts), seen: None }
    }

    /// Waits until this process leads; until when it surely does.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    pub async fn acquire(&mut self) -> Instant {
        let mut told = false;
        loop {
            let began = Instant::now();
            match self.timely_attempt().await {
                Ok(true) => return began + self.times.renewed_for,
                Ok(false) if !told => {
                    tracing::info!("another operator leads; standing by");
                    told = true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot take the Lease yet"),
            }
            sleep(self.times.retry).await;
        }
    }

    /// Renews until leadership is lost: another holds the Lease, or it could not be renewed in time, which `leadership`
    /// then knows by itself.
    ///
    /// # Cancellation
    /// May be dropped at any await; the Lease then ends by itself.
    pub async fn hold(&mut self, mut end: Instant, leadership: &Leadership, liveness: &Liveness) {
        let pulse = liveness.pulse("Lease", self.times.renewed_for);
        while let Ok(Some(renewed)) = timeout_at(end, self.renewed()).await {
            end = renewed;
            leadership.extend(end);
            pulse.beat();
        }
    }

    /// Tries until the Lease is renewed: until when it is surely ours. `None` once another holds it.
    async fn renewed(&mut self) -> Option<Instant> {
        loop {
            sleep(self.times.retry).await;
            let began = Instant::now();
            match self.timely_attempt().await {
                Ok(true) => return Some(began + self.times.renewed_for),
                Ok(false) => return None,
                // A conflict, too: our own attempt that was given up may have come late. The next look tells.
                Err(error) => tracing::warn!(%error, "cannot renew the Lease yet"),
            }
        }
    }

    async fn timely_attempt(&mut self) -> Result<bool, Error> {
        let within = self.times.attempt;
        timeout(within, self.attempt()).await.unwrap_or_else(|_| Err(Error::deadline("get or replace the Lease")))
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
        match timeout(self.times.attempt, self.api.replace(LEASE_NAME, &params, &lease)).await {
            Ok(Ok(_)) => tracing::info!("gave the Lease back"),
            Ok(Err(_)) | Err(_) => tracing::debug!("the Lease was not released; it ends by itself"),
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
        let duration = duration.map_or(self.times.lasts, Duration::from_secs);
        holder.is_none_or(|holder| holder == self.identity) || unchanged_since.elapsed() >= duration
    }

    fn written(&mut self, answer: Result<Lease, Error>) -> Result<bool, Error> {
        self.seen = Some((answer?, Instant::now()));
        Ok(true)
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
                lease_duration_seconds: i32::try_from(self.times.lasts.as_secs()).ok(),
                acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stops_acting_before_another_may_begin_and_has_two_attempts_until_then() {
        for seconds in [3, 6, 15, 60] {
            let Times { lasts, renewed_for, retry, attempt } = Times::of(Duration::from_secs(seconds));
            assert!(renewed_for + attempt < lasts, "a call that was sent last has ended, too");
            assert!((retry + attempt) * 2 <= renewed_for, "two attempts, even if neither is answered: {seconds}");
        }
        let usual = Times::of(Duration::from_secs(15));
        assert_eq!((usual.renewed_for.as_secs(), usual.retry.as_secs(), usual.attempt.as_secs()), (10, 2, 3));
    }
}
