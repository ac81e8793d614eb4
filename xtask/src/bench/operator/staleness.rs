//! How old a status is: for every commit, the time until a watch showed it or a later one. Pure.

use std::collections::HashMap;

use super::{watched::Seen, workers::Committed};

/// Ages in seconds, sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ages {
    ages: Vec<f64>,
    /// Commits that were never shown.
    pub(super) lost: usize,
}

/// How old conditions and counters became.
#[derive(Debug, Clone, Default)]
pub(super) struct Staleness {
    pub(super) conditions: Ages,
    pub(super) counters: Ages,
}

impl Ages {
    fn of(found: impl Iterator<Item = Option<f64>>) -> Self {
        let (mut ages, mut lost) = (Vec::new(), 0);
        for age in found {
            match age {
                Some(age) => ages.push(age),
                None => lost += 1,
            }
        }
        ages.sort_by(f64::total_cmp);
        Self { ages, lost }
    }

    /// The age that so many percent of all commits did not exceed.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.ages.len() * percent).div_ceil(100).max(1);
        self.ages.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ages.len()
    }
}

impl Staleness {
    /// From what was committed and what the watch showed, oldest first.
    pub(super) fn of(committed: &Committed, seen: &[Seen]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Seen>> = HashMap::new();
        for seen in seen.iter().filter(|it| !it.is_tenant) {
            by_name.entry(&seen.name).or_default().push(seen);
        }
        let shown = |name: &str| by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let conditions = committed.turns.iter().map(|turn| {
            let told = shown(&turn.name).iter().find(|it| it.at >= turn.at && it.connected == turn.connected);
            told.map(|it| it.at - turn.at)
        });
        let counters = committed.slice_of.iter().flat_map(|(name, slice)| {
            let states = shown(name);
            committed.counts[*slice].iter().map(|count| {
                let told = states.iter().find(|it| it.processed >= count.processed);
                told.map(|it| (it.at - count.at).max(0.0))
            })
        });
        Self { conditions: Ages::of(conditions), counters: Ages::of(counters) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::operator::workers::{Count, Turn};

    fn seen(at: f64, processed: i64, connected: &str) -> Seen {
        Seen {
            at,
            is_tenant: false,
            name: "t/c".to_owned(),
            generation: 1,
            is_ready: true,
            connected: connected.to_owned(),
            processed,
        }
    }

    #[test]
    fn a_commit_is_as_old_as_the_first_state_that_shows_it_or_a_later_one() {
        let count = |processed, at| Count { processed, at };
        let turn = |connected, at| Turn { name: "t/c".to_owned(), connected, at };
        let committed = Committed {
            turns: vec![turn("False", 12.0), turn("True", 20.0)],
            counts: vec![vec![count(1, 10.0), count(2, 12.0), count(3, 14.0)]],
            slice_of: vec![("t/c".to_owned(), 0)],
        };
        let shown = [seen(9.0, 0, "True"), seen(13.0, 2, "False")];
        let staleness = Staleness::of(&committed, &shown);
        assert_eq!(staleness.counters, Ages { ages: vec![1.0, 3.0], lost: 1 });
        assert_eq!(staleness.conditions, Ages { ages: vec![1.0], lost: 1 });
    }

    #[test]
    fn a_percentile_is_an_age_that_was_found() {
        let ages = Ages { ages: (1..=200).map(f64::from).collect(), lost: 0 };
        assert_eq!((ages.percentile(50), ages.percentile(99), ages.percentile(100)), (100.0, 198.0, 200.0));
        assert_eq!(Ages::default().percentile(99), 0.0);
    }
}
