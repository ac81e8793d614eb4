//! `authenticate`: opens the credential, asks the source who we are, and for a sync takes the lease.

use jiff::SignedDuration;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use super::{
    Activities,
    attempt::{self, Attempt},
    dispatcher::{self, Opened},
    failure, turn,
};
use crate::{
    clock,
    connectors::{self, Account},
    contract::{
        activities::{AuthenticateInput, AuthenticateResult, Parked},
        failures,
        workflows::ConnectionStatus,
    },
    error_class::Class,
    model::cursor::Load,
    store::{
        self, ConnectionFound, ConnectorRecord, DesiredState, LeaseGranted, LeaseHolder, LeaseRequest, RunOutcome,
    },
};

/// How often the source is asked how many records it has, where its counts agreed: each is a request a stream.
const COUNT_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Check or sync.
///
/// # Idempotency
/// A check writes what it found. A sync's second attempt finds its own workflow id as holder and takes over from itself.
pub(super) async fn run(
    activities: &Activities,
    ctx: &ActivityContext,
    input: &AuthenticateInput,
) -> Result<AuthenticateResult, ActivityError> {
    let attempt = Attempt::of(ctx);
    let opened = dispatcher::open(activities, attempt, &input.tenant_id, &input.connector_id).await;
    let opened = match opened {
        Ok(opened) => opened,
        Err(refused) => return Err(refused.record(activities, attempt, input).await),
    };
    let turn = match input.full_sync {
        None => None,
        Some(full_sync) => match wait_for_turn(activities, ctx, attempt, input, &opened, full_sync).await? {
            Ok(turn) => Some(turn),
            Err(answer) => return Ok(answer),
        },
    };
    let account = match opened.source.account().await {
        Ok(account) => account,
        Err(error) => return of_source(activities, attempt, input, &opened, error).await,
    };
    let found = ConnectionFound {
        status: Some(ConnectionStatus::Connected),
        reason: String::new(),
        account_id: Some(account.id.clone()),
    };
    record_found(activities, attempt, input, &opened, &found).await?;
    match turn {
        None => Ok(AuthenticateResult::Checked { status: ConnectionStatus::Connected }),
        Some(turn) => take_lease(activities, attempt, input, &opened, &account, turn).await,
    }
}

/// A run whose turn it is.
struct TakesTurn {
    workflow_id: String,
    full_sync: bool,
    /// Who held the lease and is gone, or the run itself.
    former: Option<LeaseHolder>,
}

/// Before the source is asked: whoever must not run yet costs the tenant's quota nothing.
async fn wait_for_turn(
    activities: &Activities,
    ctx: &ActivityContext,
    attempt: Attempt,
    input: &AuthenticateInput,
    opened: &Opened,
    full_sync: bool,
) -> Result<Result<TakesTurn, AuthenticateResult>, ActivityError> {
    if opened.record.desired_state != DesiredState::Running {
        return Err(failure::failure_text(failures::STOPPED, "connector is not running".to_owned()));
    }
    let workflow_id = ctx.info().workflow_id.clone().unwrap_or_default();
    let run = turn::Run { input, workflow_id: &workflow_id, full_sync };
    let looked = turn::look(activities, attempt, &run).await?;
    Ok(looked.map(|former| TakesTurn { workflow_id, full_sync, former }))
}

async fn record_found(
    activities: &Activities,
    attempt: Attempt,
    input: &AuthenticateInput,
    opened: &Opened,
    found: &ConnectionFound,
) -> Result<(), ActivityError> {
    let (tenant, connector) = (&input.tenant_id, &input.connector_id);
    let revision = opened.record.credential_revision;
    let set = || activities.store.set_connection(tenant, connector, revision, found);
    let refused = match attempt.patiently(set).await {
        Err(error @ store::Error::AccountChanged { .. }) => error,
        other => return other.map_err(failure::of_store),
    };
    // The rows belong to another account (R4): say so where the operator reads it.
    let changed = ConnectionFound { status: None, reason: refused.to_string(), account_id: None };
    let set = || activities.store.set_connection(tenant, connector, revision, &changed);
    attempt.patiently(set).await.map_err(failure::of_store)?;
    Err(failure::of_store(refused))
}

/// A refusal disconnects this credential revision; a transient failure leaves the status as it was (R23).
async fn of_source(
    activities: &Activities,
    attempt: Attempt,
    input: &AuthenticateInput,
    opened: &Opened,
    error: connectors::Error,
) -> Result<AuthenticateResult, ActivityError> {
    if let Class::RateLimited(after) = error.class() {
        return Ok(AuthenticateResult::Parked(Parked { until: clock::now() + after, reason: error.to_string() }));
    }
    let status = (error.class() == Class::Unauthorised).then_some(ConnectionStatus::Disconnected);
    let found = ConnectionFound { status, reason: error.to_string(), account_id: None };
    record_found(activities, attempt, input, opened, &found).await?;
    Err(failure::of_source(error))
}

