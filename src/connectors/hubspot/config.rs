//! HubSpot by name: API version, host, streams, and which property feeds which canonical column.
//! The table behind docs/connectors/hubspot.md; holds no behaviour beyond reading the base URL.

use url::Url;

use super::directory;
use crate::{
    connectors::{Error, Stream},
    model::entity::Entity,
};

/// `system` in errors, budgets and labels.
pub(super) const SYSTEM: &str = "hubspot";
/// The dated API version in every path. A version lives at least 18 months; v1–v3 end in September 2027
/// (developers.hubspot.com, "2026-03 API reference" and the changelog entry on date-based versioning, 2026-03-30).
pub const API_VERSION: &str = "2026-03";
/// The vendor's own host.
const VENDOR_URL: &str = "https://api.hubapi.com";

/// Every stream, referenced before referencing.
pub const STREAMS: &[Stream] = &[
    Stream { name: "owners", entity: Entity::Owner, id_prefix: "" },
    Stream { name: "pipelines", entity: Entity::Stage, id_prefix: "" },
    Stream { name: "companies", entity: Entity::Account, id_prefix: "" },
    Stream { name: "contacts", entity: Entity::Contact, id_prefix: "" },
    Stream { name: "deals", entity: Entity::Opportunity, id_prefix: "" },
    Stream { name: "calls", entity: Entity::Activity, id_prefix: "call:" },
    Stream { name: "emails", entity: Entity::Activity, id_prefix: "email:" },
    Stream { name: "meetings", entity: Entity::Activity, id_prefix: "meeting:" },
    Stream { name: "tasks", entity: Entity::Activity, id_prefix: "task:" },
    Stream { name: "notes", entity: Entity::Activity, id_prefix: "note:" },
];

/// Where a column's value comes from. Of several properties the first one with a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// HubSpot has nothing like it.
    Nothing,
    /// The activity's kind.
    Kind,
    Text(&'static [&'static str]),
    Integer(&'static str),
    Decimal(&'static str),
    Boolean(&'static str),
    Timestamp(&'static [&'static str]),
    Date(&'static str),
    /// Milliseconds, stored as whole seconds.
    Milliseconds(&'static str),
    /// OPEN, WON or LOST from `hs_is_closed_won` and `hs_is_closed`.
    DealStatus,
    /// The primary associated company, else the one with the lowest id.
    Company,
    /// All associated contacts.
    Contacts,
    /// All associated companies, contacts and deals.
    Links,
    /// The Connector's own properties.
    Custom,
}

impl From {
    /// The property under whose name `custom` keeps what does not fit.
    pub(super) fn property(self) -> Option<&'static str> {
        match self {
            Self::Text(names) | Self::Timestamp(names) => names.first().copied(),
            Self::Integer(name)
            | Self::Decimal(name)
            | Self::Boolean(name)
            | Self::Date(name)
            | Self::Milliseconds(name) => Some(name),
            Self::DealStatus => Some(IS_CLOSED),
            Self::Nothing | Self::Kind | Self::Company | Self::Contacts | Self::Links | Self::Custom => None,
        }
    }

    /// The associations it is made of.
    pub(super) fn associations(self) -> &'static [To] {
        match self {
            Self::Company => &[To::Companies],
            Self::Contacts => &[To::Contacts],
            Self::Links => ENGAGED_WITH,
            _ => &[],
        }
    }
}

/// A type of CRM object whose records are paged, searched and associated alike.
#[derive(Debug)]
pub(super) struct ObjectType {
    /// The stream, and the type's name in paths.
    pub(super) name: &'static str,
    /// The entity of its rows.
    pub(super) entity: Entity,
    /// Set for activities: their kind, which also stands before the id, because ids of different types may be equal.
    pub(super) kind: Option<&'static str>,
    /// The property that holds the time of the last change.
    pub(super) modified: &'static str,
    /// The property that holds the time of creation; engagements have none without the prefix.
    pub(super) created: &'static str,
    /// One per column of `entity`.
    pub(super) columns: &'static [From],
}

/// A type at the far end of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum To {
    Companies,
    Contacts,
    Deals,
}

impl To {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Companies => "companies",
            Self::Contacts => "contacts",
            Self::Deals => "deals",
        }
    }

    /// The entity that its rows become, as `activity.links` names it.
    pub(super) const fn entity(self) -> Entity {
        match self {
            Self::Companies => Entity::Account,
            Self::Contacts => Entity::Contact,
            Self::Deals => Entity::Opportunity,
        }
    }
}

