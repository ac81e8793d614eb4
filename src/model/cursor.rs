//! Where a connector stands: the load in progress (resume point) and the watermarks of finished ones (cursor).
//! Both are JSON in the store's `sync_state` row; opaque to Temporal, which sees neither.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{entity::Entity, stream::Stream};

/// Records become visible late (search indexes lag): never read the last five minutes (docs/facts.md, Sources).
pub const VISIBILITY_LAG: SignedDuration = SignedDuration::from_mins(5);
/// Re-read this much below the last watermark; upserts make it free (docs/facts.md, Sources).
pub const LOOKBACK: SignedDuration = SignedDuration::from_mins(10);

/// The watermark of each stream by name: everything at or below it is stored or dead-lettered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// Per stream, the upper bound of its last complete window.
    #[serde(default)]
    pub streams: BTreeMap<String, Timestamp>,
}

/// A half-open time range `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
}

/// A load of all streams in progress. It belongs to the connector, not to a run: any later run continues it (R16).
/// It reads its streams one after the other, then sweeps those that it read whole (R6), and where it is to count, it counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Number of the full load, or of the last full load when incremental.
    pub generation: i64,
    /// Whether it re-imports everything.
    pub full: bool,
    /// Upper bound of every stream's window, fixed when the load began, from the source's clock (R16).
    pub upper: Timestamp,
    /// The streams in the order they are read.
    pub streams: Vec<StreamLoad>,
    /// Index of the stream being read, or swept; equal to `streams.len()` after the last.
    pub current: usize,
    /// Where in that stream, as its connector left it; rebuildable (keyset, window), `None` = at its start.
    #[serde(default)]
    pub token: Option<serde_json::Value>,
    /// All streams are read; `current` now goes over them again, looking for rows that the load did not see.
    #[serde(default)]
    pub sweeping: bool,
    /// Set for a re-read of one time range: the cursor stays where it is.
    #[serde(default)]
    pub window: Option<Window>,
    /// A time range that somebody wanted read again when this load began, which reads it with all the rest.
    #[serde(default)]
    pub covers: Option<Window>,
    /// The source is asked at the end how many records it has.
    #[serde(default)]
    pub counting: bool,
    /// Dead letters with a version number up to this were read back by this load, where that was asked for.
    #[serde(default)]
    pub replayed_to: i64,
    /// The lowest version number that a record of this load can have: what is older was there before it.
    #[serde(default)]
    pub first_observed: i64,
    /// The connector's first load ever: every row is its own, so there is nothing to sweep.
    #[serde(default)]
    pub is_first: bool,
}

/// One stream of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamLoad {
    /// The connector's name for it.
    pub name: String,
    /// The entity of its rows.
    pub entity: Entity,
    /// What the ids of its rows begin with (`model::stream::Stream`).
    #[serde(default)]
    pub id_prefix: String,
    /// Lower bound of the window, inclusive, lookback already taken off; `None` = read everything.
    #[serde(default)]
    pub lower: Option<Timestamp>,
    /// Set when the stream failed in this load: it is left, later streams run (R24).
    #[serde(default)]
    pub failed: Option<String>,
    /// It failed in its sweep, after all of it was read.
    #[serde(default)]
    pub failed_in_sweep: bool,
    /// Its sweep was refused: too many rows were not seen (R6).
    #[serde(default)]
    pub refused_sweep: Option<RefusedSweep>,
    /// The source was asked how many records it has; its answer, if it can count.
    #[serde(default)]
    pub counted: Option<Count>,
}

/// A sweep that would have deleted suspiciously much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedSweep {
    /// Rows that the load did not see.
    pub unseen: u64,
    /// Live rows of the stream.
    pub live: u64,
}

/// A source's answer to how many records it has that were created before the load's upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Count {
    /// That many.
    Records(u64),
    /// It cannot tell for this stream.
    Unknown,
}

