//! One-shot verbs of a tenant: which tokens are present, which are still to be carried out, what each asks of Temporal, and what
//! status mirrors (R8). Pure. The store records a token before it is carried out; Temporal knows by a name made of the token,
//! or by what it started, whether it was.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Input, build};
use crate::{
    crd::{BackfillRequest, Handled, HandledTenantTokens, NOT_OBSERVED},
    operator::{cron::smallest_gap, status_part::time, world::Request},
    store::TenantVerb,
    temporal::schedules::{Backfill, SeenSchedule},
};

/// A recorded token that was not confirmed is carried out again for this long: as long as any Temporal keeps closed runs.
const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_hours(20);
/// Ticks that the server keeps waiting for one schedule (server 1.29, `MaxBufferSize` of its scheduler).
const MAX_TICKS: u64 = 1_000;

/// The tokens that the object shows.
#[must_use]
pub fn present(input: &Input) -> BTreeMap<TenantVerb, String> {
    let requests = input.spec.requests.as_ref();
    let trigger = requests.and_then(|requests| requests.trigger.as_ref()).map(|request| request.token.clone());
    let tokens = [
        (TenantVerb::Trigger, trigger),
        (TenantVerb::RequestedAt, input.requested_at.clone()),
        (TenantVerb::Backfill, backfill(input).map(|request| request.token.clone())),
    ];
    tokens.into_iter().filter_map(|(verb, token)| Some((verb, token?))).collect()
}

fn backfill(input: &Input) -> Option<&BackfillRequest> {
    input.spec.requests.as_ref()?.backfill.as_ref()
}

/// Tokens that status does not mirror, and which the store must know before anything is done about them.
#[must_use]
pub fn to_record(input: &Input) -> BTreeMap<TenantVerb, String> {
    let handled = input.status.last_handled.clone().unwrap_or_default();
    let is_mirrored = |verb: TenantVerb, token: &String| match verb {
        TenantVerb::Trigger => handled.trigger.as_ref() == Some(token),
        TenantVerb::RequestedAt => handled.requested_at.as_ref() == Some(token),
        TenantVerb::Backfill => handled.backfill.as_ref().is_some_and(|handled| handled.token == *token),
    };
    present(input).into_iter().filter(|(verb, token)| !is_mirrored(*verb, token)).collect()
}

/// By whom they are recorded: at first sight by nobody, so that no life of the object carries them out.
#[must_use]
pub fn recorder(input: &Input) -> String {
    if is_first_sight(input) { String::new() } else { input.key.uid.clone() }
}

fn is_first_sight(input: &Input) -> bool {
    input.status.observed_generation == NOT_OBSERVED
}

/// What status shows as handled before the store was asked: at first sight all that is present.
#[must_use]
pub fn handled_before(input: &Input) -> HandledTenantTokens {
    let mut handled = input.status.last_handled.clone().unwrap_or_default();
    if is_first_sight(input) {
        for (verb, token) in present(input) {
            mirror(&mut handled, verb, token, None, None);
        }
    }
    handled
}

/// Notes a token as handled.
pub fn mirror(
    handled: &mut HandledTenantTokens,
    verb: TenantVerb,
    token: String,
    at: Option<Timestamp>,
    outcome: Option<&str>,
) {
    match verb {
        TenantVerb::Trigger => handled.trigger = Some(token),
        TenantVerb::RequestedAt => handled.requested_at = Some(token),
        TenantVerb::Backfill => {
            handled.backfill = Some(Handled { token, time: at.map(time), outcome: outcome.map(str::to_owned) });
        }
    }
}

/// What is to become of a recorded token.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Ask this of Temporal.
    CarryOut(Request),
    /// It was carried out, or is a former life's: nothing is left to do.
    Done,
    /// It cannot be: why, in a word.
    Refused(&'static str),
}

/// For a token that was recorded at `at` by this life of the object, or by another (`None`).
#[must_use]
pub fn judge(
    input: &Input,
    verb: TenantVerb,
    token: &str,
    at: Option<Timestamp>,
    seen: Option<&SeenSchedule>,
) -> Verdict {
    let Some(at) = at.filter(|at| input.now.duration_since(*at) < CONFIRM_WITHIN) else { return Verdict::Done };
    match (verb, backfill(input)) {
        (TenantVerb::Trigger | TenantVerb::RequestedAt, _) => Verdict::CarryOut(build::tick_by_token(input, token)),
        (TenantVerb::Backfill, Some(request)) => judge_backfill(input, request, at, seen),
        (TenantVerb::Backfill, None) => Verdict::Done,
    }
}

fn judge_backfill(input: &Input, request: &BackfillRequest, at: Timestamp, seen: Option<&SeenSchedule>) -> Verdict {
    let Some(seen) = seen else { return Verdict::Refused("NoSchedule") };
    if request.to > input.now {
        return Verdict::Refused("InFuture");
    }
    let seconds = request.to.duration_since(request.from).unsigned_abs().as_secs();
    let gap = smallest_gap(&input.spec.schedules).map_or(60, |gap| gap.as_secs().max(60));
    if seconds / gap > MAX_TICKS {
        return Verdict::Refused("TooManyTicks");
    }
    if seen.has_made_up_for(request.from, request.to, at) {
        return Verdict::Done;
    }
    Verdict::CarryOut(Request::BackfillSchedule(Box::new(Backfill {
        schedule_id: input.installation.names.tenant_schedule(&input.spec.tenant_id),
        from: request.from,
        to: request.to,
        overlap: request.overlap_policy.map(build::overlap),
        request_id: format!("backfill-{}-{}", input.key.uid, request.token),
    })))
}
