//! What a Connector wants of the store and of Temporal, and whether it can be wanted. Pure.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{Input, TenantView, check, dereference::Problem};
use crate::{
    contract::{
        CHECK_CONNECTION_WORKFLOW, CONNECTOR_SYNC_WORKFLOW,
        workflows::{CheckConnectionInput, ConnectorSyncInput},
    },
    crd::{self, ConnectorState, Source, StreamSpec, conditions::reason},
    ids::ConnectorId,
    model::config::{ConnectorConfig, DataPolicy, FieldRules, SchemaContract, SourceConfig, StreamConfig},
    operator::{
        cron::smallest_gap,
        schedule_pause::{BY_STATE, BY_SUSPEND},
        world::{Request, StartWorkflow},
    },
    store::{BaseCredential, ConnectorProjection, DesiredState, Verb, Wish},
    temporal::{
        client::IdReuse,
        schedules::{Overlap, WantedSchedule},
    },
};

/// HubSpot's API host, where a credential without `baseUrl` may be sent.
const HUBSPOT_HOST: &str = "api.hubapi.com";

/// How long a tick may queue on the server before it starts: 10,000 at once take almost six minutes (docs/facts.md, Temporal).
const QUEUEING: Duration = Duration::from_secs(600);

/// The connector's id: its name, which a CEL rule keeps a DNS label.
#[must_use]
pub fn connector_id(input: &Input) -> ConnectorId {
    input.key.name.parse().expect("checked by `validate` before anything is built")
}

/// What the schema cannot check.
///
/// # Errors
/// A `Problem` to show.
pub fn validate(input: &Input) -> Result<Vec<String>, Problem> {
    if input.key.name.parse::<ConnectorId>().is_err() {
        let message = "metadata.name must be a DNS label of at most 63 characters: it is the connector id".to_owned();
        return Err(Problem { reason: reason::INVALID_SPEC, message });
    }
    allowed_hosts(&input.spec.source)
}

/// The hosts to which the credential may be sent (R14), with and without a port that the scheme implies.
fn allowed_hosts(source: &Source) -> Result<Vec<String>, Problem> {
    let Source::Hubspot(hubspot) = source;
    let Some(base_url) = &hubspot.base_url else {
        return Ok(vec![HUBSPOT_HOST.to_owned(), format!("{HUBSPOT_HOST}:443")]);
    };
    let invalid = |message: &str| Problem { reason: reason::INVALID_SPEC, message: message.to_owned() };
    let url = Url::parse(base_url).map_err(|_| invalid("source.hubspot.baseUrl is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("source.hubspot.baseUrl must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("source.hubspot.baseUrl must be a plain URL: no user, password, query or fragment"));
    }
    let host = url.host_str().ok_or_else(|| invalid("source.hubspot.baseUrl names no host"))?;
    let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    let plain = url.port().is_none().then(|| host.to_owned());
    Ok(plain.into_iter().chain(with_port).collect())
}

/// The connector's row in the store.
#[must_use]
pub fn projection(
    input: &Input,
    credential: Option<BaseCredential>,
    wishes: BTreeMap<Verb, Wish>,
) -> ConnectorProjection {
    ConnectorProjection {
        tenant_id: input.spec.tenant_id.clone(),
        connector_id: connector_id(input),
        owner: input.installation.owner(&input.key),
        uid: input.key.uid.clone(),
        generation: input.generation,
        desired_state: match input.spec.state {
            ConnectorState::Running => DesiredState::Running,
            ConnectorState::Paused => DesiredState::Paused,
            ConnectorState::Stopped => DesiredState::Stopped,
        },
        config: config(input),
        credential,
        own_schedule: !input.spec.sync.schedules.is_empty(),
        wishes,
    }
}

fn config(input: &Input) -> ConnectorConfig {
    let spec = &input.spec;
    let Source::Hubspot(hubspot) = &spec.source;
    let base_url = hubspot.base_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
    ConnectorConfig {
        source: SourceConfig::Hubspot { base_url },
        streams: spec.streams.iter().map(stream_config).collect(),
        batch_size: u32::try_from(spec.sync.batch_size).unwrap_or(1),
        requests_per_second: spec.limits.requests_per_second.and_then(|limit| u32::try_from(limit).ok()),
        quota_reserve_percent: u8::try_from(spec.limits.quota_reserve_percent).unwrap_or(u8::MAX),
        max_rejected_percent: u8::try_from(spec.limits.max_rejected_percent).unwrap_or(u8::MAX),
        max_swept_percent: u8::try_from(spec.limits.max_swept_percent).unwrap_or(u8::MAX),
        data_policy: data_policy(input),
    }
}

/// The connector's own word, else its tenant's. The store remembers it: when it is needed, the object is gone.
fn data_policy(input: &Input) -> DataPolicy {
    let tenants = || input.tenant.as_ref().map(|tenant| tenant.data_policy).unwrap_or_default();
    match input.spec.data_policy.unwrap_or_else(tenants) {
        crd::DataPolicy::Retain => DataPolicy::Retain,
        crd::DataPolicy::Delete => DataPolicy::Delete,
    }
}

fn stream_config(spec: &StreamSpec) -> StreamConfig {
    let fields = spec.fields.clone().unwrap_or_default();
    StreamConfig {
        name: spec.name.as_str().to_owned(),
        properties: spec.properties.clone(),
        schema_contract: match spec.schema_contract {
            crd::SchemaContract::Evolve => SchemaContract::Evolve,
            crd::SchemaContract::Freeze => SchemaContract::Freeze,
            crd::SchemaContract::DiscardValue => SchemaContract::DiscardValue,
            crd::SchemaContract::DiscardRow => SchemaContract::DiscardRow,
        },
        fields: FieldRules { allow: fields.allow, drop: fields.drop, hash: fields.hash },
    }
}

