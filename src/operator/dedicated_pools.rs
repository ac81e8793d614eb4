//! Has workers kept for each tenant that has its own, tells whether they are there, and takes them away some time after nobody
//! needs them. Who has a pool is decided by the store (`put_tenant`); how its pods look, by `dedicated`; its builds roll out as
//! the shared pool's do (`worker_deployment::keep`, one for each pool).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    context::Context,
    error::Error,
    live_world::{STORE_DEADLINE, store_deadline},
    pool_identity::secret_name,
    worker_deployment::{
        dedicated, keep,
        leave::Leave,
        pool::{Pool, Wanted},
        requests::{WorkerAnswer, WorkerRequest},
        status::Availability,
    },
    world::{Answer, Request, World as _},
};
use crate::{
    crd::WorkersSpec,
    health::Pulse,
    ids::TenantId,
    store::DedicatedPool,
    temporal::pacer::{Urgency, as_urgent_as},
};

/// How often it is looked who has a pool.
const LOOK: Duration = Duration::from_secs(5);
/// Between two rounds of a pool that leaves: Temporal remembers its pollers for five minutes.
const LEAVE_AGAIN: Duration = Duration::from_secs(30);
/// A round beats before each of its calls, of which the store's is the longest.
const BEAT: Duration = Duration::from_secs(30);

/// What is known of dedicated pools, by tenant.
pub type Availabilities = BTreeMap<TenantId, Availability>;

/// The loop's state.
struct Pools {
    shared: Pool,
    grace: Duration,
    /// Pools whose workers are kept.
    kept: HashMap<TenantId, Kept>,
    /// When a pool that nobody needs is to leave, or to go on with it.
    leaves_at: HashMap<TenantId, Instant>,
    /// Pools that have nothing left; the store remembers whoever had one.
    gone: HashSet<TenantId>,
}

/// A pool, and the loop that keeps it; which ends when this is dropped.
struct Kept {
    wanted: Wanted,
    availability: watch::Receiver<Option<Availability>>,
    keeper: JoinSet<()>,
}

impl Kept {
    fn new(wanted: Wanted, context: Arc<Context>) -> Self {
        let (sender, availability) = watch::channel(None);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep::keep(wanted.clone(), sender, context));
        Self { wanted, availability, keeper }
    }
}

