//! Where PostgreSQL is and how it and we know each other: from URL, settings and key files to the driver's configuration.
//! Opens no connection.

use std::{path::PathBuf, str::FromStr as _, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    ClientConfig,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    key_files::{KeyFile, KeyFiles, Material},
    settings::StoreSettings,
    store::Error,
    tls,
};

/// Waiting for a new connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Unacknowledged data after which the kernel gives a connection up: a stopped host must not hold an activity (R19).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection is made with.
pub(super) struct Link {
    pub(super) config: Config,
    pub(super) connector: MakeRustlsConnect,
    certificate_not_after: Option<Timestamp>,
}

impl Material for Link {
    fn not_after(&self) -> Option<Timestamp> {
        self.certificate_not_after
    }
}

/// Reads what `settings` name and watches it; `url` is the one that they name now.
///
/// # Errors
/// `Url` or `Refused` when it cannot be right, `Unavailable` when files cannot be used yet.
pub(super) async fn load(settings: &StoreSettings, url: &str, files: &KeyFiles) -> Result<KeyFile<Link>, Error> {
    let (plain, tls) = Tls::of(url, settings)?;
    let plan = Plan { place: place(&parse(&plain)?), tls, settings: settings.clone() };
    let paths = plan.paths();
    let unusable = |error: crate::key_files::Error| Error::Unavailable { attempted: "connect", code: error.to_string() };
    files.load("database", paths, move |content| plan.link(content)).await.map_err(unusable)
}

fn parse(url: &str) -> Result<Config, Error> {
    Config::from_str(url).map_err(|_| Error::Url)
}

/// What must stay as it is: credentials may change while a process runs, not the database (R17).
#[derive(Debug, PartialEq)]
struct Place(Vec<tokio_postgres::config::Host>, Vec<std::net::IpAddr>, Vec<u16>, Option<String>);

fn place(config: &Config) -> Place {
    let (hosts, addresses) = (config.get_hosts().to_vec(), config.get_hostaddrs().to_vec());
    Place(hosts, addresses, config.get_ports().to_vec(), config.get_dbname().map(str::to_owned))
}

struct Plan {
    place: Place,
    tls: Tls,
    settings: StoreSettings,
}

impl Plan {
    /// In the order in which `link` takes their content.
    fn paths(&self) -> Vec<PathBuf> {
        let Tls { authorities, pair, .. } = &self.tls;
        let pair = pair.iter().flat_map(|(certificate, key)| [certificate, key]);
        let credentials = [&self.settings.database_url_file, &self.settings.database_password_file];
        credentials.into_iter().flatten().chain(authorities).chain(pair).cloned().collect()
    }

    fn link(&self, content: &[Vec<u8>]) -> Result<Link, String> {
        let mut content = content.iter().map(Vec::as_slice);
        let mut next = |wanted: bool| if wanted { content.next() } else { None };
        let url = next(self.settings.database_url_file.is_some()).map(text).transpose()?;
        let url = url.or_else(|| self.settings.database_url.clone()).unwrap_or_default();
        let password = next(self.settings.database_password_file.is_some()).map(text).transpose()?;
        let authorities = next(self.tls.authorities.is_some());
        let pair = next(self.tls.pair.is_some()).zip(next(self.tls.pair.is_some()));

        let told = |error: Error| error.to_string();
        let (plain, tls) = Tls::of(&url, &self.settings).map_err(told)?;
        let mut config = parse(&plain).map_err(told)?;
        if place(&config) != self.place || tls != self.tls {
            return Err("names another database, or other rules of TLS: restart to go there".to_owned());
        }
        config.ssl_mode(tls.mode);
        if let Some(password) = password {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("gtm-sync");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        let (client, certificate_not_after) = tls.client_config(authorities, pair).map_err(|error| error.to_string())?;
        Ok(Link { config, connector: MakeRustlsConnect::new(client), certificate_not_after })
    }
}

/// The text of a file, without the newline that editors leave.
fn text(content: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(content).map_err(|_| "is not text".to_owned())?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// What URL and settings say about TLS.
#[derive(Debug, PartialEq)]
struct Tls {
    mode: SslMode,
    verify: bool,
    authorities: Option<PathBuf>,
    pair: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Takes `sslmode`, `sslrootcert`, `sslcert` and `sslkey` out of the URL, which wins over the settings; the driver knows
    /// neither `verify-full` nor certificates. `prefer` and `require` encrypt without asking who answers, unless authorities
    /// are given with `require`, as libpq has it; `verify-full` asks always, and is the default where a certificate is given.
    fn of(url: &str, settings: &StoreSettings) -> Result<(String, Self), Error> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = settings.database_ssl_mode.clone();
        let mut authorities = settings.database_ssl_root_cert.clone();
        let mut certificate = settings.database_ssl_cert.clone();
        let mut key = settings.database_ssl_key.clone();
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = url::form_urlencoded::parse(pair.as_bytes()).next() else { continue };
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => authorities = Some(PathBuf::from(value.into_owned())),
                "sslcert" => certificate = Some(PathBuf::from(value.into_owned())),
                "sslkey" => key = Some(PathBuf::from(value.into_owned())),
                _ => rest.push(pair),
            }
        }
        let pair = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(refused("sslcert (--database-ssl-cert) needs sslkey (--database-ssl-key)")),
            (None, Some(_)) => return Err(refused("sslkey (--database-ssl-key) needs sslcert (--database-ssl-cert)")),
        };
        let given = authorities.is_some() || pair.is_some();
        let (mode, verify) = match mode.as_deref() {
            None if given => (SslMode::Require, true),
            None | Some("prefer") => (SslMode::Prefer, false),
            Some("require") => (SslMode::Require, authorities.is_some()),
            Some("verify-full") => (SslMode::Require, true),
            Some("disable") if given => {
                return Err(refused("sslmode=disable (--database-ssl-mode) goes with no certificate"));
            }
            Some("disable") => (SslMode::Disable, false),
            Some(_) => return Err(refused("sslmode must be disable, prefer, require or verify-full")),
        };
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{address}{query}"), Self { mode, verify, authorities, pair }))
    }

    /// The client's side, and when its certificate ends.
    fn client_config(
        &self,
        authorities: Option<&[u8]>,
        pair: Option<(&[u8], &[u8])>,
    ) -> Result<(ClientConfig, Option<Timestamp>), tls::Error> {
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("ring's provider has suites for the default versions");
        let builder = if self.verify {
            builder.with_root_certificates(tls::authorities(authorities)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(tls::provider())))
        };
        let Some((certificate, key)) = pair else { return Ok((builder.with_no_client_auth(), None)) };
        let certificate = tls::client_certificate(certificate, key)?;
        let resolver = Arc::new(SingleCertAndKey::from(certificate.key));
        Ok((builder.with_client_cert_resolver(resolver), certificate.not_after))
    }
}

