//! From the shared workers' pool to that of one tenant's own workers (R22). Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar, PodSpec, ResourceRequirements, Toleration},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;

use super::{
    leave::Leaving,
    pool::{Error, NAME_LENGTH, POOL_LABEL, Pool, Replicas, SHARED, worker_container, worker_deployment},
};
use crate::{
    contract::dedicated_queue,
    crd::{ResourceAmounts, TENANT_LABEL, WorkerToleration, WorkersSpec},
    ids::TenantId,
    operator::names::Installation,
};

/// The template's volume with the identity file.
const IDENTITY_VOLUME: &str = "identity";

/// Before the id of the tenant that is called as the shared pool.
const APART: &str = "tenant_";

/// Name of a tenant's pool: the tenant's id, but for the tenant that is called as the shared pool. No id has an underscore.
#[must_use]
pub fn name(tenant: &TenantId) -> String {
    if tenant.as_str() == SHARED { format!("{APART}{tenant}") } else { tenant.to_string() }
}

/// Whose pool it is; `None` for the shared one.
#[must_use]
pub fn tenant_of(pool: &str) -> Option<TenantId> {
    let tenant = pool.strip_prefix(APART).unwrap_or(pool);
    tenant.parse().ok().filter(|_| pool != SHARED)
}

/// What leaves of a tenant's pool.
#[must_use]
pub fn leaving(shared: &Pool, tenant: &TenantId, installation: &Installation) -> Leaving {
    let labels = BTreeMap::from([(POOL_LABEL.to_owned(), name(tenant))]);
    let namespace = shared.template.namespace().unwrap_or_default();
    Leaving { namespace, labels, deployment: worker_deployment(&name(tenant), installation) }
}

/// The pool of a tenant's own workers: the shared one's template under another name, with the tenant's label on all that
/// selects, its identity in place of the shared one, and what its spec overrides.
///
/// # Errors
/// `Lacks` when the template has no volume `identity` made of a Secret: its pods would hold the shared identity.
pub fn pool(shared: &Pool, tenant: &TenantId, identity_secret: &str, workers: &WorkersSpec) -> Result<Pool, Error> {
    let replicas = workers.replicas.unwrap_or(1);
    Ok(Pool {
        name: name(tenant),
        queue: dedicated_queue(tenant),
        template: template(&shared.template, tenant, identity_secret, workers)?,
        replicas: Replicas::Between { least: replicas, most: replicas },
    })
}

fn template(
    shared: &Deployment,
    tenant: &TenantId,
    identity_secret: &str,
    workers: &WorkersSpec,
) -> Result<Deployment, Error> {
    let mut template = shared.clone();
    // Cut, it may be another tenant's, too: the build that follows it is of this pool alone.
    let name: String = format!("{}-{tenant}", shared.name_any()).chars().take(NAME_LENGTH).collect();
    template.metadata.name = Some(name.trim_end_matches('-').to_owned());
    template.labels_mut().insert(TENANT_LABEL.to_owned(), tenant.to_string());
    let spec = template.spec.as_mut().ok_or(Error::Lacks("spec"))?;
    spec.replicas = None;
    let labels = [&mut spec.selector.match_labels, &mut spec.template.metadata.get_or_insert_default().labels];
    for labels in labels {
        labels.get_or_insert_default().insert(TENANT_LABEL.to_owned(), tenant.to_string());
    }
    let pod = spec.template.spec.as_mut().ok_or(Error::Lacks("a pod"))?;
    mount(pod, identity_secret)?;
    if let Some(selector) = &workers.node_selector {
        pod.node_selector = Some(selector.clone());
    }
    if let Some(tolerations) = &workers.tolerations {
        pod.tolerations = Some(tolerations.iter().map(toleration).collect());
    }
    let container = worker_container(&mut pod.containers)?;
    serve(container, tenant);
    if let Some(resources) = &workers.resources {
        container.resources = Some(ResourceRequirements {
            requests: resources.requests.as_ref().map(amounts),
            limits: resources.limits.as_ref().map(amounts),
            ..ResourceRequirements::default()
        });
    }
    Ok(template)
}

fn mount(pod: &mut PodSpec, identity_secret: &str) -> Result<(), Error> {
    let volumes = pod.volumes.iter_mut().flatten();
    let secret = volumes.filter(|volume| volume.name == IDENTITY_VOLUME).find_map(|volume| volume.secret.as_mut());
    secret.ok_or(Error::Lacks("a volume `identity` made of a Secret"))?.secret_name = Some(identity_secret.to_owned());
    Ok(())
}

/// Whom it serves, and that there is nobody to share with (`WorkerSettings`).
fn serve(container: &mut Container, tenant: &TenantId) {
    let variables = container.env.get_or_insert_default();
    for (name, value) in [("GTM_POOL", tenant.as_str()), ("GTM_TENANT_SYNCS", "0")] {
        variables.retain(|variable| variable.name != name);
        variables.push(EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None });
    }
}

fn amounts(amounts: &ResourceAmounts) -> BTreeMap<String, Quantity> {
    let named = [("cpu", &amounts.cpu), ("memory", &amounts.memory)];
    named.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount.clone()?)))).collect()
}

