//! Access tokens: a static one, or one refreshed by single flight across pods and stored before it is used (R7).
//! Knows the OAuth refresh grant, not the vendor: its token endpoint and host come from the connector.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{
    Error,
    http::{Body, HttpClient, Request, Response, Secret},
};
use crate::{
    clock,
    credentials::{Envelope, Opener, RefreshLock, TokenStore, seal},
    ids::{ConnectorId, TenantId},
    model::config::SecretFields,
};

/// A token this close to its end is refreshed first, so that it does not end between check and use.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// How long to wait for another worker's refresh before saying so (R41: nothing sleeps longer in place).
const WAIT_FOR_OTHER: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A token request ends after this; the refresh lock lives 60 s (`TokenStore::lock_refresh`).
const TOKEN_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A refreshed token is saved within what then remains of the lock.
const SAVE_WINDOW: Duration = Duration::from_secs(25);
const SAVE_RETRY: Duration = Duration::from_millis(500);
/// Wait after a 429 of a token endpoint that names no time.
const DEFAULT_THROTTLE: Duration = Duration::from_secs(10);

/// Names of the fields in a credential.
pub mod field {
    /// A token that is used as it is; in an overlay the refreshed one.
    pub const ACCESS_TOKEN: &str = "accessToken";
    /// The OAuth app's id.
    pub const CLIENT_ID: &str = "clientId";
    /// The OAuth app's secret.
    pub const CLIENT_SECRET: &str = "clientSecret";
    /// The grant; the overlay's is newer than the base's.
    pub const REFRESH_TOKEN: &str = "refreshToken";
    /// When the overlay's access token ends; RFC 3339.
    pub const EXPIRES_AT: &str = "expiresAt";
}

/// What an access token is made from.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Whose connector.
    pub tenant: TenantId,
    /// Which connector.
    pub connector: ConnectorId,
    /// The host the credential is about to be sent to, as in the envelope's allowed hosts.
    pub host: String,
    /// `hubspot`, `salesforce`; for errors.
    pub system: &'static str,
    /// Where refresh tokens are exchanged, on `host`.
    pub token_url: Url,
    /// Revision of the base credential; an overlay of another one is void.
    pub credential_revision: i64,
}

/// Hands out access tokens for one connector.
#[derive(Clone)]
pub struct AccessTokens {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    grant: Grant,
    tokens: Arc<dyn TokenStore>,
    opener: Opener,
    http: HttpClient,
    current: Mutex<Option<Token>>,
}

enum Grant {
    Static(Secret),
    Refresh { client_id: Secret, client_secret: Secret, refresh_token: Secret },
}

#[derive(Clone)]
struct Token {
    access: Secret,
    expires_at: Timestamp,
    /// The newest refresh token known with it.
    refresh: Secret,
}

impl Token {
    fn fresh(&self) -> bool {
        clock::now() + EXPIRY_MARGIN < self.expires_at
    }
}

/// RFC 6749, 5.1; HubSpot's reference shows the same fields in camelCase too.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(alias = "accessToken")]
    access_token: String,
    #[serde(alias = "expiresIn")]
    expires_in: i64,
    #[serde(alias = "refreshToken")]
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenRefusal {
    error: Option<String>,
    status: Option<String>,
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccessTokens").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// From a base credential, whose envelope is compared with what is about to be done (R14).
    ///
    /// # Errors
    /// `Configuration` when the envelope is for something else, or holds neither a token nor a complete grant.
    pub fn new(
        identity: Identity,
        envelope: &Envelope,
        tokens: Arc<dyn TokenStore>,
        opener: Opener,
        http: HttpClient,
    ) -> Result<Self, Error> {
        let configuration = |detail: String| Error::Configuration { system: identity.system, detail };
        envelope
            .check(&identity.tenant, &identity.connector, &identity.host)
            .map_err(|error| configuration(error.to_string()))?;
        let grant = Grant::from_fields(&envelope.fields).map_err(|missing| {
            configuration(format!(
                "the credential needs accessToken, or clientId, clientSecret and refreshToken; {missing}"
            ))
        })?;
        Ok(Self { inner: Arc::new(Inner { identity, grant, tokens, opener, http, current: Mutex::new(None) }) })
    }

    /// An access token that is not about to end.
    ///
    /// # Errors
    /// `Unauthorised` when the grant was refused, `RefreshInProgress` while another worker refreshes, `Throttled`,
    /// `Unavailable`, `Store`.
    ///
    /// # Cancellation
    /// May be dropped at any await: a refresh under way goes on in a task of its own until its token is stored.
    pub async fn token(&self) -> Result<Secret, Error> {
        self.inner.clone().obtain(None).await
    }

    /// The vendor refused `refused` with 401: gives another token, or none if there is no other.
    ///
    /// # Errors
    /// `Unauthorised` for a static token; otherwise as `token`.
    ///
    /// # Cancellation
    /// As `token`.
    pub async fn replace(&self, refused: &Secret) -> Result<Secret, Error> {
        self.inner.clone().obtain(Some(refused)).await
    }
}

