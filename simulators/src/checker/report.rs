//! What the checker found: counts, the first findings, and both for people.
//! Names ids, columns and times, never values.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// How many findings are kept; the others are counted.
const MAX_FINDINGS: usize = 20;

/// A way in which the store can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Defect {
    /// A live record at or below the watermark is neither stored nor a dead letter, while newer ones are stored.
    Lost,
    /// The watermark stands above records that are neither stored nor dead letters and newer than all that are stored,
    /// or above the source's own clock.
    CursorAhead,
    /// The source has records of this stream, and the store no watermark.
    NoCursor,
    /// More than one row for a record.
    Duplicated,
    /// The row is older than the record, which was changed at or below the watermark.
    Stale,
    /// The row claims a version that the source never had.
    NewerThanSource,
    /// The row is a tombstone and the record lives.
    WronglyDeleted,
    /// The record was archived or merged at or below the watermark, and its row lives.
    NotDeleted,
    /// A row that the source knows nothing of.
    Extra,
    /// The row has the record's version and other content.
    Differs,
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lost => "lost",
            Self::CursorAhead => "cursor ahead of rows",
            Self::NoCursor => "no cursor",
            Self::Duplicated => "duplicated",
            Self::Stale => "stale",
            Self::NewerThanSource => "newer than the source",
            Self::WronglyDeleted => "wrongly deleted",
            Self::NotDeleted => "not deleted",
            Self::Extra => "extra",
            Self::Differs => "differs",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What.
    pub defect: Defect,
    /// The stream, or the view where a row belongs to none.
    pub stream: String,
    /// The row's `source_id`; empty when the whole stream is meant.
    pub source_id: String,
    /// Times and column names.
    pub detail: String,
}

/// What was compared in one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamCount {
    /// Records that the source ever had.
    pub records: u64,
    /// Of them, live ones.
    pub live: u64,
    /// Rows in the store, tombstones included.
    pub rows: u64,
    /// Of them, tombstones.
    pub tombstones: u64,
    /// Records that are not stored as they are, but are dead letters.
    pub dead_letters: u64,
    /// Records changed or shown after the watermark and not stored yet: not held against the store.
    pub not_due: u64,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whose rows.
    pub tenant: String,
    /// Whose rows.
    pub connector: String,
    /// What was compared.
    pub streams: BTreeMap<String, StreamCount>,
    /// How many findings of each kind.
    pub counts: BTreeMap<Defect, u64>,
    /// The first of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the store is right.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Findings of a kind.
    #[must_use]
    pub fn count(&self, defect: Defect) -> u64 {
        self.counts.get(&defect).copied().unwrap_or(0)
    }

    /// All findings.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn add(&mut self, defect: Defect, stream: &str, source_id: &str, detail: impl FnOnce() -> String) {
        *self.counts.entry(defect).or_default() += 1;
        if self.findings.len() < MAX_FINDINGS {
            let (stream, source_id) = (stream.to_owned(), source_id.to_owned());
            self.findings.push(Finding { defect, stream, source_id, detail: detail() });
        }
    }

    pub(super) fn stream(&mut self, name: &str) -> &mut StreamCount {
        self.streams.entry(name.to_owned()).or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, rows) =
            self.streams.values().fold((0, 0), |(records, rows), one| (records + one.records, rows + one.rows));
        writeln!(formatter, "{}/{}: {records} records compared with {rows} rows", self.tenant, self.connector)?;
        writeln!(
            formatter,
            "{:<12}{:>10}{:>10}{:>10}{:>12}{:>14}{:>10}",
            "stream", "records", "live", "rows", "tombstones", "dead letters", "not due"
        )?;
        for (name, one) in &self.streams {
            writeln!(
                formatter,
                "{name:<12}{:>10}{:>10}{:>10}{:>12}{:>14}{:>10}",
                one.records, one.live, one.rows, one.tombstones, one.dead_letters, one.not_due
            )?;
        }
        if self.is_clean() {
            return write!(formatter, "nothing lost, duplicated, stale, wrongly kept or wrongly deleted");
        }
        let counts: Vec<_> = self.counts.iter().map(|(defect, count)| format!("{count} {defect}")).collect();
        write!(formatter, "{} findings: {}", self.total(), counts.join(", "))?;
        for finding in &self.findings {
            write!(formatter, "\n  {}: {}", finding.defect, finding.stream)?;
            if !finding.source_id.is_empty() {
                write!(formatter, " {}", finding.source_id)?;
            }
            if !finding.detail.is_empty() {
                write!(formatter, ": {}", finding.detail)?;
            }
        }
        let more = self.total().saturating_sub(self.findings.len() as u64);
        if more > 0 {
            write!(formatter, "\n  and {more} more")?;
        }
        Ok(())
    }
}
