//! The shells of the reconcilers: watch, queue, run each step under a deadline and a panic guard, then settle its outcome.
//! One object's trouble never holds another's (docs/facts.md, Kubernetes).

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use kube::{
    Api, Resource,
    runtime::{
        self, WatchStreamExt as _,
        controller::{Action, ReconcileRequest},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch as tokio_watch};

use super::{
    back_off::jittered,
    connector::{self, ConnectionSeen, Input as ConnectorInput},
    context::Context,
    error::Error,
    fleet::Watched,
    outcome::{Again, Note, Outcome},
    seen::Seen,
    status_part::status_of,
    tenant_schedule::{Input as TenantInput, reconcile::Reconcile, remove::Remove},
    unreadable,
    world::{Kind, ObjectKey, drive},
};
use crate::{
    crd::{Connector, TenantSchedule, conditions::READY},
    metrics,
    temporal::pacer::{Urgency, as_urgent_as},
};

/// A reconcile makes at most a dozen calls of 10 s each; a longer one is stuck.
const RECONCILE_DEADLINE: Duration = Duration::from_secs(150);
/// How often an object that never exists goes through a queue, so that one without work is told from a hung one …
const SENTINEL: Duration = Duration::from_secs(20);
/// … and no object may have such a name.
const SENTINEL_NAME: &str = "(is this queue alive?)";
/// Thrice this is above `RECONCILE_DEADLINE`: even if all that is at work takes as long as it may, something ends before.
const BEAT: Duration = Duration::from_secs(60);
/// Reconciles at once of one kind and scope.
const CONCURRENCY: u16 = 16;
/// Objects a page of the first list: keeps memory flat (finding 9).
const PAGE_SIZE: u32 = 100;
/// Secrets got a second by the slow sweep (R32): a larger fleet is looked at more rarely.
const SWEPT_A_SECOND: usize = 5;

/// A watched kind: its cache and what wants to be reconciled.
pub struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// The cache.
    pub cache: Store<Watched<K>>,
    /// Requests, from the watch and from others.
    pub queue: stream::BoxStream<'static, Result<ReconcileRequest<Watched<K>>, watcher::Error>>,
    /// Requests of others.
    pub trigger: mpsc::UnboundedSender<ObjectRef<Watched<K>>>,
    /// True once the cache holds the first full list. Not `Store::wait_until_ready`: it wakes only one of those who wait
    /// (kube-runtime 5.0.0, `delayed_init.rs`), and the controller is one.
    pub listed: tokio_watch::Receiver<bool>,
    /// Changes whenever an object comes or goes.
    pub population: Arc<AtomicU64>,
}

/// Starts to watch a kind. `gone` is told each deletion that the watch sees; a relist tells none.
pub fn watch<K>(api: Api<Watched<K>>, mut gone: impl FnMut(Watched<K>) + Send + 'static) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (cache, writer) = reflector::store();
    let (trigger, triggered) = mpsc::unbounded_channel();
    let (list_done, listed) = tokio_watch::channel(false);
    let population = Arc::new(AtomicU64::new(0));
    let moved = Arc::clone(&population);
    let mut seen = Seen::default();
    let watched = watcher(api, watcher::Config::default().page_size(PAGE_SIZE))
        .default_backoff()
        // More than half of an object's size (finding 9), and of no use here.
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .flat_map(move |event| {
            let requests = match event {
                Ok(event) => {
                    let change = seen.take(&event);
                    moved.fetch_add(u64::from(change.population), Ordering::Relaxed);
                    match event {
                        watcher::Event::Delete(object) => gone(object),
                        watcher::Event::InitDone => drop(list_done.send_replace(true)),
                        _ => {}
                    }
                    change.objects.into_iter().map(|object| Ok(ReconcileRequest::from(object))).collect()
                }
                Err(error) => vec![Err(error)],
            };
            stream::iter(requests)
        });
    let others = stream::unfold(triggered, async |mut triggered| {
        let reference = triggered.recv().await?;
        Some((Ok(ReconcileRequest::from(reference)), triggered))
    });
    Watch { cache, queue: stream::select(watched, others).boxed(), trigger, listed, population }
}

