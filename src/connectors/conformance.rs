//! What every source must do, as one suite: a connector is done when it passes against its vendor's simulator.
//! Knows no vendor; a `Driver` opens the source and breaks the simulator on demand.

mod by_id;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

pub use by_id::{
    reading_back_fails_as_a_whole_or_not_at_all, the_count_is_that_of_the_live_records,
    what_is_read_back_is_what_was_fetched, what_the_source_does_not_know_is_a_tombstone_of_its_present_time,
};

use super::{Error, Fetch, Source};
use crate::model::batch::{Batch, BatchWriter, Record};

/// A page count that no healthy stream of a conformance account reaches.
const ENDLESS: usize = 10_000;

/// What the suite breaks. Each hits page requests of the driver's stream only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429, with `Retry-After` in seconds or without.
    RateLimited(Option<u32>),
    /// 503.
    ServerError,
    /// No answer.
    Hang,
    /// 200 with a page that is not the API's format.
    NotTheFormat,
    /// A body cut off in the middle.
    CutOff,
    /// One record of the page is not a record.
    MalformedRecord,
    /// One record of the page holds a NUL character.
    NulCharacter,
    /// The next page repeats this one.
    DuplicatePage,
    /// Every page leads to itself.
    EndlessCursor,
    /// The credential may not read the stream.
    MissingScope,
}

/// How often a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next matching request.
    Once,
    /// Every one until `heal`.
    Always,
}

/// A simulator with an account of several pages, and the source that reads it.
#[async_trait]
pub trait Driver: Send + Sync {
    /// A fresh source with a good credential, a request timeout of about a second and at least two quick attempts.
    fn source(&self) -> Box<dyn Source>;

    /// A fresh source whose credential the vendor does not know.
    fn source_with_unknown_credential(&self) -> Box<dyn Source>;

    /// A stream that has at least three pages in a first load and in increments, and that `Fault`s hit.
    fn stream(&self) -> &'static str;

    /// A stream that the faults do not hit.
    fn other_stream(&self) -> &'static str;

    /// An id of the stream's form that no record has or had.
    fn unknown_id(&self) -> String;

    /// Breaks the simulator.
    async fn break_with(&self, fault: Fault, times: Times);

    /// Takes all faults back.
    async fn heal(&self);
}

/// What reading a stream gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The hash of each row and tombstone by id, as last served.
    pub rows: BTreeMap<String, [u8; 16]>,
    /// Those of them that are tombstones, with the time of deletion.
    pub tombstones: BTreeMap<String, Timestamp>,
    /// Rejected records.
    pub rejected: usize,
    /// Where each page but the first started.
    pub positions: Vec<Value>,
}

/// Reads a stream from a position to its end.
///
/// # Errors
/// The first that the source gives.
///
/// # Panics
/// When a failing page pushed records, or when there is no end.
pub async fn read(
    source: &dyn Source,
    stream: &str,
    lower: Option<Timestamp>,
    upper: Timestamp,
    mut after: Option<Value>,
) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    for _ in 0..ENDLESS {
        let mut into = BatchWriter::default();
        let result = source.fetch(Fetch { stream, lower, upper, after: after.as_ref() }, &mut into).await;
        assert!(result.is_ok() || into.record_count() == 0, "a page that failed pushed records");
        let fetched = result?;
        collect(into, &mut collected);
        let Some(next) = fetched.next else { return Ok(collected) };
        collected.positions.push(next.clone());
        after = Some(next);
    }
    panic!("{stream} has no end");
}

fn collect(into: BatchWriter, collected: &mut Collected) {
    let batch = Batch::open(&into.finish()).expect("what a writer finished can be opened");
    for record in batch.records() {
        match record.expect("what a writer wrote is undamaged") {
            Record::Row(row, hash) => {
                let id = row.source_id.into_owned();
                collected.tombstones.extend(row.deleted_at.map(|at| (id.clone(), at)));
                collected.rows.insert(id, hash);
            }
            Record::Rejected(_) => collected.rejected += 1,
        }
    }
}

