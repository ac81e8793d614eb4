//! The records: one small header each, values generated on demand, edits kept as differences.
//! Knows nothing of HTTP. All times are milliseconds of the simulator's clock.

use std::collections::{BTreeMap, HashMap};

use super::{
    associations::Links,
    definitions::{Definition, ValueType, definitions},
    kind::Kind,
    properties::{Generator, derived_from_stage, show_time},
};
use crate::random::Random;

/// Ids of a type are `FIRST_ID + index * ID_STEP`: ascending with gaps, and the same numbers in every type, so that
/// a client that keys by id alone mixes records up.
const FIRST_ID: u64 = 1_001;
const ID_STEP: u64 = 7;

/// Which record: type and position.
pub(super) type Key = (Kind, u32);

/// Whether a record lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Live,
    Archived(i64),
    /// Into the record at this position, at this time.
    Merged(u32, i64),
    /// Shown nowhere any more, not even in the archive, since this time.
    Vanished(i64),
}

/// What is kept of each record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
    /// The newest version that a list, read or search has shown; 0 = none.
    pub(super) served_ms: i64,
    pub(super) life: Life,
}

/// All records of an account.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) generator: Generator,
    headers: [Vec<Header>; 8],
    seeded: [u32; 8],
    edits: HashMap<Key, BTreeMap<String, Option<String>>>,
    /// When a late record becomes visible; `i64::MAX` = when told.
    visible_from: HashMap<Key, i64>,
    merged: HashMap<Key, Vec<u32>>,
    pub(super) links: HashMap<Key, Links>,
    pub(super) custom: Vec<(Kind, Definition)>,
}

/// How many of each type make up `total`, in the order of `Kind::ALL`.
pub(super) fn split(total: u32) -> [u32; 8] {
    const PER_MILLE: [u64; 8] = [150, 400, 100, 80, 130, 40, 50, 50];
    let share = |index: usize| u32::try_from(u64::from(total) * PER_MILLE[index] / 1000).unwrap_or(0);
    let mut counts: [u32; 8] = std::array::from_fn(share);
    let rest = total - counts.iter().sum::<u32>();
    counts[1] += rest;
    counts
}

/// The id of the record at a position.
pub(super) fn id_of(index: u32) -> u64 {
    FIRST_ID + u64::from(index) * ID_STEP
}

impl Records {
    /// Seeds `total` records; `now_ms` is the time of the late-visible ones.
    pub(super) fn seed(generator: Generator, total: u32) -> Self {
        let seeded = split(total);
        let headers = std::array::from_fn(|at| {
            (0..seeded[at]).map(|index| seeded_header(&generator, Kind::ALL[at], index)).collect()
        });
        let mut records = Self {
            generator,
            headers,
            seeded,
            edits: HashMap::new(),
            visible_from: HashMap::new(),
            merged: HashMap::new(),
            links: HashMap::new(),
            custom: Vec::new(),
        };
        records.seed_merges();
        records
    }

    /// Three in a thousand companies and contacts were merged into the one before them.
    fn seed_merges(&mut self) {
        for kind in [Kind::Companies, Kind::Contacts] {
            let mut index = 1;
            while index < self.count(kind) {
                let mut random = Random::of(&[self.generator.seed, 31, kind as u64, u64::from(index)]);
                if random.chance(3) && self.is_live((kind, index)) && self.is_live((kind, index - 1)) {
                    let at = self.header((kind, index)).map_or(0, |header| header.updated_ms);
                    self.merge(kind, index - 1, index, at);
                    index += 1;
                }
                index += 1;
            }
        }
    }

    pub(super) fn count(&self, kind: Kind) -> u32 {
        u32::try_from(self.headers[kind as usize].len()).unwrap_or(u32::MAX)
    }

    /// How many were seeded; later ones have only edits.
    pub(super) fn seeded_count(&self, kind: Kind) -> u32 {
        self.seeded[kind as usize]
    }

    pub(super) fn headers(&self, kind: Kind) -> &[Header] {
        &self.headers[kind as usize]
    }

    pub(super) fn header(&self, (kind, index): Key) -> Option<&Header> {
        self.headers[kind as usize].get(index as usize)
    }

