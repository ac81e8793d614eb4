//! Connectors: what a source must do, and the two or three things all sources share (HTTP, budgets, OAuth).
//! A connector pages; it does not know batches, leases, stores or Temporal: `activities` turn pages into batches.

pub mod budget;
pub mod conformance;
pub mod http;
pub mod hubspot;
pub mod oauth;
pub mod registry;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use crate::model::stream::Stream;
use crate::{error_class::Class, model::batch::BatchWriter};

/// What went wrong at a source. Holds classes, codes and names only: vendors' free text goes nowhere (R18).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Refused connection, timeout, 5xx, a body cut off.
    #[error("{system} is unavailable ({code})")]
    Unavailable {
        /// `hubspot`, `salesforce`.
        system: &'static str,
        /// HTTP status or transport class.
        code: String,
    },
    /// 429 or a used-up quota: wait until then.
    #[error("{system} asked to wait ({reason})")]
    Throttled {
        /// `hubspot`, `salesforce`.
        system: &'static str,
        /// `RateLimited` or `QuotaExhausted`, with the vendor's policy name.
        reason: String,
        /// How long, from now.
        after: Duration,
    },
    /// Another worker refreshes this token right now: look again after a moment.
    #[error("a token refresh is in progress")]
    RefreshInProgress,
    /// 401 after a refresh, or `invalid_grant`: only a new credential helps (R23).
    #[error("{system} refused the credential ({code})")]
    Unauthorised {
        /// `hubspot`, `salesforce`.
        system: &'static str,
        /// HTTP status or OAuth error code.
        code: String,
    },
    /// A missing scope, an unknown property, an address that is not allowed: stops the stream (R2, R24).
    #[error("{system} configuration: {detail}")]
    Configuration {
        /// `hubspot`, `salesforce`.
        system: &'static str,
        /// What is missing, by name.
        detail: String,
    },
    /// An answer that is not what the API promises and stays so: fails its stream only (R24).
    #[error("{system} sent an unreadable page ({detail})")]
    UnreadablePage {
        /// `hubspot`, `salesforce`.
        system: &'static str,
        /// Which part, by name.
        detail: String,
    },
    /// The store, where tokens and budgets live, failed.
    #[error("the store failed while the source was used ({0:?})")]
    Store(Class),
}

impl Error {
    /// The class that drives what happens next.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::Throttled { after, .. } => Class::RateLimited(*after),
            Self::RefreshInProgress => Class::RateLimited(Duration::from_secs(2)),
            Self::Unauthorised { .. } => Class::Unauthorised,
            Self::Configuration { .. } | Self::UnreadablePage { .. } => Class::Invalid,
            // What the store refuses (a lost grant) says nothing of the source: waited for like an outage, as everywhere.
            Self::Store(Class::Invalid) => Class::Transient,
            Self::Store(class) => *class,
        }
    }
}

/// Who we are at the vendor, as the vendor says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// HubSpot portal, Salesforce organisation; cursor, rows and budget are bound to it (R4).
    pub id: String,
    /// The source's clock (`Date` header): upper bounds come from it (R16).
    pub clock: Timestamp,
}

/// One page to fetch.
#[derive(Debug, Clone)]
pub struct Fetch<'a> {
    /// Which stream, by name; one of `Source::streams`.
    pub stream: &'a str,
    /// Records changed at or after this; `None` = all of them.
    pub lower: Option<Timestamp>,
    /// Records changed before this.
    pub upper: Timestamp,
    /// Where the page starts, as a former page said; `None` = at the beginning.
    /// Rebuildable (keyset, window, list offset); a vendor's short-lived token is only a hint (R16).
    pub after: Option<&'a serde_json::Value>,
}

/// What a page said.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// Where the next page starts; `None` = the stream is complete for this window.
    pub next: Option<serde_json::Value>,
}

/// A source of records.
#[async_trait]
pub trait Source: Send + Sync {
    /// Validates access.
    ///
    /// # Errors
    /// As the vendor answers.
    ///
    /// # Idempotency
    /// Reads only (a token refresh is stored by revision before it is used).
    async fn account(&self) -> Result<Account, Error>;

    /// The streams of this Connector, in the order to read them: the Connector's own, else referenced before referencing.
    fn streams(&self) -> &[Stream];

    /// Fetches one page and pushes each of its records, as a row, a tombstone or a rejection, in the order served.
    /// Nothing is pushed when it fails.
    ///
    /// # Errors
    /// As the vendor answers; an unparsable *record* is a rejection in `into`, never an error.
    ///
    /// # Idempotency
    /// Reads only; the same request may be sent any number of times.
    ///
    /// # Cancellation
    /// May be dropped at any await.
    async fn fetch(&self, request: Fetch<'_>, into: &mut BatchWriter) -> Result<Fetched, Error>;

    /// Reads records back by their canonical `source_id`. Each id ends as exactly what `fetch` would push for it (row or
    /// rejection), as a tombstone when the source says that it is deleted, or, when the source does not know it at all
    /// (nor could), as a tombstone of the source's present time without a time of change. A record merged into another brings that one along.
    /// Nothing is pushed when it fails.
    ///
    /// # Errors
    /// As `fetch`. An answer that leaves open what became of an id is an error, never a tombstone.
    ///
    /// # Idempotency
    /// Reads only; the same ids may be read any number of times.
    ///
    /// # Cancellation
    /// May be dropped at any await; then, too, nothing is pushed.
    async fn read(&self, stream: &str, ids: &[String], into: &mut BatchWriter) -> Result<(), Error>;

    /// How many live records of a stream were created before then; `None` where the source cannot count.
    /// As late as the source's index: counts of a moment some minutes ago are exact.
    ///
    /// # Errors
    /// As `fetch`.
    ///
    /// # Idempotency
    /// Reads only.
    async fn count(&self, stream: &str, created_before: Timestamp) -> Result<Option<u64>, Error>;

    /// How long the source still tells of a deletion: whoever looks away for longer must read everything (R48).
    fn tombstone_horizon(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_the_store_refuses_is_waited_for_and_fails_no_stream() {
        assert_eq!(Error::Store(Class::Invalid).class(), Class::Transient);
    }
}
