//! Counts of one commit: what the run's statistics become, the entries of the dead-letter array, the ceiling.
//! Pure; both stores feed it while they write.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use super::{Applied, Error, incoming::DeadLetter};
use crate::contract::workflows::{FailedRecord, MAX_FAILED_RECORDS, SyncStats};

/// The ceiling is not judged before a run has processed this many records: one bad record of three is no verdict.
pub(super) const CEILING_FROM: u64 = 100;
/// Distinct reasons named in one entry of the dead-letter array; the dead letters themselves hold all.
const NAMED_REASONS: usize = 3;

/// Counts of one commit, batch by batch.
#[derive(Debug)]
pub(super) struct Tally {
    before: SyncStats,
    written: u64,
    batches: Vec<BatchTally>,
}

#[derive(Debug, Default)]
struct BatchTally {
    index: u64,
    records: u64,
    rejected: u64,
    reasons: BTreeMap<String, u64>,
    /// Why the whole batch was given up, by class and names.
    given_up: Option<String>,
}

impl Tally {
    /// Starts from the run's counts; `indexes` are the batches' indexes in the run.
    pub(super) fn new(before: SyncStats, indexes: impl Iterator<Item = u64>) -> Self {
        let batches = indexes.map(|index| BatchTally { index, ..BatchTally::default() }).collect();
        Self { before, written: 0, batches }
    }

    /// The index in the run of the batch at this place of the call.
    pub(super) fn index(&self, batch: usize) -> u64 {
        self.batches[batch].index
    }

    /// A record of the batch at this place of the call.
    pub(super) fn record(&mut self, batch: usize) {
        self.batches[batch].records += 1;
    }

    /// Rows that the database inserted or updated.
    pub(super) fn written(&mut self, rows: u64) {
        self.written += rows;
    }

    /// A record kept as a dead letter; it must have been counted by `record` too.
    pub(super) fn reject(&mut self, letter: &DeadLetter<'_>) {
        let batch = &mut self.batches[letter.batch];
        batch.rejected += 1;
        let reason = match &letter.field {
            Some(field) => format!("{} ({field})", letter.code),
            None => letter.code.clone().into_owned(),
        };
        *batch.reasons.entry(reason).or_default() += 1;
    }

    /// The call's only batch was given up whole; `records` in it are lost to the canonical rows.
    pub(super) fn give_up(&mut self, records: u64, error: &str) {
        let batch = &mut self.batches[0];
        (batch.records, batch.rejected, batch.given_up) = (records, records, Some(error.to_owned()));
    }

    fn records(&self) -> u64 {
        self.batches.iter().map(|batch| batch.records).sum()
    }

    /// Records kept as dead letters by this commit.
    pub(super) fn rejected(&self) -> u64 {
        self.batches.iter().map(|batch| batch.rejected).sum()
    }

    /// The run's counts after this commit.
    pub(super) fn stats(&self) -> SyncStats {
        let (records, rejected) = (self.records(), self.rejected());
        SyncStats {
            batches: self.before.batches + self.batches.len() as u64,
            records_processed: self.before.records_processed + records,
            records_written: self.before.records_written + self.written,
            records_unchanged: self.before.records_unchanged + records.saturating_sub(rejected + self.written),
            errors_count: self.before.errors_count + rejected,
            failed_batches: self.before.failed_batches + self.failed().count() as u64,
            ..self.before
        }
    }

    fn failed(&self) -> impl Iterator<Item = &BatchTally> {
        self.batches.iter().filter(|batch| batch.rejected > 0 || batch.given_up.is_some())
    }

    /// Refuses a commit that rejects records while the run's share of rejected ones is above the ceiling.
    pub(super) fn check_ceiling(&self, max_percent: u8) -> Result<(), Error> {
        let stats = self.stats();
        let (rejected, processed) = (stats.errors_count, stats.records_processed);
        let above = rejected * 100 > processed * u64::from(max_percent);
        if self.rejected() > 0 && processed >= CEILING_FROM && above {
            return Err(Error::TooManyRejected { rejected, processed, max_percent });
        }
        Ok(())
    }

