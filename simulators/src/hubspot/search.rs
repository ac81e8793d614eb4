//! Search: filters, sorts, its caps and the lag of its index.
//! Rules: developers.hubspot.com, CRM search guide (5 groups, 10 filters a group, 25 in all, 200 a page, 10,000 results).

use serde_json::{Value, json};

use super::{
    account::Account,
    answer::{Answer, invalid},
    definitions::{ValueType, default_properties},
    kind::Kind,
    read::{next_page, texts},
    records::{Key, Life, Records, id_of},
    request::Request,
};

const MAX_LIMIT: usize = 200;
const MAX_RESULTS: usize = 10_000;
const MAX_GROUPS: usize = 5;
const MAX_FILTERS_PER_GROUP: usize = 10;
const MAX_FILTERS: usize = 25;
/// Longest body of a search request, in characters (same guide).
const MAX_BODY_BYTES: usize = 3_000;

/// A search, checked.
#[derive(Debug)]
struct Search {
    /// Any group, all of its filters.
    groups: Vec<Vec<Filter>>,
    text: Option<String>,
    sort: Option<(String, bool)>,
    asked: Vec<String>,
    limit: usize,
    offset: usize,
}

/// A condition on one property.
#[derive(Debug)]
struct Filter {
    name: String,
    value_type: ValueType,
    operator: Operator,
}

#[derive(Debug)]
enum Operator {
    Equal(Operand),
    NotEqual(Operand),
    Less(Operand),
    LessOrEqual(Operand),
    Greater(Operand),
    GreaterOrEqual(Operand),
    Between(Operand, Operand),
    In(Vec<Operand>),
    NotIn(Vec<Operand>),
    Has,
    HasNot,
    Contains(String),
    ContainsNot(String),
}

/// A value as its property's type compares it.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Operand {
    Number(f64),
    Milliseconds(i64),
    Text(String),
}

impl Operand {
    /// Numbers and times by value, all else as lower-case text. Times come as ISO 8601 or epoch milliseconds.
    fn parse(value: &str, value_type: ValueType) -> Option<Self> {
        match value_type {
            ValueType::Number => value.trim().parse().ok().map(Self::Number),
            ValueType::DateTime => {
                let iso = || value.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
                value.parse().ok().or_else(iso).map(Self::Milliseconds)
            }
            _ => Some(Self::Text(value.to_lowercase())),
        }
    }
}

impl Search {
    fn parse(records: &Records, kind: Kind, body: &Value) -> Result<Self, Answer> {
        let limit = match &body["limit"] {
            Value::Null => 10,
            value => number(value)
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| invalid(format!("limit must be between 1 and {MAX_LIMIT}")))?,
        };
        let offset = match &body["after"] {
            Value::Null => 0,
            Value::String(text) if text.is_empty() => 0,
            value => number(value).ok_or_else(|| invalid("after is not a number"))?,
        };
        if offset + limit > MAX_RESULTS {
            return Err(invalid(format!("The paging offset ({offset}) exceeds the maximum of {MAX_RESULTS} results")));
        }
        let text = body["query"].as_str().filter(|text| !text.is_empty()).map(str::to_lowercase);
        let groups = parse_groups(records, kind, body)?;
        Ok(Self {
            groups,
            text,
            sort: parse_sort(records, kind, body)?,
            asked: texts(&body["properties"]),
            limit,
            offset,
        })
    }

    fn matches(&self, records: &Records, key: Key) -> bool {
        let filtered = self.groups.is_empty()
            || self.groups.iter().any(|group| group.iter().all(|filter| filter.matches(records, key)));
        filtered && self.text.as_ref().is_none_or(|text| has_text(records, key, text))
    }
}

fn number(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| usize::try_from(number).ok()),
    }
}

