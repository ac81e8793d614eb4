//! The token endpoint: refresh-token grants, expiry, and rotation with revocation on reuse.
//! Also answers whether a bearer token may be used.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use serde_json::json;

use super::{
    answer::{Answer, CORRELATION_ID},
    options::OauthOptions,
};

/// What a bearer token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    /// The private app's.
    Private,
    /// A live OAuth access token.
    Oauth,
    /// An OAuth access token past its time.
    Expired,
    /// None that was given out.
    Unknown,
}

/// Tokens of an account.
#[derive(Debug)]
pub(super) struct Tokens {
    private: String,
    oauth: Option<OauthOptions>,
    refresh_token: String,
    dead_refresh_tokens: HashSet<String>,
    revoked: bool,
    access_tokens: HashMap<String, i64>,
    issued: u64,
    /// Set by the fault `expireTokens`: the private token works again once it is replaced.
    private_expired: bool,
}

impl Tokens {
    pub(super) fn new(private: String, oauth: Option<OauthOptions>) -> Self {
        let refresh_token = oauth.as_ref().map(|oauth| oauth.refresh_token.clone()).unwrap_or_default();
        Self {
            private,
            oauth,
            refresh_token,
            dead_refresh_tokens: HashSet::new(),
            revoked: false,
            access_tokens: HashMap::new(),
            issued: 0,
            private_expired: false,
        }
    }

    pub(super) fn bearer(&self, token: &str, now_ms: i64) -> Bearer {
        if token == self.private && !token.is_empty() {
            return if self.private_expired { Bearer::Expired } else { Bearer::Private };
        }
        match self.access_tokens.get(token) {
            Some(&until) if until > now_ms => Bearer::Oauth,
            Some(_) => Bearer::Expired,
            None => Bearer::Unknown,
        }
    }

    /// Ends every access token now; the private token too when `private`.
    pub(super) fn expire(&mut self, private: bool) {
        self.access_tokens.values_mut().for_each(|until| *until = 0);
        self.private_expired |= private;
    }

    /// Gives the private app a new token.
    pub(super) fn replace_private(&mut self, token: String) {
        self.private = token;
        self.private_expired = false;
    }

    /// The refresh token that works now.
    pub(super) fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    /// Answers the token endpoint. `form` is the decoded body; parameters in the URL are refused by the caller.
    pub(super) fn grant(&mut self, form: &HashMap<String, String>, portal_id: u64, now_ms: i64) -> Answer {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let Some(oauth) = self.oauth.clone() else { return refuse("invalid_client", "missing or unknown client id") };
        if field("grant_type") != "refresh_token" {
            return refuse("unsupported_grant_type", "only refresh_token is simulated");
        }
        if field("client_id") != oauth.client_id || field("client_secret") != oauth.client_secret {
            return refuse("invalid_client", "client id and secret do not belong together");
        }
        let offered = field("refresh_token");
        if self.dead_refresh_tokens.contains(offered) {
            // Reuse of a rotated token is taken for theft: the whole grant ends.
            self.revoked = true;
            self.expire(false);
        }
        if self.revoked || offered != self.refresh_token {
            return refuse("invalid_grant", "missing, invalid or revoked refresh token");
        }
        self.issued += 1;
        if oauth.rotate {
            let next = format!("{}-r{}", oauth.refresh_token, self.issued);
            self.dead_refresh_tokens.insert(std::mem::replace(&mut self.refresh_token, next));
        }
        let access_token = format!("oauth-access-{portal_id}-{}", self.issued);
        self.access_tokens.insert(access_token.clone(), now_ms + i64::from(oauth.access_token_seconds) * 1_000);
        Answer::ok(json!({
            "token_type": "bearer",
            "access_token": access_token,
            "refresh_token": self.refresh_token,
            "expires_in": oauth.access_token_seconds,
            "hub_id": portal_id,
        }))
    }
}

/// The dated endpoint speaks OAuth (`error`), the older one the vendor's own words (`status`): both are sent.
fn refuse(error: &str, description: &str) -> Answer {
    let status = if error == "invalid_grant" { "BAD_REFRESH_TOKEN" } else { "BAD_CLIENT_ID" };
    Answer::with_status(
        StatusCode::BAD_REQUEST,
        json!({
            "status": status,
            "message": description,
            "error": error,
            "error_description": description,
            "correlationId": CORRELATION_ID,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(rotate: bool) -> Tokens {
        let oauth = OauthOptions {
            client_id: "app".into(),
            client_secret: "secret".into(),
            refresh_token: "first".into(),
            access_token_seconds: 60,
            rotate,
        };
        Tokens::new("private".into(), Some(oauth))
    }

    fn refresh(tokens: &mut Tokens, token: &str, now_ms: i64) -> Answer {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("client_secret", "secret"),
            ("refresh_token", token),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        tokens.grant(&form, 7, now_ms)
    }

    fn text(answer: &Answer, field: &str) -> String {
        answer.body.as_ref().and_then(|body| body[field].as_str()).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_rotated_refresh_token_works_once_and_its_reuse_revokes_the_grant() {
        let mut tokens = tokens(true);
        let first = refresh(&mut tokens, "first", 0);
        let (access, second) = (text(&first, "access_token"), text(&first, "refresh_token"));
        assert_ne!(second, "first");
        assert_eq!((tokens.bearer(&access, 59_999), tokens.bearer(&access, 60_000)), (Bearer::Oauth, Bearer::Expired));
        let third = text(&refresh(&mut tokens, &second, 1_000), "refresh_token");
        assert_eq!(text(&refresh(&mut tokens, "first", 2_000), "error"), "invalid_grant");
        assert_eq!(tokens.bearer(&access, 2_000), Bearer::Expired, "the grant is revoked");
        assert_eq!(text(&refresh(&mut tokens, &third, 3_000), "error"), "invalid_grant", "even the newest one");
        assert_eq!(tokens.bearer("private", 3_000), Bearer::Private);
    }

    #[test]
    fn without_rotation_the_refresh_token_stays() {
        let mut tokens = tokens(false);
        for now_ms in [0, 1_000] {
            assert_eq!(text(&refresh(&mut tokens, "first", now_ms), "refresh_token"), "first");
        }
        assert_eq!(text(&refresh(&mut tokens, "other", 2_000), "error"), "invalid_grant");
    }
}
