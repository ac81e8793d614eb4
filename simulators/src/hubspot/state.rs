//! The handle by which a test changes the account behind the API's back: edits, clock, faults, tokens.
//! The admin endpoints (`admin`) are the same calls over HTTP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    account::{Account, Stats},
    faults::{Effect, Fault},
    kind::Kind,
    options::Limits,
    records::id_of,
    vocabulary as words,
};
use crate::random::Random;

/// Properties to set; `None` clears one.
pub type Properties = BTreeMap<String, Option<String>>;

/// A handle on a simulator's account; clones share it.
#[derive(Debug, Clone)]
pub struct StateHandle(Arc<Mutex<Account>>);

/// Random edits to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Edits {
    /// Which records and values; the same seed on the same state makes the same edits.
    pub seed: u64,
    /// Records to create.
    pub create: u32,
    /// Records to update.
    pub update: u32,
    /// Records to archive.
    pub archive: u32,
    /// Companies and contacts to merge.
    pub merge: u32,
}

/// The edits that were made, as `{type}:{id}`; for merges the loser's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edited {
    /// Created records.
    pub created: Vec<String>,
    /// Updated records.
    pub updated: Vec<String>,
    /// Archived records.
    pub archived: Vec<String>,
    /// Records merged away.
    pub merged: Vec<String>,
}

impl StateHandle {
    pub(super) fn new(account: Account) -> Self {
        Self(Arc::new(Mutex::new(account)))
    }

    /// Works on the account under its lock. A handler that panicked leaves it as it was at that moment.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Account) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.with(|account| account.clock.now())
    }

    /// Moves the simulator's clock (and its `Date` header) forward, instead of waiting.
    pub fn advance_clock(&self, by: Duration) {
        self.with(|account| account.clock.advance(by));
    }

    /// Records of a type ever made, whatever became of them.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u32 {
        self.with(|account| account.records.count(kind))
    }

    /// The id of the record at a position, counted from 0.
    #[must_use]
    pub fn id_at(&self, index: u32) -> String {
        id_of(index).to_string()
    }

    /// The ids of the live records of a type.
    #[must_use]
    pub fn live_ids(&self, kind: Kind) -> Vec<String> {
        self.with(|account| {
            let records = &account.records;
            let live = (0..records.count(kind)).filter(|&index| records.is_live((kind, index)));
            live.map(|index| id_of(index).to_string()).collect()
        })
    }

    /// The value of a property now; `None` when it is null or there is no such record.
    #[must_use]
    pub fn property(&self, kind: Kind, id: &str, name: &str) -> Option<String> {
        self.with(|account| {
            let index = account.records.position(kind, id)?;
            account.records.value((kind, index), name)
        })
    }

    /// Creates a record and returns its id. Values are taken as they are, even ones that the API would refuse.
    pub fn create(&self, kind: Kind, properties: Properties) -> String {
        self.with(|account| {
            let now_ms = account.now_ms();
            id_of(account.records.create(kind, properties, now_ms)).to_string()
        })
    }

    /// Sets properties of a live record; false when there is none. Values are taken as they are.
    pub fn update(&self, kind: Kind, id: &str, properties: Properties) -> bool {
        self.edit(kind, id, |account, index, now_ms| {
            let live = account.records.is_live((kind, index));
            if live {
                account.records.update((kind, index), properties, now_ms);
            }
            live
        })
    }

    /// Archives a live record; false when there is none.
    pub fn archive(&self, kind: Kind, id: &str) -> bool {
        self.edit(kind, id, |account, index, now_ms| account.records.archive((kind, index), now_ms))
    }

    /// Takes a live record away without a trace: no list, search, read or archive shows it; false when there is none.
    /// So look a record deleted for good, and one that the credential's user may not see any more.
    pub fn vanish(&self, kind: Kind, id: &str) -> bool {
        self.edit(kind, id, |account, index, now_ms| account.records.vanish((kind, index), now_ms))
    }

    /// Restores an archived record; false when there is none.
    pub fn restore(&self, kind: Kind, id: &str) -> bool {
        self.edit(kind, id, |account, index, now_ms| account.records.restore((kind, index), now_ms))
    }

    /// Merges `loser` into `winner`; false unless both live.
    pub fn merge(&self, kind: Kind, winner: &str, loser: &str) -> bool {
        self.edit(kind, winner, |account, winner, now_ms| {
            let loser = account.records.position(kind, loser);
            loser.is_some_and(|loser| account.records.merge(kind, winner, loser, now_ms))
        })
    }

    /// Associates two records (their default association); `primary` makes a company the primary one.
    pub fn associate(&self, from: (Kind, &str), to: (Kind, &str), primary: bool) -> bool {
        self.with(|account| {
            let now_ms = account.now_ms();
            let ends = (account.records.find(from.0, from.1), account.records.find(to.0, to.1));
            let (Some(from_index), Some(to_index)) = ends else { return false };
            account.records.associate((from.0, from_index), (to.0, to_index), primary, now_ms)
        })
    }

    /// Hides a record from list and search until `release`.
    pub fn hold(&self, kind: Kind, id: &str) -> bool {
        self.edit(kind, id, |account, index, _| {
            account.records.hide_until((kind, index), i64::MAX);
            true
        })
    }

    /// Makes a held or late record visible from now on; its time of change stays.
    pub fn release(&self, kind: Kind, id: &str) -> bool {
        self.edit(kind, id, |account, index, now_ms| {
            let late = account.records.visible_from((kind, index)).is_some();
            if late {
                account.records.hide_until((kind, index), now_ms);
            }
            late
        })
    }

    fn edit(&self, kind: Kind, id: &str, work: impl FnOnce(&mut Account, u32, i64) -> bool) -> bool {
        self.with(|account| {
            let now_ms = account.now_ms();
            account.records.position(kind, id).is_some_and(|index| work(account, index, now_ms))
        })
    }

    /// Makes random edits all over the account.
    pub fn edit_random(&self, edits: Edits) -> Edited {
        self.with(|account| {
            let mut edited = Edited::default();
            let mut random = Random::of(&[edits.seed, 71]);
            let now_ms = account.now_ms();
            let name = |(kind, index): (Kind, u32)| format!("{}:{}", kind.plural(), id_of(index));
            for _ in 0..edits.update {
                if let Some(key) = pick_live(account, &mut random, &Kind::ALL) {
                    let properties = random_properties(key.0, &mut random);
                    account.records.update(key, properties, now_ms);
                    edited.updated.push(name(key));
                }
            }
            for _ in 0..edits.archive {
                if let Some(key) = pick_live(account, &mut random, &Kind::ALL) {
                    account.records.archive(key, now_ms);
                    edited.archived.push(name(key));
                }
            }
            for _ in 0..edits.merge {
                let winner = pick_live(account, &mut random, &[Kind::Companies, Kind::Contacts]);
                let loser = winner.and_then(|(kind, _)| pick_live(account, &mut random, &[kind]));
                if let (Some((kind, winner)), Some((_, loser))) = (winner, loser)
                    && account.records.merge(kind, winner, loser, now_ms)
                {
                    edited.merged.push(name((kind, loser)));
                }
            }
            for _ in 0..edits.create {
                let kind = *random.pick(&Kind::ALL);
                let properties = random_properties(kind, &mut random);
                edited.created.push(name((kind, account.records.create(kind, properties, now_ms))));
            }
            edited
        })
    }

    /// Adds a fault. `ExpireTokens` happens at once.
    pub fn add_fault(&self, fault: Fault) {
        self.with(|account| match fault.effect {
            Effect::ExpireTokens { private } => account.tokens.expire(private),
            _ => account.faults.add(fault),
        });
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.clear_faults();
        faults.into_iter().for_each(|fault| self.add_fault(fault));
    }

    /// Removes all faults; expired tokens stay expired.
    pub fn clear_faults(&self) {
        self.with(|account| account.faults.clear());
    }

    /// The faults still in force.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.with(|account| account.faults.list().to_vec())
    }

    /// Ends all OAuth access tokens; with `private` the static token, too.
    pub fn expire_tokens(&self, private: bool) {
        self.with(|account| account.tokens.expire(private));
    }

    /// Gives the private app another token; the old one is unknown from now on.
    pub fn replace_token(&self, token: impl Into<String>) {
        self.with(|account| account.tokens.replace_private(token.into()));
    }

    /// The refresh token that works now.
    #[must_use]
    pub fn refresh_token(&self) -> String {
        self.with(|account| account.tokens.refresh_token().to_owned())
    }

    /// Changes the rate limits.
    pub fn set_limits(&self, limits: Limits) {
        self.with(|account| account.counters.limits = limits);
    }

    /// Becomes another account: R4's "the sandbox's token was replaced by production's".
    pub fn set_portal_id(&self, portal_id: u64) {
        self.with(|account| account.portal_id = portal_id);
    }

    /// What was asked so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.with(|account| account.stats.clone())
    }
}

