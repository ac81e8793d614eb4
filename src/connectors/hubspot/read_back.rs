//! Records by id and their number: what verifies the candidates of a sweep (R6), replays dead letters and proves counts.
//! An id ends as what `fetch` would have pushed, or as a tombstone; pages and windows are `source`'s.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{
    HubSpot,
    client::{Class, Client},
    config::{API_VERSION, SYSTEM},
    directory,
    mapping::{Plan, unknown},
    position::Position,
    record::{Object, Page, id_of},
    source::BATCH_READ_INPUTS,
};
use crate::{
    connectors::{Error, Source as _},
    model::{entity::Entity, page::PageWriter},
};

#[derive(Deserialize)]
struct SearchTotal {
    total: u64,
}

/// Canonical ids without doubles, in order.
fn distinct(ids: &[String]) -> BTreeSet<&str> {
    ids.iter().map(String::as_str).collect()
}

impl HubSpot {
    pub(super) async fn read_objects(
        &self,
        plan: &Plan,
        ids: &[String],
        into: &mut PageWriter<'_>,
    ) -> Result<(), Error> {
        let ids: Vec<_> = distinct(ids).into_iter().collect();
        for chunk in ids.chunks(BATCH_READ_INPUTS) {
            self.read_chunk(plan, chunk, into).await?;
        }
        Ok(())
    }

    /// Live records first, then the archive for what is not among them; what neither knows is gone, as of the first answer.
    async fn read_chunk(&self, plan: &Plan, ids: &[&str], into: &mut PageWriter<'_>) -> Result<(), Error> {
        let mut missing: BTreeSet<String> = ids.iter().filter_map(|id| plan.vendor_id(id)).map(str::to_owned).collect();
        let malformed = ids.iter().filter(|id| plan.vendor_id(id).is_none());
        let at = if missing.is_empty() {
            self.account().await?.clock
        } else {
            let (page, at) = self.batch(plan, &missing, false).await?;
            self.push_live(plan, &page, false, None, into).await?;
            let answered = answered(plan, &page)?;
            missing.retain(|id| !answered.contains(id));
            at
        };
        if !missing.is_empty() {
            let (page, _) = self.batch(plan, &missing, true).await?;
            page.records().for_each(|raw| plan.push_archived(raw, None, into));
            let answered = answered(plan, &page)?;
            missing.retain(|id| !answered.contains(id));
        }
        for id in &missing {
            push_unknown(plan.object.entity, &plan.source_id(id.as_str().into()), at, into);
        }
        malformed.for_each(|id| push_unknown(plan.object.entity, id, at, into));
        Ok(())
    }

    /// One batch read; of archived records only the envelope, which is all that a tombstone has.
    async fn batch(&self, plan: &Plan, ids: &BTreeSet<String>, archived: bool) -> Result<(Page, Timestamp), Error> {
        let name = plan.object.name;
        let inputs: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        let envelope = ["hs_object_id".to_owned()];
        let properties = if archived { &envelope[..] } else { plan.properties.names() };
        let body = json!({"inputs": inputs, "properties": properties, "propertiesWithHistory": []});
        let path = format!("/crm/objects/{API_VERSION}/{name}/batch/read");
        let call = self.client.post(Class::General, format!("batch read of {name}"), &path, &body);
        let archived = if archived { "true" } else { "false" };
        self.client.batch_read(&Client::with_query(call, &[("archived", archived)])).await
    }

    /// Owners are few and listed whole, active and deactivated.
    pub(super) async fn read_owners(&self, ids: &[String], into: &mut PageWriter<'_>) -> Result<(), Error> {
        let at = self.account().await?.clock;
        let mut missing = distinct(ids);
        let mut position = Some(Position::List { after: None });
        while let Some(here) = position {
            let (page, next) = self.owners_page("owners", &here).await?;
            for raw in page.records() {
                let id = id_of(raw).ok_or_else(|| nameless("list of owners"))?;
                if missing.remove(&*id) {
                    directory::push_owner(raw, into);
                }
            }
            position = next;
        }
        missing.into_iter().for_each(|id| push_unknown(Entity::Owner, id, at, into));
        Ok(())
    }

    /// Stages come with their pipelines, in one answer.
    pub(super) async fn read_stages(&self, ids: &[String], into: &mut PageWriter<'_>) -> Result<(), Error> {
        let at = self.account().await?.clock;
        let missing = push_stages(&self.pipelines_page().await?, &distinct(ids), into)?;
        missing.into_iter().for_each(|id| push_unknown(Entity::Stage, id, at, into));
        Ok(())
    }

    /// The total of a search, which is exact and has no cap of its own (search guide: 10,000 is that of paging).
    pub(super) async fn count_objects(&self, plan: &Plan, created_before: Timestamp) -> Result<u64, Error> {
        let name = plan.object.name;
        let before = created_before.as_millisecond().to_string();
        let filter = json!({"propertyName": plan.object.created, "operator": "LT", "value": before});
        let body = json!({"filterGroups": [{"filters": [filter]}], "properties": ["hs_object_id"], "limit": 1});
        let path = format!("/crm/objects/{API_VERSION}/{name}/search");
        let call = self.client.post(Class::Search, format!("count of {name}"), &path, &body);
        let (answer, _): (SearchTotal, _) = self.client.read(&call).await?;
        Ok(answer.total)
    }
}

/// Pushes the wanted stages of a page of pipelines and answers the ids of those that are not there. The id of a pipeline,
/// which a letter of one has that was unreadable as a whole, brings all its stages; itself it is no stage's.
pub(super) fn push_stages<'i>(
    page: &Page,
    wanted: &BTreeSet<&'i str>,
    into: &mut PageWriter<'_>,
) -> Result<BTreeSet<&'i str>, Error> {
    let mut missing = wanted.clone();
    for raw in page.records() {
        let pipeline = id_of(raw).ok_or_else(|| nameless("list of deal pipelines"))?;
        let (whole, prefix) = (wanted.contains(&*pipeline), format!("{pipeline}:"));
        if !whole && !wanted.iter().any(|id| id.starts_with(&prefix)) {
            continue;
        }
        let seen = directory::push_pipeline(raw, |id| whole || wanted.contains(id), into);
        missing.retain(|id| !seen.stages.iter().any(|stage| stage == id));
        if seen.unreadable {
            missing.retain(|id| *id != pipeline && !id.starts_with(&prefix));
        }
    }
    Ok(missing)
}

fn push_unknown(entity: Entity, source_id: &str, at: Timestamp, into: &mut PageWriter<'_>) {
    into.push(unknown(entity, source_id, at), Vec::new(), &[]);
}

/// The ids that a page answers: those of its records, and those merged into them, for which HubSpot serves the survivor.
///
/// # Errors
/// `UnreadablePage` for a record without an id: any of the missing ids may be its own, so none of them may be called gone.
fn answered(plan: &Plan, page: &Page) -> Result<HashSet<String>, Error> {
    let mut ids = HashSet::new();
    for raw in page.records() {
        let id = id_of(raw).ok_or_else(|| nameless(&format!("batch read of {}", plan.object.name)))?;
        ids.insert(id.into_owned());
        let object = Object::parse(raw, &plan.properties);
        ids.extend(object.iter().flat_map(|object| plan.merged_ids(object)));
    }
    Ok(ids)
}

fn nameless(what: &str) -> Error {
    Error::UnreadablePage { system: SYSTEM, detail: format!("{what}: a record without an id") }
}
