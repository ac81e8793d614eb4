//! HubSpot as a `Source`: which request each position means, and what its answer leads to.
//! First load by list, increments by search in the order of ids, then the archive; owners and pipelines whole each time.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Call, Class, Client, DEFAULT_LIMIT, SEARCH_LIMIT, SEARCH_SPACING, endpoint},
    config::{API_VERSION, OBJECT_TYPES, SYSTEM, To, base_url, host},
    directory,
    mapping::{Fault, Plan, distinct_ids},
    position::{Position, endless},
    record::{BatchLinks, Link, Links, Object, Page, add_link, listed_links, sort_links},
};
use crate::{
    connectors::{
        Account, Error, Fetch, Fetched, Source, Stream,
        budget::{Key, Limit, Pacer},
        oauth::{AccessTokens, Identity},
        registry::{Opening, chosen_streams},
    },
    model::{batch::BatchWriter, config::SourceConfig},
};

/// Records a list page: the most that the API gives (objects guide).
const LIST_PAGE: usize = 100;
/// Records a search page: the most that the API gives (search guide).
const SEARCH_PAGE: usize = 200;
/// Inputs of one batch read of objects (objects guide).
const BATCH_READ_INPUTS: usize = 100;
/// Properties' names in a list's URL; above about this length HubSpot answers 414 (docs/facts.md, Sources).
const MAX_PROPERTIES_IN_URL: usize = 15_000;
/// Properties' names in a search body, which may hold 3,000 characters in all (search guide).
const MAX_PROPERTIES_IN_SEARCH: usize = 2_500;
/// Parts of one record's association list before it counts as endless: 500 a part.
const MAX_LINK_PARTS: usize = 1_000;

/// The connector.
#[derive(Debug)]
pub struct HubSpot {
    client: Client,
    streams: Vec<Stream>,
    plans: HashMap<&'static str, Plan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountDetails {
    portal_id: u64,
}

impl HubSpot {
    /// Opens the connector. Sends nothing.
    ///
    /// # Errors
    /// `Configuration` for a base URL, stream, property or credential that cannot be used.
    pub fn open(opening: Opening) -> Result<Self, Error> {
        let SourceConfig::Hubspot { base_url: configured } = &opening.config.source;
        let base = base_url(configured.as_deref())?;
        let streams = chosen_streams(&opening.config.source, &opening.config.streams)?;
        let plans = plans(&opening, &streams)?;
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
        Ok(Self { client, streams, plans })
    }

    async fn fetch_objects(&self, plan: &Plan, request: &Fetch<'_>, into: &mut BatchWriter) -> Result<Fetched, Error> {
        let position = Position::of(request, true)?;
        let call = self.page_call(plan, request, &position);
        let (page, next) = self
            .client
            .page(&call, |page| match &position {
                Position::Search { after_id } => search_next(plan, page, *after_id),
                _ => position.advance(request.stream, page.after()),
            })
            .await?;
        match position {
            Position::Archived { .. } => page.records().for_each(|raw| plan.push_archived(raw, request.lower, into)),
            _ => self.push_live(plan, &position, &page, into).await?,
        }
        fetched(next.as_ref())
    }

