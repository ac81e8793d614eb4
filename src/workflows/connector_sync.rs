//! `connectorSyncWorkflow`: syncs one connector. Sessions of authenticate → rounds of (fetch ahead ∥ write) → finalize;
//! whatever interrupts a session (quota, outage) parks the run on a durable timer, and a new session goes on from the
//! store: the only place that knows where the connector stands.

use std::collections::VecDeque;

use jiff::Timestamp;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, WorkflowContext, WorkflowContextView, WorkflowResult, workflows::join,
};

use super::{
    batches::{fetch_ahead, reference, write},
    calls::{self, Patience, parse_input},
    fault::Fault,
    pool::Pool,
};
use crate::contract::{
    CONNECTOR_SYNC_WORKFLOW, GET_SYNC_PROGRESS,
    activities::{
        Authenticate, AuthenticateInput, AuthenticateResult, Effort, Lease, Parked, Staged, StagedRef, StateUpdate,
        SyncBatchResult, UpdateSyncState, UpdateSyncStateInput, UpdateSyncStateResult, WriteRecordsResult,
    },
    workflows::{
        ConnectorSyncInput, ConnectorSyncResult, ContinuedSyncInput, Phase, RUN_BUDGET, SyncOutcome, SyncProgress,
        SyncStats,
    },
};

/// Batches fetched ahead of the write (R39).
const FETCH_AHEAD: usize = 4;
/// Most rows of one commit (R49).
const MAX_COMMIT_RECORDS: u64 = 50_000;
/// Most staged bytes of one commit (R49).
const MAX_COMMIT_BYTES: u64 = 32 << 20;
/// Events after which the run goes on as a new execution (docs/facts.md, Temporal).
const MAX_HISTORY_EVENTS: u32 = 1_500;

/// The sync of one connector.
#[workflow]
#[derive(Debug, Default)]
pub struct ConnectorSync {
    progress: SyncProgress,
}

#[workflow_methods]
impl ConnectorSync {
    /// Runs sessions until one ends the run.
    #[run(name = CONNECTOR_SYNC_WORKFLOW)]
    pub async fn run(ctx: &mut WorkflowContext<Self>, input: RawValue) -> WorkflowResult<ConnectorSyncResult> {
        let ContinuedSyncInput { input: parsed, started_at, effort } = parse_input(&input)?;
        let started_at = started_at.unwrap_or_else(|| calls::now(ctx));
        let (mut patience, mut past) = (Patience::default(), Past { effort, ..Past::default() });
        loop {
            let mut session = Session::new(ctx.clone(), parsed.clone(), started_at, past);
            let pause = match session.run().await {
                Ok(End::Result(result)) => return Ok(*result),
                Ok(End::Parked(parked)) => session.park(parked).await,
                Ok(End::HistoryFull) => Ok(()),
                Err(fault) => session.fail(fault, &mut patience).await,
            };
            if session.progressed {
                patience.reset();
            }
            past = session.past;
            pause.map_err(|fault| {
                ctx.state_mut(|workflow| workflow.progress.phase = Phase::Failed);
                fault.termination()
            })?;
            if ctx.continue_as_new_suggested() || ctx.history_length() > MAX_HISTORY_EVENTS {
                let (started_at, effort) = (Some(started_at), past.effort);
                let next = ContinuedSyncInput { input: parsed.clone(), started_at, effort };
                ctx.continue_as_new(calls::with_json(input.clone(), &next), ContinueAsNewOptions::default())?;
            }
        }
    }

    /// Real-time progress (seed).
    #[query(name = GET_SYNC_PROGRESS)]
    pub fn get_sync_progress(&self, _ctx: &WorkflowContextView) -> SyncProgress {
        self.progress.clone()
    }
}

/// How a session ended without a fault.
enum End {
    /// The run is over.
    Result(Box<ConnectorSyncResult>),
    /// Wait, then authenticate again.
    Parked(Parked),
    /// Everything staged is applied; go on as a new execution.
    HistoryFull,
}

