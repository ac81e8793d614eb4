//! A request taken apart: path segments, query, body, and which resource of the API it names.
//! Dated (`/crm/objects/2026-03/…`) and older paths (`/crm/v3/objects/…`) become the same resource here.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    answer::{Answer, invalid, no_such_path},
    kind::Kind,
};

/// A request to the simulated API.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// Length of path and query as sent.
    pub(super) url_bytes: usize,
    pub(super) bearer: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// All values of a query parameter; repeated and comma-separated forms are the same.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let values = self.query.iter().filter(|(key, _)| key == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// One value of a query parameter.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Answer> {
        serde_json::from_slice(&self.body)
            .map_err(|_| invalid("Invalid input JSON on line 1, column 1: body is not a JSON document"))
    }

    /// The body as a form.
    pub(super) fn form(&self) -> HashMap<String, String> {
        decode_pairs(&String::from_utf8_lossy(&self.body)).into_iter().collect()
    }
}

/// What a path names. The rest are the segments after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Objects(Kind, Vec<String>),
    Associations(Kind, Kind, Vec<String>),
    Owners(Vec<String>),
    Pipelines(Vec<String>),
    Properties(Kind, Vec<String>),
    Schemas,
    AccountDetails,
    /// `true` for the dated path, where parameters in the URL are refused.
    Token(bool),
}

impl Resource {
    /// The object type it is about, for scopes and faults.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Objects(kind, _) | Self::Associations(kind, _, _) | Self::Properties(kind, _) => Some(*kind),
            _ => None,
        }
    }

    pub(super) fn is_search(&self) -> bool {
        matches!(self, Self::Objects(_, rest) if rest.first().is_some_and(|segment| segment == "search"))
    }

    /// The resource of a path.
    ///
    /// # Errors
    /// The 404 or 400 to answer with.
    pub(super) fn of(path: &str) -> Result<Self, Answer> {
        let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let rest = |from: usize| segments[from..].iter().map(|&part| part.to_owned()).collect::<Vec<_>>();
        match segments[..] {
            ["crm", "objects", version, kind, ..] if is_dated(version) => Ok(Self::Objects(parse(kind)?, rest(4))),
            ["crm", "v3" | "v4", "objects", kind, ..] => Ok(Self::Objects(parse(kind)?, rest(4))),
            ["crm", "associations", version, from, to, ..] if is_dated(version) => {
                Ok(Self::Associations(parse(from)?, parse(to)?, rest(5)))
            }
            ["crm", "v4", "associations", from, to, ..] => Ok(Self::Associations(parse(from)?, parse(to)?, rest(5))),
            ["crm", "owners", version, ..] if is_dated(version) => Ok(Self::Owners(rest(3))),
            ["crm", "v3", "owners", ..] => Ok(Self::Owners(rest(3))),
            ["crm", "pipelines", version, "deals" | "deal" | "0-3", ..] if is_dated(version) => {
                Ok(Self::Pipelines(rest(4)))
            }
            ["crm", "v3", "pipelines", "deals" | "deal" | "0-3", ..] => Ok(Self::Pipelines(rest(4))),
            ["crm", "properties", version, kind, ..] if is_dated(version) => {
                Ok(Self::Properties(parse(kind)?, rest(4)))
            }
            ["crm", "v3", "properties", kind, ..] => Ok(Self::Properties(parse(kind)?, rest(4))),
            ["crm", "schemas", version] if is_dated(version) => Ok(Self::Schemas),
            ["crm", "v3", "schemas"] => Ok(Self::Schemas),
            ["account-info", version, "details"] if is_dated(version) || version == "v3" => Ok(Self::AccountDetails),
            ["oauth", version, "token"] if is_dated(version) => Ok(Self::Token(true)),
            ["oauth", "v1", "token"] => Ok(Self::Token(false)),
            _ => Err(no_such_path()),
        }
    }
}

/// The two dated versions in force in November 2026 (developers.hubspot.com, versioning).
fn is_dated(version: &str) -> bool {
    matches!(version, "2026-03" | "2026-09")
}

fn parse(kind: &str) -> Result<Kind, Answer> {
    Kind::parse(kind).ok_or_else(|| invalid(format!("Unable to infer object type from: {kind}")))
}

/// Key-value pairs of a query or a form body.
pub(super) fn decode_pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Percent-decoding; what is not UTF-8 after it is replaced.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_and_older_paths_name_the_same_resource() {
        let pairs = [
            ("/crm/objects/2026-03/contacts/search", "/crm/v3/objects/contact/search"),
            ("/crm/objects/2026-09/0-2/7", "/crm/v3/objects/companies/7"),
            (
                "/crm/associations/2026-03/contacts/companies/batch/read",
                "/crm/v4/associations/contacts/companies/batch/read",
            ),
            ("/crm/owners/2026-03", "/crm/v3/owners/"),
            ("/crm/pipelines/2026-09/deals", "/crm/v3/pipelines/deals"),
            ("/account-info/2026-03/details", "/account-info/v3/details"),
        ];
        for (dated, older) in pairs {
            assert_eq!(Resource::of(dated).ok(), Resource::of(older).ok());
            assert!(Resource::of(dated).is_ok(), "{dated}");
        }
        assert!(Resource::of("/crm/objects/2025-09/contacts").is_err());
        assert!(Resource::of("/crm/v3/objects/unicorns").is_err());
    }

    #[test]
    fn pairs_are_decoded() {
        let pairs = decode_pairs("a=1%2C2&b=x+y&%C3%BC=&c");
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1,2"), ("b", "x y"), ("ü", ""), ("c", "")]);
        assert_eq!(decode("100%"), "100%");
    }
}
