//! From `spec.credentials` to a sealed base credential: which Secret to get, and what its content must hold. Pure.

use sha2::{Digest as _, Sha256};

use super::Input;
use crate::{
    crd::{Credentials, SecretRef, conditions::reason},
    credentials::{Envelope, Sealed, Sealer, recipient_name, seal::content_digest},
    model::config::SecretFields,
    operator::world::Request,
    store::BaseCredential,
};

/// Field of an access token that never expires (HubSpot: private app).
const ACCESS_TOKEN: &str = "accessToken";
/// Fields of an OAuth grant.
const OAUTH_FIELDS: [&str; 3] = ["clientId", "clientSecret", "refreshToken"];

/// Why there is no usable credential; shown as a condition, never with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Of `Ready=False`.
    pub reason: &'static str,
    /// Names what is missing.
    pub message: String,
}

/// The workers that are to open the credential.
#[derive(Debug, Clone)]
pub enum SealsTo {
    /// Those of all tenants.
    Shared,
    /// The tenant's own.
    Own(Sealer),
}

impl SealsTo {
    fn sealer<'a>(&'a self, input: &'a Input) -> &'a Sealer {
        match self {
            Self::Shared => &input.vault.sealer,
            Self::Own(sealer) => sealer,
        }
    }
}

/// The Secret to get, if the credential is in one.
#[must_use]
pub fn request(input: &Input) -> Option<Request> {
    match &input.spec.credentials {
        Credentials::SecretRef(reference) => {
            Some(Request::GetSecret { namespace: input.key.namespace.clone(), name: reference.name.clone() })
        }
        Credentials::Sealed(_) => None,
    }
}

/// The credential of a Secret's content; `None` = there is no such Secret.
///
/// # Errors
/// A `Problem` to show.
pub fn from_secret(
    input: &Input,
    seals_to: &SealsTo,
    allowed_hosts: Vec<String>,
    content: Option<SecretFields>,
) -> Result<BaseCredential, Problem> {
    let Credentials::SecretRef(reference) = &input.spec.credentials else {
        return sealed(input, seals_to);
    };
    let content = content.ok_or_else(|| Problem {
        reason: reason::SECRET_NOT_FOUND,
        message: format!("there is no Secret {} in this namespace", reference.name),
    })?;
    let fields = fields(reference, content)?;
    let sealer = seals_to.sealer(input);
    let envelope = Envelope {
        tenant_id: input.spec.tenant_id.clone(),
        connector_id: super::build::connector_id(input),
        allowed_hosts,
        // Not in the digest: under another key the content is the same, and the store tells keys apart by themselves.
        key_id: String::new(),
        fields,
    };
    let digest = content_digest(input.vault.digest_key(), &envelope);
    Ok(BaseCredential { sealed: sealer.seal(envelope), digest })
}

/// The credential of `spec.credentials.sealed`, which only a worker can open.
fn sealed(input: &Input, seals_to: &SealsTo) -> Result<BaseCredential, Problem> {
    let Credentials::Sealed(text) = &input.spec.credentials else {
        return Err(Problem { reason: reason::INVALID_CREDENTIALS, message: "no credential is given".to_owned() });
    };
    let sealed: Sealed = text.parse().map_err(|_| Problem {
        reason: reason::INVALID_CREDENTIALS,
        message: "credentials.sealed is not the output of gtm-sync seal".to_owned(),
    })?;
    let (sealer, tenant) = (seals_to.sealer(input), &input.spec.tenant_id);
    if sealed.key_id != sealer.key_id() {
        let (whose, dedicated) = match seals_to {
            SealsTo::Shared => ("the shared workers hold".to_owned(), None),
            SealsTo::Own(_) => (format!("tenant {tenant} has workers of its own, which hold"), Some(tenant)),
        };
        let message = format!(
            "credentials.sealed was sealed with key {}, {whose} {}: seal it again, to {} of ConfigMap gtm-sync-recipient",
            sealed.key_id,
            sealer.key_id(),
            recipient_name(dedicated),
        );
        return Err(Problem { reason: reason::INVALID_CREDENTIALS, message });
    }
    // Ciphertext that is its own name: it does not change unless the user seals again.
    let digest = Sha256::digest(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(BaseCredential { sealed, digest })
}

/// The fields of a Secret's content, without the newline that editors and `echo` leave at a value's end.
fn fields(reference: &SecretRef, content: SecretFields) -> Result<SecretFields, Problem> {
    let missing = |keys: &str| Problem {
        reason: reason::SECRET_KEY_MISSING,
        message: format!("Secret {} lacks a value for {keys}", reference.name),
    };
    let trimmed = content.0.into_iter().map(|(key, value)| (key, value.trim_end_matches(['\n', '\r']).to_owned()));
    let mut content: std::collections::BTreeMap<_, _> = trimmed.filter(|(_, value)| !value.is_empty()).collect();
    if let Some(key) = &reference.key {
        let value = content.remove(key).ok_or_else(|| missing(&format!("key {key}")))?;
        return Ok(SecretFields([(ACCESS_TOKEN.to_owned(), value)].into()));
    }
    let lacking: Vec<_> = OAUTH_FIELDS.into_iter().filter(|field| !content.contains_key(*field)).collect();
    if content.contains_key(ACCESS_TOKEN) || lacking.is_empty() {
        Ok(SecretFields(content))
    } else if lacking.len() == OAUTH_FIELDS.len() {
        Err(missing("key accessToken (or clientId, clientSecret and refreshToken)"))
    } else {
        Err(missing(&lacking.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pairs: &[(&str, &str)]) -> SecretFields {
        SecretFields(pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn reference(key: Option<&str>) -> SecretRef {
        SecretRef { name: "crm".to_owned(), key: key.map(str::to_owned) }
    }

    #[test]
    fn a_named_key_becomes_the_access_token_without_its_newline() {
        let read = fields(&reference(Some("token")), content(&[("token", "canary\n"), ("other", "x")]));
        assert_eq!(read, Ok(content(&[("accessToken", "canary")])));
    }

    #[test]
    fn without_a_key_every_value_is_a_field_and_a_whole_credential_must_be_there() {
        let whole = content(&[("clientId", "a"), ("clientSecret", "b"), ("refreshToken", "c"), ("note", "d")]);
        assert_eq!(fields(&reference(None), whole.clone()), Ok(whole));
        assert!(fields(&reference(None), content(&[("accessToken", "x")])).is_ok());
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is_shown() {
        let message = |key, pairs: &[(&str, &str)]| {
            let problem = fields(&reference(key), content(pairs)).expect_err("incomplete");
            assert_eq!(problem.reason, reason::SECRET_KEY_MISSING);
            assert!(!problem.message.contains("canary"), "{}", problem.message);
            problem.message
        };
        assert_eq!(message(Some("token"), &[("tokn", "canary")]), "Secret crm lacks a value for key token");
        assert_eq!(message(Some("token"), &[("token", "\n")]), "Secret crm lacks a value for key token");
        let partly = message(None, &[("clientId", "canary"), ("refreshToken", "canary")]);
        assert_eq!(partly, "Secret crm lacks a value for clientSecret");
        let nothing = message(None, &[("token", "canary")]);
        assert_eq!(
            nothing,
            "Secret crm lacks a value for key accessToken (or clientId, clientSecret and refreshToken)"
        );
    }
}
