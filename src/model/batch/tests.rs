//! What is written is read back, whatever it is; what cannot be stored becomes a dead letter.

use jiff::civil::Date;

use super::*;
use crate::model::entity::ColumnType;

fn account<'a>(name: Cell<'a>) -> Row<'a> {
    let mut cells = vec![Cell::Null; Entity::Account.columns().len()];
    cells[0] = name;
    cells[4] = Cell::Integer(-7);
    cells[5] = Cell::Decimal("1.50".into());
    cells[15] = Cell::Timestamp("2026-01-02T03:04:05.123456Z".parse().expect("timestamp"));
    cells[16] = Cell::Json(r#"{"a":[1,"ü"]}"#.into());
    Row {
        entity: Entity::Account,
        source_id: "42".into(),
        source_created_at: None,
        source_updated_at: Some("2026-01-01T00:00:00Z".parse().expect("timestamp")),
        deleted_at: None,
        merged_into_source_id: Some("7".into()),
        cells,
    }
}

#[test]
fn what_was_pushed_is_read_back_and_equal_content_has_an_equal_hash() {
    let row = account(Cell::Text("Ünïcode 🦀".into()));
    let tombstone = Row { deleted_at: row.source_updated_at, cells: vec![], ..row.clone() };
    let rejected = Rejected {
        entity: Entity::Contact,
        source_id: None,
        code: "UnparsableRecord".into(),
        field: None,
        payload: b"{".as_slice().into(),
    };
    let mut writer = BatchWriter::default();
    for pushed in [&row, &tombstone, &row] {
        writer.push(pushed, b"{}");
    }
    writer.reject(&rejected);
    assert_eq!((writer.row_count(), writer.rejected_count()), (3, 1));
    let batch = Batch::open(&writer.finish()).expect("own format");
    let records: Vec<_> = batch.records().collect::<Result<_, _>>().expect("undamaged");
    let [Record::Row(first, hash), Record::Row(gone, other), Record::Row(_, again), Record::Rejected(last)] =
        &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((first, gone, last), (&row, &tombstone, &rejected));
    assert!(hash == again && hash != other);
}

#[test]
fn a_value_that_no_store_takes_becomes_a_rejection_naming_its_column() {
    let mut writer = BatchWriter::default();
    writer.push(&account(Cell::Text("nul \0".into())), b"{\"served\":1}");
    let batch = Batch::open(&writer.finish()).expect("own format");
    let Some(Ok(Record::Rejected(rejected))) = batch.records().next() else { panic!("not rejected") };
    assert_eq!((rejected.field.as_deref(), &*rejected.payload), (Some("name"), b"{\"served\":1}".as_slice()));
}

fn only(writer: BatchWriter) -> Record<'static> {
    let batch = Box::leak(Box::new(Batch::open(&writer.finish()).expect("own format")));
    let mut records = batch.records();
    let first = records.next().expect("a record").expect("undamaged");
    assert!(records.next().is_none());
    first
}

#[test]
fn an_oversized_record_becomes_a_dead_letter_with_its_beginning_and_its_size() {
    let large = "x".repeat(MAX_RECORD_BYTES);
    let mut writer = BatchWriter::default();
    writer.push(&account(Cell::Text(large.as_str().into())), large.as_bytes());
    assert_eq!((writer.row_count(), writer.rejected_count()), (0, 1));
    assert!(writer.byte_count() < 2 * KEPT_OF_OVERSIZED);
    let Record::Rejected(rejected) = only(writer) else { panic!("not rejected") };
    assert_eq!((&*rejected.code, rejected.source_id.as_deref()), ("OversizedRecord", Some("42")));
    assert!(rejected.payload.starts_with(b"xxx") && rejected.payload.ends_with(b"\n[cut: 4194304 bytes in all]"));

    let mut writer = BatchWriter::default();
    writer.push(&account(Cell::Text(large[..MAX_RECORD_BYTES - 1_000].into())), b"");
    assert_eq!(writer.row_count(), 1, "just below the limit");
}

#[test]
fn an_id_that_no_index_takes_is_a_rejection_without_an_id() {
    for id in ["", "a\0b", &"9".repeat(MAX_SOURCE_ID_BYTES + 1)] {
        let mut writer = BatchWriter::default();
        writer.push(&Row { source_id: id.into(), ..account(Cell::Null) }, b"served");
        let Record::Rejected(rejected) = only(writer) else { panic!("not rejected") };
        assert_eq!((rejected.source_id, rejected.field.as_deref()), (None, Some("source_id")));
    }
}

