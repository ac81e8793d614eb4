//! One attempt of an activity: its deadline, its heartbeats, and waiting out an outage of the store inside it (R2).

use std::time::Duration;

use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    clock,
    contract::activities::{HEARTBEAT_TIMEOUT, Parked},
    error_class::Class,
    store,
};

/// Left of the attempt's time for reporting its failure before the server calls it a timeout.
const MARGIN: Duration = Duration::from_secs(15);
/// First pause between tries at a store that is away; doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A database fail-over takes about 10 s (R2): look often enough to be back soon after.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The time that one attempt has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// From 1.
    pub(super) number: u32,
    started: Instant,
    gives_up: Instant,
}

impl Attempt {
    pub(super) fn of(ctx: &ActivityContext) -> Self {
        let info = ctx.info();
        let deadline = info.deadline.and_then(|deadline| jiff::Timestamp::try_from(deadline).ok());
        let left = deadline.map_or(MARGIN, |deadline| deadline.duration_since(clock::now()).unsigned_abs());
        let started = Instant::now();
        Self { number: info.attempt, started, gives_up: started + left.saturating_sub(MARGIN) }
    }

    /// One with a minute's time.
    #[cfg(test)]
    pub(super) fn numbered(number: u32) -> Self {
        let started = Instant::now();
        Self { number, started, gives_up: started + Duration::from_secs(60) }
    }

    /// How long the attempt has been at work.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Calls the store until it answers, while the attempt's time allows; then gives its last error back.
    pub(super) async fn patiently<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, store::Error>
    where
        F: Future<Output = Result<T, store::Error>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match call().await {
                Err(error) if error.class() == Class::Transient && Instant::now() + pause < self.gives_up => {
                    tracing::info!(%error, "waiting for the store");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return other,
            }
        }
    }
}

/// The next session begins at once, with the connector as it is then.
pub(super) fn once_more() -> Parked {
    Parked { until: clock::now(), reason: "the connector changed meanwhile".to_owned() }
}

/// Heartbeats while `work` goes on, and drops it when the activity is cancelled.
///
/// # Cancellation
/// Dropping `work` rolls an open transaction back.
pub(super) async fn alive<T>(
    ctx: &ActivityContext,
    work: impl Future<Output = Result<T, ActivityError>>,
) -> Result<T, ActivityError> {
    let mut work = std::pin::pin!(work);
    let mut beat = interval(HEARTBEAT_TIMEOUT / 6);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = ctx.cancelled() => return Err(ActivityError::cancelled()),
            _ = beat.tick() => ctx.record_heartbeat(()).await?,
        }
    }
}