/// Runs the whole suite, each check on a healed simulator.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn all(driver: &dyn Driver) {
    resume_from_every_position_gives_the_same_rows(driver).await;
    throttles_are_results_with_a_time(driver).await;
    outages_are_waited_out_briefly_and_then_unavailable(driver).await;
    unreadable_answers_are_read_again_and_then_fail_their_stream(driver).await;
    bad_records_are_rejections(driver).await;
    repeated_pages_do_no_harm_and_endless_ones_end(driver).await;
    a_missing_scope_stops_its_stream_only(driver).await;
    an_unknown_credential_is_unauthorised(driver).await;
    what_is_read_back_is_what_was_fetched(driver).await;
    what_the_source_does_not_know_is_a_tombstone_of_its_present_time(driver).await;
    reading_back_fails_as_a_whole_or_not_at_all(driver).await;
    the_count_is_that_of_the_live_records(driver).await;
}

/// The two windows of every check: a first load, and increments since for ever.
const WINDOWS: [Option<Timestamp>; 2] = [None, Some(Timestamp::UNIX_EPOCH)];

struct Healthy {
    upper: Timestamp,
    rows: [Collected; 2],
}

async fn healthy(driver: &dyn Driver) -> Healthy {
    driver.heal().await;
    let source = driver.source();
    let upper = source.account().await.expect("a healthy account").clock;
    let mut rows = Vec::new();
    for lower in WINDOWS {
        let collected = read(&*source, driver.stream(), lower, upper, None).await.expect("a healthy stream");
        assert!(collected.positions.len() >= 2, "the suite needs three pages");
        assert_eq!(collected.rejected, 0, "the suite needs clean records");
        rows.push(collected);
    }
    let rows = rows.try_into().expect("one for each window");
    Healthy { upper, rows }
}

/// Paging and resuming: positions are rebuildable (R16) and any of them leads to the rest.
///
/// # Panics
/// When it is not so.
pub async fn resume_from_every_position_gives_the_same_rows(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for (lower, whole) in WINDOWS.into_iter().zip(&healthy.rows) {
        let distinct: BTreeSet<_> = whole.positions.iter().map(Value::to_string).collect();
        assert_eq!(distinct.len(), whole.positions.len(), "every position is another one");
        let mut rest_before = whole.rows.len();
        for position in &whole.positions {
            // As after a restart: another source, the position through its stored form.
            let stored: Value = serde_json::from_str(&position.to_string()).expect("JSON");
            let rest = read(&*driver.source(), driver.stream(), lower, healthy.upper, Some(stored)).await;
            let rest = rest.expect("a healthy stream");
            assert!(rest.rows.iter().all(|(id, hash)| whole.rows.get(id) == Some(hash)), "{position} leads elsewhere");
            assert!(rest.rows.len() <= rest_before, "{position} leads back");
            rest_before = rest.rows.len();
        }
        let again = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert_eq!(again.as_ref(), Ok(whole), "reading twice gives the same");
    }
}

/// 429 with and without `Retry-After` is `Throttled` with a time, and over when it is over (R2).
///
/// # Panics
/// When it is not so.
pub async fn throttles_are_results_with_a_time(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for lower in WINDOWS {
        driver.break_with(Fault::RateLimited(Some(77)), Times::Always).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert!(
            matches!(result, Err(Error::Throttled { after, .. }) if after == Duration::from_secs(77)),
            "{result:?}"
        );
        driver.heal().await;

        driver.break_with(Fault::RateLimited(None), Times::Always).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert!(matches!(result, Err(Error::Throttled { after, .. }) if !after.is_zero()), "{result:?}");
        driver.heal().await;
    }
}

