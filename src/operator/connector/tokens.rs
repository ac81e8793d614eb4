//! One-shot verbs of a Connector: which wishes are present, which ask for a run, what is mirrored into status (R8). Pure.
//!
//! The store keeps one token a verb. `spec.requests.sync` and the annotation both mean "sync now", so they are recorded
//! as one text of both; a missing half is taken from status, so that removing an annotation asks for nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Input;
use crate::{
    crd::{ConnectorRequests, EntityName, Handled, HandledConnectorTokens, Letters, NOT_OBSERVED},
    model::{cursor::Window, entity::Entity},
    operator::status_part::time,
    store::{ConnectorAnswer, HandledToken, LetterSelection, Verb, Wish},
};

/// A recorded token whose run was not confirmed is started again under the same id for this long: as long as any
/// Temporal keeps closed runs (retention is at least a day), and so refuses the second start of one.
const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_hours(20);

/// Verbs of the spec, for the mirror.
const VERBS: [Verb; 7] =
    [Verb::Sync, Verb::FullSync, Verb::ResetCursor, Verb::Replay, Verb::Discard, Verb::Resync, Verb::ConfirmSweep];

/// A run that wishes ask for. Wishes recorded together share the time, and with it the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The wishes that it answers.
    pub verbs: Vec<Verb>,
    /// When the store recorded them; makes the run's id.
    pub at: Timestamp,
}

impl Run {
    /// Whether one of the wishes needs everything read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.verbs.iter().any(|verb| matches!(verb, Verb::FullSync | Verb::ConfirmSweep))
    }

    /// Whether one of the wishes is noted in the store, so that any later run does it, too.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.verbs.iter().any(|verb| matches!(verb, Verb::Replay | Verb::Resync | Verb::ConfirmSweep))
    }
}

/// Verb → wish, for the store.
#[must_use]
pub fn present(input: &Input) -> BTreeMap<Verb, Wish> {
    let mut wishes = BTreeMap::new();
    let spec = input.spec.requests.clone().unwrap_or_default();
    if spec.sync.is_some() || input.requested_at.is_some() {
        let handled = input.status.last_handled.clone().unwrap_or_default();
        let sync = spec.sync.map(|request| request.token).or(handled.sync.map(|handled| handled.token));
        let both = joined(sync.as_deref(), input.requested_at.clone().or(handled.requested_at).as_deref());
        wishes.insert(Verb::Sync, Wish::from(both.as_str()));
    }
    let plain = |request: crate::crd::Request| Wish::from(request.token.as_str());
    wishes.extend(spec.full_sync.map(plain).map(|wish| (Verb::FullSync, wish)));
    wishes.extend(spec.confirm_sweep.map(plain).map(|wish| (Verb::ConfirmSweep, wish)));
    wishes.extend(spec.reset_cursor.map(|request| {
        let wish = Wish { expected_position: request.expected_position, ..Wish::from(request.token.as_str()) };
        (Verb::ResetCursor, wish)
    }));
    wishes.extend(spec.replay.map(|request| {
        let letters = selection(request.letters);
        (Verb::Replay, Wish { letters, ..Wish::from(request.token.as_str()) })
    }));
    wishes.extend(spec.discard.map(|request| {
        // `all` is a word for people: that nothing is selected by mistake is a rule of the schema.
        let letters = selection(request.letters);
        (Verb::Discard, Wish { letters, ..Wish::from(request.token.as_str()) })
    }));
    wishes.extend(spec.resync.map(|request| {
        let window = Some(Window { from: request.from, to: request.to });
        (Verb::Resync, Wish { window, ..Wish::from(request.token.as_str()) })
    }));
    wishes
}

fn selection(Letters { run, batch, entity, record }: Letters) -> LetterSelection {
    LetterSelection {
        workflow_id: run,
        // The schema admits no negative one.
        batch_index: batch.map(|batch| u64::from(batch.unsigned_abs())),
        entity: entity.map(|entity| match entity {
            EntityName::Account => Entity::Account,
            EntityName::Contact => Entity::Contact,
            EntityName::Lead => Entity::Lead,
            EntityName::Opportunity => Entity::Opportunity,
            EntityName::Activity => Entity::Activity,
            EntityName::Owner => Entity::Owner,
            EntityName::Stage => Entity::Stage,
        }),
        source_id: record,
    }
}