/// Runs the controller of TenantSchedules in one scope, which has this name.
pub async fn run_tenants(
    scope: &str,
    cache: Store<Watched<TenantSchedule>>,
    queue: impl Stream<Item = Result<ReconcileRequest<Watched<TenantSchedule>>, watcher::Error>> + Send + 'static,
    context: Arc<Context>,
) {
    let name = format!("queue of TenantSchedules in {scope}");
    run(name, cache, queue, context, |object, context| reconcile_tenant(object, context).boxed()).await;
}

/// Runs the controller of Connectors in one scope, which has this name.
pub async fn run_connectors(
    scope: &str,
    cache: Store<Watched<Connector>>,
    queue: impl Stream<Item = Result<ReconcileRequest<Watched<Connector>>, watcher::Error>> + Send + 'static,
    context: Arc<Context>,
) {
    let name = format!("queue of Connectors in {scope}");
    run(name, cache, queue, context, |object, context| reconcile_connector(object, context).boxed()).await;
}

async fn run<K>(
    name: String,
    cache: Store<Watched<K>>,
    queue: impl Stream<Item = Result<ReconcileRequest<Watched<K>>, watcher::Error>> + Send + 'static,
    context: Arc<Context>,
    reconcile: impl Fn(Arc<Watched<K>>, Arc<Context>) -> BoxFuture<'static, Option<Duration>> + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let config = runtime::Config::default().concurrency(CONCURRENCY);
    let never_fails = |_: Arc<Watched<K>>, error: &Infallible, _: Arc<Context>| match *error {};
    let liveness = context.liveness.clone();
    let mut pulse = None;
    let queue = stream::select(queue, sentinels()).boxed();
    let reconcile = move |object, context| {
        reconcile(object, context).map(|rest| Ok(rest.map_or_else(Action::await_change, Action::requeue)))
    };
    let runs = runtime::applier(reconcile, never_fails, context, cache, queue, config);
    runs.for_each(|end| {
        // Not before the first end: nothing is reconciled until the cache is full, however long the API server is away.
        pulse.get_or_insert_with(|| liveness.pulse(name.clone(), BEAT)).beat();
        match end {
            // What it met was told to whom it concerns, call by call.
            Ok(_) => {}
            Err(runtime::controller::Error::QueueError(error)) => {
                tracing::warn!(error = error_text(&error), "watch interrupted; it is taken up again");
            }
            Err(runtime::controller::Error::ObjectNotFound(found)) if found.name == SENTINEL_NAME => {}
            // Deleted while it waited in the queue.
            Err(error) => tracing::debug!(%error, "not reconciled"),
        }
        std::future::ready(())
    })
    .await;
}

/// A request every now and then, for an object that does not exist.
fn sentinels<K>() -> impl Stream<Item = Result<ReconcileRequest<Watched<K>>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    stream::unfold((), async |()| {
        tokio::time::sleep(SENTINEL).await;
        Some((Ok(ReconcileRequest::from(ObjectRef::new(SENTINEL_NAME))), ()))
    })
}

/// The watch's error without bodies: those quote objects (R18).
fn error_text(error: &watcher::Error) -> String {
    let inner = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Error::kubernetes("watch", error),
        watcher::Error::WatchError(status) => return format!("watch ended with {}", status.code),
        _ => return "watch ended".to_owned(),
    };
    inner.to_string()
}

