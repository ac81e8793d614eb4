//! Rows as PostgreSQL's text COPY reads them, one buffer an entity; knows the temporary table's columns and no other SQL.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _, io::Write as _, ops::Range};

use crate::{
    model::{entity::Entity, record::Cell},
    store::incoming::Change,
};

/// The temporary table's columns before those of the entity, in COPY's order.
pub(super) const ENVELOPE: &str =
    "entity, source_id, source_created_at, source_updated_at, deleted_at, merged_into_source_id,
    observed_seq, payload_hash";

/// The rows of one entity in one call.
#[derive(Debug)]
pub(super) struct CopyBuffer<'a> {
    /// Which table.
    pub(super) entity: Entity,
    /// At least one of them is a tombstone.
    pub(super) has_tombstones: bool,
    /// At least one key stands more than once among the live rows, or among the tombstones.
    pub(super) has_repeated_keys: bool,
    bytes: Vec<u8>,
    /// Version number of each row, and where it ends.
    rows: Vec<(i64, usize)>,
    keys: HashSet<(bool, Cow<'a, str>)>,
}

impl<'a> CopyBuffer<'a> {
    /// An empty buffer.
    pub(super) fn new(entity: Entity) -> Self {
        Self {
            entity,
            has_tombstones: false,
            has_repeated_keys: false,
            bytes: Vec::new(),
            rows: Vec::new(),
            keys: HashSet::new(),
        }
    }

    /// Adds a row or tombstone.
    pub(super) fn push(&mut self, change: Change<'a>) {
        encode(&mut self.bytes, &change);
        self.rows.push((change.observed_seq, self.bytes.len()));
        let tombstone = change.is_tombstone();
        self.has_tombstones |= tombstone;
        self.has_repeated_keys |= !self.keys.insert((tombstone, change.row.source_id));
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Version number of a row.
    pub(super) fn observed_seq(&self, row: usize) -> i64 {
        self.rows[row].0
    }

    /// The bytes of some rows.
    pub(super) fn bytes(&self, rows: Range<usize>) -> &[u8] {
        let end_of = |row: usize| self.rows[row].1;
        let start = if rows.start == 0 { 0 } else { end_of(rows.start - 1) };
        let end = if rows.is_empty() { start } else { end_of(rows.end - 1) };
        &self.bytes[start..end]
    }
}

fn encode(bytes: &mut Vec<u8>, change: &Change<'_>) {
    let row = &change.row;
    put(bytes, format_args!("{}\t", row.entity as u8));
    put_text(bytes, &row.source_id);
    for at in [row.source_created_at, row.source_updated_at, row.deleted_at] {
        bytes.push(b'\t');
        match at {
            Some(at) => put(bytes, format_args!("{at}")),
            None => bytes.extend(b"\\N"),
        }
    }
    bytes.push(b'\t');
    match &row.merged_into_source_id {
        Some(id) => put_text(bytes, id),
        None => bytes.extend(b"\\N"),
    }
    put(bytes, format_args!("\t{}\t", change.observed_seq));
    put_hash(bytes, &change.hash);
    let columns = change.row.entity.columns().len();
    for place in 0..columns {
        bytes.push(b'\t');
        match row.cells.get(place) {
            Some(cell) if !change.is_tombstone() => put_cell(bytes, cell),
            _ => bytes.extend(b"\\N"),
        }
    }
    bytes.push(b'\n');
}

fn put(bytes: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    bytes.write_fmt(text).expect("a Vec takes all that is written");
}

/// `bytea` in its hex form, behind the backslash that COPY takes off.
fn put_hash(bytes: &mut Vec<u8>, hash: &[u8; 16]) {
    let mut hex = String::with_capacity(35);
    hex.push_str("\\\\x");
    for byte in hash {
        write!(hex, "{byte:02x}").expect("a String takes all that is written");
    }
    bytes.extend(hex.as_bytes());
}

fn put_cell(bytes: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => bytes.extend(b"\\N"),
        Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text) => put_text(bytes, text),
        Cell::Integer(value) => put(bytes, format_args!("{value}")),
        Cell::Boolean(value) => bytes.push(if *value { b't' } else { b'f' }),
        Cell::Timestamp(at) => put(bytes, format_args!("{at}")),
        Cell::Date(date) => put(bytes, format_args!("{date}")),
    }
}

/// A line of one text column.
pub(super) fn put_line(bytes: &mut Vec<u8>, text: &str) {
    put_text(bytes, text);
    bytes.push(b'\n');
}

/// COPY's text format: backslash, tab, newline and carriage return are escaped, all else stands for itself.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(place) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        bytes.extend(&rest[..place]);
        bytes.extend(match rest[place] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        });
        rest = &rest[place + 1..];
    }
    bytes.extend(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Row;

    fn stage<'a>(id: &'a str, name: &'a str, position: &str) -> Change<'a> {
        let mut cells = vec![Cell::Null; Entity::Stage.columns().len()];
        cells[0] = Cell::Text(name.into());
        cells[3] = Cell::Integer(position.parse().expect("a number"));
        let row = Row {
            entity: Entity::Stage,
            source_id: id.into(),
            source_created_at: None,
            source_updated_at: Some("2026-01-02T03:04:05.5Z".parse().expect("timestamp")),
            deleted_at: None,
            merged_into_source_id: None,
            cells,
        };
        Change { row, hash: [0xab; 16], observed_seq: 7, batch: 0 }
    }

    #[test]
    fn separators_and_null_marks_in_values_are_escaped() {
        let mut buffer = CopyBuffer::new(Entity::Stage);
        buffer.push(stage("a\tb", "\\N\r\n\\.", "1"));
        let hash = "ab".repeat(16);
        let wanted = format!(
            "6\ta\\tb\t\\N\t2026-01-02T03:04:05.5Z\t\\N\t\\N\t7\t\\\\x{hash}\t\\\\N\\r\\n\\\\.\t\\N\t\\N\t1\t\\N\t\\N\t\\N\n"
        );
        assert_eq!(String::from_utf8_lossy(buffer.bytes(0..1)), wanted);
    }

    #[test]
    fn any_range_of_rows_can_be_sent_again_and_repeated_keys_are_noticed() {
        let mut buffer = CopyBuffer::new(Entity::Stage);
        for (id, name) in [("1", "a"), ("2", "b"), ("3", "c")] {
            buffer.push(stage(id, name, "1"));
        }
        assert!(!buffer.has_repeated_keys && !buffer.has_tombstones);
        let parts = [buffer.bytes(0..1), buffer.bytes(1..1), buffer.bytes(1..3)].concat();
        assert_eq!(parts, buffer.bytes(0..3));
        assert!(buffer.bytes(1..2).starts_with(b"6\t2\t"));
        let mut gone = stage("3", "", "0");
        gone.row.deleted_at = gone.row.source_updated_at;
        buffer.push(gone);
        assert!(
            !buffer.has_repeated_keys && buffer.has_tombstones,
            "a row and its tombstone are two statements' business"
        );
        buffer.push(stage("3", "d", "1"));
        assert!(buffer.has_repeated_keys);
    }
}
