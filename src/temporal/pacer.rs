//! One token bucket for all that a process asks of a Temporal server: so many requests a second, some at once. When the
//! server asks to slow down, it is empty for everybody, not only for the request that was told. Sends nothing itself.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// The server's limits count per second: the one at work and the next belong to nobody.
const CLOSED_FOR: Duration = Duration::from_secs(2);
/// What a look leaves in the bucket for edits, as a share of the burst.
const LEFT_FOR_EDITS: f64 = 0.25;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A person wants something changed.
    Edit,
    /// Nobody asked: a second look at what is settled.
    Look,
}

tokio::task_local! {
    static URGENCY: Urgency;
}

/// Runs `work`, whose requests are as urgent as this.
pub async fn as_urgent_as<T>(urgency: Urgency, work: impl Future<Output = T>) -> T {
    URGENCY.scope(urgency, work).await
}

/// The bucket.
#[derive(Debug)]
pub struct Pacer {
    rate: f64,
    burst: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    as_of: Instant,
}

impl Pacer {
    /// A full one.
    #[must_use]
    pub fn new(requests_per_second: u32, burst: u32) -> Self {
        let (rate, burst) = (f64::from(requests_per_second.max(1)), f64::from(burst.max(1)));
        Self { rate, burst, bucket: Mutex::new(Bucket { tokens: burst, as_of: Instant::now() }) }
    }

    /// Waits for a turn, in no particular order but that looks leave some to edits.
    ///
    /// # Cancellation
    /// May be dropped at any await; the turn is then another's.
    pub async fn turn(&self) {
        let urgency = URGENCY.try_with(|urgency| *urgency).unwrap_or(Urgency::Edit);
        while let Err(wait) = self.take(urgency, Instant::now()) {
            sleep(wait).await;
        }
    }

    /// The server asked to slow down.
    pub fn slow_down(&self) {
        self.empty(Instant::now());
    }

    /// Takes a token, or says how long to wait before the next attempt.
    fn take(&self, urgency: Urgency, now: Instant) -> Result<(), Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // A bucket that was closed is of a time to come.
        let closed_for = bucket.as_of.saturating_duration_since(now);
        let filled = now.saturating_duration_since(bucket.as_of).as_secs_f64() * self.rate;
        bucket.tokens = (bucket.tokens + filled).min(self.burst);
        bucket.as_of = bucket.as_of.max(now);
        let left = match urgency {
            Urgency::Edit => 0.0,
            Urgency::Look => (self.burst * LEFT_FOR_EDITS).min(self.burst - 1.0),
        };
        let lacking = left + 1.0 - bucket.tokens;
        if closed_for.is_zero() && lacking <= 0.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(closed_for + Duration::from_secs_f64(lacking.max(0.0) / self.rate).max(Duration::from_millis(1)))
    }

    fn empty(&self, now: Instant) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        *bucket = Bucket { tokens: 0.0, as_of: now + CLOSED_FOR };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pacer: &Pacer, urgency: Urgency, now: Instant) -> usize {
        (0..1_000).take_while(|_| pacer.take(urgency, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let (pacer, start) = (Pacer::new(10, 40), Instant::now());
        assert_eq!(taken(&pacer, Urgency::Edit, start), 40);
        assert_eq!(taken(&pacer, Urgency::Edit, start + Duration::from_secs(1)), 10);
        assert_eq!(taken(&pacer, Urgency::Edit, start + Duration::from_secs(600)), 40, "no more than a burst is saved");
    }

    #[test]
    fn looks_leave_some_to_edits() {
        let (pacer, start) = (Pacer::new(10, 40), Instant::now());
        assert_eq!(taken(&pacer, Urgency::Look, start), 30);
        assert_eq!(taken(&pacer, Urgency::Edit, start), 10);
        let later = start + Duration::from_secs(1);
        assert_eq!((taken(&pacer, Urgency::Look, later), taken(&pacer, Urgency::Edit, later)), (0, 10));
        assert_eq!(taken(&Pacer::new(1, 1), Urgency::Look, start + Duration::from_secs(9)), 1, "the smallest, too");
    }

    #[test]
    fn a_server_that_asks_to_slow_down_empties_it_for_everybody() {
        let (pacer, start) = (Pacer::new(10, 40), Instant::now());
        pacer.empty(start);
        let wait = pacer.take(Urgency::Edit, start).expect_err("closed");
        assert!(wait > CLOSED_FOR && wait < CLOSED_FOR * 2, "{wait:?}");
        assert_eq!(taken(&pacer, Urgency::Edit, start + CLOSED_FOR), 0);
        assert_eq!(taken(&pacer, Urgency::Edit, start + CLOSED_FOR + Duration::from_secs(1)), 10);
    }

    #[tokio::test]
    async fn whoever_waits_gets_a_turn() {
        let pacer = Pacer::new(1_000, 1);
        for _ in 0..3 {
            pacer.turn().await;
        }
        as_urgent_as(Urgency::Look, pacer.turn()).await;
    }
}
