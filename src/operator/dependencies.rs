//! Whether store, Temporal and Kubernetes API answer: told once by log, readiness, metric and one Event, not by every
//! object's conditions (R28). Whoever calls them says how it went; recovery wakes what waits.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    error::{Dependency, Error},
    events::Announcer,
    outcome::Note,
};
use crate::{clock, error_class::Class, health::Readiness};

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// So many calls in a row fail before a dependency that answered counts as away: one that was lost on its way ends no back-off of
/// others when the next is answered, nor does it excuse a tick that is overdue.
const PATIENCE: u32 = 2;

/// The state of all dependencies; cheap to clone.
#[derive(Clone)]
pub struct Dependencies {
    shared: Arc<Shared>,
}

struct Shared {
    states: [AtomicU8; 3],
    /// Since when each answers, in seconds of the clock.
    since: [AtomicI64; 3],
    /// Calls in a row that failed because of it.
    failures: [AtomicU32; 3],
    readiness: Readiness,
    announcer: Announcer,
    recoveries: watch::Sender<u64>,
}

impl Dependencies {
    /// Reports into `readiness` and by `announcer`.
    #[must_use]
    pub fn new(readiness: Readiness, announcer: Announcer) -> Self {
        let (recoveries, _) = watch::channel(0);
        Self {
            shared: Arc::new(Shared {
                states: Default::default(),
                since: Default::default(),
                failures: Default::default(),
                readiness,
                announcer,
                recoveries,
            }),
        }
    }

    /// A call to a dependency was answered, or failed because of it.
    pub fn observe<T>(&self, dependency: Dependency, reply: &Result<T, Error>) {
        let failures = &self.shared.failures[index(dependency)];
        match reply {
            // It answers, and each object that was told keeps its own pause.
            Err(error) if matches!(error.class(), Class::RateLimited(_)) => {}
            Err(error) if error.is_outage() => {
                let in_a_row = failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if in_a_row >= PATIENCE || self.is_down(dependency) {
                    self.down(dependency, error);
                }
            }
            _ => {
                failures.store(0, Ordering::Relaxed);
                self.up(dependency);
            }
        }
    }

    /// It answers, but lacks what nobody here can go on without: readiness says what, until it is observed to be there.
    pub fn lacks(&self, dependency: Dependency, what: String) {
        if self.state(dependency).load(Ordering::Relaxed) == DOWN {
            self.up(dependency);
        }
        self.state(dependency).store(UNKNOWN, Ordering::Relaxed);
        self.shared.readiness.set(label(dependency), Err(what));
    }

    /// Whether the last call failed because of the dependency, or none was answered yet.
    #[must_use]
    pub fn is_down(&self, dependency: Dependency) -> bool {
        self.state(dependency).load(Ordering::Relaxed) != UP
    }

    /// Since when it answers; of no meaning while it is down.
    #[must_use]
    pub fn answers_since(&self, dependency: Dependency) -> Timestamp {
        let seconds = self.shared.since[index(dependency)].load(Ordering::Relaxed);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Changes with every recovery of a dependency.
    #[must_use]
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.shared.recoveries.subscribe()
    }

    /// A dependency is of no use now, whatever it answers.
    pub fn down(&self, dependency: Dependency, why: &Error) {
        self.shared.readiness.set(label(dependency), Err(why.to_string()));
        if self.state(dependency).swap(DOWN, Ordering::Relaxed) == DOWN {
            return;
        }
        tracing::warn!(dependency = label(dependency), error = %why, "does not answer; waiting");
        let message = format!("{} does not answer; objects keep their conditions meanwhile", dependency.name());
        self.shared.announcer.about_operator(Note::warning("DependencyUnavailable", action(dependency), message));
    }

    fn up(&self, dependency: Dependency) {
        let before = self.state(dependency).swap(UP, Ordering::Relaxed);
        if before == UP {
            return;
        }
        self.shared.since[index(dependency)].store(clock::now().as_second(), Ordering::Relaxed);
        self.shared.readiness.set(label(dependency), Ok(()));
        tracing::info!(dependency = label(dependency), "answers");
        if before == DOWN {
            let message = format!("{} answers again", dependency.name());
            self.shared.announcer.about_operator(Note::normal("DependencyRecovered", action(dependency), message));
        }
        self.shared.recoveries.send_modify(|count| *count += 1);
    }

    fn state(&self, dependency: Dependency) -> &AtomicU8 {
        &self.shared.states[index(dependency)]
    }
}

fn index(dependency: Dependency) -> usize {
    match dependency {
        Dependency::Store => 0,
        Dependency::Temporal => 1,
        Dependency::Kubernetes => 2,
    }
}

/// One each: Events that differ in their text alone become one Event with the text of the first.
fn action(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Store => "ReachStore",
        Dependency::Temporal => "ReachTemporal",
        Dependency::Kubernetes => "ReachKubernetes",
    }
}

/// As in metrics and readiness.
fn label(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Store => "store",
        Dependency::Temporal => "temporal",
        Dependency::Kubernetes => "kubernetes",
    }
}

const _: () = assert!(UNKNOWN == 0, "AtomicU8::default is unknown");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{metrics::Metrics, temporal};

    #[tokio::test]
    async fn one_lost_call_is_no_outage_two_in_a_row_are_and_a_server_that_is_busy_is_there() {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = kube::Client::try_from(nowhere).expect("a client");
        let dependencies = Dependencies::new(Readiness::new(Metrics::default()), Announcer::new(client, "gtm-sync").0);
        let lost: Result<(), _> =
            Err(Error::Temporal(temporal::Error::Unavailable { attempted: "answer", code: "lost".to_owned() }));
        let busy: Result<(), _> = Err(Error::Kubernetes {
            attempted: "answer",
            code: "429 TooManyRequests".to_owned(),
            class: Class::RateLimited(Duration::from_secs(2)),
        });
        let after = |dependency, reply: &Result<(), Error>| {
            dependencies.observe(dependency, reply);
            dependencies.is_down(dependency)
        };
        let temporal = Dependency::Temporal;
        assert!(after(temporal, &lost), "nothing was answered yet");
        assert!(!after(temporal, &Ok(())));
        let recoveries = *dependencies.recoveries().borrow();
        assert!(!after(temporal, &lost) && !after(temporal, &Ok(())) && !after(temporal, &lost));
        assert_eq!(*dependencies.recoveries().borrow(), recoveries, "no back-off of others has ended");
        assert!(after(temporal, &lost));
        assert!(!after(temporal, &Ok(())));
        assert_eq!(*dependencies.recoveries().borrow(), recoveries + 1);
        assert!(!after(Dependency::Kubernetes, &Ok(())));
        assert!((0..5).all(|_| !after(Dependency::Kubernetes, &busy)));
    }
}
