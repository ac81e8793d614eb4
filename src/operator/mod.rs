//! The operator: CRs in, schedules, projection and status out. One active process by Lease.
//!
//! `lease` says who leads and `leadership` whether we still do. Reconcilers are pure steps behind one seam (`world`): `tenant_schedule/` and `connector/` decide, `schedule` and
//! `schedule_removal` are the parts they share, `live_world` does. `controller` runs them, `run_status` writes what is
//! observed, `closed_runs` closes runs that ended without a word, `sweep` follows deletions, `census` looks at all that stands in Temporal, `purge` and `retention` end the life of data, `links` and `dependencies` watch over store and Temporal. This file wires.

pub mod back_off;
#[cfg(test)]
mod behaviour;
pub mod census;
pub mod closed_runs;
pub mod connection_checks;
pub mod connector;
pub mod context;
pub mod controller;
pub mod cron;
pub mod cron_workflows;
pub mod dedicated_pools;
pub mod dependencies;
#[cfg(test)]
mod enumerator;
pub mod error;
pub mod events;
pub mod fleet;
pub mod identity;
#[cfg(test)]
mod kstatus_table;
pub mod leadership;
pub mod lease;
pub mod links;
pub mod live_world;
pub mod maintenance;
pub mod names;
pub mod outcome;
pub mod planned_starts;
pub mod pool_identity;
pub mod purge;
pub mod retention;
pub mod run_status;
pub mod schedule;
pub mod schedule_orphans;
pub mod schedule_overdue;
pub mod schedule_pause;
pub mod schedule_removal;
pub mod schedule_shown;
pub mod schedule_terms;
mod seen;
pub mod start;
pub mod status_pace;
pub mod status_part;
pub mod sweep;
pub mod tenant_schedule;
mod unreadable;
pub mod worker_deployment;
pub mod world;
#[cfg(test)]
mod world_fake;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::{Api, Client, Resource};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use self::{
    connection_checks::Checks,
    connector::{Vault, remove::Gone},
    context::{Context, Memory},
    controller::Watch,
    cron_workflows::CronWorkflows,
    dependencies::Dependencies,
    events::Announcer,
    fleet::{Fleet, Scope, Watched},
    leadership::Leadership,
    lease::Candidate,
    live_world::LiveWorld,
    names::Installation,
    pool_identity::PoolIdentities,
    worker_deployment::pool::{Pool, Wanted},
};
use crate::{
    crd::{Connector, TenantSchedule},
    health::{self, Liveness, Readiness},
    key_files::KeyFiles,
    metrics::Metrics,
    settings::OperatorSettings,
    store::{self, Store},
    temporal,
};

/// Runs the operator of the cluster that kubeconfig or the pod's service account names, until `stop` becomes true.
///
/// # Errors
/// When a setting is wrong, leadership is lost, or a loop of the operator ends.
pub async fn run(settings: OperatorSettings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let config = kube::Config::infer().await.context("find a kubeconfig or a service account")?;
    run_in(config, settings, stop).await
}

/// Runs the operator of a given cluster, until `stop` becomes true.
///
/// # Errors
/// As `run`.
///
/// # Cancellation
/// May be dropped at any await: every reconcile is repeated whole by the next process.
pub async fn run_in(
    mut cluster: kube::Config,
    settings: OperatorSettings,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    // The client's own retries reach 1,000 s and hide faults (docs/facts.md, Kubernetes); back-off is per object.
    cluster.default_retry = false;
    let client = Client::try_from(cluster.clone()).context("make a Kubernetes client")?;
    let lease_client = Client::try_from(cluster).context("make a Kubernetes client")?;
    let metrics = Metrics::default();
    let readiness = Readiness::new(metrics.clone());
    let liveness = Liveness::default();
    let address = settings.health.health_address;
    let served = health::serve(address, liveness.clone(), readiness.clone(), metrics.registry());
    let mut candidate = Candidate::new(lease_client, &settings.namespace, Duration::from_secs(settings.lease_seconds));
    let process = Process { liveness, readiness, metrics };
    let ended = tokio::select! {
        served = served => served.with_context(|| format!("health server on {address}")),
        operated = operate(client, &settings, &mut candidate, process) => operated,
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    };
    candidate.release().await;
    ended
}

/// How this process is seen from outside.
struct Process {
    liveness: Liveness,
    readiness: Readiness,
    metrics: Metrics,
}

