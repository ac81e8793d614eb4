//! What the demo declares: two tenants, three connectors, as YAML text that a person may edit and apply again. Pure.

/// A connector of the demo and the simulated account it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// The tenant.
    pub(crate) tenant: &'static str,
    /// Name of the Connector.
    pub(crate) connector: &'static str,
    /// Id of the simulated account; also the seed of its records.
    pub(crate) portal: u64,
}

/// The demo's connectors.
pub(crate) const ACCOUNTS: [Account; 3] = [
    Account { tenant: "acme", connector: "hubspot", portal: 1001 },
    Account { tenant: "acme", connector: "hubspot-eu", portal: 1002 },
    Account { tenant: "globex", connector: "hubspot", portal: 2001 },
];

/// The demo's tenants and their schedules.
pub(crate) const TENANTS: [(&str, &str); 2] = [("acme", "*/5 * * * *"), ("globex", "0 */4 * * *")];

impl Account {
    /// `tenant/connector`, for people.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.tenant, self.connector)
    }

    /// The namespace of the tenant's objects.
    pub(crate) fn namespace(&self) -> String {
        namespace(self.tenant)
    }
}

/// The namespace of a tenant's objects.
pub(crate) fn namespace(tenant: &str) -> String {
    format!("tenant-{tenant}")
}

/// Everything of one tenant. `url_of` and `token_of` say where an account is served and what opens it.
pub(crate) fn tenant(
    tenant: &str,
    schedule: &str,
    url_of: impl Fn(&Account) -> String,
    token_of: impl Fn(&Account) -> String,
) -> String {
    let namespace = namespace(tenant);
    let mut yaml = format!(
        "# The tenant {tenant}, as `cargo xtask demo` applied it. Edit it and: kubectl apply --server-side -f <this file>
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
---
apiVersion: sync.gtmclarity.io/v1alpha1
kind: TenantSchedule
metadata:
  name: {tenant}
  namespace: {namespace}
spec:
  tenantId: {tenant}
  schedules: [\"{schedule}\"]
"
    );
    for account in ACCOUNTS.iter().filter(|it| it.tenant == tenant) {
        let (name, url, token) = (account.connector, url_of(account), token_of(account));
        yaml += &format!(
            "---
apiVersion: v1
kind: Secret
metadata:
  name: {name}-token
  namespace: {namespace}
stringData:
  accessToken: {token}
---
apiVersion: sync.gtmclarity.io/v1alpha1
kind: Connector
metadata:
  name: {name}
  namespace: {namespace}
spec:
  tenantId: {tenant}
  source:
    type: HubSpot
    hubspot:
      baseUrl: {url}
  credentials:
    secretRef:
      name: {name}-token
"
        );
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_valid_yaml_with_a_secret_for_each_connector() {
        let yaml = tenant("acme", "*/5 * * * *", |it| format!("http://host:{}", it.portal), |_| "pat".to_owned());
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        let kinds: Vec<_> = documents.iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Namespace", "TenantSchedule", "Secret", "Connector", "Secret", "Connector"]);
        assert_eq!(documents[5]["spec"]["source"]["hubspot"]["baseUrl"], "http://host:1002");
        assert_eq!(documents[5]["spec"]["credentials"]["secretRef"]["name"], documents[4]["metadata"]["name"]);
    }
}
