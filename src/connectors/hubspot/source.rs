//! HubSpot as a `Source`: which request each position means, and what its answer leads to.
//! First load by list, increments by search in the order of ids, then the archive; owners and pipelines whole each time.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Call, Class, Client},
    config::{API_VERSION, SYSTEM, To},
    directory,
    mapping::{Fault, Plan, distinct_ids},
    position::{Position, endless},
    record::{BatchLinks, Link, Links, Object, Page, add_link, listed_links, sort_links},
};
use crate::{
    connectors::{Account, Error, Fetch, Fetched, Source, Stream},
    model::{batch::BatchWriter, page::PageWriter, policy::Policy},
};

/// Records a list page: the most that the API gives (objects guide).
const LIST_PAGE: usize = 100;
/// Records a search page: the most that the API gives (search guide).
const SEARCH_PAGE: usize = 200;
/// Inputs of one batch read of objects (objects guide).
pub(super) const BATCH_READ_INPUTS: usize = 100;
/// Properties' names in a list's URL; above about this length HubSpot answers 414 (docs/facts.md, Sources).
const MAX_PROPERTIES_IN_URL: usize = 15_000;
/// Properties' names in a search body, which may hold 3,000 characters in all (search guide).
const MAX_PROPERTIES_IN_SEARCH: usize = 2_500;
/// How long archived records can be listed: as long as they can be restored (docs/facts.md, Sources).
const ARCHIVE_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Parts of one record's association list before it counts as endless: 500 a part.
const MAX_LINK_PARTS: usize = 1_000;

/// The connector.
#[derive(Debug)]
pub struct HubSpot {
    pub(super) client: Client,
    pub(super) streams: Vec<Stream>,
    pub(super) plans: HashMap<&'static str, Plan>,
    /// What each stream's spec says about its values.
    pub(super) policies: HashMap<&'static str, Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountDetails {
    portal_id: u64,
}

impl HubSpot {
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
            Position::Archived { .. } => {
                let mut into = self.page_writer(request.stream, into)?;
                page.records().for_each(|raw| plan.push_archived(raw, request.lower, &mut into));
                landed(request.stream, into)?;
            }
            _ => {
                let request_limit = match position {
                    Position::List { .. } => Some(MAX_PROPERTIES_IN_URL),
                    _ => Some(MAX_PROPERTIES_IN_SEARCH),
                };
                let mut into = self.page_writer(request.stream, into)?;
                let listed = matches!(position, Position::List { .. });
                self.push_live(plan, &page, listed, request_limit, &mut into).await?;
                landed(request.stream, into)?;
            }
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
        let associations: Vec<_> = plan.associations.iter().map(|to| to.name()).collect();
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
    /// `listed` records carry their associations; `request_limit` is the length of names that the page's request held.
    pub(super) async fn push_live(
        &self,
        plan: &Plan,
        page: &Page,
        listed: bool,
        request_limit: Option<usize>,
        into: &mut PageWriter<'_>,
    ) -> Result<(), Error> {
        let mut objects: Vec<_> = page.records().map(|raw| Object::parse(raw, &plan.properties)).collect();
        let links = self.links_of(plan, &objects, listed).await?;
        let complete = request_limit.is_none_or(|limit| requested(plan, limit).len() == plan.properties.names().len());
        let apart = if complete { Vec::new() } else { self.properties_apart(plan, &objects).await? };
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
            let own = if listed { listed_links(object.associations, &plan.associations) } else { Ok(None) };
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
            for &to in &plan.associations {
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
        let (page, next) = self.owners_page(request.stream, &position).await?;
        let mut into = self.page_writer(request.stream, into)?;
        page.records().for_each(|raw| directory::push_owner(raw, &mut into));
        landed(request.stream, into)?;
        fetched(next.as_ref())
    }

    /// A page of owners and where the next one starts; the list of active ones ends in that of deactivated ones.
    pub(super) async fn owners_page(
        &self,
        stream: &str,
        position: &Position,
    ) -> Result<(Page, Option<Position>), Error> {
        let (archived, after) = match position {
            Position::List { after } => ("false", after),
            Position::Archived { after } => ("true", after),
            Position::Search { .. } => return Err(endless(stream)),
        };
        let limit = LIST_PAGE.to_string();
        let mut query = vec![("limit", limit.as_str()), ("archived", archived)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let call = self.client.get("list of owners", &format!("/crm/owners/{API_VERSION}"), &query);
        self.client.page(&call, |page| position.advance(stream, page.after())).await
    }

    async fn fetch_pipelines(&self, stream: &str, into: &mut BatchWriter) -> Result<Fetched, Error> {
        let page = self.pipelines_page().await?;
        let mut into = self.page_writer(stream, into)?;
        for raw in page.records() {
            directory::push_pipeline(raw, |_| true, &mut into);
        }
        landed(stream, into)?;
        Ok(Fetched { next: None })
    }

    pub(super) async fn pipelines_page(&self) -> Result<Page, Error> {
        let call = self.client.get("list of deal pipelines", &format!("/crm/pipelines/{API_VERSION}/deals"), &[]);
        Ok(self.client.page(&call, |_| Ok(())).await?.0)
    }

    /// Where the records of a stream go.
    pub(super) fn page_writer<'w>(&'w self, stream: &str, into: &'w mut BatchWriter) -> Result<PageWriter<'w>, Error> {
        let policy = self.policies.get(stream).ok_or_else(|| not_opened(stream))?;
        Ok(PageWriter::new(into, policy))
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
            ("pipelines", _) => self.fetch_pipelines(request.stream, into).await,
            (_, Some(plan)) => self.fetch_objects(plan, &request, into).await,
            (unknown, None) => Err(not_opened(unknown)),
        }
    }

    async fn read(&self, stream: &str, ids: &[String], into: &mut BatchWriter) -> Result<(), Error> {
        let mut into = self.page_writer(stream, into)?;
        match (stream, self.plans.get(stream)) {
            ("owners", _) => self.read_owners(ids, &mut into).await?,
            ("pipelines", _) => self.read_stages(ids, &mut into).await?,
            (_, Some(plan)) => self.read_objects(plan, ids, &mut into).await?,
            (unknown, None) => return Err(not_opened(unknown)),
        }
        landed(stream, into)
    }

    async fn count(&self, stream: &str, created_before: Timestamp) -> Result<Option<u64>, Error> {
        match (self.plans.get(stream), self.policies.get(stream)) {
            (Some(plan), _) => self.count_objects(plan, created_before).await.map(Some),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(not_opened(stream)),
        }
    }

    fn tombstone_horizon(&self) -> Duration {
        ARCHIVE_KEPT
    }
}

fn not_opened(stream: &str) -> Error {
    Error::Configuration { system: SYSTEM, detail: format!("stream {stream:?} is not opened") }
}

/// Keeps a page, unless its stream is frozen.
fn landed(stream: &str, page: PageWriter<'_>) -> Result<(), Error> {
    page.finish().map_err(|frozen| Error::Configuration { system: SYSTEM, detail: format!("{stream}: {frozen}") })
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
