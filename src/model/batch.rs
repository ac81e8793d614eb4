//! The staged form of a batch: typed rows, length-prefixed, hashed while they are written, zstd level −1 (R38).
//! Knows nothing of where it is kept. `BatchWriter` is filled by connectors, `Batch` is read by the stores.
//!
//! Layout, version 1: a byte `1`, then records, each a little-endian u32 length and its body.
//! Body: tag (0 row, 1 tombstone, 2 rejected), entity code, then the fields in the order of their structs.
//! Optional and variable fields are tagged; text is a u32 length and UTF-8.

mod decode;

use std::borrow::Cow;

use decode::{decode, take_bytes};
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    entity::Entity,
    record::{Cell, KEPT_OF_OVERSIZED, MAX_RECORD_BYTES, MAX_SOURCE_ID_BYTES, Rejected, Row, code},
};

/// Format version of the staged bytes; a worker refuses one that it does not know.
pub const FORMAT: u8 = 1;
/// zstd level: −1 costs 0.94 µs and shrinks 12-fold on 556-byte records (docs/facts.md, Store).
const ZSTD_LEVEL: i32 = -1;

const ROW: u8 = 0;
const TOMBSTONE: u8 = 1;
const REJECTED: u8 = 2;

/// Why staged bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Written by a release with another format.
    #[error("staged batch has format {0}, this build reads {FORMAT}")]
    Format(u8),
    /// Not what `BatchWriter` wrote.
    #[error("staged batch is damaged")]
    Damaged,
}

impl Error {
    /// Both mean that the staged batch is useless and must be fetched again.
    #[must_use]
    pub fn class(&self) -> crate::error_class::Class {
        match self {
            Self::Format(_) => crate::error_class::Class::Conflict,
            Self::Damaged => crate::error_class::Class::Bug,
        }
    }
}

/// One staged record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// A row or tombstone with the hash of its content (R37: the only thing compared to find a change).
    Row(Row<'a>, [u8; 16]),
    /// A dead letter to be.
    Rejected(Rejected<'a>),
}

/// Collects the records of one batch.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    row_count: u32,
    rejected_count: u32,
}

impl Default for BatchWriter {
    fn default() -> Self {
        Self { bytes: vec![FORMAT], row_count: 0, rejected_count: 0 }
    }
}

impl BatchWriter {
    /// Rows and tombstones so far.
    #[must_use]
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Rejected records so far.
    #[must_use]
    pub fn rejected_count(&self) -> u32 {
        self.rejected_count
    }

    /// All records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.row_count + self.rejected_count
    }

    /// Size before compression.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a row, or, where it cannot stand in either store, a rejection that names the column.
    /// `served` is the record as the source served it, kept only if it is rejected.
    ///
    /// # Panics
    /// As `try_push`.
    pub fn push(&mut self, row: &Row<'_>, served: &[u8]) {
        if let Err(misfit) = self.try_push(row) {
            self.reject(&misfit.rejection(row, served));
        }
    }

    /// Adds a row, or nothing and says why not.
    ///
    /// # Errors
    /// What keeps it out of both stores.
    ///
    /// # Panics
    /// When the number of cells is not that of the entity's columns: a bug of the connector's mapping.
    pub(super) fn try_push(&mut self, row: &Row<'_>) -> Result<(), Misfit> {
        let columns = row.entity.columns();
        assert!(
            row.deleted_at.is_some() && row.cells.is_empty() || row.cells.len() == columns.len(),
            "a {} row needs {} cells",
            row.entity.table(),
            columns.len()
        );
        if !is_storable_id(&row.source_id) {
            return Err(Misfit::SourceId);
        }
        if let Some(index) = row.cells.iter().zip(columns).position(|(cell, column)| !cell.storable(column.kind)) {
            return Err(Misfit::Column(index));
        }
        let before = self.mark();
        self.record(|body| encode_row(body, row), |counts| counts.row_count += 1);
        if self.bytes.len() - before.length > MAX_RECORD_BYTES {
            self.roll_back(before);
            return Err(Misfit::Oversized);
        }
        Ok(())
    }

    /// Adds a record that becomes a dead letter; of a payload above `MAX_RECORD_BYTES` only the beginning and the size, and
    /// no id that the stores cannot keep.
    pub fn reject(&mut self, rejected: &Rejected<'_>) {
        let payload = if rejected.payload.len() > MAX_RECORD_BYTES {
            cut(&rejected.payload)
        } else {
            (&*rejected.payload).into()
        };
        self.record(
            |body| {
                body.extend([REJECTED, entity_code(rejected.entity)]);
                put_optional_text(body, rejected.source_id.as_deref().filter(|id| is_storable_id(id)));
                put_text(body, &rejected.code);
                put_optional_text(body, rejected.field.as_deref());
                put_bytes(body, &payload);
            },
            |counts| counts.rejected_count += 1,
        );
    }

    /// The end as it is now.
    pub(super) fn mark(&self) -> Mark {
        Mark { length: self.bytes.len(), row_count: self.row_count, rejected_count: self.rejected_count }
    }

    /// Takes back everything since `mark`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.bytes.truncate(mark.length);
        (self.row_count, self.rejected_count) = (mark.row_count, mark.rejected_count);
    }

    fn record(&mut self, body: impl FnOnce(&mut Vec<u8>), count: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        body(&mut self.bytes);
        let length =
            u32::try_from(self.bytes.len() - start - 4).expect("one record is far below 4 GiB: pages are bounded");
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        count(self);
    }

    /// The compressed bytes to stage.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        zstd::bulk::compress(&self.bytes, ZSTD_LEVEL).expect("zstd compresses any bytes into memory")
    }
}

