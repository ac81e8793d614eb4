//! The private certificate authority of one run, its server and client certificates, and kubeconfigs made of them.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority whose files live in one directory.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in memory and on disk.
pub(crate) struct Identity {
    /// PEM file of the certificate.
    pub(crate) certificate: PathBuf,
    /// PEM file of the private key.
    pub(crate) key: PathBuf,
    certificate_pem: String,
    key_pem: String,
}

impl Authority {
    /// Makes a new authority.
    pub(crate) fn create(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("could not create {}", directory.display()))?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, "gtm-sync xtask");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        let authority = Self { directory: directory.to_owned(), issuer };
        write_private(&authority.certificate(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// PEM file of the authority's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A certificate for a server that answers under `names` (host names and addresses).
    pub(crate) fn server(&self, file: &str, names: &[String]) -> anyhow::Result<Identity> {
        let mut parameters = CertificateParams::new(names.to_vec())?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(file, parameters)
    }

    /// A certificate by which Kubernetes knows a user and the group it is in.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> anyhow::Result<Identity> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, parameters)
    }

    /// Makes the key pair that signs service-account tokens.
    pub(crate) fn create_signing_key(&self) -> anyhow::Result<()> {
        let pair = KeyPair::generate()?;
        write_private(&self.signing_key(), &pair.serialize_pem())?;
        write_private(&self.signing_key().with_extension("pub"), &pair.public_key_pem())
    }

    /// PEM file of the private key that signs service-account tokens; the public one lies beside it as `.pub`.
    pub(crate) fn signing_key(&self) -> PathBuf {
        self.directory.join("service-account.key")
    }

    /// A kubeconfig with everything embedded.
    pub(crate) fn kubeconfig(&self, file: &str, server: &str, identity: &Identity) -> anyhow::Result<PathBuf> {
        let embed = |pem: &str| STANDARD.encode(pem);
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "gtm-sync",
            "clusters": [{"name": "gtm-sync", "cluster": {
                "server": server, "certificate-authority-data": embed(&self.issuer.pem())}}],
            "users": [{"name": "gtm-sync", "user": {
                "client-certificate-data": embed(&identity.certificate_pem),
                "client-key-data": embed(&identity.key_pem)}}],
            "contexts": [{"name": "gtm-sync", "context": {"cluster": "gtm-sync", "user": "gtm-sync"}}],
        });
        let path = self.directory.join(format!("{file}.kubeconfig"));
        write_private(&path, &serde_json::to_string_pretty(&config)?)?;
        Ok(path)
    }

    fn issue(&self, file: &str, mut parameters: CertificateParams) -> anyhow::Result<Identity> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let identity = Identity {
            certificate: self.directory.join(format!("{file}.crt")),
            key: self.directory.join(format!("{file}.key")),
            certificate_pem: parameters.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        };
        write_private(&identity.certificate, &identity.certificate_pem)?;
        write_private(&identity.key, &identity.key_pem)?;
        Ok(identity)
    }
}

/// Writes a file that only we may read.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut it| io::Write::write_all(&mut it, text.as_bytes()))
        .with_context(|| format!("could not write {}", path.display()))
}
