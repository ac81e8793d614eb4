//! Maintenance windows as calendars of what Temporal leaves out. Pure. A calendar is a rectangle of minutes, hours and
//! days, so a window becomes a few of them; one that crosses midnight goes on on the day after.

use super::cron::{days_of_week, minutes_of_day};
use crate::{crd::MaintenanceWindow, temporal::schedules::Calendar};

const MINUTES_A_DAY: u32 = 24 * 60;
const LAST_MINUTE: u32 = 59;

/// The calendars of all windows.
#[must_use]
pub fn calendars(windows: &[MaintenanceWindow]) -> Vec<Calendar> {
    windows.iter().filter_map(of_window).flatten().collect()
}

/// Whether the windows leave no tick at all to one of the expressions. The server would look for one until the year
/// 2100, minute by minute, each time it looks for the next.
#[must_use]
pub fn leaves_out_all_of_one(crons: &[String], excluded: &[Calendar]) -> bool {
    let is_left_out = |minute: u32, day: u8| excluded.iter().any(|calendar| matches(calendar, minute, day));
    !excluded.is_empty()
        && crons.iter().any(|cron| {
            let (Some(minutes), Some(days)) = (minutes_of_day(cron), days_of_week(cron)) else { return false };
            minutes.iter().all(|&minute| days.iter().all(|&day| is_left_out(minute, day)))
        })
}

fn matches(calendar: &Calendar, minute_of_day: u32, day: u8) -> bool {
    let within = |(first, last): (u8, u8), value: u32| (u32::from(first)..=u32::from(last)).contains(&value);
    within(calendar.hours, minute_of_day / 60)
        && within(calendar.minutes, minute_of_day % 60)
        && calendar.days_of_week.contains(&day)
}

/// The schema admits one minute, one hour and days of the week, for at most a day; anything else is no window.
fn of_window(window: &MaintenanceWindow) -> Option<Vec<Calendar>> {
    let start = *minutes_of_day(&window.schedule)?.first()?;
    let days = days_of_week(&window.schedule)?;
    let minutes = u32::try_from(window.duration.duration().as_secs().div_ceil(60)).ok()?.min(MINUTES_A_DAY);
    let end = start + minutes;
    let days_after = days.iter().map(|day| (day + 1) % 7).collect::<Vec<_>>();
    let mut calendars = within_a_day(start, end.min(MINUTES_A_DAY), &days.into_iter().collect::<Vec<_>>());
    calendars.extend(within_a_day(0, end.saturating_sub(MINUTES_A_DAY), &days_after));
    Some(calendars)
}

/// From `start` to before `end`, in minutes of the day: the rest of the first hour, whole hours, the begun last hour.
fn within_a_day(start: u32, end: u32, days: &[u8]) -> Vec<Calendar> {
    let mut calendars = Vec::new();
    let mut at = start;
    while at < end {
        let (hour, whole_until) = (at / 60, end / 60);
        let (last_hour, last_minute) = match at % 60 {
            0 if hour < whole_until => (whole_until - 1, LAST_MINUTE),
            _ => (hour, LAST_MINUTE.min(end - 1 - hour * 60)),
        };
        let narrow = |value: u32| u8::try_from(value).expect("minutes and hours of a day");
        calendars.push(Calendar {
            minutes: (narrow(at % 60), narrow(last_minute)),
            hours: (narrow(hour), narrow(last_hour)),
            days_of_week: days.to_vec(),
        });
        at = last_hour * 60 + last_minute + 1;
    }
    calendars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, duration: &str) -> MaintenanceWindow {
        MaintenanceWindow { schedule: schedule.to_owned(), duration: duration.parse().expect("a duration") }
    }

    /// Minutes of the week that are left out, Sunday 00:00 being 0.
    fn left_out(windows: &[MaintenanceWindow]) -> Vec<u32> {
        let calendars = calendars(windows);
        let minutes = (0..7 * MINUTES_A_DAY).filter(|minute| {
            let day = u8::try_from(minute / MINUTES_A_DAY).expect("a day");
            calendars.iter().any(|calendar| matches(calendar, minute % MINUTES_A_DAY, day))
        });
        minutes.collect()
    }

    #[test]
    fn a_window_leaves_out_its_minutes_and_no_other() {
        for (schedule, hour, minute, days, length) in [
            ("30 22 * * sat", 22, 30, vec![6], 225),
            ("0 3 * * 1-3", 3, 0, vec![1, 2, 3], 60),
            ("5 3 * * 7", 3, 5, vec![0], 10),
            ("50 3 * * 0,tue", 3, 50, vec![0, 2], 20),
            ("0 0 * * fri", 0, 0, vec![5], 1_440),
            ("59 23 * * wed", 23, 59, vec![3], 1_440),
            ("15 4 * * mon", 4, 15, vec![1], 1),
        ] {
            let begins = days.iter().map(|day| day * MINUTES_A_DAY + hour * 60 + minute);
            let mut expected: Vec<_> =
                begins.flat_map(|begin| (begin..begin + length).map(|at| at % (7 * MINUTES_A_DAY))).collect();
            expected.sort_unstable();
            assert_eq!(left_out(&[window(schedule, &format!("{length}m"))]), expected, "{schedule} {length}m");
        }
        assert_eq!(left_out(&[window("0 0 * * *", "24h")]).len(), 7 * 1_440);
    }

    #[test]
    fn windows_that_leave_nothing_of_an_expression_are_found() {
        let nights = calendars(&[window("0 22 * * *", "8h")]);
        let of = |crons: &[&str]| {
            let crons: Vec<_> = crons.iter().map(|&cron| cron.to_owned()).collect();
            leaves_out_all_of_one(&crons, &nights)
        };
        assert!(
            of(&["0 3 * * *"]) && of(&["*/4 1-4 * * mon"]) && of(&["0 12 * * *", "30 23 * * *"]) && of(&["@daily"])
        );
        assert!(!of(&["0 */4 * * *"]) && !of(&["0 6 * * *"]) && !of(&["@hourly"]));
        assert!(!leaves_out_all_of_one(&["0 3 * * *".to_owned()], &[]));
    }
}
