//! Connections: URL, TLS, pool, and the limits that every transaction sets for itself (R19). Knows no tables.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Transaction};
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::Fault;
use crate::store::Error;

/// No more connections than activity slots (R37, R41).
const CONNECTIONS: usize = 10;
/// Waiting for a free connection, or for a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Unacknowledged data after which the kernel gives a connection up: a stopped host must not hold an activity (R19).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Set in every transaction and gone with it, so that a pooler between us and the server sees no session state.
const LIMITS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '4min';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Begins a transaction with its limits.
pub(super) async fn begin(client: &mut deadpool_postgres::Client) -> Result<Transaction<'_>, Fault> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LIMITS).await?;
    Ok(transaction)
}

/// A pool for this URL; connects to nothing yet.
pub(super) fn pool(url: &str) -> Result<Pool, Error> {
    let (url, tls) = split_tls(url)?;
    let mut config = tokio_postgres::Config::from_str(&url).map_err(|_| Error::Url)?;
    config.ssl_mode(tls.mode);
    if config.get_application_name().is_none() {
        config.application_name("gtm-sync");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, tls.connector()?, recycling);
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .map_err(|_| Error::Unavailable { attempted: "connect", code: "pool".to_owned() })
}

/// What the URL says about TLS.
#[derive(Debug, PartialEq)]
struct Tls {
    mode: SslMode,
    verify: bool,
    root_certificates: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of the URL; the driver knows neither `verify-full` nor certificates.
/// As libpq has it, `prefer` (the default) and `require` encrypt without asking who answers, unless a root certificate
/// is given; `verify-full` asks always, against the public authorities if none is given.
fn split_tls(url: &str) -> Result<(String, Tls), Error> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut tls = Tls { mode: SslMode::Prefer, verify: false, root_certificates: None };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = url::form_urlencoded::parse(pair.as_bytes()).next() else { continue };
        match (&*name, &*value) {
            ("sslmode", "disable") => tls.mode = SslMode::Disable,
            ("sslmode", "prefer") => tls.mode = SslMode::Prefer,
            ("sslmode", "require") => tls.mode = SslMode::Require,
            ("sslmode", "verify-full") => (tls.mode, tls.verify) = (SslMode::Require, true),
            ("sslmode", _) => return Err(tls_error("sslmode must be disable, prefer, require or verify-full")),
            ("sslrootcert", path) => tls.root_certificates = Some(path.to_owned()),
            _ => rest.push(pair),
        }
    }
    tls.verify |= tls.mode == SslMode::Require && tls.root_certificates.is_some();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((format!("{address}{query}"), tls))
}

impl Tls {
    fn connector(&self) -> Result<MakeRustlsConnect, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        if self.verify && self.root_certificates.is_none() {
            // The constructor of the public authorities asks for the process's provider; another caller may have set it.
            drop(rustls::crypto::ring::default_provider().install_default());
            return Ok(MakeRustlsConnect::with_webpki_roots());
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| tls_error("protocol versions"))?;
        let config = match self.root_certificates.as_deref().filter(|_| self.verify) {
            Some(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
                .with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

fn tls_error(code: &str) -> Error {
    Error::Refused { attempted: "set up TLS", code: code.to_owned() }
}

fn read_roots(path: &str) -> Result<RootCertStore, Error> {
    let unreadable = || tls_error("sslrootcert");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
        roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    }
    if roots.is_empty() { Err(unreadable()) } else { Ok(roots) }
}

/// Takes any certificate: `prefer` and `require` guard against listeners, not against impostors.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str) -> (String, Tls) {
        split_tls(url).expect("a known mode")
    }

    #[test]
    fn the_url_says_how_much_tls() {
        let base = "postgres://user:p%40ss@host/db";
        let wanted = |mode, verify| Tls { mode, verify, root_certificates: None };
        assert_eq!(tls(base), (base.to_owned(), wanted(SslMode::Prefer, false)));
        assert_eq!(tls(&format!("{base}?sslmode=disable")).1, wanted(SslMode::Disable, false));
        assert_eq!(tls(&format!("{base}?sslmode=require")).1, wanted(SslMode::Require, false));
        let (rest, full) = tls(&format!("{base}?application_name=a%20b&sslmode=verify-full&connect_timeout=3"));
        assert_eq!(rest, format!("{base}?application_name=a%20b&connect_timeout=3"));
        assert_eq!(full, wanted(SslMode::Require, true));
        let (_, given) = tls(&format!("{base}?sslmode=require&sslrootcert=%2Fetc%2Fca.pem"));
        assert!(given.verify && given.root_certificates.as_deref() == Some("/etc/ca.pem"));
        let unknown = split_tls(&format!("{base}?sslmode=verify-ca")).expect_err("checks the chain and not the name");
        assert!(unknown.to_string().contains("verify-full") && !unknown.to_string().contains("host"), "{unknown}");
    }

    #[test]
    fn every_mode_makes_a_connector_and_a_missing_root_certificate_is_told() {
        for mode in ["disable", "prefer", "require", "verify-full"] {
            assert!(pool(&format!("postgres://host/db?sslmode={mode}")).is_ok(), "{mode}");
        }
        let missing = pool("postgres://host/db?sslmode=verify-full&sslrootcert=/nonexistent");
        assert!(matches!(missing, Err(Error::Refused { code, .. }) if code == "sslrootcert"));
        assert!(matches!(pool("postgres://host:no-port/db"), Err(Error::Url)));
    }
}
