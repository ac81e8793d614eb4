//! The truth for the checker: every record, owner and stage as it is, with what a client may not have seen yet.
//! Says what is, not what a store should make of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    account::Account,
    admin::Info,
    associations::is_natural,
    directory::{PIPELINES, PIPELINES_UPDATED_AT},
    kind::Kind,
    records::{Key, Life, id_of},
    state::StateHandle,
};

/// A record, owner or stage as the simulator holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Truth {
    /// `owners`, `pipelines` (one for each stage) or the plural name of the type.
    pub stream: String,
    /// The vendor's id; for a stage `{pipeline}:{stage}`.
    pub id: String,
    /// The time of the last change, archiving included; for a merged record that of its winner.
    pub updated_at: Timestamp,
    /// When it was archived, or vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// The record that it was merged into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
    /// From when list and search show it, where that is not from its change on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_from: Option<Timestamp>,
    /// The newest version that any client was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_version: Option<Timestamp>,
    /// Its properties that are not null, as far as they were asked for.
    pub properties: BTreeMap<String, String>,
    /// The primary company of a contact or deal, even if that is archived or merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Whether that company is live and visible, so that a client must have seen the association.
    #[serde(default)]
    pub company_is_live: bool,
}

impl Truth {
    /// Whether clients should hold it as live.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.archived_at.is_none() && self.merged_into.is_none()
    }
}

/// One line of the log: the newest version of a record that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// As in `Truth`.
    pub stream: String,
    /// As in `Truth`.
    pub id: String,
    /// The version: its time of change.
    pub version: Timestamp,
}

impl Served {
    pub(super) fn of(truth: &Truth) -> Option<Self> {
        let version = truth.served_version?;
        Some(Self { stream: truth.stream.clone(), id: truth.id.clone(), version })
    }
}

impl StateHandle {
    /// What the simulator is.
    #[must_use]
    pub fn info(&self) -> Info {
        self.with(|account| Info {
            now: account.clock.now(),
            portal_id: account.portal_id,
            records: Kind::ALL
                .into_iter()
                .map(|kind| (kind.plural().to_owned(), account.records.count(kind)))
                .collect(),
        })
    }

    /// Everything, in memory: for small accounts; larger ones are read in parts.
    #[must_use]
    pub fn truth(&self) -> Vec<Truth> {
        Kind::ALL.into_iter().flat_map(|kind| self.truths_of(kind, 0, u32::MAX, &[])).collect()
    }

    /// The records of a type from a position on, with these properties (none named = all);
    /// the first part of the first type brings owners and stages.
    #[must_use]
    pub fn truths_of(&self, kind: Kind, from: u32, count: u32, properties: &[&str]) -> Vec<Truth> {
        self.with(|account| {
            let mut truths = Vec::new();
            if kind == Kind::ALL[0] && from == 0 {
                truths.extend(account.directory_truths());
            }
            let end = from.saturating_add(count).min(account.records.count(kind));
            truths.extend((from..end).filter_map(|index| account.truth_of((kind, index), properties)));
            truths
        })
    }
}

impl Account {
    fn truth_of(&self, key: Key, properties: &[&str]) -> Option<Truth> {
        let (kind, index) = key;
        let header = self.records.header(key)?;
        let company = is_natural(kind, Kind::Companies)
            .then(|| self.records.natural_links(key, Kind::Companies).into_iter().find(|link| link.primary))
            .flatten()
            .map(|link| link.index);
        let now_ms = self.now_ms();
        let shown = |company: u32| (Kind::Companies, company);
        Some(Truth {
            stream: kind.plural().to_owned(),
            id: id_of(index).to_string(),
            updated_at: at(self.changed_ms(key)),
            archived_at: match header.life {
                Life::Archived(gone) | Life::Vanished(gone) => Some(at(gone)),
                Life::Live | Life::Merged(..) => None,
            },
            merged_into: if let Life::Merged(into, _) = header.life { Some(id_of(into).to_string()) } else { None },
            visible_from: self.records.visible_from(key).map(at),
            served_version: Some(header.served_ms).filter(|&served| served > 0).map(at),
            properties: self.truth_properties(key, properties),
            company: company.map(|company| id_of(company).to_string()),
            company_is_live: company.is_some_and(|company| {
                self.records.is_live(shown(company)) && self.records.is_visible(shown(company), now_ms)
            }),
        })
    }

    /// For a merged record: when its winner last changed, because only the winner tells of the merge.
    fn changed_ms(&self, key: Key) -> i64 {
        let of = |key| self.records.header(key).map_or(0, |header| header.updated_ms);
        match self.records.header(key).map(|header| header.life) {
            Some(Life::Merged(into, merged_ms)) => merged_ms.max(of((key.0, into))),
            _ => of(key),
        }
    }

    fn truth_properties(&self, key: Key, asked: &[&str]) -> BTreeMap<String, String> {
        self.records
            .definitions(key.0)
            .filter(|definition| asked.is_empty() || asked.contains(&&*definition.name))
            .filter_map(|definition| Some((definition.name.to_string(), self.records.value(key, &definition.name)?)))
            .collect()
    }

    fn directory_truths(&self) -> Vec<Truth> {
        let updated_at: Timestamp = PIPELINES_UPDATED_AT.parse().expect("a constant time");
        let plain = |stream: &str, id: String, updated_at, properties: &[(&str, &str)]| Truth {
            stream: stream.to_owned(),
            id,
            updated_at,
            archived_at: None,
            merged_into: None,
            visible_from: None,
            served_version: None,
            properties: properties.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            company: None,
            company_is_live: false,
        };
        let owners = self.owners.iter().map(|owner| {
            let properties =
                [("email", &*owner.email), ("firstName", &*owner.first_name), ("lastName", &*owner.last_name)];
            let truth = plain("owners", owner.id.to_string(), owner.updated_at, &properties);
            Truth { archived_at: owner.archived.then_some(owner.updated_at), ..truth }
        });
        let stages = PIPELINES.iter().flat_map(|pipeline| {
            pipeline.stages.iter().map(move |stage| {
                let properties = [("label", stage.label), ("pipeline", pipeline.id)];
                plain("pipelines", format!("{}:{}", pipeline.id, stage.id), updated_at, &properties)
            })
        });
        owners.chain(stages).collect()
    }
}

/// Times out of range (a record held until told) become the end of time.
fn at(at_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX)
}
