//! HubSpot over HTTP: tokens, pacing by the vendor's headers, and what each refusal means.
//! Does not know streams or rows; `source` says what to ask for.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use super::{config::SYSTEM, record::Page};
use crate::connectors::{
    Error,
    budget::{Limit, MAX_WAIT_IN_PLACE, Pacer},
    http::{Body, HttpClient, Request, Response, Secret},
    oauth::{AccessTokens, is_code},
};

/// Until headers say more: the limit of the smallest plans (API usage guidelines: 100 in 10 s; 190 or 250 on larger ones).
pub(super) const DEFAULT_LIMIT: Limit = Limit { requests: 100, window: Duration::from_secs(10) };
/// Search: 5 a second for the account (same page), taken as 25 in 5 s from the shared budget and spread here.
pub(super) const SEARCH_LIMIT: Limit = Limit { requests: 25, window: Duration::from_secs(5) };
/// The distance that keeps one pod below 5 searches a second.
pub(super) const SEARCH_SPACING: Duration = Duration::from_millis(200);
/// Daily quotas end at midnight of the account's own time zone: look again every hour.
const DAILY_WAIT: Duration = Duration::from_secs(3_600);
/// Wait after a 429 of the ten-second window without `Retry-After`.
const WINDOW_WAIT: Duration = Duration::from_secs(10);
/// Wait after a 429 of a one-second window without `Retry-After`.
const SECOND_WAIT: Duration = Duration::from_secs(1);
/// What a `Retry-After: 0` becomes: never a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// The longest window that headers may teach us; HubSpot's is ten seconds.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);
/// Attempts at an answer that is 200 and not JSON (a proxy's page, a cut-off body).
const READ_ATTEMPTS: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(500);
/// Tokens tried after the first refusal of one call: the stored one that another worker just left may have ended, too.
const REPLACEMENTS: u32 = 2;
/// "Malformed token" at the vendor, though above 500 (error handling guide).
const MALFORMED_TOKEN: u16 = 530;
/// "Migration in progress", with `Retry-After` (same page).
const MIGRATION_IN_PROGRESS: u16 = 477;
/// The category of ids that a batch read does not find (hubspot-api-client's models, `StandardError`).
const NOT_FOUND: &str = "OBJECT_NOT_FOUND";
/// "Locked": too many requests at one time; the guide asks for two seconds between them.
const LOCKED: u16 = 423;

/// Which limit a request counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    General,
    Search,
}

/// One request to the API.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) class: Class,
    /// What it is, for errors: `list of companies`.
    pub(super) what: String,
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
}

/// A connection to one HubSpot account.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) base: Url,
    pub(super) tokens: AccessTokens,
    pub(super) general: Pacer,
    pub(super) search: Pacer,
    /// The Connector's own limit, if it sets one.
    pub(super) requests_per_second: Option<u32>,
    /// Share of the daily quota left for others.
    pub(super) reserve_percent: u8,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Refusal {
    category: Option<String>,
    policy_name: Option<String>,
    errors: Vec<RefusalDetail>,
}

/// The errors of a batch that succeeded in parts.
#[derive(Deserialize)]
struct PartialRefusal {
    #[serde(default)]
    errors: Vec<InputRefusal>,
}

