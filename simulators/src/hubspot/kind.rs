//! The object types that the simulator holds: names, numeric ids, and the ids of the associations between them.
//! Says nothing about their properties.

use serde::{Deserialize, Serialize};

/// A type of CRM object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// An organisation.
    Companies,
    /// A person.
    Contacts,
    /// An opportunity.
    Deals,
    /// A phone call.
    Calls,
    /// An email.
    Emails,
    /// A meeting.
    Meetings,
    /// A task.
    Tasks,
    /// A note.
    Notes,
}

impl Kind {
    /// Every type, referenced ones before referencing ones.
    pub const ALL: [Self; 8] = [
        Self::Companies,
        Self::Contacts,
        Self::Deals,
        Self::Calls,
        Self::Emails,
        Self::Meetings,
        Self::Tasks,
        Self::Notes,
    ];

    /// The plural name, as in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Companies => "companies",
            Self::Contacts => "contacts",
            Self::Deals => "deals",
            Self::Calls => "calls",
            Self::Emails => "emails",
            Self::Meetings => "meetings",
            Self::Tasks => "tasks",
            Self::Notes => "notes",
        }
    }

    /// The singular name, as in `contact_to_company`.
    #[must_use]
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Companies => "company",
            Self::Contacts => "contact",
            Self::Deals => "deal",
            Self::Calls => "call",
            Self::Emails => "email",
            Self::Meetings => "meeting",
            Self::Tasks => "task",
            Self::Notes => "note",
        }
    }

    /// The vendor's `objectTypeId` (developers.hubspot.com, "Understanding the CRM", object type ids).
    #[must_use]
    pub const fn type_id(self) -> &'static str {
        match self {
            Self::Companies => "0-2",
            Self::Contacts => "0-1",
            Self::Deals => "0-3",
            Self::Calls => "0-48",
            Self::Emails => "0-49",
            Self::Meetings => "0-47",
            Self::Tasks => "0-27",
            Self::Notes => "0-46",
        }
    }

    /// The type named in a path: plural, singular or type id, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| [kind.plural(), kind.singular(), kind.type_id()].contains(&name.as_str()))
    }

    /// Whether it is one of the five activity types.
    #[must_use]
    pub const fn is_activity(self) -> bool {
        !matches!(self, Self::Companies | Self::Contacts | Self::Deals)
    }

    /// The property that holds the time of the last change. Contacts have a name of their own, and their
    /// `hs_lastmodifieddate` is empty (Airbyte and dlt both special-case it).
    #[must_use]
    pub const fn modified_property(self) -> &'static str {
        if matches!(self, Self::Contacts) { "lastmodifieddate" } else { "hs_lastmodifieddate" }
    }

    /// The property that holds the time of creation.
    #[must_use]
    pub const fn created_property(self) -> &'static str {
        if self.is_activity() { "hs_createdate" } else { "createdate" }
    }

    /// The scope that reading it needs.
    #[must_use]
    pub fn read_scope(self) -> String {
        // Activities are read under the contacts scope (developers.hubspot.com, scopes reference).
        let object = if self.is_activity() { "contacts" } else { self.plural() };
        format!("crm.objects.{object}.read")
    }
}

/// The vendor's id of the unlabelled association (developers.hubspot.com, associations v4 guide, "Association type id values").
#[must_use]
pub(super) const fn association_type_id(from: Kind, to: Kind) -> Option<u16> {
    use Kind::{Calls, Companies, Contacts, Deals, Emails, Meetings, Notes, Tasks};
    Some(match (from, to) {
        (Contacts, Companies) => 279,
        (Companies, Contacts) => 280,
        (Deals, Companies) => 341,
        (Companies, Deals) => 342,
        (Deals, Contacts) => 3,
        (Contacts, Deals) => 4,
        (Calls, Companies) => 182,
        (Companies, Calls) => 181,
        (Emails, Companies) => 186,
        (Companies, Emails) => 185,
        (Meetings, Companies) => 188,
        (Companies, Meetings) => 187,
        (Notes, Companies) => 190,
        (Companies, Notes) => 189,
        (Tasks, Companies) => 192,
        (Companies, Tasks) => 191,
        (Calls, Contacts) => 194,
        (Contacts, Calls) => 193,
        (Emails, Contacts) => 198,
        (Contacts, Emails) => 197,
        (Meetings, Contacts) => 200,
        (Contacts, Meetings) => 199,
        (Notes, Contacts) => 202,
        (Contacts, Notes) => 201,
        (Tasks, Contacts) => 204,
        (Contacts, Tasks) => 203,
        (Calls, Deals) => 206,
        (Deals, Calls) => 205,
        (Emails, Deals) => 210,
        (Deals, Emails) => 209,
        (Meetings, Deals) => 212,
        (Deals, Meetings) => 211,
        (Notes, Deals) => 214,
        (Deals, Notes) => 213,
        (Tasks, Deals) => 216,
        (Deals, Tasks) => 215,
        _ => return None,
    })
}

/// The id of the association labelled Primary, where there is one (same source).
#[must_use]
pub(super) const fn primary_type_id(from: Kind, to: Kind) -> Option<u16> {
    match (from, to) {
        (Kind::Contacts, Kind::Companies) => Some(1),
        (Kind::Companies, Kind::Contacts) => Some(2),
        (Kind::Deals, Kind::Companies) => Some(5),
        (Kind::Companies, Kind::Deals) => Some(6),
        _ => None,
    }
}