/// What a load does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task<'a> {
    /// Fetch pages of this stream.
    Read(&'a StreamLoad),
    /// Read back rows of this stream that were not seen.
    Sweep(&'a StreamLoad),
    /// Ask how many records this stream, at this index, has.
    Count(usize, &'a StreamLoad),
}

impl Load {
    /// The next load after `cursor`, for a source whose clock shows `source_clock`.
    /// A stream without a watermark is read whole even when the load is incremental.
    #[must_use]
    pub fn begin(cursor: &Cursor, generation: i64, full: bool, streams: &[Stream], source_clock: Timestamp) -> Self {
        let upper = source_clock - VISIBILITY_LAG;
        let lower = |name| if full { None } else { cursor.streams.get(name).map(|&at: &Timestamp| at - LOOKBACK) };
        let streams = streams.iter().map(|stream| StreamLoad::of(stream, lower(stream.name))).collect();
        let generation = generation + i64::from(full);
        Self { full, ..Self::of(generation, streams, upper) }
    }

    /// A load that reads again what changed within `window`, and nothing of the last minutes before `source_clock`.
    #[must_use]
    pub fn reread(window: Window, generation: i64, streams: &[Stream], source_clock: Timestamp) -> Self {
        let upper = window.to.min(source_clock - VISIBILITY_LAG);
        let streams = streams.iter().map(|stream| StreamLoad::of(stream, Some(window.from))).collect();
        Self { window: Some(window), ..Self::of(generation, streams, upper) }
    }

    fn of(generation: i64, streams: Vec<StreamLoad>, upper: Timestamp) -> Self {
        Self {
            generation,
            full: false,
            upper,
            streams,
            current: 0,
            token: None,
            sweeping: false,
            window: None,
            covers: None,
            counting: false,
            replayed_to: 0,
            first_observed: 0,
            is_first: false,
        }
    }

    /// What is next, `None` when the load is complete.
    #[must_use]
    pub fn task(&self) -> Option<Task<'_>> {
        if let Some(stream) = self.streams.get(self.current) {
            return Some(if self.sweeping { Task::Sweep(stream) } else { Task::Read(stream) });
        }
        let uncounted = |(_, stream): &(usize, &StreamLoad)| stream.failed.is_none() && stream.counted.is_none();
        let mut streams = self.streams.iter().enumerate().filter(|_| self.counting);
        streams.find(uncounted).map(|(index, stream)| Task::Count(index, stream))
    }

    /// The stream at work, if any.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamLoad> {
        self.streams.get(self.current)
    }

    /// The streams whose rows are to be compared with what the load saw: those that it reads whole and that did not fail.
    /// An increment sweeps, too: a stream that could not be read for a while may have forgotten deletions of that time.
    pub fn swept_streams(&self) -> impl Iterator<Item = &StreamLoad> {
        self.streams.iter().filter(|stream| !self.is_first && stream.is_whole() && stream.failed.is_none())
    }

    /// Nothing more is to be read for the stream at work. After the last one the load goes on to sweep what it read whole.
    pub fn finish_stream(&mut self) {
        self.current += 1;
        self.token = None;
        if self.current >= self.streams.len() && !self.sweeping && self.swept_streams().next().is_some() {
            (self.sweeping, self.current) = (true, 0);
        }
        while self.sweeping && self.stream().is_some_and(|stream| !stream.is_whole() || stream.failed.is_some()) {
            self.current += 1;
        }
    }

    /// The stream being read cannot be read now; `reason` is a class and names, never a value (R18).
    pub fn fail_stream(&mut self, reason: &str) {
        if let Some(stream) = self.streams.get_mut(self.current) {
            (stream.failed, stream.failed_in_sweep) = (Some(reason.to_owned()), self.sweeping);
        }
        self.finish_stream();
    }

    /// The sweep of the stream at work would delete suspiciously much: it is left (R6).
    pub fn refuse_sweep(&mut self, refused: RefusedSweep) {
        if let Some(stream) = self.streams.get_mut(self.current) {
            stream.refused_sweep = Some(refused);
        }
        self.finish_stream();
    }

    /// The cursor after this complete load: every stream that was read stands at its upper bound. A stream that a full
    /// load could not read has none any more: what was deleted meanwhile may be forgotten, so it is read whole when it can.
    #[must_use]
    pub fn finish(&self, mut cursor: Cursor) -> Cursor {
        if self.window.is_some() {
            return cursor;
        }
        for stream in &self.streams {
            if stream.failed.is_some() && !stream.failed_in_sweep {
                if self.full {
                    cursor.streams.remove(&stream.name);
                }
                continue;
            }
            let watermark = cursor.streams.entry(stream.name.clone()).or_insert(self.upper);
            *watermark = self.upper.max(*watermark);
        }
        cursor
    }

    /// The wish for a re-read that this complete load has fulfilled; what a full load could not read all of is left to a re-read.
    #[must_use]
    pub fn fulfilled(&self) -> Option<Window> {
        self.window.or_else(|| self.covers.filter(|_| self.streams.iter().all(|stream| stream.failed.is_none())))
    }

    /// Names of the streams that failed.
    #[must_use]
    pub fn failed_streams(&self) -> Vec<String> {
        self.streams.iter().filter(|stream| stream.failed.is_some()).map(|stream| stream.name.clone()).collect()
    }

    /// No stream was read, of those that the load is behind; one that failed in its sweep was.
    #[must_use]
    pub fn read_nothing(&self) -> bool {
        let reading = self.streams.get(..self.current).filter(|_| !self.sweeping);
        let behind = reading.unwrap_or(&self.streams);
        !behind.is_empty() && behind.iter().all(|stream| stream.failed.is_some() && !stream.failed_in_sweep)
    }

    /// Every record of every stream was read, and believed to be all: what the load did not bring is not there any more.
    #[must_use]
    pub fn read_everything(&self) -> bool {
        self.full && self.streams.iter().all(|stream| stream.failed.is_none() && stream.refused_sweep.is_none())
    }
}

