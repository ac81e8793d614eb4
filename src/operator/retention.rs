//! Removes what was kept long enough, every hour, on the leader. What that is, is the store's (`Store::age`) and the
//! settings'; rows of living records and dead letters are never removed for their age.

use std::{sync::Arc, time::Duration};

use super::{
    context::Context,
    error::{Dependency, Error},
    live_world::{STORE_BULK_DEADLINE, store_deadline},
};
use crate::{
    metrics::{Metrics, Removal},
    settings::RetentionSettings,
    store::{self, Aged, Retention},
};

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(3_600);
/// Calls a round at most: a million rows of a kind (`Store::age` removes ten thousand a call), the rest next hour.
const CALLS: usize = 100;

/// The settings' days; 0 is for ever.
#[must_use]
pub fn retention(settings: RetentionSettings) -> Retention {
    let days = |days: u32| (days > 0).then_some(days);
    Retention {
        runs_days: days(settings.runs_days),
        dead_letter_payloads_days: days(settings.dead_letter_payloads_days),
        tombstones_days: days(settings.tombstones_days),
    }
}

/// Runs until the process ends.
pub async fn keep(settings: RetentionSettings, context: Arc<Context>) {
    let retention = retention(settings);
    let pulse = context.liveness.pulse("retention", PERIOD);
    loop {
        let age = || {
            pulse.beat();
            store_deadline(STORE_BULK_DEADLINE, context.store.age(&retention))
        };
        let (removed, ended) = round(age, &context.metrics).await;
        if removed != Aged::default() {
            let Aged { runs, payloads, tombstones, batches } = removed;
            tracing::info!(runs, payloads, tombstones, batches, "removed what was kept long enough");
        }
        context.leadership.heed(&ended);
        context.dependencies.observe(Dependency::Store, &ended.map_err(Error::Store));
        pulse.beat();
        tokio::time::sleep(PERIOD).await;
    }
}

/// Ages until nothing is left to remove, at most `CALLS` times; what was removed, and how it ended.
async fn round<A>(age: impl Fn() -> A, metrics: &Metrics) -> (Aged, Result<(), store::Error>)
where
    A: Future<Output = Result<Aged, store::Error>>,
{
    let mut total = Aged::default();
    for _ in 0..CALLS {
        match age().await {
            Ok(removed) if removed == Aged::default() => break,
            Ok(removed) => {
                count(metrics, &removed);
                total.runs += removed.runs;
                total.payloads += removed.payloads;
                total.tombstones += removed.tombstones;
                total.batches += removed.batches;
            }
            Err(error) => return (total, Err(error)),
        }
    }
    (total, Ok(()))
}

fn count(metrics: &Metrics, removed: &Aged) {
    for (kind, rows) in [
        ("run", removed.runs),
        ("deadLetterPayload", removed.payloads),
        ("tombstone", removed.tombstones),
        ("stagedBatch", removed.batches),
    ] {
        metrics.removed.get_or_create(&Removal { kind }).inc_by(rows);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::ready};

    use super::*;

    fn played(answers: Vec<Result<Aged, store::Error>>) -> (Aged, Result<(), store::Error>, usize, Metrics) {
        let left = RefCell::new(answers);
        let before = left.borrow().len();
        let metrics = Metrics::default();
        let age = || ready(left.borrow_mut().pop().unwrap_or(Ok(Aged { runs: 1, ..Aged::default() })));
        let (removed, ended) = futures::executor::block_on(round(age, &metrics));
        let asked = before - left.borrow().len();
        (removed, ended, asked, metrics)
    }

    fn runs(runs: u64) -> Result<Aged, store::Error> {
        Ok(Aged { runs, payloads: 1, ..Aged::default() })
    }

    #[test]
    fn a_round_goes_on_until_nothing_is_left_and_counts_what_it_removed() {
        let (removed, ended, asked, metrics) = played(vec![runs(99), Ok(Aged::default()), runs(2), runs(10_000)]);
        assert_eq!((removed.runs, removed.payloads, ended, asked), (10_002, 2, Ok(()), 3));
        assert_eq!(metrics.removed.get_or_create(&Removal { kind: "run" }).get(), 10_002);
    }

    #[test]
    fn an_outage_ends_the_round_with_what_was_done_before_it() {
        let away = store::Error::Unavailable { attempted: "remove aged rows", code: "57P01".to_owned() };
        let (removed, ended, asked, _) = played(vec![runs(5), Err(away.clone()), runs(7)]);
        assert_eq!((removed.runs, ended, asked), (7, Err(away), 2));
    }

    #[test]
    fn a_round_is_bounded_however_much_there_is() {
        let (removed, ended, ..) = played(Vec::new());
        assert_eq!((removed.runs, ended), (u64::try_from(CALLS).expect("small"), Ok(())));
    }

    #[test]
    fn no_days_mean_for_ever() {
        let settings = RetentionSettings {
            runs_days: 90,
            dead_letter_payloads_days: 0,
            tombstones_days: 0,
            purge_grace_seconds: 1,
        };
        let wanted = Retention { runs_days: Some(90), dead_letter_payloads_days: None, tombstones_days: None };
        assert_eq!(retention(settings), wanted);
    }
}