/// Runs to start, the earliest recorded first.
#[must_use]
pub fn runs(input: &Input, answer: &ConnectorAnswer) -> Vec<Run> {
    // First sight of this life of the object: present tokens are recorded, not executed, whatever the store remembers (R45).
    if input.status.observed_generation == NOT_OBSERVED {
        return Vec::new();
    }
    let mut runs: BTreeMap<Timestamp, Vec<Verb>> = BTreeMap::new();
    for verb in [Verb::FullSync, Verb::ConfirmSweep, Verb::Sync, Verb::Replay, Verb::Resync] {
        let fresh = answer.fresh_tokens.get(&verb);
        let unconfirmed = || answer.handled.get(&verb).filter(|handled| is_unconfirmed(input, verb, handled));
        if let Some(handled) = fresh.or_else(unconfirmed) {
            runs.entry(handled.at).or_default().push(verb);
        }
    }
    runs.into_iter().map(|(at, verbs)| Run { verbs, at }).collect()
}

/// The store recorded it, but status does not show it: the process may have died between the two.
fn is_unconfirmed(input: &Input, verb: Verb, handled: &HandledToken) -> bool {
    let mut mirror = input.status.last_handled.clone().unwrap_or_default();
    let mirrored = slot(&mut mirror, verb).take().map(|handled| handled.token);
    let mirrored = match verb {
        Verb::Sync => Some(joined(mirrored.as_deref(), mirror.requested_at.as_deref())),
        _ => mirrored,
    };
    let asked_for = present(input).get(&verb).is_some_and(|wish| wish.token == handled.token);
    asked_for && mirrored.as_ref() != Some(&handled.token) && input.now.duration_since(handled.at) < CONFIRM_WITHIN
}

/// What status shows as handled, with what the store tells of it; `failed` verbs are left for the next time.
#[must_use]
pub fn mirror(input: &Input, failed: &[Verb], answer: Option<&ConnectorAnswer>) -> Option<HandledConnectorTokens> {
    let mut handled = input.status.last_handled.clone().unwrap_or_default();
    let spec = input.spec.requests.as_ref();
    let wishes = present(input);
    for verb in VERBS.into_iter().filter(|verb| !failed.contains(verb)) {
        let Some(token) = spec.and_then(|spec| spec_token(spec, verb)) else { continue };
        let wanted = wishes.get(&verb).map(|wish| &wish.token);
        let recorded = answer.and_then(|answer| answer.handled.get(&verb)).filter(|of| Some(&of.token) == wanted);
        let slot = slot(&mut handled, verb);
        // A new annotation is recorded with the old token of the spec: that one keeps its time.
        if slot.as_ref().is_none_or(|before| before.token != token || before.time.is_none()) {
            *slot = Some(Handled {
                token: token.to_owned(),
                time: recorded.map(|recorded| time(recorded.at)),
                outcome: recorded.and_then(|recorded| recorded.outcome.clone()),
            });
        }
    }
    if !failed.contains(&Verb::Sync) {
        handled.requested_at = input.requested_at.clone().or(handled.requested_at);
    }
    Some(handled).filter(|handled| *handled != HandledConnectorTokens::default())
}

/// What status shows while the store could not be asked: at first sight all that is present, else no change.
#[must_use]
pub fn mirror_unasked(input: &Input) -> Option<HandledConnectorTokens> {
    if input.status.observed_generation == NOT_OBSERVED {
        mirror(input, &[], None)
    } else {
        input.status.last_handled.clone()
    }
}

fn spec_token(spec: &ConnectorRequests, verb: Verb) -> Option<&str> {
    match verb {
        Verb::Sync => spec.sync.as_ref().map(|request| request.token.as_str()),
        Verb::FullSync => spec.full_sync.as_ref().map(|request| request.token.as_str()),
        Verb::ResetCursor => spec.reset_cursor.as_ref().map(|request| request.token.as_str()),
        Verb::Replay => spec.replay.as_ref().map(|request| request.token.as_str()),
        Verb::Discard => spec.discard.as_ref().map(|request| request.token.as_str()),
        Verb::Resync => spec.resync.as_ref().map(|request| request.token.as_str()),
        Verb::ConfirmSweep => spec.confirm_sweep.as_ref().map(|request| request.token.as_str()),
    }
}

fn slot(handled: &mut HandledConnectorTokens, verb: Verb) -> &mut Option<Handled> {
    match verb {
        Verb::Sync => &mut handled.sync,
        Verb::FullSync => &mut handled.full_sync,
        Verb::ResetCursor => &mut handled.reset_cursor,
        Verb::Replay => &mut handled.replay,
        Verb::Discard => &mut handled.discard,
        Verb::Resync => &mut handled.resync,
        Verb::ConfirmSweep => &mut handled.confirm_sweep,
    }
}

/// Tokens hold no blank, so the text is unambiguous.
fn joined(sync: Option<&str>, requested_at: Option<&str>) -> String {
    format!("{} {}", sync.unwrap_or_default(), requested_at.unwrap_or_default())
}