/// One reconcile of a TenantSchedule as the cache has it; when to look again, unless something changes.
pub(super) async fn reconcile_tenant(object: Arc<Watched<TenantSchedule>>, context: Arc<Context>) -> Option<Duration> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(invalid) => return unreadable::report(Kind::TenantSchedule, invalid, &context).await,
    };
    let cron_suspected = context.cron_workflows.suspects(&object.spec.tenant_id);
    let input = TenantInput::new(object, context.world.now(), context.punctuality(), &context.installation);
    let input = TenantInput { cron_suspected, ..input };
    let key = input.key.clone();
    let was_ready = input.status.observed_generation == input.generation
        && status_of(&input.status.conditions, READY) == Some("True");
    let (deleting, has_finalizer) = (input.deleting, input.has_finalizer);
    let urgency = urgency(!deleting && input.status.observed_generation == input.generation);
    let world = &context.world;
    let outcome = if deleting {
        guarded(&key, RECONCILE_DEADLINE, as_urgent_as(urgency, drive(world, Remove::new(input)))).await
    } else {
        guarded(&key, RECONCILE_DEADLINE, as_urgent_as(urgency, drive(world, Reconcile::new(input, context.resync))))
            .await
    };
    let outcome = outcome.unwrap_or_else(Outcome::failed);
    if !was_ready && has_finalizer || deleting {
        context.fleet.trigger_connectors_of(&key.namespace, &object.spec.tenant_id);
    }
    settle(&key, outcome, &context)
}

/// One reconcile of a Connector as the cache has it; when to look again, unless something changes.
pub(super) async fn reconcile_connector(object: Arc<Watched<Connector>>, context: Arc<Context>) -> Option<Duration> {
    // A TenantSchedule that is not listed yet is not missing: its Connectors' own schedules would be removed.
    context.fleet.ready_in(&object.meta().namespace.clone().unwrap_or_default()).await;
    let object = match &object.0 {
        Ok(object) => object,
        Err(invalid) => return unreadable::report(Kind::Connector, invalid, &context).await,
    };
    if object.meta().deletion_timestamp.is_some() {
        return None;
    }
    let key = connector::key_of(object);
    let input = connector_input(object, &key, &context);
    if input.tenant.is_none() && context.fleet.hides_a_tenant(&key.namespace) {
        // To go on as if it had no tenant would remove its schedule.
        tracing::warn!(object = %key, "left as it is: a TenantSchedule of its namespace cannot be read");
        return Some(context.resync);
    }
    let resync = swept_after(context.fleet.count(Kind::Connector), context.resync);
    let urgency = urgency(input.status.observed_generation == input.generation);
    let step = connector::reconcile::Reconcile::new(input, resync);
    let work = as_urgent_as(urgency, drive(&context.world, step));
    let outcome = match guarded(&key, RECONCILE_DEADLINE, work).await {
        Ok(left) => {
            if let Ok(id) = key.name.parse() {
                let ids = (object.spec.tenant_id.clone(), id);
                context.memory.reconciled(&key, ids, left.checks, left.projected);
            }
            if let Some(check) = left.check {
                context.checks.ask(key.clone(), check);
            }
            left.outcome
        }
        Err(error) => Outcome::failed(error),
    };
    settle(&key, outcome, &context)
}

/// How long a settled Connector of so many rests, at least: each look costs a GET of its Secret (R32).
fn swept_after(connectors: usize, resync: Duration) -> Duration {
    let seconds = u64::try_from(connectors.div_ceil(SWEPT_A_SECOND)).unwrap_or(u64::MAX);
    resync.max(Duration::from_secs(seconds))
}

/// Whether the spec was applied already.
fn urgency(settled: bool) -> Urgency {
    if settled { Urgency::Look } else { Urgency::Edit }
}

