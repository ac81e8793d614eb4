//! The part of the suite on records by id and their number: what sweeps, replays and reconciliation build on.
//! The driver and the reading of pages are the suite's.

use std::time::Duration;

use jiff::Timestamp;

use super::{Collected, Driver, Fault, Times, collect, healthy, read};
use crate::{
    connectors::{Error, Source},
    model::batch::BatchWriter,
};

/// Reads records back into a batch of their own.
async fn read_back(source: &dyn Source, stream: &str, ids: &[String]) -> Result<Collected, Error> {
    let mut into = BatchWriter::default();
    let result = source.read(stream, ids, &mut into).await;
    assert!(result.is_ok() || into.record_count() == 0, "a read that failed pushed records");
    result?;
    let mut collected = Collected::default();
    collect(into, &mut collected);
    Ok(collected)
}

/// Every id of every stream reads back as the row or tombstone that a load brought, in one call and one by one.
///
/// # Panics
/// When it is not so.
pub async fn what_is_read_back_is_what_was_fetched(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    let source = driver.source();
    for stream in source.streams() {
        let whole = read(&*source, stream.name, None, healthy.upper, None).await.expect("a healthy stream");
        let ids: Vec<String> = whole.rows.keys().cloned().collect();
        let again = read_back(&*source, stream.name, &ids).await.expect("a healthy stream");
        assert_eq!((&again.rows, again.rejected), (&whole.rows, 0), "{}", stream.name);
        let some = ids.first().into_iter().chain(ids.last()).chain(whole.tombstones.keys().take(3));
        for id in some {
            let alone = read_back(&*source, stream.name, std::slice::from_ref(id)).await.expect("a healthy stream");
            assert_eq!(alone.rows.get(id), whole.rows.get(id), "{} {id}", stream.name);
            assert!(alone.rows.iter().all(|(id, hash)| whole.rows.get(id) == Some(hash)), "{} {id}", stream.name);
        }
    }
    let of_stream = &healthy.rows[0];
    assert!(!of_stream.tombstones.is_empty(), "the suite needs deleted records");
}

/// Unknown and malformed ids are tombstones as of now, beside the ids that are known; nothing at all is nothing at all.
///
/// # Panics
/// When it is not so.
pub async fn what_the_source_does_not_know_is_a_tombstone_of_its_present_time(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    let source = driver.source();
    let known = healthy.rows[0].rows.keys().next().expect("a record").clone();
    let unknown = [driver.unknown_id(), "no id of this source".to_owned(), "42:42:42".to_owned()];
    let ids: Vec<_> = unknown.iter().chain([&known]).cloned().collect();
    let read = read_back(&*source, driver.stream(), &ids).await.expect("unknown ids are no error");
    assert_eq!(read.rows.get(&known), healthy.rows[0].rows.get(&known));
    for id in &unknown {
        let at = read.tombstones.get(id).unwrap_or_else(|| panic!("{id:?} is no tombstone"));
        assert!(*at >= healthy.upper, "{id:?}: newer than every version that was served before");
    }
    assert_eq!((read.rows.len(), read.rejected), (ids.len(), 0));
    for malformed in &unknown[1..] {
        let alone = read_back(&*source, driver.stream(), std::slice::from_ref(malformed)).await;
        assert_eq!(alone.map(|read| read.tombstones.len()), Ok(1), "{malformed:?} alone");
    }
    assert_eq!(read_back(&*source, driver.stream(), &[]).await, Ok(Collected::default()));
}

/// An outage in the middle leaves nothing of what was read before it, and makes no tombstones.
///
/// # Panics
/// When it is not so.
pub async fn reading_back_fails_as_a_whole_or_not_at_all(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    let source = driver.source();
    let ids: Vec<String> = healthy.rows[0].rows.keys().cloned().chain([driver.unknown_id()]).collect();
    for fault in [Fault::ServerError, Fault::NotTheFormat, Fault::CutOff] {
        driver.break_with(fault, Times::Once).await;
        let once = read_back(&*source, driver.stream(), &ids).await.map(|read| read.rows.len());
        assert_eq!(once, Ok(ids.len()), "{fault:?} once is not noticed");
        driver.heal().await;
        driver.break_with(fault, Times::Always).await;
        let always = read_back(&*source, driver.stream(), &ids).await;
        assert!(
            matches!(always, Err(Error::Unavailable { .. } | Error::UnreadablePage { .. })),
            "{fault:?}: {always:?}"
        );
        driver.heal().await;
    }
    // Which record it was cannot be told: nothing may be called gone.
    driver.break_with(Fault::MalformedRecord, Times::Always).await;
    let nameless = read_back(&*source, driver.stream(), &ids).await;
    assert!(matches!(nameless, Err(Error::UnreadablePage { .. })), "{nameless:?}");
    driver.heal().await;
    driver.break_with(Fault::NulCharacter, Times::Once).await;
    let poisoned = read_back(&*source, driver.stream(), &ids).await.expect("a bad record fails no read");
    assert_eq!(poisoned.rejected, 1, "it ends as `fetch` would have it");
    driver.heal().await;
}

/// The count is the number of live records of a load, and of none before there were any.
///
/// # Panics
/// When it is not so.
pub async fn the_count_is_that_of_the_live_records(driver: &dyn Driver) {
    let healthy = healthy(driver).await;
    let source = driver.source();
    let whole = &healthy.rows[0];
    let live = (whole.rows.len() - whole.tombstones.len()) as u64;
    assert_eq!(source.count(driver.stream(), healthy.upper).await, Ok(Some(live)));
    assert_eq!(source.count(driver.stream(), Timestamp::UNIX_EPOCH).await, Ok(Some(0)));
    assert!(source.tombstone_horizon() > Duration::from_secs(86_400), "at least a day, or increments are useless");
}