async fn operate(
    client: Client,
    settings: &OperatorSettings,
    candidate: &mut Candidate,
    process: Process,
) -> anyhow::Result<()> {
    let Process { liveness, readiness, metrics } = process;
    temporal::Plan::of(&settings.temporal)?;
    let key_files = KeyFiles::new(readiness.clone(), metrics.clone());
    let (announcer, announcing) = Announcer::new(client.clone(), &settings.namespace);
    let dependencies = Dependencies::new(readiness, announcer.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        announcing.await;
        Ok(())
    });
    tasks.spawn(endless(key_files.clone().keep()));
    let store = start::store(settings, &key_files, &dependencies).await.context("open the store")?;
    let lease_end = if settings.no_leader_election { None } else { Some(candidate.acquire().await) };
    let leadership = lease_end.map_or_else(Leadership::unbounded, Leadership::until);
    let _ends = leadership.ends_here();
    metrics.leader.set(1);
    tracing::info!("leading");
    let outside = Outside {
        leadership: leadership.clone(),
        dependencies,
        announcer,
        liveness: liveness.clone(),
        metrics,
        key_files,
    };
    let leader = outside.metrics.leader.clone();
    let acted = tokio::select! {
        // First of all: whoever wakes after his time must not act before he knows.
        biased;
        () = kept(candidate, lease_end, &leadership, &liveness) => {
            Err(anyhow::anyhow!("the Lease was not renewed in time, or is another's; leaving at once"))
        }
        () = leadership.ended() => Err(anyhow::anyhow!(
            "another operator of this store, cluster id and namespace has taken the leadership; leaving at once"
        )),
        acted = act(client, settings, store, outside, tasks) => acted,
    };
    leader.set(0);
    acted
}

/// Until the Lease is lost; for ever without one.
async fn kept(candidate: &mut Candidate, end: Option<Instant>, leadership: &Leadership, liveness: &Liveness) {
    let Some(end) = end else { return std::future::pending().await };
    candidate.hold(end, leadership, liveness).await;
    leadership.end();
}

/// Where the operator reports to.
struct Outside {
    leadership: Leadership,
    dependencies: Dependencies,
    announcer: Announcer,
    liveness: Liveness,
    metrics: Metrics,
    key_files: KeyFiles,
}

/// What the leader does.
async fn act(
    client: Client,
    settings: &OperatorSettings,
    store: Arc<dyn Store>,
    outside: Outside,
    mut tasks: JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let Outside { leadership, dependencies, announcer, liveness, metrics, key_files } = outside;
    let pool = workers(settings).await?;
    for namespace in scopes(settings) {
        start::crds(&client, namespace, &dependencies, &metrics).await;
    }
    let installation_id = start::migrated(store.as_ref(), &dependencies).await.context("migrate the store")?;
    let installation = Installation::new(installation_id, settings.temporal.cluster_id.as_deref());
    // Those who compete for one Lease; several clusters may share a store, each with its own leader.
    let of = format!("{}/{}", installation.cluster_id, settings.namespace);
    let store = start::leading(store.as_ref(), &of, &dependencies).await.context("take the leadership in the store")?;
    let sealer = start::sealer(&client, settings, &dependencies).await.context("find the workers' recipient")?;

    let connecting = temporal::Error::Unavailable { attempted: "connect", code: "not tried yet".to_owned() };
    let (slot, temporal) = watch::channel(Err(connecting));
    let (vault_sender, vault) = watch::channel(Vault::new(sealer, &installation.id));
    let (gone_sender, gone) = mpsc::unbounded_channel();
    let (checks, checks_asked) = Checks::new();
    let watches: Vec<_> = scopes(settings).map(|namespace| Watches::start(&client, namespace, &gone_sender)).collect();
    let pacer = temporal::Pacer::new(settings.temporal_requests_per_second, settings.temporal_request_burst);
    let (pacer, cron_workflows) = (Arc::new(pacer), Arc::new(CronWorkflows::default()));
    let context = Arc::new(Context {
        world: Arc::new(LiveWorld {
            client: client.clone(),
            leadership: leadership.clone(),
            store: Arc::clone(&store),
            temporal: temporal.clone(),
            pools: PoolIdentities::new(client.clone(), settings.namespace.clone(), settings.recipient.clone()),
            pacer: Arc::clone(&pacer),
            cron_workflows: Arc::clone(&cron_workflows),
            dependencies: dependencies.clone(),
            metrics: metrics.clone(),
        }),
        leadership,
        pacer,
        cron_workflows,
        store,
        temporal,
        fleet: Fleet { scopes: watches.iter().map(Watches::scope).collect() },
        vault,
        installation,
        resync: Duration::from_secs(settings.resync_seconds.max(1)),
        purge_grace: Duration::from_secs(settings.retention.purge_grace_seconds),
        overdue_margin: Duration::from_secs(settings.overdue_seconds),
        orphan_grace: Duration::from_secs(settings.orphan_grace_seconds),
        dependencies: dependencies.clone(),
        liveness,
        announcer,
        metrics,
        back_off: back_off::BackOff::default(),
        memory: Memory::default(),
        checks,
    });
    let (availability_sender, availability) = watch::channel(None);
    let (dedicated_sender, dedicated) = watch::channel(Default::default());
    if let Some(pool) = pool {
        let wanted = Wanted::of(&pool, &context.installation).context("worker template")?;
        tasks.spawn(endless(worker_deployment::keep::keep(wanted, availability_sender, Arc::clone(&context))));
        let grace = Duration::from_secs(settings.pool_grace_seconds);
        tasks.spawn(endless(dedicated_pools::keep(pool, grace, dedicated_sender, Arc::clone(&context))));
    }
    let kept = links::keep_temporal(settings.temporal.clone(), key_files, slot, Arc::clone(&context));
    tasks.spawn(async move { Ok(kept.await?) });
    if settings.recipient.is_none() {
        tasks.spawn(endless(identity::keep(
            client.clone(),
            settings.namespace.clone(),
            vault_sender,
            Arc::clone(&context),
        )));
    }
    tasks.spawn(endless(links::keep_kubernetes(client.clone(), Arc::clone(&context))));
    tasks.spawn(endless(links::keep_store(Arc::clone(&context))));
    tasks.spawn(endless(links::wake_after_recovery(dependencies, Arc::clone(&context))));
    tasks.spawn(endless(run_status::keep(availability, dedicated, Arc::clone(&context))));
    tasks.spawn(endless(connection_checks::keep(checks_asked, Arc::clone(&context))));
    tasks.spawn(endless(closed_runs::keep(Arc::clone(&context))));
    tasks.spawn(endless(sweep::keep(Arc::clone(&context))));
    tasks.spawn(endless(census::keep(Arc::clone(&context))));
    tasks.spawn(endless(retention::keep(settings.retention, Arc::clone(&context))));
    tasks.spawn(endless(follow(gone, Arc::clone(&context))));
    for watch in watches {
        watch.run(&mut tasks, &context);
    }
    match tasks.join_next().await {
        Some(Ok(ended)) => ended.and_then(|()| Err(anyhow::anyhow!("a loop of the operator ended"))),
        Some(Err(error)) => Err(error).context("a loop of the operator died"),
        None => Err(anyhow::anyhow!("nothing to do")),
    }
}

