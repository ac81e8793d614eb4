//! Sealing (operator) and opening (worker) of credentials with age (X25519).
//! age has no associated data, so the plaintext is an envelope that says what it is for; the worker compares it (R14).

use std::{io::Read as _, iter, path::Path, str::FromStr};

use age::x25519;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    error_class::Class,
    ids::{ConnectorId, TenantId},
    key_files::{self, KeyFile, KeyFiles, Material},
    model::config::SecretFields,
};

/// Prefix of the text form, so that a sealed string is recognised in YAML.
const TEXT_PREFIX: &str = "gtmseal1:";

/// Name of the shared pool's recipient; a tenant's own follows after a dot, which no tenant id has.
const RECIPIENT: &str = "recipient";

/// Why a credential cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an age X25519 recipient (`age1…`).
    #[error("not an age recipient")]
    Recipient,
    /// Not an age X25519 identity (`AGE-SECRET-KEY-1…`).
    #[error("not an age identity")]
    Identity,
    /// No identity at hand opens it.
    #[error("sealed with key {0}, for which this worker has no identity")]
    NoIdentity(String),
    /// Not a sealed credential.
    #[error("not a sealed credential")]
    Malformed,
    /// Sealed for something else (R14).
    #[error("credential was sealed for another {0}")]
    ForAnother(&'static str),
}

impl Error {
    /// Waiting mends none of them.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Recipient | Self::Identity | Self::Malformed | Self::ForAnother(_) => Class::Invalid,
            Self::NoIdentity(_) => Class::Unauthorised,
        }
    }
}

/// A credential sealed to a pool's recipient. The key id stands beside the ciphertext because age hides it and rotation
/// must list what still uses an old key (R14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// First 16 hex digits of the recipient's SHA-256.
    pub key_id: String,
    /// age ciphertext of the envelope's JSON.
    #[serde(with = "base64_bytes")]
    pub ciphertext: Vec<u8>,
}

impl Sealed {
    /// `gtmseal1:<key id>:<base64>`, safe in Git and in `spec.credentials.sealed`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{TEXT_PREFIX}{}:{}", self.key_id, BASE64.encode(&self.ciphertext))
    }
}

impl FromStr for Sealed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let rest = text.trim().strip_prefix(TEXT_PREFIX).ok_or(Error::Malformed)?;
        let (key_id, encoded) = rest.split_once(':').ok_or(Error::Malformed)?;
        let ciphertext = BASE64.decode(encoded).map_err(|_| Error::Malformed)?;
        Ok(Self { key_id: key_id.to_owned(), ciphertext })
    }
}

/// The plaintext: the fields and what they are for. Debug shows no field's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The only tenant that may use it.
    pub tenant_id: TenantId,
    /// The only connector that may use it.
    pub connector_id: ConnectorId,
    /// Hosts it may be sent to, `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Key it is sealed with, again.
    pub key_id: String,
    /// The secret values.
    pub fields: SecretFields,
}

impl Envelope {
    /// Compares the envelope with what the caller is about to do.
    ///
    /// # Errors
    /// `ForAnother` naming what differs.
    pub fn check(&self, tenant: &TenantId, connector: &ConnectorId, host: &str) -> Result<(), Error> {
        self.check_owner(tenant, connector)?;
        if !self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) {
            return Err(Error::ForAnother("host"));
        }
        Ok(())
    }

    /// Compares whose it is, for a caller that sends it nowhere.
    ///
    /// # Errors
    /// `ForAnother` naming what differs.
    pub fn check_owner(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<(), Error> {
        if &self.tenant_id != tenant {
            return Err(Error::ForAnother("tenant"));
        }
        if &self.connector_id != connector {
            return Err(Error::ForAnother("connector"));
        }
        Ok(())
    }
}

/// Seals to one recipient.
#[derive(Clone, PartialEq)]
pub struct Sealer {
    recipient: x25519::Recipient,
    key_id: String,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Sealer({})", self.key_id)
    }
}

impl Sealer {
    /// For a recipient `age1…`.
    ///
    /// # Errors
    /// `Recipient` if it is not one.
    pub fn new(recipient: &str) -> Result<Self, Error> {
        let recipient = x25519::Recipient::from_str(recipient.trim()).map_err(|_| Error::Recipient)?;
        let key_id = key_id(&recipient);
        Ok(Self { recipient, key_id })
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The recipient, as text.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.recipient.to_string()
    }

    /// Seals an envelope, whose `key_id` is set to this key's.
    #[must_use]
    pub fn seal(&self, mut envelope: Envelope) -> Sealed {
        envelope.key_id.clone_from(&self.key_id);
        let plaintext = serde_json::to_vec(&envelope).expect("an envelope is plain text fields");
        let ciphertext =
            age::encrypt(&self.recipient, &plaintext).expect("encrypting into memory to one valid recipient");
        Sealed { key_id: self.key_id.clone(), ciphertext }
    }
}

/// Opens with the identities of one pool; old ones stay until all is resealed. Clones share what a file has now.
#[derive(Clone)]
pub struct Opener {
    identities: KeyFile<Identities>,
}

/// Key ids and identities, in the file's order.
struct Identities(Vec<(String, x25519::Identity)>);

impl Material for Identities {}

impl Identities {
    fn of(identity_file: &str) -> Result<Self, Error> {
        let identities = identity_file
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let identity = x25519::Identity::from_str(line).map_err(|_| Error::Identity)?;
                Ok((key_id(&identity.to_public()), identity))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if identities.is_empty() { Err(Error::Identity) } else { Ok(Self(identities)) }
    }

