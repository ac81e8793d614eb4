//! Golden tests of the mapping: `testdata/*.json` as HubSpot serves it, `testdata/*.golden` as it must be staged.
//! A golden file is read like code before it is changed.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    config::{OBJECT_TYPES, ObjectType},
    directory,
    mapping::{Fault, Plan},
    record::{Object, Page, listed_links},
};
use crate::model::{
    batch::{Batch, BatchWriter, Record},
    record::{Cell, Row},
};

fn object_type(name: &str) -> &'static ObjectType {
    OBJECT_TYPES.iter().find(|object| object.name == name).expect("a stream")
}

fn map_live(name: &str, custom: &[&str], page: &str) -> String {
    let custom: Vec<_> = custom.iter().map(|&name| name.to_owned()).collect();
    let plan = Plan::new(object_type(name), &custom);
    let page = Page::parse(page.as_bytes().to_vec()).expect("a page");
    let mut into = BatchWriter::default();
    for raw in page.records() {
        let object = Object::parse(raw, &plan.properties).ok_or(Fault::RECORD);
        let listed = object.as_ref().ok().and_then(|object| object.associations);
        let links = listed_links(listed, plan.object.associations).expect("associations").expect("complete");
        plan.push_live(raw, object, &links, &mut into);
    }
    render(into)
}

fn render(into: BatchWriter) -> String {
    let batch = Batch::open(&into.finish()).expect("own format");
    batch.records().map(|record| render_record(&record.expect("undamaged"))).collect()
}

fn render_record(record: &Record<'_>) -> String {
    match record {
        Record::Row(row, _) => render_row(row),
        Record::Rejected(rejected) => format!(
            "rejected {} {} {} {} ({} bytes kept)\n",
            rejected.entity.table(),
            rejected.source_id.as_deref().unwrap_or("?"),
            rejected.code,
            rejected.field.as_deref().unwrap_or("-"),
            rejected.payload.len(),
        ),
    }
}

fn render_row(row: &Row<'_>) -> String {
    let mut text = format!("{} {}", row.entity.table(), row.source_id);
    let times = [("created", row.source_created_at), ("updated", row.source_updated_at), ("deleted", row.deleted_at)];
    for (name, at) in times {
        text += &at.map_or_else(String::new, |at| format!(" {name} {at}"));
    }
    text += &row.merged_into_source_id.as_ref().map_or_else(String::new, |into| format!(" merged into {into}"));
    text += "\n";
    for (cell, column) in row.cells.iter().zip(row.entity.columns()) {
        text += &match cell {
            Cell::Null => continue,
            Cell::Text(value) => format!("  {} = {value:?}\n", column.name),
            Cell::Integer(value) => format!("  {} = {value}\n", column.name),
            Cell::Decimal(value) => format!("  {} = {value}\n", column.name),
            Cell::Boolean(value) => format!("  {} = {value}\n", column.name),
            Cell::Timestamp(value) => format!("  {} = {value}\n", column.name),
            Cell::Date(value) => format!("  {} = {value}\n", column.name),
            Cell::Json(value) => format!("  {} = json {value}\n", column.name),
        };
    }
    text
}

#[test]
fn companies_become_accounts_and_merged_ones_tombstones() {
    let mapped =
        map_live("companies", &["segment", "score", "absent", "city"], include_str!("testdata/companies.json"));
    assert_eq!(mapped, include_str!("testdata/companies.golden"), "{mapped}");
}

#[test]
fn contacts_belong_to_their_primary_company() {
    let mapped = map_live("contacts", &[], include_str!("testdata/contacts.json"));
    assert_eq!(mapped, include_str!("testdata/contacts.golden"), "{mapped}");
}

#[test]
fn deals_become_opportunities_with_a_status() {
    let mapped = map_live("deals", &[], include_str!("testdata/deals.json"));
    assert_eq!(mapped, include_str!("testdata/deals.golden"), "{mapped}");
}

#[test]
fn engagements_become_activities_whose_ids_cannot_collide() {
    let pages: BTreeMap<&str, &RawValue> =
        serde_json::from_str(include_str!("testdata/activities.json")).expect("pages by stream");
    let mapped: String = pages.iter().map(|(name, page)| map_live(name, &[], page.get())).collect();
    assert_eq!(mapped, include_str!("testdata/activities.golden"), "{mapped}");
}

#[test]
fn owners_and_stages_are_rows_and_people_who_left_stay_inactive() {
    let pages: BTreeMap<&str, &RawValue> =
        serde_json::from_str(include_str!("testdata/directory.json")).expect("pages by stream");
    let mut into = BatchWriter::default();
    let page = |name: &str| Page::parse(pages[name].get().as_bytes().to_vec()).expect("a page");
    page("owners").records().for_each(|raw| directory::push_owner(raw, &mut into));
    page("pipelines").records().for_each(|raw| directory::push_pipeline(raw, &mut into));
    let mapped = render(into);
    assert_eq!(mapped, include_str!("testdata/directory.golden"), "{mapped}");
}

#[test]
fn archived_records_become_tombstones_of_their_later_time_within_the_window() {
    let page = br#"{"results":[
        {"id":"1","properties":{},"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-03-01T00:00:00Z","archived":true,"archivedAt":"2026-02-01T00:00:00Z"},
        {"id":"2","properties":{},"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-01-01T00:00:00Z","archived":true,"archivedAt":"2026-01-31T23:59:59Z"},
        {"id":"3","properties":{},"archived":true}]}"#;
    let plan = Plan::new(object_type("notes"), &[]);
    let archived = |lower: Option<&str>| {
        let mut into = BatchWriter::default();
        let lower = lower.map(|lower| lower.parse().expect("timestamp"));
        let page = Page::parse(page.to_vec()).expect("a page");
        page.records().for_each(|raw| plan.push_archived(raw, lower, &mut into));
        render(into)
    };
    let first =
        "activity note:1 created 2026-01-01T00:00:00Z updated 2026-03-01T00:00:00Z deleted 2026-02-01T00:00:00Z\n";
    let second =
        "activity note:2 created 2026-01-01T00:00:00Z updated 2026-01-31T23:59:59Z deleted 2026-01-31T23:59:59Z\n";
    let third = "rejected activity note:3 UnparsableValue archivedAt (42 bytes kept)\n";
    assert_eq!(archived(None), format!("{first}{second}{third}"));
    assert_eq!(archived(Some("2026-02-01T00:00:00Z")), format!("{first}{third}"));
}

#[test]
fn a_list_of_associations_that_goes_on_elsewhere_is_read_apart() {
    let associations = object_type("deals").associations;
    let more = r#"{"contacts":{"results":[{"id":"1"}],"paging":{"next":{"after":"1"}}}}"#;
    assert!(matches!(listed_links(Some(more), associations), Ok(None)));
    assert!(listed_links(Some(r#"{"contacts":7}"#), associations).is_err());
}
