//! How Temporal and we know each other: TLS, our certificate, an API key. From settings to a checked plan (pure), and from key
//! files to what the SDK takes. A connection outlives its files: authorities and certificate are asked for at each handshake,
//! the API key is set when its file changes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use temporalio_client::{TlsOptions, errors::ClientConnectError, tonic::Code};
use url::Url;

use super::Error;
use crate::{
    key_files::{KeyFile, KeyFiles, Material},
    settings::TemporalSettings,
    tls::{self, ClientCertificate},
};

/// What settings ask for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where to connect. Always `http`: TLS is spoken by a connector of its own, and tonic adds none to it.
    pub(super) target: Url,
    tls: bool,
    server_name: Option<String>,
    authorities: Option<PathBuf>,
    pair: Option<(PathBuf, PathBuf)>,
    api_key: Option<PathBuf>,
}

impl Plan {
    /// Checks that settings go together.
    ///
    /// # Errors
    /// `Address`, or `Setting` with the flag to look at.
    pub fn of(settings: &TemporalSettings) -> Result<Self, Error> {
        let wanted = &settings.tls;
        let (scheme, target) = target(&settings.temporal_address)?;
        let needs_tls = [
            ("--temporal-api-key-file", wanted.temporal_api_key_file.is_some()),
            ("--temporal-tls-client-cert-path", wanted.temporal_tls_client_cert_path.is_some()),
            ("--temporal-tls-client-key-path", wanted.temporal_tls_client_key_path.is_some()),
            ("--temporal-tls-server-ca-cert-path", wanted.temporal_tls_server_ca_cert_path.is_some()),
            ("--temporal-tls-server-name", wanted.temporal_tls_server_name.is_some()),
        ];
        let needs_tls = needs_tls.into_iter().find_map(|(flag, given)| given.then_some(flag));
        let setting = |flag, problem| Err(Error::Setting { flag, problem });
        match (wanted.temporal_tls, scheme, needs_tls) {
            (Some(false), _, Some(flag)) => return setting(flag, "is never used without TLS; take --temporal-tls=false away"),
            (Some(false), Some(Scheme::Https), None) => {
                return setting("--temporal-tls", "is false, and --temporal-address says https");
            }
            (_, Some(Scheme::Http), Some(flag)) => {
                return setting(flag, "is never used without TLS; --temporal-address must not say http://");
            }
            (Some(true), Some(Scheme::Http), None) => {
                return setting("--temporal-tls", "is true, and --temporal-address says http");
            }
            _ => {}
        }
        let pair = match (&wanted.temporal_tls_client_cert_path, &wanted.temporal_tls_client_key_path) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) => return setting("--temporal-tls-client-cert-path", "needs --temporal-tls-client-key-path"),
            (None, Some(_)) => return setting("--temporal-tls-client-key-path", "needs --temporal-tls-client-cert-path"),
            (None, None) => None,
        };
        let named = wanted.temporal_tls_server_name.clone();
        if named.as_deref().is_some_and(|name| ServerName::try_from(name).is_err()) {
            return setting("--temporal-tls-server-name", "is not a host name");
        }
        let tls = wanted.temporal_tls.unwrap_or(scheme == Some(Scheme::Https) || needs_tls.is_some());
        // Also the request's `:authority`. The SDK takes an IPv6 address from the target only.
        let of_address = target.host_str().filter(|host| !host.starts_with('[')).map(str::to_owned);
        Ok(Self {
            target,
            tls,
            server_name: named.or(of_address),
            authorities: wanted.temporal_tls_server_ca_cert_path.clone(),
            pair,
            api_key: wanted.temporal_api_key_file.clone(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// The scheme, if one is written, and the target without it.
fn target(address: &str) -> Result<(Option<Scheme>, Url), Error> {
    let (scheme, rest) = match address.split_once("://") {
        None => (None, address),
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(_) => return Err(Error::Address),
    };
    let url = Url::parse(&format!("http://{rest}")).map_err(|_| Error::Address)?;
    if url.host_str().is_some_and(|host| !host.is_empty()) { Ok((scheme, url)) } else { Err(Error::Address) }
}

/// What handshakes are made with.
#[derive(Debug)]
struct Identity {
    verifier: Arc<WebPkiServerVerifier>,
    certificate: Option<ClientCertificate>,
}

impl Material for Identity {
    fn not_after(&self) -> Option<jiff::Timestamp> {
        self.certificate.as_ref().and_then(|certificate| certificate.not_after)
    }
}

impl Identity {
    fn of(authorities: Option<&[u8]>, pair: Option<(&[u8], &[u8])>) -> Result<Self, tls::Error> {
        let roots = Arc::new(tls::authorities(authorities)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, tls::provider()).build();
        let certificate = pair.map(|(certificate, key)| tls::client_certificate(certificate, key)).transpose()?;
        Ok(Self { verifier: verifier.map_err(|_| tls::Error::Authorities)?, certificate })
    }
}

/// An API key; its Debug shows nothing.
struct ApiKey(String);

impl Material for ApiKey {}

impl ApiKey {
    fn of(content: &[u8]) -> Result<Self, String> {
        let key = content.trim_ascii();
        // The SDK leaves a header out that it cannot write.
        match std::str::from_utf8(key) {
            Ok(text) if !key.is_empty() && key.iter().all(u8::is_ascii_graphic) => Ok(Self(text.to_owned())),
            _ => Err("the file holds no API key, or characters that no key has".to_owned()),
        }
    }
}

/// What a connection shows and asks for, as its files have it now.
pub(super) struct Access {
    tls: Option<(Arc<Presented>, Option<String>)>,
    api_key: Option<KeyFile<ApiKey>>,
}

impl Access {
    /// Reads the plan's files, and watches them as long as this lives.
    pub(super) async fn load(plan: &Plan, files: &KeyFiles) -> Result<Self, Error> {
        let tls = if plan.tls {
            let identity = identity(plan, files).await?;
            let presented = Presented { identity, asked: AtomicBool::new(false) };
            Some((Arc::new(presented), plan.server_name.clone()))
        } else {
            None
        };
        let api_key = match &plan.api_key {
            Some(path) => {
                let build = |content: &[Vec<u8>]| ApiKey::of(&content[0]);
                Some(files.load("Temporal API key", vec![path.clone()], build).await.map_err(Error::KeyFiles)?)
            }
            None => None,
        };
        Ok(Self { tls, api_key })
    }

    pub(super) fn tls_options(&self) -> Option<TlsOptions> {
        self.tls.as_ref().map(|(presented, server_name)| {
            let trust: Arc<dyn ServerCertVerifier> = Arc::new(Trust(presented.identity.clone()));
            let resolver: Arc<dyn ResolvesClientCert> = presented.clone();
            TlsOptions::builder()
                .server_cert_verifier(trust)
                .client_cert_resolver(resolver)
                .maybe_domain(server_name.clone())
                .build()
        })
    }

    pub(super) fn api_key(&self) -> Option<String> {
        self.api_key.as_ref().map(|key| key.current().0.clone())
    }

    /// Hands each later API key to `set`, until this is gone.
    pub(super) fn follow_api_key(&self, set: impl Fn(String) + Send + 'static) {
        if let Some(key) = &self.api_key {
            tokio::spawn(key.follow(move |key: &ApiKey| set(key.0.clone())));
        }
    }

    /// Why a connection could not be made. A server that refuses our certificate says so after the handshake, in words that
    /// the HTTP/2 layer swallows; that it asked for one is what we know.
    pub(super) fn refusal(&self, error: &ClientConnectError) -> Error {
        let (reason, code) = match error {
            ClientConnectError::SystemInfoCallError(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => return Error::from_status("connect", status),
                code => (tls::reason(status), format!("{code:?}")),
            },
            ClientConnectError::TonicTransportError(error) => (tls::reason(error), "connection".to_owned()),
            ClientConnectError::DnsResolutionError { .. } => (None, "name resolution".to_owned()),
            _ => (None, "options".to_owned()),
        };
        let asked = self.tls.as_ref().filter(|(presented, _)| presented.asked.load(Ordering::Relaxed));
        let asked = asked.map(|(presented, _)| match presented.identity.current().certificate {
            Some(_) => "TLS: the server asked for our client certificate and does not go on with it",
            None => "TLS: the server asks for a client certificate: --temporal-tls-client-cert-path",
        });
        Error::Unavailable { attempted: "connect", code: reason.or(asked).map_or(code, str::to_owned) }
    }
}

async fn identity(plan: &Plan, files: &KeyFiles) -> Result<KeyFile<Identity>, Error> {
    let pair = plan.pair.iter().flat_map(|(certificate, key)| [certificate, key]);
    let paths = plan.authorities.iter().chain(pair).cloned().collect();
    let has_authorities = plan.authorities.is_some();
    let build = move |content: &[Vec<u8>]| {
        let (authorities, pair) = content.split_at(usize::from(has_authorities));
        let pair = pair.first().zip(pair.get(1)).map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
        Identity::of(authorities.first().map(Vec::as_slice), pair).map_err(|error| error.to_string())
    };
    files.load("Temporal TLS", paths, build).await.map_err(Error::KeyFiles)
}

/// Shows the newest certificate.
#[derive(Debug)]
struct Presented {
    identity: KeyFile<Identity>,
    /// The server asked for one at least once.
    asked: AtomicBool,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.current().certificate.as_ref().map(|certificate| Arc::clone(&certificate.key))
    }

    fn has_certs(&self) -> bool {
        self.identity.current().certificate.is_some()
    }
}

/// Trusts the newest authorities.
#[derive(Debug)]
struct Trust(KeyFile<Identity>);

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.current().verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.current().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.current().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.current().verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TemporalTlsSettings;

    fn plan(address: &str, edit: impl FnOnce(&mut TemporalTlsSettings)) -> Result<Plan, Error> {
        let mut tls = TemporalTlsSettings::default();
        edit(&mut tls);
        Plan::of(&TemporalSettings {
            temporal_address: address.to_owned(),
            temporal_namespace: "name.account".to_owned(),
            cluster_id: None,
            tls,
        })
    }

    fn flag(plan: Result<Plan, Error>) -> &'static str {
        match plan {
            Err(Error::Setting { flag, .. }) => flag,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_is_host_and_port_or_a_url() {
        let of = |address| plan(address, |_| {}).map(|plan| (String::from(plan.target), plan.tls));
        assert_eq!(of("temporal:7233"), Ok(("http://temporal:7233/".to_owned(), false)));
        assert_eq!(of("https://eu.example:7233"), Ok(("http://eu.example:7233/".to_owned(), true)));
        assert_eq!(of("http://eu.example:7233"), Ok(("http://eu.example:7233/".to_owned(), false)));
        for wrong in ["", "ftp://a:1", "https://"] {
            assert_eq!(of(wrong), Err(Error::Address), "{wrong}");
        }
    }

    #[test]
    fn whatever_needs_tls_brings_it_and_never_goes_without() {
        let key = |tls: &mut TemporalTlsSettings| tls.temporal_api_key_file = Some("/key".into());
        assert!(plan("ns.acct.tmprl.cloud:7233", key).is_ok_and(|plan| plan.tls));
        assert_eq!(flag(plan("http://ns.acct.tmprl.cloud:7233", key)), "--temporal-api-key-file");
        let refused = plan("a:1", |tls| {
            key(tls);
            tls.temporal_tls = Some(false);
        });
        let text = refused.as_ref().expect_err("in clear").to_string();
        assert_eq!(text, "--temporal-api-key-file is never used without TLS; take --temporal-tls=false away");
        assert_eq!(flag(refused), "--temporal-api-key-file");
        assert!(plan("a:1", |tls| tls.temporal_tls_server_name = Some("b".to_owned())).is_ok_and(|plan| plan.tls));
        assert!(plan("a:1", |tls| tls.temporal_tls = Some(true)).is_ok_and(|plan| plan.tls));
        assert_eq!(flag(plan("https://a:1", |tls| tls.temporal_tls = Some(false))), "--temporal-tls");
        assert_eq!(flag(plan("http://a:1", |tls| tls.temporal_tls = Some(true))), "--temporal-tls");
    }

    #[test]
    fn half_a_pair_names_the_flag_that_stands_alone() {
        let certificate = plan("a:1", |tls| tls.temporal_tls_client_cert_path = Some("/c".into()));
        assert_eq!(flag(certificate), "--temporal-tls-client-cert-path");
        let key = plan("a:1", |tls| tls.temporal_tls_client_key_path = Some("/k".into()));
        assert_eq!(flag(key), "--temporal-tls-client-key-path");
        let name = plan("a:1", |tls| tls.temporal_tls_server_name = Some("a b".to_owned()));
        assert_eq!(flag(name), "--temporal-tls-server-name");
    }

    #[test]
    fn an_api_key_is_one_word_whatever_stands_around_it() {
        assert_eq!(ApiKey::of(b" key.of-one_word\n").map(|key| key.0), Ok("key.of-one_word".to_owned()));
        for wrong in [&b"\n"[..], b"two words", b"\xff", b"a\0b"] {
            assert!(ApiKey::of(wrong).is_err_and(|problem| !problem.contains("two")));
        }
    }
}
