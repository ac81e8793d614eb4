//! Where a connector stands: the load in progress (resume point) and the watermarks of finished ones (cursor).
//! Both are JSON in the store's `sync_state` row; opaque to Temporal, which sees neither.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

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

/// A load of all streams in progress. It belongs to the connector, not to a run: any later run continues it (R16).
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
    /// Index of the stream being read; equal to `streams.len()` when all are done.
    pub current: usize,
    /// Where in that stream, as its connector left it; rebuildable (keyset, window), `None` = at its start.
    #[serde(default)]
    pub token: Option<serde_json::Value>,
}

/// One stream of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamLoad {
    /// The connector's name for it.
    pub name: String,
    /// Lower bound of the window, inclusive, lookback already taken off; `None` = read everything.
    #[serde(default)]
    pub lower: Option<Timestamp>,
    /// Set when the stream failed in this load: it is left, later streams run (R24), its watermark stays.
    #[serde(default)]
    pub failed: Option<String>,
}

impl Load {
    /// The next load after `cursor`, for a source whose clock shows `source_clock`.
    /// A stream without a watermark is read whole even when the load is incremental.
    #[must_use]
    pub fn begin(cursor: &Cursor, generation: i64, full: bool, streams: &[&str], source_clock: Timestamp) -> Self {
        let upper = source_clock - VISIBILITY_LAG;
        let streams = streams
            .iter()
            .map(|&name| StreamLoad {
                name: name.to_owned(),
                lower: if full { None } else { cursor.streams.get(name).map(|&at| at - LOOKBACK) },
                failed: None,
            })
            .collect();
        Self { generation: generation + i64::from(full), full, upper, streams, current: 0, token: None }
    }

    /// The stream being read, `None` when the load is complete.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamLoad> {
        self.streams.get(self.current)
    }

    /// The stream being read has no more pages.
    pub fn finish_stream(&mut self) {
        self.current += 1;
        self.token = None;
    }

    /// The stream being read cannot be read now; `reason` is a class and names, never a value (R18).
    pub fn fail_stream(&mut self, reason: &str) {
        if let Some(stream) = self.streams.get_mut(self.current) {
            stream.failed = Some(reason.to_owned());
        }
        self.finish_stream();
    }

    /// The cursor after this complete load: every stream that did not fail stands at its upper bound.
    #[must_use]
    pub fn finish(&self, mut cursor: Cursor) -> Cursor {
        for stream in self.streams.iter().filter(|stream| stream.failed.is_none()) {
            let watermark = cursor.streams.entry(stream.name.clone()).or_insert(self.upper);
            *watermark = self.upper.max(*watermark);
        }
        cursor
    }

    /// Names of the streams that failed.
    #[must_use]
    pub fn failed_streams(&self) -> Vec<String> {
        self.streams.iter().filter(|stream| stream.failed.is_some()).map(|stream| stream.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    #[test]
    fn the_watermark_is_the_bound_fixed_when_the_load_began_and_never_moves_back() {
        let mut load = Load::begin(&Cursor::default(), 0, true, &["companies", "deals"], at("2026-11-22T12:00:00Z"));
        assert_eq!((load.generation, load.upper), (1, at("2026-11-22T11:55:00Z")));
        load.finish_stream();
        load.fail_stream("403");
        assert!(load.stream().is_none());
        let cursor = load.finish(Cursor::default());
        assert_eq!(cursor.streams.get("companies"), Some(&load.upper));
        assert_eq!((cursor.streams.get("deals"), load.failed_streams()), (None, vec!["deals".to_owned()]));

        let next = Load::begin(&cursor, load.generation, false, &["companies", "deals"], at("2026-11-22T11:00:00Z"));
        assert_eq!(next.streams[0].lower, Some(at("2026-11-22T11:45:00Z")), "lookback below the watermark");
        assert_eq!((next.streams[1].lower, next.generation), (None, 1), "a stream that never completed is read whole");
        assert_eq!(next.finish(cursor.clone()).streams["companies"], cursor.streams["companies"], "a clock set back");
    }
}
