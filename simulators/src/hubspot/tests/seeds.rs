//! Seeded records.

use std::collections::{BTreeMap, BTreeSet};

use super::{account, start};
use crate::hubspot::{Options, Truth, Visibility, records::split};

#[test]
fn the_same_seed_gives_the_same_records_and_another_seed_others() {
    let all = |seed| {
        let visibility = Visibility { late_records: 0, ..Visibility::default() };
        start(Options { seed, records: 500, visibility, ..Options::default() }).truth()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

#[test]
fn records_are_split_over_all_types_and_none_is_left_out() {
    for records in [10, 99, 12_345] {
        let counts = split(records);
        assert_eq!(counts.iter().sum::<u32>(), records);
        assert!(counts[..3].iter().all(|&count| count > 0), "companies, contacts and deals at any size");
    }
}

#[test]
fn the_data_are_as_messy_as_real_ones() {
    let truths = account(20_000).truth();
    let has = |what: &str, test: &dyn Fn(&Truth) -> bool| assert!(truths.iter().any(test), "{what}");
    let value = |truth: &Truth, name: &str| truth.properties.get(name).cloned();
    has("archived", &|truth| truth.archived_at.is_some());
    has("merged", &|truth| truth.merged_into.is_some());
    has("late", &|truth| truth.visible_from.is_some());
    has("no name", &|truth| truth.stream == "companies" && value(truth, "name").is_none());
    has("not ASCII", &|truth| value(truth, "firstname").is_some_and(|name| !name.is_ascii()));
    has("empty text", &|truth| value(truth, "amount").as_deref() == Some(""));
    has("an exponent", &|truth| value(truth, "amount").as_deref() == Some("1e3"));
    has("a negative amount", &|truth| value(truth, "amount").is_some_and(|amount| amount.starts_with('-')));
    has("a long note", &|truth| value(truth, "hs_note_body").is_some_and(|note| note.len() > 20_000));
    has("a date far ahead", &|truth| value(truth, "closedate").is_some_and(|date| date.starts_with("2099")));
    let doubles = |name: &str| {
        let all: Vec<_> = truths.iter().filter_map(|truth| value(truth, name)).collect();
        all.len() - all.iter().collect::<BTreeSet<_>>().len()
    };
    assert!(doubles("domain") > 50 && doubles("email") == 0, "companies share domains, contacts no address");
    let mut times = BTreeMap::new();
    for truth in truths.iter().filter(|truth| truth.stream == "contacts") {
        *times.entry(truth.updated_at).or_insert(0) += 1;
    }
    let most = times.into_values().max();
    assert!(most > Some(100), "many contacts share a time of change, got {most:?}");
}
