//! Staged batches, opened for one commit: each record with its version number, or as the dead letter it becomes.
//! Shared by both stores; knows no SQL.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;

use super::{Error, RecordKey};
use crate::model::{
    batch::{self, Batch, BatchWriter, Record},
    cursor::Load,
    entity::Entity,
    record::{Rejected, Row},
};

/// A staged batch as read back.
#[derive(Debug)]
pub(super) struct StagedRow {
    /// Its id.
    pub(super) staged_id: String,
    /// Its position.
    pub(super) seq: i64,
    /// Where the batch after it starts.
    pub(super) next: Load,
    /// The stream read last.
    pub(super) entity_type: String,
    /// The staged bytes.
    pub(super) payload: Vec<u8>,
    /// Records in it, as counted when it was staged.
    pub(super) record_count: i64,
}

/// Gives the ordered half of a row's version: the n-th record of the n-th batch of the n-th run (R47).
/// 23 bits of run, 20 of batch, 20 of position: 50,000 rows a batch need 16, a run ends long before a million batches, and a
/// run a minute takes sixteen years. What does not fit is refused, because a number that wraps would let older overwrite newer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    run_no: i64,
    first_seq: i64,
}

/// Runs of a connector that can be numbered.
const RUNS: i64 = 1 << 23;
/// Batches of a run.
const BATCHES: i64 = 1 << 20;
/// Records of a batch.
const POSITIONS: i64 = 1 << 20;

impl Numbers {
    /// Those of a run whose first batch stands at this position.
    pub(super) fn new(run_no: i64, first_seq: i64) -> Self {
        Self { run_no, first_seq }
    }

    /// The number of a record of the batch at position `seq`.
    pub(super) fn number(self, seq: i64, position: usize) -> Result<i64, Error> {
        let (batch, position) = (seq - self.first_seq, i64::try_from(position).unwrap_or(i64::MAX));
        let fits = (0..RUNS).contains(&self.run_no) && (0..BATCHES).contains(&batch) && position < POSITIONS;
        if !fits {
            // The next run counts from zero.
            return Err(Error::StaleRun { attempted: "number a record" });
        }
        Ok((self.run_no * BATCHES + batch) * POSITIONS + position)
    }
}

/// A load as it begins in this run: what is older than its first number was there before it.
pub(super) fn begun(load: &Load, run_no: i64) -> Load {
    Load { first_observed: run_no.saturating_mul(BATCHES * POSITIONS), is_first: run_no == FIRST_RUN, ..load.clone() }
}

/// Number of a connector's first run.
const FIRST_RUN: i64 = 1;

/// A row or tombstone with its version and the batch of the call that it came in.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// The row.
    pub(super) row: Row<'a>,
    /// Hash of its content.
    pub(super) hash: [u8; 16],
    /// Ordered half of its version.
    pub(super) observed_seq: i64,
    /// Index of its batch in the call.
    pub(super) batch: usize,
}

impl Change<'_> {
    /// Whether it deletes.
    pub(super) fn is_tombstone(&self) -> bool {
        self.row.deleted_at.is_some()
    }

    /// The dead letter of a row that the database refused; its payload is the row in staged form, for people to look at.
    pub(super) fn refused(self, code: String, field: Option<String>) -> DeadLetter<'static> {
        let mut single = BatchWriter::default();
        single.push(&self.row, &[]);
        DeadLetter {
            batch: self.batch,
            observed_seq: self.observed_seq,
            source_updated_at: self.row.source_updated_at.filter(|&at| at >= EARLIEST),
            entity: Some(self.row.entity),
            source_id: Some(Cow::Owned(self.row.source_id.into_owned())),
            code: Cow::Owned(code),
            field: field.map(Cow::Owned),
            payload: Cow::Owned(single.finish()),
            payload_form: STAGED,
        }
    }
}

/// Year 1: before it neither store keeps a time in its columns, and such a one may be why the row was refused.
const EARLIEST: Timestamp = Timestamp::constant(-62_135_596_800, 0);
/// `payload_form` of a payload as the source served it.
const SERVED: &str = "served";
/// `payload_form` of a payload that is a staged batch.
const STAGED: &str = "staged";
/// `payload_form` where nothing was kept: whatever is done with the record kills.
const LOST: &str = "lost";
/// `code` of a record that killed its workers (R44).
const WORKER_LOST: &str = "WorkerLost";

