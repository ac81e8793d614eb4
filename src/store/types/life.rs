//! What ages, who is erased, what is purged.

use serde::Serialize;

use crate::{ids::ConnectorId, model::entity::Entity};

/// How long what is only of use for a while is kept. `None` = for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows of ended runs and their dead-letter entries, in days; a connector's newest run always stays.
    pub runs_days: Option<u32>,
    /// Payloads of dead letters, in days; the letters themselves stay until they are resolved or discarded.
    pub dead_letter_payloads_days: Option<u32>,
    /// Tombstones, in days since the deletion.
    pub tombstones_days: Option<u32>,
}

/// What ageing removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aged {
    /// Run rows.
    pub runs: u64,
    /// Payloads of dead letters.
    pub payloads: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Staged batches that nobody will apply, and records of applied ones.
    pub batches: u64,
}

/// What one call of a purge removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Rows of all tables.
    pub rows: u64,
    /// Nothing of the connector is left.
    pub done: bool,
}

/// Whom to erase: the records of a tenant with this e-mail address, or with this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Person {
    /// Contacts, leads and owners with this address, whatever its case.
    Email(String),
    /// One contact, lead or owner of one connector.
    Record {
        /// Its connector.
        connector_id: ConnectorId,
        /// Its table.
        entity: Entity,
        /// The vendor's id.
        source_id: String,
    },
}

/// What erasing removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// Contacts, leads and owners, tombstones included.
    pub records: u64,
    /// Activities whose text was emptied because they are linked to one of those records.
    pub activities: u64,
    /// Dead letters about them.
    pub dead_letters: u64,
    /// Staged batches of the tenant: all of them, because they cannot be searched. Their runs read the pages again.
    pub staged_batches: u64,
}
