//! An API server of a test's own, on an etcd of its own: empty at first, as after a lost etcd. Both end with their handle;
//! the server may be killed at any moment and started again on what etcd has.

use std::{path::Path, process::Command};

use kube::{Client, Config};

use super::{
    eventually, fresh,
    servers::{Process, START, free_port},
    service,
};

/// kube-apiserver without a node; whoever has its token is an administrator.
pub struct ApiServer {
    url: String,
    token: String,
    arguments: Vec<String>,
    /// Ended in this order: the client before the server.
    process: Option<Process>,
    _etcd: Process,
    directory: tempfile::TempDir,
}

impl ApiServer {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (etcd, etcd_url) = etcd(directory.path());
        let (port, token) = (free_port(), fresh("token"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let signing = file("signing.key", key.serialize_pem());
        let verifying = file("signing.pub", key.public_key_pem());
        let tokens = file("tokens.csv", format!("{token},admin,admin,\"system:masters\"\n"));
        let arguments = vec![
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            // It makes itself a certificate there.
            format!("--cert-dir={}", directory.path().join("certificates").display()),
            format!("--token-auth-file={tokens}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={signing}"),
            format!("--service-account-key-file={verifying}"),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let url = format!("https://127.0.0.1:{port}");
        let mut server = Self { url, token, arguments, process: None, _etcd: etcd, directory };
        server.resume();
        server.ready().await;
        server
    }

    /// Kill −9; etcd goes on.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same etcd and port.
    pub fn resume(&mut self) {
        let mut command = Command::new(service("GTM_TEST_KUBE_APISERVER"));
        self.process = Some(Process::start(command.args(&self.arguments), &self.directory.path().join("log")));
    }

    pub async fn ready(&self) {
        let client = Client::try_from(self.config()).expect("a client");
        eventually("the API server answers", START, || async {
            let request = axum::http::Request::get("/readyz").body(Vec::new()).expect("a request");
            client.request_text(request).await.ok()
        })
        .await;
    }

    /// For an administrator.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.url.parse().expect("a URL"));
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(self.token.clone().into());
        config
    }
}

fn etcd(directory: &Path) -> (Process, String) {
    let [url, peer] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(service("GTM_TEST_ETCD"));
    command.arg("--data-dir").arg(directory.join("etcd"));
    command.arg(format!("--listen-client-urls={url}")).arg(format!("--advertise-client-urls={url}"));
    command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
    command.arg(format!("--initial-cluster=default={peer}"));
    // Processes are killed here, not the machine.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    (Process::start(&mut command, &directory.join("etcd.log")), url)
}
