//! Decisions that both stores take about projections: claims, equality, account binding. Pure; no SQL.

use super::{ConnectorAnswer, ConnectorProjection, DesiredState, Error, Owner, Pool};
use crate::model::config::ConnectorConfig;

/// A stored projection, without credential and tokens.
#[derive(Debug)]
pub(super) struct StoredProjection {
    /// Where its CR lives.
    pub(super) owner: Owner,
    /// The CR's uid.
    pub(super) uid: String,
    /// The CR's generation.
    pub(super) generation: i64,
    /// What the user wants.
    pub(super) desired_state: DesiredState,
    /// Source, streams and limits.
    pub(super) config: ConnectorConfig,
    /// It has a schedule of its own.
    pub(super) own_schedule: bool,
    /// Increments with every change.
    pub(super) revision: i64,
    /// Its CR is gone.
    pub(super) removed: bool,
}

impl StoredProjection {
    /// Whether it already shows this projection.
    pub(super) fn shows(&self, projection: &ConnectorProjection) -> bool {
        !self.removed
            && self.owner == projection.owner
            && self.uid == projection.uid
            && self.generation == projection.generation
            && self.desired_state == projection.desired_state
            && self.config == projection.config
            && self.own_schedule == projection.own_schedule
    }
}

impl Owner {
    /// Whether this owner may write where `holder` holds the claim: the same name in the same place always (R45),
    /// another name of the same namespace once the holder is removed, another namespace never by itself (R5), and everybody
    /// what was given up.
    pub(super) fn may_take_over(&self, holder: &Self, holder_removed: bool) -> bool {
        *holder == Self::nobody() || self.same_place(holder) && (self.name == holder.name || holder_removed)
    }

    fn same_place(&self, other: &Self) -> bool {
        self.cluster_id == other.cluster_id && self.namespace == other.namespace
    }
}

impl Pool {
    /// Where a tenant goes from here: who has left its own workers may have tokens there.
    pub(super) fn then(self, dedicated: bool) -> Self {
        match (dedicated, self) {
            (true, _) => Self::Dedicated,
            (false, Self::Shared) => Self::Shared,
            (false, Self::Dedicated | Self::Left) => Self::Left,
        }
    }
}

impl ConnectorProjection {
    /// Refuses a Connector outside the namespace that holds its tenant's claim (R5).
    pub(super) fn check_claim(&self, claim: &Owner) -> Result<(), Error> {
        if self.owner.same_place(claim) {
            return Ok(());
        }
        Err(Error::Refused { attempted: "project a connector", code: "TenantClaimedElsewhere".to_owned() })
    }
}

impl ConnectorAnswer {
    /// The answer when another connector holds the joined name; nothing was written.
    pub(super) fn name_is_taken() -> Self {
        Self {
            revision: 0,
            credential_revision: 0,
            fresh_tokens: Default::default(),
            handled: Default::default(),
            name_taken: true,
        }
    }
}

/// The first account id stays; another one is refused (R4).
pub(super) fn keep_account(stored: Option<String>, found: Option<&str>) -> Result<Option<String>, Error> {
    match (stored, found) {
        (Some(stored), Some(found)) if stored != found => {
            Err(Error::AccountChanged { stored, found: found.to_owned() })
        }
        (stored, found) => Ok(stored.or_else(|| found.map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(namespace: &str, name: &str) -> Owner {
        Owner { cluster_id: "eu1".to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_claim_passes_within_its_namespace_only_and_only_when_its_holder_is_removed() {
        let holder = owner("a", "acme");
        assert!(owner("a", "acme").may_take_over(&holder, false));
        assert!(!owner("a", "other").may_take_over(&holder, false));
        assert!(owner("a", "other").may_take_over(&holder, true));
        assert!(!owner("b", "acme").may_take_over(&holder, true));
        assert!(owner("b", "acme").may_take_over(&Owner::nobody(), true), "given up");
    }

    #[test]
    fn who_left_its_own_workers_is_told_from_who_never_had_any() {
        assert_eq!(Pool::Shared.then(false), Pool::Shared);
        assert_eq!(Pool::Shared.then(true), Pool::Dedicated);
        assert_eq!(Pool::Dedicated.then(false).then(false), Pool::Left);
        assert_eq!(Pool::Left.then(true), Pool::Dedicated);
    }

    #[test]
    fn the_first_account_stays() {
        assert_eq!(keep_account(None, Some("1")), Ok(Some("1".to_owned())));
        assert_eq!(keep_account(Some("1".to_owned()), None), Ok(Some("1".to_owned())));
        assert!(matches!(keep_account(Some("1".to_owned()), Some("2")), Err(Error::AccountChanged { .. })));
    }
}
