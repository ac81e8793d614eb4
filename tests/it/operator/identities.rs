//! A new identity of the workers: operator and worker at work, a rotating OAuth grant that must survive, nobody restarted.

use std::{process::Command, time::Duration};

use gtm_sync::{
    credentials::{Sealer, seal::generate_identity},
    store::RunOutcome,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, api::Patch};
use serde_json::json;
use simulators::hubspot::{Limits, OauthOptions, Options, Simulator};

use super::harness::{Installation, SOON, is};
use crate::support::{
    authority::Mounted,
    eventually,
    stack::{CANARY, Worker},
};

/// Longer than the operator's pause between two looks at the recipient.
const LATER: Duration = Duration::from_secs(90);

fn worker(installation: &Installation, identities: &Mounted) -> Worker {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gtm-sync"));
    command
        .env("GTM_DATABASE_URL", installation.settings.store.database_url.as_deref().expect("a URL"))
        .env("TEMPORAL_ADDRESS", &installation.settings.temporal.temporal_address)
        .env("TEMPORAL_NAMESPACE", &installation.settings.temporal.temporal_namespace)
        .env("GTM_HEALTH_ADDRESS", "127.0.0.1:0")
        .env("GTM_IDENTITY_FILE", identities.path("identity"))
        .env("GTM_ALLOWED_PRIVATE_HOSTS", "127.0.0.1");
    Worker::start(command, &identities.path("worker.log"))
}

/// Asks for a sync and waits for its end.
async fn sync(installation: &Installation, token: &str) {
    let asked = json!({"metadata": {"annotations": {"sync.gtmclarity.io/requested-at": token}}});
    let connectors = installation.connectors();
    let last_run = async || installation.store.connector_statuses(None).await.ok()?.rows.pop()?.last_run;
    let before = last_run().await.map(|run| run.workflow_id);
    connectors.patch("hubspot", &Default::default(), &Patch::Merge(asked)).await.expect("the API server takes it");
    eventually(&format!("sync {token} has ended"), SOON, || async {
        let outcome = last_run().await.filter(|run| Some(&run.workflow_id) != before.as_ref())?.outcome?;
        assert_eq!(outcome, RunOutcome::Complete, "sync {token}");
        Some(())
    })
    .await;
}

/// Key ids of base credential and overlay, and their revisions.
async fn keys(installation: &Installation) -> Option<(String, String, i64, i64)> {
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    let record = installation.store.connector(&tenant, &connector).await.ok()??;
    let overlay = installation.store.overlay(&tenant, &connector).await.ok()??;
    let base = record.credential?.sealed.key_id;
    Some((base, overlay.sealed.key_id, record.credential_revision, overlay.credential_revision))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_new_identity_takes_over_while_both_processes_run_and_no_refreshed_token_is_lost() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    let oauth = OauthOptions {
        client_id: "client".to_owned(),
        client_secret: format!("secret-{CANARY}"),
        refresh_token: format!("refresh-{CANARY}"),
        // Below the margin: every use of the grant refreshes it, and kills the refresh token before.
        access_token_seconds: 30,
        rotate: true,
    };
    let options = Options { records: 30, oauth: Some(oauth), limits: Limits::unlimited(), ..Options::default() };
    let crm = Simulator::start(options).await.expect("simulator");
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let former = eventually("the identity is made", SOON, || async {
        let data = secrets.get_opt("gtm-sync-identity").await.ok()??.data?;
        String::from_utf8(data["identity"].0.clone()).ok()
    })
    .await;
    let identities = Mounted::of(&[("identity", &former)]);
    let mut worker = worker(&installation, &identities);
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let content = json!({"clientId": "client", "clientSecret": format!("secret-{CANARY}"),
        "refreshToken": format!("refresh-{CANARY}")});
    installation.apply_secret("crm", content).await;
    let source = json!({"source": {"type": "HubSpot", "hubspot": {"baseUrl": crm.base_url()}}});
    installation.apply_connector("hubspot", source).await;
    installation.connector_condition("hubspot", "Connected", "True", "Authenticated").await;
    sync(&installation, "1").await;
    let (old, ..) = keys(&installation).await.expect("refreshed");

    // 1. Workers get the new identity beside the former one.
    let (identity, recipient) = generate_identity();
    let new = Sealer::new(&recipient).expect("recipient").key_id().to_owned();
    identities.swap(&[("identity", &format!("{identity}\n{former}"))]);
    let log = || std::fs::read_to_string(identities.path("worker.log")).unwrap_or_default();
    eventually("the worker has both", SOON, || async { log().contains(&new).then_some(()) }).await;

    // 2. The operator seals to it.
    let maps: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let data = json!({"data": {"recipient": recipient}});
    maps.patch("gtm-sync-recipient", &Default::default(), &Patch::Merge(data)).await.expect("changed");
    eventually("the base credential is sealed again", LATER, || async {
        let (base, _, revision, of_overlay) = keys(&installation).await?;
        assert_eq!((revision, of_overlay), (1, 1), "the same credential, and the overlay is still its");
        (base == new).then_some(())
    })
    .await;
    sync(&installation, "2").await;
    let (base, overlay, revision, _) = keys(&installation).await.expect("refreshed");
    assert_eq!((&base, &overlay, revision), (&new, &new, 1), "sealed with {old} before");

    // 3. Nothing is left that the former identity must open.
    identities.swap(&[("identity", &identity)]);
    eventually("the worker has forgotten it", SOON, || async { log().matches(&new).nth(1).map(drop) }).await;
    sync(&installation, "3").await;
    let object = installation.connectors().get("hubspot").await.expect("there");
    assert!(is(&object.status.expect("status").conditions, "Connected", "True", "Authenticated"));
    assert!(worker.exited().is_none() && !operator.has_ended(), "the same processes");
    assert!(!log().contains(CANARY) && !log().contains("AGE-SECRET-KEY"), "a secret in the worker's log");
    operator.stop().await;
}
