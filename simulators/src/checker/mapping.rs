//! Which column must hold which property: a second opinion, written from the canonical schema and the vendor's property
//! names alone, so that a mistake in the connector's own mapping is found here.

use crate::hubspot::Truth;

/// How a column's text is compared with the property's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// Equal text; an empty one is the same as none.
    Text,
    /// Equal numbers, however they are written.
    Number,
    /// The primary company, while that is live.
    Company,
}

/// A column and where its value comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) column: &'static str,
    property: &'static str,
    pub(super) compare: Compare,
}

const fn text(column: &'static str, property: &'static str) -> Field {
    Field { column, property, compare: Compare::Text }
}

/// A stream and the entity that its records become.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: &'static str,
    pub(super) entity: &'static Entity,
    /// Stands before the vendor's id in `source_id`, with a colon; empty = nothing.
    kind: &'static str,
    fields: &'static [Field],
}

/// A canonical view and its columns that are compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) view: &'static str,
    /// In the order of `Row::fields`.
    pub(super) columns: &'static [&'static str],
}

const OWNER_ID: Field = text("owner_source_id", "hubspot_owner_id");
const COMPANY: Field = Field { column: "account_source_id", property: "", compare: Compare::Company };

static OWNER: Entity = Entity { view: "owner", columns: &["email", "first_name", "last_name", "active"] };
static STAGE: Entity = Entity { view: "stage", columns: &["name", "pipeline"] };
static ACCOUNT: Entity = Entity { view: "account", columns: &["name", "domain", "owner_source_id"] };
static CONTACT: Entity =
    Entity { view: "contact", columns: &["email", "first_name", "last_name", "account_source_id", "owner_source_id"] };
static OPPORTUNITY: Entity = Entity {
    view: "opportunity",
    columns: &["name", "amount", "stage", "pipeline", "account_source_id", "owner_source_id"],
};
static ACTIVITY: Entity = Entity { view: "activity", columns: &["kind", "subject", "owner_source_id"] };

const fn activity(name: &'static str, kind: &'static str, fields: &'static [Field]) -> Stream {
    Stream { name, entity: &ACTIVITY, kind, fields }
}

/// The streams in the order in which the truth comes; streams of one entity stand together.
pub(super) static STREAMS: &[Stream] = &[
    Stream {
        name: "owners",
        entity: &OWNER,
        kind: "",
        fields: &[text("email", "email"), text("first_name", "firstName"), text("last_name", "lastName")],
    },
    Stream {
        name: "pipelines",
        entity: &STAGE,
        kind: "",
        fields: &[text("name", "label"), text("pipeline", "pipeline")],
    },
    Stream {
        name: "companies",
        entity: &ACCOUNT,
        kind: "",
        fields: &[text("name", "name"), text("domain", "domain"), OWNER_ID],
    },
    Stream {
        name: "contacts",
        entity: &CONTACT,
        kind: "",
        fields: &[
            text("email", "email"),
            text("first_name", "firstname"),
            text("last_name", "lastname"),
            COMPANY,
            OWNER_ID,
        ],
    },
    Stream {
        name: "deals",
        entity: &OPPORTUNITY,
        kind: "",
        fields: &[
            text("name", "dealname"),
            Field { column: "amount", property: "amount", compare: Compare::Number },
            text("stage", "dealstage"),
            text("pipeline", "pipeline"),
            COMPANY,
            OWNER_ID,
        ],
    },
    activity("calls", "call", &[text("subject", "hs_call_title"), OWNER_ID]),
    activity("emails", "email", &[text("subject", "hs_email_subject"), OWNER_ID]),
    activity("meetings", "meeting", &[text("subject", "hs_meeting_title"), OWNER_ID]),
    activity("tasks", "task", &[text("subject", "hs_task_subject"), OWNER_ID]),
    activity("notes", "note", &[OWNER_ID]),
];

/// Every property that is compared: no other is asked of the source.
pub(super) fn property_names() -> Vec<&'static str> {
    let fields = STREAMS.iter().flat_map(|stream| stream.fields);
    fields.map(|field| field.property).filter(|name| !name.is_empty()).collect()
}

impl Stream {
    /// The stream of a truth.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        STREAMS.iter().find(|stream| stream.name == name)
    }

    /// The `source_id` of a record with the vendor's id.
    pub(super) fn source_id(&self, id: &str) -> String {
        if self.kind.is_empty() { id.to_owned() } else { format!("{}:{id}", self.kind) }
    }

    /// Whether a `source_id` of the entity belongs to this stream.
    pub(super) fn owns(&self, source_id: &str) -> bool {
        self.kind.is_empty() || source_id.split_once(':').is_some_and(|(kind, _)| kind == self.kind)
    }

    /// The first column of a live row that does not hold what the source holds.
    pub(super) fn differing_column(&self, truth: &Truth, row: &[Option<String>]) -> Option<&'static str> {
        let held = |column: &str| {
            let at = self.entity.columns.iter().position(|name| *name == column)?;
            row.get(at)?.as_deref().filter(|value| !value.is_empty())
        };
        if !self.kind.is_empty() && held("kind") != Some(self.kind) {
            return Some("kind");
        }
        let differs = |field: &&Field| {
            let property = truth.properties.get(field.property).map(String::as_str).filter(|value| !value.is_empty());
            match field.compare {
                Compare::Text => held(field.column) != property,
                Compare::Number => held(field.column).map(number) != property.map(number),
                Compare::Company => match &truth.company {
                    // Archived or merged since: the row may hold what was true when its record was read.
                    Some(_) if !truth.company_is_live => false,
                    company => held(field.column) != company.as_deref(),
                },
            }
        };
        self.fields.iter().find(differs).map(|field| field.column)
    }
}

/// A decimal number in one form: sign, digits without outer zeros, power of ten of the last digit. `None` = not a number.
fn number(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = match text.trim().split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text.trim(), 0),
    };
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa.trim_start_matches(['-', '+']).split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches(['-', '+']);
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let power = exponent - i64::try_from(fraction.len()).ok()?;
    let significant = digits.trim_end_matches('0');
    let power = power + i64::try_from(digits.len() - significant.len()).ok()?;
    let significant = significant.trim_start_matches('0');
    Some(if significant.is_empty() { (false, String::new(), 0) } else { (negative, significant.to_owned(), power) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_however_they_are_written() {
        let equal =
            [("12.50", "12.5"), ("1e3", "1000"), ("-0.0", "0"), ("+7", "7.000"), ("0012", "1.2E1"), ("100", "1e2")];
        for (left, right) in equal {
            assert_eq!(number(left), number(right), "{left} {right}");
            assert!(number(left).is_some());
        }
        for (left, right) in [("1", "-1"), ("10", "1"), ("0.1", "0.01")] {
            assert_ne!(number(left), number(right), "{left} {right}");
        }
        assert_eq!((number("abc"), number(""), number("1,000")), (None, None, None));
    }

    #[test]
    fn ids_of_activities_carry_their_kind() {
        let calls = Stream::named("calls").expect("a stream");
        assert_eq!(calls.source_id("1001"), "call:1001");
        assert!(calls.owns("call:1001") && !calls.owns("note:1001"));
        assert_eq!(Stream::named("deals").expect("a stream").source_id("1001"), "1001");
    }
}