/// A record to be kept as a dead letter.
#[derive(Debug)]
pub(super) struct DeadLetter<'a> {
    /// Index of its batch in the call.
    pub(super) batch: usize,
    /// Ordered half of its version.
    pub(super) observed_seq: i64,
    /// First half of its version, if it could be read.
    pub(super) source_updated_at: Option<Timestamp>,
    /// Which table it was meant for.
    pub(super) entity: Option<Entity>,
    /// The vendor's id, if it could be read.
    pub(super) source_id: Option<Cow<'a, str>>,
    /// Why.
    pub(super) code: Cow<'a, str>,
    /// The field at fault, if known.
    pub(super) field: Option<Cow<'a, str>>,
    /// The record.
    pub(super) payload: Cow<'a, [u8]>,
    /// How to read the payload.
    pub(super) payload_form: &'static str,
}

/// One record of an opened batch.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// To be written by version and hash.
    Change(Change<'a>),
    /// To be kept aside.
    DeadLetter(DeadLetter<'a>),
}

impl<'a> Item<'a> {
    /// Ordered half of its version.
    pub(super) fn observed_seq(&self) -> i64 {
        match self {
            Self::Change(change) => change.observed_seq,
            Self::DeadLetter(letter) => letter.observed_seq,
        }
    }

    /// Entity and id of the record, where they could be read.
    pub(super) fn record(&self) -> Option<(Entity, Cow<'a, str>)> {
        match self {
            Self::Change(change) => Some((change.row.entity, change.row.source_id.clone())),
            Self::DeadLetter(letter) => letter.record(),
        }
    }

    fn is(&self, key: &RecordKey) -> bool {
        self.record().is_some_and(|(entity, id)| entity == key.entity && id == key.source_id)
    }

    /// The dead letter of a record that killed its workers: its id, and nothing of what may kill again. A replay reads
    /// it back from the source.
    fn lost(self) -> Self {
        let record = self.record();
        let (batch, observed_seq) = match &self {
            Self::Change(change) => (change.batch, change.observed_seq),
            Self::DeadLetter(letter) => (letter.batch, letter.observed_seq),
        };
        Self::DeadLetter(DeadLetter {
            batch,
            observed_seq,
            source_updated_at: None,
            entity: record.as_ref().map(|&(entity, _)| entity),
            source_id: record.map(|(_, id)| id),
            code: WORKER_LOST.into(),
            field: None,
            payload: Cow::default(),
            payload_form: LOST,
        })
    }
}

impl<'a> DeadLetter<'a> {
    /// Entity and id of the record, where they could be read.
    pub(super) fn record(&self) -> Option<(Entity, Cow<'a, str>)> {
        Some((self.entity?, self.source_id.clone()?))
    }
}

/// Opened batches of one call.
#[derive(Debug)]
pub(super) struct Incoming {
    numbers: Numbers,
    batches: Vec<(i64, Batch)>,
    left_out: Vec<RecordKey>,
    only: Option<RecordKey>,
}

impl Incoming {
    /// Opens the staged bytes.
    pub(super) fn open(numbers: Numbers, staged: &[StagedRow]) -> Result<Self, Error> {
        let open = |row: &StagedRow| Batch::open(&row.payload).map(|batch| (row.seq, batch)).map_err(|_| UNREADABLE);
        let batches = staged.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { numbers, batches, left_out: Vec::new(), only: None })
    }

    /// These become dead letters.
    pub(super) fn without(self, left_out: &[RecordKey]) -> Self {
        Self { left_out: left_out.to_vec(), ..self }
    }

    /// Nothing but this record.
    pub(super) fn only(self, record: &RecordKey) -> Self {
        Self { only: Some(record.clone()), ..self }
    }

    /// All records in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Result<Item<'_>, Error>> {
        let all = self.batches.iter().enumerate().flat_map(move |(index, (seq, batch))| {
            batch.records().enumerate().map(move |(position, record)| {
                let record = record.map_err(|_: batch::Error| UNREADABLE)?;
                Ok(item(record, index, self.numbers.number(*seq, position)?))
            })
        });
        all.filter(|item| match (&self.only, item) {
            (Some(only), Ok(item)) => item.is(only),
            _ => true,
        })
        .map(|item| item.map(|item| if self.left_out.iter().any(|key| item.is(key)) { item.lost() } else { item }))
    }

    /// The records that have an id, each once.
    pub(super) fn keys(&self) -> Result<Vec<RecordKey>, Error> {
        let mut keys = BTreeSet::new();
        for item in self.records() {
            let record = item?.record();
            keys.extend(record.map(|(entity, id)| RecordKey { entity, source_id: id.into_owned() }));
        }
        Ok(keys.into_iter().collect())
    }

    /// The dead letters of rows that the database refused, by version number with code and field: the rare look-back.
    pub(super) fn refused(
        &self,
        mut why: BTreeMap<i64, (String, Option<String>)>,
    ) -> Result<Vec<DeadLetter<'static>>, Error> {
        let mut letters = Vec::with_capacity(why.len());
        let mut records = self.records();
        while !why.is_empty() {
            let Item::Change(change) = records.next().ok_or(UNREADABLE)?? else { continue };
            let refused = why.remove(&change.observed_seq);
            letters.extend(refused.map(|(code, field)| change.refused(code, field)));
        }
        Ok(letters)
    }
}