fn toleration(toleration: &WorkerToleration) -> Toleration {
    Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(format!("{:?}", toleration.operator)),
        value: toleration.value.clone(),
        effect: toleration.effect.map(|effect| format!("{effect:?}")),
        toleration_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::worker_deployment::pool::{BUILD_LABEL, Wanted};

    const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: gtm-sync-worker}
spec:
  replicas: 3
  selector: {matchLabels: {app: w}}
  template:
    metadata: {labels: {app: w}}
    spec:
      nodeSelector: {disk: fast}
      containers:
        - {name: proxy, image: p}
        - name: worker
          image: x
          env: [{name: GTM_LOG, value: info}, {name: GTM_TENANT_SYNCS, value: '2'}]
          resources: {requests: {cpu: 100m}, limits: {memory: 512Mi}}
      volumes: [{name: identity, secret: {secretName: gtm-sync-identity}}]
";

    fn of(template: &str, tenant: &str, workers: Value) -> Result<Wanted, Error> {
        let shared = Pool::shared(template, "gtm-sync", false, None)?;
        let workers = serde_json::from_value(workers).expect("a spec");
        let pool = pool(&shared, &tenant.parse().expect("id"), "their-identity", &workers)?;
        Wanted::of(&pool, &Installation::new("i".to_owned(), None))
    }

    fn built(workers: Value) -> (Wanted, Value) {
        let wanted = of(TEMPLATE, "acme", workers).expect("a build");
        let deployment = serde_json::to_value(&wanted.deployment).expect("JSON");
        (wanted, deployment)
    }

    #[test]
    fn a_tenants_workers_have_their_own_name_labels_identity_queue_and_versions() {
        let (wanted, built) = built(json!({"mode": "Dedicated"}));
        let build = &wanted.version.build;
        assert_eq!(built["metadata"]["name"], format!("gtm-sync-worker-acme-{build}"));
        assert_eq!(built["metadata"]["namespace"], "gtm-sync");
        assert_eq!(
            (wanted.version.deployment.as_str(), wanted.queue.as_str()),
            ("gtm-sync-acme-i", "connector-sync-acme")
        );
        let labels = json!({"app": "w", TENANT_LABEL: "acme", POOL_LABEL: "acme", BUILD_LABEL: build});
        assert_eq!(built["spec"]["selector"], json!({"matchLabels": labels}));
        assert_eq!(built["spec"]["template"]["metadata"]["labels"], labels);
        let pod = &built["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"], json!([{"name": "identity", "secret": {"secretName": "their-identity"}}]));
        let variables = json!([
            {"name": "GTM_LOG", "value": "info"},
            {"name": "GTM_POOL", "value": "acme"},
            {"name": "GTM_TENANT_SYNCS", "value": "0"},
            {"name": "GTM_WORKER_DEPLOYMENT", "value": "gtm-sync-acme-i"},
            {"name": "GTM_BUILD_ID", "value": build},
        ]);
        assert_eq!((&pod["containers"][0]["env"], &pod["containers"][1]["env"]), (&Value::Null, &variables));
        assert_eq!(
            (wanted.replicas, &pod["nodeSelector"]),
            (Replicas::Between { least: 1, most: 1 }, &json!({"disk": "fast"}))
        );
    }

    #[test]
    fn what_the_spec_sets_stands_in_place_of_the_templates() {
        let (wanted, built) = built(json!({
            "mode": "Dedicated", "replicas": 2, "nodeSelector": {"pool": "acme"},
            "resources": {"requests": {"cpu": "2", "memory": "1Gi"}},
            "tolerations": [{"key": "acme", "operator": "Exists", "effect": "NoSchedule"}],
        }));
        assert_eq!(wanted.replicas, Replicas::Between { least: 2, most: 2 });
        let pod = &built["spec"]["template"]["spec"];
        assert_eq!(pod["nodeSelector"], json!({"pool": "acme"}));
        assert_eq!(pod["containers"][1]["resources"], json!({"requests": {"cpu": "2", "memory": "1Gi"}}));
        assert_eq!(pod["tolerations"], json!([{"key": "acme", "operator": "Exists", "effect": "NoSchedule"}]));
    }

    #[test]
    fn pods_that_would_hold_the_shared_identity_are_not_built() {
        let template = TEMPLATE.replace("name: identity,", "name: keys,");
        let built = of(&template, "acme", json!({"mode": "Dedicated"}));
        assert_eq!(built, Err(Error::Lacks("a volume `identity` made of a Secret")));
    }

    #[test]
    fn pools_of_tenants_with_the_longest_ids_and_the_shared_pools_name_are_told_apart() {
        let (one, other) = (format!("{}1", "x".repeat(62)), format!("{}2", "x".repeat(62)));
        let [one, other, named] =
            [one.as_str(), other.as_str(), SHARED].map(|tenant| of(TEMPLATE, tenant, json!({})).expect("a build"));
        assert!(one.name().len() <= NAME_LENGTH + 11 && one.name() != other.name(), "{}", one.name());
        assert_ne!(one.version.deployment, other.version.deployment);
        assert_eq!((one.pool.len(), named.pool.as_str()), (63, "tenant_shared"));
        let whose = |pool: &str| tenant_of(pool).map(|tenant| tenant.to_string());
        assert_eq!((whose(SHARED), whose("tenant_shared").as_deref()), (None, Some(SHARED)));
        assert_eq!(whose(&one.pool), Some(one.pool));
    }
}
