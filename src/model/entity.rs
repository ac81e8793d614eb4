//! The canonical schema: entities, their tables and typed columns. Both stores and docs/canonical-schema.md follow it.
//! Holds no values; a row's values are `record::Row`.

use serde::{Deserialize, Serialize};

/// A canonical entity; one table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entity {
    /// A company.
    Account,
    /// A person known to the tenant.
    Contact,
    /// A person not yet qualified, where the source keeps them apart.
    Lead,
    /// A deal.
    Opportunity,
    /// A call, email, meeting, task or note.
    Activity,
    /// A user of the CRM who owns records.
    Owner,
    /// A stage of a pipeline.
    Stage,
}

/// The type of a canonical column, the same in both stores' documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text without NUL.
    Text,
    /// 64-bit signed integer.
    Integer,
    /// Exact decimal number, as text in SQLite and `numeric` in PostgreSQL.
    Decimal,
    /// True or false.
    Boolean,
    /// Instant with microseconds, UTC.
    Timestamp,
    /// Calendar date.
    Date,
    /// A JSON document that PostgreSQL's `jsonb` accepts.
    Json,
}

/// A column of a canonical table, after the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Column name in both stores.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnType,
}

const fn column(name: &'static str, kind: ColumnType) -> Column {
    Column { name, kind }
}

use ColumnType::{Boolean, Date, Decimal, Integer, Json, Text, Timestamp};

// The last column of every entity is `custom`: the requested properties without a canonical column, as one JSON object.
const ACCOUNT: &[Column] = &[
    column("name", Text),
    column("domain", Text),
    column("website", Text),
    column("industry", Text),
    column("employees", Integer),
    column("annual_revenue", Decimal),
    column("phone", Text),
    column("street", Text),
    column("city", Text),
    column("state", Text),
    column("postal_code", Text),
    column("country", Text),
    column("account_type", Text),
    column("parent_source_id", Text),
    column("owner_source_id", Text),
    column("last_activity_at", Timestamp),
    column("custom", Json),
];
const CONTACT: &[Column] = &[
    column("email", Text),
    column("first_name", Text),
    column("last_name", Text),
    column("title", Text),
    column("phone", Text),
    column("mobile", Text),
    column("account_source_id", Text),
    column("owner_source_id", Text),
    column("lead_source", Text),
    column("lifecycle", Text),
    column("opted_out", Boolean),
    column("last_activity_at", Timestamp),
    column("custom", Json),
];
const LEAD: &[Column] = &[
    column("email", Text),
    column("first_name", Text),
    column("last_name", Text),
    column("company", Text),
    column("title", Text),
    column("phone", Text),
    column("status", Text),
    column("lead_source", Text),
    column("owner_source_id", Text),
    column("converted_at", Timestamp),
    column("converted_contact_source_id", Text),
    column("converted_account_source_id", Text),
    column("converted_opportunity_source_id", Text),
    column("custom", Json),
];
const OPPORTUNITY: &[Column] = &[
    column("name", Text),
    column("amount", Decimal),
    column("currency", Text),
    column("close_date", Date),
    column("stage", Text),
    column("pipeline", Text),
    column("probability", Decimal),
    // OPEN, WON or LOST.
    column("status", Text),
    column("account_source_id", Text),
    // JSON array of contact source ids.
    column("contact_source_ids", Json),
    column("owner_source_id", Text),
    column("opportunity_type", Text),
    column("lead_source", Text),
    column("forecast", Text),
    column("custom", Json),
];
const ACTIVITY: &[Column] = &[
    // call, email, meeting, task or note.
    column("kind", Text),
    column("subject", Text),
    column("body", Text),
    column("occurred_at", Timestamp),
    column("ended_at", Timestamp),
    column("direction", Text),
    column("duration_seconds", Integer),
    column("status", Text),
    column("owner_source_id", Text),
    // JSON array of {"entity": …, "sourceId": …}; the view `activity_link` shows one row each.
    column("links", Json),
    column("custom", Json),
];
const OWNER: &[Column] = &[
    column("first_name", Text),
    column("last_name", Text),
    column("email", Text),
    column("active", Boolean),
    column("manager_source_id", Text),
    // JSON array of team names.
    column("teams", Json),
    column("custom", Json),
];
const STAGE: &[Column] = &[
    column("name", Text),
    column("pipeline", Text),
    column("pipeline_name", Text),
    column("position", Integer),
    column("probability", Decimal),
    // OPEN, WON or LOST.
    column("status", Text),
    column("custom", Json),
];

impl Entity {
    /// Every entity, in the order of their staged codes.
    pub const ALL: [Self; 7] =
        [Self::Account, Self::Contact, Self::Lead, Self::Opportunity, Self::Activity, Self::Owner, Self::Stage];

    /// The name of its table and view.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Contact => "contact",
            Self::Lead => "lead",
            Self::Opportunity => "opportunity",
            Self::Activity => "activity",
            Self::Owner => "owner",
            Self::Stage => "stage",
        }
    }

    /// Its columns after the envelope; a `Row` has one cell for each, in this order.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Account => ACCOUNT,
            Self::Contact => CONTACT,
            Self::Lead => LEAD,
            Self::Opportunity => OPPORTUNITY,
            Self::Activity => ACTIVITY,
            Self::Owner => OWNER,
            Self::Stage => STAGE,
        }
    }

    /// Where `name` stands in `columns`.
    #[must_use]
    pub fn column_index(self, name: &str) -> Option<usize> {
        self.columns().iter().position(|column| column.name == name)
    }
}
