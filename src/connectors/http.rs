//! The one HTTP client of all sources: timeouts, bounded answers, quick retries, and the guard against requests into
//! the cluster's own network. Knows no vendor, no credential kinds and no quotas.
//!
//! Redirects are never followed, so a credential never reaches a host other than the one it is meant for.

mod guard;
#[cfg(test)]
mod tests;

use std::{
    error::Error as StdError,
    hash::{BuildHasher as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{Method, StatusCode, header::HeaderMap, redirect};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::{Instant, sleep};
use url::Url;

pub use guard::{AllowedHosts, InvalidEntry};

use super::Error;

/// A server may say any number; after a day we ask again (quotas of the vendors we know last no longer).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Above any vendor's limit. A vendor's next-page cursor becomes part of a URL, and beyond 64 KiB the `http` crate's refusal
/// would look like a lost connection, which is waited for.
const MAX_URL_BYTES: usize = 32 << 10;

/// How the client behaves; the defaults are for production, tests shorten them.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// From `--allowed-private-hosts`.
    pub allowed_private_hosts: AllowedHosts,
    /// Certificates (PEM) trusted beside Mozilla's roots, from `--source-ca-file`.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// To a connection, TLS included.
    pub connect_timeout: Duration,
    /// From the start of a request to the end of its answer's body.
    pub request_timeout: Duration,
    /// No attempt of a request starts later than this after its first.
    pub retry_window: Duration,
    /// Wait before the second attempt, doubled before each later one, half of it random.
    pub retry_base: Duration,
    /// Attempts at one request; what is still unavailable then is left to the run (R2).
    pub attempts: u32,
    /// Largest answer, counted after decompression.
    pub max_response_bytes: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            allowed_private_hosts: AllowedHosts::default(),
            extra_ca_pem: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            retry_window: Duration::from_secs(60),
            retry_base: Duration::from_millis(300),
            attempts: 5,
            max_response_bytes: 64 << 20,
        }
    }
}

/// Why no client can be built from the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not PEM, or no certificate in it.
    #[error("the CA file for sources holds no certificate")]
    CaFile,
    /// TLS or the client could not be set up.
    #[error("the HTTP client for sources cannot be set up")]
    Client,
}

impl SettingsError {
    /// Both need another setting.
    #[must_use]
    pub fn class(&self) -> crate::error_class::Class {
        crate::error_class::Class::Invalid
    }
}

/// The body of a request. Debug shows no content.
#[derive(Clone)]
pub enum Body<'a> {
    /// None.
    Empty,
    /// JSON text.
    Json(Vec<u8>),
    /// Form fields; they may be secrets and are never logged.
    Form(&'a [(&'a str, &'a str)]),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "Empty",
            Self::Json(_) => "Json(..)",
            Self::Form(_) => "Form(..)",
        })
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Whose, for errors.
    pub system: &'static str,
    /// GET or POST.
    pub method: Method,
    /// Absolute.
    pub url: Url,
    /// Access token.
    pub bearer: Option<&'a Secret>,
    /// What is sent.
    pub body: Body<'a>,
    /// Which statuses are worth another attempt; `None` = a single attempt, for requests that must not be sent twice.
    pub retry: Option<fn(StatusCode) -> bool>,
}

/// A complete answer. Debug shows its status only: the rest may be records or tokens.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Response {
    /// The server's clock (`Date`).
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        parse_http_date(self.header("date")?)
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header's number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// `Retry-After` as a duration: seconds, or a date measured against the server's own clock; at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        }
        let until = parse_http_date(text)?.duration_since(self.date()?);
        Some(Duration::try_from(until).unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER))
    }
}

fn parse_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// A secret text whose Debug is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// The client; cheap to clone, connections are shared.
#[derive(Debug, Clone)]
pub struct HttpClient {
    /// Dials public addresses and allowed networks only.
    guarded: reqwest::Client,
    /// For hosts that the operator named: whatever they resolve to.
    named: reqwest::Client,
    settings: Arc<HttpSettings>,
}