const UNREADABLE: Error = Error::Unreadable { what: "staged batch" };

fn item(record: Record<'_>, batch: usize, observed_seq: i64) -> Item<'_> {
    match record {
        Record::Row(row, hash) => Item::Change(Change { row, hash, observed_seq, batch }),
        Record::Rejected(rejected) => Item::DeadLetter(from_rejected(rejected, batch, observed_seq)),
    }
}

fn from_rejected(rejected: Rejected<'_>, batch: usize, observed_seq: i64) -> DeadLetter<'_> {
    DeadLetter {
        batch,
        observed_seq,
        source_updated_at: None,
        entity: Some(rejected.entity),
        source_id: rejected.source_id,
        code: rejected.code,
        field: rejected.field,
        payload: rejected.payload,
        payload_form: SERVED,
    }
}

/// Every record of a batch that could not be written, as dead letters; a batch that cannot even be opened is one,
/// with its staged bytes (R10: the place moves on, nothing is thrown away).
pub(super) fn whole_batch<'a>(
    opened: &'a Result<Incoming, Error>,
    staged: &'a StagedRow,
    numbers: Numbers,
) -> Result<Vec<DeadLetter<'a>>, Error> {
    let letters = opened.as_ref().ok().and_then(|incoming| {
        let each = incoming.records().map(|item| {
            Ok(match item? {
                Item::Change(change) => change.refused("BatchFailed".to_owned(), None),
                Item::DeadLetter(letter) => letter,
            })
        });
        each.collect::<Result<Vec<_>, Error>>().ok()
    });
    if let Some(letters) = letters {
        return Ok(letters);
    }
    Ok(vec![DeadLetter {
        batch: 0,
        observed_seq: numbers.number(staged.seq, 0)?,
        source_updated_at: None,
        entity: None,
        source_id: None,
        code: "DamagedBatch".into(),
        field: None,
        payload: Cow::Borrowed(&staged.payload),
        payload_form: STAGED,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cursor::Cursor;

    #[test]
    fn versions_order_by_run_then_batch_then_position() {
        let ordered = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 0xF_FFFF, 49_999), (2, 0, 0), (0x7F_FFFF, 3, 2)];
        let number = |&(run, batch, position): &(i64, i64, usize)| {
            // Wherever in its connector's life the run begins: positions go on over all runs.
            let first_seq = 0xF_FFF0;
            Numbers::new(run, first_seq).number(first_seq + batch, position).expect("fits")
        };
        let numbers: Vec<_> = ordered.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let next = Load::begin(&Cursor::default(), 0, true, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(begun(&next, 2).first_observed, numbers[4]);
    }

    #[test]
    fn what_has_no_number_is_refused_and_never_wraps() {
        for (run, batch, position) in [(1, 0x10_0000, 0), (1, -1, 0), (1, 0, 0x10_0000), (0x80_0000, 0, 0)] {
            let number = Numbers::new(run, 7).number(7 + batch, position);
            assert!(matches!(number, Err(Error::StaleRun { .. })), "{run} {batch} {position}: {number:?}");
        }
    }

    #[test]
    fn a_damaged_batch_becomes_one_dead_letter_with_its_bytes() {
        let next = Load::begin(&Cursor::default(), 0, true, &[], Timestamp::UNIX_EPOCH);
        let staged = StagedRow {
            staged_id: "s".to_owned(),
            seq: 3,
            next,
            entity_type: String::new(),
            payload: b"junk".to_vec(),
            record_count: 7,
        };
        let numbers = Numbers::new(1, 0);
        let opened = Incoming::open(numbers, std::slice::from_ref(&staged));
        let letters = whole_batch(&opened, &staged, numbers).expect("numbered");
        assert_eq!(letters.len(), 1);
        assert_eq!((&*letters[0].code, &*letters[0].payload), ("DamagedBatch", b"junk".as_slice()));
    }
}