impl Grant {
    fn from_fields(fields: &SecretFields) -> Result<Self, String> {
        let secret = |name: &str| fields.0.get(name).filter(|text| !text.is_empty()).map(Secret::new);
        if let Some(refresh_token) = secret(field::REFRESH_TOKEN) {
            let needed = |name: &str| secret(name).ok_or_else(|| format!("{name} is missing"));
            let (client_id, client_secret) = (needed(field::CLIENT_ID)?, needed(field::CLIENT_SECRET)?);
            return Ok(Self::Refresh { client_id, client_secret, refresh_token });
        }
        secret(field::ACCESS_TOKEN).map(Self::Static).ok_or_else(|| "both are missing".to_owned())
    }
}

impl Inner {
    async fn obtain(self: Arc<Self>, refused: Option<&Secret>) -> Result<Secret, Error> {
        if let Grant::Static(token) = &self.grant {
            return if refused.is_none() { Ok(token.clone()) } else { Err(self.unauthorised("HTTP 401")) };
        }
        let usable = |token: &Token| token.fresh() && Some(&token.access) != refused;
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| usable(token)) {
            return Ok(token.access.clone());
        }
        let give_up = Instant::now() + WAIT_FOR_OTHER;
        loop {
            if let Some(token) = self.stored().await?.filter(usable) {
                return Ok(current.insert(token).access.clone());
            }
            let lock = self.tokens.lock_refresh(&self.identity.tenant, &self.identity.connector).await;
            if let Some(lock) = lock.map_err(|error| Error::Store(error.class()))? {
                let token = Arc::clone(&self).refresh_apart(lock, refused.cloned()).await?;
                return Ok(current.insert(token).access.clone());
            }
            if Instant::now() + LOOK_AGAIN > give_up {
                return Err(Error::RefreshInProgress);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The refreshed overlay of this base credential, opened and checked.
    async fn stored(&self) -> Result<Option<Token>, Error> {
        let Identity { tenant, connector, host, system, credential_revision, .. } = &self.identity;
        let overlay = self.tokens.overlay(tenant, connector).await.map_err(|error| Error::Store(error.class()))?;
        let Some(overlay) = overlay.filter(|overlay| overlay.credential_revision == *credential_revision) else {
            return Ok(None);
        };
        let unusable = |error: seal::Error| match error {
            // Refreshed where the tenant was before: those workers seal it anew when the next session begins.
            seal::Error::NoIdentity(_) => Error::Unavailable { system, code: format!("refreshed token: {error}") },
            _ => Error::Configuration { system, detail: format!("refreshed token: {error}") },
        };
        let envelope = self.opener.open(&overlay.sealed).map_err(unusable)?;
        envelope.check(tenant, connector, host).map_err(unusable)?;
        let text = |name: &str| envelope.fields.0.get(name);
        Ok(text(field::ACCESS_TOKEN).zip(text(field::REFRESH_TOKEN)).map(|(access, refresh)| Token {
            access: Secret::new(access),
            refresh: Secret::new(refresh),
            // An end that cannot be read is an end that has passed.
            expires_at: text(field::EXPIRES_AT).and_then(|end| end.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH),
        }))
    }

    /// Refreshes in a task of its own: neither a dropped activity nor SIGTERM may stop it between the vendor's answer
    /// and the store, or a rotating grant would be lost.
    async fn refresh_apart(self: Arc<Self>, lock: RefreshLock, refused: Option<Secret>) -> Result<Token, Error> {
        let system = self.identity.system;
        let task = tokio::spawn(async move {
            let result = self.refresh_locked(&lock, refused.as_ref()).await;
            if result.is_err() {
                // Without this the lock ends by itself after a minute.
                if let Err(error) = self.tokens.release_refresh(&lock).await {
                    tracing::warn!(tenant = %lock.tenant, connector = %lock.connector, %error, "refresh lock not released");
                }
            }
            result
        });
        task.await.unwrap_or_else(|_| Err(Error::Unavailable { system, code: "token refresh stopped".to_owned() }))
    }

    async fn refresh_locked(&self, lock: &RefreshLock, refused: Option<&Secret>) -> Result<Token, Error> {
        // Somebody else may have refreshed between our look and our lock.
        let stored = self.stored().await?;
        if let Some(token) = stored.as_ref().filter(|token| token.fresh() && Some(&token.access) != refused) {
            self.tokens.release_refresh(lock).await.map_err(|error| Error::Store(error.class()))?;
            return Ok(token.clone());
        }
        let token = self.exchange(stored.map(|token| token.refresh)).await?;
        self.save(lock, &token).await?;
        tracing::info!(tenant = %lock.tenant, connector = %lock.connector, "access token refreshed");
        Ok(token)
    }

    async fn exchange(&self, newest: Option<Secret>) -> Result<Token, Error> {
        let Grant::Refresh { client_id, client_secret, refresh_token } = &self.grant else {
            return Err(self.unauthorised("HTTP 401"));
        };
        let refresh = newest.unwrap_or_else(|| refresh_token.clone());
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client_id.expose()),
            ("client_secret", client_secret.expose()),
            ("refresh_token", refresh.expose()),
        ];
        let system = self.identity.system;
        let request = Request {
            system,
            method: Method::POST,
            url: self.identity.token_url.clone(),
            bearer: None,
            body: Body::Form(&form),
            // Sent once: a second exchange of a single-use token revokes the grant.
            retry: None,
        };
        let timeout = |_| Error::Unavailable { system, code: "token endpoint: timeout".to_owned() };
        let response =
            tokio::time::timeout(TOKEN_REQUEST_TIMEOUT, self.http.send(request)).await.map_err(timeout)??;
        if response.status != StatusCode::OK {
            return Err(self.refusal(&response));
        }
        let answer: TokenAnswer = serde_json::from_slice(&response.body)
            .map_err(|_| Error::Unavailable { system, code: "token endpoint: unreadable answer".to_owned() })?;
        Ok(Token {
            access: Secret::new(answer.access_token),
            refresh: answer.refresh_token.map_or(refresh, Secret::new),
            expires_at: clock::now() + SignedDuration::from_secs(answer.expires_in.clamp(0, 86_400)),
        })
    }