fn parse_groups(records: &Records, kind: Kind, body: &Value) -> Result<Vec<Vec<Filter>>, Answer> {
    let empty = Vec::new();
    let mut lists: Vec<&Vec<Value>> = body["filterGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| group["filters"].as_array().unwrap_or(&empty))
        .collect();
    // `filters` beside `filterGroups` is one more group.
    lists.extend(body["filters"].as_array());
    lists.retain(|filters| !filters.is_empty());
    let total: usize = lists.iter().map(|filters| filters.len()).sum();
    if lists.len() > MAX_GROUPS || total > MAX_FILTERS || lists.iter().any(|list| list.len() > MAX_FILTERS_PER_GROUP) {
        return Err(invalid(format!(
            "at most {MAX_GROUPS} filter groups, {MAX_FILTERS_PER_GROUP} filters a group and {MAX_FILTERS} filters are allowed"
        )));
    }
    lists.iter().map(|list| list.iter().map(|filter| Filter::parse(records, kind, filter)).collect()).collect()
}

/// One sort at most: an object, or a name with `-` for descending.
fn parse_sort(records: &Records, kind: Kind, body: &Value) -> Result<Option<(String, bool)>, Answer> {
    let sorts = body["sorts"].as_array().map_or(&[][..], Vec::as_slice);
    let (name, descending) = match sorts {
        [] => return Ok(None),
        [Value::String(text)] => (text.trim_start_matches('-'), text.starts_with('-')),
        [sort] => {
            let direction = sort["direction"].as_str().unwrap_or_default();
            (sort["propertyName"].as_str().unwrap_or_default(), direction.eq_ignore_ascii_case("descending"))
        }
        _ => return Err(invalid("only one sort is allowed")),
    };
    match records.definition(kind, name) {
        Some(_) => Ok(Some((name.to_owned(), descending))),
        None => Err(invalid(format!("There was a problem with the request: unknown sort property {name}"))),
    }
}

impl Filter {
    fn parse(records: &Records, kind: Kind, filter: &Value) -> Result<Self, Answer> {
        let name = filter["propertyName"].as_str().unwrap_or_default().to_owned();
        let Some(value_type) = records.value_type(kind, &name) else {
            return Err(invalid(format!("There was a problem with the request: unknown property {name}")));
        };
        let word = filter["operator"].as_str().unwrap_or_default();
        let bad = || invalid(format!("filter on {name}: {word} needs a value of type {}", value_type.name()));
        let operand = |member: &str| {
            let text = match &filter[member] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return Err(bad()),
            };
            Operand::parse(&text, value_type).ok_or_else(bad)
        };
        let operands = || {
            let parsed = texts(&filter["values"])
                .iter()
                .map(|text| Operand::parse(text, value_type))
                .collect::<Option<Vec<_>>>();
            parsed.filter(|operands| !operands.is_empty()).ok_or_else(bad)
        };
        let token = || filter["value"].as_str().map(|text| text.trim_matches('*').to_lowercase()).ok_or_else(bad);
        let operator = match word {
            "EQ" => Operator::Equal(operand("value")?),
            "NEQ" => Operator::NotEqual(operand("value")?),
            "LT" => Operator::Less(operand("value")?),
            "LTE" => Operator::LessOrEqual(operand("value")?),
            "GT" => Operator::Greater(operand("value")?),
            "GTE" => Operator::GreaterOrEqual(operand("value")?),
            "BETWEEN" => Operator::Between(operand("value")?, operand("highValue")?),
            "IN" => Operator::In(operands()?),
            "NOT_IN" => Operator::NotIn(operands()?),
            "HAS_PROPERTY" => Operator::Has,
            "NOT_HAS_PROPERTY" => Operator::HasNot,
            "CONTAINS_TOKEN" => Operator::Contains(token()?),
            "NOT_CONTAINS_TOKEN" => Operator::ContainsNot(token()?),
            _ => return Err(invalid(format!("filter on {name}: unknown operator {word}"))),
        };
        Ok(Self { name, value_type, operator })
    }

    /// An empty value has no property: only the negative operators match it.
    fn matches(&self, records: &Records, key: Key) -> bool {
        let value = self.operand(records, key);
        match (&self.operator, value) {
            (Operator::Has, value) => value.is_some(),
            (Operator::HasNot, value) => value.is_none(),
            (Operator::NotEqual(_) | Operator::NotIn(_) | Operator::ContainsNot(_), None) => true,
            (_, None) => false,
            (Operator::Equal(wanted), Some(value)) => value == *wanted,
            (Operator::NotEqual(wanted), Some(value)) => value != *wanted,
            (Operator::Less(bound), Some(value)) => value < *bound,
            (Operator::LessOrEqual(bound), Some(value)) => value <= *bound,
            (Operator::Greater(bound), Some(value)) => value > *bound,
            (Operator::GreaterOrEqual(bound), Some(value)) => value >= *bound,
            (Operator::Between(low, high), Some(value)) => value >= *low && value <= *high,
            (Operator::In(wanted), Some(value)) => wanted.contains(&value),
            (Operator::NotIn(wanted), Some(value)) => !wanted.contains(&value),
            (Operator::Contains(token), Some(Operand::Text(text))) => text.contains(token.as_str()),
            (Operator::ContainsNot(token), Some(Operand::Text(text))) => !text.contains(token.as_str()),
            (Operator::Contains(_) | Operator::ContainsNot(_), Some(_)) => false,
        }
    }

    fn operand(&self, records: &Records, key: Key) -> Option<Operand> {
        fast_operand(records, key, &self.name).or_else(|| {
            let value = records.value(key, &self.name)?;
            if value.is_empty() { None } else { Operand::parse(&value, self.value_type) }
        })
    }
}