fn connector_input(object: &Connector, key: &ObjectKey, context: &Context) -> ConnectorInput {
    let tenant = context.fleet.tenant(&key.namespace, &object.spec.tenant_id);
    let row = key.name.parse().ok().and_then(|id| context.memory.row(&(object.spec.tenant_id.clone(), id)));
    ConnectorInput {
        key: key.clone(),
        generation: object.meta().generation.unwrap_or_default(),
        spec: object.spec.clone(),
        status: object.status.clone().unwrap_or_default(),
        requested_at: connector::requested_at(object),
        now: context.world.now(),
        punctuality: context.punctuality(),
        installation: context.installation.clone(),
        tenant: tenant.as_ref().map(Into::into),
        vault: context.vault.borrow().clone(),
        connection: row
            .map(|row| ConnectionSeen { status: row.connection_status, checked_at: row.connection_checked_at }),
        checks: context.memory.checks(key),
        check_wait: context.checks.wait(),
    }
}

/// Runs a reconcile under a deadline; a panic is an error of this object alone.
async fn guarded<T>(key: &ObjectKey, within: Duration, reconcile: impl Future<Output = T>) -> Result<T, Error> {
    match tokio::time::timeout(within, AssertUnwindSafe(reconcile).catch_unwind()).await {
        Ok(Ok(left)) => Ok(left),
        Ok(Err(_)) => {
            tracing::error!(object = %key, "panic in a reconcile; a bug, please report it");
            Err(Error::Unsettled("a panic in this object's reconcile"))
        }
        Err(_) => Err(Error::Unsettled("this object's reconcile took too long")),
    }
}

/// Tells what happened; when to look again.
pub(super) fn settle(key: &ObjectKey, outcome: Outcome, context: &Context) -> Option<Duration> {
    if !outcome.notes.is_empty() {
        context.memory.told(key, context.world.now());
    }
    for note in outcome.notes {
        tell(key, note, context);
    }
    let result = outcome.failed.as_ref().map_or("Success", |error| error.class().name());
    context.metrics.reconciles.get_or_create(&metrics::Reconcile { kind: key.kind.name(), result }).inc();
    match outcome.again {
        Again::After(rest) => {
            context.back_off.forget(key);
            Some(jittered(rest, key, 0))
        }
        Again::BackOff(least) => {
            let pause = context.back_off.failed(key, least);
            if let Some(error) = &outcome.failed {
                tracing::debug!(object = %key, %error, ?pause, "not settled yet");
            }
            Some(pause)
        }
        Again::Never => {
            context.back_off.forget(key);
            None
        }
    }
}

fn tell(key: &ObjectKey, note: Note, context: &Context) {
    if note.warning {
        tracing::warn!(object = %key, reason = note.reason, "{}", note.message);
    } else {
        tracing::info!(object = %key, reason = note.reason, "{}", note.message);
    }
    context.announcer.about(key, note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_fleet_has_at_most_five_secrets_read_a_second_and_a_small_one_each_at_every_resync() {
        let resync = Duration::from_secs(600);
        assert_eq!([0, 1, 3_000].map(|connectors| swept_after(connectors, resync)), [resync; 3]);
        for connectors in [3_001, 3_004, 10_000, 100_003] {
            let rest = swept_after(connectors, resync).as_secs();
            assert!((connectors as u64).div_ceil(rest) <= 5, "{connectors} within {rest} s");
            assert!(rest <= connectors as u64 / 5 + 1, "{connectors} rest no longer than they must: {rest} s");
        }
    }

    #[tokio::test]
    async fn a_panic_and_a_hung_call_are_errors_of_their_object_alone() {
        let key = super::super::world_fake::key(Kind::Connector, "hubspot");
        let soon = Duration::from_secs(60);
        let panicked = guarded(&key, soon, async { [(); 0].first().expect("a bug in a reconcile") }.map(drop)).await;
        assert_eq!(panicked, Err(Error::Unsettled("a panic in this object's reconcile")));
        let hung = guarded(&key, Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(hung, Err(Error::Unsettled("this object's reconcile took too long")));
        assert_eq!(guarded(&key, soon, async { 7 }).await, Ok(7));
        for error in [panicked, hung].into_iter().filter_map(Result::err) {
            assert!(matches!(Outcome::failed(error).again, Again::BackOff(_)), "tried again, in its own time");
        }
    }
}
