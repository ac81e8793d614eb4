//! Golden tests of the mapping: `testdata/*.json` as HubSpot serves it, `testdata/*.golden` as it must be staged.
//! A golden file is read like code before it is changed.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    config::{OBJECT_TYPES, ObjectType, STREAMS, To, property_names},
    directory,
    mapping::{Fault, Plan},
    read_back,
    record::{Object, Page, listed_links},
};
use crate::{
    connectors::Stream,
    model::{
        batch::{Batch, BatchWriter, Record},
        config::{FieldRules, SchemaContract, StreamConfig},
        entity::Entity,
        page::PageWriter,
        policy::Policy,
        pseudonym::PseudonymKey,
        record::{Cell, Row},
    },
};

fn policy(stream: &str, entity: Entity, schema_contract: SchemaContract, fields: FieldRules) -> Policy {
    let stream = STREAMS.iter().find(|known| known.name == stream && known.entity == entity).expect("a stream");
    let config = StreamConfig { schema_contract, fields, ..StreamConfig::default() };
    let key = PseudonymKey::of("i", &"acme".parse().expect("id"));
    Policy::of(*stream, Some(&config), property_names(stream), &key).expect("valid rules")
}

fn default_policy(stream: &str) -> Policy {
    let Stream { entity, .. } = STREAMS.iter().find(|known| known.name == stream).expect("a stream");
    policy(stream, *entity, SchemaContract::default(), FieldRules::default())
}

/// What `push` adds to a page under a policy, as text.
fn page_of(policy: &Policy, push: impl FnOnce(&mut PageWriter<'_>)) -> String {
    let mut into = BatchWriter::default();
    let mut page = PageWriter::new(&mut into, policy);
    push(&mut page);
    page.finish().expect("not frozen");
    render(into)
}

fn object_type(name: &str) -> &'static ObjectType {
    OBJECT_TYPES.iter().find(|object| object.name == name).expect("a stream")
}

fn map_live(name: &str, custom: &[&str], page: &str) -> String {
    map_live_under(&default_policy(name), name, custom, page)
}

fn map_live_under(policy: &Policy, name: &str, custom: &[&str], page: &str) -> String {
    let custom: Vec<_> = custom.iter().map(|&name| name.to_owned()).collect();
    let plan = Plan::new(object_type(name), &custom, policy);
    let page = Page::parse(page.as_bytes().to_vec()).expect("a page");
    page_of(policy, |into| {
        for raw in page.records() {
            let object = Object::parse(raw, &plan.properties).ok_or(Fault::RECORD);
            let listed = object.as_ref().ok().and_then(|object| object.associations);
            let links = listed_links(listed, &plan.associations).expect("associations").expect("complete");
            plan.push_live(raw, object, &links, into);
        }
    })
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
    let page = |name: &str| Page::parse(pages[name].get().as_bytes().to_vec()).expect("a page");
    let owners = page_of(&default_policy("owners"), |into| {
        page("owners").records().for_each(|raw| directory::push_owner(raw, into));
    });
    let stages = page_of(&default_policy("pipelines"), |into| {
        page("pipelines").records().for_each(|raw| drop(directory::push_pipeline(raw, |_| true, into)));
    });
    let mapped = owners + &stages;
    assert_eq!(mapped, include_str!("testdata/directory.golden"), "{mapped}");
}

