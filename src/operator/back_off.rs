//! Exponential back-off per object: a failing one waits longer and longer, alone; success forgets it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::world::ObjectKey;

/// First and longest pause (house style 12: capped at 5 min).
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

/// The objects that wait.
#[derive(Debug, Default)]
pub struct BackOff {
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

impl BackOff {
    /// Another failure: how long to wait, at least `least`.
    pub fn failed(&self, key: &ObjectKey, least: Duration) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        let (first, longest) = PAUSE;
        let pause = first.saturating_mul(2_u32.saturating_pow(*count - 1)).min(longest).max(least);
        jittered(pause, key, u64::from(*count))
    }

    /// It is settled, or gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Everything that waits, which begins anew with short pauses: the dependency it waited for is back.
    pub fn wake(&self) -> Vec<ObjectKey> {
        self.lock().drain().map(|(key, _)| key).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pause of this length or up to a fifth more, so that a fleet that failed together does not come back together.
#[must_use]
pub fn jittered(pause: Duration, key: &ObjectKey, salt: u64) -> Duration {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key.to_string().as_bytes(), salt);
    let share = u32::try_from(hash % 1_000).unwrap_or_default();
    pause + pause * share / 5_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::world::Kind;

    #[test]
    fn pauses_grow_to_five_minutes_and_start_anew_after_success() {
        let key = |name: &str| ObjectKey {
            kind: Kind::Connector,
            namespace: "acme".to_owned(),
            name: name.to_owned(),
            uid: "1".to_owned(),
        };
        let back_off = BackOff::default();
        let pauses: Vec<_> = (0..12).map(|_| back_off.failed(&key("a"), Duration::ZERO)).collect();
        assert!(pauses[0] >= Duration::from_secs(1) && pauses[0] <= Duration::from_millis(1_200));
        assert!(pauses[3] >= Duration::from_secs(8) && pauses[3] < Duration::from_secs(10));
        assert!(pauses[11] >= Duration::from_secs(300) && pauses[11] <= Duration::from_secs(360));
        assert!(back_off.failed(&key("b"), Duration::from_secs(10)) >= Duration::from_secs(10), "as the server asks");
        back_off.forget(&key("a"));
        assert!(back_off.failed(&key("a"), Duration::ZERO) < Duration::from_secs(2));
        assert_eq!(back_off.wake().len(), 2);
        assert!(back_off.wake().is_empty());
    }
}
