//! Reading objects: list, read by id, batch read, and how an object is shown.
//! Changes nothing but the note of what was served.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    account::Account,
    answer::{Answer, invalid, not_found},
    definitions::default_properties,
    kind::{Kind, association_type_id, primary_type_id},
    properties::show_time,
    records::{Key, Life, Records, id_of},
    request::Request,
};

/// Records in a page of list at most, inputs of a batch read at most (developers.hubspot.com, objects API).
pub(super) const MAX_LIST_LIMIT: usize = 100;

impl Records {
    /// An object as list, read and search show it: the asked properties (or the default ones) and the system's three.
    pub(super) fn show(&self, key: Key, asked: &[String]) -> Value {
        let (kind, index) = key;
        let Some(header) = self.header(key) else { return Value::Null };
        let system = [kind.created_property(), kind.modified_property(), "hs_object_id"];
        let mut properties = Map::new();
        let names = asked.iter().map(String::as_str);
        let defaults = default_properties(kind).iter().copied().filter(|_| asked.is_empty());
        for name in names.chain(defaults).chain(system) {
            if !properties.contains_key(name) && self.definition(kind, name).is_some() {
                properties.insert(name.to_owned(), self.value(key, name).map_or(Value::Null, Value::String));
            }
        }
        let mut shown = json!({
            "id": id_of(index).to_string(),
            "properties": properties,
            "createdAt": show_time(header.created_ms),
            "updatedAt": show_time(header.updated_ms),
            "archived": false,
        });
        if let Life::Archived(at) = header.life {
            shown["archived"] = json!(true);
            shown["archivedAt"] = json!(show_time(at));
        }
        shown
    }

    /// The `associations` member of an object, as list and read show it on demand.
    pub(super) fn show_associations(&self, key: Key, to: &[Kind]) -> Value {
        let mut shown = Map::new();
        for &other in to {
            let label = format!("{}_to_{}", key.0.singular(), other.singular());
            let mut results = Vec::new();
            for link in self.shown_links(key, other) {
                let id = id_of(link.index).to_string();
                // A primary association appears twice, as at the vendor.
                if link.primary {
                    results.push(json!({"id": id, "type": label}));
                    results.push(json!({"id": id, "type": format!("{label}_unlabeled")}));
                } else if primary_type_id(key.0, other).is_some() {
                    results.push(json!({"id": id, "type": format!("{label}_unlabeled")}));
                } else {
                    results.push(json!({"id": id, "type": label}));
                }
            }
            if !results.is_empty() {
                shown.insert(other.plural().to_owned(), json!({"results": results}));
            }
        }
        Value::Object(shown)
    }
}

/// The types of an association, as the associations API shows them.
pub(super) fn show_types(from: Kind, to: Kind, primary: bool) -> Value {
    let unlabelled = json!({"category": "HUBSPOT_DEFINED", "typeId": association_type_id(from, to), "label": null});
    match primary_type_id(from, to).filter(|_| primary) {
        Some(id) => json!([{"category": "HUBSPOT_DEFINED", "typeId": id, "label": "Primary"}, unlabelled]),
        None => json!([unlabelled]),
    }
}

impl Account {
    /// `GET /crm/objects/{version}/{type}`, ordered by id; `after` is the first id of the next page.
    pub(super) fn list(&mut self, kind: Kind, request: &Request) -> Answer {
        let limit = match request.value("limit").map(str::parse::<usize>) {
            None => 10,
            Some(Ok(limit @ 1..=MAX_LIST_LIMIT)) => limit,
            Some(_) => return invalid(format!("limit must be between 1 and {MAX_LIST_LIMIT}")),
        };
        let first = match request.value("after").map(str::parse::<u64>) {
            None => 0,
            Some(Ok(id)) => Records::position_from(id),
            Some(Err(_)) => return invalid("after is not a cursor of this list"),
        };
        let to = match parse_kinds(&request.list("associations")) {
            Ok(to) => to,
            Err(answer) => return answer,
        };
        let (archived, asked) = (request.flag("archived"), request.list("properties"));
        let now_ms = self.now_ms();
        let mut page: Vec<u32> = (first..self.records.count(kind))
            .filter(|&index| self.listed((kind, index), archived, now_ms))
            .take(limit + 1)
            .collect();
        let next = (page.len() > limit).then(|| page.pop()).flatten();
        let results: Vec<Value> = page.iter().map(|&index| self.serve_object((kind, index), &asked, &to)).collect();
        let mut body = json!({"results": results});
        if let Some(next) = next {
            body["paging"] = next_page(request, &id_of(next).to_string());
        }
        Answer::ok(body)
    }

