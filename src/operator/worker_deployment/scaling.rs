//! How many pods a build that takes work gets: by what waits, by what is about to begin, and slowly down. Pure.

use jiff::{SignedDuration, Timestamp};

/// Tasks that one activity slot may have waiting: with two rounds' work before it, one more pod would come too late to matter.
const WAITING_PER_SLOT: u64 = 2;
/// A lull this long ends in half the pods: longer than most ticks last, so that a fleet does not flap between them.
const LULL: SignedDuration = SignedDuration::from_mins(5);

/// What a build has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Tasks that wait for a worker.
    pub backlog: u64,
    /// Runs that begin within the time that a pod needs to start.
    pub due: u64,
    /// Activities that one pod does at once.
    pub slots: u64,
    /// Pods wanted now.
    pub replicas: i32,
    /// Pods ready now.
    pub ready: i32,
}

/// The number of pods wanted from now on. `lull` is when the present number began to be too many, kept by the caller.
///
/// Pods are added when all that are wanted are ready and tasks wait all the same; they are halved, towards the least,
/// after each lull.
#[must_use]
pub fn target(least: i32, most: i32, load: Load, lull: &mut Option<Timestamp>, now: Timestamp) -> i32 {
    let pods = |tasks: u64| i32::try_from(tasks.div_ceil(load.slots.max(1) * WAITING_PER_SLOT)).unwrap_or(i32::MAX);
    let for_waiting = match load.backlog {
        0 => 0,
        _ if load.ready < load.replicas => load.replicas,
        tasks => load.ready.saturating_add(pods(tasks)),
    };
    let wanted = pods(load.due).max(for_waiting).clamp(least, most);
    if wanted >= load.replicas || load.replicas > most || load.backlog > 0 || load.due > 0 {
        *lull = None;
        return wanted.max(load.replicas.min(most));
    }
    let since = *lull.get_or_insert(now);
    if now.duration_since(since) < LULL {
        return load.replicas;
    }
    *lull = Some(now);
    (load.replicas / 2).max(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).expect("in range")
    }

    fn load(replicas: i32, backlog: u64, due: u64) -> Load {
        Load { backlog, due, slots: 10, replicas, ready: replicas }
    }

    #[test]
    fn what_waits_adds_pods_up_to_the_bound_and_no_more_while_pods_are_still_starting() {
        let of = |load| target(1, 8, load, &mut None, at(0));
        assert_eq!(of(load(1, 0, 0)), 1);
        assert_eq!(of(load(1, 1, 0)), 2, "the one is busy");
        assert_eq!(of(load(2, 61, 0)), 6);
        assert_eq!(of(load(2, 6_000, 0)), 8);
        assert_eq!(of(Load { ready: 1, ..load(4, 6_000, 0) }), 4);
    }

    #[test]
    fn what_is_about_to_begin_finds_its_pods_there() {
        let of = |replicas, due| target(1, 8, load(replicas, 0, due), &mut None, at(0));
        assert_eq!((of(1, 0), of(1, 20), of(1, 21), of(1, 1_000_000)), (1, 1, 2, 8));
        assert_eq!(target(0, 4, load(0, 0, 1), &mut None, at(0)), 1);
    }

    #[test]
    fn pods_leave_by_halves_after_a_lull_and_any_work_begins_it_anew() {
        let mut lull = None;
        assert_eq!(target(0, 8, load(8, 0, 0), &mut lull, at(0)), 8);
        assert_eq!(target(0, 8, load(8, 0, 0), &mut lull, at(4)), 8);
        assert_eq!(target(0, 8, load(8, 3, 0), &mut lull, at(5)), 8, "work");
        assert_eq!(target(0, 8, load(8, 0, 0), &mut lull, at(6)), 8);
        assert_eq!(target(0, 8, load(8, 0, 0), &mut lull, at(11)), 4);
        assert_eq!(target(0, 8, load(4, 0, 0), &mut lull, at(15)), 4);
        assert_eq!(target(0, 8, load(4, 0, 0), &mut lull, at(16)), 2);
        assert_eq!(target(0, 8, load(1, 0, 0), &mut lull, at(21)), 0, "to zero where chosen");
        assert_eq!(target(1, 8, load(1, 0, 0), &mut lull, at(60)), 1);
    }

    #[test]
    fn a_fixed_number_and_new_bounds_hold_at_once() {
        assert_eq!(target(3, 3, load(1, 0, 0), &mut None, at(0)), 3);
        assert_eq!(target(3, 3, load(9, 0, 0), &mut None, at(0)), 3);
    }
}
