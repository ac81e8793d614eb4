//! Writing objects: create, update, upsert, archive, merge; one at a time and in batches of a hundred.
//! Values are checked as the vendor checks them; a batch with one bad value is refused whole, an upsert row by row.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    account::Account,
    answer::{Answer, invalid, invalid_property, not_found},
    definitions::{Definition, ValueType},
    directory::PIPELINES,
    kind::{Kind, association_type_id, primary_type_id},
    read::{MAX_LIST_LIMIT, texts_of, too_many_inputs},
    records::{Key, id_of},
    request::Request,
    state::Properties,
};

/// One input of a batch.
struct Input<'a> {
    id: String,
    by: Option<&'a str>,
    trace_id: Option<&'a str>,
    properties: &'a Value,
    associations: &'a Value,
}

impl<'a> Input<'a> {
    fn of(value: &'a Value) -> Self {
        Self {
            id: match &value["id"] {
                Value::Number(number) => number.to_string(),
                other => other.as_str().unwrap_or_default().to_owned(),
            },
            by: value["idProperty"].as_str(),
            trace_id: value["objectWriteTraceId"].as_str(),
            properties: &value["properties"],
            associations: &value["associations"],
        }
    }

    /// Ties a result or an error to this input.
    fn trace(&self, mut shown: Value) -> Value {
        if let Some(trace_id) = self.trace_id {
            shown["objectWriteTraceId"] = json!(trace_id);
        }
        shown
    }

    fn error(&self, refused: &Answer) -> Value {
        let body = refused.body.clone().unwrap_or_default();
        let mut context = json!({"ids": [self.id]});
        if let Some(trace_id) = self.trace_id {
            context["objectWriteTraceId"] = json!([trace_id]);
        }
        json!({
            "status": "error",
            "category": body["category"],
            "message": body["message"],
            "context": context,
            "errors": body.get("errors").cloned().unwrap_or(json!([])),
            "links": {},
        })
    }
}

impl Account {
    /// Every writing method on objects; `None` when the path names none.
    pub(super) fn write(&mut self, kind: Kind, rest: &[&str], request: &Request) -> Option<Answer> {
        let answer = match (request.method.as_str(), rest) {
            ("POST", []) => self.create_one(kind, request),
            ("PATCH", [id]) => self.update_one(kind, id, request),
            ("DELETE", [id]) => self.archive_all(kind, &[(*id).to_owned()]),
            ("POST", ["merge"]) => self.merge_two(kind, request),
            ("POST", ["batch", "archive"]) => match inputs(request) {
                Ok(body) => self.archive_all(kind, &texts_of(&body["inputs"], "id")),
                Err(answer) => answer,
            },
            ("POST", ["batch", "create"]) => self.batch(request, |account, inputs| account.create_batch(kind, inputs)),
            ("POST", ["batch", "update"]) => self.batch(request, |account, inputs| account.update_batch(kind, inputs)),
            ("POST", ["batch", "upsert"]) => self.batch(request, |account, inputs| account.upsert_batch(kind, inputs)),
            ("PUT", [id, "associations", "default", to, to_id]) => self.associate_default((kind, id), (to, to_id)),
            _ => return None,
        };
        Some(answer)
    }

