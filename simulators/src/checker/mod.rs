//! The checker: compares what a simulator holds with what a store at rest holds, stream by stream.
//! The oracle of end-to-end and fault tests and of the demo. It knows the product's read contract and none of its code.
//!
//! A record counts against the store only when it was due: changed, and visible, before the watermark of its stream.

mod mapping;
mod report;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use self::{
    mapping::{Entity, STREAMS, Stream},
    store::{Cursor, Row, Rows, Scope, Store},
};
pub use self::{
    report::{Defect, Finding, Report, StreamCount},
    source::Source,
};
use crate::hubspot::Truth;

/// A source's upper bound stands this far behind its clock: what became visible later than that after its change
/// cannot be asked for (docs/facts.md, Sources).
const VISIBILITY_LAG: SignedDuration = SignedDuration::from_mins(5);

/// Whose rows to compare, and where they are.
#[derive(Debug, Clone)]
pub struct Target {
    /// `postgres://…` or `sqlite:PATH`.
    pub database: String,
    /// The tenant.
    pub tenant: String,
    /// The connector.
    pub connector: String,
    /// The streams to compare; empty = all.
    pub streams: Vec<String>,
}

/// Compares the store with the source. Both must be at rest.
///
/// # Errors
/// When one of them cannot be read; what is wrong in the store is in the report.
///
/// # Idempotency
/// Reads only.
pub async fn check(source: &Source, target: &Target) -> anyhow::Result<Report> {
    let info = source.info().await?;
    let store = Store::open(&target.database).await?;
    let scope = Scope {
        tenant: target.tenant.clone(),
        connector: target.connector.clone(),
        account: info.portal_id.to_string(),
    };
    let cursor = store.cursor(&scope).await?;
    let mut check = Check::new(target, cursor, &store.dead_letters(&scope).await?);
    check.cursors_of(info.now);
    let mut truths = source.truths().await?;
    let mut truth_count: u64 = 0;
    let mut current: Option<(&'static Entity, Rows)> = None;
    while let Some(truth) = truths.next().await? {
        truth_count += 1;
        let Some(stream) = Stream::named(&truth.stream).filter(|stream| check.wants(stream)) else { continue };
        if current.as_ref().is_none_or(|(entity, _)| *entity != stream.entity) {
            check.finish(current.take());
            let rows = store.rows(stream.entity, &scope).await?;
            check.begin(stream.entity, &rows);
            current = Some((stream.entity, rows));
        }
        if let Some((_, rows)) = &mut current {
            check.record(stream, &truth, rows);
        }
    }
    check.finish(current);
    for entity in check.unseen_entities() {
        let rows = store.rows(entity, &scope).await?;
        check.begin(entity, &rows);
        check.finish(Some((entity, rows)));
    }
    let expected: u64 = info.records.values().map(|&count| u64::from(count)).sum();
    anyhow::ensure!(
        truth_count >= expected,
        "the simulator's state was cut off after {truth_count} of {expected} records"
    );
    Ok(check.report)
}

/// A comparison under way.
struct Check {
    report: Report,
    streams: Vec<String>,
    cursor: Cursor,
    /// (entity, source id) of dead letters.
    dead: HashSet<(String, String)>,
    /// Dead letters without an id, by entity: each may stand for one record that is missed.
    nameless: HashMap<String, u64>,
    /// The newest row of each stream.
    newest: HashMap<&'static str, Timestamp>,
    without_cursor: HashSet<&'static str>,
    /// Views that were read.
    seen: HashSet<&'static str>,
}

impl Check {
    fn new(target: &Target, cursor: Cursor, letters: &[store::DeadLetter]) -> Self {
        let mut dead = HashSet::new();
        let mut nameless: HashMap<String, u64> = HashMap::new();
        for (entity, source_id) in letters {
            let entity = entity.clone().unwrap_or_default();
            match source_id {
                Some(source_id) => drop(dead.insert((entity, source_id.clone()))),
                None => *nameless.entry(entity).or_default() += 1,
            }
        }
        let report = Report { tenant: target.tenant.clone(), connector: target.connector.clone(), ..Report::default() };
        let streams = target.streams.clone();
        let (newest, without_cursor, seen) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { report, streams, cursor, dead, nameless, newest, without_cursor, seen }
    }

    fn wants(&self, stream: &Stream) -> bool {
        self.streams.is_empty() || self.streams.iter().any(|name| name == stream.name)
    }

    /// No watermark may stand above the source's clock.
    fn cursors_of(&mut self, now: Timestamp) {
        let ahead = self.cursor.streams.iter().filter(|(_, at)| **at > now);
        let mut ahead: Vec<_> = ahead.map(|(name, at)| (name.clone(), *at)).collect();
        ahead.sort();
        for (name, at) in ahead {
            self.report.add(Defect::CursorAhead, &name, "", || format!("cursor {at}, the source's clock {now}"));
        }
    }

    /// Entities of which the source has no record.
    fn unseen_entities(&self) -> Vec<&'static Entity> {
        let mut unseen: Vec<&'static Entity> = Vec::new();
        for stream in STREAMS.iter().filter(|stream| self.wants(stream)) {
            if !self.seen.contains(stream.entity.view) && !unseen.contains(&stream.entity) {
                unseen.push(stream.entity);
            }
        }
        unseen
    }

    /// Notes what the store holds of an entity.
    fn begin(&mut self, entity: &'static Entity, rows: &Rows) {
        self.seen.insert(entity.view);
        let streams: Vec<&'static Stream> =
            STREAMS.iter().filter(|stream| stream.entity == entity && self.wants(stream)).collect();
        for (source_id, row) in rows {
            let Some(stream) = streams.iter().find(|stream| stream.owns(source_id)) else { continue };
            let count = self.report.stream(stream.name);
            count.rows += u64::from(row.count);
            count.tombstones += u64::from(row.deleted_at.is_some());
            let newest = self.newest.entry(stream.name).or_insert(Timestamp::MIN);
            *newest = row.updated_at.unwrap_or(Timestamp::MIN).max(*newest);
        }
    }

    /// What is left of an entity's rows is unknown to the source.
    fn finish(&mut self, rows: Option<(&'static Entity, Rows)>) {
        let Some((entity, rows)) = rows else { return };
        let streams: Vec<_> = STREAMS.iter().filter(|stream| stream.entity == entity).collect();
        let mut extra: Vec<_> =
            rows.into_iter().filter(|(_, row)| !row.known).map(|(source_id, _)| source_id).collect();
        extra.sort();
        for source_id in extra {
            match streams.iter().find(|stream| stream.owns(&source_id)) {
                Some(stream) if !self.wants(stream) => {}
                Some(stream) => self.report.add(Defect::Extra, stream.name, &source_id, String::new),
                None => self.report.add(Defect::Extra, entity.view, &source_id, || "of no stream".to_owned()),
            }
        }
    }

    /// Compares one record.
    fn record(&mut self, stream: &'static Stream, truth: &Truth, rows: &mut Rows) {
        let source_id = stream.source_id(&truth.id);
        let count = self.report.stream(stream.name);
        count.records += 1;
        count.live += u64::from(truth.is_live());
        let watermark = self.cursor.streams.get(stream.name).copied();
        if watermark.is_none() && self.without_cursor.insert(stream.name) {
            self.report.add(Defect::NoCursor, stream.name, "", String::new);
        }
        // A window ends before its upper bound: a change at the very instant of the watermark belongs to the next one.
        let due = watermark.is_some_and(|watermark| due_at(truth) < watermark);
        let row = rows.get_mut(&source_id);
        if let Some(row) = &row
            && row.count > 1
        {
            self.report.add(Defect::Duplicated, stream.name, &source_id, || format!("{} rows", row.count));
        }
        let row = row.map(|row| {
            row.known = true;
            &*row
        });
        let Some((defect, detail)) = self.judge(stream, truth, row, due) else { return };
        // A version that never was is no dead letter's fault, all else may be.
        if defect == Defect::NewerThanSource {
            return self.report.add(defect, stream.name, &source_id, || detail);
        }
        if !due {
            self.report.stream(stream.name).not_due += 1;
        } else if self.dead_letter(stream, &source_id) {
            self.report.stream(stream.name).dead_letters += 1;
        } else {
            let watermark = watermark.map(|at| format!(", cursor {at}")).unwrap_or_default();
            self.report.add(defect, stream.name, &source_id, || detail + &watermark);
        }
    }

    /// What is wrong with a row, were its record due.
    fn judge(&self, stream: &Stream, truth: &Truth, row: Option<&Row>, due: bool) -> Option<(Defect, String)> {
        let changed = truth.updated_at;
        let Some(row) = row else {
            let newest = self.newest.get(stream.name);
            let defect = if newest.is_none_or(|&at| at < changed) { Defect::CursorAhead } else { Defect::Lost };
            return truth.is_live().then(|| (defect, format!("not stored, changed {changed}")));
        };
        let stored = row.updated_at;
        if !truth.is_live() {
            let kept = row.deleted_at.is_none() && !is_inactive_owner(stream, row);
            let how = if truth.merged_into.is_some() { "merged" } else { "archived" };
            return kept.then(|| (Defect::NotDeleted, format!("{how} {changed}")));
        }
        if row.deleted_at.is_some() {
            return Some((Defect::WronglyDeleted, format!("live, changed {changed}")));
        }
        let stored_text = stored.map_or_else(|| "no version".to_owned(), |at| at.to_string());
        match stored.cmp(&Some(changed)) {
            std::cmp::Ordering::Less => Some((Defect::Stale, format!("stored {stored_text}, changed {changed}"))),
            std::cmp::Ordering::Greater => {
                Some((Defect::NewerThanSource, format!("stored {stored_text}, changed {changed}")))
            }
            // Equal versions are compared only once they are due: the source may still be changing them.
            std::cmp::Ordering::Equal if !due => None,
            std::cmp::Ordering::Equal => {
                let column = stream.differing_column(truth, &row.fields)?;
                Some((Defect::Differs, format!("column {column}")))
            }
        }
    }

    /// Whether a dead letter accounts for this record; one without an id is used up.
    fn dead_letter(&mut self, stream: &Stream, source_id: &str) -> bool {
        let named = |entity: &str| self.dead.contains(&(entity.to_owned(), source_id.to_owned()));
        if named(stream.entity.view) || named("") {
            return true;
        }
        for entity in [stream.entity.view, ""] {
            if let Some(left) = self.nameless.get_mut(entity).filter(|left| **left > 0) {
                *left -= 1;
                return true;
            }
        }
        false
    }
}

/// From when a source that asks for windows up to five minutes ago must have seen it.
fn due_at(truth: &Truth) -> Timestamp {
    let shown = truth.visible_from.and_then(|from| from.checked_sub(VISIBILITY_LAG).ok());
    shown.map_or(truth.updated_at, |shown| shown.max(truth.updated_at))
}

/// Owners are users: an archived one may stay as an inactive row.
fn is_inactive_owner(stream: &Stream, row: &Row) -> bool {
    let active = stream.entity.columns.iter().position(|name| *name == "active");
    active.and_then(|at| row.fields.get(at)?.as_deref()).is_some_and(|active| matches!(active, "false" | "0"))
}
