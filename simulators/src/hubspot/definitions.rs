//! The properties of each object type: names, types, and which are shown unasked.
//! Holds no values; those are `properties`.

use std::borrow::Cow;

use super::kind::Kind;

/// How a property's text is to be understood and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    Text,
    Number,
    DateTime,
    Choice,
    Boolean,
}

impl ValueType {
    /// The vendor's name of the type.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::DateTime => "datetime",
            Self::Choice => "enumeration",
            Self::Boolean => "bool",
        }
    }
}

/// A property of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: Cow<'static, str>,
    pub(super) value_type: ValueType,
    pub(super) read_only: bool,
}

const fn define(name: &'static str, value_type: ValueType) -> Definition {
    Definition { name: Cow::Borrowed(name), value_type, read_only: false }
}

const fn fixed(name: &'static str, value_type: ValueType) -> Definition {
    Definition { name: Cow::Borrowed(name), value_type, read_only: true }
}

use ValueType::{Boolean, Choice, DateTime, Number, Text};

const COMPANIES: &[Definition] = &[
    define("name", Text),
    define("domain", Text),
    define("website", Text),
    define("industry", Choice),
    define("numberofemployees", Number),
    define("annualrevenue", Number),
    define("phone", Text),
    define("address", Text),
    define("city", Text),
    define("state", Text),
    define("zip", Text),
    define("country", Text),
    define("type", Choice),
    define("description", Text),
    define("lifecyclestage", Choice),
    define("hs_parent_company_id", Number),
    define("notes_last_updated", DateTime),
];
const CONTACTS: &[Definition] = &[
    define("email", Text),
    define("firstname", Text),
    define("lastname", Text),
    define("jobtitle", Text),
    define("company", Text),
    define("phone", Text),
    define("mobilephone", Text),
    define("lifecyclestage", Choice),
    define("hs_lead_status", Choice),
    define("hs_analytics_source", Choice),
    define("hs_email_optout", Boolean),
    define("notes_last_updated", DateTime),
    fixed("associatedcompanyid", Number),
    fixed("lastmodifieddate", DateTime),
];
const DEALS: &[Definition] = &[
    define("dealname", Text),
    define("amount", Number),
    define("deal_currency_code", Choice),
    define("closedate", DateTime),
    define("dealstage", Choice),
    define("pipeline", Choice),
    define("dealtype", Choice),
    define("description", Text),
    define("hs_analytics_source", Choice),
    define("hs_manual_forecast_category", Choice),
    fixed("hs_deal_stage_probability", Number),
    fixed("hs_is_closed", Boolean),
    fixed("hs_is_closed_won", Boolean),
];
const CALLS: &[Definition] = &[
    define("hs_call_title", Text),
    define("hs_call_body", Text),
    define("hs_call_direction", Choice),
    define("hs_call_duration", Number),
    define("hs_call_status", Choice),
    define("hs_timestamp", DateTime),
];
const EMAILS: &[Definition] = &[
    define("hs_email_subject", Text),
    define("hs_email_text", Text),
    define("hs_email_direction", Choice),
    define("hs_email_status", Choice),
    define("hs_timestamp", DateTime),
];
const MEETINGS: &[Definition] = &[
    define("hs_meeting_title", Text),
    define("hs_meeting_body", Text),
    define("hs_meeting_start_time", DateTime),
    define("hs_meeting_end_time", DateTime),
    define("hs_meeting_outcome", Choice),
    define("hs_timestamp", DateTime),
];
const TASKS: &[Definition] = &[
    define("hs_task_subject", Text),
    define("hs_task_body", Text),
    define("hs_task_status", Choice),
    define("hs_task_priority", Choice),
    define("hs_task_type", Choice),
    define("hs_timestamp", DateTime),
];
const NOTES: &[Definition] = &[define("hs_note_body", Text), define("hs_timestamp", DateTime)];
/// On every type; `gtm_score` and `gtm_band` are the account's own, for scores written back.
const COMMON: &[Definition] = &[
    define("hubspot_owner_id", Choice),
    define("gtm_score", Number),
    define("gtm_band", Text),
    fixed("hs_object_id", Number),
    fixed("hs_lastmodifieddate", DateTime),
    fixed("hs_merged_object_ids", Text),
    fixed("createdate", DateTime),
    fixed("hs_createdate", DateTime),
];

/// The definitions of a type, without those made at run time.
pub(super) fn definitions(kind: Kind) -> impl Iterator<Item = &'static Definition> {
    let own = match kind {
        Kind::Companies => COMPANIES,
        Kind::Contacts => CONTACTS,
        Kind::Deals => DEALS,
        Kind::Calls => CALLS,
        Kind::Emails => EMAILS,
        Kind::Meetings => MEETINGS,
        Kind::Tasks => TASKS,
        Kind::Notes => NOTES,
    };
    own.iter().chain(COMMON)
}

/// What list, read and search return when no properties are asked for (seen in the vendor's API reference examples).
pub(super) const fn default_properties(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Companies => &["name", "domain"],
        Kind::Contacts => &["email", "firstname", "lastname"],
        Kind::Deals => &["dealname", "amount", "closedate", "dealstage", "pipeline"],
        _ => &[],
    }
}
