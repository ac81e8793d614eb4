//! Who belongs to whom: seeded associations are computed, edited ones are kept.
//! Each pair of types has one natural direction; the other is found by looking at all.

use std::collections::BTreeMap;

use super::{
    kind::Kind,
    records::{Key, Life, Records},
};
use crate::random::Random;

/// One end of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    /// Labelled Primary; only towards companies from contacts and deals.
    pub(super) primary: bool,
}

/// The edited associations of one record, by the other type.
pub(super) type Links = BTreeMap<Kind, Vec<Link>>;

/// Whether associations of this pair are kept with `from`.
pub(super) const fn is_natural(from: Kind, to: Kind) -> bool {
    match from {
        Kind::Companies => false,
        Kind::Contacts => matches!(to, Kind::Companies),
        Kind::Deals => matches!(to, Kind::Companies | Kind::Contacts),
        _ => matches!(to, Kind::Companies | Kind::Contacts | Kind::Deals),
    }
}

impl Records {
    /// The associations of a record in their natural direction, whatever became of the other ends.
    pub(super) fn natural_links(&self, key: Key, to: Kind) -> Vec<Link> {
        match self.links.get(&key) {
            Some(edited) => edited.get(&to).cloned().unwrap_or_default(),
            None => self.seeded_links(key, to),
        }
    }

    fn seeded_links(&self, (from, index): Key, to: Kind) -> Vec<Link> {
        let targets = u64::from(self.seeded_count(to));
        let seeded = index < self.seeded_count(from);
        if targets == 0 || !seeded || !is_natural(from, to) {
            return Vec::new();
        }
        let mut random = Random::of(&[self.generator.seed, 53, from as u64, u64::from(index), to as u64]);
        let count = match (from, to) {
            (Kind::Contacts, Kind::Companies) => [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][below(&mut random, 10)],
            (Kind::Deals, Kind::Companies) => [0, 1, 1, 1, 1, 1][below(&mut random, 6)],
            (Kind::Deals, Kind::Contacts) => below(&mut random, 4),
            (_, Kind::Contacts) => [0, 1, 1, 1, 2, 3][below(&mut random, 6)],
            _ => below(&mut random, 2),
        };
        let mut links: Vec<Link> = Vec::with_capacity(count);
        for _ in 0..count {
            let index = u32::try_from(random.below(targets)).unwrap_or(0);
            if links.iter().all(|link| link.index != index) {
                links.push(Link { index, primary: false });
            }
        }
        // The primary one is the last, so that a client that takes the first is found out.
        if to == Kind::Companies
            && !from.is_activity()
            && let Some(last) = links.last_mut()
        {
            last.primary = true;
        }
        links
    }

    /// The associations that the API shows: both ends live, merged ends replaced by their winners.
    pub(super) fn shown_links(&self, key: Key, to: Kind) -> Vec<Link> {
        let (from, index) = key;
        if is_natural(from, to) {
            return self.present(to, self.natural_links(key, to));
        }
        if !is_natural(to, from) {
            return Vec::new();
        }
        (0..self.count(to))
            .filter(|&other| self.is_live((to, other)))
            .filter_map(|other| {
                let links = self.present(from, self.natural_links((to, other), from));
                let link = links.into_iter().find(|link| link.index == index)?;
                Some(Link { index: other, primary: link.primary })
            })
            .collect()
    }

    fn present(&self, to: Kind, links: Vec<Link>) -> Vec<Link> {
        let mut shown: Vec<Link> = Vec::with_capacity(links.len());
        for link in links {
            let index = self.winner((to, link.index));
            if self.is_live((to, index)) && shown.iter().all(|other| other.index != index) {
                shown.push(Link { index, ..link });
            }
        }
        shown
    }

    /// The record itself, or the one it was merged into.
    pub(super) fn winner(&self, key: Key) -> u32 {
        match self.header(key).map(|header| header.life) {
            Some(Life::Merged(into, _)) => into,
            _ => key.1,
        }
    }

    /// The position of the primary company of a contact or deal, if it lives.
    pub(super) fn primary_company(&self, key: Key) -> Option<u32> {
        self.shown_links(key, Kind::Companies).into_iter().find(|link| link.primary).map(|link| link.index)
    }

    /// Associates two records and moves the time of change of the one that keeps the association.
    /// False when there is no association between the types.
    pub(super) fn associate(&mut self, from: Key, to: Key, primary: bool, now_ms: i64) -> bool {
        let (keeper, other) = if is_natural(from.0, to.0) { (from, to) } else { (to, from) };
        if !is_natural(keeper.0, other.0) {
            return false;
        }
        if !self.links.contains_key(&keeper) {
            let present = Kind::ALL.into_iter().map(|kind| (kind, self.seeded_links(keeper, kind))).collect();
            self.links.insert(keeper, present);
        }
        let links = self.links.entry(keeper).or_default().entry(other.0).or_default();
        links.retain(|link| link.index != other.1);
        // The first company becomes the primary one, as at the vendor.
        let can_be_primary = other.0 == Kind::Companies && !keeper.0.is_activity();
        let primary = can_be_primary && (primary || links.iter().all(|link| !link.primary));
        if primary {
            links.iter_mut().for_each(|link| link.primary = false);
        }
        links.push(Link { index: other.1, primary });
        self.touch(keeper, now_ms);
        true
    }
}

fn below(random: &mut Random, bound: u64) -> usize {
    usize::try_from(random.below(bound)).unwrap_or(0)
}
