//! `Connector`: one source of one tenant, its credential, and how it is synced.
//! Field documentation here is user documentation (docs/crd-reference.md); what workers read is `model::config`, what the operator writes back is `connector_status`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AutoRestart, ConnectorRequests, ConnectorStatus, duration::DurationText, rules};
use crate::ids::TenantId;

/// As `model::config::DEFAULT_BATCH_SIZE`; a test compares them.
const DEFAULT_BATCH_SIZE: i32 = 5_000;
/// A fifth of a vendor's daily quota stays with the tenant's other tools.
const DEFAULT_QUOTA_RESERVE_PERCENT: i32 = 20;
/// A run in which every second record is refused is a wrong configuration, not dirty data.
const DEFAULT_MAX_REJECTED_PERCENT: i32 = 50;
/// More than a tenth of a CRM does not vanish unnoticed (R6).
const DEFAULT_MAX_SWEPT_PERCENT: i32 = 10;

/// One source of one tenant, e.g. its HubSpot account. Its name is the connector id.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sync.gtmclarity.io",
    version = "v1alpha1",
    kind = "Connector",
    plural = "connectors",
    shortname = "gconn",
    category = "gtm",
    namespaced,
    status = "ConnectorStatus",
    doc = "One source of one tenant, e.g. its HubSpot account. Its name is the connector id.",
    derive = "PartialEq",
    selectable = ".spec.tenantId"
)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorSpec {
    /// The tenant, a DNS label. Cannot be changed. Its TenantSchedule must be in the same namespace.
    #[schemars(with = "rules::Tenant")]
    pub tenant_id: TenantId,
    /// The system to read from.
    #[schemars(with = "SourceFields")]
    pub source: Source,
    /// How to sign in: `secretRef` or `sealed`.
    #[schemars(with = "CredentialFields")]
    pub credentials: Credentials,
    /// What to read, in this order; empty = every stream the source has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub streams: Vec<StreamSpec>,
    /// How to sync.
    #[serde(default)]
    pub sync: SyncSpec,
    /// How much of the source may be used, and how many of its records may be refused.
    #[serde(default)]
    pub limits: Limits,
    /// Whether to sync.
    #[serde(default)]
    pub state: ConnectorState,
    /// How a sync that failed is started again before the next tick; default: it is not, the next tick goes on where it stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_restart: Option<AutoRestart>,
    /// How long ago the last complete sync may have ended, e.g. `6h`; beyond it `Healthy` is False with reason Stale, whatever the cause. Counted from the object's creation while no sync has completed. Default: any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::Period>")]
    pub freshness_target: Option<DurationText>,
    /// What becomes of the connector's rows when this object is deleted; default: what its TenantSchedule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_policy: Option<DataPolicy>,
    /// One-shot wishes. Tokens that a new object brings along are noted, not carried out, so that a rebuild from Git repeats nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ConnectorRequests>,
}

/// The system to read from, exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SourceFields", into = "SourceFields")]
pub enum Source {
    /// HubSpot CRM.
    Hubspot(HubspotSource),
}

/// The names of `Source`'s members in `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum SourceType {
    /// HubSpot CRM; set `hubspot`.
    HubSpot,
}

/// The wire form of `Source`: `type` names the one member that must be set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::source_union()))]
struct SourceFields {
    /// The kind of system; the member of the same name must be set, the others must not.
    #[serde(rename = "type")]
    source_type: SourceType,
    /// HubSpot CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hubspot: Option<HubspotSource>,
}

impl TryFrom<SourceFields> for Source {
    type Error = &'static str;

    fn try_from(fields: SourceFields) -> Result<Self, Self::Error> {
        match (fields.source_type, fields.hubspot) {
            (SourceType::HubSpot, Some(hubspot)) => Ok(Self::Hubspot(hubspot)),
            (SourceType::HubSpot, None) => Err("source.type HubSpot needs source.hubspot"),
        }
    }
}

impl From<Source> for SourceFields {
    fn from(source: Source) -> Self {
        match source {
            Source::Hubspot(hubspot) => Self { source_type: SourceType::HubSpot, hubspot: Some(hubspot) },
        }
    }
}

/// A HubSpot account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubspotSource {
    /// Where its API is; default: HubSpot's own host. The credential is only ever sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::BaseUrl>")]
    pub base_url: Option<String>,
}

/// How to sign in, exactly one way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CredentialFields", into = "CredentialFields")]
pub enum Credentials {
    /// A Secret of the same namespace.
    SecretRef(SecretRef),
    /// The output of `gtm-sync seal`, safe in Git.
    Sealed(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SecretRef(reference) => reference.fmt(formatter),
            Self::Sealed(_) => formatter.write_str("Sealed(..)"),
        }
    }
}

/// The wire form of `Credentials`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::credentials_union()))]
struct CredentialFields {
    /// A Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_ref: Option<SecretRef>,
    /// A credential sealed to the workers by `gtm-sync seal`, safe in Git; opens for this tenant and this connector only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::SealedText>")]
    sealed: Option<String>,
}

impl TryFrom<CredentialFields> for Credentials {
    type Error = &'static str;

    fn try_from(fields: CredentialFields) -> Result<Self, Self::Error> {
        match (fields.secret_ref, fields.sealed) {
            (Some(reference), None) => Ok(Self::SecretRef(reference)),
            (None, Some(sealed)) => Ok(Self::Sealed(sealed)),
            _ => Err("credentials needs exactly one of secretRef and sealed"),
        }
    }
}

