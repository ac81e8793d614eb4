//! What comes before a lease: whether another run of the connector is at work (R12, R43), and whose turn it is among the
//! tenant's syncs (R42). Asks store and Temporal, never the source; takes nothing.

use std::time::Duration;

use temporalio_sdk::activities::ActivityError;

use super::{Activities, attempt::Attempt, failure};
use crate::{
    clock,
    contract::activities::{AuthenticateInput, AuthenticateResult, Parked},
    store::{self, DeadRun, LeaseHolder, RunOutcome, Turn, TurnRequest, Working},
    temporal::WorkflowState,
};

/// Wait before a lease's holder is looked up again.
const HOLDER_RECHECK: Duration = Duration::from_secs(30);
/// Whoever is next in line and must wait longer than this looks whether those at work are still there.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// A run that wants a lease.
pub(super) struct Run<'a> {
    /// Its connector.
    pub(super) input: &'a AuthenticateInput,
    /// Its workflow id.
    pub(super) workflow_id: &'a str,
    /// Somebody asked for everything: it waits for its turn. Skipped, the wish would be lost.
    pub(super) full_sync: bool,
}

/// The lease's holder if there is one, who then is gone or the run itself; or what ends `authenticate` now.
pub(super) async fn look(
    activities: &Activities,
    attempt: Attempt,
    run: &Run<'_>,
) -> Result<Result<Option<LeaseHolder>, AuthenticateResult>, ActivityError> {
    let find = || activities.store.lease_holder(&run.input.tenant_id, &run.input.connector_id);
    let former = attempt.patiently(find).await.map_err(failure::of_store)?;
    if let Some(other) = former.as_ref().filter(|holder| holder.workflow_id != run.workflow_id)
        && let Some(answer) = behind(activities, run, &other.workflow_id).await
    {
        return Ok(Err(answer));
    }
    let turn = turn(activities, attempt, run).await.map_err(failure::of_store)?;
    Ok(turn.map(|()| former))
}

/// The answer to a run that is behind another one of its connector; `None` when that one is gone.
async fn behind(activities: &Activities, run: &Run<'_>, other: &str) -> Option<AuthenticateResult> {
    let reason = match activities.temporal.workflow_state(other).await {
        Ok(WorkflowState::Closed(_) | WorkflowState::NotFound) => return None,
        Ok(WorkflowState::Running) if run.full_sync => format!("another run is at work: {other}"),
        Ok(WorkflowState::Running) => return Some(AuthenticateResult::Skipped { holder: other.to_owned() }),
        // Absence is not proof: any other answer parks (R51).
        Err(_) => "Temporal did not say whether the lease's holder runs".to_owned(),
    };
    Some(parked(HOLDER_RECHECK, reason))
}

async fn turn(
    activities: &Activities,
    attempt: Attempt,
    run: &Run<'_>,
) -> Result<Result<(), AuthenticateResult>, store::Error> {
    let Some(most) = activities.tenant_syncs else { return Ok(Ok(())) };
    let mut request = TurnRequest {
        tenant_id: run.input.tenant_id.clone(),
        connector_id: run.input.connector_id.clone(),
        workflow_id: run.workflow_id.to_owned(),
        most,
        instead_of: None,
    };
    let mut turn = attempt.patiently(|| activities.store.ask_for_turn(&request)).await?;
    if let Turn::Anothers(other) = &turn {
        if let Some(answer) = behind(activities, run, other).await {
            return Ok(Err(answer));
        }
        request.instead_of = Some(other.clone());
        turn = attempt.patiently(|| activities.store.ask_for_turn(&request)).await?;
    }
    if let Turn::Waits { ahead: 0, again_in, working } = &turn
        && *again_in > LOOK_AFTER
        && free_the_dead(activities, attempt, run, working).await?
    {
        turn = attempt.patiently(|| activities.store.ask_for_turn(&request)).await?;
    }
    Ok(match turn {
        Turn::Ours => Ok(()),
        Turn::Anothers(other) => Err(parked(HOLDER_RECHECK, format!("another run was faster: {other}"))),
        Turn::Waits { again_in, .. } => Err(no_place(again_in)),
    })
}

/// Waits for a place.
pub(super) fn no_place(again_in: Duration) -> AuthenticateResult {
    parked(again_in, "as many syncs of the tenant are at work as may be".to_owned())
}

fn parked(after: Duration, reason: String) -> AuthenticateResult {
    AuthenticateResult::Parked(Parked { until: clock::now() + after, reason })
}

/// Frees the places of runs that Temporal says are gone (R12); whether there were any.
async fn free_the_dead(
    activities: &Activities,
    attempt: Attempt,
    run: &Run<'_>,
    working: &[Working],
) -> Result<bool, store::Error> {
    let mut freed = false;
    for Working { connector_id, holder } in working {
        let (outcome, error) = match activities.temporal.workflow_state(&holder.workflow_id).await {
            Ok(WorkflowState::Closed(how)) if how.is_failure() => (RunOutcome::Failed, how.text()),
            Ok(WorkflowState::Closed(how)) => (RunOutcome::Terminated, how.text()),
            Ok(WorkflowState::NotFound) => (RunOutcome::Terminated, "unknown to Temporal"),
            Ok(WorkflowState::Running) | Err(_) => continue,
        };
        let dead = DeadRun {
            tenant_id: run.input.tenant_id.clone(),
            connector_id: connector_id.clone(),
            holder: holder.clone(),
            outcome,
            error: error.to_owned(),
        };
        match attempt.patiently(|| activities.store.close_run(&dead)).await {
            // Somebody else was faster.
            Ok(()) | Err(store::Error::StaleRun { .. }) => freed = true,
            Err(error) => return Err(error),
        }
    }
    Ok(freed)
}
