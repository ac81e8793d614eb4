//! Goes round for one pool: a step, its outcome told, a pause. Decides nothing but the pause.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{
    pool::Wanted,
    rollout::{Input, Memory, Outcome, Rollout},
    status::Availability,
};
use crate::{
    clock,
    error_class::Class,
    health::Pulse,
    metrics::Reconcile,
    operator::{
        context::Context,
        fleet::Fleet,
        world::{Step, World as _},
    },
    temporal::pacer::{Urgency, as_urgent_as},
};

/// Between two rounds while something is on its way.
const SOON: Duration = Duration::from_secs(2);
/// Between two rounds of a settled pool: two calls each, which ninety pools can afford.
const LATER: Duration = Duration::from_secs(10);
/// The longest pause after failures, which double the first.
const BACK_OFF: Duration = Duration::from_secs(60);
/// A round beats before each of its calls, which have deadlines of 10 s and may wait for their turn.
const BEAT: Duration = Duration::from_secs(30);
/// A pod is scheduled, pulls its image, connects and polls within this; so long before a tick it is wanted.
const START: SignedDuration = SignedDuration::from_mins(2);

/// Keeps a pool as wanted, until the process ends.
pub async fn keep(wanted: Wanted, availability: watch::Sender<Option<Availability>>, context: Arc<Context>) {
    availability.send_replace(Some(Availability::PENDING));
    let pulse = context.liveness.pulse(format!("workers of pool {}", wanted.pool), BEAT);
    let wanted = Arc::new(wanted);
    let (mut memory, mut urgency, mut failures) = (Memory::default(), Urgency::Edit, 0);
    let mut full_at: Option<Timestamp> = None;
    loop {
        let now = clock::now();
        let resync = SignedDuration::try_from(context.resync).unwrap_or(SignedDuration::MAX);
        let is_full = full_at.is_none_or(|at| now.duration_since(at) >= resync);
        if is_full {
            // Retention may change, too.
            memory.retention = None;
        }
        let input = Input { wanted: Arc::clone(&wanted), now, due: due(&context.fleet, now), is_full, memory };
        let outcome = as_urgent_as(urgency, round(Rollout::new(input), &pulse, &context)).await;
        failures = if outcome.failed.is_some() { failures + 1 } else { 0 };
        full_at = if is_full && outcome.failed.is_none() { Some(now) } else { full_at };
        urgency = if outcome.is_settled { Urgency::Look } else { Urgency::Edit };
        let pause = pause(&outcome, failures);
        tell(&outcome, &availability, &context);
        memory = outcome.memory;
        rest(pause, &pulse).await;
    }
}

/// Drives a step of workers to its end.
pub(in crate::operator) async fn round<S: Step>(mut step: S, pulse: &Pulse, context: &Context) -> S::Outcome {
    let mut reply = None;
    while let Some(request) = step.next(reply.take()) {
        pulse.beat();
        reply = Some(context.world.call(request).await);
    }
    step.outcome()
}

fn pause(outcome: &Outcome, failures: u32) -> Duration {
    match &outcome.failed {
        Some(error) => {
            let least = if let Class::RateLimited(least) = error.class() { least } else { Duration::ZERO };
            (SOON * 2_u32.saturating_pow(failures.min(8))).min(BACK_OFF).max(least)
        }
        None if outcome.is_settled => LATER,
        None => SOON,
    }
}

async fn rest(pause: Duration, pulse: &Pulse) {
    let mut left = pause;
    while !left.is_zero() {
        pulse.beat();
        let part = left.min(LATER);
        tokio::time::sleep(part).await;
        left -= part;
    }
}

fn tell(outcome: &Outcome, availability: &watch::Sender<Option<Availability>>, context: &Context) {
    if outcome.availability.is_some() {
        availability.send_if_modified(|before| std::mem::replace(before, outcome.availability) != outcome.availability);
    }
    for note in &outcome.notes {
        context.announcer.about_operator(note.clone());
    }
    let result = outcome.failed.as_ref().map_or("Success", |error| error.class().name());
    context.metrics.reconciles.get_or_create(&Reconcile { kind: "WorkerDeployment", result }).inc();
    if let Some(error) = &outcome.failed {
        tracing::warn!(%error, "the workers are not as wanted; it is tried again");
    }
}