/// A place in a batch that is being written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    length: usize,
    row_count: u32,
    rejected_count: u32,
}

/// What keeps a row out of both stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Its id is empty, too long or holds a NUL.
    SourceId,
    /// The cell at this index.
    Column(usize),
    /// It is larger than `MAX_RECORD_BYTES`.
    Oversized,
}

impl Misfit {
    /// The dead letter that the row becomes.
    pub(super) fn rejection<'r>(self, row: &'r Row<'_>, served: &'r [u8]) -> Rejected<'r> {
        let (code, field) = match self {
            Self::SourceId => (code::UNSTORABLE_VALUE, Some("source_id")),
            Self::Column(index) => (code::UNSTORABLE_VALUE, Some(row.entity.columns()[index].name)),
            Self::Oversized => (code::OVERSIZED_RECORD, None),
        };
        Rejected {
            entity: row.entity,
            source_id: (self != Self::SourceId).then(|| Cow::Borrowed(&*row.source_id)),
            code: code.into(),
            field: field.map(Cow::Borrowed),
            payload: if self == Self::Oversized { cut(served) } else { served.into() },
        }
    }
}

/// Both stores can keep it as a key.
fn is_storable_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_SOURCE_ID_BYTES && !id.contains('\0')
}

/// The beginning of a payload that is too large to keep, and how large it was; nothing stays nothing.
fn cut(payload: &[u8]) -> Cow<'_, [u8]> {
    if payload.len() <= KEPT_OF_OVERSIZED {
        return payload.into();
    }
    let mut kept = payload[..KEPT_OF_OVERSIZED].to_vec();
    kept.extend(format!("\n[cut: {} bytes in all]", payload.len()).into_bytes());
    kept.into()
}

/// A staged batch, opened.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
}

/// Largest batch after decompression, a bound on a damaged or hostile stage (R49 aims at 32 MiB for several).
const MAX_OPEN_BYTES: usize = 256 << 20;

impl Batch {
    /// Decompresses what `BatchWriter::finish` gave.
    ///
    /// # Errors
    /// `Format` for another version, `Damaged` for anything else.
    pub fn open(staged: &[u8]) -> Result<Self, Error> {
        let bytes = zstd::stream::decode_all(staged).map_err(|_| Error::Damaged)?;
        match bytes.first() {
            Some(&FORMAT) if bytes.len() <= MAX_OPEN_BYTES => Ok(Self { bytes }),
            Some(&other) if other != FORMAT => Err(Error::Format(other)),
            _ => Err(Error::Damaged),
        }
    }

    /// The records in the order they were pushed; the index is the record's position in the batch.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, Error>> {
        let mut rest = &self.bytes[1..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let record = take_bytes(&mut rest).and_then(decode);
            if record.is_none() {
                rest = &[];
            }
            Some(record.ok_or(Error::Damaged))
        })
    }
}

fn entity_code(entity: Entity) -> u8 {
    entity as u8
}

fn encode_row(body: &mut Vec<u8>, row: &Row<'_>) {
    let start = body.len();
    body.extend([if row.deleted_at.is_some() { TOMBSTONE } else { ROW }, entity_code(row.entity)]);
    put_text(body, &row.source_id);
    for at in [row.source_created_at, row.source_updated_at, row.deleted_at] {
        put_timestamp(body, at);
    }
    put_optional_text(body, row.merged_into_source_id.as_deref());
    for cell in &row.cells {
        put_cell(body, cell);
    }
    let hash = xxh3_128(&body[start..]);
    body.extend(hash.to_le_bytes());
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend(bytes);
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    put_bytes(body, text.as_bytes());
}

fn put_optional_text(body: &mut Vec<u8>, text: Option<&str>) {
    body.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(body, text);
    }
}

fn put_timestamp(body: &mut Vec<u8>, at: Option<Timestamp>) {
    body.push(u8::from(at.is_some()));
    if let Some(at) = at {
        body.extend(at.as_microsecond().to_le_bytes());
    }
}

fn put_cell(body: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => body.push(0),
        Cell::Text(text) => {
            body.push(1);
            put_text(body, text);
        }
        Cell::Integer(value) => {
            body.push(2);
            body.extend(value.to_le_bytes());
        }
        Cell::Decimal(text) => {
            body.push(3);
            put_text(body, text);
        }
        Cell::Boolean(value) => body.extend([4, u8::from(*value)]),
        Cell::Timestamp(at) => {
            body.push(5);
            body.extend(at.as_microsecond().to_le_bytes());
        }
        Cell::Date(date) => {
            body.push(6);
            body.extend(date.year().to_le_bytes());
            body.extend([date.month().unsigned_abs(), date.day().unsigned_abs()]);
        }
        Cell::Json(text) => {
            body.push(7);
            put_text(body, text);
        }
    }
}

#[cfg(test)]
mod tests;