/// The watched namespaces; `None` = all.
fn scopes(settings: &OperatorSettings) -> impl Iterator<Item = Option<&str>> {
    let all = settings.watch_namespaces.is_empty().then_some(None);
    all.into_iter().chain(settings.watch_namespaces.iter().map(|namespace| Some(namespace.as_str())))
}

/// The pool of workers that serves every tenant, if the operator deploys it.
async fn workers(settings: &OperatorSettings) -> anyhow::Result<Option<Pool>> {
    let Some(path) = &settings.worker_template else { return Ok(None) };
    let template = tokio::fs::read_to_string(path).await.with_context(|| format!("read {}", path.display()))?;
    let on_sqlite = store::url(&settings.store).await?.starts_with("sqlite:");
    let most = settings.worker_max_replicas.map(i32::from);
    let pool = Pool::shared(&template, &settings.namespace, on_sqlite, most);
    Ok(Some(pool.with_context(|| format!("worker template {}", path.display()))?))
}

/// Follows deletions side by side, so that one that waits holds no other.
async fn follow(mut gone: mpsc::UnboundedReceiver<Gone>, context: Arc<Context>) {
    let mut following = JoinSet::new();
    while let Some(gone) = gone.recv().await {
        following.spawn(sweep::follow(gone, Arc::clone(&context)));
        while following.try_join_next().is_some() {}
    }
}

async fn endless(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

/// The watches of one scope.
struct Watches {
    namespace: Option<String>,
    tenants: Watch<TenantSchedule>,
    connectors: Watch<Connector>,
}

impl Watches {
    fn start(client: &Client, namespace: Option<&str>, gone: &mpsc::UnboundedSender<Gone>) -> Self {
        let gone_sender = gone.clone();
        Self {
            namespace: namespace.map(str::to_owned),
            tenants: controller::watch(api(client, namespace), |_| ()),
            connectors: controller::watch(api(client, namespace), move |object: Watched<Connector>| {
                let Ok(object) = object.0 else { return };
                let key = connector::key_of(&object);
                let Ok(connector_id) = key.name.parse() else { return };
                let gone = Gone { key, tenant_id: object.spec.tenant_id, connector_id };
                // A closed queue means that the process is about to end; the next one sweeps.
                let _closed = gone_sender.send(gone).is_err();
            }),
        }
    }

    /// Starts its controllers.
    fn run(self, tasks: &mut JoinSet<anyhow::Result<()>>, context: &Arc<Context>) {
        let Self { namespace, tenants, connectors } = self;
        let scope = namespace.unwrap_or_else(|| "all namespaces".to_owned());
        let (of_connectors, context, twin) = (scope.clone(), Arc::clone(context), Arc::clone(context));
        tasks.spawn(endless(async move {
            controller::run_tenants(&scope, tenants.cache, tenants.queue, context).await;
        }));
        tasks.spawn(endless(async move {
            controller::run_connectors(&of_connectors, connectors.cache, connectors.queue, twin).await;
        }));
    }

    fn scope(&self) -> Scope {
        Scope {
            namespace: self.namespace.clone(),
            tenants: self.tenants.cache.clone(),
            connectors: self.connectors.cache.clone(),
            population: [Arc::clone(&self.tenants.population), Arc::clone(&self.connectors.population)],
            listed: [self.tenants.listed.clone(), self.connectors.listed.clone()],
            trigger_tenant: self.tenants.trigger.clone(),
            trigger_connector: self.connectors.trigger.clone(),
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<Watched<K>>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
