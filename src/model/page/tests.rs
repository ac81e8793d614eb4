//! Rows with one of everything that does not fit, under each contract and with field rules.

use super::*;
use crate::model::{
    batch::{Batch, Record},
    config::{FieldRules, StreamConfig},
    entity::Entity,
    pseudonym::PseudonymKey,
    stream::Stream,
};

const COMPANIES: Stream = Stream { name: "companies", entity: Entity::Account, id_prefix: "" };
/// Columns of `account`.
const NAME: usize = 0;
const EMPLOYEES: usize = 4;
const CUSTOM: usize = 16;

fn key() -> PseudonymKey {
    PseudonymKey::of("i", &"acme".parse().expect("id"))
}

fn policy(schema_contract: SchemaContract, fields: FieldRules) -> Policy {
    let properties = vec!["salary".to_owned(), "badge".to_owned()];
    let config = StreamConfig { name: "companies".to_owned(), properties, schema_contract, fields };
    let mut names = vec![None; Entity::Account.columns().len()];
    names[NAME] = Some("companyname");
    Policy::of(COMPANIES, Some(&config), names, &key()).expect("valid rules")
}

fn row<'a>(name: &'a str, custom: Option<&'a str>) -> Row<'a> {
    let mut cells = vec![Cell::Null; Entity::Account.columns().len()];
    cells[NAME] = Cell::Text(name.into());
    cells[CUSTOM] = custom.map_or(Cell::Null, |custom| Cell::Json(custom.into()));
    Row {
        entity: Entity::Account,
        source_id: "1".into(),
        source_created_at: None,
        source_updated_at: None,
        deleted_at: None,
        merged_into_source_id: None,
        cells,
    }
}

fn about_ten() -> Vec<Unfit> {
    vec![Unfit { column: EMPLOYEES, property: "numberofemployees".to_owned(), text: "about ten".to_owned() }]
}

/// Text of `name` and `custom`, or code, field and payload of the dead letter.
#[derive(Debug, PartialEq)]
enum Landed {
    Row(Option<String>, Option<String>),
    DeadLetter(String, Option<String>, String),
}

fn landed(policy: &Policy, row: Row<'_>, unfit: Vec<Unfit>) -> Result<Landed, Frozen> {
    let mut into = BatchWriter::default();
    let mut page = PageWriter::new(&mut into, policy);
    page.push(row, unfit, b"served");
    page.finish()?;
    let batch = Batch::open(&into.finish()).expect("own format");
    let record = batch.records().next().expect("a record").expect("undamaged");
    let text = |cell: &Cell<'_>| match cell {
        Cell::Text(text) | Cell::Json(text) => Some(text.to_string()),
        _ => None,
    };
    Ok(match record {
        Record::Row(row, _) => Landed::Row(text(&row.cells[NAME]), text(&row.cells[CUSTOM])),
        Record::Rejected(rejected) => Landed::DeadLetter(
            rejected.code.into(),
            rejected.field.map(Into::into),
            String::from_utf8(rejected.payload.into()).expect("text"),
        ),
    })
}

fn dead(code: &str, field: &str, payload: &str) -> Landed {
    Landed::DeadLetter(code.to_owned(), Some(field.to_owned()), payload.to_owned())
}

fn lands(name: Option<&str>, custom: Option<&str>) -> Result<Landed, Frozen> {
    Ok(Landed::Row(name.map(str::to_owned), custom.map(str::to_owned)))
}