/// Runs that begin within the time that a pod needs to start: one for each connector of a tenant whose tick is near, and of
/// each connector with a schedule of its own.
fn due(fleet: &Fleet, now: Timestamp) -> u64 {
    let is_near = |at: &Timestamp| (SignedDuration::ZERO..=START).contains(&at.duration_since(now));
    let of_tenants = fleet.tenants().into_iter().filter_map(|object| {
        let object = object.0.as_ref().ok()?;
        let status = object.status.as_ref()?;
        status.next_run_time.as_ref().filter(|next| is_near(&next.0))?;
        // A tick is a run by itself; the work of a dedicated tenant's others is done elsewhere.
        let connectors = status.connectors.as_ref().filter(|_| !object.spec.workers.is_dedicated());
        let connectors = connectors.map_or(0, |counts| counts.total);
        Some(1 + u64::try_from(connectors).unwrap_or_default())
    });
    let of_connectors = fleet.connectors().into_iter().filter(|object| {
        let status = object.0.as_ref().ok().and_then(|object| object.status.as_ref());
        status.and_then(|status| status.next_run_time.as_ref()).is_some_and(|next| is_near(&next.0))
    });
    of_tenants.sum::<u64>() + of_connectors.count() as u64
}

#[cfg(test)]
mod tests {
    use kube::{
        core::DeserializeGuard,
        runtime::{reflector, watcher::Event},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::{
        error::Error,
        fleet::{Scope, Watched},
    };

    fn cache<K>(kind: &str, objects: Vec<(Value, Value)>) -> reflector::Store<Watched<K>>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let (store, mut writer) = reflector::store();
        for (number, (spec, status)) in objects.into_iter().enumerate() {
            let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": kind, "spec": spec, "status": status,
                "metadata": {"name": format!("of-{number}"), "namespace": "acme"}});
            let object: DeserializeGuard<K> = serde_json::from_value(object).expect("a guard reads all");
            assert!(object.0.is_ok(), "{object:?}");
            writer.apply_watcher_event(&Event::Apply(object));
        }
        store
    }

    #[test]
    fn runs_that_begin_within_two_minutes_are_counted_one_a_connector_and_a_dedicated_tenants_tick_alone() {
        let now: Timestamp = "2026-11-23T04:00:00Z".parse().expect("a time");
        let next = |seconds| json!({"nextRunTime": (now + SignedDuration::from_secs(seconds)).to_string()});
        let tenant = |seconds, connectors: u32, mode: &str| {
            let mut status = next(seconds);
            status["connectors"] = json!({"total": connectors, "connected": 0, "failing": 0, "deadLetters": 0});
            (json!({"tenantId": "acme", "workers": {"mode": mode}}), status)
        };
        let connector = |status| {
            let spec = json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
                "credentials": {"secretRef": {"name": "crm"}}});
            (spec, status)
        };
        let count = |tenants, connectors| {
            let listed = || watch::channel(true).1;
            let scope = Scope {
                namespace: None,
                tenants: cache("TenantSchedule", tenants),
                connectors: cache("Connector", connectors),
                listed: [listed(), listed()],
                population: Default::default(),
                trigger_tenant: tokio::sync::mpsc::unbounded_channel().0,
                trigger_connector: tokio::sync::mpsc::unbounded_channel().0,
            };
            due(&Fleet { scopes: vec![scope] }, now)
        };
        let of_tenant = |seconds, mode| count(vec![tenant(seconds, 3, mode)], Vec::new());
        assert_eq!([-1, 0, 120, 121].map(|seconds| of_tenant(seconds, "Shared")), [0, 4, 4, 0]);
        assert_eq!(of_tenant(60, "Dedicated"), 1, "its connectors have workers of their own");
        let own = [next(-1), next(0), next(120), next(121), json!({})].map(connector);
        assert_eq!(count(Vec::new(), own.to_vec()), 2);
        assert_eq!(count(vec![tenant(60, 3, "Shared"), tenant(300, 9, "Shared")], own.to_vec()), 6, "together");
    }

    #[test]
    fn failures_are_repeated_less_and_less_often_and_a_server_that_asks_for_it_gets_its_pause() {
        let outcome = |failed| Outcome {
            availability: None,
            is_settled: false,
            memory: Memory::default(),
            notes: Vec::new(),
            failed,
        };
        let lost = || outcome(Some(Error::deadline("list")));
        let pauses: Vec<_> = (1..8).map(|failures| pause(&lost(), failures).as_secs()).collect();
        assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 60]);
        let limited = crate::temporal::Error::RateLimited { attempted: "count runs" };
        assert_eq!(pause(&outcome(Some(Error::Temporal(limited))), 1), Duration::from_secs(10));
        assert_eq!(pause(&outcome(None), 0), SOON);
    }
}
