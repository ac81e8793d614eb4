//! The ids of a commit's records, by entity: what a load has seen (R6), and whose dead letters are resolved.
//! Pure; no SQL.

use std::{borrow::Cow, collections::BTreeMap};

use super::Error;
use crate::model::entity::Entity;

/// Stands between packed ids: no storable id holds it.
const SEPARATOR: char = '\0';
/// zstd level: as for staged batches (docs/facts.md, Store).
const ZSTD_LEVEL: i32 = -1;

/// A record of a commit.
#[derive(Debug)]
pub(super) struct RecordId<'a> {
    /// The vendor's id.
    pub(super) source_id: Cow<'a, str>,
    /// Ordered half of its version.
    pub(super) observed_seq: i64,
}

/// The ids of a commit's records, rejected ones included, in the commit's order.
#[derive(Debug, Default)]
pub(super) struct RecordIds<'a> {
    by_entity: BTreeMap<Entity, Vec<RecordId<'a>>>,
}

impl<'a> RecordIds<'a> {
    /// Notes one.
    pub(super) fn add(&mut self, entity: Entity, source_id: Cow<'a, str>, observed_seq: i64) {
        self.by_entity.entry(entity).or_default().push(RecordId { source_id, observed_seq });
    }

    /// Entity and ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Entity, &[RecordId<'a>])> {
        self.by_entity.iter().map(|(&entity, ids)| (entity, ids.as_slice()))
    }
}

/// Packs ids into the bytes of one `seen_batch` row.
pub(super) fn pack(ids: &[&str]) -> Vec<u8> {
    let mut joined = String::with_capacity(ids.iter().map(|id| id.len() + 1).sum());
    for id in ids {
        joined.push_str(id);
        joined.push(SEPARATOR);
    }
    zstd::bulk::compress(joined.as_bytes(), ZSTD_LEVEL).expect("zstd compresses any bytes into memory")
}

/// The ids of one `seen_batch` row, each followed by a NUL.
#[derive(Debug)]
pub(super) struct Packed(String);

impl Packed {
    /// Decompresses them.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, Error> {
        const UNREADABLE: Error = Error::Unreadable { what: "list of seen ids" };
        let joined = zstd::stream::decode_all(bytes).map_err(|_| UNREADABLE)?;
        String::from_utf8(joined).map(Self).map_err(|_| UNREADABLE)
    }

    /// One after the other.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(SEPARATOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_ids_are_read_back_and_damaged_ones_are_an_error() {
        let ids = ["1", "call:22", "ü\n"];
        let packed = Packed::open(&pack(&ids)).expect("own form");
        assert_eq!(packed.ids().collect::<Vec<_>>(), ids);
        assert_eq!(Packed::open(&pack(&[])).expect("own form").ids().count(), 0);
        assert!(Packed::open(b"junk").is_err());
    }
}
