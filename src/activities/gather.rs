//! Gathers one batch: whatever the load does next, until the batch is large enough. Dead letters that somebody wants
//! replayed are read back first; then pages are fetched, across streams while they are small (R39); then what was not seen of
//! a stream that was read whole is read back (R6), and where the load counts, the source is asked for its numbers.

use std::time::Duration;

use super::{Activities, attempt::Attempt, dispatcher::Opened};
use crate::{
    clock,
    connectors::{self, Fetch},
    contract::activities::{Lease, Parked},
    error_class::Class,
    model::{
        batch::BatchWriter,
        cursor::{Count, Load, RefusedSweep, StreamLoad, Task},
    },
    store::{self, SweepScope},
};

/// A batch is closed at this size before compression: with four fetched ahead about 32 MiB wait for a commit (R49).
const MAX_BATCH_BYTES: usize = 8 << 20;
/// A batch is closed after this long, so that a slow source still shows progress and an attempt stays far below its 5 min.
const MAX_BATCH_TIME: Duration = Duration::from_secs(60);
/// Records read back by id at once; the vendors take 100 ids a request (docs/facts.md, Sources).
const READ_BACK: usize = 500;
/// A sweep of so few rows is never suspicious, whatever their share: each was read back by its id.
const NEVER_SUSPICIOUS: u64 = 10;

/// Why a batch was closed.
pub(super) enum Closed {
    /// It is large enough, old enough, or the worker drains.
    Full,
    /// The load is complete.
    LoadComplete,
    /// Every stream is read; what comes next looks at what was applied.
    Barrier,
    /// The source asked to wait.
    Parked(Parked),
    /// The source failed after some pages: they are kept, the next batch meets the failure again.
    Interrupted,
}

/// Why nothing could be gathered.
pub(super) enum Stop {
    /// The source failed.
    Source(connectors::Error),
    /// The store failed.
    Store(store::Error),
}

impl From<connectors::Error> for Stop {
    fn from(error: connectors::Error) -> Self {
        Self::Source(error)
    }
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// A batch in the making.
pub(super) struct Gathering<'a> {
    activities: &'a Activities,
    attempt: Attempt,
    lease: &'a Lease,
    opened: &'a Opened,
    load: Load,
    batch: BatchWriter,
    /// The load stands further than at the batch's first position.
    moved: bool,
}

impl<'a> Gathering<'a> {
    /// An empty batch at the position of `load`.
    pub(super) fn new(
        activities: &'a Activities,
        attempt: Attempt,
        lease: &'a Lease,
        opened: &'a Opened,
        load: Load,
    ) -> Self {
        Self { activities, attempt, lease, opened, load, batch: BatchWriter::default(), moved: false }
    }

    /// Where the load stands now, and what was gathered.
    pub(super) fn into_parts(self) -> (Load, BatchWriter) {
        (self.load, self.batch)
    }

    /// Gathers until the batch is closed; with `give_up`, leaves first what stands at its position (R44).
    pub(super) async fn gather(&mut self, give_up: bool) -> Result<Closed, Stop> {
        let swept_before = self.load.sweeping;
        if give_up {
            self.give_up().await?;
            // What comes next may kill as well, and is a position of its own.
            if self.load.task().is_some() && self.load.sweeping == swept_before {
                return Ok(Closed::Full);
            }
        }
        loop {
            match self.replay().await {
                Ok(true) if self.is_full() => return Ok(Closed::Full),
                Ok(true) => {}
                Ok(false) => break,
                Err(stop) => match self.closed_by(stop)? {
                    Some(closed) => return Ok(closed),
                    None => break,
                },
            }
        }
        while self.load.task().is_some() {
            if self.load.sweeping != swept_before {
                return Ok(Closed::Barrier);
            }
            if self.is_full() {
                return Ok(Closed::Full);
            }
            match self.step().await {
                Ok(()) => self.moved = true,
                Err(stop) => {
                    if let Some(closed) = self.closed_by(stop)? {
                        return Ok(closed);
                    }
                }
            }
        }
        Ok(Closed::LoadComplete)
    }

    fn is_full(&self) -> bool {
        let batch_size = self.opened.record.config.batch_size;
        let late = self.attempt.elapsed() >= MAX_BATCH_TIME || *self.activities.draining.borrow();
        let full = self.batch.record_count() >= batch_size || self.batch.byte_count() >= MAX_BATCH_BYTES;
        full || self.moved && (late || self.lease.careful)
    }

    /// Steps over what workers were lost with: the letters to be read back, else the stream or count at work (R44).
    async fn give_up(&mut self) -> Result<(), Stop> {
        const REASON: &str = "WorkerLost: each worker that read on here was lost";
        let (store, lease, after) = (&self.activities.store, self.lease, self.load.replayed_to);
        let replays = self.attempt.patiently(|| store.replays(lease, after, READ_BACK)).await?;
        if let Some(last) = replays.last() {
            self.load.replayed_to = last.observed_seq;
        } else {
            match self.load.task() {
                Some(Task::Read(_) | Task::Sweep(_)) => self.load.fail_stream(REASON),
                Some(Task::Count(index, _)) => self.load.streams[index].counted = Some(Count::Unknown),
                None => {}
            }
        }
        tracing::warn!(tenant = %lease.tenant_id, connector = %lease.connector_id, "{REASON}: stepped over");
        self.moved = true;
        Ok(())
    }

