//! The real world behind the seam: Kubernetes API, store and Temporal, each call with a deadline and no retries of its own
//! (a reconcile is repeated whole, with back-off). Decides nothing.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{DynamicObject, PartialObjectMeta},
    discovery::ApiResource,
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    cron_workflows::CronWorkflows,
    dependencies::Dependencies,
    error::{Dependency, Error},
    leadership::Leadership,
    pool_identity::PoolIdentities,
    status_part::leave_out_undeclared,
    worker_deployment::live::versions,
    world::{Answer, Kind, ObjectKey, Reply, Request, StatusPart, World},
};
use crate::{
    crd::{Connector, GROUP, SCHEDULE_FINALIZER, TenantSchedule, VERSION},
    metrics::{Metrics, StatusWrite},
    model::config::SecretFields,
    store::{self, Store},
    temporal::{self, Pacer, Temporal},
};

/// Deadline of one call to the API server; kube has none of its own, a hung one would hold an object for ever
/// (docs/facts.md, Kubernetes).
pub const KUBERNETES_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline of one call to the store: a server that is stopped answers nothing, and its connection stays.
pub const STORE_DEADLINE: Duration = Duration::from_secs(15);
/// Deadline of a call that removes many rows; above the store's own limit.
pub const STORE_BULK_DEADLINE: Duration = Duration::from_secs(300);

/// Told once a process.
static OLD_CRDS: Once = Once::new();

/// The connection to Temporal, or why there is none.
pub type TemporalSlot = watch::Receiver<Result<Temporal, temporal::Error>>;

/// The real world.
pub struct LiveWorld {
    /// The API server.
    pub client: Client,
    /// Whether we may act.
    pub leadership: Leadership,
    /// The store, as its leader.
    pub store: Arc<dyn Store>,
    /// Temporal, once connected and known to be ours.
    pub temporal: TemporalSlot,
    /// When Temporal may be asked.
    pub pacer: Arc<Pacer>,
    /// Cron workflows that still tick for tenants.
    pub cron_workflows: Arc<CronWorkflows>,
    /// Identities of tenants' own workers.
    pub pools: PoolIdentities,
    /// Told how every call went.
    pub dependencies: Dependencies,
    /// Counts status writes.
    pub metrics: Metrics,
}

#[async_trait]
impl World for LiveWorld {
    async fn call(&self, request: Request) -> Reply {
        // A reconcile that was at work when the leadership ended stops at its next call (R26).
        if !self.leadership.is_current() {
            return Err(Error::Store(store::Error::NotLeader));
        }
        let dependency = request.dependency();
        let reply = match (dependency, request) {
            (Dependency::Kubernetes, Request::Workers(request)) => self.deployments(request).await.map(Answer::Workers),
            (Dependency::Store, request) => self.store(request).await,
            (Dependency::Temporal, request) => self.temporal(request).await,
            (Dependency::Kubernetes, request) => self.kubernetes(request).await,
        };
        // Without a connection nothing was asked; the link itself tells why there is none.
        if dependency != Dependency::Temporal || self.temporal.borrow().is_ok() {
            self.dependencies.observe(dependency, &reply);
        }
        reply
    }
}

impl LiveWorld {
    async fn store(&self, request: Request) -> Reply {
        let store = &self.store;
        let answer = async {
            Ok(match request {
                Request::PutTenant(tenant) => Answer::Claim(store.put_tenant(&tenant).await?),
                Request::TenantClaim(tenant) => Answer::Claimant(store.tenant_claim(&tenant).await?),
                Request::PutConnector(connector) => Answer::Connector(Box::new(store.put_connector(&connector).await?)),
                Request::RecordTenantTokens(tenant, uid, tokens) => {
                    Answer::Recorded(store.record_tenant_tokens(&tenant, &uid, &tokens).await?)
                }
                Request::RemoveTenant(tenant, owner) => {
                    store.remove_tenant(&tenant, &owner).await?;
                    Answer::Done
                }
                Request::RemoveConnector(tenant, connector, uid) => {
                    store.remove_connector(&tenant, &connector, &uid).await?;
                    Answer::Done
                }
                _ => unreachable!("`call` sends requests of the store only"),
            })
        };
        let answer = store_deadline(STORE_DEADLINE, answer).await;
        self.leadership.heed(&answer);
        answer.map_err(Error::Store)
    }

    async fn temporal(&self, request: Request) -> Reply {
        let temporal = self.temporal.borrow().clone().map_err(Error::Temporal)?;
        self.pacer.turn().await;
        let answer = async {
            Ok(match request {
                Request::DescribeSchedule(id) => Answer::Schedule(temporal.describe_schedule(&id).await?.map(Box::new)),
                Request::CreateSchedule(wanted) => Answer::Started(temporal.create_schedule(&wanted).await?),
                Request::UpdateSchedule(update) => {
                    temporal.update_schedule(&update).await?;
                    Answer::Done
                }
                Request::DeleteSchedule(id) => {
                    temporal.delete_schedule(&id).await?;
                    Answer::Done
                }
                Request::LeaveSchedule(id, conflict_token) => {
                    temporal.leave_schedule(&id, &conflict_token).await?;
                    Answer::Done
                }
                Request::BackfillSchedule(backfill) => {
                    temporal.backfill_schedule(&backfill).await?;
                    Answer::Done
                }
                Request::FindCronWorkflow(tenant) => {
                    Answer::CronWorkflow(self.cron_workflows.find(&temporal, &tenant).await?.map(Box::new))
                }
                Request::TerminateCron(cron) => Answer::Ended(temporal.terminate_cron(&cron).await?),
                Request::ListSchedules => Answer::Schedules(temporal.list_schedules().await?),
                Request::StartWorkflow(start) => Answer::Started(
                    temporal.start_workflow(start.workflow_type, &start.workflow_id, &start.input, start.reuse).await?,
                ),
                Request::Workers(request) => Answer::Workers(versions(&temporal, request).await?),
                _ => unreachable!("`call` sends requests of Temporal only"),
            })
        };
        let answer: Result<_, temporal::Error> = answer.await;
        if matches!(answer, Err(temporal::Error::RateLimited { .. })) {
            self.pacer.slow_down();
        }
        answer.map_err(Error::Temporal)
    }