#[derive(Deserialize)]
struct InputRefusal {
    #[serde(default)]
    category: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalDetail {
    context: RefusalContext,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RefusalContext {
    required_scopes: Vec<String>,
    required_granular_scopes: Vec<String>,
}

impl Client {
    /// A GET.
    pub(super) fn get(&self, what: impl Into<String>, path: &str, query: &[(&str, &str)]) -> Call {
        let mut url = endpoint(&self.base, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Call { class: Class::General, what: what.into(), method: Method::GET, url, body: None }
    }

    /// A POST that reads.
    pub(super) fn post(&self, class: Class, what: impl Into<String>, path: &str, body: &impl Serialize) -> Call {
        let body = serde_json::to_vec(body).expect("request bodies are plain values");
        Call { class, what: what.into(), method: Method::POST, url: endpoint(&self.base, path), body: Some(body) }
    }

    /// The same call with a query.
    pub(super) fn with_query(mut call: Call, query: &[(&str, &str)]) -> Call {
        call.url.query_pairs_mut().extend_pairs(query);
        call
    }

    /// Sends a call until it is answered with success, refreshing the token and waiting out short throttles.
    ///
    /// # Errors
    /// As `connectors::Error` documents them; nothing of the vendor's text but codes and names.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, Error> {
        let mut token = self.tokens.token().await?;
        let mut replacements = 0;
        let mut waited = Duration::ZERO;
        loop {
            self.pacer(call.class).acquire().await?;
            let response = self.send_once(call, &token).await?;
            self.learn(&response).await?;
            match response.status.as_u16() {
                200..=299 => return Ok(response),
                code @ (401 | MALFORMED_TOKEN) if replacements == REPLACEMENTS => {
                    return Err(Error::Unauthorised { system: SYSTEM, code: format!("HTTP {code} after a refresh") });
                }
                401 | MALFORMED_TOKEN => {
                    token = self.tokens.replace(&token).await?;
                    replacements += 1;
                }
                429 | MIGRATION_IN_PROGRESS | LOCKED => waited += self.throttled(call, &response, waited).await?,
                _ => return Err(refusal(call, &response)),
            }
        }
    }

    /// Sends a call and reads its answer as JSON.
    ///
    /// # Errors
    /// As `send`; `UnreadablePage` when it stays something else.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<(T, Response), Error> {
        self.read_by(call, |response| match serde_json::from_slice(&response.body) {
            Ok(value) => Ok((value, response)),
            Err(_) => Err(unreadable(call)),
        })
        .await
    }

    /// Sends a call and reads its answer as a page; `accept` says where it leads.
    ///
    /// # Errors
    /// As `send`; that of `accept`, or `UnreadablePage`, when the answer stays what it should not be.
    pub(super) async fn page<N>(
        &self,
        call: &Call,
        accept: impl Fn(&Page) -> Result<N, Error>,
    ) -> Result<(Page, N), Error> {
        self.read_by(call, |response| {
            let page = Page::parse(response.body).ok_or_else(|| unreadable(call))?;
            let next = accept(&page)?;
            Ok((page, next))
        })
        .await
    }

    /// Sends a batch read and gives what it found, with the time of the answer. An id that is not found is just missing.
    ///
    /// # Errors
    /// As `page`; `UnreadablePage` when some ids were refused for another reason, so that nothing can be said of them.
    pub(super) async fn batch_read(&self, call: &Call) -> Result<(Page, Timestamp), Error> {
        self.read_by(call, |response| {
            let at = response.date().ok_or_else(|| unreadable(call))?;
            Ok((Page::parse(response.body).ok_or_else(|| unreadable(call))?, at))
        })
        .await
    }

    /// Asks again for what cannot be read: a proxy's page and a cut-off body mostly pass. So may what a batch could not say
    /// of some ids: taken for "there is nothing", it would empty associations and custom values.
    async fn read_by<T>(&self, call: &Call, read: impl Fn(Response) -> Result<T, Error>) -> Result<T, Error> {
        let read = |response: Response| match response.status {
            StatusCode::MULTI_STATUS => partly_refused(call, &response).and_then(|()| read(response)),
            _ => read(response),
        };
        for _ in 1..READ_ATTEMPTS {
            if let Ok(value) = read(self.send(call).await?) {
                return Ok(value);
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
        read(self.send(call).await?)
    }

    async fn send_once(&self, call: &Call, token: &Secret) -> Result<Response, Error> {
        let request = Request {
            system: SYSTEM,
            method: call.method.clone(),
            url: call.url.clone(),
            bearer: Some(token),
            body: call.body.clone().map_or(Body::Empty, Body::Json),
            // Every call here reads, so it may be sent again.
            retry: Some(|status: StatusCode| status.is_server_error() && status.as_u16() != MALFORMED_TOKEN),
        };
        self.http.send(request).await
    }

    fn pacer(&self, class: Class) -> &Pacer {
        match class {
            Class::General => &self.general,
            Class::Search => &self.search,
        }
    }

    /// Feeds the budget from the answer's headers (API usage guidelines; the daily ones are absent for OAuth apps).
    async fn learn(&self, response: &Response) -> Result<(), Error> {
        let number = |name: &str| response.number(&format!("x-hubspot-ratelimit-{name}"));
        if let (Some(max), Some(interval), None) =
            (number("max"), number("interval-milliseconds"), self.requests_per_second)
            && max > 0
            && interval > 0
        {
            let requests = u32::try_from(max).unwrap_or(u32::MAX);
            self.general.learn(Limit { requests, window: Duration::from_millis(interval).min(LONGEST_WINDOW) });
        }
        if let (Some(daily), Some(remaining)) = (number("daily"), number("daily-remaining"))
            && remaining <= daily.saturating_mul(self.reserve_percent.into()) / 100
        {
            let reason = "QuotaExhausted: DAILY, less the reserve";
            self.general.park(DAILY_WAIT, reason).await?;
            self.search.park(DAILY_WAIT, reason).await?;
        }
        Ok(())
    }

    /// Tells everybody on the account to wait, and waits in place while all waits of this call stay short.
    async fn throttled(&self, call: &Call, response: &Response, waited: Duration) -> Result<Duration, Error> {
        let policy = refusal_of(response).policy_name.filter(|name| is_code(name)).unwrap_or_default();
        let daily = policy.contains("DAILY");
        let default = match response.status.as_u16() {
            LOCKED => MAX_WAIT_IN_PLACE,
            _ if daily => DAILY_WAIT,
            _ if policy.starts_with("TEN_SECOND") => WINDOW_WAIT,
            _ if call.class == Class::Search || policy.starts_with("SECOND") => SECOND_WAIT,
            _ => WINDOW_WAIT,
        };
        let after = response.retry_after().unwrap_or(default).max(SHORTEST_WAIT);
        let kind = if daily { "QuotaExhausted" } else { "RateLimited" };
        let reason = if policy.is_empty() { kind.to_owned() } else { format!("{kind}: {policy}") };
        self.pacer(call.class).park(after, &reason).await?;
        if waited + after > MAX_WAIT_IN_PLACE {
            return Err(Error::Throttled { system: SYSTEM, reason, after });
        }
        tokio::time::sleep(after).await;
        Ok(after)
    }
}

/// A path below the base URL, which may have a path of its own.
pub(super) fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// The answer stayed unreadable.
fn unreadable(call: &Call) -> Error {
    Error::UnreadablePage { system: SYSTEM, detail: format!("{}: not the JSON it should be", call.what) }
}

/// 207 is the answer to a batch with missing ids (`OBJECT_NOT_FOUND`), and to one with any other trouble.
fn partly_refused(call: &Call, response: &Response) -> Result<(), Error> {
    let refusal = serde_json::from_slice::<PartialRefusal>(&response.body).map_err(|_| unreadable(call))?;
    let other = refusal.errors.iter().map(|error| error.category.as_deref()).find(|name| *name != Some(NOT_FOUND));
    let Some(category) = other else { return Ok(()) };
    let code = category.filter(|category| is_code(category)).unwrap_or("without a category");
    Err(Error::UnreadablePage { system: SYSTEM, detail: format!("{}: HTTP 207 {code}", call.what) })
}

fn refusal_of(response: &Response) -> Refusal {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// What a refusal means. Only codes and names are kept of the vendor's answer (R18).
fn refusal(call: &Call, response: &Response) -> Error {
    let refusal = refusal_of(response);
    let status = response.status.as_u16();
    let category = refusal.category.as_deref().filter(|category| is_code(category));
    let code = category.map_or_else(|| format!("HTTP {status}"), |category| format!("HTTP {status} {category}"));
    let what = &call.what;
    let configuration = |detail: String| Error::Configuration { system: SYSTEM, detail };
    match status {
        403 => configuration(format!("{what}: {code}{}", needed_scopes(&refusal))),
        404 => configuration(format!("{what}: {code}; check baseUrl")),
        300..=399 => {
            configuration(format!("{what}: {code}; redirects are not followed, set baseUrl to the final address"))
        }
        400 | 414 if category == Some("VALIDATION_ERROR") || status == 414 => {
            configuration(format!("{what}: {code}; check the stream's properties"))
        }
        408 | 425 | 500.. => Error::Unavailable { system: SYSTEM, code },
        _ => Error::UnreadablePage { system: SYSTEM, detail: format!("{what}: {code}") },
    }
}

fn needed_scopes(refusal: &Refusal) -> String {
    let contexts = refusal.errors.iter().map(|error| &error.context);
    let scopes = contexts.flat_map(|context| context.required_scopes.iter().chain(&context.required_granular_scopes));
    let mut scopes: Vec<_> = scopes.filter(|scope| is_code(scope)).map(String::as_str).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() { String::new() } else { format!("; the token needs the scope {}", scopes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_was_partly_refused_is_read_only_if_all_of_the_rest_was_not_found() {
        let call = Call {
            class: Class::General,
            what: "batch read of deals".to_owned(),
            method: Method::POST,
            url: "https://api.hubapi.com/".parse().expect("url"),
            body: None,
        };
        let judged = |body: &str| {
            let body = body.as_bytes().to_vec();
            partly_refused(&call, &Response { status: StatusCode::MULTI_STATUS, headers: Default::default(), body })
        };
        let refused = |code: &str| {
            Err(Error::UnreadablePage { system: SYSTEM, detail: format!("batch read of deals: HTTP 207 {code}") })
        };
        assert_eq!(judged(r#"{"errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["7"]}}]}"#), Ok(()));
        let both = r#"{"errors":[{"category":"OBJECT_NOT_FOUND"},{"category":"RATE_LIMITS","message":"secret 7"}]}"#;
        assert_eq!(judged(both), refused("RATE_LIMITS"));
        assert_eq!(judged(r#"{"errors":[{"message":"secret 7"}]}"#), refused("without a category"));
        assert!(judged("<html>").is_err());
    }
}
