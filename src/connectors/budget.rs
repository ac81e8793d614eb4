//! Pacing: every request takes from a budget that all pods share for one vendor account, so that none of them runs into
//! the vendor's limit (R35). Holds no counters of its own beyond a slice of granted requests; `activities` adapts the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use super::Error;
use crate::error_class::Class;
pub use crate::model::budget::{Grant, Key, Limit};

/// Waits up to this long happen in place; longer ones are a result, so that no activity slot sleeps (R41).
pub const MAX_WAIT_IN_PLACE: Duration = Duration::from_secs(2);
/// A slice is this part of a window's requests: small enough for several pods to share a window, large enough that a
/// batch of 5,000 rows at 100 a page costs about two statements (R35).
const SLICE_PART: u32 = 4;
/// Most requests of one slice.
const MAX_SLICE: u32 = 50;

/// The budget shared by everybody on one vendor account.
#[async_trait]
pub trait Budget: Send + Sync {
    /// Takes up to `want` requests.
    ///
    /// # Errors
    /// The class of the store's failure.
    async fn take(&self, key: &Key, limit: &Limit, want: u32) -> Result<Grant, Class>;

    /// The vendor asked everybody on this account to wait this long.
    ///
    /// # Errors
    /// The class of the store's failure.
    async fn park(&self, key: &Key, wait: Duration, reason: &str) -> Result<(), Class>;
}

/// A budget without limits, for tools and tests that share nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

#[async_trait]
impl Budget for Unlimited {
    async fn take(&self, _: &Key, _: &Limit, want: u32) -> Result<Grant, Class> {
        Ok(Grant::Granted(want))
    }

    async fn park(&self, _: &Key, _: Duration, _: &str) -> Result<(), Class> {
        Ok(())
    }
}

/// Slices of granted requests, held by one process for all its connectors, so that the shared budget is asked once a
/// slice and nothing granted is lost when a connector is closed.
pub struct Slices {
    shared: Arc<dyn Budget>,
    held: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Slice>>>>,
}

#[derive(Debug)]
struct Slice {
    left: u32,
    expires_at: Instant,
}

impl std::fmt::Debug for Slices {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Slices").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Slices {
    /// Of this shared budget.
    #[must_use]
    pub fn of(shared: Arc<dyn Budget>) -> Self {
        Self { shared, held: Mutex::default() }
    }

    fn slice(&self, key: &Key) -> Arc<tokio::sync::Mutex<Slice>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || Arc::new(tokio::sync::Mutex::new(Slice { left: 0, expires_at: Instant::now() }));
        Arc::clone(held.entry(key.clone()).or_insert_with(none))
    }
}

#[async_trait]
impl Budget for Slices {
    async fn take(&self, key: &Key, limit: &Limit, want: u32) -> Result<Grant, Class> {
        let slice = self.slice(key);
        let mut slice = slice.lock().await;
        if slice.left == 0 || Instant::now() >= slice.expires_at {
            let size = (limit.requests / SLICE_PART).clamp(want.max(1), MAX_SLICE.max(want));
            match self.shared.take(key, limit, size).await? {
                Grant::Granted(granted) => {
                    (slice.left, slice.expires_at) = (granted, Instant::now() + limit.window);
                }
                wait @ Grant::Wait(..) => return Ok(wait),
            }
        }
        let granted = slice.left.min(want);
        slice.left -= granted;
        Ok(Grant::Granted(granted))
    }

    async fn park(&self, key: &Key, wait: Duration, reason: &str) -> Result<(), Class> {
        self.slice(key).lock().await.left = 0;
        self.shared.park(key, wait, reason).await
    }
}

/// Paces one class of requests of one connector.
pub struct Pacer {
    budget: Arc<dyn Budget>,
    key: Key,
    limit: Mutex<Limit>,
    /// Smallest distance between two requests of this pacer, for limits whose window is shorter than ours.
    spacing: Duration,
    pace: tokio::sync::Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    next_at: Instant,
    /// The vendor's last word, kept here too so that it holds even where nothing is shared.
    parked: Option<(Instant, String)>,
}