/// Takes the lease, which is free, ours already, or its holder is gone (R12, R43: only `authenticate` takes one over).
async fn take_lease(
    activities: &Activities,
    attempt: Attempt,
    input: &AuthenticateInput,
    opened: &Opened,
    account: &Account,
    turn: TakesTurn,
) -> Result<AuthenticateResult, ActivityError> {
    let request = lease_request(activities, input, opened, account, turn);
    let granted = match attempt.patiently(|| take_over(activities, &request)).await {
        Err(error @ store::Error::NoPlace) => match error.class() {
            Class::RateLimited(after) => return Ok(turn::no_place(after)),
            _ => return Err(failure::of_store(error)),
        },
        // Somebody was faster: another run, or an edit or reset of what this one has read.
        Err(store::Error::StaleRun { .. }) => return Ok(AuthenticateResult::Parked(attempt::once_more())),
        taken => taken.map_err(failure::of_store)?,
    };
    let LeaseGranted { lease, next_seq, stats } = granted;
    Ok(AuthenticateResult::Ready { lease, next_seq, stats, attempt: attempt.number })
}

/// Takes the lease, from ourselves if a try before had done so and its answer was lost.
async fn take_over(activities: &Activities, request: &LeaseRequest) -> Result<LeaseGranted, store::Error> {
    let holder = activities.store.lease_holder(&request.tenant_id, &request.connector_id).await?;
    match holder.filter(|holder| holder.workflow_id == request.workflow_id) {
        Some(ours) => {
            let again = LeaseRequest { expected_epoch: Some(ours.epoch), ..request.clone() };
            activities.store.take_lease(&again).await
        }
        None => activities.store.take_lease(request).await,
    }
}

fn lease_request(
    activities: &Activities,
    input: &AuthenticateInput,
    opened: &Opened,
    account: &Account,
    turn: TakesTurn,
) -> LeaseRequest {
    let record = &opened.record;
    let TakesTurn { workflow_id, full_sync, former } = turn;
    let full_sync = full_sync || waits_for_its_sweep(record) || forgotten_deletions(opened, account);
    let unfinished = record.load.as_ref().filter(|load| load.task().is_some());
    LeaseRequest {
        tenant_id: input.tenant_id.clone(),
        connector_id: input.connector_id.clone(),
        uid: record.uid.clone(),
        revision: record.revision,
        account_id: account.id.clone(),
        workflow_id,
        full_sync,
        restart_load: unfinished.is_some_and(|load| is_useless(load, opened, full_sync, former.is_some())),
        expected_epoch: former.map(|holder| holder.epoch),
        former_outcome: RunOutcome::Terminated,
        load: next_load(opened, account, full_sync),
        tenant_syncs: activities.tenant_syncs,
    }
}

/// A confirmed sweep that no run has done yet needs its stream read whole; one without a cursor is read whole anyway.
fn waits_for_its_sweep(record: &ConnectorRecord) -> bool {
    record.findings.confirmed_sweeps.keys().any(|stream| record.cursor.streams.contains_key(stream))
}

/// The load to begin where none is in progress.
fn next_load(opened: &Opened, account: &Account, full_sync: bool) -> Load {
    let (record, streams) = (&opened.record, opened.source.streams());
    let mut load = match record.resync {
        Some(window) if !full_sync => Load::reread(window, record.generation, streams, account.clock),
        // Only a full load gets here with a wish for a re-read: it reads that range, too.
        covers => Load { covers, ..Load::begin(&record.cursor, record.generation, full_sync, streams, account.clock) },
    };
    let findings = &record.findings;
    let differed = findings.counts.values().any(|count| count.mismatches > 0);
    let counted_lately = findings.counted_at.is_some_and(|at| account.clock.duration_since(at) < COUNT_EVERY);
    load.counting = load.window.is_none() && (full_sync || differed || !counted_lately);
    load
}

/// A load that is not what is wanted now: incremental where a full one is asked for, of streams that nobody reads any more, or
/// left by a run that read nothing: the streams it left may be mended while the next one stays broken. A run that goes on keeps
/// its load, for what is known of workers lost there goes with it (R44).
fn is_useless(load: &Load, opened: &Opened, full_sync: bool, goes_on: bool) -> bool {
    let chosen = |name: &str| opened.source.streams().iter().any(|stream| stream.name == name);
    let left = load.streams.get(load.current..).unwrap_or_default();
    let fruitless = !goes_on && load.read_nothing() && load.token.is_none();
    fruitless || full_sync && !load.full || !left.is_empty() && !left.iter().any(|stream| chosen(&stream.name))
}

/// The last complete window is so long ago that the source may have forgotten deletions since: only a full sync with its
/// sweep finds them (R48).
fn forgotten_deletions(opened: &Opened, account: &Account) -> bool {
    let horizon = SignedDuration::try_from(opened.source.tombstone_horizon() / 2).unwrap_or(SignedDuration::MAX);
    let cursor = &opened.record.cursor.streams;
    let oldest = opened.source.streams().iter().filter_map(|stream| cursor.get(stream.name)).min();
    oldest.is_some_and(|&oldest| account.clock.duration_since(oldest) > horizon)
}
