//! The associations endpoints: batch read, and the default association between two records.
//! Shape: developers.hubspot.com, "Retrieve associations" of the 2026-03 API reference.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    account::Account,
    answer::{Answer, invalid, no_such_path, not_found},
    associations::{Link, is_natural},
    kind::{Kind, association_type_id},
    read::{show_types, texts_of},
    records::{Key, id_of},
    request::Request,
};

/// Inputs of a batch read at most (associations v4 guide).
const MAX_INPUTS: usize = 1_000;

impl Account {
    /// `POST …/associations/{version}/{from}/{to}/batch/read` `{inputs: [{id}]}`.
    /// Records without an association have no entry; ids that are not there are named in a 207.
    pub(super) fn associations(&mut self, from: Kind, to: Kind, rest: &[String], request: &Request) -> Answer {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        if request.method != "POST" || rest != ["batch", "read"] {
            return no_such_path();
        }
        if association_type_id(from, to).is_none() {
            return invalid(format!("no associations from {} to {}", from.plural(), to.plural()));
        }
        let ids = match request.json() {
            Ok(body) => texts_of(&body["inputs"], "id"),
            Err(answer) => return answer,
        };
        if ids.len() > MAX_INPUTS {
            return invalid(format!("The maximum number of inputs is {MAX_INPUTS}"));
        }
        let (found, missing): (Vec<_>, Vec<_>) =
            ids.into_iter().map(|id| (self.records.find(from, &id), id)).partition(|(index, _)| index.is_some());
        let indexes: Vec<u32> = found.iter().filter_map(|(index, _)| *index).collect();
        let links = self.links_of(from, &indexes, to);
        // The v4 path answers ids as numbers, the dated ones as text.
        let as_text = !request.path.starts_with("/crm/v4/");
        let show = |index: &u32| links.get(index).map(|links| show_links((from, *index), to, links, as_text));
        let results = indexes.iter().filter_map(show).collect();
        let errors = missing.iter().map(|(_, id)| no_association(from, to, id)).collect();
        self.batch_answer(StatusCode::OK, results, errors)
    }

    /// The shown associations of several records; against the natural direction, found in one pass over all.
    fn links_of(&self, from: Kind, indexes: &[u32], to: Kind) -> HashMap<u32, Vec<Link>> {
        let mut links: HashMap<u32, Vec<Link>> = HashMap::new();
        if is_natural(from, to) {
            for &index in indexes {
                links.insert(index, self.records.shown_links((from, index), to));
            }
        } else {
            for other in (0..self.records.count(to)).filter(|&other| self.records.is_live((to, other))) {
                for link in self.records.shown_links((to, other), from) {
                    if indexes.contains(&link.index) {
                        links.entry(link.index).or_default().push(Link { index: other, primary: link.primary });
                    }
                }
            }
        }
        links.retain(|_, links| !links.is_empty());
        links
    }

    /// `PUT …/objects/{version}/{from}/{id}/associations/default/{to}/{id}`.
    pub(super) fn associate_default(&mut self, from: (Kind, &str), to: (&str, &str)) -> Answer {
        let Some(to_kind) = Kind::parse(to.0) else { return invalid("unknown object type") };
        let now_ms = self.now_ms();
        let ends = (self.records.find(from.0, from.1), self.records.find(to_kind, to.1));
        let (Some(from_index), Some(to_index)) = ends else { return not_found() };
        if !self.records.associate((from.0, from_index), (to_kind, to_index), false, now_ms) {
            return invalid("these types cannot be associated");
        }
        let result = json!({
            "from": {"id": id_of(from_index).to_string()},
            "to": {"id": id_of(to_index).to_string()},
            "associationSpec": {
                "associationCategory": "HUBSPOT_DEFINED",
                "associationTypeId": association_type_id(from.0, to_kind),
            },
        });
        self.batch_answer(StatusCode::OK, vec![result], Vec::new())
    }
}

fn show_links((from, index): Key, to: Kind, links: &[Link], as_text: bool) -> Value {
    let show = |link: &Link| {
        let id = id_of(link.index);
        let id = if as_text { json!(id.to_string()) } else { json!(id) };
        json!({"toObjectId": id, "associationTypes": show_types(from, to, link.primary)})
    };
    let shown: Vec<Value> = links.iter().map(show).collect();
    json!({"from": {"id": id_of(index).to_string()}, "to": shown})
}

fn no_association(from: Kind, to: Kind, id: &str) -> Value {
    json!({
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
        "message": format!("No {} is associated with {} {id}.", to.singular(), from.singular()),
        "context": {"fromObjectId": [id], "fromObjectType": [from.type_id()], "toObjectType": [to.type_id()]},
        "errors": [],
        "links": {},
    })
}
