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

/// The minutes of a day on which an expression fires, on days on which it does.
#[must_use]
pub fn minutes_of_day(cron: &str) -> Option<Vec<u32>> {
    let mut fields = spelled_out(cron).split_whitespace();
    let minutes = values(fields.next()?, 60)?;
    let hours = values(fields.next()?, 24)?;
    Some(hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour * 60 + minute)).collect())
}

/// The days of the week on which an expression may fire, 0 = Sunday.
#[must_use]
pub fn days_of_week(cron: &str) -> Option<BTreeSet<u8>> {
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let field = spelled_out(cron).split_whitespace().nth(4)?.to_ascii_lowercase();
    let mut number = String::new();
    for word in field.split_inclusive(|character: char| !character.is_ascii_alphabetic()) {
        let (name, rest) = word.split_at(word.find(|of: char| !of.is_ascii_alphabetic()).unwrap_or(word.len()));
        match DAYS.iter().position(|day| name.starts_with(day)) {
            Some(day) => number.push_str(&day.to_string()),
            None => number.push_str(name),
        }
        number.push_str(rest);
    }
    // 7 is Sunday, too: `values` knows it as the eighth.
    let days = if number.contains('*') { values(&number, 7)? } else { values(&number, 8)? };
    days.into_iter().map(|day| u8::try_from(day % 7).ok()).collect()
}

fn spelled_out(cron: &str) -> &str {
    match cron.trim() {
        "@hourly" => "0 * * * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@monthly" | "@yearly" => "0 0 * * *",
        fields => fields,
    }
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
    fn days_are_read_by_number_and_by_name() {
        let days =
            |field: &str| days_of_week(&format!("0 0 * * {field}")).map(|days| days.into_iter().collect::<Vec<_>>());
        assert_eq!(days("*"), Some((0..7).collect()));
        assert_eq!(days("*/2"), Some(vec![0, 2, 4, 6]));
        assert_eq!(days("mon-fri"), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(days("SAT,Sunday"), Some(vec![0, 6]));
        assert_eq!(days("5-7"), Some(vec![0, 5, 6]));
        assert_eq!(days("tuesday"), Some(vec![2]));
        assert_eq!(days("someday"), None);
        assert_eq!(days_of_week("@weekly").map(|days| days.len()), Some(1));
    }

    #[test]
    fn the_wait_leaves_jitter_and_a_tenth_and_is_never_nothing() {
        let wait = |cron: &str, jitter| parent_wait(&[cron.to_owned()], Duration::from_secs(jitter));
        assert_eq!(wait("0 */4 * * *", 300), Some(Duration::from_secs(14_400 - 300 - 1_440)));
        assert_eq!(wait("* * * * *", 0), Some(Duration::from_secs(54)));
        assert_eq!(wait("* * * * *", 600), Some(Duration::from_secs(24)));
    }
}
