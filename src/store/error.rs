//! The store's one error type. Its text holds what was attempted, SQLSTATE and names of tables, columns and constraints;
//! never a value, never the database's own message (R18).

use std::time::Duration;

use crate::error_class::Class;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Connection refused or lost, pool timeout, SQLSTATE 08, 25006, 40, 53, 55P03, 57, 58; SQLite busy or full (R2).
    #[error("store unavailable while it had to {attempted} ({code})")]
    Unavailable {
        /// What was attempted.
        attempted: &'static str,
        /// SQLSTATE or driver class.
        code: String,
    },
    /// The fence refused: the lease or the position is not the caller's any more (R1).
    #[error("another run took over, or the position moved, while it had to {attempted}")]
    StaleRun {
        /// What was attempted.
        attempted: &'static str,
    },
    /// The connector is paused, stopped or removed (R30).
    #[error("connector is not running")]
    Stopped,
    /// As many syncs of the tenant are at work as may be (R42).
    #[error("the tenant's other syncs take all of its places")]
    NoPlace,
    /// The credential reaches another vendor account than the rows came from (R4).
    #[error("the source account changed from {stored} to {found}")]
    AccountChanged {
        /// The account the stored rows belong to.
        stored: String,
        /// The account the credential reaches.
        found: String,
    },
    /// More records rejected than the connector's ceiling allows.
    #[error("{rejected} of {processed} records rejected, above the ceiling of {max_percent} %")]
    TooManyRejected {
        /// Records rejected so far in this run.
        rejected: u64,
        /// Records processed so far in this run.
        processed: u64,
        /// The Connector's ceiling.
        max_percent: u8,
    },
    /// The database refused a value: only this may be dead-lettered (R2).
    #[error("store refused data while it had to {attempted} ({code})")]
    RefusedData {
        /// What was attempted.
        attempted: &'static str,
        /// SQLSTATE, constraint and column names.
        code: String,
    },
    /// The database refused a statement: a lost grant, a missing column, a pooler that forgets. Nothing is wrong with the data.
    #[error("store refused to {attempted} ({code})")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// SQLSTATE, constraint and column names.
        code: String,
    },
    /// A stored value is not what this build wrote.
    #[error("stored {what} cannot be read by this build")]
    Unreadable {
        /// Which value.
        what: &'static str,
    },
    /// The operator that this handle belongs to has a successor (R26).
    #[error("another operator has taken the leadership")]
    NotLeader,
    /// The URL is not one of a supported database, or names none.
    #[error("database URL must be postgres://… or sqlite:<path>")]
    Url,
}

impl Error {
    /// The class that drives what happens next.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::NoPlace => Class::RateLimited(Duration::from_secs(1)),
            Self::StaleRun { .. } | Self::Stopped | Self::AccountChanged { .. } | Self::NotLeader => Class::Conflict,
            Self::TooManyRejected { .. } | Self::RefusedData { .. } | Self::Refused { .. } | Self::Url => {
                Class::Invalid
            }
            Self::Unreadable { .. } => Class::Bug,
        }
    }
}
