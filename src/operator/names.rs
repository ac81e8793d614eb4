//! Who this operator is: installation, cluster, and the names and owners made of them. Pure.

use crate::{ids::Names, operator::world::ObjectKey, store::Owner, temporal::schedules::ScheduleOwner};

/// Who we are.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The store's installation id (R17).
    pub id: String,
    /// Configured, never derived; empty when none is configured (R45).
    pub cluster_id: String,
    /// Names of schedules and runs.
    pub names: Names,
}

impl Installation {
    /// For a store and a configured cluster id.
    #[must_use]
    pub fn new(id: String, cluster_id: Option<&str>) -> Self {
        Self { id, cluster_id: cluster_id.unwrap_or_default().to_owned(), names: Names::new(cluster_id) }
    }

    /// An object's durable ownership in the store.
    #[must_use]
    pub fn owner(&self, key: &ObjectKey) -> Owner {
        Owner { cluster_id: self.cluster_id.clone(), namespace: key.namespace.clone(), name: key.name.clone() }
    }

    /// An object's durable ownership in Temporal.
    #[must_use]
    pub fn schedule_owner(&self, key: &ObjectKey) -> ScheduleOwner {
        ScheduleOwner {
            installation_id: self.id.clone(),
            cluster_id: self.cluster_id.clone(),
            kind: key.kind.name().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}
