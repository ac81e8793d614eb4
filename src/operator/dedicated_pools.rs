//! Keeps a Deployment for each tenant that has workers of its own, tells whether its pods are ready, and takes it away some
//! time after nobody needs it. Who has a pool is decided by the store (`put_tenant`); how its pods look, by `dedicated`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use tokio::{sync::watch, time::Instant};

use super::{
    context::Context,
    error::{Dependency, Error},
    live_world::{STORE_DEADLINE, deadline, store_deadline},
    pool_identity::secret_name,
    worker_deployment::{dedicated, status::Availability},
};
use crate::{
    crd::{TENANT_LABEL, WorkersSpec},
    error_class::Class,
    ids::TenantId,
    metrics::Reconcile,
    store::DedicatedPool,
};

/// Field manager.
const MANAGER: &str = "gtmclarity-operator/dedicated-pool";
/// How often pools and their pods are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A round beats before each of its calls, of which the store's is the longest.
const BEAT: Duration = Duration::from_secs(30);

/// What is known of dedicated pools, by tenant.
pub type Availabilities = BTreeMap<TenantId, Availability>;

/// The loop's state.
struct Pools {
    template: Deployment,
    api: Api<Deployment>,
    grace: Duration,
    /// What was last applied, and when.
    applied: HashMap<TenantId, (u64, Instant)>,
    /// Since when a Deployment that stands is not needed.
    idle_since: HashMap<TenantId, Instant>,
}

/// Runs until the process ends. `template` is the shared pool's Deployment.
pub async fn keep(
    template: Deployment,
    namespace: String,
    grace: Duration,
    availabilities: watch::Sender<Availabilities>,
    context: Arc<Context>,
) {
    context.fleet.ready().await;
    let api = Api::namespaced(context.world.client.clone(), &namespace);
    let mut pools = Pools { template, api, grace, applied: HashMap::new(), idle_since: HashMap::new() };
    let pulse = context.liveness.pulse("dedicated pools", BEAT);
    loop {
        pulse.beat();
        if context.world.leadership.is_current() {
            match pools.round(&context, || pulse.beat()).await {
                Ok(now) => {
                    availabilities.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
                }
                Err(error) => tracing::debug!(%error, "dedicated pools not looked at"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Pools {
    async fn round(&mut self, context: &Context, beat: impl Fn()) -> Result<Availabilities, Error> {
        let cluster_id = &context.installation.cluster_id;
        let wanted = store_deadline(STORE_DEADLINE, context.store.dedicated_pools(cluster_id)).await;
        let wanted = wanted.map_err(Error::Store)?;
        beat();
        let mut standing = self.standing(context).await?;
        let mut availabilities = Availabilities::new();
        for pool in wanted {
            beat();
            let stands = standing.remove(&pool.tenant_id);
            if pool.needed {
                self.idle_since.remove(&pool.tenant_id);
                let availability = self.stand(&pool, stands, context).await;
                availabilities.insert(pool.tenant_id, availability);
            } else if let Some(stands) = stands {
                self.leave(&pool.tenant_id, &stands, context).await;
            }
        }
        // Of a tenant that the store does not know: it was restored, or the claim was moved.
        for (tenant, stands) in standing {
            beat();
            self.leave(&tenant, &stands, context).await;
        }
        Ok(availabilities)
    }

    async fn standing(&self, context: &Context) -> Result<HashMap<TenantId, Deployment>, Error> {
        let params = ListParams::default().labels(TENANT_LABEL);
        let listed = deadline("list dedicated pools", self.api.list(&params)).await;
        context.dependencies.observe(Dependency::Kubernetes, &listed);
        let by_tenant = listed?.items.into_iter().filter_map(|deployment| {
            let tenant: TenantId = deployment.labels().get(TENANT_LABEL)?.parse().ok()?;
            let is_ours = deployment.name_any() == dedicated::name(&self.template, &tenant);
            is_ours.then_some((tenant, deployment))
        });
        Ok(by_tenant.collect())
    }

    /// Applies the pool's Deployment where it is not as it should be, and tells of its pods.
    async fn stand(&mut self, pool: &DedicatedPool, stands: Option<Deployment>, context: &Context) -> Availability {
        let before = Availability::of(stands.as_ref());
        let object = context.fleet.tenant(&pool.owner.namespace, &pool.tenant_id);
        let workers = match object.map(|object| object.spec.workers) {
            Some(workers) if workers.is_dedicated() => workers,
            // It has left, or cannot be seen now: the pods that are there go on as they are.
            _ if stands.is_some() => return before,
            _ => WorkersSpec::default(),
        };
        let wanted = match self.wanted(&pool.tenant_id, &workers, context).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::warn!(tenant = %pool.tenant_id, error, "a dedicated pool was not built; it is tried again");
                return before;
            }
        };
        let hash = xxhash_rust::xxh3::xxh3_64(&serde_json::to_vec(&wanted).unwrap_or_default());
        let is_recent = |(applied, at): &(u64, Instant)| *applied == hash && at.elapsed() < context.resync;
        if stands.is_some() && self.applied.get(&pool.tenant_id).is_some_and(is_recent) {
            return before;
        }
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&wanted);
        let applied = deadline("apply a dedicated pool", self.api.patch(&wanted.name_any(), &params, &patch)).await;
        count(&applied, context);
        match applied {
            Ok(applied) => {
                self.applied.insert(pool.tenant_id.clone(), (hash, Instant::now()));
                Availability::of(Some(&applied))
            }
            Err(error) if error.class() == Class::Invalid => Availability::Refused,
            Err(_) => before,
        }
    }

    async fn wanted(&self, tenant: &TenantId, workers: &WorkersSpec, context: &Context) -> Result<Deployment, String> {
        let sealer = context.world.pools.sealer(tenant).await.map_err(|error| error.to_string())?;
        let secret = secret_name(tenant, &sealer);
        dedicated::deployment(&self.template, tenant, &secret, workers).map_err(|error| error.to_string())
    }

    /// Takes a pool away when it was not needed for the grace: by then its sessions have ended, and what is left in its queue
    /// goes back to where it came from (`DEDICATED_START_TIMEOUT`).
    async fn leave(&mut self, tenant: &TenantId, stands: &Deployment, context: &Context) {
        let since = *self.idle_since.entry(tenant.clone()).or_insert_with(Instant::now);
        if since.elapsed() < self.grace {
            return;
        }
        let preconditions = Preconditions { uid: stands.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let deleted = deadline("delete a dedicated pool", self.api.delete(&stands.name_any(), &params)).await;
        context.dependencies.observe(Dependency::Kubernetes, &deleted);
        match deleted {
            Ok(_) => {
                tracing::info!(%tenant, "its own workers are taken away: nobody needs them any more");
                self.applied.remove(tenant);
                self.idle_since.remove(tenant);
            }
            Err(error) => tracing::warn!(%tenant, %error, "a dedicated pool was not taken away; it is tried again"),
        }
    }
}

fn count(applied: &Result<Deployment, Error>, context: &Context) {
    context.dependencies.observe(Dependency::Kubernetes, applied);
    let result = applied.as_ref().err().map_or("Success", |error| error.class().name());
    context.metrics.reconciles.get_or_create(&Reconcile { kind: "WorkerDeployment", result }).inc();
    if let Err(error) = applied {
        tracing::warn!(%error, "a dedicated pool was not applied; it is tried again");
    }
}