    pub(super) fn header_mut(&mut self, (kind, index): Key) -> Option<&mut Header> {
        self.headers[kind as usize].get_mut(index as usize)
    }

    pub(super) fn is_live(&self, key: Key) -> bool {
        self.header(key).is_some_and(|header| header.life == Life::Live)
    }

    /// The record with this id; a merged one leads to its winner, as the vendor's read endpoints do.
    pub(super) fn find(&self, kind: Kind, id: &str) -> Option<u32> {
        let index = self.position(kind, id)?;
        match self.header((kind, index))?.life {
            Life::Merged(into, _) => Some(into),
            _ => Some(index),
        }
    }

    /// The position of this id, without following merges.
    pub(super) fn position(&self, kind: Kind, id: &str) -> Option<u32> {
        let offset = id.parse::<u64>().ok()?.checked_sub(FIRST_ID)?;
        let index = u32::try_from(offset / ID_STEP).ok()?;
        (offset % ID_STEP == 0 && index < self.count(kind)).then_some(index)
    }

    /// The first position whose id is at least `id`.
    pub(super) fn position_from(id: u64) -> u32 {
        u32::try_from(id.saturating_sub(FIRST_ID).div_ceil(ID_STEP)).unwrap_or(u32::MAX)
    }

    /// Whether list and search show it now.
    pub(super) fn is_visible(&self, key: Key, now_ms: i64) -> bool {
        self.visible_from.is_empty() || self.visible_from.get(&key).is_none_or(|&from| from <= now_ms)
    }

    /// When it became or becomes visible, if later than its change.
    pub(super) fn visible_from(&self, key: Key) -> Option<i64> {
        self.visible_from.get(&key).copied()
    }

    /// Hides a record until then.
    pub(super) fn hide_until(&mut self, key: Key, from_ms: i64) {
        self.visible_from.insert(key, from_ms);
    }

    /// The value of any property; `None` = null.
    pub(super) fn value(&self, key: Key, name: &str) -> Option<String> {
        let (kind, index) = key;
        let header = self.header(key)?;
        match name {
            "hs_object_id" => return Some(id_of(index).to_string()),
            "hs_merged_object_ids" => return self.merged_ids(key),
            "createdate" if kind.is_activity() => return None,
            "hs_createdate" if !kind.is_activity() => return None,
            "createdate" | "hs_createdate" => return Some(show_time(header.created_ms)),
            "lastmodifieddate" | "hs_lastmodifieddate" if name == kind.modified_property() => {
                return Some(show_time(header.updated_ms));
            }
            "lastmodifieddate" | "hs_lastmodifieddate" => return None,
            "associatedcompanyid" => return self.primary_company(key).map(|company| id_of(company).to_string()),
            "hs_deal_stage_probability" | "hs_is_closed" | "hs_is_closed_won" if kind == Kind::Deals => {
                return derived_from_stage(&self.value(key, "dealstage")?, name);
            }
            _ => {}
        }
        match self.edits.get(&key).and_then(|edits| edits.get(name)) {
            Some(edited) => edited.clone(),
            None if index < self.seeded[kind as usize] => self.generator.value(kind, index, name),
            None => None,
        }
    }

    fn merged_ids(&self, key: Key) -> Option<String> {
        let ids: Vec<_> = self.merged.get(&key)?.iter().map(|&index| id_of(index).to_string()).collect();
        Some(ids.join(";"))
    }

    /// The definition of a property of a type.
    pub(super) fn definition(&self, kind: Kind, name: &str) -> Option<Definition> {
        self.definitions(kind).find(|definition| definition.name == name).cloned()
    }

    /// The definitions of a type, the account's own included.
    pub(super) fn definitions(&self, kind: Kind) -> impl Iterator<Item = &Definition> {
        let custom = self.custom.iter().filter(move |(of, _)| *of == kind).map(|(_, definition)| definition);
        definitions(kind).map(|definition| -> &Definition { definition }).chain(custom)
    }

    /// The type of a property, for comparisons.
    pub(super) fn value_type(&self, kind: Kind, name: &str) -> Option<ValueType> {
        self.definition(kind, name).map(|definition| definition.value_type)
    }

