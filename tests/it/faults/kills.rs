//! Which process dies when: a plan drawn from a seed, and its execution. Knows nothing of what the processes do, but
//! that something was committed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::equal::try_client;
use crate::support::{
    random::Random,
    servers::{PostgresServer, TemporalServer},
    stack::{Stack, Worker},
};

/// A kill waits for a commit since the last one, but no longer than this: when all wait for a lost worker to be noticed,
/// the next kill hits them waiting.
const PATIENCE: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A process that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Worker,
    Temporal,
    Postgres,
}

/// How often each was killed while a run was at work.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Hits {
    pub(super) worker: u32,
    pub(super) temporal: u32,
    pub(super) postgres: u32,
}

impl Hits {
    fn add(&mut self, victim: Victim) {
        match victim {
            Victim::Worker => self.worker += 1,
            Victim::Temporal => self.temporal += 1,
            Victim::Postgres => self.postgres += 1,
        }
    }
}

/// One kill of a plan.
#[derive(Debug)]
pub(super) struct Kill {
    victim: Victim,
    /// After a commit since the last kill; `false` = right after the last one's victim came back.
    after_progress: bool,
    /// How long after it.
    delay: Duration,
    /// How long the process stays away.
    away: Duration,
}

/// Each process once, in any order, and one of them twice in a row.
pub(super) fn plan(random: &mut Random) -> Vec<Kill> {
    let mut victims = vec![Victim::Worker, Victim::Temporal, Victim::Postgres];
    random.shuffle(&mut victims);
    let twice = usize::try_from(random.within(0..=2)).expect("an index");
    victims.insert(twice, victims[twice]);
    let kill = |(place, victim): (usize, &Victim)| Kill {
        victim: *victim,
        after_progress: place != twice + 1,
        delay: Duration::from_millis(random.within(0..=1_500)),
        away: Duration::from_millis(random.within(0..=1_500)),
    };
    victims.iter().enumerate().map(kill).collect()
}

/// What can be killed.
pub(super) struct Processes {
    pub(super) postgres: PostgresServer,
    pub(super) temporal: TemporalServer,
    pub(super) worker: Worker,
}

impl Processes {
    async fn kill(&mut self, kill: &Kill, stack: &Stack) {
        match kill.victim {
            Victim::Worker => self.worker.kill(),
            Victim::Temporal => self.temporal.kill(),
            Victim::Postgres => self.postgres.kill(),
        }
        sleep(kill.away).await;
        match kill.victim {
            Victim::Worker => self.worker = stack.worker(),
            Victim::Temporal => self.temporal.resume(),
            Victim::Postgres => self.postgres.resume(),
        }
        // A process can only be killed again once it is there again.
        match kill.victim {
            Victim::Worker => {}
            Victim::Temporal => self.temporal.ready().await,
            Victim::Postgres => self.postgres.ready().await,
        }
    }

    /// Starts the worker again if it left by itself, as Kubernetes would; true when it had.
    pub(super) fn replace_worker_that_left(&mut self, stack: &Stack) -> bool {
        let left = self.worker.exited().is_some();
        if left {
            self.worker = stack.worker();
        }
        left
    }
}

/// Executes a plan; `at_work` says which runs are being hit.
pub(super) async fn execute(
    plan: &[Kill],
    processes: &mut Processes,
    stack: &Stack,
    at_work: &[AtomicBool],
    hits: &mut [Hits],
) {
    let mut seen = committed(&stack.database_url).await.unwrap_or(0);
    for kill in plan {
        if kill.after_progress {
            seen = progress_beyond(seen, &stack.database_url).await;
        }
        sleep(kill.delay).await;
        for (run, hit) in at_work.iter().zip(hits.iter_mut()) {
            if run.load(Ordering::SeqCst) {
                hit.add(kill.victim);
            }
        }
        processes.kill(kill, stack).await;
    }
}

/// Records committed so far, `None` while the database does not say.
async fn committed(url: &str) -> Option<i64> {
    const COMMITTED: &str = "SELECT coalesce(sum((stats ->> 'recordsProcessed')::bigint), 0)::bigint FROM gtm.run";
    let asked = async { Some(try_client(url).await?.query_one(COMMITTED, &[]).await.ok()?.get(0)) };
    timeout(Duration::from_secs(2), asked).await.ok().flatten()
}

async fn progress_beyond(seen: i64, url: &str) -> i64 {
    let end = Instant::now() + PATIENCE;
    loop {
        match committed(url).await {
            Some(now) if now > seen => return now,
            _ if Instant::now() > end => return seen,
            _ => sleep(LOOK_AGAIN).await,
        }
    }
}

#[test]
fn a_plan_kills_everybody_and_one_of_them_twice_in_a_row_and_is_its_seeds() {
    for seed in 0..100 {
        let plan = plan(&mut Random::of(&[seed]));
        for victim in [Victim::Worker, Victim::Temporal, Victim::Postgres] {
            assert!(plan.iter().any(|kill| kill.victim == victim), "{plan:?}");
        }
        assert_eq!(plan.len(), 4);
        let again = plan.windows(2).filter(|pair| pair[0].victim == pair[1].victim && !pair[1].after_progress);
        assert_eq!(again.count(), 1, "{plan:?}");
        let same = super::kills::plan(&mut Random::of(&[seed]));
        assert_eq!(format!("{plan:?}"), format!("{same:?}"));
    }
}
