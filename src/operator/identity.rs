//! The workers' recipient: given, or made on first start as Secret `gtm-sync-identity` (for workers) and ConfigMap
//! `gtm-sync-recipient` (for everybody). The operator writes the identity once and never reads it back; it follows the
//! recipient, so that a new key needs no restart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use tokio::sync::watch;

use super::{
    connector::Vault,
    context::Context,
    error::{Dependency, Error},
    live_world::deadline,
};
use crate::{
    credentials::{Sealer, seal::generate_identity},
    error_class::Class,
};

/// The ConfigMap that `gtm-sync seal` reads.
pub const RECIPIENT_CONFIG_MAP: &str = "gtm-sync-recipient";
/// Its key.
pub const RECIPIENT_KEY: &str = "recipient";
/// The Secret that workers mount.
pub const IDENTITY_SECRET: &str = "gtm-sync-identity";
/// Its key: an identity file, one `AGE-SECRET-KEY-1…` a line.
pub const IDENTITY_KEY: &str = "identity";
/// The recipient beside the identity, so that a crash between the two objects loses nothing and nobody need read the key.
const RECIPIENT_ANNOTATION: &str = "sync.gtmclarity.io/recipient";

/// The sealer for the configured recipient, or the one in the cluster, made where there is none.
///
/// # Errors
/// `Invalid` when a recipient is not one; as the API server answers.
///
/// # Idempotency
/// By the objects' names: of two first operators the slower one takes what the faster one made.
pub async fn sealer(client: &Client, namespace: &str, configured: Option<&str>) -> Result<Sealer, Error> {
    let recipient = match configured {
        Some(recipient) => recipient.to_owned(),
        None => published(client, namespace).await?,
    };
    Sealer::new(&recipient).map_err(|_| Error::Kubernetes {
        attempted: "give a usable recipient",
        code: "not an age recipient".to_owned(),
        class: Class::Invalid,
    })
}

/// Between two looks at the recipient. Whoever changes it does so once a year.
const LOOK: Duration = Duration::from_secs(30);

/// Follows the recipient: after a change every Connector is looked at, and so its credential sealed again.
pub async fn keep(client: Client, namespace: String, vault: watch::Sender<Vault>, context: Arc<Context>) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let found = sealer(&client, &namespace, None).await;
        context.dependencies.observe(Dependency::Kubernetes, &found);
        match found {
            Ok(sealer) if sealer.key_id() != vault.borrow().sealer.key_id() => {
                tracing::info!(key = sealer.key_id(), "another recipient; credentials are sealed again");
                vault.send_modify(|vault| *vault = vault.for_recipient(sealer));
                context.fleet.trigger_all();
            }
            Err(error) if !error.is_outage() && told.as_ref() != Some(&error) => {
                tracing::error!(%error, "the former recipient stays in use");
                told = Some(error);
            }
            _ => {}
        }
    }
}

async fn published(client: &Client, namespace: &str) -> Result<String, Error> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = deadline("get the recipient's ConfigMap", config_maps.get_opt(RECIPIENT_CONFIG_MAP)).await?;
    if let Some(recipient) = found.and_then(|map| map.data?.remove(RECIPIENT_KEY)) {
        return Ok(recipient);
    }
    let recipient = identity(client, namespace).await?;
    let map = ConfigMap {
        metadata: named(RECIPIENT_CONFIG_MAP),
        data: Some(BTreeMap::from([(RECIPIENT_KEY.to_owned(), recipient.clone())])),
        ..ConfigMap::default()
    };
    match deadline("create the recipient's ConfigMap", config_maps.create(&PostParams::default(), &map)).await {
        // Somebody was faster, from the same Secret.
        Err(error) if error.class() != Class::Conflict => Err(error),
        _ => Ok(recipient),
    }
}

/// Creates the identity Secret, or reads the recipient beside one that exists: its metadata only.
async fn identity(client: &Client, namespace: &str) -> Result<String, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let (identity, recipient) = generate_identity();
    let mut metadata = named(IDENTITY_SECRET);
    metadata.annotations = Some(BTreeMap::from([(RECIPIENT_ANNOTATION.to_owned(), recipient.clone())]));
    let secret = Secret {
        metadata,
        string_data: Some(BTreeMap::from([(
            IDENTITY_KEY.to_owned(),
            format!("# recipient: {recipient}\n{identity}\n"),
        )])),
        ..Secret::default()
    };
    match deadline("create the identity Secret", secrets.create(&PostParams::default(), &secret)).await {
        Ok(_) => {
            tracing::info!(secret = IDENTITY_SECRET, recipient, "made the workers' identity");
            return Ok(recipient);
        }
        Err(error) if error.class() == Class::Conflict => {}
        Err(error) => return Err(error),
    }
    let found = deadline("get the identity Secret's metadata", secrets.get_metadata(IDENTITY_SECRET)).await?;
    found.annotations().get(RECIPIENT_ANNOTATION).cloned().ok_or(Error::Kubernetes {
        attempted: "name the recipient of Secret gtm-sync-identity; set --recipient",
        code: "annotation missing".to_owned(),
        class: Class::Invalid,
    })
}

pub(super) fn named(name: &str) -> ObjectMeta {
    let managed = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "gtmclarity-operator".to_owned())]);
    ObjectMeta { name: Some(name.to_owned()), labels: Some(managed), ..ObjectMeta::default() }
}
