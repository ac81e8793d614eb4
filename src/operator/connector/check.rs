//! When to check a connection: at once after a change of spec or Secret, soon while pending, ever more rarely while
//! refused (R23: one 401 must not silence a connector for good). Pure; what is remembered is the shell's to keep.

use std::time::Duration;

use jiff::Timestamp;

use super::ConnectionSeen;
use crate::contract::workflows::ConnectionStatus;

/// First and longest pause between checks of a pending connection: its check may have met an outage of the source, or wait for
/// a worker. In a fleet that is new most do, and each look costs a Secret and a transaction.
const PENDING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5 * 60));
/// First and longest pause between checks of a refused one (R23: 1 h to 24 h).
const DISCONNECTED: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(24 * 3_600));

/// What is remembered of checks; lost with the process, which costs one check a pending or refused connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The projection's revision that was last checked or found connected.
    pub revision: i64,
    /// When a check was last started, or is to be.
    pub started_at: Option<Timestamp>,
    /// Checks started for this revision and state.
    pub attempts: u32,
    /// The state they were started in.
    pub status: ConnectionStatus,
}

/// What to do now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Start a check.
    pub start: bool,
    /// Look again after this long.
    pub again: Option<Duration>,
    /// To be remembered if the check started, or none was needed.
    pub memory: Option<Memory>,
}

/// The plan for a connector that runs and has a credential. `revision` is the projection's, which moves with every change
/// of spec and credential; `seen` may lag behind it. A check that is asked for now starts after `wait`.
#[must_use]
pub fn plan(
    memory: Option<&Memory>,
    seen: Option<ConnectionSeen>,
    revision: i64,
    now: Timestamp,
    wait: Duration,
) -> Plan {
    let status = seen.map_or(ConnectionStatus::Pending, |seen| seen.status);
    let changed = memory.is_some_and(|memory| memory.revision != revision);
    if status == ConnectionStatus::Connected && !changed {
        let memory = Memory { revision, started_at: None, attempts: 0, status };
        return Plan { start: false, again: None, memory: Some(memory) };
    }
    let same = memory.filter(|memory| memory.revision == revision && memory.status == status);
    let attempts = same.map_or(0, |memory| memory.attempts);
    let last = match same {
        Some(memory) => memory.started_at,
        // After a restart: a refusal keeps its pause, by the time at which workers recorded it.
        None if status == ConnectionStatus::Disconnected && !changed => seen.and_then(|seen| seen.checked_at),
        None => None,
    };
    let since = last.map(|last| Duration::try_from(now.duration_since(last)).unwrap_or_default());
    match since {
        Some(since) if since < pause(status, attempts.max(1)) => Plan {
            start: false,
            again: Some(pause(status, attempts.max(1)) - since),
            memory: Some(same.copied().unwrap_or(Memory { revision, started_at: last, attempts: 1, status })),
        },
        _ => Plan {
            start: true,
            again: Some(wait + pause(status, attempts + 1)),
            memory: Some(Memory { revision, started_at: now.checked_add(wait).ok(), attempts: attempts + 1, status }),
        },
    }
}

fn pause(status: ConnectionStatus, attempts: u32) -> Duration {
    let (first, longest) = if status == ConnectionStatus::Disconnected { DISCONNECTED } else { PENDING };
    first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    const AT_ONCE: Duration = Duration::ZERO;

    fn seen(status: ConnectionStatus, checked_at: Option<&str>) -> Option<ConnectionSeen> {
        Some(ConnectionSeen { status, checked_at: checked_at.map(at) })
    }

    #[test]
    fn a_pending_connection_is_checked_at_once_and_then_with_growing_pauses() {
        let mut now = at("2026-11-23T01:00:00Z");
        let first = plan(None, None, 1, now, AT_ONCE);
        assert!(first.start);
        assert_eq!(first.again, Some(Duration::from_secs(60)));
        let waiting = plan(first.memory.as_ref(), seen(ConnectionStatus::Pending, None), 1, now, AT_ONCE);
        assert_eq!((waiting.start, waiting.memory), (false, first.memory));
        now += Duration::from_secs(60);
        let second = plan(first.memory.as_ref(), seen(ConnectionStatus::Pending, None), 1, now, AT_ONCE);
        assert_eq!((second.start, second.again), (true, Some(Duration::from_secs(120))));
    }

    #[test]
    fn a_connected_one_is_left_alone_until_its_spec_or_secret_changes() {
        let now = at("2026-11-23T01:00:00Z");
        let connected = plan(None, seen(ConnectionStatus::Connected, None), 4, now, AT_ONCE);
        assert_eq!((connected.start, connected.again), (false, None));
        let still_shown_connected = seen(ConnectionStatus::Connected, None);
        assert!(plan(connected.memory.as_ref(), still_shown_connected, 5, now, AT_ONCE).start);
    }

    #[test]
    fn a_refused_one_is_probed_after_an_hour_then_ever_more_rarely_also_over_a_restart() {
        let refused = seen(ConnectionStatus::Disconnected, Some("2026-11-23T01:00:00Z"));
        let soon = plan(None, refused, 1, at("2026-11-23T01:30:00Z"), AT_ONCE);
        assert_eq!((soon.start, soon.again), (false, Some(Duration::from_secs(1_800))));
        let probed = plan(soon.memory.as_ref(), refused, 1, at("2026-11-23T02:00:00Z"), AT_ONCE);
        assert_eq!((probed.start, probed.again), (true, Some(Duration::from_secs(7_200))));
        let mended = plan(probed.memory.as_ref(), refused, 2, at("2026-11-23T02:00:01Z"), AT_ONCE);
        assert!(mended.start, "a new credential is checked at once");
        assert_eq!(pause(ConnectionStatus::Disconnected, 40), Duration::from_secs(86_400));
    }
}
