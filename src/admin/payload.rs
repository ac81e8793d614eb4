//! A dead letter's payload as JSON: as the source served it, or one staged record by its canonical columns. Pure.

use serde_json::{Map, Value, json};

use crate::{
    model::{
        batch::{Batch, Record},
        record::{Cell, Row},
    },
    store::DeadLetterRow,
};

/// The payload, or in words why there is none.
pub(super) fn payload(letter: &DeadLetterRow) -> Result<Value, String> {
    match letter.payload_form.as_str() {
        "served" => Ok(served(&letter.payload)),
        "staged" => staged(&letter.payload),
        "withheld" => Err("the payload was withheld: it holds fields that the stream's rules keep out".to_owned()),
        "lost" => Err("the payload was not kept: workers died of this record, and the source still has it".to_owned()),
        "expired" => Err("the payload was kept long enough and is gone (retention)".to_owned()),
        _ => Err("the payload is of a form that this build does not know: use the operator's gtm-sync".to_owned()),
    }
}

/// Bytes that are no JSON are shown as text.
fn served(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(payload)))
}

fn staged(payload: &[u8]) -> Result<Value, String> {
    let batch = Batch::open(payload).map_err(|error| error.to_string())?;
    let records: Result<Vec<Value>, _> = batch.records().map(|record| record.map(|record| shown(&record))).collect();
    let mut records = records.map_err(|error| error.to_string())?;
    Ok(if records.len() == 1 { records.remove(0) } else { Value::Array(records) })
}

fn shown(record: &Record<'_>) -> Value {
    match record {
        Record::Row(row, _) => shown_row(row),
        Record::Rejected(rejected) => served(&rejected.payload),
    }
}

fn shown_row(row: &Row<'_>) -> Value {
    let mut columns = Map::new();
    columns.insert("source_id".to_owned(), json!(row.source_id));
    columns.insert("source_created_at".to_owned(), json!(row.source_created_at));
    columns.insert("source_updated_at".to_owned(), json!(row.source_updated_at));
    columns.insert("deleted_at".to_owned(), json!(row.deleted_at));
    columns.insert("merged_into_source_id".to_owned(), json!(row.merged_into_source_id));
    for (column, cell) in row.entity.columns().iter().zip(&row.cells) {
        columns.insert(column.name.to_owned(), shown_cell(cell));
    }
    Value::Object(columns)
}

fn shown_cell(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) | Cell::Decimal(text) => json!(text),
        Cell::Integer(number) => json!(number),
        Cell::Boolean(flag) => json!(flag),
        Cell::Timestamp(at) => json!(at.to_string()),
        Cell::Date(date) => json!(date.to_string()),
        Cell::Json(document) => served(document.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{batch::BatchWriter, entity::Entity};

    fn letter(payload: Vec<u8>, form: &str) -> DeadLetterRow {
        DeadLetterRow {
            observed_seq: 1,
            account_id: "portal-1".to_owned(),
            workflow_id: "run".to_owned(),
            batch_index: 0,
            entity: Some(Entity::Stage),
            source_id: Some("1".to_owned()),
            code: "Test".to_owned(),
            field: None,
            recorded_at: jiff::Timestamp::UNIX_EPOCH,
            replay_requested_at: None,
            payload,
            payload_form: form.to_owned(),
        }
    }

    #[test]
    fn a_served_payload_is_shown_as_it_came_and_one_that_is_no_json_as_text() {
        assert_eq!(payload(&letter(br#"{"id":"1"}"#.to_vec(), "served")), Ok(json!({"id": "1"})));
        assert_eq!(payload(&letter(b"{\"id\":".to_vec(), "served")), Ok(json!("{\"id\":")));
    }

    #[test]
    fn a_staged_record_is_shown_by_its_columns() {
        let mut cells = vec![Cell::Null; Entity::Stage.columns().len()];
        cells[0] = Cell::Text("Won".into());
        let custom = cells.len() - 1;
        cells[custom] = Cell::Json(r#"{"a":[1]}"#.into());
        let row = Row {
            entity: Entity::Stage,
            source_id: "p/1".into(),
            source_created_at: None,
            source_updated_at: Some(jiff::Timestamp::UNIX_EPOCH),
            deleted_at: None,
            merged_into_source_id: None,
            cells,
        };
        let mut writer = BatchWriter::default();
        writer.push(&row, b"{}");
        let shown = payload(&letter(writer.finish(), "staged")).expect("readable");
        assert_eq!((&shown["source_id"], &shown["name"]), (&json!("p/1"), &json!("Won")));
        assert_eq!(
            (&shown["custom"], &shown["source_updated_at"]),
            (&json!({"a": [1]}), &json!("1970-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_not_there_is_explained_and_damage_is_no_panic() {
        assert!(payload(&letter(vec![], "expired")).is_err_and(|why| why.contains("retention")));
        assert!(payload(&letter(vec![], "lost")).is_err_and(|why| why.contains("died")));
        assert!(payload(&letter(vec![], "withheld")).is_err_and(|why| why.contains("withheld")));
        assert!(payload(&letter(vec![1, 2, 3], "staged")).is_err_and(|why| why.contains("damaged")));
    }
}
