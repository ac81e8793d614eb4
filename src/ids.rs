//! Typed ids and every name derived from them (schedules, workflow runs).
//! Derived names are never parsed back: look ids up in the store instead.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest tenant or connector id: one DNS label (RFC 1123), so that it fits a Kubernetes label value.
pub const MAX_ID_LENGTH: usize = 63;

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} must be a DNS label (a-z, 0-9 and '-', at most {MAX_ID_LENGTH} characters, starting and ending with a letter or digit)"
)]
pub struct InvalidId {
    kind: &'static str,
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            bytes.len() <= MAX_ID_LENGTH
                && alphanumeric(first)
                && alphanumeric(last)
                && bytes.iter().all(|&byte| alphanumeric(byte) || byte == b'-')
        }
        _ => false,
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                if is_dns_label(&text) { Ok(Self(text)) } else { Err(InvalidId { kind: $kind }) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A tenant: `TenantSchedule.spec.tenantId`.
    TenantId, "tenantId"
);
id!(
    /// A connector: the Connector's `metadata.name`.
    ConnectorId, "connectorId"
);

/// Names of schedules and runs, with `{clusterId}.` in front only where one is configured.
#[derive(Debug, Clone, Default)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names for an operator or worker with this configured cluster id, if any.
    #[must_use]
    pub fn new(cluster_id: Option<&str>) -> Self {
        Self { prefix: cluster_id.map(|id| format!("{id}.")).unwrap_or_default() }
    }

    /// The tenant's schedule: `scheduled-sync-{tenantId}`.
    #[must_use]
    pub fn tenant_schedule(&self, tenant: &TenantId) -> String {
        format!("{}scheduled-sync-{tenant}", self.prefix)
    }

    /// A connector's own schedule, and the id under which its runs start: `sync-{tenantId}-{connectorId}`.
    #[must_use]
    pub fn connector_schedule(&self, tenant: &TenantId, connector: &ConnectorId) -> String {
        format!("{}{}", self.prefix, joined(tenant, connector))
    }

    /// A sync run: `sync-{tenantId}-{connectorId}-{timestamp}`.
    #[must_use]
    pub fn sync_run(&self, tenant: &TenantId, connector: &ConnectorId, at: Timestamp) -> String {
        format!("{}{}", self.prefix, sync_run(tenant, connector, at))
    }

    /// A run that wishes asked for, recorded at `at`: to the microsecond, so that a wish recorded within the second of another
    /// does not pass for it.
    #[must_use]
    pub fn requested_run(&self, tenant: &TenantId, connector: &ConnectorId, at: Timestamp) -> String {
        format!("{}{}-{}", self.prefix, joined(tenant, connector), at.strftime("%Y-%m-%dT%H:%M:%S%.fZ"))
    }

    /// A connection check: `check-{tenantId}-{connectorId}`; one at a time by this id.
    #[must_use]
    pub fn connection_check(&self, tenant: &TenantId, connector: &ConnectorId) -> String {
        format!("{}check-{tenant}-{connector}", self.prefix)
    }
}

/// The joined name `sync-{tenantId}-{connectorId}`; the store refuses the later of two connectors that share it.
#[must_use]
pub fn joined(tenant: &TenantId, connector: &ConnectorId) -> String {
    format!("sync-{tenant}-{connector}")
}

/// `sync-{tenantId}-{connectorId}-{timestamp}`, the seed's pattern; timestamp = RFC 3339, UTC, whole seconds,
/// the form Temporal itself appends to a schedule's workflow id.
#[must_use]
pub fn sync_run(tenant: &TenantId, connector: &ConnectorId, at: Timestamp) -> String {
    format!("{}-{}", joined(tenant, connector), at.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dns_labels() {
        for good in ["a", "acme", "a-b", "0a9", &"x".repeat(63)] {
            assert!(good.parse::<TenantId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ConnectorId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_follow_the_seed_and_carry_the_cluster_only_when_configured() {
        let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
        let at: Timestamp = "2026-11-22T12:00:00.75Z".parse().expect("timestamp");
        assert_eq!(Names::new(None).sync_run(&tenant, &connector, at), "sync-acme-hubspot-2026-11-22T12:00:00Z");
        let requested = |at: &str| Names::new(None).requested_run(&tenant, &connector, at.parse().expect("timestamp"));
        assert_eq!(requested("2026-11-22T12:00:00.1Z"), "sync-acme-hubspot-2026-11-22T12:00:00.1Z");
        assert_ne!(requested("2026-11-22T12:00:00.000001Z"), requested("2026-11-22T12:00:00.000002Z"));
        assert_eq!(Names::new(Some("eu1")).tenant_schedule(&tenant), "eu1.scheduled-sync-acme");
    }
}
