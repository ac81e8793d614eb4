//! One-shot verbs of a Connector: which tokens are present, which ask for a run, what is mirrored into status (R8). Pure.
//!
//! The store keeps one token a verb. `spec.requests.sync` and the annotation both mean "sync now", so they are recorded
//! as one text of both; a missing half is taken from status, so that removing an annotation asks for nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Input;
use crate::{
    crd::{HandledConnectorTokens, NOT_OBSERVED},
    store::{ConnectorAnswer, HandledToken, Verb},
};

/// A recorded token whose run was not confirmed is started again under the same id for this long: as long as any
/// Temporal keeps closed runs (retention is at least a day), and so refuses the second start of one.
const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_hours(20);

/// Verb → token, for the store.
#[must_use]
pub fn present(input: &Input) -> BTreeMap<Verb, String> {
    let mut tokens = BTreeMap::new();
    let spec = spec_tokens(input);
    if spec.sync.is_some() || input.requested_at.is_some() {
        let handled = input.status.last_handled.clone().unwrap_or_default();
        let both = joined(
            spec.sync.or(handled.sync).as_deref(),
            input.requested_at.clone().or(handled.requested_at).as_deref(),
        );
        tokens.insert(Verb::Sync, both);
    }
    tokens.extend(spec.full_sync.map(|token| (Verb::FullSync, token)));
    tokens.extend(spec.reset_cursor.map(|token| (Verb::ResetCursor, token)));
    tokens
}

/// Runs to start: whether full, and the time that makes the id. A full one first: both share the id, so it wins.
#[must_use]
pub fn runs(input: &Input, answer: &ConnectorAnswer) -> Vec<(Verb, Timestamp)> {
    // First sight of this life of the object: present tokens are recorded, not executed, whatever the store remembers (R45).
    if input.status.observed_generation == NOT_OBSERVED {
        return Vec::new();
    }
    [Verb::FullSync, Verb::Sync]
        .into_iter()
        .filter_map(|verb| {
            let fresh = answer.fresh_tokens.get(&verb);
            let unconfirmed = || answer.handled.get(&verb).filter(|handled| is_unconfirmed(input, verb, handled));
            fresh.or_else(unconfirmed).map(|handled| (verb, handled.at))
        })
        .collect()
}

/// The store recorded it, but status does not show it: the process may have died between the two.
fn is_unconfirmed(input: &Input, verb: Verb, handled: &HandledToken) -> bool {
    let mirror = input.status.last_handled.clone().unwrap_or_default();
    let mirrored = match verb {
        Verb::FullSync => mirror.full_sync,
        _ => Some(joined(mirror.sync.as_deref(), mirror.requested_at.as_deref())),
    };
    let asked_for = present(input).get(&verb) == Some(&handled.token);
    asked_for && mirrored.as_ref() != Some(&handled.token) && input.now.duration_since(handled.at) < CONFIRM_WITHIN
}

/// What status shows as handled; `failed` verbs are left for the next time.
#[must_use]
pub fn mirror(input: &Input, failed: &[Verb]) -> Option<HandledConnectorTokens> {
    let mut handled = input.status.last_handled.clone().unwrap_or_default();
    let spec = spec_tokens(input);
    // Done by the store in the transaction that recorded it: there is no run that could fail to start.
    handled.reset_cursor = spec.reset_cursor.or(handled.reset_cursor);
    if !failed.contains(&Verb::FullSync) {
        handled.full_sync = spec.full_sync.or(handled.full_sync);
    }
    if !failed.contains(&Verb::Sync) {
        handled.sync = spec.sync.or(handled.sync);
        handled.requested_at = input.requested_at.clone().or(handled.requested_at);
    }
    Some(handled).filter(|handled| *handled != HandledConnectorTokens::default())
}

/// What status shows while the store could not be asked: at first sight all that is present, else no change.
#[must_use]
pub fn mirror_unasked(input: &Input) -> Option<HandledConnectorTokens> {
    if input.status.observed_generation == NOT_OBSERVED {
        mirror(input, &[])
    } else {
        input.status.last_handled.clone()
    }
}

#[derive(Default)]
struct SpecTokens {
    sync: Option<String>,
    full_sync: Option<String>,
    reset_cursor: Option<String>,
}

fn spec_tokens(input: &Input) -> SpecTokens {
    let token = |request: &Option<crate::crd::Request>| request.as_ref().map(|request| request.token.clone());
    input.spec.requests.as_ref().map_or_else(SpecTokens::default, |requests| SpecTokens {
        sync: token(&requests.sync),
        full_sync: token(&requests.full_sync),
        reset_cursor: token(&requests.reset_cursor),
    })
}

/// Tokens hold no blank, so the text is unambiguous.
fn joined(sync: Option<&str>, requested_at: Option<&str>) -> String {
    format!("{} {}", sync.unwrap_or_default(), requested_at.unwrap_or_default())
}
