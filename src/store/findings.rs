//! What a finished load adds to a connector's findings: the source's counts beside ours, and sweeps it did not dare. Pure; no SQL.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Findings, StreamCount};
use crate::model::cursor::{Count, Load};

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
            match stream.refused_sweep {
                Some(refused) => self.refused_sweeps.insert(stream.name.clone(), refused),
                None => self.refused_sweeps.remove(&stream.name),
            };
        }
        if load.full {
            let read = |name: &String| load.streams.iter().any(|stream| &stream.name == name);
            self.refused_sweeps.retain(|name, _| read(name));
            self.counts.retain(|name, _| read(name));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        cursor::{Cursor, RefusedSweep},
        entity::Entity,
        stream::Stream,
    };

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
        assert_eq!(before.clone().after(&load, &BTreeMap::new(), now), before, "nor does a full load what it cannot read");
        let recovered = Load::begin(&Cursor::default(), 1, false, &contacts, now);
        assert!(before.after(&recovered, &BTreeMap::new(), now).refused_sweeps.is_empty(), "it reads it whole");
    }
}