/// What a session takes over from the one before it.
#[derive(Default)]
struct Past {
    /// The lease, which a parked run keeps (R46); for words about the run only: whoever works takes it anew.
    lease: Option<Lease>,
    /// The source had asked to wait.
    parked: bool,
    /// What the run's activities took so far.
    effort: Effort,
}

/// What one session knows: its lease and the batches between fetch and write. No batch of it outlives the lease (R46).
struct Session {
    ctx: WorkflowContext<ConnectorSync>,
    input: ConnectorSyncInput,
    pool: Pool<ConnectorSync>,
    /// When the run's budget is used up.
    ends_at: Timestamp,
    past: Past,
    /// Staged, not yet applied.
    staged: VecDeque<Staged>,
    /// Position of the next batch to fetch.
    next_seq: i64,
    /// The batch before it, while it may still be only staged.
    after: Option<String>,
    /// Set by the load's last batch.
    fetched_all: bool,
    /// The source asked to wait.
    parked: Option<Parked>,
    /// The next batch looks at what was applied: everything staged goes first.
    barrier: bool,
    stats: SyncStats,
    /// Something was committed in this session.
    progressed: bool,
}

impl Session {
    fn new(ctx: WorkflowContext<ConnectorSync>, input: ConnectorSyncInput, started_at: Timestamp, past: Past) -> Self {
        Self {
            pool: Pool::shared(ctx.clone(), input.tenant_id.clone()),
            ctx,
            input,
            ends_at: started_at.checked_add(RUN_BUDGET).unwrap_or(Timestamp::MAX),
            past,
            staged: VecDeque::new(),
            next_seq: 0,
            after: None,
            fetched_all: false,
            parked: None,
            barrier: false,
            stats: SyncStats::default(),
            progressed: false,
        }
    }

    async fn run(&mut self) -> Result<End, Fault> {
        self.show(Phase::Authenticating);
        if std::mem::take(&mut self.past.parked)
            && self.is_over()
            && let Some(lease) = self.past.lease.clone()
        {
            return self.finish(&lease, true).await;
        }
        self.pool.resolve(&self.input.connector_id).await?;
        let lease = match self.authenticate().await? {
            Ok(lease) => lease,
            Err(end) => return Ok(end),
        };
        self.past.lease = Some(lease.clone());
        loop {
            self.round(&lease).await?;
            let drained = self.staged.is_empty() || self.only_position_left();
            if self.fetched_all && drained {
                return self.finish(&lease, false).await;
            }
            // At least one round a session: each run brings the load forward.
            if drained && self.is_over() {
                return self.finish(&lease, true).await;
            }
            if let Some(parked) = self.parked.take_if(|_| drained) {
                return Ok(End::Parked(parked));
            }
            if drained && self.history_is_full() {
                return Ok(End::HistoryFull);
            }
            self.barrier &= !drained;
        }
    }

    async fn authenticate(&mut self) -> Result<Result<Lease, End>, Fault> {
        let input = AuthenticateInput {
            tenant_id: self.input.tenant_id.clone(),
            connector_id: self.input.connector_id.clone(),
            full_sync: Some(self.input.full_sync),
        };
        let authenticated = self.pool.call(Authenticate, input).await;
        if let Err(fault) = &authenticated {
            self.past.effort.add(fault.attempts());
            // An attempt whose answer was lost may have taken the lease anew.
            self.past.lease.take_if(|_| matches!(fault, Fault::Outage(_)));
        }
        match authenticated? {
            AuthenticateResult::Ready { lease, next_seq, stats, attempt } => {
                self.past.effort.add(attempt);
                self.next_seq = next_seq;
                self.count(stats);
                Ok(Ok(lease))
            }
            AuthenticateResult::Skipped { holder } => {
                let result = self.result(SyncOutcome::Skipped, UpdateSyncStateResult::default());
                self.show(Phase::Complete);
                Ok(Err(End::Result(Box::new(ConnectorSyncResult { skipped_for: Some(holder), ..result }))))
            }
            AuthenticateResult::Parked(parked) => Ok(Err(End::Parked(parked))),
            AuthenticateResult::Checked { .. } => Err(Fault::Outage("authenticate took no lease".to_owned())),
        }
    }

