//! The staged form of a batch: typed rows, length-prefixed, hashed while they are written, zstd level −1 (R38).
//! Knows nothing of where it is kept. `BatchWriter` is filled by connectors, `Batch` is read by the stores.
//!
//! Layout, version 1: a byte `1`, then records, each a little-endian u32 length and its body.
//! Body: tag (0 row, 1 tombstone, 2 rejected), entity code, then the fields in the order of their structs.
//! Optional and variable fields are tagged; text is a u32 length and UTF-8.

use std::borrow::Cow;

use jiff::{Timestamp, civil::Date};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    entity::Entity,
    record::{Cell, MAX_SOURCE_ID_BYTES, Rejected, Row},
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

    /// Adds a row, or, where a value cannot stand in either store, a rejection that names the column.
    /// `served` is the record as the source served it, kept only if it is rejected.
    ///
    /// # Panics
    /// When the number of cells is not that of the entity's columns: a bug of the connector's mapping.
    pub fn push(&mut self, row: &Row<'_>, served: &[u8]) {
        let columns = row.entity.columns();
        assert!(
            row.deleted_at.is_some() && row.cells.is_empty() || row.cells.len() == columns.len(),
            "a {} row needs {} cells",
            row.entity.table(),
            columns.len()
        );
        let bad_id =
            row.source_id.is_empty() || row.source_id.len() > MAX_SOURCE_ID_BYTES || row.source_id.contains('\0');
        let fault = if bad_id {
            Some("source_id")
        } else {
            row.cells
                .iter()
                .zip(columns)
                .find(|(cell, column)| !cell.storable(column.kind))
                .map(|(_, column)| column.name)
        };
        match fault {
            Some(field) => self.reject(&Rejected {
                entity: row.entity,
                source_id: (!bad_id).then(|| Cow::Borrowed(&*row.source_id)),
                code: "UnstorableValue".into(),
                field: Some(field.into()),
                payload: served.into(),
            }),
            None => self.record(|body| encode_row(body, row), |counts| counts.row_count += 1),
        }
    }

    /// Adds a record that becomes a dead letter.
    pub fn reject(&mut self, rejected: &Rejected<'_>) {
        self.record(
            |body| {
                body.extend([REJECTED, code(rejected.entity)]);
                put_optional_text(body, rejected.source_id.as_deref());
                put_text(body, &rejected.code);
                put_optional_text(body, rejected.field.as_deref());
                put_bytes(body, &rejected.payload);
            },
            |counts| counts.rejected_count += 1,
        );
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

fn code(entity: Entity) -> u8 {
    entity as u8
}

fn encode_row(body: &mut Vec<u8>, row: &Row<'_>) {
    let start = body.len();
    body.extend([if row.deleted_at.is_some() { TOMBSTONE } else { ROW }, code(row.entity)]);
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

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(*take::<4>(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    std::str::from_utf8(take_bytes(rest)?).ok().map(Cow::Borrowed)
}

fn take_optional_text<'a>(rest: &mut &'a [u8]) -> Option<Option<Cow<'a, str>>> {
    match take::<1>(rest)?[0] {
        0 => Some(None),
        _ => take_text(rest).map(Some),
    }
}

fn take_timestamp(rest: &mut &[u8]) -> Option<Option<Timestamp>> {
    match take::<1>(rest)?[0] {
        0 => Some(None),
        _ => Timestamp::from_microsecond(i64::from_le_bytes(*take(rest)?)).ok().map(Some),
    }
}

fn take_cell<'a>(rest: &mut &'a [u8]) -> Option<Cell<'a>> {
    Some(match take::<1>(rest)?[0] {
        0 => Cell::Null,
        1 => Cell::Text(take_text(rest)?),
        2 => Cell::Integer(i64::from_le_bytes(*take(rest)?)),
        3 => Cell::Decimal(take_text(rest)?),
        4 => Cell::Boolean(take::<1>(rest)?[0] != 0),
        5 => Cell::Timestamp(Timestamp::from_microsecond(i64::from_le_bytes(*take(rest)?)).ok()?),
        6 => {
            let year = i16::from_le_bytes(*take(rest)?);
            let [month, day] = *take::<2>(rest)?;
            Cell::Date(Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?)
        }
        7 => Cell::Json(take_text(rest)?),
        _ => return None,
    })
}

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let mut rest = body;
    let [tag, entity] = *take::<2>(&mut rest)?;
    let entity = *Entity::ALL.get(usize::from(entity))?;
    if tag == REJECTED {
        return Some(Record::Rejected(Rejected {
            entity,
            source_id: take_optional_text(&mut rest)?,
            code: take_text(&mut rest)?,
            field: take_optional_text(&mut rest)?,
            payload: take_bytes(&mut rest)?.into(),
        }));
    }
    let source_id = take_text(&mut rest)?;
    let source_created_at = take_timestamp(&mut rest)?;
    let source_updated_at = take_timestamp(&mut rest)?;
    let deleted_at = take_timestamp(&mut rest)?;
    let merged_into_source_id = take_optional_text(&mut rest)?;
    let mut cells = Vec::new();
    while rest.len() > 16 {
        cells.push(take_cell(&mut rest)?);
    }
    let hash = *take::<16>(&mut rest)?;
    let row = Row { entity, source_id, source_created_at, source_updated_at, deleted_at, merged_into_source_id, cells };
    (row.cells.len() == entity.columns().len() || tag == TOMBSTONE).then_some(Record::Row(row, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account<'a>(name: Cell<'a>) -> Row<'a> {
        let mut cells = vec![Cell::Null; Entity::Account.columns().len()];
        cells[0] = name;
        cells[4] = Cell::Integer(-7);
        cells[5] = Cell::Decimal("1.50".into());
        cells[15] = Cell::Timestamp("2026-01-02T03:04:05.123456Z".parse().expect("timestamp"));
        cells[16] = Cell::Json(r#"{"a":[1,"ü"]}"#.into());
        Row {
            entity: Entity::Account,
            source_id: "42".into(),
            source_created_at: None,
            source_updated_at: Some("2026-01-01T00:00:00Z".parse().expect("timestamp")),
            deleted_at: None,
            merged_into_source_id: Some("7".into()),
            cells,
        }
    }

    #[test]
    fn what_was_pushed_is_read_back_and_equal_content_has_an_equal_hash() {
        let row = account(Cell::Text("Ünïcode 🦀".into()));
        let tombstone = Row { deleted_at: row.source_updated_at, cells: vec![], ..row.clone() };
        let rejected = Rejected {
            entity: Entity::Contact,
            source_id: None,
            code: "UnparsableRecord".into(),
            field: None,
            payload: b"{".as_slice().into(),
        };
        let mut writer = BatchWriter::default();
        for pushed in [&row, &tombstone, &row] {
            writer.push(pushed, b"{}");
        }
        writer.reject(&rejected);
        assert_eq!((writer.row_count(), writer.rejected_count()), (3, 1));
        let batch = Batch::open(&writer.finish()).expect("own format");
        let records: Vec<_> = batch.records().collect::<Result<_, _>>().expect("undamaged");
        let [Record::Row(first, hash), Record::Row(gone, other), Record::Row(_, again), Record::Rejected(last)] =
            &records[..]
        else {
            panic!("{records:?}")
        };
        assert_eq!((first, gone, last), (&row, &tombstone, &rejected));
        assert!(hash == again && hash != other);
    }

    #[test]
    fn a_value_that_no_store_takes_becomes_a_rejection_naming_its_column() {
        let mut writer = BatchWriter::default();
        writer.push(&account(Cell::Text("nul \0".into())), b"{\"served\":1}");
        let batch = Batch::open(&writer.finish()).expect("own format");
        let Some(Ok(Record::Rejected(rejected))) = batch.records().next() else { panic!("not rejected") };
        assert_eq!((rejected.field.as_deref(), &*rejected.payload), (Some("name"), b"{\"served\":1}".as_slice()));
    }

    #[test]
    fn damaged_bytes_are_an_error_and_end_the_iteration() {
        assert!(matches!(Batch::open(b"junk"), Err(Error::Damaged)));
        let other = zstd::bulk::compress(&[9, 1, 2], 1).expect("compress");
        assert!(matches!(Batch::open(&other), Err(Error::Format(9))));
        let cut = zstd::bulk::compress(&[FORMAT, 200, 0, 0, 0, 1], 1).expect("compress");
        assert_eq!(Batch::open(&cut).expect("opens").records().filter(Result::is_err).count(), 1);
    }
}
