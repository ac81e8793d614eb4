//! What a worker needs to know of one Connector: the projection of its spec, written by the operator, read by workers.
//! Not the CRD (`crd::connector` is what users write) and never a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rows a batch aims at when the Connector does not say: with HubSpot's 100 a page about 50 requests,
/// large enough that Temporal's cost per activity (95 ms, R39) stays small beside it.
pub const DEFAULT_BATCH_SIZE: u32 = 5_000;
/// Largest settable batch (R49: 50,000 rows or 32 MiB a commit).
pub const MAX_BATCH_SIZE: u32 = 50_000;

/// One Connector as the workers see it; stored as JSON in the registry row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorConfig {
    /// Which system and how to reach it.
    pub source: SourceConfig,
    /// Streams to sync, in order; empty = all that the connector has.
    #[serde(default)]
    pub streams: Vec<StreamConfig>,
    /// Rows a batch aims at, 1 to `MAX_BATCH_SIZE`.
    pub batch_size: u32,
    /// Upper limit of requests a second against the vendor, below the vendor's own; `None` = the vendor's.
    #[serde(default)]
    pub requests_per_second: Option<u32>,
    /// Share of the vendor's daily quota, in percent, left for the tenant's other tools.
    pub quota_reserve_percent: u8,
    /// Share of a run's records, in percent, that may be rejected before the run fails instead of dead-lettering a whole CRM.
    pub max_rejected_percent: u8,
    /// Share of a stream's live rows, in percent, that the sweep of a full sync may delete without a confirmation (R6).
    #[serde(default = "default_max_swept_percent")]
    pub max_swept_percent: u8,
}

/// As the Connector's default: more than a tenth of a CRM does not vanish unnoticed (R6).
fn default_max_swept_percent() -> u8 {
    10
}

/// The tagged union of systems: `{"type":"hubspot", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SourceConfig {
    /// HubSpot CRM.
    Hubspot {
        /// Without a trailing slash; `None` = the vendor's own host.
        #[serde(default)]
        base_url: Option<String>,
    },
}

impl SourceConfig {
    /// The system's name in labels, columns (`source_type`) and printer columns.
    #[must_use]
    pub fn source_type(&self) -> &'static str {
        match self {
            Self::Hubspot { .. } => "hubspot",
        }
    }
}

/// One stream of a Connector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamConfig {
    /// The connector's name for it, e.g. `companies`.
    pub name: String,
    /// Properties beyond the canonical ones; they arrive in the `custom` column.
    #[serde(default)]
    pub properties: Vec<String>,
    /// What becomes of a value that does not fit its column.
    #[serde(default)]
    pub schema_contract: SchemaContract,
    /// Which fields are kept, and how.
    #[serde(default)]
    pub fields: FieldRules,
}

/// What becomes of a value that does not fit its canonical column: of another type, or not storable (a NUL character, a
/// lone surrogate, a number that no store keeps).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SchemaContract {
    /// The column is null and `custom` keeps the value as text; the row lands.
    Evolve,
    /// The stream stops, and nothing of the page lands.
    Freeze,
    /// The column is null; the row lands.
    DiscardValue,
    /// The record becomes a dead letter.
    #[default]
    DiscardRow,
}

/// Which fields of a stream are kept: columns of its entity, or requested properties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldRules {
    /// When not empty: these and the hashed ones only.
    pub allow: Vec<String>,
    /// Not these.
    pub drop: Vec<String>,
    /// As a keyed hash instead of the text.
    pub hash: Vec<String>,
}

impl FieldRules {
    /// Whether every field is kept as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.drop.is_empty() && self.hash.is_empty()
    }
}

/// The plaintext fields of a credential, e.g. `accessToken`. Debug shows the keys only.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretFields(pub BTreeMap<String, String>);

impl std::fmt::Debug for SecretFields {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// A line that is not `field=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not field=value; no field was read")]
pub struct InvalidLine(usize);

impl SecretFields {
    /// Reads `field=value` lines; empty lines are skipped, whitespace round field and value is dropped.
    ///
    /// # Errors
    /// The number of the first line that is something else, or 1 when there is none at all.
    pub fn parse_lines(text: &str) -> Result<Self, InvalidLine> {
        let mut fields = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (field, value) = line.split_once('=').ok_or(InvalidLine(number + 1))?;
            fields.insert(field.trim().to_owned(), value.trim().to_owned());
        }
        if fields.is_empty() { Err(InvalidLine(1)) } else { Ok(Self(fields)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_projected_by_an_older_release_keeps_its_meaning() {
        let stream: StreamConfig = serde_json::from_str(r#"{"name":"deals"}"#).expect("defaults");
        assert_eq!(stream.schema_contract, SchemaContract::DiscardRow);
        assert!(stream.fields.is_empty() && stream.properties.is_empty());
    }

    #[test]
    fn secret_lines_are_read_and_a_bad_one_is_named_without_its_content() {
        let fields = SecretFields::parse_lines("accessToken = pat=1\n\nclientId=x\n").expect("two fields");
        assert_eq!(fields.0["accessToken"], "pat=1");
        let error = SecretFields::parse_lines("a=b\npat-secret\n").expect_err("line 2");
        assert_eq!((error.clone(), error.to_string().contains("secret")), (InvalidLine(2), false));
    }
}