/// Runs until the process ends.
pub async fn keep(shared: Pool, grace: Duration, availabilities: watch::Sender<Availabilities>, context: Arc<Context>) {
    context.fleet.ready().await;
    let (kept, leaves_at, gone) = (HashMap::new(), HashMap::new(), HashSet::new());
    let mut pools = Pools { shared, grace, kept, leaves_at, gone };
    let pulse = context.liveness.pulse("dedicated pools", BEAT);
    loop {
        pulse.beat();
        match pools.round(&pulse, &context).await {
            Ok(now) => {
                availabilities.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
            }
            Err(error) => tracing::debug!(%error, "dedicated pools not looked at"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Pools {
    async fn round(&mut self, pulse: &Pulse, context: &Arc<Context>) -> Result<Availabilities, Error> {
        let cluster_id = &context.installation.cluster_id;
        let pools = store_deadline(STORE_DEADLINE, context.store.dedicated_pools(cluster_id)).await;
        let pools = pools.map_err(Error::Store)?;
        pulse.beat();
        let standing = self.standing(context).await?;
        let needed: HashSet<_> = pools.iter().filter(|pool| pool.needed).map(|pool| pool.tenant_id.clone()).collect();
        // Also one of a tenant that the store does not know: it was restored, or the claim was moved.
        let others = pools.iter().map(|pool| &pool.tenant_id).chain(&standing).chain(self.kept.keys());
        let unneeded: HashSet<_> = others.filter(|tenant| !needed.contains(tenant)).cloned().collect();
        self.leaves_at.retain(|tenant, _| unneeded.contains(tenant));
        self.gone.retain(|tenant| unneeded.contains(tenant) && !standing.contains(tenant));
        for pool in pools.into_iter().filter(|pool| pool.needed) {
            pulse.beat();
            self.stand(&pool, standing.contains(&pool.tenant_id), context).await;
        }
        for tenant in unneeded {
            pulse.beat();
            self.leave(tenant, pulse, context).await;
        }
        let kept = self.kept.iter().filter(|(tenant, _)| needed.contains(tenant));
        let seen = |kept: &Kept| kept.availability.borrow().unwrap_or(Availability::PENDING);
        Ok(kept.map(|(tenant, kept)| (tenant.clone(), seen(kept))).collect())
    }

    /// Tenants whose pools have Deployments.
    async fn standing(&self, context: &Context) -> Result<HashSet<TenantId>, Error> {
        let template = &self.shared.template;
        let namespace = template.metadata.namespace.clone().unwrap_or_default();
        let labels = template.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
        match context.world.call(Request::Workers(WorkerRequest::List(namespace, labels))).await? {
            Answer::Workers(WorkerAnswer::Deployments(builds)) => {
                Ok(builds.iter().filter_map(|build| dedicated::tenant_of(build.pool.as_ref()?)).collect())
            }
            _ => Err(Error::Unsettled("an answer of another kind to a list of workers")),
        }
    }

    /// Has a pool kept as its tenant wants it.
    async fn stand(&mut self, pool: &DedicatedPool, stands: bool, context: &Arc<Context>) {
        let tenant = &pool.tenant_id;
        let object = context.fleet.tenant(&pool.owner.namespace, tenant);
        let workers = match object.map(|object| object.spec.workers) {
            Some(workers) if workers.is_dedicated() => workers,
            // It has left, or cannot be seen now: the pods that are there go on as they are.
            _ if stands || self.kept.contains_key(tenant) => return,
            _ => WorkersSpec::default(),
        };
        let wanted = match self.wanted(tenant, &workers, context).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::warn!(%tenant, error, "the workers of a tenant's own are not as wanted; it is tried again");
                return;
            }
        };
        let former = self.kept.get_mut(tenant);
        if former.is_some_and(|kept| kept.wanted == wanted && kept.keeper.try_join_next().is_none()) {
            return;
        }
        self.let_go(tenant).await;
        self.kept.insert(tenant.clone(), Kept::new(wanted, Arc::clone(context)));
    }

    async fn wanted(&self, tenant: &TenantId, workers: &WorkersSpec, context: &Context) -> Result<Wanted, String> {
        let answer = context.world.call(Request::EnsurePool(tenant.clone())).await;
        let Answer::Recipient(sealer) = answer.map_err(|error| error.to_string())? else {
            return Err("an answer of another kind to a pool's identity".to_owned());
        };
        let secret = secret_name(tenant, &sealer);
        let pool = dedicated::pool(&self.shared, tenant, &secret, workers).map_err(|error| error.to_string())?;
        Wanted::of(&pool, &context.installation).map_err(|error| error.to_string())
    }

    /// Takes a pool away when it was not needed for the grace: by then its sessions have ended, and what is left in its queue
    /// goes back to where it came from (`DEDICATED_START_TIMEOUT`).
    async fn leave(&mut self, tenant: TenantId, pulse: &Pulse, context: &Context) {
        let now = Instant::now();
        let leaves_at = *self.leaves_at.entry(tenant.clone()).or_insert(now + self.grace);
        if now < leaves_at || self.gone.contains(&tenant) {
            return;
        }
        self.let_go(&tenant).await;
        let leave = Leave::new(dedicated::leaving(&self.shared, &tenant, &context.installation));
        let outcome = as_urgent_as(Urgency::Look, keep::round(leave, pulse, context)).await;
        if let Some(error) = outcome.failed {
            tracing::warn!(%tenant, %error, "the workers of a tenant's own are not taken away yet; it is tried again");
        }
        if outcome.is_gone {
            tracing::info!(%tenant, "nothing is left of the workers of its own: nobody needs them any more");
            self.gone.insert(tenant);
        } else {
            self.leaves_at.insert(tenant, now + LEAVE_AGAIN);
        }
    }

    /// Ends the loop that keeps a pool, and waits for its end: of two loops each would undo what the other does.
    async fn let_go(&mut self, tenant: &TenantId) {
        if let Some(mut kept) = self.kept.remove(tenant) {
            kept.keeper.shutdown().await;
        }
    }
}
