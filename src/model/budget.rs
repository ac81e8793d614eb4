//! A request budget shared by everybody on one vendor account (R35): whose it is, how large, and what was granted.
//! Values only: `connectors::budget` paces by them, `store` keeps the shared count.

use std::time::Duration;

/// Whose quota.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// `hubspot`, `salesforce`.
    pub system: &'static str,
    /// The vendor's account id, or one made of tenant and connector while it is unknown.
    pub account_id: String,
    /// A class of requests with a limit of its own, e.g. `search`.
    pub class: &'static str,
}

/// A rate: at most `requests` in any window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests per window.
    pub requests: u32,
    /// Length of the window.
    pub window: Duration,
}

/// An answer of the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// This many requests may be sent within the window.
    Granted(u32),
    /// None before this long; with the reason, if the vendor gave one.
    Wait(Duration, Option<String>),
}
