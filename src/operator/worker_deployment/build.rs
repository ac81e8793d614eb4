//! From the chart's template to the Deployment to apply. Pure.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement};
use kube::ResourceExt as _;

use crate::crd::TENANT_LABEL;

/// Why the template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one Deployment in YAML.
    #[error("the worker template is not a Deployment in YAML")]
    Template,
    /// It has no name, or runs no container.
    #[error("the worker template lacks {0}")]
    Lacks(&'static str),
    /// R34.
    #[error(
        "workers cannot be deployed on SQLite: pods cannot share its file. Use PostgreSQL, or run the worker beside the operator and set no worker template"
    )]
    Sqlite,
}

/// The Deployment of a template, in the operator's namespace.
///
/// # Errors
/// `Template` and `Lacks` when it is not one; `Sqlite` when the store is a file.
pub fn deployment(template: &str, namespace: &str, database_url: &str) -> Result<Deployment, Error> {
    if database_url.starts_with("sqlite:") {
        return Err(Error::Sqlite);
    }
    let mut deployment: Deployment = serde_saphyr::from_str(template).map_err(|_| Error::Template)?;
    if deployment.metadata.name.as_deref().is_none_or(str::is_empty) {
        return Err(Error::Lacks("metadata.name"));
    }
    let containers =
        deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).map(|pod| pod.containers.len());
    if containers.unwrap_or_default() == 0 {
        return Err(Error::Lacks("a container"));
    }
    if let Some(spec) = &mut deployment.spec {
        // Tenants' own workers are made of the same template, and one selector must not match what another selects.
        let others = LabelSelectorRequirement {
            key: TENANT_LABEL.to_owned(),
            operator: "DoesNotExist".to_owned(),
            values: None,
        };
        spec.selector.match_expressions.get_or_insert_default().push(others);
    }
    deployment.metadata.namespace = Some(namespace.to_owned());
    let managed_by = deployment.labels_mut().entry("app.kubernetes.io/managed-by".to_owned());
    managed_by.or_insert_with(|| "gtmclarity-operator".to_owned());
    Ok(deployment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: gtm-sync-worker}
spec:
  selector: {matchLabels: {app: w}}
  template:
    metadata: {labels: {app: w}}
    spec: {containers: [{name: worker, image: x}]}
";

    #[test]
    fn the_template_becomes_a_deployment_in_the_operators_namespace() {
        let deployment = deployment(TEMPLATE, "gtm-sync", "postgres://x").expect("a Deployment");
        assert_eq!(deployment.namespace().as_deref(), Some("gtm-sync"));
        assert_eq!(deployment.labels()["app.kubernetes.io/managed-by"], "gtmclarity-operator");
    }

    #[test]
    fn pods_never_get_a_sqlite_file_and_a_broken_template_is_named() {
        assert_eq!(deployment(TEMPLATE, "x", "sqlite:/data/x.db"), Err(Error::Sqlite));
        assert_eq!(deployment("[", "x", "postgres://x"), Err(Error::Template));
        assert_eq!(deployment("metadata: {}", "x", "postgres://x"), Err(Error::Lacks("metadata.name")));
    }
}
