//! A connector's state as its lease holder reads it, and the checks before a commit. Pure; the fence itself is SQL.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Applied, Error, Findings, Losses, RunEnd, RunOutcome, RunSummary, SyncState, findings, incoming::StagedRow,
    record_ids::RecordId,
};
use crate::{
    contract::{
        activities::{Effort, StagedRef},
        workflows::SyncStats,
    },
    model::{
        config::ConnectorConfig,
        cursor::{Cursor, Load},
        entity::Entity,
    },
};

/// What is stored under the caller's epoch.
#[derive(Debug)]
pub(super) struct Held {
    /// The vendor account of the lease.
    pub(super) account_id: String,
    /// The run's workflow id.
    pub(super) workflow_id: String,
    /// Position of the next commit.
    pub(super) next_seq: i64,
    /// Position of the run's first commit.
    pub(super) first_seq: i64,
    /// The load in progress.
    pub(super) load: Option<Load>,
    /// Watermarks of finished loads.
    pub(super) cursor: Cursor,
    /// Number of the last full load.
    pub(super) generation: i64,
    /// Dead letters of the account now.
    pub(super) dead_letters: i64,
    /// Counts and sweeps so far.
    pub(super) findings: Findings,
    /// The connector is the one that was leased, Running, not removed, nor is its tenant (R30).
    pub(super) running: bool,
    /// Source, streams and limits.
    pub(super) config: ConnectorConfig,
    /// The run's counts so far.
    pub(super) stats: SyncStats,
    /// Workers lost at the position.
    pub(super) losses: Losses,
}

impl Held {
    /// Refuses early what the fence would refuse at the end.
    pub(super) fn check(&self, attempted: &'static str, batches: &[StagedRef]) -> Result<(), Error> {
        if !self.running {
            return Err(Error::Stopped);
        }
        let expected = (self.next_seq..).zip(batches);
        if expected.into_iter().all(|(seq, batch)| seq == batch.seq) {
            Ok(())
        } else {
            Err(Error::StaleRun { attempted })
        }
    }

    /// Of a commit's ids those that are kept for the load's sweep (R6): of what it reads, not of what it reads back, and
    /// only of streams that it will sweep. The load is the one from before the commit; `Staged::barrier` keeps a commit
    /// from holding both.
    pub(super) fn seen<'i>(&self, entity: Entity, ids: &'i [RecordId<'_>]) -> Vec<&'i str> {
        let Some(load) = self.load.as_ref().filter(|load| !load.sweeping) else { return Vec::new() };
        let swept = load.swept_streams().filter(|stream| stream.entity == entity);
        let prefixes: Vec<_> = swept.map(|stream| stream.id_prefix.as_str()).collect();
        let ids = ids.iter().map(|id| &*id.source_id);
        ids.filter(|id| prefixes.iter().any(|prefix| id.starts_with(prefix))).collect()
    }

    /// Whether the share of rejected records says something of the source: not where dead letters were read back, nor where
    /// records are left out because they killed workers (R44).
    pub(super) fn judges_rejections(&self, staged: &[StagedRow]) -> bool {
        let before = self.load.as_ref().map(|load| load.replayed_to);
        staged.last().map(|row| row.next.replayed_to) == before && self.losses.left_out.is_empty()
    }

    /// The batches' indexes in the run.
    pub(super) fn indexes<'a>(&'a self, staged: &'a [StagedRow]) -> impl Iterator<Item = u64> + 'a {
        staged.iter().map(|row| u64::try_from(row.seq - self.first_seq).unwrap_or(0))
    }

    /// What `Store::sync_state` answers.
    pub(super) fn state(self) -> Result<SyncState, Error> {
        let load = self.load.ok_or(Error::Unreadable { what: "load" })?;
        Ok(SyncState { next_seq: self.next_seq, load, cursor: self.cursor })
    }

    /// The load that this end completes.
    pub(super) fn completes(&self, end: &RunEnd) -> Option<&Load> {
        self.load.as_ref().filter(|_| *end == RunEnd::Complete)
    }

    /// What the end of the run makes of the state; `counted` is what is here of the streams of `findings::counted`.
    pub(super) fn end(
        self,
        end: &RunEnd,
        effort: Effort,
        counted: &BTreeMap<String, findings::Held>,
        now: Timestamp,
    ) -> Result<Ended, Error> {
        let load = self.load.ok_or(Error::Unreadable { what: "load" })?;
        let failed_streams = load.failed_streams();
        let (outcome, error) = match end {
            RunEnd::Complete => (RunOutcome::Complete, left_out(&load)),
            RunEnd::More => (RunOutcome::More, None),
            RunEnd::Failed(error) => (RunOutcome::Failed, Some(error.clone())),
        };
        let stats = SyncStats { activity_attempts: effort.attempts, activity_retries: effort.retries, ..self.stats };
        let summary = RunSummary { next_seq: self.next_seq, stats, failed_streams };
        let workflow_id = self.workflow_id;
        if outcome != RunOutcome::Complete {
            let (cursor, generation, findings) = (self.cursor, self.generation, self.findings);
            return Ok(Ended { summary, outcome, error, workflow_id, load: Some(load), cursor, generation, findings });
        }
        if load.task().is_some() {
            return Err(Error::Refused { attempted: "complete a run", code: "LoadUnfinished".to_owned() });
        }
        let (cursor, generation) = (load.finish(self.cursor), load.generation);
        let findings = self.findings.after(&load, counted, now);
        Ok(Ended { summary, outcome, error, workflow_id, load: None, cursor, generation, findings })
    }
}

/// Which streams a complete load left out, and why; none when it read them all.
fn left_out(load: &Load) -> Option<String> {
    let failed = load.streams.iter().filter_map(|stream| Some(format!("{}: {}", stream.name, stream.failed.as_ref()?)));
    let failed: Vec<_> = failed.collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// A run's end, to be stored.
#[derive(Debug)]
pub(super) struct Ended {
    /// What the caller gets.
    pub(super) summary: RunSummary,
    /// How it ended.
    pub(super) outcome: RunOutcome,
    /// Class and names, when it failed.
    pub(super) error: Option<String>,
    /// The run's workflow id.
    pub(super) workflow_id: String,
    /// The load that stays.
    pub(super) load: Option<Load>,
    /// The cursor from now on.
    pub(super) cursor: Cursor,
    /// Number of the last full load from now on.
    pub(super) generation: i64,
    /// Counts and sweeps from now on.
    pub(super) findings: Findings,
}

/// Splits a call into the batches still to apply and the recorded results of the others, in the call's order.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Not yet applied.
    pub(super) open: Vec<StagedRef>,
    /// Results of those that are.
    pub(super) results: Vec<Applied>,
}

impl Recorded {
    /// Sorts one batch of the call.
    pub(super) fn sort(&mut self, batch: &StagedRef, result: Option<Applied>) {
        match result {
            Some(result) => self.results.push(result),
            None => self.open.push(batch.clone()),
        }
    }

    /// The recorded answer, when nothing is left to apply.
    pub(super) fn answer(&self) -> Option<Applied> {
        let last = self.results.last().filter(|_| self.open.is_empty())?;
        Some(Applied { failed: self.failed(), ..last.clone() })
    }

    /// Adds the recorded entries before those of a commit.
    pub(super) fn before(self, applied: Applied) -> Applied {
        let mut failed = self.failed();
        failed.extend(applied.failed);
        Applied { failed, ..applied }
    }

    fn failed(&self) -> Vec<crate::contract::workflows::FailedRecord> {
        self.results.iter().flat_map(|result| result.failed.iter().cloned()).collect()
    }
}