    async fn kubernetes(&self, request: Request) -> Reply {
        match request {
            Request::GetSecret { namespace, name } => self.secret(&namespace, &name).await,
            Request::TenantOf(kind, namespace, name) => self.tenant_of(kind, &namespace, &name).await,
            Request::EnsurePool(tenant) => self.pools.sealer(&tenant).await.map(Answer::Recipient),
            Request::AddFinalizer(key) => self.finalizer(&key, true).await,
            Request::RemoveFinalizer(key) => self.finalizer(&key, false).await,
            Request::ApplyStatus(key, part) => self.apply_status(&key, part).await,
            _ => unreachable!("`call` sends requests of Kubernetes only"),
        }
    }

    async fn secret(&self, namespace: &str, name: &str) -> Reply {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = deadline("get a Secret", api.get_opt(name)).await?;
        Ok(Answer::Secret(found.map(|secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            let text = data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)));
            SecretFields(text.collect())
        })))
    }

    /// Reads the object afresh, so that a stale cache cannot undo another writer's finalizers.
    async fn finalizer(&self, key: &ObjectKey, wanted: bool) -> Reply {
        let api = self.objects(key.kind, &key.namespace);
        let found: Option<PartialObjectMeta<DynamicObject>> =
            deadline("get an object", api.get_metadata_opt(&key.name)).await?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(&key.uid)) else {
            return if wanted { Err(Error::gone("add a finalizer")) } else { Ok(Answer::Done) };
        };
        let mut finalizers = found.metadata.finalizers.unwrap_or_default();
        if finalizers.iter().any(|name| name == SCHEDULE_FINALIZER) == wanted {
            return Ok(Answer::Done);
        }
        if wanted {
            finalizers.push(SCHEDULE_FINALIZER.to_owned());
        } else {
            finalizers.retain(|name| name != SCHEDULE_FINALIZER);
        }
        let metadata = json!({"finalizers": finalizers, "resourceVersion": found.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        deadline("patch finalizers", api.patch(&key.name, &PatchParams::default(), &patch)).await?;
        Ok(Answer::Done)
    }

    async fn apply_status(&self, key: &ObjectKey, part: StatusPart) -> Reply {
        let mut patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": key.kind.name(),
            // A uid would say nothing: the API server takes a status whatever the metadata beside it.
            "metadata": {"name": key.name},
            "status": part.fields,
        });
        self.metrics.status_writes.get_or_create(&StatusWrite { manager: part.manager }).inc();
        let params = PatchParams::apply(part.manager).force();
        let api = self.objects(key.kind, &key.namespace);
        // A refusal names one or a few of the fields that are too many.
        let applied = async {
            loop {
                let answer = api.patch_status(&key.name, &params, &Patch::Apply(&patch)).await;
                match answer {
                    Err(kube::Error::Api(refusal)) if leave_out_undeclared(&mut patch, &refusal.message) => {
                        OLD_CRDS.call_once(|| {
                            tracing::warn!("the CRDs are of an earlier release; statuses lack what they do not declare: `kubectl apply -f crds/`");
                        });
                    }
                    answer => return answer,
                }
            }
        };
        deadline("apply status", applied).await?;
        Ok(Answer::Done)
    }

    async fn tenant_of(&self, kind: Kind, namespace: &str, name: &str) -> Reply {
        let found = deadline("get an object", self.objects(kind, namespace).get_opt(name)).await?;
        let tenant = |object: DynamicObject| object.data["spec"]["tenantId"].as_str().unwrap_or_default().to_owned();
        Ok(Answer::Tenant(found.map(tenant)))
    }

    fn objects(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = match kind {
            Kind::TenantSchedule => ApiResource::erase::<TenantSchedule>(&()),
            Kind::Connector => ApiResource::erase::<Connector>(&()),
        };
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }
}

/// Awaits a call to the store, at most so long.
///
/// # Errors
/// The store's; `Unavailable` when it does not answer.
pub async fn store_deadline<T>(
    within: Duration,
    answer: impl Future<Output = Result<T, store::Error>>,
) -> Result<T, store::Error> {
    let late = store::Error::Unavailable { attempted: "answer", code: "deadline".to_owned() };
    tokio::time::timeout(within, answer).await.unwrap_or(Err(late))
}

/// Awaits a call to the API server with our deadline.
///
/// # Errors
/// As the server answers; `deadline` when it does not.
pub async fn deadline<T>(
    attempted: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(KUBERNETES_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(|error| Error::kubernetes(attempted, &error)),
        Err(_) => Err(Error::deadline(attempted)),
    }
}
