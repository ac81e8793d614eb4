//! The smallest gap between two ticks of a set of cron expressions: how long a tick may wait for its children (R50).
//! A lower bound, by the minutes of the day alone; Temporal itself says when a schedule fires next.

use std::{collections::BTreeSet, time::Duration};

const MINUTES_A_DAY: u32 = 24 * 60;

/// The smallest gap between any two ticks, as if every expression fired every day: never longer than the true one
/// (but for the two days a year on which clocks change). `None` when an expression cannot be read.
#[must_use]
pub fn smallest_gap(crons: &[String]) -> Option<Duration> {
    let mut minutes = BTreeSet::new();
    for cron in crons {
        minutes.extend(minutes_of_day(cron)?);
    }
    let first = *minutes.first()?;
    let following = minutes.iter().copied().skip(1).chain([first + MINUTES_A_DAY]);
    let gap = minutes.iter().zip(following).map(|(minute, next)| next - minute).min()?;
    Some(Duration::from_secs(u64::from(gap) * 60))
}

/// How long a tick may wait for its children: the gap less jitter less a tenth, at least a second (R50).
#[must_use]
pub fn parent_wait(crons: &[String], jitter: Duration) -> Option<Duration> {
    let gap = smallest_gap(crons)?;
    // The server caps jitter by the next tick, so half the gap is always left to use.
    let least = gap / 2;
    Some(gap.saturating_sub(jitter).saturating_sub(gap / 10).max(least - least / 5))
}

fn minutes_of_day(cron: &str) -> Option<Vec<u32>> {
    let cron = match cron.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@weekly" | "@monthly" | "@yearly" => "0 0 * * *",
        fields => fields,
    };
    let mut fields = cron.split_whitespace();
    let minutes = values(fields.next()?, 60)?;
    let hours = values(fields.next()?, 24)?;
    Some(hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour * 60 + minute)).collect())
}

/// The values of a field: lists of `*`, `a`, `a-b`, each with an optional `/step`.
fn values(field: &str, limit: u32) -> Option<BTreeSet<u32>> {
    let mut values = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (0, limit - 1),
            (_, Some((first, last))) => (first.parse().ok()?, last.parse().ok()?),
            // `5/15` is `5-59/15`, as Temporal reads it.
            (single, None) => {
                let first = single.parse().ok()?;
                (first, if step.is_some() { limit - 1 } else { first })
            }
        };
        if first > last || last >= limit {
            return None;
        }
        values.extend((first..=last).step_by(step.unwrap_or(1)));
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap_minutes(crons: &[&str]) -> Option<u64> {
        let crons: Vec<_> = crons.iter().map(|&cron| cron.to_owned()).collect();
        smallest_gap(&crons).map(|gap| gap.as_secs() / 60)
    }

    #[test]
    fn the_gap_is_the_smallest_between_any_two_expressions_and_over_midnight() {
        assert_eq!(gap_minutes(&["0 */4 * * *"]), Some(240));
        assert_eq!(gap_minutes(&["* * * * *"]), Some(1));
        assert_eq!(gap_minutes(&["*/15 9-17 * * 1-5"]), Some(15));
        assert_eq!(gap_minutes(&["0 0 * * *"]), Some(1440));
        assert_eq!(gap_minutes(&["0 1 * * *", "50 0 * * 1"]), Some(10));
        assert_eq!(gap_minutes(&["0,59 * * * *"]), Some(1));
        assert_eq!(gap_minutes(&["@hourly", "30 4 * * *"]), Some(30));
        assert_eq!(gap_minutes(&["7/20 0 * * *"]), Some(20));
        for unreadable in ["60 * * * *", "*/0 * * * *", "a * * * *", "", "5-1 * * * *"] {
            assert_eq!(gap_minutes(&[unreadable]), None, "{unreadable}");
        }
    }

    #[test]
    fn the_wait_leaves_jitter_and_a_tenth_and_is_never_nothing() {
        let wait = |cron: &str, jitter| parent_wait(&[cron.to_owned()], Duration::from_secs(jitter));
        assert_eq!(wait("0 */4 * * *", 300), Some(Duration::from_secs(14_400 - 300 - 1_440)));
        assert_eq!(wait("* * * * *", 0), Some(Duration::from_secs(54)));
        assert_eq!(wait("* * * * *", 600), Some(Duration::from_secs(24)));
    }
}
