//! Identities of dedicated pools: each made once, in a Secret that its key names, and its recipient published in the
//! ConfigMap beside the shared one's. The Secret comes first, so whatever the ConfigMap names can be opened by somebody,
//! and the operator never reads an identity back. Nothing deletes one: a credential in Git may still be sealed to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    error::Error,
    identity::{IDENTITY_KEY, IDENTITY_SECRET, RECIPIENT_CONFIG_MAP, named},
    live_world::deadline,
};
use crate::{
    crd::TENANT_LABEL,
    credentials::{Sealer, recipient_name, seal::generate_identity},
    error_class::Class,
    ids::TenantId,
};

/// Digits of the key id in a Secret's name.
const KEY_DIGITS: usize = 8;

/// The recipients of dedicated pools, remembered once known: they never change.
pub struct PoolIdentities {
    client: Client,
    namespace: String,
    /// The shared pool's recipient where it is given, and so not published yet.
    given: Option<String>,
    known: Mutex<HashMap<TenantId, Sealer>>,
}

impl PoolIdentities {
    /// In the operator's namespace. Beside them stands the shared pool's recipient: the `given` one, or the one that is there.
    #[must_use]
    pub fn new(client: Client, namespace: String, given: Option<String>) -> Self {
        Self { client, namespace, given, known: Mutex::default() }
    }

    /// The sealer for a tenant's own workers; makes their identity where there is none.
    ///
    /// # Errors
    /// As the API server answers; `Conflict` when somebody else changed the ConfigMap meanwhile.
    ///
    /// # Idempotency
    /// By the tenant's entry in the ConfigMap. A crash before it is written leaves a Secret that nobody uses.
    pub async fn sealer(&self, tenant: &TenantId) -> Result<Sealer, Error> {
        if let Some(known) = self.lock().get(tenant) {
            return Ok(known.clone());
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = deadline("get the recipients' ConfigMap", maps.get_opt(RECIPIENT_CONFIG_MAP)).await?;
        let entry = recipient_name(Some(tenant));
        let published = |name: &str| found.as_ref().and_then(|map| map.data.as_ref()?.get(name)).cloned();
        let is_stale = self.given.is_some() && self.given != published(&recipient_name(None));
        let recipient = match published(&entry) {
            Some(recipient) if !is_stale => recipient,
            former => {
                let recipient = match former {
                    Some(recipient) => recipient,
                    None => self.make(tenant).await?,
                };
                self.publish(&maps, found, entry, recipient.clone()).await?;
                recipient
            }
        };
        let sealer = Sealer::new(&recipient).map_err(|_| Error::Kubernetes {
            attempted: "give a usable recipient",
            code: "not an age recipient".to_owned(),
            class: Class::Invalid,
        })?;
        self.lock().insert(tenant.clone(), sealer.clone());
        Ok(sealer)
    }

    async fn make(&self, tenant: &TenantId) -> Result<String, Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let (identity, recipient) = generate_identity();
        let sealer = Sealer::new(&recipient).expect("just made");
        let name = secret_name(tenant, &sealer);
        let secret = Secret {
            metadata: of_tenant(named(&name), tenant),
            string_data: Some(BTreeMap::from([(
                IDENTITY_KEY.to_owned(),
                format!("# recipient: {recipient}\n{identity}\n"),
            )])),
            ..Secret::default()
        };
        deadline("create a pool's identity Secret", secrets.create(&PostParams::default(), &secret)).await?;
        tracing::info!(%tenant, secret = name, recipient, "made the identity of a tenant's own workers");
        Ok(recipient)
    }

    async fn publish(
        &self,
        maps: &Api<ConfigMap>,
        found: Option<ConfigMap>,
        entry: String,
        recipient: String,
    ) -> Result<(), Error> {
        // With the shared one where that is given: `reseal` reads both.
        let given = self.given.clone().map(|given| (recipient_name(None), given));
        let data: BTreeMap<_, _> = given.into_iter().chain([(entry, recipient)]).collect();
        let Some(found) = found else {
            let map = ConfigMap { metadata: named(RECIPIENT_CONFIG_MAP), data: Some(data), ..ConfigMap::default() };
            let params = PostParams::default();
            return deadline("create the recipients' ConfigMap", maps.create(&params, &map)).await.map(drop);
        };
        let metadata = json!({"resourceVersion": found.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "data": data}));
        let params = PatchParams::default();
        deadline("patch the recipients' ConfigMap", maps.patch(RECIPIENT_CONFIG_MAP, &params, &patch)).await.map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Sealer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Secret that a tenant's own workers mount.
#[must_use]
pub fn secret_name(tenant: &TenantId, sealer: &Sealer) -> String {
    let key_id = sealer.key_id();
    format!("{IDENTITY_SECRET}-{tenant}-{}", key_id.get(..KEY_DIGITS).unwrap_or(key_id))
}

fn of_tenant(mut metadata: ObjectMeta, tenant: &TenantId) -> ObjectMeta {
    metadata.labels.get_or_insert_default().insert(TENANT_LABEL.to_owned(), tenant.to_string());
    metadata
}
