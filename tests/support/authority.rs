//! A certificate authority of a test's own, and directories of key files that change as the kubelet changes them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::fresh;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, fresh("authority"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("key")).expect("self-signed"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server of this name.
    pub fn server(&self, name: &str) -> Pair {
        self.issue(CertificateParams::new([name.to_owned()]).expect("a name"), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client of this common name.
    pub fn client(&self, name: &str) -> Pair {
        self.client_until(name, 4000)
    }

    /// One that ends at the beginning of this year.
    pub fn client_until(&self, name: &str, year: i32) -> Pair {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.issue(parameters, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut parameters: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("key");
        let certificate = parameters.signed_by(&key, &self.0).expect("signed").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A server of this name that speaks HTTP/2 and, if it has authorities, takes only clients that they know.
    pub fn server_config(&self, name: &str, clients: Option<&Self>) -> Arc<ServerConfig> {
        let Pair { certificate, key } = self.server(name);
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols.push(b"h2".to_vec());
        Arc::new(config)
    }
}

/// A mounted Secret: files behind a symlink that is swapped at once.
pub struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mounted = Self { directory: tempfile::tempdir().expect("temporary directory") };
        mounted.swap(files);
        for (name, _) in files {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mounted.path(name)).expect("symlink");
        }
        mounted
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// As the kubelet does it: a new directory, and one rename.
    pub fn swap(&self, files: &[(&str, &str)]) {
        let version = self.directory.path().join(fresh(".."));
        std::fs::create_dir(&version).expect("directory");
        for (name, content) in files {
            std::fs::write(version.join(name), content).expect("written");
        }
        let (next, data) = (self.directory.path().join("..next"), self.directory.path().join("..data"));
        std::os::unix::fs::symlink(&version, &next).expect("symlink");
        std::fs::rename(next, data).expect("renamed");
    }
}