fn refused(code: &str) -> Error {
    Error::Refused { attempted: "set up TLS", code: code.to_owned() }
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
        Tls::of(url, &StoreSettings::default()).expect("a known mode")
    }

    #[test]
    fn the_url_says_how_much_tls() {
        let base = "postgres://user:p%40ss@host/db";
        let wanted = |mode, verify| Tls { mode, verify, authorities: None, pair: None };
        assert_eq!(tls(base), (base.to_owned(), wanted(SslMode::Prefer, false)));
        assert_eq!(tls(&format!("{base}?sslmode=disable")).1, wanted(SslMode::Disable, false));
        assert_eq!(tls(&format!("{base}?sslmode=require")).1, wanted(SslMode::Require, false));
        let (rest, full) = tls(&format!("{base}?application_name=a%20b&sslmode=verify-full&channel_binding=require"));
        assert_eq!(rest, format!("{base}?application_name=a%20b&channel_binding=require"));
        assert_eq!(full, wanted(SslMode::Require, true));
        let (_, given) = tls(&format!("{base}?sslmode=require&sslrootcert=%2Fetc%2Fca.pem"));
        assert!(given.verify && given.authorities == Some("/etc/ca.pem".into()));
        let unknown = Tls::of(&format!("{base}?sslmode=verify-ca"), &StoreSettings::default());
        let unknown = unknown.expect_err("checks the chain and not the name").to_string();
        assert!(unknown.contains("verify-full") && !unknown.contains("host"), "{unknown}");
    }

    #[test]
    fn a_certificate_asks_who_answers_and_never_goes_in_clear() {
        let settings = StoreSettings { database_ssl_root_cert: Some("/ca".into()), ..StoreSettings::default() };
        let (_, given) = Tls::of("postgres://host/db", &settings).expect("settings");
        assert!(given.verify && given.mode == SslMode::Require);
        let (_, other) = Tls::of("postgres://host/db?sslrootcert=/other", &settings).expect("settings");
        assert_eq!(other.authorities, Some("/other".into()), "the URL wins");
        let clear = Tls::of("postgres://host/db?sslmode=disable", &settings).expect_err("contradiction").to_string();
        assert!(clear.contains("--database-ssl-mode"), "{clear}");
        let half = Tls::of("postgres://host/db?sslcert=/c", &StoreSettings::default()).expect_err("half").to_string();
        assert!(half.contains("--database-ssl-key"), "{half}");
    }

    #[tokio::test]
    async fn credentials_may_change_and_the_database_may_not() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("url");
        let write = |url: &str| std::fs::write(&path, url).expect("written");
        write("postgres://user:old@host/db\n");
        let settings = StoreSettings { database_url_file: Some(path.clone()), ..StoreSettings::default() };
        let link = load(&settings, "postgres://user:old@host/db", &KeyFiles::default()).await.expect("usable");
        let password = |link: &KeyFile<Link>| link.current().config.get_password().map(<[u8]>::to_vec);
        assert_eq!(password(&link), Some(b"old".to_vec()));
        write("postgres://user:new@host/db");
        link.refresh().await;
        assert_eq!(password(&link), Some(b"new".to_vec()));
        for elsewhere in ["postgres://user:newer@host/other", "postgres://u:newer@elsewhere/db", "canary"] {
            write(elsewhere);
            link.refresh().await;
            assert_eq!(password(&link), Some(b"new".to_vec()), "{elsewhere}");
        }
    }
}