    fn refusal(&self, response: &Response) -> Error {
        let system = self.identity.system;
        let status = response.status.as_u16();
        match status {
            429 => Error::Throttled {
                system,
                reason: "RateLimited (token endpoint)".to_owned(),
                after: response.retry_after().unwrap_or(DEFAULT_THROTTLE),
            },
            400 | 401 | 403 => {
                let refusal = serde_json::from_slice::<TokenRefusal>(&response.body).ok();
                let code = refusal.and_then(|refusal| refusal.error.or(refusal.status)).filter(|code| is_code(code));
                self.unauthorised(&code.unwrap_or_else(|| format!("token endpoint: HTTP {status}")))
            }
            500.. => Error::Unavailable { system, code: format!("token endpoint: HTTP {status}") },
            _ => {
                Error::Configuration { system, detail: format!("token endpoint answers HTTP {status}; check baseUrl") }
            }
        }
    }

    /// Stores the new token, trying for as long as the lock lives: it is the only copy of a single-use grant.
    async fn save(&self, lock: &RefreshLock, token: &Token) -> Result<(), Error> {
        let fields = [
            (field::ACCESS_TOKEN, token.access.expose().to_owned()),
            (field::REFRESH_TOKEN, token.refresh.expose().to_owned()),
            (field::EXPIRES_AT, token.expires_at.to_string()),
        ];
        let sealed = self.opener.sealer().seal(Envelope {
            tenant_id: self.identity.tenant.clone(),
            connector_id: self.identity.connector.clone(),
            allowed_hosts: vec![self.identity.host.clone()],
            key_id: String::new(),
            fields: SecretFields(fields.map(|(name, value)| (name.to_owned(), value)).into()),
        });
        let give_up = Instant::now() + SAVE_WINDOW;
        loop {
            match self.tokens.save_overlay(lock, self.identity.credential_revision, &sealed).await {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.class() == crate::error_class::Class::Transient
                        && Instant::now() + SAVE_RETRY < give_up =>
                {
                    tokio::time::sleep(SAVE_RETRY).await;
                }
                Err(error) => return Err(Error::Store(error.class())),
            }
        }
    }

    fn unauthorised(&self, code: &str) -> Error {
        Error::Unauthorised { system: self.identity.system, code: code.to_owned() }
    }
}

/// Whether a vendor's text is a code that may be shown: a short name, never a sentence (R18).
#[must_use]
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}