    /// What a failure means for the batch; `None` = the stream at work is left, the load goes on (R24).
    fn closed_by(&mut self, stop: Stop) -> Result<Option<Closed>, Stop> {
        let error = match stop {
            Stop::Source(error) => error,
            Stop::Store(_) => return Err(stop),
        };
        match error.class() {
            Class::Invalid => {
                let stream = self.load.stream().map(|stream| stream.name.as_str());
                tracing::warn!(stream, %error, "stream cannot be read, later streams go on");
                self.load.fail_stream(&error.to_string());
                self.moved = true;
                Ok(None)
            }
            Class::RateLimited(after) => {
                Ok(Some(Closed::Parked(Parked { until: clock::now() + after, reason: error.to_string() })))
            }
            _ if self.moved => Ok(Some(Closed::Interrupted)),
            _ => Err(Stop::Source(error)),
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        match self.load.task() {
            None => Ok(()),
            Some(Task::Read(stream)) => {
                let stream = stream.clone();
                self.fetch(&stream).await
            }
            Some(Task::Sweep(stream)) => {
                let stream = stream.clone();
                self.sweep(&stream).await
            }
            Some(Task::Count(index, stream)) => {
                let name = stream.name.clone();
                self.count(index, &name).await
            }
        }
    }

    async fn fetch(&mut self, stream: &StreamLoad) -> Result<(), Stop> {
        let (upper, after) = (self.load.upper, self.load.token.as_ref());
        let request = Fetch { stream: &stream.name, lower: stream.lower, upper, after };
        let page = self.opened.source.fetch(request, &mut self.batch).await?;
        match page.next {
            Some(next) => self.load.token = Some(next),
            None => self.load.finish_stream(),
        }
        Ok(())
    }

    /// Reads some dead letters back that somebody wants replayed: the source's present answer lands, or is rejected anew.
    /// Answers whether there were any.
    async fn replay(&mut self) -> Result<bool, Stop> {
        let (store, lease, after) = (&self.activities.store, self.lease, self.load.replayed_to);
        let wanted = self.attempt.patiently(|| store.replays(lease, after, READ_BACK)).await?;
        let Some(last) = wanted.last() else { return Ok(false) };
        let replayed_to = last.observed_seq;
        for stream in self.opened.source.streams() {
            let own = wanted.iter().filter(|letter| stream.owns(letter.entity, &letter.source_id));
            let ids: Vec<String> = own.map(|letter| letter.source_id.clone()).collect();
            if ids.is_empty() {
                continue;
            }
            match self.opened.source.read(stream.name, &ids, &mut self.batch).await {
                Err(error) if error.class() == Class::Invalid => {
                    tracing::warn!(stream = stream.name, %error, "dead letters cannot be read back now, their wish stays");
                }
                read => read?,
            }
        }
        self.load.replayed_to = replayed_to;
        self.moved = true;
        Ok(true)
    }

    /// Reads back rows that the load did not see: what the source still has lands, the rest becomes tombstones.
    async fn sweep(&mut self, stream: &StreamLoad) -> Result<(), Stop> {
        let (store, lease, prefix) = (&self.activities.store, self.lease, stream.id_prefix.as_str());
        let after = self.load.token.as_ref().and_then(|token| token.as_str().map(str::to_owned));
        if after.is_none() {
            let scope = self.attempt.patiently(|| store.begin_sweep(lease, stream.entity, prefix)).await?;
            if let Some(refused) = self.suspicious(stream, scope) {
                tracing::warn!(stream = stream.name, unseen = refused.unseen, live = refused.live, "sweep refused");
                self.load.refuse_sweep(refused);
                return Ok(());
            }
        }
        let unseen = || store.unseen(lease, stream.entity, prefix, after.as_deref(), READ_BACK);
        let ids = self.attempt.patiently(unseen).await?;
        if !ids.is_empty() {
            self.opened.source.read(&stream.name, &ids, &mut self.batch).await?;
        }
        match ids.last() {
            Some(last) if ids.len() == READ_BACK => self.load.token = Some(last.as_str().into()),
            _ => self.load.finish_stream(),
        }
        Ok(())
    }

    /// More rows than are believed to be deleted without a confirmation (R6). The record is read anew for each batch, so
    /// a confirmation that comes while the load is at work counts.
    fn suspicious(&self, stream: &StreamLoad, scope: SweepScope) -> Option<RefusedSweep> {
        let record = &self.opened.record;
        let confirmed = record.findings.confirmed_sweeps.get(&stream.name).copied().unwrap_or(0);
        is_suspicious(scope, record.config.max_swept_percent, confirmed)
            .then_some(RefusedSweep { unseen: scope.unseen, live: scope.live })
    }

    async fn count(&mut self, index: usize, stream: &str) -> Result<(), Stop> {
        let counted = match self.opened.source.count(stream, self.load.upper).await {
            Err(error) if error.class() == Class::Invalid => None,
            counted => counted?,
        };
        self.load.streams[index].counted = Some(counted.map_or(Count::Unknown, Count::Records));
        Ok(())
    }
}

/// Above the share that is believed, and above what a person has confirmed.
fn is_suspicious(scope: SweepScope, max_percent: u8, confirmed: u64) -> bool {
    let SweepScope { live, unseen } = scope;
    unseen * 100 > live * u64::from(max_percent) && unseen > NEVER_SUSPICIOUS.max(confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_share_is_suspicious_unless_so_many_were_confirmed() {
        let suspicious = |unseen, live, confirmed| is_suspicious(SweepScope { live, unseen }, 10, confirmed);
        assert!(!suspicious(100, 1_000, 0), "at the share");
        assert!(suspicious(101, 1_000, 0));
        assert!(!suspicious(10, 10, 0), "few rows are read back one by one, whatever their share");
        assert!(suspicious(11, 11, 0));
        assert!(!suspicious(1_320, 2_000, 1_320));
        assert!(suspicious(1_321, 2_000, 1_320), "a confirmation is of what was seen, and no more");
    }
}
