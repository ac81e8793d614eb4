//! What must be there before the controllers start: store, leadership, CRDs, installation id, recipient. Each is waited for
//! and said so once; nothing here is needed again later.

use std::{sync::Arc, time::Duration};

use kube::{Api, Client, api::ListParams, core::PartialObjectMeta};

use super::{
    dependencies::Dependencies,
    error::{Dependency, Error},
    identity,
    live_world::{STORE_DEADLINE, deadline, store_deadline},
};
use crate::{
    crd::{Connector, GROUP, TenantSchedule, VERSION},
    credentials::Sealer,
    error_class::Class,
    key_files::KeyFiles,
    metrics::Metrics,
    settings::OperatorSettings,
    store::{self, Store},
};

/// Between two attempts at what is not there yet.
const RETRY: Duration = Duration::from_secs(2);

/// Opens the store, waiting for it.
///
/// # Errors
/// Only what waiting does not mend (the URL).
pub async fn store(
    settings: &OperatorSettings,
    key_files: &KeyFiles,
    dependencies: &Dependencies,
) -> Result<Arc<dyn Store>, store::Error> {
    loop {
        match store::open_with(&settings.store, key_files).await {
            Err(error) if error.class() == Class::Transient => {
                dependencies.down(Dependency::Store, &Error::Store(error));
            }
            Ok(store) => {
                // A standby is ready: a rollout waits for it before it ends the leader.
                dependencies.observe(Dependency::Store, &Ok(()));
                return Ok(store);
            }
            refused => return refused,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Brings the schema to this build's version and reads the installation id, waiting for the store. For the leader only.
///
/// # Errors
/// What waiting does not mend: a schema that is newer than this build, a refused migration.
pub async fn migrated(store: &dyn Store, dependencies: &Dependencies) -> Result<String, store::Error> {
    loop {
        let answer = match store.migrate().await {
            Ok(()) => store.installation_id().await,
            Err(error) => Err(error),
        };
        dependencies.observe(Dependency::Store, &answer.clone().map_err(Error::Store));
        match answer {
            Err(error) if error.class() == Class::Transient => tracing::debug!(%error, "waiting for the store"),
            settled => return settled,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes the leadership in the store, waiting for it. The handle returned is refused once somebody else has done the same.
///
/// # Errors
/// What waiting does not mend.
pub async fn leading(store: &dyn Store, of: &str, dependencies: &Dependencies) -> Result<Arc<dyn Store>, store::Error> {
    loop {
        let taken = store_deadline(STORE_DEADLINE, store.take_leadership(of)).await;
        dependencies.observe(Dependency::Store, &taken.as_ref().map(drop).map_err(|error| Error::Store(error.clone())));
        match taken {
            Err(error) if error.class() == Class::Transient => tracing::debug!(%error, "waiting for the store"),
            settled => return settled,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Waits until the API server serves both CRDs. One watched namespace that may not be read holds up no other: its watch is
/// tried until it may, and till then what is asked for there stands as it is.
pub async fn crds(client: &Client, namespace: Option<&str>, dependencies: &Dependencies, metrics: &Metrics) {
    let mut told = false;
    loop {
        let served = async {
            served::<TenantSchedule>(client, namespace).await?;
            served::<Connector>(client, namespace).await
        };
        let served = served.await;
        let missing = matches!(&served, Err(error) if error.class() == Class::Conflict);
        if missing {
            dependencies.lacks(Dependency::Kubernetes, format!("CRDs of {GROUP}/{VERSION} are not installed"));
        } else {
            dependencies.observe(Dependency::Kubernetes, &served);
        }
        metrics.crd_missing.set(i64::from(missing));
        match served {
            Ok(()) => return,
            Err(error) if namespace.is_some() && error.class() == Class::Unauthorised => {
                let namespace = namespace.unwrap_or_default();
                tracing::warn!(namespace, %error, "may not be watched: check that it exists, and the operator's Role in it");
                return;
            }
            Err(error) if !told => {
                told = true;
                if missing {
                    tracing::warn!(
                        "CRDs of {GROUP}/{VERSION} are not installed; waiting: `kubectl apply -f crds/`, or the chart with crds.enabled"
                    );
                } else {
                    tracing::warn!(%error, "cannot list {GROUP}/{VERSION} yet; waiting");
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn served<K>(client: &Client, namespace: Option<&str>) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    deadline("list objects", api.list_metadata(&ListParams::default().limit(1))).await.map(drop)
}

/// The sealer for the workers' recipient, waiting for the API server.
///
/// # Errors
/// What waiting does not mend: a recipient that is none, missing rights.
pub async fn sealer(
    client: &Client,
    settings: &OperatorSettings,
    dependencies: &Dependencies,
) -> Result<Sealer, Error> {
    loop {
        let sealer = identity::sealer(client, &settings.namespace, settings.recipient.as_deref()).await;
        dependencies.observe(Dependency::Kubernetes, &sealer);
        match sealer {
            Err(error) if error.is_outage() => tracing::warn!(%error, "cannot find the workers' recipient yet"),
            settled => return settled,
        }
        tokio::time::sleep(RETRY).await;
    }
}
