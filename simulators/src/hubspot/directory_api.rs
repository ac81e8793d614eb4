//! The endpoints about the account: owners, pipelines, properties, schemas, account details.
//! Shapes: developers.hubspot.com, the guides of these APIs.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    account::Account,
    answer::{Answer, invalid, no_such_path, not_found},
    definitions::{Definition, ValueType, definitions},
    directory::PIPELINES,
    kind::Kind,
    read::next_page,
    request::Request,
};

/// Owners in a page at most (owners guide).
const MAX_OWNERS: usize = 500;

/// `GET …/pipelines/{version}/deals[/{id}[/stages]]`.
pub(super) fn pipelines(rest: &[String]) -> Answer {
    let find = |id: &String| PIPELINES.iter().find(|pipeline| pipeline.id == id.as_str());
    match rest {
        [] => {
            Answer::ok(json!({"results": PIPELINES.iter().map(super::directory::Pipeline::json).collect::<Vec<_>>()}))
        }
        [id] => find(id).map_or_else(not_found, |pipeline| Answer::ok(pipeline.json())),
        [id, stages] if stages == "stages" => {
            find(id).map_or_else(not_found, |pipeline| Answer::ok(json!({"results": pipeline.json()["stages"]})))
        }
        _ => no_such_path(),
    }
}

/// `GET …/schemas`: the account has no custom objects.
pub(super) fn schemas() -> Answer {
    Answer::ok(json!({"results": []}))
}

fn show_definition(definition: &Definition, custom: bool) -> Value {
    json!({
        "name": definition.name,
        "label": definition.name,
        "type": definition.value_type.name(),
        "fieldType": "text",
        "groupName": "simulated",
        "hubspotDefined": !custom,
        "archived": false,
        "modificationMetadata": {"readOnlyValue": definition.read_only},
    })
}

impl Account {
    /// `GET …/owners[/{id}]` with `archived`, `email`, `limit`, `after`.
    pub(super) fn list_owners(&self, rest: &[String], request: &Request) -> Answer {
        if let [id] = rest {
            let owner = self.owners.iter().find(|owner| owner.id.to_string() == *id);
            return owner.map_or_else(not_found, |owner| Answer::ok(owner.json()));
        }
        let limit = match request.value("limit").map(str::parse::<usize>) {
            None => 100,
            Some(Ok(limit @ 1..=MAX_OWNERS)) => limit,
            Some(_) => return invalid(format!("limit must be between 1 and {MAX_OWNERS}")),
        };
        let after = match request.value("after").filter(|after| !after.is_empty()).map(str::parse::<u64>) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => return invalid("after is not a cursor of this list"),
        };
        let (archived, email) = (request.flag("archived"), request.value("email"));
        let mut page: Vec<_> = self
            .owners
            .iter()
            .filter(|owner| owner.archived == archived && owner.id >= after)
            .filter(|owner| email.is_none_or(|email| owner.email == email))
            .take(limit + 1)
            .collect();
        let next = (page.len() > limit).then(|| page.pop()).flatten();
        let mut body = json!({"results": page.iter().map(|owner| owner.json()).collect::<Vec<_>>()});
        if let Some(next) = next {
            body["paging"] = next_page(request, &next.id.to_string());
        }
        Answer::ok(body)
    }

    /// `GET /account-info/{version}/details`.
    pub(super) fn details(&self) -> Answer {
        Answer::ok(json!({
            "portalId": self.portal_id,
            "accountType": "STANDARD",
            "timeZone": "Europe/Berlin",
            "companyCurrency": "EUR",
            "additionalCurrencies": ["USD", "JPY"],
            "utcOffset": "+01:00",
            "utcOffsetMilliseconds": 3_600_000,
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "eu1",
        }))
    }

    /// `GET` and `POST …/properties/{version}/{type}[/{name}]`.
    pub(super) fn properties(&mut self, kind: Kind, rest: &[String], request: &Request) -> Answer {
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let own = definitions(kind).map(|definition| show_definition(definition, false));
                let custom = self.records.custom.iter().filter(|(of, _)| *of == kind);
                let custom = custom.map(|(_, definition)| show_definition(definition, true));
                Answer::ok(json!({"results": own.chain(custom).collect::<Vec<_>>()}))
            }
            ("GET", [name]) => self
                .records
                .definition(kind, name)
                .map_or_else(not_found, |definition| Answer::ok(show_definition(&definition, false))),
            ("POST", []) => self.define_property(kind, request),
            _ => no_such_path(),
        }
    }

    fn define_property(&mut self, kind: Kind, request: &Request) -> Answer {
        let body = match request.json() {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let Some(name) = body["name"].as_str().filter(|name| !name.is_empty()) else {
            return invalid("name is required");
        };
        if self.records.definition(kind, name).is_some() {
            return Answer::error(StatusCode::CONFLICT, "OBJECT_ALREADY_EXISTS", "the property exists already");
        }
        let types = [ValueType::Text, ValueType::Number, ValueType::DateTime, ValueType::Choice, ValueType::Boolean];
        let wanted = body["type"].as_str().unwrap_or_default();
        let Some(value_type) = types.into_iter().find(|value_type| value_type.name() == wanted) else {
            return invalid("type is not one of string, number, datetime, enumeration, bool");
        };
        let definition = Definition { name: name.to_owned().into(), value_type, read_only: false };
        let shown = show_definition(&definition, true);
        self.records.custom.push((kind, definition));
        Answer::with_status(StatusCode::CREATED, shown)
    }
}
