//! Pseudonyms: a keyed hash instead of a text, equal for equal texts of one tenant and of no use to any other.
//! Keeps nothing; who holds the store's installation id can test a guess, nobody else can.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::ids::TenantId;

/// The key of one tenant's pseudonyms. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PseudonymKey([u8; 32]);

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PseudonymKey(..)")
    }
}

impl PseudonymKey {
    /// The tenant's key in this installation: derived, not drawn, so that rows written before a rebuild of the cluster
    /// on the same store still join those written after it.
    #[must_use]
    pub fn of(installation_id: &str, tenant: &TenantId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"gtm-sync pseudonym\0");
        hash.update(installation_id.as_bytes());
        hash.update(b"\0");
        hash.update(tenant.as_str().as_bytes());
        Self(hash.finalize().into())
    }

    /// Hex of HMAC-SHA256 over the text, trimmed and in lower case, so that two spellings of an email address are one.
    #[must_use]
    pub fn pseudonym(&self, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(text.trim().to_lowercase().as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(installation: &str, tenant: &str) -> PseudonymKey {
        PseudonymKey::of(installation, &tenant.parse().expect("id"))
    }

    #[test]
    fn equal_addresses_of_one_tenant_are_equal_and_those_of_others_are_not() {
        let acme = key("installation", "acme");
        let ada = acme.pseudonym("ada@example.com");
        assert_eq!(ada.len(), 64);
        assert_eq!(acme.pseudonym(" ADA@Example.com\n"), ada);
        assert_ne!(acme.pseudonym("bob@example.com"), ada);
        for other in [key("installation", "initech"), key("another", "acme")] {
            assert_ne!(other.pseudonym("ada@example.com"), ada);
        }
        assert_eq!(format!("{acme:?}"), "PseudonymKey(..)");
    }

    #[test]
    fn a_pseudonym_never_changes_between_releases() {
        // Computed once with Python's hashlib and hmac.
        let expected = "6aacb92cd03f2bab98388b26836157c44019c047f283fd64bbe2ab21f9f2e954";
        assert_eq!(key("i", "acme").pseudonym("ada@example.com"), expected);
    }
}