    /// One round: fetch the next batches while those of the round before are written as one commit (R39).
    async fn round(&mut self, lease: &Lease) -> Result<(), Fault> {
        let commit = self.next_commit();
        let full = self.history_is_full() || (self.is_over() && !commit.is_empty());
        let stop_fetching = self.fetched_all || self.barrier || self.parked.is_some() || full;
        let ahead = match (stop_fetching, commit.is_empty()) {
            (true, _) => 0,
            (false, true) => 1,
            // Workers were lost here: who reads ahead meanwhile would take the blame, or leave it to the write (R44).
            (false, false) if lease.careful => 0,
            (false, false) => FETCH_AHEAD,
        };
        self.show(if commit.is_empty() { Phase::Syncing } else { Phase::Writing });
        let fetch = fetch_ahead(&self.pool, lease, self.next_seq, self.after.clone(), ahead);
        let write = write(&self.pool, lease, &commit);
        let ((fetched, fetch_fault), written) = join!(fetch, write);
        self.take_fetched(fetched);
        let faults = fetch_fault.iter().chain(written.as_ref().err());
        faults.for_each(|fault| self.past.effort.add(fault.attempts()));
        self.take_written(lease, commit, written).await?;
        match fetch_fault {
            // What was staged before the fault is applied first; the fault comes again if it lasts.
            Some(fault) if self.staged.is_empty() => Err(fault),
            _ => Ok(()),
        }
    }

    fn take_fetched(&mut self, fetched: Vec<SyncBatchResult>) {
        for result in fetched {
            match result {
                SyncBatchResult::Staged(staged) => {
                    self.past.effort.add(staged.attempt);
                    self.next_seq = staged.seq + 1;
                    self.after = Some(staged.staged_id.clone());
                    self.fetched_all = staged.last;
                    self.barrier = staged.barrier;
                    self.parked.clone_from(&staged.parked);
                    let entity_type = staged.entity_type.clone();
                    self.ctx.state_mut(|workflow| workflow.progress.entity_type = entity_type);
                    self.staged.push_back(staged);
                }
                SyncBatchResult::Parked(parked) => {
                    self.past.effort.add(1);
                    self.parked = Some(parked);
                }
            }
        }
    }

    async fn take_written(
        &mut self,
        lease: &Lease,
        commit: Vec<StagedRef>,
        written: Result<Option<WriteRecordsResult>, Fault>,
    ) -> Result<(), Fault> {
        match written {
            Ok(Some(written)) => {
                self.past.effort.add(written.attempt);
                self.count(written.stats);
                self.staged.drain(..commit.len());
            }
            Ok(None) => return Ok(()),
            Err(Fault::Rejected(rejected)) => {
                let update = StateUpdate::DeadLetter { batch: rejected.batch.clone(), error: rejected.error.clone() };
                let after = self.update(lease, update).await?;
                self.count(after.stats);
                self.staged.retain(|staged| staged.seq > rejected.batch.seq);
            }
            Err(fault) => return Err(fault),
        }
        self.progressed = true;
        Ok(())
    }

    /// What the next commit takes: all that is staged, within R49's bounds; not a last batch without records.
    fn next_commit(&self) -> Vec<StagedRef> {
        let (mut records, mut bytes) = (0, 0);
        let takes = |staged: &&Staged| {
            records += staged.records;
            bytes += staged.bytes;
            let first = records == staged.records;
            !(staged.last && staged.records == 0)
                && (first || (records <= MAX_COMMIT_RECORDS && bytes <= MAX_COMMIT_BYTES))
        };
        self.staged.iter().take_while(takes).map(reference).collect()
    }

