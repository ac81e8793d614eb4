//! What a finished load adds to a connector's findings: the source's counts beside ours, and sweeps it did not dare; and what
//! a person's confirmation of those allows. Pure; no SQL.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Findings, StreamCount};
use crate::model::cursor::{Count, Load, RefusedSweep};

/// A confirmed sweep may delete this share more than the person was told of: deletions go on meanwhile.
const MORE_THAN_CONFIRMED_PERCENT: u64 = 10;

/// What the store holds of one stream, for records created before the load's upper bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Live rows.
    pub(super) rows: u64,
    /// Dead letters without a live row.
    pub(super) dead_letters: u64,
}

/// The streams to be counted here, because the source has counted them.
pub(super) fn counted(load: &Load) -> impl Iterator<Item = (&crate::model::cursor::StreamLoad, u64)> {
    load.streams.iter().filter_map(|stream| match stream.counted {
        Some(Count::Records(source)) => Some((stream, source)),
        _ => None,
    })
}

impl Findings {
    /// The findings after a complete load; `held` has every stream of `counted`.
    pub(super) fn after(mut self, load: &Load, held: &BTreeMap<String, Held>, now: Timestamp) -> Self {
        if load.counting {
            self.counted_at = Some(now);
        }
        for (stream, source) in counted(load) {
            let Held { rows, dead_letters } = held.get(&stream.name).copied().unwrap_or_default();
            let before = self.counts.get(&stream.name).map_or(0, |count| count.mismatches);
            let mismatches = if source == rows + dead_letters { 0 } else { before + 1 };
            self.counts.insert(stream.name.clone(), StreamCount { source, rows, dead_letters, mismatches });
        }
        for stream in load.streams.iter().filter(|stream| stream.is_whole() && stream.failed.is_none()) {
            let Some(refused) = stream.refused_sweep else {
                self.refused_sweeps.remove(&stream.name);
                self.confirmed_sweeps.remove(&stream.name);
                continue;
            };
            self.refused_sweeps.insert(stream.name.clone(), refused);
            // Confirmed after its refusal, it stands for the next sweep; more than was confirmed needs another word.
            self.confirmed_sweeps.retain(|name, &mut most| name != &stream.name || refused.unseen <= most);
        }
        if load.full {
            let read = |name: &String| load.streams.iter().any(|stream| &stream.name == name);
            self.refused_sweeps.retain(|name, _| read(name));
            self.confirmed_sweeps.retain(|name, _| read(name));
            self.counts.retain(|name, _| read(name));
        }
        self
    }

    /// A person has looked at the refused sweeps: each may delete as much as was found then, and a little more.
    pub(super) fn confirm_sweeps(&mut self) {
        let most = |refused: &RefusedSweep| {
            refused.unseen.saturating_add(refused.unseen.saturating_mul(MORE_THAN_CONFIRMED_PERCENT) / 100)
        };
        self.confirmed_sweeps =
            self.refused_sweeps.iter().map(|(name, refused)| (name.clone(), most(refused))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{cursor::Cursor, entity::Entity, stream::Stream};

    #[test]
    fn a_count_that_agrees_ends_a_row_of_mismatches_and_what_is_read_whole_replaces_its_refused_sweep() {
        let contacts = [Stream { name: "contacts", entity: Entity::Contact, id_prefix: "" }];
        let now = Timestamp::UNIX_EPOCH;
        let mut load = Load::begin(&Cursor::default(), 0, true, &contacts, now);
        load.counting = true;
        load.streams[0].counted = Some(Count::Records(10));
        load.streams[0].refused_sweep = Some(RefusedSweep { unseen: 5, live: 9 });
        let held = |rows, dead_letters| [("contacts".to_owned(), Held { rows, dead_letters })].into();

        let twice = Findings::default().after(&load, &held(9, 0), now).after(&load, &held(9, 0), now);
        assert_eq!((twice.counts["contacts"].mismatches, twice.counted_at), (2, Some(now)));
        assert_eq!(twice.refused_sweeps["contacts"].unseen, 5);
        load.streams[0].refused_sweep = None;
        let agreed = twice.after(&load, &held(9, 1), now);
        assert_eq!((agreed.counts["contacts"].mismatches, agreed.refused_sweeps.len()), (0, 0));

        let stood = Cursor { streams: [("contacts".to_owned(), now)].into() };
        let refused = RefusedSweep { unseen: 5, live: 9 };
        let before = Findings { refused_sweeps: [("contacts".to_owned(), refused)].into(), ..agreed };
        let increment = Load::begin(&stood, 1, false, &contacts, now);
        assert_eq!(before.clone().after(&increment, &BTreeMap::new(), now), before, "it does not sweep");
        load.streams[0].failed = Some("403".to_owned());
        load.counting = false;
        load.streams[0].counted = None;
        assert_eq!(
            before.clone().after(&load, &BTreeMap::new(), now),
            before,
            "nor does a full load what it cannot read"
        );
        let recovered = Load::begin(&Cursor::default(), 1, false, &contacts, now);
        assert!(before.after(&recovered, &BTreeMap::new(), now).refused_sweeps.is_empty(), "it reads it whole");
    }

    #[test]
    fn a_confirmation_stays_until_its_stream_is_swept_or_more_than_it_allows_is_found() {
        let streams = ["contacts", "deals"].map(|name| Stream { name, entity: Entity::Contact, id_prefix: "" });
        let refused = |unseen| Some(RefusedSweep { unseen, live: 10_000 });
        let after = |findings: &Findings, first: Option<RefusedSweep>, failed: Option<&str>| {
            let mut load = Load::begin(&Cursor::default(), 0, true, &streams, Timestamp::UNIX_EPOCH);
            load.streams[0].refused_sweep = first;
            load.streams[1].failed = failed.map(str::to_owned);
            let allowed = findings.clone().after(&load, &BTreeMap::new(), Timestamp::UNIX_EPOCH).confirmed_sweeps;
            allowed.into_iter().map(|(name, most)| format!("{name} {most}")).collect::<Vec<_>>()
        };
        let told = ["contacts", "deals"].map(|name| (name.to_owned(), RefusedSweep { unseen: 1_200, live: 10_000 }));
        let mut findings = Findings { refused_sweeps: told.into(), ..Findings::default() };
        findings.confirm_sweeps();
        assert_eq!(findings.confirmed_sweeps["contacts"], 1_320);

        assert!(after(&findings, None, None).is_empty(), "both are swept");
        assert_eq!(after(&findings, None, Some("403")), ["deals 1320"], "that one was not");
        assert_eq!(after(&findings, refused(1_320), None), ["contacts 1320"], "confirmed after it was refused");
        assert!(after(&findings, refused(1_321), None).is_empty(), "not what the person saw");
    }
}