impl From<Credentials> for CredentialFields {
    fn from(credentials: Credentials) -> Self {
        match credentials {
            Credentials::SecretRef(reference) => Self { secret_ref: Some(reference), sealed: None },
            Credentials::Sealed(sealed) => Self { secret_ref: None, sealed: Some(sealed) },
        }
    }
}

/// A Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(with = "rules::SecretName")]
    pub name: String,
    /// The key that holds the access token; default: every key of the Secret is a field of the credential, e.g. accessToken, or clientId, clientSecret and refreshToken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<rules::SecretKey>")]
    pub key: Option<String>,
}

/// One stream to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamSpec {
    /// Which.
    pub name: StreamName,
    /// Properties beyond the canonical ones, by the source's own names; they arrive in the column `custom`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<rules::Property>", length(max = 200), extend("x-kubernetes-list-type" = "set"))]
    pub properties: Vec<String>,
    /// What becomes of a value that does not fit its column: of another type, or not storable (a NUL character, half a character, a number that no store keeps).
    #[serde(default)]
    pub schema_contract: SchemaContract,
    /// Which fields are stored, and how; default: all, as they are. With it, records that are put aside are kept without their content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<FieldsSpec>,
}

/// What becomes of a value that does not fit its column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchemaContract {
    /// The column stays empty, the value is kept as text in the column `custom` under its property's name.
    Evolve,
    /// The stream stops until the spec or the value is changed; other streams go on.
    Freeze,
    /// The column stays empty.
    DiscardValue,
    /// The record becomes a dead letter.
    #[default]
    DiscardRow,
}

/// Which fields of a stream are stored: columns of the canonical schema, or names of `properties`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::fields()))]
pub struct FieldsSpec {
    /// Only these and those of `hash`; `custom` stands for all of `properties`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<rules::Field>", length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<String>,
    /// Not these. They are not even asked for, unless something else needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<rules::Field>", length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub drop: Vec<String>,
    /// As pseudonyms: a keyed hash of the text, trimmed and in lower case. Equal texts of one tenant have equal pseudonyms, so that they still join; those of other tenants differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<rules::Field>", length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub hash: Vec<String>,
}

/// Streams of the sources; which of them a source has is a rule of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StreamName {
    /// Users of the CRM who own records.
    Owners,
    /// Pipelines and their stages.
    Pipelines,
    /// Companies.
    Companies,
    /// Contacts.
    Contacts,
    /// Deals.
    Deals,
    /// Calls.
    Calls,
    /// E-mails.
    Emails,
    /// Meetings.
    Meetings,
    /// Tasks.
    Tasks,
    /// Notes.
    Notes,
}

impl StreamName {
    /// As written in the spec and known to the source.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owners => "owners",
            Self::Pipelines => "pipelines",
            Self::Companies => "companies",
            Self::Contacts => "contacts",
            Self::Deals => "deals",
            Self::Calls => "calls",
            Self::Emails => "emails",
            Self::Meetings => "meetings",
            Self::Tasks => "tasks",
            Self::Notes => "notes",
        }
    }
}

/// How to sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncSpec {
    /// Records a batch aims at. Larger batches are faster, smaller ones lose less work to a crash.
    #[serde(default = "default_batch_size")]
    #[schemars(range(min = 1, max = 50_000))]
    pub batch_size: i32,
    /// Cron expressions of the connector's own, for sources that change faster than the tenant's schedule; it then no longer runs with the tenant's. Time zone, spread and catch-up window are the tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<rules::Cron>", length(max = 8))]
    pub schedules: Vec<String>,
}

impl Default for SyncSpec {
    fn default() -> Self {
        Self { batch_size: default_batch_size(), schedules: Vec::new() }
    }
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests a second at most, below the source's own limit; default: the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub requests_per_second: Option<i32>,
    /// Share of the source's daily quota, in percent, left for the tenant's other tools. When it is reached, the sync waits until the quota resets.
    #[serde(default = "default_quota_reserve_percent")]
    #[schemars(range(min = 0, max = 90))]
    pub quota_reserve_percent: i32,
    /// Share of a run's records, in percent, that may be rejected before the run fails instead of putting more of them aside; 100 = never fail for it.
    #[serde(default = "default_max_rejected_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_rejected_percent: i32,
    /// Share of a stream's rows, in percent, that a full sync may delete because it did not find them at the source; above it nothing of the stream is deleted and `Healthy` says SweepSuspicious until `spec.requests.confirmSweep`.
    #[serde(default = "default_max_swept_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_swept_percent: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: None,
            quota_reserve_percent: default_quota_reserve_percent(),
            max_rejected_percent: default_max_rejected_percent(),
            max_swept_percent: default_max_swept_percent(),
        }
    }
}

/// What becomes of rows when the object that they came by is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataPolicy {
    /// They stay.
    #[default]
    Retain,
    /// A day after the deletion (the operator's setting), rows, dead letters, runs, cursor and credential of the connector are deleted; until then applying the object again keeps them.
    Delete,
}

/// Whether to sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectorState {
    /// On every tick.
    #[default]
    Running,
    /// No new sync; one at work ends at its next batch and goes on later where it stood.
    Paused,
    /// As Paused, and the connector's own schedule is removed.
    Stopped,
}

fn default_batch_size() -> i32 {
    DEFAULT_BATCH_SIZE
}

fn default_quota_reserve_percent() -> i32 {
    DEFAULT_QUOTA_RESERVE_PERCENT
}

fn default_max_rejected_percent() -> i32 {
    DEFAULT_MAX_REJECTED_PERCENT
}

fn default_max_swept_percent() -> i32 {
    DEFAULT_MAX_SWEPT_PERCENT
}