    fn listed(&self, key: Key, archived: bool, now_ms: i64) -> bool {
        let matches = match self.records.header(key).map(|header| header.life) {
            Some(Life::Live) => !archived,
            Some(Life::Archived(_)) => archived,
            Some(Life::Merged(..) | Life::Vanished(_)) | None => false,
        };
        matches && self.records.is_visible(key, now_ms)
    }

    /// Shows an object and notes that it was served.
    pub(super) fn serve_object(&mut self, key: Key, asked: &[String], associations: &[Kind]) -> Value {
        let mut shown = self.records.show(key, asked);
        if !associations.is_empty() {
            let links = self.records.show_associations(key, associations);
            if links.as_object().is_some_and(|links| !links.is_empty()) {
                shown["associations"] = links;
            }
        }
        self.records.mark_served(key);
        self.stats.served(key.0, 1);
        shown
    }

    /// `GET /crm/objects/{version}/{type}/{id}`, also by a unique property.
    pub(super) fn read_one(&mut self, kind: Kind, id: &str, request: &Request) -> Answer {
        let to = match parse_kinds(&request.list("associations")) {
            Ok(to) => to,
            Err(answer) => return answer,
        };
        match self.locate(kind, id, request.value("idProperty")) {
            Some(index) if self.readable((kind, index), request.flag("archived")) => {
                Answer::ok(self.serve_object((kind, index), &request.list("properties"), &to))
            }
            _ => not_found(),
        }
    }

    fn readable(&self, key: Key, archived: bool) -> bool {
        match self.records.header(key).map(|header| header.life) {
            Some(Life::Live) => !archived,
            Some(Life::Archived(_)) => archived,
            _ => false,
        }
    }

    /// Finds a record by id or by the value of a unique property.
    pub(super) fn locate(&self, kind: Kind, id: &str, by: Option<&str>) -> Option<u32> {
        match by.filter(|&name| name != "hs_object_id") {
            None => self.records.find(kind, id),
            Some(name) => (0..self.records.count(kind)).find(|&index| {
                self.records.is_live((kind, index))
                    && self
                        .records
                        .value((kind, index), name)
                        .is_some_and(|value| !value.is_empty() && value.eq_ignore_ascii_case(id))
            }),
        }
    }

    /// `POST …/batch/read` `{inputs: [{id}], properties, idProperty}`; 207 when some ids are not found.
    pub(super) fn batch_read(&mut self, kind: Kind, request: &Request) -> Answer {
        let body = match request.json() {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let asked = texts(&body["properties"]);
        let inputs = texts_of(&body["inputs"], "id");
        if inputs.len() > MAX_LIST_LIMIT {
            return too_many_inputs();
        }
        let archived = request.flag("archived");
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for id in inputs {
            match self.locate(kind, &id, body["idProperty"].as_str()) {
                Some(index) if self.readable((kind, index), archived) => {
                    results.push(self.serve_object((kind, index), &asked, &[]));
                }
                _ => missing.push(id),
            }
        }
        self.batch_answer(StatusCode::OK, results, missing_errors(&missing))
    }

    /// The envelope of batch answers: 207 and counts when there are errors.
    pub(super) fn batch_answer(&self, status: StatusCode, results: Vec<Value>, errors: Vec<Value>) -> Answer {
        let at = show_time(self.now_ms());
        let mut body = json!({"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at});
        if errors.is_empty() {
            return Answer::with_status(status, body);
        }
        // One error can name several ids in its context.
        body["numErrors"] = json!(errors.len());
        body["errors"] = Value::Array(errors);
        Answer::with_status(StatusCode::MULTI_STATUS, body)
    }
}

/// The one error that names all ids that were not found.
pub(super) fn missing_errors(missing: &[String]) -> Vec<Value> {
    if missing.is_empty() {
        return Vec::new();
    }
    vec![json!({
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some objects, they may be deleted or not exist. Check that ids are valid.",
        "context": {"ids": missing},
        "errors": [],
        "links": {},
    })]
}

pub(super) fn too_many_inputs() -> Answer {
    invalid(format!("The maximum number of inputs supported in a batch request is {MAX_LIST_LIMIT}"))
}

/// The strings of a JSON list.
pub(super) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A member of each object of a JSON list, as text.
pub(super) fn texts_of(value: &Value, member: &str) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| match &item[member] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

/// The types named in `associations`.
pub(super) fn parse_kinds(names: &[String]) -> Result<Vec<Kind>, Answer> {
    let parse = |name: &String| Kind::parse(name).ok_or_else(|| invalid(format!("Unknown object type: {name}")));
    names.iter().map(parse).collect()
}

/// The `paging` member of a list.
pub(super) fn next_page(request: &Request, after: &str) -> Value {
    json!({"next": {"after": after, "link": format!("https://api.hubapi.com{}?after={after}", request.path)}})
}