/// One 5xx, lost connection or silence is not noticed; a lasting one is `Unavailable`.
///
/// # Panics
/// When it is not so.
pub async fn outages_are_waited_out_briefly_and_then_unavailable(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for (lower, whole) in WINDOWS.into_iter().zip(&healthy.rows) {
        for fault in [Fault::ServerError, Fault::Hang, Fault::CutOff] {
            driver.break_with(fault, Times::Once).await;
            let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
            assert_eq!(result.as_ref(), Ok(whole), "{fault:?}");
            driver.heal().await;

            driver.break_with(fault, Times::Always).await;
            let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
            assert!(matches!(result, Err(Error::Unavailable { .. })), "{fault:?}: {result:?}");
            driver.heal().await;
        }
    }
}

/// An answer that is not the API's is asked for again, and fails its stream only when it stays so (R24).
///
/// # Panics
/// When it is not so.
pub async fn unreadable_answers_are_read_again_and_then_fail_their_stream(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for (lower, whole) in WINDOWS.into_iter().zip(&healthy.rows) {
        driver.break_with(Fault::NotTheFormat, Times::Once).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert_eq!(result.as_ref(), Ok(whole));
        driver.heal().await;

        driver.break_with(Fault::NotTheFormat, Times::Always).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert!(matches!(result, Err(Error::UnreadablePage { .. })), "{result:?}");
        driver.heal().await;
    }
}

/// A malformed record and one with a NUL character are one rejection each; the others of their page land.
///
/// # Panics
/// When it is not so.
pub async fn bad_records_are_rejections(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for (lower, whole) in WINDOWS.into_iter().zip(&healthy.rows) {
        for fault in [Fault::MalformedRecord, Fault::NulCharacter] {
            driver.break_with(fault, Times::Once).await;
            let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
            let collected = result.expect("a bad record fails no page");
            assert_eq!(collected.rejected, 1, "{fault:?}");
            let missing = whole.rows.keys().filter(|id| !collected.rows.contains_key(*id)).count();
            assert!((1..=2).contains(&missing), "{fault:?}: {missing} rows missing (one, or one and what it merged)");
            assert!(collected.rows.iter().all(|(id, hash)| whole.rows.get(id) == Some(hash)), "{fault:?}");
            driver.heal().await;
        }
    }
}

/// A page that comes twice gives the same rows; a cursor that leads to itself is an unreadable page, not a loop.
///
/// # Panics
/// When it is not so.
pub async fn repeated_pages_do_no_harm_and_endless_ones_end(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    for (lower, whole) in WINDOWS.into_iter().zip(&healthy.rows) {
        driver.break_with(Fault::DuplicatePage, Times::Once).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert_eq!(result.as_ref().map(|collected| &collected.rows), Ok(&whole.rows));
        driver.heal().await;

        driver.break_with(Fault::EndlessCursor, Times::Always).await;
        let result = read(&*driver.source(), driver.stream(), lower, healthy.upper, None).await;
        assert!(matches!(result, Err(Error::UnreadablePage { .. })), "{result:?}");
        driver.heal().await;
    }
}

/// A missing permission is `Configuration`; other streams go on.
///
/// # Panics
/// When it is not so.
pub async fn a_missing_scope_stops_its_stream_only(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    driver.break_with(Fault::MissingScope, Times::Always).await;
    let source = driver.source();
    for lower in WINDOWS {
        let result = read(&*source, driver.stream(), lower, healthy.upper, None).await;
        assert!(matches!(result, Err(Error::Configuration { .. })), "{result:?}");
        let other = read(&*source, driver.other_stream(), lower, healthy.upper, None).await;
        assert!(other.is_ok_and(|other| !other.rows.is_empty()), "another stream");
    }
    driver.heal().await;
}

/// A credential that the vendor does not know is `Unauthorised`, in checks and in pages.
///
/// # Panics
/// When it is not so.
pub async fn an_unknown_credential_is_unauthorised(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    let source = driver.source_with_unknown_credential();
    let account = source.account().await;
    assert!(matches!(account, Err(Error::Unauthorised { .. })), "{account:?}");
    let result = read(&*source, driver.stream(), None, healthy.upper, None).await;
    assert!(matches!(result, Err(Error::Unauthorised { .. })), "{result:?}");
}
