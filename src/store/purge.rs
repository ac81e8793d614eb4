//! What a purge deletes, and in which order; the same in both stores. No SQL.

use super::Error;
use crate::model::entity::Entity;

/// Rows that one call deletes at most: each call is one short transaction.
pub(super) const AT_ONCE: u64 = 10_000;

/// Every table with rows of a connector but its state and its registry row, which go last and together.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    const SECRETS: [&str; 3] = ["credential", "credential_overlay", "refresh_lock"];
    const AT_WORK: [&str; 5] = ["waiting", "staged_batch", "applied_batch", "seen_batch", "sweep_candidate"];
    const HISTORY: [&str; 4] = ["dead_letter", "failed_record", "run", "handled_token"];
    let canonical = Entity::ALL.into_iter().map(Entity::table);
    SECRETS.into_iter().chain(AT_WORK).chain(HISTORY).chain(canonical)
}

/// The connector is there, or its data stays.
pub(super) fn retained() -> Error {
    Error::Refused { attempted: "purge a connector", code: "DataRetained".to_owned() }
}