    /// The entry of each batch of the call, where it has one.
    pub(super) fn entries(&self, at: Timestamp) -> Vec<Option<FailedRecord>> {
        let entry = |batch: &BatchTally| {
            let error = batch.given_up.clone().or_else(|| (batch.rejected > 0).then(|| batch.describe()))?;
            Some(FailedRecord { batch_index: batch.index, error, timestamp: at })
        };
        self.batches.iter().map(entry).collect()
    }

    /// How many of this commit's entries still belong into the array: it holds the run's first ones (seed).
    pub(super) fn array_room(&self) -> usize {
        MAX_FAILED_RECORDS.saturating_sub(usize::try_from(self.before.failed_batches).unwrap_or(usize::MAX))
    }

    /// The answer of this commit.
    pub(super) fn applied(&self, next_seq: i64, at: Timestamp) -> Applied {
        Applied { next_seq, stats: self.stats(), failed: self.entries(at).into_iter().flatten().collect() }
    }
}

impl BatchTally {
    /// `3 rejected: UnstorableValue (name) ×2, UnparsableRecord`: codes and field names, no values (R18).
    fn describe(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
        let mut text = format!("{} rejected: ", self.rejected);
        for (place, (reason, count)) in reasons.iter().take(NAMED_REASONS).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let times = if **count > 1 { format!(" ×{count}") } else { String::new() };
            write!(text, "{separator}{reason}{times}").expect("a String takes all that is written");
        }
        if reasons.len() > NAMED_REASONS {
            text.push_str(", …");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn letter(code: &'static str, field: Option<&'static str>) -> DeadLetter<'static> {
        DeadLetter {
            batch: 0,
            observed_seq: 0,
            source_updated_at: None,
            entity: None,
            source_id: None,
            code: code.into(),
            field: field.map(Cow::Borrowed),
            payload: Cow::Borrowed(&[]),
            payload_form: "served",
        }
    }

    #[test]
    fn counts_add_up_and_an_entry_names_its_reasons_by_frequency() {
        let before = SyncStats { batches: 2, records_processed: 10, records_written: 10, ..SyncStats::default() };
        let mut tally = Tally::new(before, [2, 3].into_iter());
        (0..5).for_each(|_| tally.record(0));
        tally.record(1);
        tally.written(1);
        for (code, field) in [("A", None), ("B", Some("name")), ("B", Some("name"))] {
            tally.reject(&letter(code, field));
        }
        let stats = tally.stats();
        assert_eq!((stats.batches, stats.records_processed, stats.records_written), (4, 16, 11));
        assert_eq!((stats.records_unchanged, stats.errors_count, stats.failed_batches), (2, 3, 1));
        let entries = tally.entries(Timestamp::UNIX_EPOCH);
        let first = entries[0].as_ref().expect("batch 2 failed");
        assert_eq!((first.batch_index, first.error.as_str()), (2, "3 rejected: B (name) ×2, A"));
        assert!(entries[1].is_none());
    }

    #[test]
    fn the_ceiling_is_judged_from_a_hundred_records_and_only_where_records_are_rejected() {
        let judged = |before: u64, rejected: usize| {
            let before = SyncStats { records_processed: before, ..SyncStats::default() };
            let mut tally = Tally::new(before, std::iter::once(0));
            (0..rejected).for_each(|_| {
                tally.record(0);
                tally.reject(&letter("A", None));
            });
            tally.check_ceiling(10)
        };
        assert_eq!(judged(0, 99), Ok(()), "too few to judge");
        assert_eq!(judged(90, 10), Ok(()), "at the ceiling");
        assert!(matches!(
            judged(89, 11),
            Err(Error::TooManyRejected { rejected: 11, processed: 100, max_percent: 10 })
        ));
        let before = SyncStats { records_processed: 200, errors_count: 150, ..SyncStats::default() };
        assert_eq!(Tally::new(before, std::iter::once(0)).check_ceiling(10), Ok(()), "a clean batch after a dead one");
    }
}