    /// Adds a record and returns its position.
    pub(super) fn create(&mut self, kind: Kind, properties: BTreeMap<String, Option<String>>, now_ms: i64) -> u32 {
        let index = self.count(kind);
        let header = Header { created_ms: now_ms, updated_ms: now_ms, served_ms: 0, life: Life::Live };
        self.headers[kind as usize].push(header);
        self.edits.insert((kind, index), properties);
        index
    }

    /// Sets properties and the time of change.
    pub(super) fn update(&mut self, key: Key, properties: BTreeMap<String, Option<String>>, now_ms: i64) {
        self.edits.entry(key).or_default().extend(properties);
        self.touch(key, now_ms);
    }

    /// Moves the time of change, always forward: two writes in one millisecond are two versions.
    pub(super) fn touch(&mut self, key: Key, now_ms: i64) {
        if let Some(header) = self.header_mut(key) {
            header.updated_ms = now_ms.max(header.updated_ms + 1);
        }
    }

    /// Archives a live record; false when it is not live.
    pub(super) fn archive(&mut self, key: Key, now_ms: i64) -> bool {
        let live = self.is_live(key);
        if live {
            self.touch(key, now_ms);
            if let Some(header) = self.header_mut(key) {
                header.life = Life::Archived(header.updated_ms);
            }
        }
        live
    }

    /// Takes a live record away without a trace; false when there is none.
    pub(super) fn vanish(&mut self, key: Key, now_ms: i64) -> bool {
        let header = self.header_mut(key).filter(|header| header.life == Life::Live);
        header.map(|header| header.life = Life::Vanished(now_ms)).is_some()
    }

    /// Brings an archived record back, as a user can from the recycling bin; false when it is not archived.
    pub(super) fn restore(&mut self, key: Key, now_ms: i64) -> bool {
        let archived = matches!(self.header(key), Some(Header { life: Life::Archived(_), .. }));
        if archived {
            self.touch(key, now_ms);
            if let Some(header) = self.header_mut(key) {
                header.life = Life::Live;
            }
        }
        archived
    }

    /// Merges `loser` into `winner`; false when one is not live. The winner keeps its id (the vendor gives some types
    /// a new id since 2025; the trail in `hs_merged_object_ids` is the same).
    pub(super) fn merge(&mut self, kind: Kind, winner: u32, loser: u32, now_ms: i64) -> bool {
        let possible = winner != loser && self.is_live((kind, winner)) && self.is_live((kind, loser));
        if possible {
            let mut trail = self.merged.remove(&(kind, loser)).unwrap_or_default();
            trail.push(loser);
            self.merged.entry((kind, winner)).or_default().extend(&trail);
            self.touch((kind, winner), now_ms);
            let at = self.header((kind, winner)).map_or(now_ms, |header| header.updated_ms);
            for &index in &trail {
                if let Some(header) = self.header_mut((kind, index)) {
                    header.life = Life::Merged(winner, at);
                }
            }
        }
        possible
    }

    /// Notes that the present version was shown.
    pub(super) fn mark_served(&mut self, key: Key) {
        if let Some(header) = self.header_mut(key) {
            header.served_ms = header.served_ms.max(header.updated_ms);
        }
    }
}

/// Times as an account with imports has them: a fifth of the records share eight instants, another fifth whole hours.
fn seeded_header(generator: &Generator, kind: Kind, index: u32) -> Header {
    const SIX_YEARS_SECONDS: u64 = 190_000_000;
    let mut random = Random::of(&[generator.seed, 17, kind as u64, u64::from(index)]);
    let back = |seconds: u64| i64::try_from(seconds).unwrap_or(0) * 1_000;
    let created_ms = generator.anchor_ms - back(random.below(SIX_YEARS_SECONDS)) - 1;
    let span = u64::try_from(generator.anchor_ms - created_ms).unwrap_or(1);
    let free_ms = created_ms + i64::try_from(random.below(span)).unwrap_or(0);
    let updated_ms = match random.below(5) {
        0 => generator.anchor_ms - back(86_400 * (1 + random.below(8))),
        1 => free_ms - free_ms.rem_euclid(3_600_000) + 3_600_000,
        _ => free_ms,
    };
    let updated_ms = updated_ms.clamp(created_ms, generator.anchor_ms);
    let life = if random.chance(15) { Life::Archived(updated_ms) } else { Life::Live };
    Header { created_ms, updated_ms, served_ms: 0, life }
}