    fn page_call(&self, plan: &Plan, request: &Fetch<'_>, position: &Position) -> Call {
        let name = plan.object.name;
        let path = format!("/crm/objects/{API_VERSION}/{name}");
        let (archived, after) = match position {
            Position::Search { after_id } => {
                let body = search_body(plan, request, *after_id);
                return self.client.post(Class::Search, format!("search of {name}"), &format!("{path}/search"), &body);
            }
            Position::List { after } => ("false", after),
            Position::Archived { after } => ("true", after),
        };
        let limit = LIST_PAGE.to_string();
        let mut query = vec![("limit", limit.as_str()), ("archived", archived)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let properties = requested(plan, MAX_PROPERTIES_IN_URL).join(",");
        let associations: Vec<_> = plan.object.associations.iter().map(|to| to.name()).collect();
        let associations = associations.join(",");
        if archived == "true" {
            // A tombstone has no cells: nothing but the envelope is needed.
            query.push(("properties", "hs_object_id"));
        } else {
            query.push(("properties", &properties));
            query.extend((!associations.is_empty()).then_some(("associations", associations.as_str())));
        }
        self.client.get(format!("list of {name}"), &path, &query)
    }

    /// Reads what the page lacks (associations, properties beyond the limits of its request), then pushes its records.
    async fn push_live(
        &self,
        plan: &Plan,
        position: &Position,
        page: &Page,
        into: &mut BatchWriter,
    ) -> Result<(), Error> {
        let mut objects: Vec<_> = page.records().map(|raw| Object::parse(raw, &plan.properties)).collect();
        let listed = matches!(position, Position::List { .. });
        let links = self.links_of(plan, &objects, listed).await?;
        let limit = if listed { MAX_PROPERTIES_IN_URL } else { MAX_PROPERTIES_IN_SEARCH };
        let apart = if requested(plan, limit).len() < plan.properties.names().len() {
            self.properties_apart(plan, &objects).await?
        } else {
            Vec::new()
        };
        fill_in(plan, &mut objects, &apart);
        for (raw, object) in page.records().zip(objects) {
            let none = Links::new();
            let found = object.as_ref().map_or(Some(&none), |object| links.get(&*object.id));
            match found {
                Some(found) => plan.push_live(raw, object.ok_or(Fault::RECORD), found, into),
                None => plan.push_live(raw, Err(Fault::value("associations")), &none, into),
            }
        }
        Ok(())
    }

    /// The associations of a page's records by id; a record whose own are unreadable is missing.
    async fn links_of(
        &self,
        plan: &Plan,
        objects: &[Option<Object<'_>>],
        listed: bool,
    ) -> Result<HashMap<String, Links>, Error> {
        let mut found: HashMap<String, Links> = HashMap::new();
        let mut apart: Vec<Cow<'_, str>> = Vec::new();
        for object in objects.iter().flatten() {
            let own = if listed { listed_links(object.associations, plan.object.associations) } else { Ok(None) };
            match own {
                Ok(Some(links)) => drop(found.insert(object.id.clone().into_owned(), links)),
                Ok(None) => apart.push(object.id.clone()),
                Err(_) => {}
            }
        }
        if listed && apart.is_empty() {
            return Ok(found);
        }
        let ids = if listed { apart } else { distinct_ids(objects) };
        found.extend(ids.iter().map(|id| (id.clone().into_owned(), Links::new())));
        if !ids.is_empty() {
            for &to in plan.object.associations {
                self.read_links(plan, to, &ids, &mut found).await?;
            }
        }
        Ok(found)
    }

    /// Reads the associations of up to a page of records to one type, following long lists to their ends.
    async fn read_links(
        &self,
        plan: &Plan,
        to: To,
        ids: &[Cow<'_, str>],
        found: &mut HashMap<String, Links>,
    ) -> Result<(), Error> {
        let (from, to_name) = (plan.object.name, to.name());
        let path = format!("/crm/associations/{API_VERSION}/{from}/{to_name}/batch/read");
        let what = format!("associations of {from} to {to_name}");
        let mut inputs: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        for _ in 0..MAX_LINK_PARTS {
            let call = self.client.post(Class::General, what.as_str(), &path, &json!({"inputs": inputs}));
            let (part, _): (BatchLinks, _) = self.client.read(&call).await?;
            inputs.clear();
            for record in part.results {
                let Some(links) = found.get_mut(&record.from.id) else { continue };
                let links: &mut Vec<Link> = links.entry(to).or_default();
                for link in &record.to {
                    add_link(links, link.to_object_id.clone(), link.is_primary(to));
                }
                sort_links(links);
                inputs.extend(record.after().map(|after| json!({"id": record.from.id, "after": after})));
            }
            if inputs.is_empty() {
                return Ok(());
            }
        }
        Err(endless(&what))
    }

    /// Reads the properties that did not fit into the page's own request.
    async fn properties_apart(&self, plan: &Plan, objects: &[Option<Object<'_>>]) -> Result<Vec<Page>, Error> {
        let name = plan.object.name;
        let path = format!("/crm/objects/{API_VERSION}/{name}/batch/read");
        let properties = &plan.properties.names()[plan.canonical_count..];
        let mut pages = Vec::new();
        for ids in distinct_ids(objects).chunks(BATCH_READ_INPUTS) {
            let inputs: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
            let body = json!({"inputs": inputs, "properties": properties, "propertiesWithHistory": []});
            let call = self.client.post(Class::General, format!("batch read of {name}"), &path, &body);
            pages.push(self.client.page(&call, |_| Ok(())).await?.0);
        }
        Ok(pages)
    }

    async fn fetch_owners(&self, request: &Fetch<'_>, into: &mut BatchWriter) -> Result<Fetched, Error> {
        let position = Position::of(request, false)?;
        let (archived, after) = match &position {
            Position::List { after } => ("false", after),
            Position::Archived { after } => ("true", after),
            Position::Search { .. } => return Err(endless(request.stream)),
        };
        let limit = LIST_PAGE.to_string();
        let mut query = vec![("limit", limit.as_str()), ("archived", archived)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let call = self.client.get("list of owners", &format!("/crm/owners/{API_VERSION}"), &query);
        let (page, next) = self.client.page(&call, |page| position.advance(request.stream, page.after())).await?;
        page.records().for_each(|raw| directory::push_owner(raw, into));
        fetched(next.as_ref())
    }

    async fn fetch_pipelines(&self, into: &mut BatchWriter) -> Result<Fetched, Error> {
        let call = self.client.get("list of deal pipelines", &format!("/crm/pipelines/{API_VERSION}/deals"), &[]);
        let (page, ()) = self.client.page(&call, |_| Ok(())).await?;
        page.records().for_each(|raw| directory::push_pipeline(raw, into));
        Ok(Fetched { next: None })
    }
}

#[async_trait]
impl Source for HubSpot {
    async fn account(&self) -> Result<Account, Error> {
        let call = self.client.get("account details", &format!("/account-info/{API_VERSION}/details"), &[]);
        let (details, response): (AccountDetails, _) = self.client.read(&call).await?;
        let no_clock =
            || Error::UnreadablePage { system: SYSTEM, detail: "account details: no Date header".to_owned() };
        Ok(Account { id: details.portal_id.to_string(), clock: response.date().ok_or_else(no_clock)? })
    }

    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    async fn fetch(&self, request: Fetch<'_>, into: &mut BatchWriter) -> Result<Fetched, Error> {
        match (request.stream, self.plans.get(request.stream)) {
            ("owners", _) => self.fetch_owners(&request, into).await,
            ("pipelines", _) => self.fetch_pipelines(into).await,
            (_, Some(plan)) => self.fetch_objects(plan, &request, into).await,
            (unknown, None) => {
                Err(Error::Configuration { system: SYSTEM, detail: format!("stream {unknown:?} is not opened") })
            }
        }
    }
}

fn plans(opening: &Opening, streams: &[Stream]) -> Result<HashMap<&'static str, Plan>, Error> {
    let configuration = |detail| Error::Configuration { system: SYSTEM, detail };
    let mut plans = HashMap::new();
    for stream in streams {
        let configured = opening.config.streams.iter().find(|configured| configured.name == stream.name);
        let custom = configured.map_or(&[][..], |configured| &configured.properties);
        if let Some(bad) = custom.iter().find(|name| !is_property_name(name)) {
            let detail = format!("{}: {bad:?} is no property name (letters, digits and '_', at most 100)", stream.name);
            return Err(configuration(detail));
        }
        match OBJECT_TYPES.iter().find(|object| object.name == stream.name) {
            Some(object) => drop(plans.insert(object.name, Plan::new(object, custom))),
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

/// The properties that fit into a request, canonical ones always; the Connector's own all or none.
fn requested(plan: &Plan, limit: usize) -> &[String] {
    let names = plan.properties.names();
    let length: usize = names.iter().map(|name| name.len() + 3).sum();
    if length <= limit { names } else { &names[..plan.canonical_count] }
}

fn search_body(plan: &Plan, request: &Fetch<'_>, after_id: Option<u64>) -> serde_json::Value {
    let filter = |property: &str, operator: &str, value: String| json!({"propertyName": property, "operator": operator, "value": value});
    let modified = plan.object.modified;
    let lower = request.lower.unwrap_or(Timestamp::UNIX_EPOCH).as_millisecond();
    let mut filters = vec![
        filter(modified, "GTE", lower.to_string()),
        filter(modified, "LT", request.upper.as_millisecond().to_string()),
    ];
    filters.extend(after_id.map(|id| filter("hs_object_id", "GT", id.to_string())));
    json!({
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": requested(plan, MAX_PROPERTIES_IN_SEARCH),
        "limit": SEARCH_PAGE,
    })
}

/// Every page starts a new search above the last id, so the cap of 10,000 results a search is never met.
fn search_next(plan: &Plan, page: &Page, after_id: Option<u64>) -> Result<Option<Position>, Error> {
    if page.after().is_none() && page.records().len() < SEARCH_PAGE {
        return Ok(Some(Position::Archived { after: None }));
    }
    let ids = page.records().filter_map(|raw| super::record::id_of(raw)?.parse::<u64>().ok());
    match ids.max() {
        Some(last) if Some(last) > after_id => Ok(Some(Position::Search { after_id: Some(last) })),
        _ => Err(endless(plan.object.name)),
    }
}

fn fetched(next: Option<&Position>) -> Result<Fetched, Error> {
    let next = next.map(serde_json::to_value).transpose().expect("positions are plain values");
    Ok(Fetched { next })
}

/// Puts the properties that were read apart beside those of the page.
fn fill_in<'a>(plan: &Plan, objects: &mut [Option<Object<'a>>], apart: &'a [Page]) {
    let read = apart.iter().flat_map(Page::records).filter_map(|raw| Object::parse(raw, &plan.properties));
    let mut by_id: HashMap<Cow<'a, str>, Vec<Option<&'a str>>> =
        read.map(|object| (object.id, object.values)).collect();
    for object in objects.iter_mut().flatten() {
        let Some(values) = by_id.get_mut(&object.id) else { continue };
        for (own, read) in object.values.iter_mut().zip(values).skip(plan.canonical_count) {
            *own = own.or(*read);
        }
    }
}