    fn batch(&mut self, request: &Request, work: impl FnOnce(&mut Self, &[Input<'_>]) -> Answer) -> Answer {
        match inputs(request) {
            Ok(body) => {
                let inputs: Vec<_> = body["inputs"].as_array().into_iter().flatten().map(Input::of).collect();
                work(self, &inputs)
            }
            Err(answer) => answer,
        }
    }

    fn create_one(&mut self, kind: Kind, request: &Request) -> Answer {
        let body = match request.json() {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        match self.create_checked(kind, &Input::of(&body)) {
            Ok(shown) => Answer::with_status(StatusCode::CREATED, shown),
            Err(answer) => answer,
        }
    }

    fn create_batch(&mut self, kind: Kind, inputs: &[Input<'_>]) -> Answer {
        if let Err(answer) = self.check_all(kind, inputs) {
            return answer;
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in inputs {
            match self.create_checked(kind, input) {
                Ok(shown) => results.push(shown),
                Err(refused) => errors.push(input.error(&refused)),
            }
        }
        self.batch_answer(StatusCode::CREATED, results, errors)
    }

    fn create_checked(&mut self, kind: Kind, input: &Input<'_>) -> Result<Value, Answer> {
        let properties = self.check(kind, input.properties)?;
        let email = properties.get("email").cloned().flatten().filter(|_| kind == Kind::Contacts);
        if let Some(index) = email.and_then(|email| self.locate(kind, &email, Some("email"))) {
            let message = format!("Contact already exists. Existing ID: {}", id_of(index));
            return Err(Answer::error(StatusCode::CONFLICT, "CONFLICT", message));
        }
        let now_ms = self.now_ms();
        let names: Vec<String> = properties.keys().cloned().collect();
        let key = (kind, self.records.create(kind, properties, now_ms));
        self.associate_created(key, input.associations)?;
        Ok(input.trace(self.records.show(key, &names)))
    }

    /// `associations: [{to: {id}, types: [{associationTypeId}]}]`; the other type follows from the type id.
    fn associate_created(&mut self, key: Key, associations: &Value) -> Result<(), Answer> {
        let now_ms = self.now_ms();
        for association in associations.as_array().into_iter().flatten() {
            let types = association["types"].as_array().map_or(&[][..], Vec::as_slice);
            let type_id = types.first().and_then(|first| first["associationTypeId"].as_u64()).unwrap_or(0);
            let named = |to: &Kind| {
                let ids = [association_type_id(key.0, *to), primary_type_id(key.0, *to)];
                ids.into_iter().flatten().any(|id| u64::from(id) == type_id)
            };
            let to = Kind::ALL.into_iter().find(named).ok_or_else(|| invalid("unknown association type"))?;
            let primary = primary_type_id(key.0, to).is_some_and(|id| u64::from(id) == type_id);
            let id = texts_of(&json!([association["to"]]), "id").pop().unwrap_or_default();
            let index = self.records.find(to, &id).ok_or_else(not_found)?;
            self.records.associate(key, (to, index), primary, now_ms);
        }
        Ok(())
    }

    fn update_one(&mut self, kind: Kind, id: &str, request: &Request) -> Answer {
        let body = match request.json() {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let properties = match self.check(kind, &body["properties"]) {
            Ok(properties) => properties,
            Err(answer) => return answer,
        };
        match self.locate(kind, id, request.value("idProperty")).map(|index| (kind, index)) {
            Some(key) if self.records.is_live(key) => Answer::ok(self.update_shown(key, properties)),
            _ => not_found(),
        }
    }

    fn update_shown(&mut self, key: Key, properties: Properties) -> Value {
        let now_ms = self.now_ms();
        let names: Vec<String> = properties.keys().cloned().collect();
        self.records.update(key, properties, now_ms);
        self.records.show(key, &names)
    }

    fn update_batch(&mut self, kind: Kind, inputs: &[Input<'_>]) -> Answer {
        let checked = match self.check_all(kind, inputs) {
            Ok(checked) => checked,
            Err(answer) => return answer,
        };
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (input, properties) in inputs.iter().zip(checked) {
            match self.locate(kind, &input.id, input.by).map(|index| (kind, index)) {
                Some(key) if self.records.is_live(key) => {
                    results.push(input.trace(self.update_shown(key, properties)));
                }
                _ => missing.push(input),
            }
        }
        let errors = missing.into_iter().map(|input| input.error(&not_found())).collect();
        self.batch_answer(StatusCode::OK, results, errors)
    }

    /// By a unique property: updates what has the value, creates what has not.
    fn upsert_batch(&mut self, kind: Kind, inputs: &[Input<'_>]) -> Answer {
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in inputs {
            match self.upsert(kind, input) {
                Ok(shown) => results.push(input.trace(shown)),
                Err(refused) => errors.push(input.error(&refused)),
            }
        }
        self.batch_answer(StatusCode::OK, results, errors)
    }

    fn upsert(&mut self, kind: Kind, input: &Input<'_>) -> Result<Value, Answer> {
        let name = input.by.ok_or_else(|| invalid("idProperty is required"))?;
        let mut properties = self.check(kind, input.properties)?;
        let found = self.locate(kind, &input.id, Some(name)).map(|index| (kind, index));
        let mut shown = match found.filter(|&key| self.records.is_live(key)) {
            Some(key) => self.update_shown(key, properties),
            None if name == "hs_object_id" => return Err(not_found()),
            None => {
                properties.insert(name.to_owned(), Some(input.id.clone()));
                let now_ms = self.now_ms();
                let names: Vec<String> = properties.keys().cloned().collect();
                let index = self.records.create(kind, properties, now_ms);
                self.records.show((kind, index), &names)
            }
        };
        shown["new"] = json!(found.is_none());
        Ok(shown)
    }

    /// Archives what is live; unknown and archived ids are passed over, as at the vendor.
    fn archive_all(&mut self, kind: Kind, ids: &[String]) -> Answer {
        let now_ms = self.now_ms();
        for index in ids.iter().filter_map(|id| self.records.position(kind, id)).collect::<Vec<_>>() {
            self.records.archive((kind, index), now_ms);
        }
        Answer::no_content()
    }

    fn merge_two(&mut self, kind: Kind, request: &Request) -> Answer {
        let body = match request.json() {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let find = |member: &str| texts_of(&json!([body]), member).pop();
        let (winner, loser) = (find("primaryObjectId"), find("objectIdToMerge"));
        let position = |id: &Option<String>| id.as_ref().and_then(|id| self.records.position(kind, id));
        let (Some(winner), Some(loser)) = (position(&winner), position(&loser)) else { return not_found() };
        let now_ms = self.now_ms();
        if !self.records.merge(kind, winner, loser, now_ms) {
            return invalid("both records must exist and differ");
        }
        Answer::ok(self.records.show((kind, winner), &[]))
    }

    fn check_all(&self, kind: Kind, inputs: &[Input<'_>]) -> Result<Vec<Properties>, Answer> {
        inputs.iter().map(|input| self.check(kind, input.properties)).collect()
    }

    /// Checks the values of an input.
    fn check(&self, kind: Kind, properties: &Value) -> Result<Properties, Answer> {
        let empty = serde_json::Map::new();
        let mut checked = BTreeMap::new();
        for (name, value) in properties.as_object().unwrap_or(&empty) {
            let Some(definition) = self.records.definition(kind, name) else {
                let what = format!("Property \"{name}\" does not exist");
                return Err(invalid_property(name, "PROPERTY_DOESNT_EXIST", &what));
            };
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            check_value(&definition, value.as_deref())?;
            checked.insert(name.clone(), value);
        }
        Ok(checked)
    }
}

/// The vendor's codes as seen in its error responses; one example of each is enough for a client to be tested.
fn check_value(definition: &Definition, value: Option<&str>) -> Result<(), Answer> {
    let name = &*definition.name;
    if definition.read_only {
        let what = format!("\"{name}\" is a read only property; its value cannot be set.");
        return Err(invalid_property(name, "READ_ONLY_VALUE", &what));
    }
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(()) };
    let stages = || PIPELINES.iter().flat_map(|pipeline| pipeline.stages);
    let code = match (name, definition.value_type) {
        ("email", _) if !value.contains('@') => "INVALID_EMAIL",
        ("dealstage", _) if stages().all(|stage| stage.id != value) => "INVALID_OPTION",
        ("pipeline", _) if PIPELINES.iter().all(|pipeline| pipeline.id != value) => "INVALID_OPTION",
        (_, ValueType::Boolean) if !matches!(value, "true" | "false") => "INVALID_OPTION",
        (_, ValueType::Number) if value.parse::<f64>().is_err() => "INVALID_LONG",
        (_, ValueType::DateTime) if value.parse::<i64>().is_err() && value.parse::<jiff::Timestamp>().is_err() => {
            "INVALID_DATE"
        }
        _ => return Ok(()),
    };
    Err(invalid_property(name, code, &format!("the value of {name} is not valid")))
}

/// The body of a batch, within its size.
fn inputs(request: &Request) -> Result<Value, Answer> {
    let body = request.json()?;
    match body["inputs"].as_array() {
        Some(inputs) if inputs.len() > MAX_LIST_LIMIT => Err(too_many_inputs()),
        Some(_) => Ok(body),
        None => Err(invalid("inputs is required")),
    }
}