    /// Only the load's last batch is left, and it holds no records: `updateSyncState` steps over it (R39).
    fn only_position_left(&self) -> bool {
        self.staged.len() == 1 && self.staged.front().is_some_and(|staged| staged.last && staged.records == 0)
    }

    fn history_is_full(&self) -> bool {
        self.ctx.history_length() > MAX_HISTORY_EVENTS
    }

    /// Ends the run: all is read, or there is `more` to do than its budget allows.
    async fn finish(&mut self, lease: &Lease, more: bool) -> Result<End, Fault> {
        self.show(Phase::Finalizing);
        let last = self.staged.pop_front().as_ref().map(reference);
        let effort = self.past.effort;
        let (update, outcome) = if more {
            (StateUpdate::More { effort }, SyncOutcome::More)
        } else {
            (StateUpdate::Finish { last, effort }, SyncOutcome::Complete)
        };
        let done = self.update(lease, update).await?;
        self.count(done.stats);
        self.ctx.state_mut(|workflow| workflow.progress.entity_type.clear());
        self.show(Phase::Complete);
        Ok(End::Result(Box::new(self.result(outcome, done))))
    }

    /// Whether the run's budget is used up.
    fn is_over(&self) -> bool {
        calls::now(&self.ctx) >= self.ends_at
    }

    fn result(&self, outcome: SyncOutcome, done: UpdateSyncStateResult) -> ConnectorSyncResult {
        ConnectorSyncResult {
            tenant_id: self.input.tenant_id.clone(),
            connector_id: self.input.connector_id.clone(),
            outcome,
            skipped_for: None,
            failed_streams: done.failed_streams,
            stats: done.stats,
            failed_records: done.failed,
        }
    }

    /// Waits as the source asks; a run that has something to hand over not beyond its budget (R21).
    async fn park(&mut self, parked: Parked) -> Result<(), Fault> {
        self.past.parked = true;
        let until = if self.past.lease.is_some() { parked.until.min(self.ends_at) } else { parked.until };
        self.wait(parked, until).await
    }

    /// Says in the run row why the run waits, and waits.
    async fn wait(&mut self, parked: Parked, until: Timestamp) -> Result<(), Fault> {
        if let Some(lease) = &self.past.lease {
            // Best effort: status, and the tenant's share (R46). While the store is away it cannot be said there.
            if let Err(Fault::Cancelled) = self.update(lease, StateUpdate::Park(parked)).await {
                return Err(Fault::Cancelled);
            }
        }
        calls::wait_until(&self.ctx, until).await
    }

    /// An outage parks the run until its budget ends (R2); anything else ends it, with its run row closed if that can be done.
    async fn fail(&mut self, fault: Fault, patience: &mut Patience) -> Result<(), Fault> {
        if self.progressed {
            patience.reset();
        }
        if let Fault::Outage(reason) = &fault
            && !self.is_over()
            && let Some(pause) = patience.next()
        {
            let until = calls::now(&self.ctx) + pause;
            return self.wait(Parked { until, reason: reason.clone() }, until).await;
        }
        self.show(Phase::Failed);
        if let Some(lease) = self.past.lease.take() {
            let update = StateUpdate::Fail { error: fault.text(), effort: self.past.effort };
            self.pool.call_detached(UpdateSyncState, UpdateSyncStateInput { lease, update }).await;
        }
        Err(fault)
    }

    async fn update(&self, lease: &Lease, update: StateUpdate) -> Result<UpdateSyncStateResult, Fault> {
        self.pool.call(UpdateSyncState, UpdateSyncStateInput { lease: lease.clone(), update }).await
    }

    fn count(&mut self, stats: SyncStats) {
        self.stats = stats;
        self.ctx.state_mut(|workflow| {
            workflow.progress.records_processed = stats.records_processed;
            workflow.progress.errors_count = stats.errors_count;
        });
    }

    fn show(&self, phase: Phase) {
        self.ctx.state_mut(|workflow| workflow.progress.phase = phase);
    }
}
