//! From the shared workers' Deployment to that of one tenant's own workers. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar, PodSpec, ResourceRequirements, Toleration},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;

use super::build::Error;
use crate::{
    crd::{ResourceAmounts, TENANT_LABEL, WorkerToleration, WorkersSpec},
    ids::TenantId,
};

/// The template's volume with the identity file.
const IDENTITY_VOLUME: &str = "identity";
/// Tells a worker whom it serves (`WorkerSettings::pool`).
const POOL_VARIABLE: &str = "GTM_POOL";

/// Name of a tenant's Deployment. No build of the shared pool is named so.
#[must_use]
pub fn name(shared: &Deployment, tenant: &TenantId) -> String {
    format!("{}-pool-{tenant}", shared.name_any())
}

/// The Deployment of a tenant's own workers: the shared one under another name, with the tenant's label on all that selects,
/// its identity in place of the shared one, and what its spec overrides.
///
/// # Errors
/// `Lacks` when the template has no volume `identity` made of a Secret: its pods would hold the shared identity.
pub fn deployment(
    shared: &Deployment,
    tenant: &TenantId,
    identity_secret: &str,
    workers: &WorkersSpec,
) -> Result<Deployment, Error> {
    let mut deployment = shared.clone();
    deployment.metadata.name = Some(name(shared, tenant));
    deployment.labels_mut().insert(TENANT_LABEL.to_owned(), tenant.to_string());
    let spec = deployment.spec.as_mut().ok_or(Error::Lacks("a spec"))?;
    spec.replicas = Some(workers.replicas.unwrap_or(1));
    // The shared pool's selector leaves out what has this label.
    spec.selector.match_expressions = None;
    let labels = [&mut spec.selector.match_labels, &mut spec.template.metadata.get_or_insert_default().labels];
    for labels in labels {
        labels.get_or_insert_default().insert(TENANT_LABEL.to_owned(), tenant.to_string());
    }
    let pod = spec.template.spec.as_mut().ok_or(Error::Lacks("a pod"))?;
    mount(pod, identity_secret)?;
    let container = pod.containers.first_mut().ok_or(Error::Lacks("a container"))?;
    serve(container, tenant);
    if let Some(resources) = &workers.resources {
        container.resources = Some(ResourceRequirements {
            requests: resources.requests.as_ref().map(amounts),
            limits: resources.limits.as_ref().map(amounts),
            ..ResourceRequirements::default()
        });
    }
    if let Some(selector) = &workers.node_selector {
        pod.node_selector = Some(selector.clone());
    }
    if let Some(tolerations) = &workers.tolerations {
        pod.tolerations = Some(tolerations.iter().map(toleration).collect());
    }
    Ok(deployment)
}

fn mount(pod: &mut PodSpec, identity_secret: &str) -> Result<(), Error> {
    let volumes = pod.volumes.iter_mut().flatten();
    let secret = volumes.filter(|volume| volume.name == IDENTITY_VOLUME).find_map(|volume| volume.secret.as_mut());
    secret.ok_or(Error::Lacks("a volume `identity` made of a Secret"))?.secret_name = Some(identity_secret.to_owned());
    Ok(())
}

fn serve(container: &mut Container, tenant: &TenantId) {
    let variables = container.env.get_or_insert_default();
    variables.retain(|variable| variable.name != POOL_VARIABLE);
    let value = Some(tenant.to_string());
    variables.push(EnvVar { name: POOL_VARIABLE.to_owned(), value, value_from: None });
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
    use crate::operator::worker_deployment::build;

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
        - name: worker
          image: x
          env: [{name: GTM_LOG, value: info}]
          resources: {requests: {cpu: 100m}, limits: {memory: 512Mi}}
      volumes: [{name: identity, secret: {secretName: gtm-sync-identity}}]
";

    fn built(workers: Value) -> Value {
        let shared = build::deployment(TEMPLATE, "gtm-sync", "postgres://x").expect("a Deployment");
        let workers = serde_json::from_value(workers).expect("a spec");
        let tenant = "acme".parse().expect("id");
        serde_json::to_value(deployment(&shared, &tenant, "their-identity", &workers).expect("built")).expect("JSON")
    }

    #[test]
    fn a_tenants_workers_have_their_own_name_labels_identity_and_queue() {
        let built = built(json!({"mode": "Dedicated"}));
        assert_eq!(built["metadata"]["name"], "gtm-sync-worker-pool-acme");
        assert_eq!(built["metadata"]["namespace"], "gtm-sync");
        let labels = json!({"app": "w", TENANT_LABEL: "acme"});
        assert_eq!(built["spec"]["selector"], json!({"matchLabels": labels}));
        assert_eq!(built["spec"]["template"]["metadata"]["labels"], labels);
        let pod = &built["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"], json!([{"name": "identity", "secret": {"secretName": "their-identity"}}]));
        let variables = json!([{"name": "GTM_LOG", "value": "info"}, {"name": "GTM_POOL", "value": "acme"}]);
        assert_eq!(pod["containers"][0]["env"], variables);
        assert_eq!((&built["spec"]["replicas"], &pod["nodeSelector"]), (&json!(1), &json!({"disk": "fast"})));
    }

    #[test]
    fn what_the_spec_sets_stands_in_place_of_the_templates() {
        let built = built(json!({
            "mode": "Dedicated", "replicas": 2, "nodeSelector": {"pool": "acme"},
            "resources": {"requests": {"cpu": "2", "memory": "1Gi"}},
            "tolerations": [{"key": "acme", "operator": "Exists", "effect": "NoSchedule"}],
        }));
        assert_eq!(built["spec"]["replicas"], 2);
        let pod = &built["spec"]["template"]["spec"];
        assert_eq!(pod["nodeSelector"], json!({"pool": "acme"}));
        assert_eq!(pod["containers"][0]["resources"], json!({"requests": {"cpu": "2", "memory": "1Gi"}}));
        assert_eq!(pod["tolerations"], json!([{"key": "acme", "operator": "Exists", "effect": "NoSchedule"}]));
    }

    #[test]
    fn pods_that_would_hold_the_shared_identity_are_not_built() {
        let template = TEMPLATE.replace("name: identity,", "name: keys,");
        let shared = build::deployment(&template, "gtm-sync", "postgres://x").expect("a Deployment");
        let built = deployment(&shared, &"acme".parse().expect("id"), "their-identity", &WorkersSpec::default());
        assert_eq!(built, Err(Error::Lacks("a volume `identity` made of a Secret")));
    }

    #[test]
    fn the_shared_pools_selector_leaves_out_tenants_workers() {
        let shared = build::deployment(TEMPLATE, "gtm-sync", "postgres://x").expect("a Deployment");
        let selector = serde_json::to_value(shared.spec.expect("a spec").selector).expect("JSON");
        assert_eq!(selector["matchExpressions"], json!([{"key": TENANT_LABEL, "operator": "DoesNotExist"}]));
    }
}