    fn key_ids(&self) -> Vec<&str> {
        self.0.iter().map(|(key_id, _)| key_id.as_str()).collect()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.identities.current().key_ids()).finish()
    }
}

impl Opener {
    /// From an identity file: one `AGE-SECRET-KEY-1…` a line, `#` starts a comment.
    ///
    /// # Errors
    /// `Identity` if a line is something else or there is none.
    pub fn new(identity_file: &str) -> Result<Self, Error> {
        Ok(Self { identities: KeyFile::fixed("identities", Identities::of(identity_file)?) })
    }

    /// From an identity file, and from what it holds later.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub async fn from_file(path: &Path, files: &KeyFiles) -> Result<Self, key_files::Error> {
        let build = |content: &[Vec<u8>]| {
            let identities =
                Identities::of(&String::from_utf8_lossy(&content[0])).map_err(|error| error.to_string())?;
            tracing::info!(keys = ?identities.key_ids(), "identities that open credentials; the first seals");
            Ok(identities)
        };
        Ok(Self { identities: files.load("identities", vec![path.to_owned()], build).await? })
    }

    /// Whether an identity with this key id is at hand.
    #[must_use]
    pub fn knows(&self, key_id: &str) -> bool {
        self.identities.current().0.iter().any(|(known, _)| known == key_id)
    }

    /// Seals back to the first identity, for refreshed tokens.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        let identities = self.identities.current();
        let (key_id, identity) = &identities.0[0];
        Sealer { recipient: identity.to_public(), key_id: key_id.clone() }
    }

    /// Opens a sealed credential.
    ///
    /// # Errors
    /// `NoIdentity` when no identity fits, `Malformed` when the content is not an envelope.
    pub fn open(&self, sealed: &Sealed) -> Result<Envelope, Error> {
        let missing = || Error::NoIdentity(sealed.key_id.clone());
        let identities = self.identities.current();
        let (_, identity) = identities.0.iter().find(|(key_id, _)| key_id == &sealed.key_id).ok_or_else(missing)?;
        let decryptor = age::Decryptor::new(sealed.ciphertext.as_slice()).map_err(|_| Error::Malformed)?;
        let mut reader = decryptor.decrypt(iter::once(identity as &dyn age::Identity)).map_err(|_| missing())?;
        let mut plaintext = Vec::new();
        reader.read_to_end(&mut plaintext).map_err(|_| Error::Malformed)?;
        let envelope: Envelope = serde_json::from_slice(&plaintext).map_err(|_| Error::Malformed)?;
        if envelope.key_id == sealed.key_id { Ok(envelope) } else { Err(Error::ForAnother("key")) }
    }
}

/// Where a pool's recipient stands among the others: a key of the operator's ConfigMap, and a file where that is mounted.
/// `None` = the shared pool.
#[must_use]
pub fn recipient_name(dedicated: Option<&TenantId>) -> String {
    dedicated.map_or_else(|| RECIPIENT.to_owned(), |tenant| format!("{RECIPIENT}.{tenant}"))
}

/// A new identity and its recipient, as text.
#[must_use]
pub fn generate_identity() -> (String, String) {
    use age::secrecy::ExposeSecret as _;
    let identity = x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

/// Keyed digest of a credential's content: equal content has an equal digest, and nobody without the key can test a guess (R7).
#[must_use]
pub fn content_digest(key: &[u8], envelope: &Envelope) -> String {
    let plaintext = serde_json::to_vec(envelope).expect("an envelope is plain text fields");
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&plaintext);
    hex(&mac.finalize().into_bytes())
}

fn key_id(recipient: &x25519::Recipient) -> String {
    hex(&Sha256::digest(recipient.to_string().as_bytes())[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            tenant_id: "acme".parse().expect("id"),
            connector_id: "hubspot".parse().expect("id"),
            allowed_hosts: vec!["crm.example:443".to_owned()],
            key_id: String::new(),
            fields: SecretFields([("accessToken".to_owned(), "canary".to_owned())].into()),
        }
    }

    #[test]
    fn only_the_identity_opens_and_the_envelope_binds_tenant_connector_and_host() {
        let (identity, recipient) = generate_identity();
        let sealed = Sealer::new(&recipient).expect("recipient").seal(envelope());
        let opener = Opener::new(&format!("# pool key\n{identity}\n")).expect("identity");
        let opened = opener.open(&sealed.to_text().parse().expect("text form")).expect("own key");
        assert_eq!(opened.fields, envelope().fields);
        let (tenant, connector) = (&opened.tenant_id, &opened.connector_id);
        assert_eq!(opened.check(tenant, connector, "CRM.example:443"), Ok(()));
        assert_eq!(
            opened.check(&"evil".parse().expect("id"), connector, "crm.example:443"),
            Err(Error::ForAnother("tenant"))
        );
        assert_eq!(opened.check(tenant, connector, "evil.example"), Err(Error::ForAnother("host")));

        let other = Opener::new(&generate_identity().0).expect("identity");
        assert_eq!(other.open(&sealed), Err(Error::NoIdentity(sealed.key_id.clone())));
    }

    #[test]
    fn debug_shows_no_secret_and_digests_tell_content_not_ciphertext() {
        assert!(!format!("{:?}", envelope()).contains("canary"));
        let (_, recipient) = generate_identity();
        let sealer = Sealer::new(&recipient).expect("recipient");
        assert_ne!(sealer.seal(envelope()), sealer.seal(envelope()));
        assert_eq!(content_digest(b"key", &envelope()), content_digest(b"key", &envelope()));
        assert_ne!(content_digest(b"key", &envelope()), content_digest(b"yek", &envelope()));
    }
}
