//! What a simulated HubSpot account is started with.

use std::net::{Ipv4Addr, SocketAddr};

/// Options of a simulator. Take `..Options::default()` for what a test does not care about.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Seed of the records: the same seed and count give the same records.
    pub seed: u64,
    /// CRM objects to seed, all types together, at most `MAX_RECORDS`. Owners and pipelines come on top.
    pub records: u32,
    /// The private app's static token.
    pub token: String,
    /// The OAuth app; `None` = the token endpoint refuses.
    pub oauth: Option<OauthOptions>,
    /// The account's id.
    pub portal_id: u64,
    /// Rate limits.
    pub limits: Limits,
    /// How late records become visible.
    pub visibility: Visibility,
    /// Keep every page of a list as it was first rendered, and serve it again without credential, limits, faults and
    /// counters: for benchmarks, in which the source must cost next to nothing. Later edits are not seen.
    pub keep_pages: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            records: 1_000,
            token: "pat-simulated".to_owned(),
            oauth: None,
            portal_id: 62_515,
            limits: Limits::default(),
            visibility: Visibility::default(),
            keep_pages: false,
        }
    }
}

/// The OAuth app of a simulator.
#[derive(Debug, Clone)]
pub struct OauthOptions {
    /// The app's id.
    pub client_id: String,
    /// The app's secret.
    pub client_secret: String,
    /// The first refresh token.
    pub refresh_token: String,
    /// How long an access token lives.
    pub access_token_seconds: u32,
    /// Whether each refresh gives a new refresh token and kills the old one; reuse of a dead one revokes the grant.
    pub rotate: bool,
}

/// Rate limits, as the vendor counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in any ten seconds.
    pub per_ten_seconds: u32,
    /// Search requests in any second.
    pub search_per_second: u32,
    /// Requests a day (UTC).
    pub daily: u32,
}

impl Default for Limits {
    /// A Professional account (developers.hubspot.com, API usage guidelines, 2026): 190 in ten seconds, 625,000 a day, 5 searches a second.
    fn default() -> Self {
        Self { per_ten_seconds: 190, search_per_second: 5, daily: 625_000 }
    }
}

impl Limits {
    /// No limit that a test could reach.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { per_ten_seconds: u32::MAX, search_per_second: u32::MAX, daily: u32::MAX }
    }
}

/// How late records become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visibility {
    /// Seeded records, changed at the start, that list and search show only later.
    pub late_records: u32,
    /// After how many seconds they show.
    pub late_seconds: u32,
    /// How far the search index lags behind writes.
    pub search_lag_seconds: u32,
}

impl Default for Visibility {
    fn default() -> Self {
        Self { late_records: 3, late_seconds: 30, search_lag_seconds: 0 }
    }
}
