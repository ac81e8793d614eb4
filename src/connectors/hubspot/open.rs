//! Opens a HubSpot source: checks what an edit must mend, and wires plans, budgets and tokens. Sends nothing.

use std::{collections::HashMap, time::Duration};

use super::{
    HubSpot,
    client::{Client, DEFAULT_LIMIT, SEARCH_LIMIT, SEARCH_SPACING, endpoint},
    config::{API_VERSION, OBJECT_TYPES, SYSTEM, base_url, host, property_names},
    mapping::Plan,
};
use crate::{
    connectors::{
        Error, Stream,
        budget::{Key, Limit, Pacer},
        oauth::{AccessTokens, Identity},
        registry::{Opening, chosen_streams},
    },
    model::{config::SourceConfig, policy::Policy},
};

impl HubSpot {
    /// Opens the connector. Sends nothing.
    ///
    /// # Errors
    /// `Configuration` for a base URL, stream, property or credential that cannot be used.
    pub fn open(opening: Opening) -> Result<Self, Error> {
        let SourceConfig::Hubspot { base_url: configured } = &opening.config.source;
        let base = base_url(configured.as_deref())?;
        let streams = chosen_streams(&opening.config.source, &opening.config.streams)?;
        let policies = policies(&opening, &streams)?;
        let plans = plans(&opening, &streams, &policies)?;
        let identity = Identity {
            host: host(configured.as_deref()),
            system: SYSTEM,
            token_url: endpoint(&base, &format!("/oauth/{API_VERSION}/token")),
            credential_revision: opening.credential_revision,
            tenant: opening.tenant.clone(),
            connector: opening.connector.clone(),
        };
        let tokens =
            AccessTokens::new(identity, &opening.envelope, opening.tokens, opening.opener, opening.http.clone())?;
        let account_id = opening.account_id.unwrap_or_else(|| format!("{}/{}", opening.tenant, opening.connector));
        let pacer = |class, limit, spacing| {
            let key = Key { system: SYSTEM, account_id: account_id.clone(), class };
            Pacer::new(opening.budget.clone(), key, limit, spacing)
        };
        let requests_per_second = opening.config.requests_per_second.map(|requests| requests.max(1));
        let client = Client {
            http: opening.http,
            base,
            tokens,
            general: pacer("general", general_limit(requests_per_second), Duration::ZERO),
            search: pacer("search", search_limit(requests_per_second), search_spacing(requests_per_second)),
            requests_per_second,
            reserve_percent: opening.config.quota_reserve_percent,
        };
        Ok(Self { client, streams, plans, policies })
    }
}

fn policies(opening: &Opening, streams: &[Stream]) -> Result<HashMap<&'static str, Policy>, Error> {
    let policy = |stream: &Stream| Ok((stream.name, opening.policy(*stream, property_names(stream))?));
    streams.iter().map(policy).collect()
}

fn plans(
    opening: &Opening,
    streams: &[Stream],
    policies: &HashMap<&'static str, Policy>,
) -> Result<HashMap<&'static str, Plan>, Error> {
    let configuration = |detail| Error::Configuration { system: SYSTEM, detail };
    let mut plans = HashMap::new();
    for stream in streams {
        let custom = opening.stream_config(stream).map_or(&[][..], |configured| &configured.properties);
        if let Some(bad) = custom.iter().find(|name| !is_property_name(name)) {
            let detail = format!("{}: {bad:?} is no property name (letters, digits and '_', at most 100)", stream.name);
            return Err(configuration(detail));
        }
        match OBJECT_TYPES.iter().find(|object| object.name == stream.name) {
            Some(object) => drop(plans.insert(object.name, Plan::new(object, custom, &policies[stream.name]))),
            None if custom.is_empty() => {}
            None => return Err(configuration(format!("{} has a fixed set of properties", stream.name))),
        }
    }
    Ok(plans)
}

/// Internal names of HubSpot's properties (properties guide); so they need no escaping anywhere.
fn is_property_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn general_limit(requests_per_second: Option<u32>) -> Limit {
    requests_per_second
        .map_or(DEFAULT_LIMIT, |requests| Limit { requests: requests.saturating_mul(10), ..DEFAULT_LIMIT })
}

fn search_limit(requests_per_second: Option<u32>) -> Limit {
    let requests = requests_per_second.map_or(SEARCH_LIMIT.requests, |requests| requests.saturating_mul(5));
    Limit { requests: requests.min(SEARCH_LIMIT.requests), ..SEARCH_LIMIT }
}

fn search_spacing(requests_per_second: Option<u32>) -> Duration {
    requests_per_second.map_or(SEARCH_SPACING, |requests| (Duration::from_secs(1) / requests).max(SEARCH_SPACING))
}