impl HttpClient {
    /// Builds the client.
    ///
    /// # Errors
    /// When the extra CA file holds no certificate, or TLS cannot be set up.
    pub fn new(settings: HttpSettings) -> Result<Self, SettingsError> {
        let tls = tls_config(settings.extra_ca_pem.as_deref())?;
        let allowed = Arc::new(settings.allowed_private_hosts.clone());
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .no_proxy()
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(settings.connect_timeout)
                .timeout(settings.request_timeout)
                .user_agent(concat!("gtm-sync/", env!("CARGO_PKG_VERSION")))
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|_| SettingsError::Client);
        Ok(Self {
            guarded: build(builder().dns_resolver(guard::GuardedResolver(allowed)))?,
            named: build(builder())?,
            settings: Arc::new(settings),
        })
    }

    /// Sends a request and reads its whole answer, trying again while that is quick and allowed.
    ///
    /// # Errors
    /// `Configuration` for an address that may not be dialled, `Unavailable` when no attempt got an answer below 500
    /// (or one that `retry` accepts), `UnreadablePage` for an answer above the size limit.
    ///
    /// # Cancellation
    /// May be dropped at any await; the vendor may then have served an answer that nobody read.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let client = self.client_for(&request)?;
        let last_start = Instant::now() + self.settings.retry_window;
        let mut wait = self.settings.retry_base;
        for attempt in 1.. {
            let result = self.attempt(client, &request).await;
            let code = match result {
                Ok(response) if request.retry.is_none_or(|again| !again(response.status)) => return Ok(response),
                Ok(response) => format!("HTTP {}", response.status.as_u16()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transport(code)) => code.to_owned(),
            };
            let pause = jittered(wait);
            let over = attempt >= self.settings.attempts || Instant::now() + pause > last_start;
            if over || request.retry.is_none() {
                return Err(Error::Unavailable { system: request.system, code });
            }
            sleep(pause).await;
            wait *= 2;
        }
        unreachable!("the loop ends by its last attempt")
    }

    fn client_for(&self, request: &Request<'_>) -> Result<&reqwest::Client, Error> {
        let url = &request.url;
        if url.as_str().len() > MAX_URL_BYTES {
            let detail = format!("it would be asked for by a URL above {MAX_URL_BYTES} bytes");
            return Err(Error::UnreadablePage { system: request.system, detail });
        }
        if self.settings.allowed_private_hosts.names(url) {
            return Ok(&self.named);
        }
        let refused = |what: &str| Error::Configuration {
            system: request.system,
            detail: format!("{} {what}", url.host_str().unwrap_or("URL without host")),
        };
        if url.scheme() != "https" {
            return Err(refused("is not https; plain http needs the host in --allowed-private-hosts"));
        }
        if guard::literal(url).is_some_and(|address| !self.settings.allowed_private_hosts.permits(address)) {
            return Err(refused(PRIVATE));
        }
        Ok(&self.guarded)
    }

    async fn attempt(&self, client: &reqwest::Client, request: &Request<'_>) -> Result<Response, Failure> {
        let mut builder = client.request(request.method.clone(), request.url.clone());
        if let Some(bearer) = request.bearer {
            builder = builder.bearer_auth(bearer.expose());
        }
        builder = match &request.body {
            Body::Empty => builder,
            Body::Json(text) => builder.header("content-type", "application/json").body(text.clone()),
            Body::Form(fields) => builder.form(fields),
        };
        let transport = |error: reqwest::Error| transport_failure(request, &error);
        let mut answer = builder.send().await.map_err(transport)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > self.settings.max_response_bytes {
                let detail = format!("answer above {} bytes", self.settings.max_response_bytes);
                return Err(Failure::Final(Error::UnreadablePage { system: request.system, detail }));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: answer.status(), headers: answer.headers().clone(), body })
    }
}

const PRIVATE: &str = "is a private address; workers dial it only when --allowed-private-hosts names it";

enum Failure {
    Final(Error),
    Transport(&'static str),
}

fn transport_failure(request: &Request<'_>, error: &reqwest::Error) -> Failure {
    if in_chain::<guard::Refused>(error) {
        let host = request.url.host_str().unwrap_or_default();
        return Failure::Final(Error::Configuration { system: request.system, detail: format!("{host} {PRIVATE}") });
    }
    Failure::Transport(if in_chain::<guard::NotResolved>(error) {
        "name not resolved"
    } else if in_chain::<rustls::Error>(error) {
        "TLS refused"
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    })
}

fn in_chain<E: StdError + 'static>(outer: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(outer);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        // io::Error shows the source of what it wraps, not the wrapped error itself.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    false
}

/// Half of it, and up to the other half at random, so that clients do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let part = f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    wait / 2 + (wait / 2).mul_f64(part)
}

fn tls_config(extra_ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, SettingsError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_ca_pem {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| SettingsError::CaFile)?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(SettingsError::CaFile);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| SettingsError::Client)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
