//! Runs that ended without a word: terminated, timed out, cancelled or failed in Temporal while the store shows them at work
//! (R12). One visibility list a period finds them; each is looked up before its row is closed. Starts nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    context::{ConnectorIds, Context, OpenRun},
    error::{Dependency, Error},
    live_world::{STORE_DEADLINE, store_deadline},
};
use crate::{
    contract::CONNECTOR_SYNC_WORKFLOW,
    health::Pulse,
    store::{self, DeadRun, RunOutcome},
    temporal::{
        self, Temporal, WorkflowState,
        closed::PageToken,
        pacer::{Urgency, as_urgent_as},
    },
};

/// Between two lists.
const PERIOD: Duration = Duration::from_secs(15);
/// A pass beats before each of its calls, which have shorter deadlines.
const BEAT: Duration = Duration::from_secs(20);
/// Visibility lags, and clocks differ: so far back every list looks again.
const OVERLAP: SignedDuration = SignedDuration::from_secs(120);

/// What the last list covered.
#[derive(Debug, Default)]
struct Looked {
    at: Option<Timestamp>,
    runs: HashSet<String>,
}

impl Looked {
    /// From when on closed runs matter: since the last list, for runs that it did not know since their beginning.
    fn since(&self, open: &[OpenRun]) -> Option<Timestamp> {
        let unknown = open.iter().filter(|run| !self.runs.contains(&run.workflow_id)).map(|run| run.started_at);
        let known = open.iter().find(|run| self.runs.contains(&run.workflow_id)).and(self.at);
        unknown.chain(known).min()?.checked_sub(OVERLAP).ok()
    }
}

/// Runs until the process ends.
pub async fn keep(context: Arc<Context>) {
    context.fleet.ready().await;
    let pulse = context.liveness.pulse("closed runs", BEAT);
    let mut looked = Looked::default();
    loop {
        pulse.beat();
        let (now, open) = (context.world.now(), context.memory.open_runs());
        let looks = as_urgent_as(Urgency::Look, look(&looked, &open, &pulse, &context));
        match looks.await {
            Ok(()) => {
                let runs = open.into_iter().map(|run| run.workflow_id).collect();
                looked = Looked { at: Some(now), runs };
            }
            Err(error) => tracing::debug!(%error, "closed runs not looked for; the next list covers the time"),
        }
        pulse.beat();
        tokio::time::sleep(PERIOD).await;
    }
}

/// With no run at work nothing is asked.
async fn look(looked: &Looked, open: &[OpenRun], pulse: &Pulse, context: &Context) -> Result<(), Error> {
    let Some(since) = looked.since(open) else { return Ok(()) };
    let temporal = context.temporal.borrow().clone().map_err(Error::Temporal)?;
    let open: HashMap<_, _> = open.iter().map(|run| (run.workflow_id.as_str(), &run.ids)).collect();
    let mut page = Some(PageToken::default());
    while let Some(token) = page {
        pulse.beat();
        context.pacer.turn().await;
        let listed = temporal.closed_since(CONNECTOR_SYNC_WORKFLOW, since, token).await;
        let (closed, next) = observed(listed, context)?;
        for workflow_id in closed {
            if let Some(ids) = open.get(workflow_id.as_str()) {
                pulse.beat();
                close(ids, &workflow_id, &temporal, context).await?;
            }
        }
        page = next;
    }
    Ok(())
}

/// The lease is read before Temporal is asked, and closing compares it: a run that begins again under the same id meanwhile
/// has another one.
async fn close(ids: &ConnectorIds, workflow_id: &str, temporal: &Temporal, context: &Context) -> Result<(), Error> {
    let (tenant, connector) = ids;
    let holder = store_deadline(STORE_DEADLINE, context.store.lease_holder(tenant, connector)).await;
    let Some(holder) = holder.map_err(Error::Store)?.filter(|holder| holder.workflow_id == workflow_id) else {
        return Ok(());
    };
    context.pacer.turn().await;
    let WorkflowState::Closed(how) = observed(temporal.workflow_state(workflow_id).await, context)? else {
        return Ok(());
    };
    let (tenant_id, connector_id) = ids.clone();
    let outcome = if how.is_failure() { RunOutcome::Failed } else { RunOutcome::Terminated };
    let dead = DeadRun { tenant_id, connector_id, holder, outcome, error: how.text().to_owned() };
    let closed = store_deadline(STORE_DEADLINE, context.store.close_run(&dead)).await;
    context.leadership.heed(&closed);
    match closed {
        Ok(()) => {
            tracing::info!(%tenant, %connector, workflow = workflow_id, "the run {}; its row is closed", how.text())
        }
        // Its successor was faster.
        Err(store::Error::StaleRun { .. }) => {}
        Err(error) => return Err(Error::Store(error)),
    }
    Ok(())
}

fn observed<T>(answer: Result<T, temporal::Error>, context: &Context) -> Result<T, Error> {
    if matches!(answer, Err(temporal::Error::RateLimited { .. })) {
        context.pacer.slow_down();
    }
    let answer = answer.map_err(Error::Temporal);
    context.dependencies.observe(Dependency::Temporal, &answer);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn run(workflow_id: &str, started_at: &str) -> OpenRun {
        let ids = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
        OpenRun { ids, workflow_id: workflow_id.to_owned(), started_at: at(started_at) }
    }

    #[test]
    fn a_list_looks_back_to_the_last_one_and_for_new_runs_to_their_beginning() {
        let (old, new) = (run("old", "2026-11-23T01:00:00Z"), run("new", "2026-11-23T06:59:00Z"));
        let nothing = Looked::default();
        assert_eq!(nothing.since(&[]), None, "nothing at work, nothing asked");
        assert_eq!(nothing.since(&[new.clone(), old.clone()]), Some(at("2026-11-23T00:58:00Z")), "a new operator");
        let looked = Looked { at: Some(at("2026-11-23T07:00:00Z")), runs: ["old".to_owned()].into() };
        assert_eq!(looked.since(std::slice::from_ref(&old)), Some(at("2026-11-23T06:58:00Z")));
        assert_eq!(looked.since(&[old, new]), Some(at("2026-11-23T06:57:00Z")));
    }
}