#[test]
fn the_letter_of_an_unreadable_pipeline_is_replayed_with_all_its_stages() {
    let read = |stages: &str, ids: &[&str]| {
        let page = format!(r#"{{"results":[{{"id":"7","stages":{stages}}},{{"id":"8","stages":[{{"id":"1"}}]}}]}}"#);
        let page = Page::parse(page.into_bytes()).expect("a page");
        let mut missing = Vec::new();
        let pushed = page_of(&default_policy("pipelines"), |into| {
            let left = read_back::push_stages(&page, &ids.iter().copied().collect(), into).expect("named");
            missing.extend(left.into_iter().map(str::to_owned));
        });
        let heads = pushed.lines().filter(|line| !line.starts_with("  ")).map(str::to_owned).collect::<Vec<_>>();
        (heads, missing)
    };
    let (unreadable, missing) = read("null", &["7", "7:1"]);
    assert!(unreadable.len() == 1 && unreadable[0].contains("UnparsableRecord"), "{unreadable:?}");
    assert_eq!(missing, [""; 0], "nothing can be said of either");
    let (readable, missing) = read(r#"[{"id":"1"},{"id":"2"}]"#, &["7"]);
    assert!(readable.len() == 2 && readable[0].contains("7:1") && readable[1].contains("7:2"), "{readable:?}");
    assert_eq!(missing, ["7"], "no stage has that id: its letter is resolved");
    let (one, missing) = read(r#"[{"id":"1"},{"id":"2"}]"#, &["7:2", "7:3"]);
    assert_eq!((one.len(), missing), (1, vec!["7:3".to_owned()]));
}

#[test]
fn archived_records_become_tombstones_of_their_later_time_within_the_window() {
    let page = br#"{"results":[
        {"id":"1","properties":{},"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-03-01T00:00:00Z","archived":true,"archivedAt":"2026-02-01T00:00:00Z"},
        {"id":"2","properties":{},"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-01-01T00:00:00Z","archived":true,"archivedAt":"2026-01-31T23:59:59Z"},
        {"id":"3","properties":{},"archived":true}]}"#;
    let policy = default_policy("notes");
    let plan = Plan::new(object_type("notes"), &[], &policy);
    let archived = |lower: Option<&str>| {
        let lower = lower.map(|lower| lower.parse().expect("timestamp"));
        let page = Page::parse(page.to_vec()).expect("a page");
        page_of(&policy, |into| page.records().for_each(|raw| plan.push_archived(raw, lower, into)))
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
    let associations = [To::Companies, To::Contacts].as_slice();
    let more = r#"{"contacts":{"results":[{"id":"1"}],"paging":{"next":{"after":"1"}}}}"#;
    assert!(matches!(listed_links(Some(more), associations), Ok(None)));
    assert!(listed_links(Some(r#"{"contacts":7}"#), associations).is_err());
}

#[test]
fn a_contract_that_evolves_keeps_what_does_not_fit_under_its_propertys_name() {
    let evolve = |name: &str, entity, page: &str| {
        let policy = policy(name, entity, SchemaContract::Evolve, FieldRules::default());
        map_live_under(&policy, name, &[], page)
    };
    let deal = r#"{"results":[{"id":"1","properties":{"amount":"1e999","closedate":"soon","hs_is_closed_won":"perhaps",
        "dealname":"half a pair \ud83d","pipeline":{"nested":1},"hs_manual_forecast_category":"nul \u0000"}}]}"#;
    let expected = r#"opportunity 1
  custom = json {"amount":"1e999","closedate":"soon","dealname":"half a pair �","hs_is_closed_won":"perhaps","hs_manual_forecast_category":"nul �","pipeline":"{\"nested\":1}"}
"#;
    let mapped = evolve("deals", Entity::Opportunity, deal);
    assert_eq!(mapped, expected, "{mapped}");

    let discard = policy("deals", Entity::Opportunity, SchemaContract::DiscardValue, FieldRules::default());
    assert_eq!(map_live_under(&discard, "deals", &[], deal), "opportunity 1\n");
}

#[test]
fn what_is_dropped_is_not_asked_for_unless_something_else_needs_it() {
    let drop = |names: &[&str]| FieldRules {
        drop: names.iter().map(|&name| name.to_owned()).collect(),
        ..FieldRules::default()
    };
    let plan = |stream: &str, entity, names: &[&str]| {
        let policy = policy(stream, entity, SchemaContract::default(), drop(names));
        Plan::new(object_type(stream), &[], &policy)
    };
    let all = plan("deals", Entity::Opportunity, &[]);
    assert!(all.associations == [To::Companies, To::Contacts] && all.properties.names().contains(&"amount".to_owned()));
    let some = plan("deals", Entity::Opportunity, &["amount", "status", "contact_source_ids"]);
    assert_eq!(some.associations, [To::Companies]);
    for absent in ["amount", "hs_is_closed", "hs_is_closed_won"] {
        assert!(!some.properties.names().contains(&absent.to_owned()), "{absent}");
    }
    let emails = plan("emails", Entity::Activity, &["body", "links"]);
    assert!(emails.associations.is_empty());
    assert!(!emails.properties.names().iter().any(|name| name == "hs_email_text" || name == "hs_email_html"));
    assert!(plan("meetings", Entity::Activity, &["occurred_at"]).properties.names().len() > 4);
}

#[test]
fn only_ids_that_hubspot_can_have_given_are_asked_for() {
    let policies = ["contacts", "calls"].map(default_policy);
    let contacts = Plan::new(object_type("contacts"), &[], &policies[0]);
    let calls = Plan::new(object_type("calls"), &[], &policies[1]);
    assert_eq!((contacts.vendor_id("42"), calls.vendor_id("call:42")), (Some("42"), Some("42")));
    for id in ["", "0", "-1", "+1", "007", " 1", "1.0", "abc", "99999999999999999999", "call:1", "1\0"] {
        assert_eq!(contacts.vendor_id(id), None, "{id:?}");
    }
    for id in ["42", "calls:42", "call:", "call:x", "email:42"] {
        assert_eq!(calls.vendor_id(id), None, "{id:?}");
    }
}

mod properties {
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Map, Value};

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[-+]?[0-9]{0,40}[.]?[0-9]{0,3}[eE]?-?[0-9]{0,12}".prop_map(Value::from),
            Just(Value::from("2026-01-02T03:04:05Z")),
            Just(Value::from("true")),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((any::<String>(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// An object with some of the members that mapping looks at, each of them anything.
    fn record(members: &'static [&'static str]) -> impl Strategy<Value = Value> {
        let one = (proptest::sample::select(members), json());
        vec(one, 0..members.len()).prop_map(|found| {
            let members: Map<String, Value> = found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Value::Object(members)
        })
    }

    const FRAME: &[&str] =
        &["id", "properties", "createdAt", "updatedAt", "archived", "archivedAt", "associations", "stages", "teams"];
    const PROPERTIES: &[&str] = &[
        "amount",
        "closedate",
        "hs_is_closed",
        "hs_is_closed_won",
        "dealname",
        "hs_merged_object_ids",
        "my_property",
        "metadata",
        "displayOrder",
        "email",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_json_makes_the_mapping_panic_and_every_record_ends_somewhere(
            mut frame in record(FRAME), properties in record(PROPERTIES), keep in any::<bool>(), id in 1..99_u32,
            contract in proptest::sample::select([SchemaContract::Evolve, SchemaContract::DiscardValue, SchemaContract::DiscardRow].as_slice()),
        ) {
            if keep {
                frame["id"] = Value::from(id.to_string());
                frame["properties"] = properties;
            }
            let raw = frame.to_string();
            let policy = policy("deals", Entity::Opportunity, contract, FieldRules::default());
            let plan = Plan::new(object_type("deals"), &["my_property".to_owned()], &policy);
            let object = Object::parse(&raw, &plan.properties).ok_or(Fault::RECORD);
            let listed = object.as_ref().ok().and_then(|object| object.associations);
            let links = listed_links(listed, &plan.associations).ok().flatten().unwrap_or_default();
            let mapped = page_of(&policy, |into| {
                plan.push_live(&raw, object, &links, into);
                plan.push_archived(&raw, None, into);
            });
            prop_assert!(mapped.lines().filter(|line| !line.starts_with("  ")).count() >= 2, "{}", mapped);
            page_of(&default_policy("owners"), |into| directory::push_owner(&raw, into));
            page_of(&default_policy("pipelines"), |into| drop(directory::push_pipeline(&raw, |_| true, into)));
        }
    }
}