/// Ids and times are in the header: no text is made to compare them.
fn fast_operand(records: &Records, key: Key, name: &str) -> Option<Operand> {
    let header = records.header(key)?;
    if name == key.0.modified_property() {
        return Some(Operand::Milliseconds(header.updated_ms));
    }
    #[expect(clippy::cast_precision_loss, reason = "ids stay far below 2^53")]
    match name {
        "hs_object_id" => Some(Operand::Number(id_of(key.1) as f64)),
        _ if name == key.0.created_property() => Some(Operand::Milliseconds(header.created_ms)),
        _ => None,
    }
}

/// `query` looks into the properties that a list shows by default.
fn has_text(records: &Records, key: Key, text: &str) -> bool {
    let names = default_properties(key.0);
    names.iter().filter_map(|name| records.value(key, name)).any(|value| value.to_lowercase().contains(text))
}

impl Account {
    /// `POST …/search`. Records changed within the lag of the index are not found (the vendor's index shows their
    /// older version for that time; leaving them out is the stricter form of it). Archived ones never are.
    pub(super) fn search(&mut self, kind: Kind, request: &Request) -> Answer {
        if request.body.len() > MAX_BODY_BYTES {
            return invalid(format!("the request body is longer than {MAX_BODY_BYTES} characters"));
        }
        let search = match request.json().and_then(|body| Search::parse(&self.records, kind, &body)) {
            Ok(search) => search,
            Err(answer) => return answer,
        };
        let (total, page) = self.run_search(kind, &search);
        let results: Vec<Value> =
            page.iter().map(|&index| self.serve_object((kind, index), &search.asked, &[])).collect();
        let end = search.offset + results.len();
        let mut body = json!({"total": total, "results": results});
        if end < total && !results.is_empty() {
            // Offered even where the next page would be beyond the cap, as at the vendor.
            body["paging"] = next_page(request, &end.to_string());
        }
        Answer::ok(body)
    }

    fn run_search(&self, kind: Kind, search: &Search) -> (usize, Vec<u32>) {
        let now_ms = self.now_ms();
        let indexed_ms = now_ms - i64::from(self.search_lag_seconds) * 1_000;
        let headers = self.records.headers(kind);
        let mut found: Vec<u32> = (0..self.records.count(kind))
            .filter(|&index| {
                let header = &headers[index as usize];
                header.life == Life::Live
                    && header.updated_ms <= indexed_ms
                    && self.records.is_visible((kind, index), now_ms)
                    && search.matches(&self.records, (kind, index))
            })
            .collect();
        let total = found.len();
        if let Some((name, descending)) = &search.sort {
            self.sort(kind, &mut found, name, *descending, search.offset + search.limit);
        }
        let page = found.into_iter().skip(search.offset).take(search.limit).collect();
        (total, page)
    }

    /// Sorts the first `needed` into place; equal ones stay ordered by id.
    fn sort(&self, kind: Kind, found: &mut Vec<u32>, name: &str, descending: bool, needed: usize) {
        if name == "hs_object_id" {
            if descending {
                found.reverse();
            }
            return;
        }
        let value_type = self.records.value_type(kind, name).unwrap_or(ValueType::Text);
        let filter = Filter { name: name.to_owned(), value_type, operator: Operator::Has };
        let mut keyed: Vec<(Option<Operand>, u32)> =
            found.iter().map(|&index| (filter.operand(&self.records, (kind, index)), index)).collect();
        let order = |left: &(Option<Operand>, u32), right: &(Option<Operand>, u32)| {
            let by_value = left.0.partial_cmp(&right.0).unwrap_or(std::cmp::Ordering::Equal);
            (if descending { by_value.reverse() } else { by_value }).then(left.1.cmp(&right.1))
        };
        if needed < keyed.len() {
            keyed.select_nth_unstable_by(needed, order);
            keyed.truncate(needed);
        }
        keyed.sort_unstable_by(order);
        *found = keyed.into_iter().map(|(_, index)| index).collect();
    }
}
