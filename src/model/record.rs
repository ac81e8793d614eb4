//! One canonical row on its way from a source's page to the store, and one record that cannot become a row.
//! Borrowed from the page (or the staged bytes): nothing here owns text unless it had to be changed.

use std::borrow::Cow;

use jiff::{Timestamp, civil::Date};

use super::entity::{ColumnType, Entity};

/// One value of a row; its variant must fit the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// For `ColumnType::Text`.
    Text(Cow<'a, str>),
    /// For `ColumnType::Integer`.
    Integer(i64),
    /// For `ColumnType::Decimal`: an optional sign, digits, an optional fraction.
    Decimal(Cow<'a, str>),
    /// For `ColumnType::Boolean`.
    Boolean(bool),
    /// For `ColumnType::Timestamp`; kept to the microsecond.
    Timestamp(Timestamp),
    /// For `ColumnType::Date`.
    Date(Date),
    /// For `ColumnType::Json`: one JSON document.
    Json(Cow<'a, str>),
}

/// A canonical row: envelope and one cell per column of its entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// Which table.
    pub entity: Entity,
    /// The vendor's id, unique per (tenant, connector, entity).
    pub source_id: Cow<'a, str>,
    /// When the vendor says it was created.
    pub source_created_at: Option<Timestamp>,
    /// When the vendor says it last changed; the first half of the row's version (R9). A tombstone without it is of a record
    /// that the source does not know: it has the time of the row that it deletes, and so is newer by being observed later.
    pub source_updated_at: Option<Timestamp>,
    /// Set on a tombstone; its cells are all `Null`, and the store keeps the last known values.
    pub deleted_at: Option<Timestamp>,
    /// The record this one was merged into, where the source says so.
    pub merged_into_source_id: Option<Cow<'a, str>>,
    /// One per column of `entity`, in order; empty on a tombstone.
    pub cells: Vec<Cell<'a>>,
}

/// A record that the source served and that cannot be stored as it is: it becomes a dead letter when its batch commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// Which table it was meant for.
    pub entity: Entity,
    /// The vendor's id, if it could be read.
    pub source_id: Option<Cow<'a, str>>,
    /// `UnparsableRecord`, `UnstorableValue`, …; stable, safe to show anywhere.
    pub code: Cow<'a, str>,
    /// The field at fault, if known; a name, never a value (R18).
    pub field: Option<Cow<'a, str>>,
    /// The record as served; kept only in the dead letter's own row.
    pub payload: Cow<'a, [u8]>,
}

/// Why a record becomes a dead letter: the `code`s of `Rejected` that are the same for every source.
pub mod code {
    /// A value that neither store takes, or that this column cannot hold.
    pub const UNSTORABLE_VALUE: &str = "UnstorableValue";
    /// A value that is not of its property's type.
    pub const UNPARSABLE_VALUE: &str = "UnparsableValue";
    /// What was served is no record.
    pub const UNPARSABLE_RECORD: &str = "UnparsableRecord";
    /// A record above `MAX_RECORD_BYTES`.
    pub const OVERSIZED_RECORD: &str = "OversizedRecord";
}

/// Largest record that is stored, encoded. PostgreSQL would take a gigabyte a value, but a commit holds tens of
/// thousands of records in memory, and no CRM serves more than some 100 KB a record (HubSpot: 65,536 characters a property).
pub const MAX_RECORD_BYTES: usize = 4 << 20;
/// What a dead letter keeps of a larger one: enough to recognise it.
pub const KEPT_OF_OVERSIZED: usize = 64 << 10;

/// Longest text that may stand in an indexed column: PostgreSQL's B-tree refuses entries above 2,704 bytes
/// (one third of a page); ids of the vendors are far below.
pub const MAX_SOURCE_ID_BYTES: usize = 512;

impl Cell<'_> {
    /// Whether this cell may stand in a column of this type in both stores.
    /// PostgreSQL refuses NUL in text, and `\u0000`, lone surrogates and exponents beyond its `numeric` in `jsonb`.
    #[must_use]
    pub fn storable(&self, kind: ColumnType) -> bool {
        match (self, kind) {
            (Self::Null, _)
            | (Self::Integer(_), ColumnType::Integer)
            | (Self::Boolean(_), ColumnType::Boolean)
            | (Self::Timestamp(_), ColumnType::Timestamp)
            | (Self::Date(_), ColumnType::Date) => true,
            (Self::Text(text), ColumnType::Text) => !text.as_bytes().contains(&0),
            (Self::Decimal(text), ColumnType::Decimal) => plain_decimal(text),
            (Self::Json(text), ColumnType::Json) => storable_json(text),
            _ => false,
        }
    }
}

/// `-12.5`: at most 100 digits, so that no store rounds or refuses it.
fn plain_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 100 && all_digits(whole) && all_digits(fraction)
}

/// A JSON document that `jsonb` takes: read into values only where an escape or an exponent could hide a poison (R38).
fn storable_json(text: &str) -> bool {
    let exponent = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1].eq_ignore_ascii_case(&b'e');
    if !text.contains('\\') && !text.as_bytes().windows(2).any(exponent) {
        return serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    }
    serde_json::from_str(text).is_ok_and(|value| fits(&value))
}

fn fits(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.as_f64().is_none_or(f64::is_finite),
        serde_json::Value::String(text) => !text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().all(fits),
        serde_json::Value::Object(fields) => fields.iter().all(|(name, value)| !name.contains('\0') && fits(value)),
        serde_json::Value::Null | serde_json::Value::Bool(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_refuses_is_not_storable() {
        let json = |text: &'static str| Cell::Json(text.into()).storable(ColumnType::Json);
        assert!(json(r#"{"a":"ä","b":1e300,"c":"a backslash and \\u0000"}"#));
        for poison in [r#""\u0000""#, r#"{"\u0000":1}"#, r#""\ud800""#, "\"\0\"", "1e400000", "{", "NaN"] {
            assert!(!json(poison), "{poison}");
        }
        assert!(!Cell::Text("a\0b".into()).storable(ColumnType::Text));
        assert!(!Cell::Integer(1).storable(ColumnType::Text));
        let decimal = |text: &'static str| Cell::Decimal(text.into()).storable(ColumnType::Decimal);
        assert!(decimal("-12.50") && decimal("0"));
        assert!(!decimal("1e5") && !decimal("") && !decimal("1.") && !decimal("NaN") && !decimal("--1"));
    }
}
