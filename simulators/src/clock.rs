//! The simulators' clock: the system's, moved forward on demand, so that tests never wait for a lag to pass.
//! The only place of this crate that reads the time.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::Timestamp;

/// A clock that runs with the system's and can be set ahead.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).expect("system time plus a test's offset is a valid time")
    }

    /// The simulated time in milliseconds since 1970.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place of this crate")]
    pub fn now_ms(&self) -> i64 {
        Timestamp::now().as_millisecond() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(0);
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}