#[test]
fn damaged_bytes_are_an_error_and_end_the_iteration() {
    assert!(matches!(Batch::open(b"junk"), Err(Error::Damaged)));
    let other = zstd::bulk::compress(&[9, 1, 2], 1).expect("compress");
    assert!(matches!(Batch::open(&other), Err(Error::Format(9))));
    let cut = zstd::bulk::compress(&[FORMAT, 200, 0, 0, 0, 1], 1).expect("compress");
    assert_eq!(Batch::open(&cut).expect("opens").records().filter(Result::is_err).count(), 1);
}

mod properties {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn time() -> impl Strategy<Value = Timestamp> {
        // The range that both ends of a staged microsecond have.
        (Timestamp::MIN.as_microsecond()..=Timestamp::MAX.as_microsecond())
            .prop_map(|microseconds| Timestamp::from_microsecond(microseconds).expect("in range"))
    }

    fn text() -> impl Strategy<Value = String> {
        // Any character but the one that makes a rejection.
        any::<String>().prop_map(|text| text.replace('\0', "\u{10ffff}"))
    }

    fn cell(kind: ColumnType) -> BoxedStrategy<Cell<'static>> {
        let value = match kind {
            ColumnType::Text => text().prop_map(|text| Cell::Text(text.into())).boxed(),
            ColumnType::Integer => any::<i64>().prop_map(Cell::Integer).boxed(),
            ColumnType::Decimal => "-?[0-9]{1,60}(\\.[0-9]{1,30})?".prop_map(|text| Cell::Decimal(text.into())).boxed(),
            ColumnType::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
            ColumnType::Timestamp => time().prop_map(Cell::Timestamp).boxed(),
            ColumnType::Date => (-9999_i16..=9999, 1_i8..=12, 1_i8..=28)
                .prop_map(|(year, month, day)| Cell::Date(Date::new(year, month, day).expect("a day")))
                .boxed(),
            ColumnType::Json => {
                let json = text().prop_map(|text| serde_json::json!({ "a": [text, 1.5, null] }).to_string());
                json.prop_map(|json| Cell::Json(json.into())).boxed()
            }
        };
        prop_oneof![1 => Just(Cell::Null), 4 => value].boxed()
    }

    fn row() -> impl Strategy<Value = Row<'static>> {
        let entity = proptest::sample::select(Entity::ALL.as_slice());
        let cells = entity.prop_flat_map(|entity| {
            let cells: Vec<_> = entity.columns().iter().map(|column| cell(column.kind)).collect();
            (Just(entity), cells)
        });
        let times = (option::of(time()), option::of(time()), option::of(time()));
        (cells, "[^\\x00]{1,100}", times, option::of(text())).prop_map(|((entity, cells), id, times, merged)| Row {
            entity,
            source_id: id.into(),
            source_created_at: times.0,
            source_updated_at: times.1,
            deleted_at: times.2,
            merged_into_source_id: merged.map(Into::into),
            cells: if times.2.is_some() { Vec::new() } else { cells },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_storable_rows_come_back_as_they_were(rows in vec(row(), 0..8)) {
            let mut writer = BatchWriter::default();
            rows.iter().for_each(|row| writer.push(row, b""));
            let batch = Batch::open(&writer.finish()).expect("own format");
            let mut read = Vec::new();
            for record in batch.records() {
                let Record::Row(row, _) = record.expect("undamaged") else { panic!("rejected") };
                read.push(row);
            }
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn damage_of_any_byte_is_an_error_or_another_record_and_never_a_panic(
            row in row(), at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>(),
        ) {
            let mut writer = BatchWriter::default();
            writer.push(&row, b"");
            let at = 1 + at.index(writer.bytes.len() - 1);
            writer.bytes[at] = byte;
            let length = 1 + length.index(writer.bytes.len());
            writer.bytes.truncate(length);
            let batch = Batch::open(&writer.finish()).expect("own format");
            let read = batch.records().filter(Result::is_ok).count();
            prop_assert!(read <= length);
        }
    }
}

#[test]
fn a_rejected_record_keeps_no_id_that_a_store_could_not_keep() {
    for (id, kept) in [("42", Some("42")), ("4\u{0}2", None), ("", None)] {
        let mut writer = BatchWriter::default();
        let payload = b"{}".as_slice().into();
        let code = "UnparsableRecord".into();
        writer.reject(&Rejected { entity: Entity::Contact, source_id: Some(id.into()), code, field: None, payload });
        let Record::Rejected(rejected) = only(writer) else { panic!("not rejected") };
        assert_eq!(rejected.source_id.as_deref(), kept);
    }
}