/// A live record of one of `kinds`, if twenty draws find one.
fn pick_live(account: &Account, random: &mut Random, kinds: &[Kind]) -> Option<(Kind, u32)> {
    (0..20)
        .map(|_| {
            let kind = *random.pick(kinds);
            (kind, u32::try_from(random.below(u64::from(account.records.count(kind)))).unwrap_or(0))
        })
        .find(|&key| account.records.is_live(key))
}

fn random_properties(kind: Kind, random: &mut Random) -> Properties {
    let number = random.below(1_000_000);
    let word = *random.pick(words::COMPANY_STEMS);
    let pairs: Vec<(&str, String)> = match kind {
        Kind::Companies => vec![("name", format!("{word} {number}")), ("domain", format!("edited{number}.example"))],
        Kind::Contacts => vec![
            ("email", format!("edited.{number}@mail.example")),
            ("firstname", (*random.pick(words::FIRST_NAMES)).to_owned()),
            ("lastname", (*random.pick(words::LAST_NAMES)).to_owned()),
        ],
        Kind::Deals => vec![
            ("dealname", format!("{word} – edited {number}")),
            ("amount", format!("{number}.{:02}", random.below(100))),
            ("dealstage", "contractsent".to_owned()),
            ("pipeline", "default".to_owned()),
        ],
        Kind::Calls => vec![("hs_call_title", format!("Edited call {number}"))],
        Kind::Emails => vec![("hs_email_subject", format!("Re: edited {number}"))],
        Kind::Meetings => vec![("hs_meeting_title", format!("Edited meeting {number}"))],
        Kind::Tasks => vec![("hs_task_subject", format!("Edited task {number}"))],
        Kind::Notes => vec![("hs_note_body", format!("Edited note {number}"))],
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect()
}
