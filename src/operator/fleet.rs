//! The watch caches: every TenantSchedule and Connector of the watched namespaces, kept by `controller`, read by all.
//! Objects that this build cannot read are kept as such, so that one of them never stalls the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future};
use kube::{
    Resource as _,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::{mpsc, watch};

use super::world::{Kind, ObjectKey};
use crate::{
    crd::{
        Connector, TenantSchedule,
        conditions::{READY, reason},
    },
    ids::TenantId,
};

/// A namespace whose objects cannot be listed is waited for so long after the first that could.
const STRAGGLERS: Duration = Duration::from_secs(30);

/// An object as watched: read, or known to be unreadable.
pub type Watched<K> = DeserializeGuard<K>;

/// A wish to reconcile an object of some kind.
pub type Trigger<K> = mpsc::UnboundedSender<ObjectRef<Watched<K>>>;

/// The caches of one watched namespace, or of all.
#[derive(Clone)]
pub struct Scope {
    /// `None` = all namespaces.
    pub namespace: Option<String>,
    /// TenantSchedules.
    pub tenants: Store<Watched<TenantSchedule>>,
    /// Connectors.
    pub connectors: Store<Watched<Connector>>,
    /// Each true once its cache holds the first full list.
    pub listed: [watch::Receiver<bool>; 2],
    /// Each changes whenever an object of its cache comes or goes.
    pub population: [Arc<AtomicU64>; 2],
    /// Reconcile this TenantSchedule.
    pub trigger_tenant: Trigger<TenantSchedule>,
    /// Reconcile this Connector.
    pub trigger_connector: Trigger<Connector>,
}

impl Scope {
    async fn ready(&self) {
        for listed in &self.listed {
            // An error means that the watch has ended, and with it the process.
            let _ended = listed.clone().wait_for(|listed| *listed).await.is_err();
        }
    }
}

/// All caches.
#[derive(Clone, Default)]
pub struct Fleet {
    /// One for each watched namespace, or one for all.
    pub scopes: Vec<Scope>,
}

impl Fleet {
    /// Whether all objects of a namespace are in view: what is not seen there is not there.
    #[must_use]
    pub fn watches(&self, namespace: &str) -> bool {
        self.scope(namespace).is_some_and(|scope| scope.listed.iter().all(|listed| *listed.borrow()))
    }

    /// Waits until every cache holds the first full list. A namespace that may not be listed (deleted, with our rights in it)
    /// is not waited for much longer than the first one; `watches` tells that it is not in view.
    pub async fn ready(&self) {
        let each = || self.scopes.iter().map(|scope| scope.ready().boxed());
        let some = async {
            future::select_all(each()).await;
            tokio::time::sleep(STRAGGLERS).await;
        };
        tokio::select! {
            biased;
            _ = future::join_all(each()) => {}
            () = some => {}
        }
    }

    /// Waits until the caches of a namespace hold the first full list.
    pub async fn ready_in(&self, namespace: &str) {
        if let Some(scope) = self.scope(namespace) {
            scope.ready().await;
        }
    }

    /// The Connector of a name, if it is there and not being deleted.
    #[must_use]
    pub fn connector(&self, namespace: &str, name: &str) -> Option<Connector> {
        let reference = ObjectRef::<Watched<Connector>>::new(name).within(namespace);
        let found = self.scope(namespace)?.connectors.get(&reference)?;
        found.0.as_ref().ok().filter(|object| object.meta().deletion_timestamp.is_none()).cloned()
    }

    /// Whether there is an object of that name for that tenant; an unreadable one counts, since nobody can tell its tenant.
    #[must_use]
    pub fn has_connector(&self, namespace: &str, name: &str, tenant: &TenantId) -> bool {
        let reference = ObjectRef::<Watched<Connector>>::new(name).within(namespace);
        let object = self.scope(namespace).and_then(|scope| scope.connectors.get(&reference));
        object.is_some_and(|object| object.0.as_ref().map_or(true, |connector| connector.spec.tenant_id == *tenant))
    }

    /// The tenant of an object, being deleted or not: empty if it cannot be read, `None` if there is no such object.
    #[must_use]
    pub fn tenant_of(&self, kind: Kind, namespace: &str, name: &str) -> Option<String> {
        let scope = self.scope(namespace)?;
        match kind {
            Kind::TenantSchedule => {
                let object = scope.tenants.get(&ObjectRef::new(name).within(namespace))?;
                Some(object.0.as_ref().map(|of| of.spec.tenant_id.to_string()).unwrap_or_default())
            }
            Kind::Connector => {
                let object = scope.connectors.get(&ObjectRef::new(name).within(namespace))?;
                Some(object.0.as_ref().map(|of| of.spec.tenant_id.to_string()).unwrap_or_default())
            }
        }
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let of = |scope: &Scope| match kind {
            Kind::TenantSchedule => scope.tenants.len(),
            Kind::Connector => scope.connectors.len(),
        };
        self.scopes.iter().map(of).sum()
    }

    /// Changes whenever an object comes or goes.
    #[must_use]
    pub fn population(&self) -> u64 {
        self.scopes.iter().flat_map(|scope| &scope.population).map(|of| of.load(Ordering::Relaxed)).sum()
    }

    /// Every readable Connector.
    #[must_use]
    pub fn connectors(&self) -> Vec<Arc<Watched<Connector>>> {
        self.scopes.iter().flat_map(|scope| scope.connectors.state()).filter(|object| object.0.is_ok()).collect()
    }

    /// Every readable TenantSchedule.
    #[must_use]
    pub fn tenants(&self) -> Vec<Arc<Watched<TenantSchedule>>> {
        self.scopes.iter().flat_map(|scope| scope.tenants.state()).filter(|object| object.0.is_ok()).collect()
    }

    /// The tenant's TenantSchedule in a namespace, if one is there and not being deleted; of two not the one that lost.
    #[must_use]
    pub fn tenant(&self, namespace: &str, tenant: &TenantId) -> Option<TenantSchedule> {
        let of_tenant = |object: &Watched<TenantSchedule>| {
            object.meta().namespace.as_deref() == Some(namespace)
                && object.meta().deletion_timestamp.is_none()
                && object.0.as_ref().is_ok_and(|object| &object.spec.tenant_id == tenant)
        };
        let found = self.scope(namespace)?.tenants.state_filter(of_tenant);
        let readable = || found.iter().filter_map(|object| object.0.as_ref().ok());
        readable().find(|object| !is_loser(object)).or_else(|| readable().next()).cloned()
    }

    /// Whether a namespace has a TenantSchedule that cannot be read: it may be any tenant's.
    #[must_use]
    pub fn hides_a_tenant(&self, namespace: &str) -> bool {
        let unreadable = |object: &Watched<TenantSchedule>| {
            object.meta().namespace.as_deref() == Some(namespace) && object.0.is_err()
        };
        self.scope(namespace).is_some_and(|scope| !scope.tenants.state_filter(unreadable).is_empty())
    }

    /// Reconciles everything soon.
    pub fn trigger_all(&self) {
        for scope in &self.scopes {
            for object in scope.tenants.state() {
                let _closed = scope.trigger_tenant.send(ObjectRef::from_obj(&*object)).is_err();
            }
            for object in scope.connectors.state() {
                let _closed = scope.trigger_connector.send(ObjectRef::from_obj(&*object)).is_err();
            }
        }
    }

    /// Reconciles an object soon.
    pub fn trigger(&self, key: &ObjectKey) {
        let Some(scope) = self.scope(&key.namespace) else { return };
        // A closed queue means that the controller has ended, and with it the process.
        let _closed = match key.kind {
            Kind::TenantSchedule => {
                scope.trigger_tenant.send(ObjectRef::new(&key.name).within(&key.namespace)).is_err()
            }
            Kind::Connector => scope.trigger_connector.send(ObjectRef::new(&key.name).within(&key.namespace)).is_err(),
        };
    }

    /// Reconciles the tenant's Connectors of a namespace soon.
    pub fn trigger_connectors_of(&self, namespace: &str, tenant: &TenantId) {
        let Some(scope) = self.scope(namespace) else { return };
        let of_tenant = |object: &Watched<Connector>| {
            object.meta().namespace.as_deref() == Some(namespace)
                && object.0.as_ref().is_ok_and(|object| &object.spec.tenant_id == tenant)
        };
        for object in scope.connectors.state_filter(of_tenant) {
            let _closed = scope.trigger_connector.send(ObjectRef::from_obj(&*object)).is_err();
        }
    }

    fn scope(&self, namespace: &str) -> Option<&Scope> {
        self.scopes.iter().find(|scope| scope.namespace.as_deref().is_none_or(|watched| watched == namespace))
    }
}

/// Another TenantSchedule holds its tenant.
#[must_use]
pub fn is_loser(object: &TenantSchedule) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == READY && condition.reason == reason::TENANT_CONFLICT)
}
