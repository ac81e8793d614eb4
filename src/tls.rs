//! Certificates and keys from PEM, and what a failed handshake says, in our words. Reads no file, opens no connection.

use std::{error::Error as StdError, io, sync::Arc};

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode as _};

use crate::error_class::Class;

/// Why PEM text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No certificate, or one that is none.
    #[error("the file of authorities holds no certificate in PEM")]
    Authorities,
    /// No certificate, or one that is none.
    #[error("the certificate file holds no certificate in PEM")]
    Certificate,
    /// No private key that rustls can sign with.
    #[error("the key file holds no usable private key in PEM")]
    Key,
    /// Half of a pair was replaced, or the wrong file is named.
    #[error("certificate and key do not belong together")]
    Pair,
}

impl Error {
    /// Another file mends them.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Authorities | Self::Certificate | Self::Key | Self::Pair => Class::Invalid,
        }
    }
}

/// Our certificate, with its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// To sign with.
    pub key: Arc<CertifiedKey>,
    /// When it ends.
    pub not_after: Option<Timestamp>,
}

/// The one provider of ciphers.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The authorities of a PEM file, or Mozilla's.
///
/// # Errors
/// `Authorities`.
pub fn authorities(pem: Option<&[u8]>) -> Result<RootCertStore, Error> {
    let Some(pem) = pem else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        added.ok_or(Error::Authorities)?;
    }
    if roots.is_empty() { Err(Error::Authorities) } else { Ok(roots) }
}

/// A certificate (and those between it and its authority) with its key.
///
/// # Errors
/// `Certificate`, `Key` or `Pair`.
pub fn client_certificate(certificate_pem: &[u8], key_pem: &[u8]) -> Result<ClientCertificate, Error> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(|_| Error::Certificate)?;
    let own = chain.first().ok_or(Error::Certificate)?;
    let not_after = Some(not_after(own).ok_or(Error::Certificate)?);
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| Error::Key)?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Error::Pair,
        _ => Error::Key,
    })?;
    Ok(ClientCertificate { key: Arc::new(key), not_after })
}

/// When a certificate ends.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let since_epoch = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(since_epoch.as_secs()).ok()?).ok()
}

/// What a failed handshake says, if that is why something failed; never the other side's text (R18).
#[must_use]
pub fn reason(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    use AlertDescription as Alert;
    Some(match handshake(error)? {
        rustls::Error::InvalidCertificate(refusal) => of_certificate(refusal),
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => "TLS: the server demands a client certificate",
            Alert::CertificateExpired => "TLS: the server says that our client certificate has expired",
            Alert::CertificateRevoked => "TLS: the server says that our client certificate is revoked",
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError => "TLS: the server refuses our client certificate",
            Alert::UnrecognisedName => "TLS: the server does not know the server name",
            _ => "TLS: the server broke the handshake off",
        },
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS here",
        rustls::Error::PeerIncompatible(_) => "TLS: no version or cipher in common",
        _ => "TLS: the handshake failed",
    })
}

fn of_certificate(refusal: &CertificateError) -> &'static str {
    use CertificateError as Refusal;
    match refusal {
        Refusal::Expired | Refusal::ExpiredContext { .. } => "TLS: the server's certificate has expired",
        Refusal::NotValidYet | Refusal::NotValidYetContext { .. } => "TLS: the server's certificate is not valid yet",
        Refusal::NotValidForName | Refusal::NotValidForNameContext { .. } => {
            "TLS: the server's certificate is for another name"
        }
        Refusal::UnknownIssuer | Refusal::BadSignature => {
            "TLS: the server's certificate is of an authority that we do not trust"
        }
        _ => "TLS: the server's certificate is not acceptable",
    }
}

fn handshake<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` of an I/O error steps over the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_needs_its_own_key_and_says_when_it_ends() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let usable = client_certificate(certificate.as_bytes(), key.as_bytes()).expect("a pair");
        assert_eq!(usable.not_after.map(|end| end.to_string()), Some("4096-01-01T00:00:00Z".to_owned()));
        let refused = |certificate: &str, key: &str| client_certificate(certificate.as_bytes(), key.as_bytes()).err();
        assert_eq!(refused(&certificate, &other), Some(Error::Pair));
        assert_eq!(refused(&certificate, &certificate), Some(Error::Key));
        assert_eq!(refused(&key, &key), Some(Error::Certificate));
        let half = &certificate[..certificate.len() / 2];
        assert_eq!(refused(half, &key), Some(Error::Certificate), "half written");
    }

    #[test]
    fn authorities_are_the_files_or_mozillas() {
        assert!(authorities(None).is_ok_and(|roots| roots.len() > 100));
        assert!(authorities(Some(pair().0.as_bytes())).is_ok_and(|roots| roots.len() == 1));
        assert_eq!(authorities(Some(b"canary")).err(), Some(Error::Authorities));
    }

    #[test]
    fn a_handshakes_reason_is_found_within_other_errors() {
        let of = |cause: rustls::Error| {
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, cause));
            reason(&error)
        };
        assert_eq!(
            of(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)),
            Some("TLS: the server's certificate is for another name")
        );
        assert_eq!(
            of(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            Some("TLS: the server refuses our client certificate")
        );
        assert_eq!(reason(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
