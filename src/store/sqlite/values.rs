//! How typed values stand in SQLite columns: instants as fixed-width text, enums and ids by name, structures as JSON.

use jiff::Timestamp;
use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    clock,
    store::stored::{from_json, from_name, json, name},
};

/// An instant: `2026-01-02T03:04:05.000006Z`, always six decimals, so that text order is time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) Timestamp);

impl At {
    /// The database's time; an embedded database's clock is its host's. To the microsecond, as it is stored.
    pub(super) fn now() -> Self {
        let now = clock::now();
        Self(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
    }
}

/// The stored text of an instant.
pub(super) fn instant_text(at: Timestamp) -> String {
    format!("{at:.6}")
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(instant_text(self.0)))
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

/// An enum or id by its serde name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<T>(pub(super) T);

impl<T: Serialize> ToSql for Name<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(name(&self.0)))
    }
}

impl<T: DeserializeOwned> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        from_name("name", value.as_str()?).map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

/// A structure as JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<T>(pub(super) T);

impl<T: Serialize> ToSql for Document<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(json(&self.0)))
    }
}

impl<T: DeserializeOwned> FromSql for Document<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        from_json("document", value.as_str()?).map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_one_width_so_that_text_order_is_time_order() {
        let texts: Vec<_> = ["1999-12-31T23:59:59Z", "2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100001Z"]
            .iter()
            .map(|text| instant_text(text.parse().expect("timestamp")))
            .collect();
        assert_eq!(texts[1], "2026-01-02T03:04:05.100000Z");
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == 27), "{texts:?}");
    }
}