/// The property that names the records merged into this one, separated by semicolons.
pub(super) const MERGED_IDS: &str = "hs_merged_object_ids";
pub(super) const IS_CLOSED: &str = "hs_is_closed";
pub(super) const IS_CLOSED_WON: &str = "hs_is_closed_won";

const ENGAGED_WITH: &[To] = &[To::Companies, To::Contacts, To::Deals];

/// The object types, in the order of their streams.
pub(super) const OBJECT_TYPES: &[ObjectType] = &[
    ObjectType {
        name: "companies",
        entity: Entity::Account,
        kind: None,
        modified: "hs_lastmodifieddate",
        created: "createdate",
        columns: &[
            From::Text(&["name"]),
            From::Text(&["domain"]),
            From::Text(&["website"]),
            From::Text(&["industry"]),
            From::Integer("numberofemployees"),
            From::Decimal("annualrevenue"),
            From::Text(&["phone"]),
            From::Text(&["address"]),
            From::Text(&["city"]),
            From::Text(&["state"]),
            From::Text(&["zip"]),
            From::Text(&["country"]),
            From::Text(&["type"]),
            From::Text(&["hs_parent_company_id"]),
            From::Text(&["hubspot_owner_id"]),
            From::Timestamp(&["notes_last_updated"]),
            From::Custom,
        ],
    },
    ObjectType {
        name: "contacts",
        entity: Entity::Contact,
        kind: None,
        // Contacts alone keep it under this name (docs/facts.md, Sources).
        modified: "lastmodifieddate",
        created: "createdate",
        columns: &[
            From::Text(&["email"]),
            From::Text(&["firstname"]),
            From::Text(&["lastname"]),
            From::Text(&["jobtitle"]),
            From::Text(&["phone"]),
            From::Text(&["mobilephone"]),
            From::Company,
            From::Text(&["hubspot_owner_id"]),
            From::Text(&["hs_analytics_source"]),
            From::Text(&["lifecyclestage"]),
            From::Boolean("hs_email_optout"),
            From::Timestamp(&["notes_last_updated"]),
            From::Custom,
        ],
    },
    ObjectType {
        name: "deals",
        entity: Entity::Opportunity,
        kind: None,
        modified: "hs_lastmodifieddate",
        created: "createdate",
        columns: &[
            From::Text(&["dealname"]),
            From::Decimal("amount"),
            From::Text(&["deal_currency_code"]),
            From::Date("closedate"),
            From::Text(&["dealstage"]),
            From::Text(&["pipeline"]),
            From::Decimal("hs_deal_stage_probability"),
            From::DealStatus,
            From::Company,
            From::Contacts,
            From::Text(&["hubspot_owner_id"]),
            From::Text(&["dealtype"]),
            From::Text(&["hs_analytics_source"]),
            From::Text(&["hs_manual_forecast_category"]),
            From::Custom,
        ],
    },
    activity(
        "calls",
        "call",
        &[
            From::Kind,
            From::Text(&["hs_call_title"]),
            From::Text(&["hs_call_body"]),
            From::Timestamp(&["hs_timestamp"]),
            From::Nothing,
            From::Text(&["hs_call_direction"]),
            From::Milliseconds("hs_call_duration"),
            From::Text(&["hs_call_status"]),
            From::Text(&["hubspot_owner_id"]),
            From::Links,
            From::Custom,
        ],
    ),
    activity(
        "emails",
        "email",
        &[
            From::Kind,
            From::Text(&["hs_email_subject"]),
            From::Text(&["hs_email_text", "hs_email_html"]),
            From::Timestamp(&["hs_timestamp"]),
            From::Nothing,
            From::Text(&["hs_email_direction"]),
            From::Nothing,
            From::Text(&["hs_email_status"]),
            From::Text(&["hubspot_owner_id"]),
            From::Links,
            From::Custom,
        ],
    ),
    activity(
        "meetings",
        "meeting",
        &[
            From::Kind,
            From::Text(&["hs_meeting_title"]),
            From::Text(&["hs_meeting_body"]),
            From::Timestamp(&["hs_meeting_start_time", "hs_timestamp"]),
            From::Timestamp(&["hs_meeting_end_time"]),
            From::Nothing,
            From::Nothing,
            From::Text(&["hs_meeting_outcome"]),
            From::Text(&["hubspot_owner_id"]),
            From::Links,
            From::Custom,
        ],
    ),
    activity(
        "tasks",
        "task",
        &[
            From::Kind,
            From::Text(&["hs_task_subject"]),
            From::Text(&["hs_task_body"]),
            From::Timestamp(&["hs_timestamp"]),
            From::Timestamp(&["hs_task_completion_date"]),
            From::Nothing,
            From::Nothing,
            From::Text(&["hs_task_status"]),
            From::Text(&["hubspot_owner_id"]),
            From::Links,
            From::Custom,
        ],
    ),
    activity(
        "notes",
        "note",
        &[
            From::Kind,
            From::Nothing,
            From::Text(&["hs_note_body"]),
            From::Timestamp(&["hs_timestamp"]),
            From::Nothing,
            From::Nothing,
            From::Nothing,
            From::Nothing,
            From::Text(&["hubspot_owner_id"]),
            From::Links,
            From::Custom,
        ],
    ),
];

