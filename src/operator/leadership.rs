//! Whether this process still leads: asked before every call that a reconcile makes. Ends when the Lease may be another's
//! (`lease` renews it in time), when the store has met a successor (`Store::take_leadership`), or when we leave (R26).

use tokio::{sync::watch, time::Instant};

use crate::store;

/// What everybody who acts asks; cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    standing: watch::Sender<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Without a Lease: until the store says otherwise.
    Unbounded,
    /// Before then nobody else can have the Lease, by a clock that goes on while this process is stopped.
    Until(Instant),
    /// For good.
    Over,
}

impl Leadership {
    /// Of an operator without a Lease.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { standing: watch::channel(Standing::Unbounded).0 }
    }

    /// Of the holder of a Lease.
    #[must_use]
    pub fn until(end: Instant) -> Self {
        Self { standing: watch::channel(Standing::Until(end)).0 }
    }

    /// The Lease was renewed. What is over stays over.
    pub fn extend(&self, end: Instant) {
        self.standing.send_if_modified(|standing| {
            let over = *standing == Standing::Over;
            if !over {
                *standing = Standing::Until(end);
            }
            !over
        });
    }

    /// Nothing is written from now on.
    pub fn end(&self) {
        self.standing.send_replace(Standing::Over);
    }

    /// Whether this process may act.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match *self.standing.borrow() {
            Standing::Unbounded => true,
            Standing::Until(end) => Instant::now() < end,
            Standing::Over => false,
        }
    }

    /// Ends it if the store has met a successor.
    pub fn heed<T>(&self, answer: &Result<T, store::Error>) {
        if matches!(answer, Err(store::Error::NotLeader)) {
            self.end();
        }
    }

    /// Waits for `end`.
    pub async fn ended(&self) {
        // An error is impossible: we hold the sender.
        let _closed = self.standing.subscribe().wait_for(|standing| *standing == Standing::Over).await.is_err();
    }

    /// Ends it when the guard is dropped, whatever the way out.
    #[must_use]
    pub fn ends_here(&self) -> impl Drop + use<> {
        Guard(self.clone())
    }
}

struct Guard(Leadership);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_ends_it_by_itself_and_a_successor_for_good() {
        let now = Instant::now();
        let leadership = Leadership::until(now + Duration::from_secs(60));
        assert!(leadership.is_current());
        leadership.extend(now);
        assert!(!leadership.is_current(), "its time is over, though nobody said so");
        leadership.extend(now + Duration::from_secs(60));
        assert!(leadership.is_current());
        leadership.heed(&Ok(()));
        leadership.heed::<()>(&Err(store::Error::Stopped));
        assert!(leadership.is_current(), "other refusals are one object's");
        leadership.heed::<()>(&Err(store::Error::NotLeader));
        leadership.extend(now + Duration::from_secs(60));
        assert!(!leadership.is_current(), "a renewal does not bring it back");
        leadership.ended().await;
    }

    #[tokio::test]
    async fn whoever_leaves_acts_no_more() {
        let leadership = Leadership::unbounded();
        drop(leadership.ends_here());
        assert!(!leadership.is_current());
    }
}
