//! `connectorSyncWorkflow`: syncs one connector. Sessions of authenticate → rounds of (fetch ahead ∥ write) → finalize;
//! whatever interrupts a session (quota, outage) parks the run on a durable timer, and a new session goes on from the
//! store: the only place that knows where the connector stands.

use std::{collections::VecDeque, time::Duration};

use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, WorkflowContext, WorkflowContextView, WorkflowResult, workflows::join,
};

use super::{
    calls::{self, Patience, parse_input},
    fault::Fault,
    pool::Pool,
};
use crate::contract::{
    CONNECTOR_SYNC_WORKFLOW, GET_SYNC_PROGRESS,
    activities::{
        Authenticate, AuthenticateInput, AuthenticateResult, Lease, Parked, Staged, StagedRef, StateUpdate, SyncBatch,
        SyncBatchInput, SyncBatchResult, UpdateSyncState, UpdateSyncStateInput, UpdateSyncStateResult, WriteRecords,
        WriteRecordsInput,
    },
    workflows::{
        ConnectorSyncInput, ConnectorSyncResult, ContinuedSyncInput, Phase, SyncOutcome, SyncProgress, SyncStats,
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
        let ContinuedSyncInput { input: parsed, waited_seconds } = parse_input(&input)?;
        let mut patience = Patience::after(Duration::from_secs(waited_seconds));
        loop {
            let mut session = Session::new(ctx.clone(), parsed.clone());
            let pause = match session.run().await {
                Ok(End::Result(result)) => return Ok(*result),
                Ok(End::Parked(parked)) => session.park(parked).await,
                Ok(End::HistoryFull) => Ok(()),
                Err(fault) => session.fail(fault, &mut patience).await,
            };
            if session.progressed {
                patience.reset();
            }
            pause.map_err(|fault| {
                ctx.state_mut(|workflow| workflow.progress.phase = Phase::Failed);
                fault.termination()
            })?;
            if ctx.continue_as_new_suggested() || ctx.history_length() > MAX_HISTORY_EVENTS {
                let next = ContinuedSyncInput { input: parsed.clone(), waited_seconds: patience.waited().as_secs() };
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

/// What one session knows: its lease and the batches between fetch and write. Nothing of it outlives the lease (R46).
struct Session {
    ctx: WorkflowContext<ConnectorSync>,
    input: ConnectorSyncInput,
    pool: Pool<ConnectorSync>,
    lease: Option<Lease>,
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
    fn new(ctx: WorkflowContext<ConnectorSync>, input: ConnectorSyncInput) -> Self {
        Self {
            pool: Pool::shared(ctx.clone()),
            ctx,
            input,
            lease: None,
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
        self.pool.resolve(&self.input.tenant_id, &self.input.connector_id).await?;
        let lease = match self.authenticate().await? {
            Ok(lease) => lease,
            Err(end) => return Ok(end),
        };
        self.lease = Some(lease.clone());
        loop {
            self.round(&lease).await?;
            let drained = self.staged.is_empty() || self.only_position_left();
            if self.fetched_all && drained {
                return self.finish(&lease).await;
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
        match self.pool.call(Authenticate, input).await? {
            AuthenticateResult::Ready { lease, next_seq, stats } => {
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
        let stop_fetching = self.fetched_all || self.barrier || self.parked.is_some() || self.history_is_full();
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
                    self.next_seq = staged.seq + 1;
                    self.after = Some(staged.staged_id.clone());
                    self.fetched_all = staged.last;
                    self.barrier = staged.barrier;
                    self.parked.clone_from(&staged.parked);
                    let entity_type = staged.entity_type.clone();
                    self.ctx.state_mut(|workflow| workflow.progress.entity_type = entity_type);
                    self.staged.push_back(staged);
                }
                SyncBatchResult::Parked(parked) => self.parked = Some(parked),
            }
        }
    }

    async fn take_written(
        &mut self,
        lease: &Lease,
        commit: Vec<StagedRef>,
        written: Result<Option<SyncStats>, Fault>,
    ) -> Result<(), Fault> {
        match written {
            Ok(Some(stats)) => {
                self.count(stats);
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

    async fn finish(&mut self, lease: &Lease) -> Result<End, Fault> {
        self.show(Phase::Finalizing);
        let last = self.staged.pop_front().as_ref().map(reference);
        let done = self.update(lease, StateUpdate::Finish { last }).await?;
        self.count(done.stats);
        self.ctx.state_mut(|workflow| workflow.progress.entity_type.clear());
        self.show(Phase::Complete);
        Ok(End::Result(Box::new(self.result(SyncOutcome::Complete, done))))
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

    /// Says in the run row why the run waits, and waits.
    async fn park(&mut self, parked: Parked) -> Result<(), Fault> {
        if let Some(lease) = self.lease.take() {
            // Best effort: status only. While the store is away it cannot be said there.
            if let Err(Fault::Cancelled) = self.update(&lease, StateUpdate::Park(parked.clone())).await {
                return Err(Fault::Cancelled);
            }
        }
        calls::wait_until(&self.ctx, parked.until).await
    }

    /// An outage parks the run while patience lasts; anything else ends it, with its run row closed if that can be done.
    async fn fail(&mut self, fault: Fault, patience: &mut Patience) -> Result<(), Fault> {
        if self.progressed {
            patience.reset();
        }
        if let Fault::Outage(reason) = &fault
            && let Some(pause) = patience.next()
        {
            let until = calls::now(&self.ctx) + pause;
            return self.park(Parked { until, reason: reason.clone() }).await;
        }
        self.show(Phase::Failed);
        if let Some(lease) = self.lease.take() {
            let input = UpdateSyncStateInput { lease, update: StateUpdate::Fail { error: fault.text() } };
            self.pool.call_detached(UpdateSyncState, input).await;
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

fn reference(staged: &Staged) -> StagedRef {
    StagedRef { staged_id: staged.staged_id.clone(), seq: staged.seq }
}

/// Fetches up to `count` batches one after the other, each starting where the one before ends.
async fn fetch_ahead(
    pool: &Pool<ConnectorSync>,
    lease: &Lease,
    mut seq: i64,
    mut after: Option<String>,
    count: usize,
) -> (Vec<SyncBatchResult>, Option<Fault>) {
    let mut fetched = Vec::new();
    while fetched.len() < count {
        let input = SyncBatchInput { lease: lease.clone(), seq, after: after.take() };
        match pool.call(SyncBatch, input).await {
            Ok(SyncBatchResult::Staged(staged)) => {
                seq = staged.seq + 1;
                after = Some(staged.staged_id.clone());
                let go_on = !staged.last && !staged.barrier && staged.parked.is_none();
                fetched.push(SyncBatchResult::Staged(staged));
                if !go_on {
                    break;
                }
            }
            Ok(parked @ SyncBatchResult::Parked(_)) => {
                fetched.push(parked);
                break;
            }
            Err(fault) => return (fetched, Some(fault)),
        }
    }
    (fetched, None)
}

/// Writes one commit; `None` when there is nothing to write.
async fn write(pool: &Pool<ConnectorSync>, lease: &Lease, commit: &[StagedRef]) -> Result<Option<SyncStats>, Fault> {
    if commit.is_empty() {
        return Ok(None);
    }
    let input = WriteRecordsInput { lease: lease.clone(), batches: commit.to_vec() };
    let written = pool.call(WriteRecords, input).await?;
    Ok(Some(written.stats))
}