impl std::fmt::Debug for Pacer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pacer").field("key", &self.key).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Pacer {
    /// A pacer that starts with `limit`.
    #[must_use]
    pub fn new(budget: Arc<dyn Budget>, key: Key, limit: Limit, spacing: Duration) -> Self {
        let pace = tokio::sync::Mutex::new(Pace { next_at: Instant::now(), parked: None });
        Self { budget, key, limit: Mutex::new(limit), spacing, pace }
    }

    /// Takes the right to send one request, waiting in place where that is short.
    ///
    /// # Errors
    /// `Throttled` when the wait is longer, `Store` when the shared budget cannot be asked.
    ///
    /// # Cancellation
    /// May be dropped at any await; a request that was granted and not sent is lost to its window.
    pub async fn acquire(&self) -> Result<(), Error> {
        let mut pace = self.pace.lock().await;
        let patience = Instant::now() + MAX_WAIT_IN_PLACE;
        if let Some((until, reason)) = pace.parked.as_ref().filter(|(until, _)| *until > Instant::now()) {
            self.pause(*until - Instant::now(), Some(reason.clone()), patience).await?;
        }
        let limit = self.limit();
        loop {
            match self.budget.take(&self.key, &limit, 1).await.map_err(Error::Store)? {
                Grant::Granted(granted) if granted > 0 => break,
                // A budget that grants nothing and names no time is asked again after a tenth of its window.
                Grant::Granted(_) => self.pause(limit.window / 10, None, patience).await?,
                Grant::Wait(wait, reason) => self.pause(wait, reason, patience).await?,
            }
        }
        sleep_until(pace.next_at).await;
        pace.next_at = Instant::now() + self.spacing;
        Ok(())
    }

    async fn pause(&self, wait: Duration, reason: Option<String>, patience: Instant) -> Result<(), Error> {
        if Instant::now() + wait > patience {
            let reason = reason.unwrap_or_else(|| "RateLimited".to_owned());
            return Err(Error::Throttled { system: self.key.system, reason, after: wait });
        }
        // Never a busy loop, whatever the budget answers.
        sleep(wait.max(Duration::from_millis(10))).await;
        Ok(())
    }

    /// The vendor said to wait: tells everybody on the account.
    ///
    /// # Errors
    /// `Store` when the shared budget cannot be told.
    pub async fn park(&self, wait: Duration, reason: &str) -> Result<(), Error> {
        self.pace.lock().await.parked = Some((Instant::now() + wait, reason.to_owned()));
        self.budget.park(&self.key, wait, reason).await.map_err(Error::Store)
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> Limit {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vendor's headers named another limit; it counts from the next request to the shared budget on.
    pub fn learn(&self, limit: Limit) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(5);

    #[derive(Default)]
    struct Scripted {
        answers: Mutex<Vec<Grant>>,
        taken: Mutex<Vec<(Limit, u32)>>,
    }

    #[async_trait]
    impl Budget for Scripted {
        async fn take(&self, _: &Key, limit: &Limit, want: u32) -> Result<Grant, Class> {
            self.taken.lock().expect("lock").push((*limit, want));
            self.answers.lock().expect("lock").pop().ok_or(Class::Transient)
        }

        async fn park(&self, _: &Key, _: Duration, _: &str) -> Result<(), Class> {
            Ok(())
        }
    }

    fn key() -> Key {
        Key { system: "hubspot", account_id: "1".to_owned(), class: "general" }
    }

    const LIMIT: Limit = Limit { requests: 100, window: Duration::from_secs(10) };

    fn pacer(mut answers: Vec<Grant>) -> (Arc<Scripted>, Pacer) {
        answers.reverse();
        let budget = Arc::new(Scripted { answers: Mutex::new(answers), ..Scripted::default() });
        let slices = Arc::new(Slices::of(Arc::clone(&budget) as Arc<dyn Budget>));
        (budget, Pacer::new(slices, key(), LIMIT, SPACING))
    }

    #[tokio::test]
    async fn a_slice_asks_the_shared_budget_once_and_its_requests_keep_their_distance() {
        let (budget, pacer) = pacer(vec![Grant::Granted(5)]);
        let start = Instant::now();
        for _ in 0..5 {
            pacer.acquire().await.expect("granted");
        }
        assert_eq!(budget.taken.lock().expect("lock").len(), 1);
        assert!(start.elapsed() >= 4 * SPACING);
        assert_eq!(pacer.acquire().await, Err(Error::Store(Class::Transient)), "the slice is used up");
    }

    #[tokio::test]
    async fn connectors_opened_one_after_the_other_share_a_slice() {
        let budget = Arc::new(Scripted { answers: Mutex::new(vec![Grant::Granted(3)]), ..Scripted::default() });
        let slices = Arc::new(Slices::of(Arc::clone(&budget) as Arc<dyn Budget>));
        for _ in 0..3 {
            let pacer = Pacer::new(Arc::clone(&slices) as Arc<dyn Budget>, key(), LIMIT, Duration::ZERO);
            pacer.acquire().await.expect("granted");
        }
        assert_eq!(*budget.taken.lock().expect("lock"), [(LIMIT, 25)], "one statement, a quarter of the window");
    }

    #[tokio::test]
    async fn short_waits_happen_in_place_and_long_ones_are_results() {
        let short_wait = Duration::from_millis(50);
        let (budget, short) = pacer(vec![Grant::Wait(short_wait, None), Grant::Granted(1)]);
        let start = Instant::now();
        short.acquire().await.expect("after the wait");
        assert!(start.elapsed() >= short_wait && budget.taken.lock().expect("lock").len() == 2);

        let wait = Duration::from_secs(9);
        let (_, long) = pacer(vec![Grant::Wait(wait, Some("QuotaExhausted".to_owned()))]);
        let throttled = Error::Throttled { system: "hubspot", reason: "QuotaExhausted".to_owned(), after: wait };
        assert_eq!(long.acquire().await, Err(throttled));
    }

    #[tokio::test]
    async fn a_parked_or_expired_slice_is_not_used_and_a_learnt_limit_counts_from_the_next_one() {
        let (budget, pacer) = pacer(vec![Grant::Granted(5), Grant::Granted(5), Grant::Granted(5)]);
        pacer.acquire().await.expect("granted");
        pacer.learn(Limit { requests: 20, window: Duration::from_millis(5) });
        pacer.park(Duration::ZERO, "RateLimited").await.expect("told");
        pacer.acquire().await.expect("granted");
        sleep(Duration::from_millis(10)).await;
        pacer.acquire().await.expect("granted");
        let taken: Vec<_> =
            budget.taken.lock().expect("lock").iter().map(|(limit, want)| (limit.requests, *want)).collect();
        assert_eq!(taken, [(100, 25), (20, 5), (20, 5)]);
    }
}
