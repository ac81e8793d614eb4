//! Rate limits as the vendor counts them: a rolling ten seconds, a rolling second for search, a UTC day.
//! Only counts; what a refusal looks like is `answer`.

use std::collections::VecDeque;

use super::options::Limits;

const DAY_MS: i64 = 86_400_000;

/// The counters of one account.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) limits: Limits,
    recent: VecDeque<i64>,
    searches: VecDeque<i64>,
    day: i64,
    today: u32,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The vendor's `policyName`.
    pub(super) policy: &'static str,
    /// Sent for the short search window only: a client must do without it elsewhere.
    pub(super) retry_after_seconds: Option<u32>,
}

impl Counters {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, recent: VecDeque::new(), searches: VecDeque::new(), day: 0, today: 0 }
    }

    /// Counts one request, or tells which limit it hits. Refused requests count for the day only.
    pub(super) fn take(&mut self, search: bool, now_ms: i64) -> Result<(), Reached> {
        let day = now_ms.div_euclid(DAY_MS);
        if day != self.day {
            (self.day, self.today) = (day, 0);
        }
        forget_before(&mut self.recent, now_ms - 10_000);
        forget_before(&mut self.searches, now_ms - 1_000);
        if self.today >= self.limits.daily {
            return Err(Reached { policy: "DAILY", retry_after_seconds: None });
        }
        self.today += 1;
        if full(&self.recent, self.limits.per_ten_seconds) {
            return Err(Reached { policy: "TEN_SECONDLY_ROLLING", retry_after_seconds: None });
        }
        if search && full(&self.searches, self.limits.search_per_second) {
            return Err(Reached { policy: "SECONDLY", retry_after_seconds: Some(1) });
        }
        self.recent.push_back(now_ms);
        if search {
            self.searches.push_back(now_ms);
        }
        Ok(())
    }

    /// The headers of an answer. Search answers carry none, OAuth ones no daily figures
    /// (developers.hubspot.com, API usage guidelines; changelog "Rate limit headers will now appear for OAuth").
    pub(super) fn headers(&self, search: bool, oauth: bool) -> Vec<(&'static str, String)> {
        if search {
            return Vec::new();
        }
        let used = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        let mut headers = vec![
            ("x-hubspot-ratelimit-max", self.limits.per_ten_seconds.to_string()),
            ("x-hubspot-ratelimit-remaining", self.limits.per_ten_seconds.saturating_sub(used).to_string()),
            ("x-hubspot-ratelimit-interval-milliseconds", "10000".to_owned()),
        ];
        if !oauth {
            headers.push(("x-hubspot-ratelimit-daily", self.limits.daily.to_string()));
            let left = self.limits.daily.saturating_sub(self.today);
            headers.push(("x-hubspot-ratelimit-daily-remaining", left.to_string()));
        }
        headers
    }
}

fn forget_before(times: &mut VecDeque<i64>, oldest: i64) {
    while times.front().is_some_and(|&at| at <= oldest) {
        times.pop_front();
    }
}

fn full(times: &VecDeque<i64>, limit: u32) -> bool {
    u32::try_from(times.len()).unwrap_or(u32::MAX) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_refuses_by_its_own_policy_and_opens_again() {
        let mut counters = Counters::new(Limits { per_ten_seconds: 3, search_per_second: 1, daily: 7 });
        assert_eq!(counters.take(true, 1_000), Ok(()));
        assert_eq!(counters.take(true, 1_500).map_err(|reached| reached.policy), Err("SECONDLY"));
        assert_eq!(counters.take(true, 2_001), Ok(()));
        assert_eq!(counters.take(false, 2_002), Ok(()));
        assert_eq!(counters.take(false, 2_003).map_err(|reached| reached.policy), Err("TEN_SECONDLY_ROLLING"));
        assert_eq!(counters.take(false, 11_001), Ok(()));
        assert_eq!(counters.headers(false, false)[1].1, "0", "three in the last ten seconds");
        assert_eq!(counters.take(false, 30_000), Ok(()), "the seventh of the day");
        assert_eq!(counters.take(false, 60_000).map_err(|reached| reached.policy), Err("DAILY"));
        assert_eq!(counters.take(false, DAY_MS), Ok(()), "a new day");
        assert!(counters.headers(true, false).is_empty());
        assert_eq!(counters.headers(false, true).len(), 3);
    }
}