/// The id of the connector's own schedule.
#[must_use]
pub fn schedule_id(input: &Input) -> String {
    input.installation.names.connector_schedule(&input.spec.tenant_id, &connector_id(input))
}

/// The connector's own schedule; `None` when it runs with the tenant's, or not at all.
#[must_use]
pub fn schedule(input: &Input, tenant: &TenantView) -> Option<WantedSchedule> {
    let crons = &input.spec.sync.schedules;
    if crons.is_empty() || input.spec.state == ConnectorState::Stopped {
        return None;
    }
    // Own schedules meet the namespace's limit of starts a second: never all on one minute, and no tick is lost while it
    // queues (R31).
    let gap = smallest_gap(crons).unwrap_or_default();
    let id = schedule_id(input);
    Some(WantedSchedule {
        workflow_id: id.clone(),
        id,
        owner: input.installation.schedule_owner(&input.key),
        crons: crons.clone(),
        time_zone: tenant.time_zone.clone(),
        jitter: tenant.spread.max(gap / 10),
        overlap: Overlap::Skip,
        catch_up_window: tenant.catch_up_window.max(gap + QUEUEING),
        pause_on_failure: tenant.terms.pause_on_failure,
        suspended: suspended(input, tenant),
        workflow_type: CONNECTOR_SYNC_WORKFLOW.to_owned(),
        input: sync_input(input, false),
        start_at: tenant.terms.start_at,
        end_at: tenant.terms.end_at,
        excluded: tenant.terms.excluded.clone(),
    })
}

fn suspended(input: &Input, tenant: &TenantView) -> Option<&'static str> {
    let by_state = (input.spec.state == ConnectorState::Paused).then_some(BY_STATE);
    tenant.suspend.then_some(BY_SUSPEND).or(by_state)
}

/// A run that tokens asked for. Its id is made of the time at which the store recorded them (R8).
#[must_use]
pub fn run(input: &Input, full_sync: bool, at: jiff::Timestamp) -> Request {
    Request::StartWorkflow(StartWorkflow {
        workflow_type: CONNECTOR_SYNC_WORKFLOW,
        workflow_id: input.installation.names.requested_run(&input.spec.tenant_id, &connector_id(input), at),
        input: sync_input(input, full_sync),
        reuse: IdReuse::Once,
    })
}

/// A check of the connection.
#[must_use]
pub fn check(input: &Input) -> Request {
    let wanted = CheckConnectionInput { tenant_id: input.spec.tenant_id.clone(), connector_id: connector_id(input) };
    Request::StartWorkflow(StartWorkflow {
        workflow_type: CHECK_CONNECTION_WORKFLOW,
        workflow_id: input.installation.names.connection_check(&input.spec.tenant_id, &connector_id(input)),
        input: serde_json::to_value(wanted).expect("two text fields"),
        reuse: IdReuse::OneAtATime,
    })
}

/// When the connection is to be checked, after the store answered.
#[must_use]
pub fn check_plan(input: &Input, revision: i64, credential_revision: i64) -> check::Plan {
    let can_be_checked = credential_revision > 0 && input.spec.state == ConnectorState::Running;
    if can_be_checked {
        check::plan(input.checks.as_ref(), input.connection, revision, input.now, input.check_wait)
    } else {
        check::Plan::default()
    }
}

fn sync_input(input: &Input, full_sync: bool) -> serde_json::Value {
    let wanted =
        ConnectorSyncInput { tenant_id: input.spec.tenant_id.clone(), connector_id: connector_id(input), full_sync };
    serde_json::to_value(wanted).expect("two text fields and a flag")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::HubspotSource;

    fn hosts(base_url: Option<&str>) -> Result<Vec<String>, &'static str> {
        let source = Source::Hubspot(HubspotSource { base_url: base_url.map(str::to_owned) });
        allowed_hosts(&source).map_err(|problem| problem.reason)
    }

    #[test]
    fn a_stream_is_projected_with_its_contract_and_fields() {
        let spec: StreamSpec = serde_json::from_value(serde_json::json!({
            "name": "contacts", "properties": ["badge"], "schemaContract": "Evolve",
            "fields": { "drop": ["phone"], "hash": ["email", "badge"] },
        }))
        .expect("a stream");
        let config = stream_config(&spec);
        assert_eq!((config.name.as_str(), config.schema_contract), ("contacts", SchemaContract::Evolve));
        assert_eq!((config.fields.drop.as_slice(), config.fields.hash.len()), (["phone".to_owned()].as_slice(), 2));
        let plain: StreamSpec = serde_json::from_value(serde_json::json!({ "name": "deals" })).expect("a stream");
        let expected = StreamConfig { name: "deals".to_owned(), ..StreamConfig::default() };
        assert_eq!(stream_config(&plain), expected, "the defaults of the API are those of the model");
    }

    #[test]
    fn a_credential_may_be_sent_to_the_sources_host_only() {
        assert_eq!(hosts(None), Ok(vec!["api.hubapi.com".to_owned(), "api.hubapi.com:443".to_owned()]));
        assert_eq!(hosts(Some("http://sim:8090/")), Ok(vec!["sim:8090".to_owned()]));
        assert_eq!(hosts(Some("https://eu.example")), Ok(vec!["eu.example".to_owned(), "eu.example:443".to_owned()]));
        for refused in ["ftp://x", "not a url", "https://user:pw@x", "https://x/?a=b", "https://x/#f"] {
            assert_eq!(hosts(Some(refused)), Err(reason::INVALID_SPEC), "{refused}");
        }
    }
}
