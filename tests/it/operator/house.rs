//! The product as processes of their own beside an installation: operator and worker of the real binary, everything they
//! say in files, and a simulated HubSpot account.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use gtm_sync::settings::OperatorSettings;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::Patch};
use serde_json::{Value, json};
use simulators::hubspot::{Limits, OauthOptions, Options, Simulator, Visibility};

use super::harness::{Installation, SOON, free_port};
use crate::support::{self, eventually, stack::CANARY};

/// Killed with its handle.
pub(super) struct Program {
    child: Child,
    pub(super) log: PathBuf,
    health_port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<_> = said.lines().filter(|line| !line.contains("DEBUG")).collect();
            eprintln!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

impl Program {
    fn start(installation: &Installation, command: &str, health_port: u16, variables: &[(&str, String)]) -> Self {
        let log = installation.directory.path().join(format!("{command}.log"));
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("log file");
        let OperatorSettings { store, temporal, .. } = &installation.settings;
        let child = Command::new(env!("CARGO_BIN_EXE_gtm-sync"))
            .arg(command)
            .env("GTM_DATABASE_URL", &store.database_url)
            .env("TEMPORAL_ADDRESS", &temporal.temporal_address)
            .env("TEMPORAL_NAMESPACE", &temporal.temporal_namespace)
            .env("GTM_HEALTH_ADDRESS", format!("127.0.0.1:{health_port}"))
            .env("GTM_LOG", "debug")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        Self { child: child.expect("the program starts"), log, health_port }
    }

    /// On the shared API server.
    pub(super) fn operator(installation: &Installation) -> Self {
        let variables = [
            ("KUBECONFIG", support::kubeconfig()),
            ("GTM_NAMESPACE", installation.namespace.clone()),
            ("GTM_WATCH_NAMESPACES", installation.namespace.clone()),
            ("GTM_NO_LEADER_ELECTION", "true".to_owned()),
        ];
        Self::start(installation, "operator", installation.settings.health.health_address.port(), &variables)
    }

    /// With the identity that the operator made.
    pub(super) async fn worker(installation: &Installation) -> Self {
        let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
        let identity = eventually("the workers' identity", SOON, || async {
            secrets.get("gtm-sync-identity").await.ok()?.data?.remove("identity")
        })
        .await;
        let file = installation.directory.path().join("identity");
        std::fs::write(&file, identity.0).expect("identity file");
        // Nobody listens there: whoever heeded these would reach no source.
        let nowhere = || "http://127.0.0.1:1".to_owned();
        let variables = [
            ("HTTP_PROXY", nowhere()),
            ("http_proxy", nowhere()),
            ("HTTPS_PROXY", nowhere()),
            ("ALL_PROXY", nowhere()),
            ("GTM_IDENTITY_FILE", file.display().to_string()),
            ("GTM_ALLOWED_PRIVATE_HOSTS", "127.0.0.1".to_owned()),
            ("GTM_DRAIN_SECONDS", "5".to_owned()),
        ];
        Self::start(installation, "worker", free_port(), &variables)
    }

    /// All that it has said.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("its log")).into_owned()
    }

    /// Its metrics.
    pub(super) async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.health_port)).await.expect("it serves");
        answer.text().await.expect("text")
    }
}

/// An account whose every secret holds the canary; its access tokens last ten minutes.
pub(super) async fn crm(records: u32) -> Simulator {
    let options = Options {
        records,
        token: format!("pat-{CANARY}"),
        oauth: Some(OauthOptions {
            client_id: "app".to_owned(),
            client_secret: format!("secret-{CANARY}"),
            refresh_token: format!("refresh-{CANARY}"),
            access_token_seconds: 600,
            rotate: true,
        }),
        limits: Limits::unlimited(),
        visibility: Visibility { late_records: 0, ..Visibility::default() },
        ..Options::default()
    };
    Simulator::start(options).await.expect("simulator")
}

/// What makes a Connector read from this account.
pub(super) fn from(crm: &Simulator) -> Value {
    json!({"type": "HubSpot", "hubspot": {"baseUrl": crm.base_url()}})
}

/// Asks for a sync by annotation and waits for the end of a run that is not `before`; gives its workflow id.
pub(super) async fn sync(installation: &Installation, connector: &str, token: &str, before: Option<&str>) -> String {
    let annotated = json!({"metadata": {"annotations": {"sync.gtmclarity.io/requested-at": token}}});
    let api = installation.connectors();
    api.patch(connector, &Default::default(), &Patch::Merge(annotated)).await.expect("annotated");
    eventually(&format!("a finished sync of {connector}"), 2 * SOON, || async {
        let last = api.get(connector).await.ok()?.status?.last_sync?;
        last.end_time.as_ref()?;
        (Some(last.workflow_id.as_str()) != before).then_some(last.workflow_id)
    })
    .await
}