#[test]
fn a_value_of_another_type_ends_as_the_contract_says() {
    let ends = |contract| landed(&policy(contract, FieldRules::default()), row("x", None), about_ten());
    assert_eq!(ends(SchemaContract::DiscardRow), Ok(dead("UnparsableValue", "numberofemployees", "served")));
    assert_eq!(ends(SchemaContract::DiscardValue), lands(Some("x"), None));
    assert_eq!(ends(SchemaContract::Evolve), lands(Some("x"), Some(r#"{"numberofemployees":"about ten"}"#)));
    assert_eq!(ends(SchemaContract::Freeze), Err(Frozen { field: "numberofemployees".to_owned() }));
}

#[test]
fn a_value_that_no_store_takes_ends_as_the_contract_says() {
    let poison = || row("nul \0", Some(r#"{"salary":1e400000,"badge":"\ud800","fine":1}"#));
    let ends = |contract| landed(&policy(contract, FieldRules::default()), poison(), Vec::new());
    assert_eq!(ends(SchemaContract::DiscardRow), Ok(dead("UnstorableValue", "name", "served")));
    assert_eq!(ends(SchemaContract::DiscardValue), lands(None, Some(r#"{"fine":1}"#)));
    let kept = r#"{"badge":"�","companyname":"nul �","fine":1,"salary":"1e400000"}"#;
    assert_eq!(ends(SchemaContract::Evolve), lands(None, Some(kept)));
    assert_eq!(ends(SchemaContract::Freeze), Err(Frozen { field: "name".to_owned() }));
}

#[test]
fn what_has_no_identity_or_is_too_large_is_a_dead_letter_under_every_contract() {
    use SchemaContract::{DiscardRow, DiscardValue, Evolve, Freeze};
    let large = "x".repeat(super::super::record::MAX_RECORD_BYTES);
    for contract in [Evolve, Freeze, DiscardValue, DiscardRow] {
        let policy = policy(contract, FieldRules::default());
        let nameless = Row { source_id: "".into(), ..row("x", None) };
        assert_eq!(landed(&policy, nameless, Vec::new()), Ok(dead("UnstorableValue", "source_id", "served")));
        let Ok(Landed::DeadLetter(code, ..)) = landed(&policy, row(&large, None), Vec::new()) else {
            panic!("{contract:?}")
        };
        assert_eq!(code, "OversizedRecord");
    }
}

#[test]
fn a_frozen_page_leaves_nothing_of_itself_and_everything_before_it() {
    let (plain, frozen) = (
        policy(SchemaContract::DiscardRow, FieldRules::default()),
        policy(SchemaContract::Freeze, FieldRules::default()),
    );
    let mut into = BatchWriter::default();
    let mut page = PageWriter::new(&mut into, &plain);
    page.push(row("before", None), Vec::new(), b"");
    page.finish().expect("clean");
    let before = (into.byte_count(), into.row_count());

    let mut page = PageWriter::new(&mut into, &frozen);
    page.push(row("clean", None), Vec::new(), b"");
    page.push(row("x", None), about_ten(), b"");
    page.push(row("", None), Vec::new(), b"");
    assert!(page.finish().is_err());
    assert_eq!((into.byte_count(), into.row_count(), into.rejected_count()), (before.0, before.1, 0));

    // A page given up in the middle, as when a request after it fails.
    let mut page = PageWriter::new(&mut into, &plain);
    page.push(row("lost", None), Vec::new(), b"");
    drop(page);
    assert_eq!((into.byte_count(), into.row_count()), before);
}

fn rules(allow: &[&str], drop: &[&str], hash: &[&str]) -> FieldRules {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    FieldRules { allow: list(allow), drop: list(drop), hash: list(hash) }
}

#[test]
fn dropped_fields_are_null_and_hashed_ones_are_pseudonyms() {
    let custom = Some(r#"{"badge":" B-7 ","salary":100}"#);
    let ends = |fields| landed(&policy(SchemaContract::DiscardRow, fields), row("Ada", custom), Vec::new());
    let hashed = key().pseudonym("ada");
    assert_eq!(ends(rules(&[], &["name", "salary"], &[])), lands(None, Some(r#"{"badge":" B-7 "}"#)));
    let badge = format!(r#"{{"badge":"{}","salary":100}}"#, key().pseudonym("b-7"));
    assert_eq!(ends(rules(&[], &[], &["name", "badge"])), lands(Some(&hashed), Some(&badge)));
    assert_eq!(ends(rules(&["salary"], &[], &[])), lands(None, Some(r#"{"salary":100}"#)));
    assert_eq!(ends(rules(&["name"], &[], &[])), lands(Some("Ada"), None));
    assert_eq!(ends(rules(&[], &["custom"], &[])), lands(Some("Ada"), None));
}

#[test]
fn what_must_not_be_stored_leaves_by_no_other_door() {
    // Neither in a dead letter's payload,
    let fields = rules(&[], &["phone"], &[]);
    let ends = landed(&policy(SchemaContract::DiscardRow, fields), row("nul \0", None), Vec::new());
    assert_eq!(ends, Ok(dead("UnstorableValue", "name", "")));
    let fields = rules(&[], &["phone"], &[]);
    let ends = landed(&policy(SchemaContract::DiscardRow, fields), row("x", None), about_ten());
    assert_eq!(ends, Ok(dead("UnparsableValue", "numberofemployees", "")));
    // nor as a misfit's text in `custom`,
    let fields = rules(&[], &["employees"], &[]);
    assert_eq!(landed(&policy(SchemaContract::Evolve, fields), row("x", None), about_ten()), lands(Some("x"), None));
    let fields = rules(&["name", "employees"], &[], &[]);
    assert_eq!(landed(&policy(SchemaContract::Evolve, fields), row("x", None), about_ten()), lands(Some("x"), None));
    // and a hashed value that is no text at all is hashed all the same.
    let unfit = Unfit { column: NAME, property: "companyname".to_owned(), text: "{\"nested\":1}".to_owned() };
    let ends = landed(&policy(SchemaContract::Evolve, rules(&[], &[], &["name"])), row("", None), vec![unfit]);
    assert_eq!(ends, lands(Some(&key().pseudonym("{\"nested\":1}")), None));
}

#[test]
fn a_tombstone_has_no_fields_to_judge() {
    let tombstone = Row { deleted_at: Some(jiff::Timestamp::UNIX_EPOCH), cells: Vec::new(), ..row("", None) };
    let mut into = BatchWriter::default();
    let policy = policy(SchemaContract::Freeze, rules(&[], &["name"], &[]));
    let mut page = PageWriter::new(&mut into, &policy);
    page.push(tombstone, Vec::new(), b"");
    assert!(page.finish().is_ok() && into.row_count() == 1);
}
