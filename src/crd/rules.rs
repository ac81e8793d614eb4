//! What the API server refuses at apply: CEL rules, each with a message that says what to write instead.
//! Pure declarations; `tests/it/crds.rs` runs them on a real API server. What only Temporal can tell (a cron that never
//! fires) is a condition, not a rule.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::duration;

/// One rule, as `x-kubernetes-validations` wants it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rule {
    pub(super) rule: String,
    pub(super) message: String,
}

pub(super) fn rule(rule: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule { rule: rule.into(), message: message.into() }
}

/// A string type of the schema only: bounds keep CEL's estimated cost down, rules carry the messages.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $min:literal..=$max:expr, $rules:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string", "minLength": $min, "maxLength": $max, "x-kubernetes-validations": $rules,
                })
            }
        }
    };
}

text!(
    /// `spec.tenantId`.
    Tenant, 1..=63, [
        rule(
            matches(DNS_LABEL),
            "tenantId must be a DNS label: a-z, 0-9 and '-', starting and ending with a letter or digit",
        ),
        rule("self == oldSelf", "tenantId cannot be changed: make a new object for another tenant"),
    ]
);
text!(
    /// A cron expression.
    Cron, 1..=100, cron()
);
text!(
    /// A time zone.
    TimeZone, 1..=64, time_zone()
);
text!(
    /// A duration of any length.
    AnyDuration, 2..=duration::MAX_LENGTH, [written_as_duration()]
);
text!(
    /// A time that passes: a pause, an age.
    Period, 2..=duration::MAX_LENGTH, [
        written_as_duration(),
        at_least("1s", "must be at least 1s"),
    ]
);
text!(
    /// A catch-up window: the server's minimum is 10 s (docs/facts.md, Temporal).
    CatchUpWindow, 2..=duration::MAX_LENGTH, [
        written_as_duration(),
        at_least("10s", "catchUpWindow must be at least 10s; choose at least one interval of the schedule"),
    ]
);
text!(
    /// A request's token.
    Token, 1..=128, [rule(
        matches("^[A-Za-z0-9]([A-Za-z0-9._:+-]*[A-Za-z0-9])?$"),
        "a token is made of letters, digits and . _ : + - and starts and ends with a letter or digit, e.g. 2026-11-23",
    )]
);
text!(
    /// The name of a Secret.
    SecretName, 1..=253, [rule(
        matches(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        "not the name of a Secret: a-z, 0-9, '-' and '.'",
    )]
);
text!(
    /// A key of a Secret.
    SecretKey, 1..=253, [rule(
        matches("^[-._a-zA-Z0-9]+$"),
        "not a key of a Secret: letters, digits, '-', '_' and '.'",
    )]
);
text!(
    /// A sealed credential.
    SealedText, 1..=16_384, [rule(
        matches("^gtmseal1:[0-9a-f]{16}:[A-Za-z0-9+/]+={0,2}$"),
        "not a sealed credential: paste the whole output of `gtm-sync seal`, never the secret itself",
    )]
);
text!(
    /// The name of a property at the source.
    Property, 1..=100, [rule(
        matches("^[A-Za-z_][A-Za-z0-9_]*$"),
        "a property is the source's internal name: letters, digits and '_'",
    )]
);
text!(
    /// An id that another system chose: a workflow's, a record's. A control character cannot stand in the store.
    ForeignId, 1..=255, [rule(
        matches(r"^[^\x00-\x1f\x7f]+$"),
        "an id is copied as it is shown, without line breaks or other control characters",
    )]
);
text!(
    /// An instant. The years keep it inside what every library can hold; CEL's `timestamp` checks the calendar.
    Moment, 20..=35, [rule(
        matches(MOMENT),
        "a time is written as in RFC 3339, with seconds and zone, e.g. 2026-11-23T00:00:00Z",
    )]
);
text!(
    /// The beginning of a maintenance window. One minute and one hour: it becomes a calendar of what is left out.
    WindowStart, 9..=60, [rule(
        matches(&format!(r"^[0-5]?[0-9] ([01]?[0-9]|2[0-3]) \* \* {}$", window_days())),
        "a window begins at one minute and one hour of some days of the week, e.g. '30 22 * * sat,sun' or '0 3 * * *'",
    )]
);
text!(
    /// The length of a maintenance window.
    WindowDuration, 2..=duration::MAX_LENGTH, [
        written_as_duration(),
        rule(
            format!(
                "!({}) || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",
                matches(duration::PATTERN)
            ),
            "a maintenance window takes at least 1m and at most 24h",
        ),
    ]
);
text!(
    /// An amount of processor time or memory.
    Amount, 1..=16, [rule(
        matches(AMOUNT),
        "an amount is a number with an optional unit, such as 500m, 2, 512Mi or 1.5Gi",
    )]
);
text!(
    /// The key of a label or taint.
    LabelKey, 1..=317, [rule(
        matches(LABEL_KEY),
        "not the key of a label or taint, such as pool or example.com/pool",
    )]
);
text!(
    /// The value of a label or taint.
    LabelValue, 0..=63, [rule(
        matches("^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"),
        "not the value of a label or taint: letters, digits, '-', '_' and '.'",
    )]
);
text!(
    /// A field of a stream.
    Field, 1..=100, [rule(
        matches("^[A-Za-z_][A-Za-z0-9_]*$"),
        "a field is a column of the canonical schema, such as email, or one of the stream's properties: letters, digits and '_'",
    )]
);
text!(
    /// A source's address.
    BaseUrl, 1..=512, base_url()
);

/// As `ids::TenantId` parses it; a test compares them.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Of Kubernetes' quantities those that people write.
pub(super) const AMOUNT: &str = "^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$";

/// Of labels and taints.
pub(super) const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

/// RFC 3339, of this century or the last.
const MOMENT: &str =
    r"^(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$";

/// Which dead letters: a batch is one of a run, a record one of an entity.
pub(super) fn selection() -> Vec<Rule> {
    vec![
        rule("!has(self.batch) || has(self.run)", "batches are counted within a run: set run, too"),
        rule("!has(self.record) || has(self.entity)", "a record is one of an entity: set entity, too"),
    ]
}

/// Deleting everything takes one more word than deleting something, so that a forgotten field deletes nothing.
pub(super) fn discard() -> Vec<Rule> {
    let all_or_some = rule(
        "self.all != (has(self.run) || has(self.entity))",
        "discard deletes for good: say which by run (and batch) or entity (and record), or set all: true alone",
    );
    selection().into_iter().chain([all_or_some]).collect()
}

/// A time range that is one.
pub(super) fn window() -> [Rule; 1] {
    let written = |name: &str| format!("self.{name}.matches(r'{MOMENT}')");
    [rule(
        format!("!({} && {}) || timestamp(self.from) < timestamp(self.to)", written("from"), written("to")),
        "resync.from must be before resync.to",
    )]
}

/// A time range that is one, and not so long that its ticks fill the server's buffer by mistake.
pub(super) fn backfill() -> [Rule; 2] {
    let both = format!("self.from.matches(r'{MOMENT}') && self.to.matches(r'{MOMENT}')");
    [
        rule(
            format!("!({both}) || timestamp(self.from) < timestamp(self.to)"),
            "backfill.from must be before backfill.to",
        ),
        rule(
            format!("!({both}) || timestamp(self.to) - timestamp(self.from) <= duration('744h')"),
            "a backfill makes up for at most 31 days; a time range of data is read again by a Connector's requests.resync",
        ),
    ]
}

/// A schedule's life, if both ends are set.
pub(super) fn life() -> [Rule; 1] {
    let written = |name: &str| format!("self.{name}.matches(r'{MOMENT}')");
    [rule(
        format!(
            "!has(self.startAt) || !has(self.endAt) || !({} && {}) || timestamp(self.startAt) < timestamp(self.endAt)",
            written("startAt"),
            written("endAt")
        ),
        "startAt must be before endAt",
    )]
}

/// `*`, or a list of days and ranges of days.
fn window_days() -> String {
    let day = "(?i:[0-7]|sun|mon|tue|wed|thu|fri|sat)";
    format!(r"(\*|{day}(-{day})?(,{day}(-{day})?)*)")
}

/// `source.type` names the one member that is set.
pub(super) fn source_union() -> [Rule; 1] {
    [rule(
        "(self.type == 'HubSpot') == has(self.hubspot)",
        "type HubSpot needs source.hubspot; write hubspot: {} for the defaults",
    )]
}

/// What to keep is said one way. Which names there are is said by the connection check: it knows the stream's columns.
pub(super) fn fields() -> [Rule; 1] {
    [rule(
        "!has(self.allow) || size(self.allow) == 0 || !has(self.drop) || size(self.drop) == 0",
        "fields takes allow (only these) or drop (all but these), not both; hash goes with either",
    )]
}

/// One way to sign in.
pub(super) fn credentials_union() -> [Rule; 1] {
    [rule("has(self.secretRef) != has(self.sealed)", "credentials needs exactly one of secretRef and sealed")]
}

/// The connector id is part of workflow ids and a label value.
pub(super) fn connector_name() -> Rule {
    rule(
        "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
        "the name of a Connector is its connector id: a DNS label of at most 63 characters, without dots",
    )
}

/// A test on `self`; the pattern stands in a raw CEL string.
fn matches(pattern: &str) -> String {
    format!("self.matches(r'{pattern}')")
}

fn at_least(shortest: &str, message: &str) -> Rule {
    rule(format!("!({}) || duration(self) >= duration('{shortest}')", matches(duration::PATTERN)), message)
}

fn written_as_duration() -> Rule {
    rule(matches(duration::PATTERN), "a duration is written like 90s, 5m or 1h30m")
}

/// Five fields with bounds, as Temporal takes them (its calendar.go: lists, ranges, steps, names from three letters,
/// Sunday as 0 or 7), less what it would take and mean otherwise: a zone, a comment, seconds, years, `@every`.
fn cron() -> Vec<Rule> {
    let five_fields = matches(r"^\S+( +\S+){4}$");
    let shape = rule(
        format!(
            "self.contains('TZ=') || self.contains('#') || {five_fields} || {}",
            matches("^@(hourly|daily|weekly|monthly|yearly)$")
        ),
        "a schedule has five fields (minute hour day-of-month month day-of-week) or is one of @hourly, @daily, @weekly, @monthly, @yearly",
    );
    let no_zone = rule("!self.contains('TZ=')", "set the time zone in spec.timeZone, not in the schedule");
    let no_comment = rule("!self.contains('#')", "a schedule takes no comment");
    let one_kind_of_day = rule(
        format!(r"!{five_fields} || {} || {}", matches(r"^\S+ +\S+ +\* "), matches(r" \*$")),
        "set day-of-month or day-of-week and leave the other *: Temporal fires only on days that match both, cron on days that match either",
    );
    let fields = cron_fields().into_iter().enumerate().map(|(index, (field, message))| {
        let (before, after) = (r"(\S+ +)", r"( +\S+)");
        let this = matches(&format!("^{before}{{{index}}}{field}{after}{{{}}}$", 4 - index));
        rule(format!("!{five_fields} || {this}"), message)
    });
    [shape, no_zone, no_comment].into_iter().chain(fields).chain([one_kind_of_day]).collect()
}

/// Pattern of each field and what to say when it does not match.
fn cron_fields() -> [(String, &'static str); 5] {
    const MONTHS: &str = "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sep(tember)?|oct(ober)?|nov(ember)?|dec(ember)?";
    const DAYS: &str = "sun(day)?|mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?";
    [
        (
            cron_field("[0-5]?[0-9]", "([1-9]|[1-5][0-9])"),
            "minute: use 0-59, *, ranges such as 10-20, lists and steps such as */15",
        ),
        (
            cron_field("([01]?[0-9]|2[0-3])", "([1-9]|1[0-9]|2[0-3])"),
            "hour: use 0-23, *, ranges such as 8-18, lists and steps such as */4",
        ),
        (
            cron_field("(0?[1-9]|[12][0-9]|3[01])", "([1-9]|[12][0-9]|3[01])"),
            "day-of-month: use 1-31, *, ranges, lists and steps",
        ),
        (
            cron_field(&format!("(0?[1-9]|1[0-2]|(?i:{MONTHS}))"), "([1-9]|1[0-2])"),
            "month: use 1-12 or names such as jan, *, ranges, lists and steps",
        ),
        (
            cron_field(&format!("(0?[0-7]|(?i:{DAYS}))"), "[1-7]"),
            "day-of-week: use 0-7 (0 and 7 are Sunday) or names such as mon, *, ranges, lists and steps",
        ),
    ]
}

/// A list of values, ranges or `*`, each with a step that is not 0.
fn cron_field(value: &str, step: &str) -> String {
    let item = format!(r"(\*|{value}(-{value})?)(/{step})?");
    format!("{item}(,{item})*")
}

fn time_zone() -> Vec<Rule> {
    let named = matches("^(UTC|[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){1,2})$");
    const MESSAGE: &str = "timeZone must be a name of the IANA time zone database, such as UTC or Europe/Berlin";
    vec![
        rule(named.clone(), MESSAGE),
        // An unknown zone is an error of getHours, which refuses the object too.
        rule(format!("!{named} || timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0"), MESSAGE),
    ]
}

/// One parser decides in the end (the worker's, with the address actually dialled); these refuse what is never right.
fn base_url() -> Vec<Rule> {
    let printable = matches("^[!-~]*$");
    let scheme = matches("^https?://");
    let no_user = "!self.contains('@')";
    let no_query = r"!self.contains('?') && !self.contains('#')";
    let host = matches(
        r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
    );
    vec![
        rule(printable.clone(), "baseUrl must not contain blanks, control characters or letters outside ASCII"),
        rule(
            scheme.clone(),
            "baseUrl must begin with https:// (or http:// where the workers' settings allow the host)",
        ),
        rule(no_user, "baseUrl must not contain a user or password: they belong in a Secret"),
        rule(no_query, "baseUrl must not contain a query or fragment"),
        rule(
            format!("!({printable} && {scheme} && {no_user} && {no_query}) || {host}"),
            "baseUrl must be https://host, optionally with :port and /path",
        ),
    ]
}