impl StreamLoad {
    /// Whether all of its records are read, not only what changed lately.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lower.is_none()
    }

    fn of(stream: &Stream, lower: Option<Timestamp>) -> Self {
        Self {
            name: stream.name.to_owned(),
            entity: stream.entity,
            id_prefix: stream.id_prefix.to_owned(),
            lower,
            failed: None,
            failed_in_sweep: false,
            refused_sweep: None,
            counted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: [Stream; 2] = [
        Stream { name: "companies", entity: Entity::Account, id_prefix: "" },
        Stream { name: "deals", entity: Entity::Opportunity, id_prefix: "" },
    ];

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn begin(cursor: &Cursor, generation: i64, full: bool, clock: &str) -> Load {
        Load::begin(cursor, generation, full, &STREAMS, at(clock))
    }

    #[test]
    fn the_watermark_is_the_bound_fixed_when_the_load_began_and_never_moves_back() {
        let mut load = begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z");
        assert_eq!((load.generation, load.upper), (1, at("2026-11-22T11:55:00Z")));
        load.finish_stream();
        load.fail_stream("403");
        let cursor = load.finish(Cursor::default());
        assert_eq!(cursor.streams.get("companies"), Some(&load.upper));
        assert_eq!((cursor.streams.get("deals"), load.failed_streams()), (None, vec!["deals".to_owned()]));

        let stood = load.finish(Cursor { streams: [("deals".to_owned(), load.upper)].into() });
        assert_eq!(stood, cursor, "a full load that could not read a stream forgets where it stood");
        let incremental = Load { full: false, ..load.clone() };
        let stood = Cursor { streams: [("deals".to_owned(), at("2026-11-01T00:00:00Z"))].into() };
        assert_eq!(
            incremental.finish(stood.clone()).streams["deals"],
            stood.streams["deals"],
            "an incremental one leaves it"
        );

        let next = begin(&cursor, load.generation, false, "2026-11-22T11:00:00Z");
        assert_eq!(next.streams[0].lower, Some(at("2026-11-22T11:45:00Z")), "lookback below the watermark");
        assert_eq!((next.streams[1].lower, next.generation), (None, 1), "a stream that never completed is read whole");
        assert_eq!(next.finish(cursor.clone()).streams["companies"], cursor.streams["companies"], "a clock set back");
    }

    #[test]
    fn a_full_load_reads_then_sweeps_what_did_not_fail_then_counts() {
        let mut load = begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z");
        load.counting = true;
        load.fail_stream("403");
        assert!(matches!(load.task(), Some(Task::Read(stream)) if stream.name == "deals"));
        load.finish_stream();
        assert!(
            matches!(load.task(), Some(Task::Sweep(stream)) if stream.name == "deals"),
            "not companies, which failed"
        );
        load.refuse_sweep(RefusedSweep { unseen: 9, live: 10 });
        assert!(matches!(load.task(), Some(Task::Count(1, stream)) if stream.refused_sweep.is_some()));
        load.streams[1].counted = Some(Count::Unknown);
        assert_eq!(load.task(), None);
        assert!(!load.read_everything());
    }

    #[test]
    fn a_first_load_has_nothing_to_sweep() {
        let mut load = Load { is_first: true, ..begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z") };
        STREAMS.iter().for_each(|_| load.finish_stream());
        assert_eq!((load.task(), load.sweeping), (None, false));
    }

    #[test]
    fn an_increment_sweeps_only_what_it_read_whole_and_a_reread_leaves_the_cursor() {
        let stood = |names: &[&str]| Cursor {
            streams: names.iter().map(|&name| (name.to_owned(), at("2026-11-22T11:00:00Z"))).collect(),
        };
        let mut load = begin(&stood(&["companies", "deals"]), 3, false, "2026-11-22T12:00:00Z");
        STREAMS.iter().for_each(|_| load.finish_stream());
        assert_eq!((load.task(), load.sweeping), (None, false));

        let mut recovered = begin(&stood(&["companies"]), 3, false, "2026-11-22T12:00:00Z");
        STREAMS.iter().for_each(|_| recovered.finish_stream());
        assert!(matches!(recovered.task(), Some(Task::Sweep(stream)) if stream.name == "deals"), "{recovered:?}");
        recovered.finish_stream();
        assert_eq!(recovered.task(), None);

        let window = Window { from: at("2026-11-01T00:00:00Z"), to: at("2026-12-01T00:00:00Z") };
        let mut reread = Load::reread(window, 3, &STREAMS, at("2026-11-22T12:00:00Z"));
        assert_eq!((reread.streams[0].lower, reread.upper), (Some(window.from), at("2026-11-22T11:55:00Z")));
        STREAMS.iter().for_each(|_| reread.finish_stream());
        assert_eq!((reread.task(), reread.finish(Cursor::default())), (None, Cursor::default()));
        assert_eq!(reread.fulfilled(), Some(window));
    }

    #[test]
    fn a_full_load_fulfils_the_reread_that_was_wanted_when_it_began_if_it_read_everything() {
        let window = Window { from: at("2026-11-01T00:00:00Z"), to: at("2026-12-01T00:00:00Z") };
        let mut load = begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z");
        assert_eq!(load.fulfilled(), None);
        load.covers = Some(window);
        assert_eq!(load.fulfilled(), Some(window));
        load.fail_stream("403");
        assert_eq!(load.fulfilled(), None);
    }

    #[test]
    fn nothing_was_read_when_every_stream_so_far_failed_but_not_in_its_sweep() {
        let mut load = begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z");
        assert!(!load.read_nothing(), "it has not begun");
        load.fail_stream("403");
        assert!(load.read_nothing());
        load.finish_stream();
        assert!(!load.read_nothing());
        load.fail_stream("UnreadablePage");
        assert!(!load.read_nothing(), "what failed in its sweep was read: {load:?}");
    }

    #[test]
    fn a_stream_whose_sweep_fails_was_read_and_its_watermark_moves() {
        let mut load = begin(&Cursor::default(), 0, true, "2026-11-22T12:00:00Z");
        STREAMS.iter().for_each(|_| load.finish_stream());
        assert!(load.sweeping);
        load.fail_stream("UnreadablePage");
        assert_eq!(load.failed_streams(), [STREAMS[0].name]);
        let cursor = load.finish(Cursor::default());
        assert_eq!(cursor.streams.len(), STREAMS.len(), "read whole again, it would fail again: {cursor:?}");
    }
}