const fn activity(name: &'static str, kind: &'static str, columns: &'static [From]) -> ObjectType {
    ObjectType {
        name,
        entity: Entity::Activity,
        kind: Some(kind),
        modified: "hs_lastmodifieddate",
        created: "hs_createdate",
        columns,
    }
}

/// What feeds each column of a stream, by the source's own name.
pub(super) fn property_names(stream: &Stream) -> Vec<Option<&'static str>> {
    match (OBJECT_TYPES.iter().find(|object| object.name == stream.name), stream.entity) {
        (Some(object), _) => object.columns.iter().map(|from| from.property()).collect(),
        (None, Entity::Owner) => directory::OWNER_PROPERTIES.to_vec(),
        (None, _) => directory::STAGE_PROPERTIES.to_vec(),
    }
}

/// The base URL, checked: a host, perhaps a path, and nothing that could carry a secret.
///
/// # Errors
/// `Configuration` saying what is wrong with it.
pub(super) fn base_url(configured: Option<&str>) -> Result<Url, Error> {
    let refused = |what: &str| Error::Configuration { system: SYSTEM, detail: format!("baseUrl {what}") };
    let url: Url =
        configured.unwrap_or(VENDOR_URL).trim_end_matches('/').parse().map_err(|_| refused("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused("must be https://host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(refused("must not hold a user, a password, a query or a fragment"));
    }
    Ok(url)
}

/// `host`, or `host:port` where the URL names a port that is not its scheme's own.
pub(in crate::connectors) fn host(configured: Option<&str>) -> String {
    let Ok(url) = base_url(configured) else { return configured.unwrap_or_default().to_owned() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entity::ColumnType;

    #[test]
    fn every_column_has_a_source_of_its_type() {
        for object in OBJECT_TYPES {
            let columns = object.entity.columns();
            assert_eq!(object.columns.len(), columns.len(), "{}", object.name);
            for (from, column) in object.columns.iter().zip(columns) {
                let kind = match from {
                    From::Nothing => continue,
                    From::Kind | From::Text(_) | From::DealStatus | From::Company => ColumnType::Text,
                    From::Integer(_) | From::Milliseconds(_) => ColumnType::Integer,
                    From::Decimal(_) => ColumnType::Decimal,
                    From::Boolean(_) => ColumnType::Boolean,
                    From::Timestamp(_) => ColumnType::Timestamp,
                    From::Date(_) => ColumnType::Date,
                    From::Contacts | From::Links | From::Custom => ColumnType::Json,
                };
                assert_eq!(kind, column.kind, "{}.{}", object.name, column.name);
            }
        }
    }

    #[test]
    fn object_streams_are_the_object_types_in_order() {
        let types: Vec<_> = OBJECT_TYPES.iter().map(|object| (object.name, object.entity)).collect();
        let streams: Vec<_> = STREAMS[2..].iter().map(|stream| (stream.name, stream.entity)).collect();
        assert_eq!(types, streams);
    }

    #[test]
    fn the_envelope_host_carries_a_port_only_when_it_matters() {
        assert_eq!(host(None), "api.hubapi.com");
        assert_eq!(host(Some("https://api-eu1.hubapi.com:443/")), "api-eu1.hubapi.com");
        assert_eq!(host(Some("http://127.0.0.1:8080")), "127.0.0.1:8080");
        for bad in ["ftp://x", "https://user:pass@x", "https://x?a=b", "no url"] {
            assert!(base_url(Some(bad)).is_err(), "{bad}");
        }
    }
}
