//! A small stand-in for the store: rows by version, loads and cursors as the real ones, compared with the simulator's truth.

use std::collections::BTreeMap;

use gtm_sync::{
    connectors::{Fetch, Source},
    model::{
        batch::{Batch, BatchWriter, Record},
        cursor::{Cursor, Load, Task},
        record::{Cell, Row},
    },
};
use jiff::Timestamp;
use simulators::hubspot::{StateHandle, Truth};

/// A row as it would be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    updated_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    merged_into: Option<String>,
    cells: BTreeMap<&'static str, String>,
}

/// Everything one connector brought.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    /// By stream and source id.
    pub(crate) rows: BTreeMap<(String, String), Stored>,
    pub(crate) rejected: usize,
    cursor: Cursor,
    generation: i64,
}

impl Replica {
    /// One run: a full load or an increment of every stream.
    pub(crate) async fn sync(&mut self, source: &dyn Source, full: bool) {
        let clock = source.account().await.expect("account").clock;
        let mut load = Load::begin(&self.cursor, self.generation, full, source.streams(), clock);
        self.run(source, &mut load).await;
        self.generation = load.generation;
        self.cursor = load.finish(std::mem::take(&mut self.cursor));
    }

    /// Increments since for ever: everything by search.
    pub(crate) async fn sync_since_for_ever(&mut self, source: &dyn Source) {
        for stream in source.streams() {
            self.cursor.streams.insert(stream.name.to_owned(), "2000-01-01T00:00:00Z".parse().expect("timestamp"));
        }
        self.sync(source, false).await;
    }

    async fn run(&mut self, source: &dyn Source, load: &mut Load) {
        while let Some(Task::Read(stream)) = load.task() {
            let stream = stream.clone();
            let mut into = BatchWriter::default();
            let request =
                Fetch { stream: &stream.name, lower: stream.lower, upper: load.upper, after: load.token.as_ref() };
            let fetched = source.fetch(request, &mut into).await;
            let fetched = fetched.unwrap_or_else(|error| panic!("{}: {error}", stream.name));
            self.apply(&stream.name, into);
            match fetched.next {
                Some(next) => load.token = Some(next),
                None => load.finish_stream(),
            }
        }
    }

    fn apply(&mut self, stream: &str, into: BatchWriter) {
        let batch = Batch::open(&into.finish()).expect("own format");
        for record in batch.records() {
            match record.expect("undamaged") {
                Record::Row(row, _) => self.apply_row(stream, &row),
                Record::Rejected(_) => self.rejected += 1,
            }
        }
    }

    fn apply_row(&mut self, stream: &str, row: &Row<'_>) {
        let stored = self.rows.entry((stream.to_owned(), row.source_id.clone().into_owned())).or_default();
        if row.source_updated_at < stored.updated_at {
            return;
        }
        stored.updated_at = row.source_updated_at;
        stored.deleted_at = row.deleted_at;
        stored.merged_into = row.merged_into_source_id.clone().map(std::borrow::Cow::into_owned);
        if row.deleted_at.is_none() {
            let cells = row.cells.iter().zip(row.entity.columns());
            stored.cells = cells.filter_map(|(cell, column)| Some((column.name, text(cell)?))).collect();
        }
    }

    /// The value of a column, as text.
    pub(crate) fn cell(&self, stream: &str, id: &str, column: &str) -> Option<String> {
        self.rows.get(&(stream.to_owned(), id.to_owned()))?.cells.get(column).cloned()
    }

    /// Rows of a stream that are not deleted.
    pub(crate) fn live_count(&self, stream: &str) -> usize {
        self.rows.iter().filter(|((of, _), row)| of == stream && row.deleted_at.is_none()).count()
    }

    /// Compares every record of the simulator with its row.
    pub(crate) fn assert_equals(&self, state: &StateHandle) {
        let truths = state.truth();
        for truth in &truths {
            self.assert_record(truth);
        }
        assert_eq!(self.rows.len(), truths.len(), "rows that the simulator does not have");
    }

    fn assert_record(&self, truth: &Truth) {
        let id = match truth.stream.as_str() {
            "calls" | "emails" | "meetings" | "tasks" | "notes" => {
                format!("{}:{}", truth.stream.trim_end_matches('s'), truth.id)
            }
            _ => truth.id.clone(),
        };
        let key = (truth.stream.clone(), id);
        let Some(row) = self.rows.get(&key) else { panic!("{key:?} is missing: {truth:?}") };
        if truth.stream == "owners" {
            assert_eq!(row.cells["active"], truth.archived_at.is_none().to_string(), "{key:?}");
            return;
        }
        assert_eq!(row.deleted_at.is_none(), truth.is_live(), "{key:?}: {truth:?} {row:?}");
        assert_eq!(row.merged_into, truth.merged_into, "{key:?}");
        if !truth.is_live() {
            return;
        }
        assert_eq!(row.updated_at, Some(truth.updated_at), "{key:?}");
        for (property, column) in plain_columns(&truth.stream) {
            let value = truth.properties.get(*property).filter(|value| !value.is_empty());
            assert_eq!(row.cells.get(column), value, "{key:?} {property}");
        }
        if truth.company_is_live {
            assert_eq!(row.cells.get("account_source_id"), truth.company.as_ref(), "{key:?}");
        }
    }
}

/// Properties whose text is their column's.
fn plain_columns(stream: &str) -> &'static [(&'static str, &'static str)] {
    match stream {
        "companies" => {
            &[("name", "name"), ("domain", "domain"), ("city", "city"), ("hubspot_owner_id", "owner_source_id")]
        }
        "contacts" => &[("email", "email"), ("firstname", "first_name"), ("lastname", "last_name"), ("phone", "phone")],
        "deals" => &[("dealname", "name"), ("dealstage", "stage"), ("pipeline", "pipeline")],
        "calls" => &[("hs_call_title", "subject"), ("hs_call_body", "body")],
        "emails" => &[("hs_email_subject", "subject"), ("hs_email_status", "status")],
        "meetings" => &[("hs_meeting_title", "subject"), ("hs_meeting_outcome", "status")],
        "tasks" => &[("hs_task_subject", "subject"), ("hs_task_status", "status")],
        "notes" => &[("hs_note_body", "body")],
        "pipelines" => &[("label", "name"), ("pipeline", "pipeline")],
        _ => &[],
    }
}

fn text(cell: &Cell<'_>) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text) => Some(text.clone().into_owned()),
        Cell::Integer(value) => Some(value.to_string()),
        Cell::Boolean(value) => Some(value.to_string()),
        Cell::Timestamp(value) => Some(value.to_string()),
        Cell::Date(value) => Some(value.to_string()),
    }
}
