//! A cluster made anew from what Git holds, on the store and the Temporal that survived it (R45).

use std::collections::BTreeMap;

use gtm_sync::{crd::LastSyncOutcome, credentials::Opener, model::cursor::Cursor, store::TenantClaim};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, Patch},
};
use serde_json::{Value, json};
use simulators::hubspot::Simulator;
use temporalio_common::protos::temporal::api::schedule::v1::Schedule;

use super::{
    harness::{Installation, SOON},
    house::{Program, crm, from, sync},
};
use crate::{
    crds,
    support::{api_server::ApiServer, eventually, stack::CANARY},
};

/// Of the samples and of `hooli`.
const SCHEDULES: [&str; 5] = [
    "scheduled-sync-acme",
    "scheduled-sync-globex",
    "scheduled-sync-initech",
    "scheduled-sync-hooli",
    "sync-initech-hubspot-eu",
];

/// What survives a cluster.
#[derive(Debug, PartialEq)]
struct Kept {
    /// Content, creation and last update, the latter as the server writes them.
    schedules: BTreeMap<&'static str, (Option<Schedule>, String)>,
    /// Runs of `hooli`; its schedule fires once a year.
    runs: Vec<String>,
    /// Account, watermarks, position and last run.
    connectors: BTreeMap<String, (Option<String>, Cursor, i64, Option<String>)>,
    /// The stored credential's revision.
    credential: i64,
    claims: BTreeMap<&'static str, Option<TenantClaim>>,
}

impl Kept {
    async fn look(installation: &Installation) -> Self {
        let mut schedules = BTreeMap::new();
        for id in SCHEDULES {
            let found = installation.describe(id).await.unwrap_or_else(|| panic!("schedule {id} is there"));
            let info = found.info.unwrap_or_default();
            schedules.insert(id, (found.schedule, format!("{:?} {:?}", info.create_time, info.update_time)));
        }
        let mut runs = installation.workflows("connectorSyncWorkflow").await;
        runs.extend(installation.workflows("scheduledSyncWorkflow").await);
        runs.retain(|id| id.contains("hooli"));
        runs.sort();
        let rows = installation.store.connector_statuses(None).await.expect("the store answers").rows;
        let connectors = rows.into_iter().map(|row| {
            let last_run = row.last_run.map(|run| run.workflow_id);
            (row.connector_id.to_string(), (row.account_id, row.cursor, row.position, last_run))
        });
        let mut claims = BTreeMap::new();
        for tenant in ["acme", "globex", "initech", "hooli"] {
            let claim = installation.store.tenant_claim(&tenant.parse().expect("id")).await;
            claims.insert(tenant, claim.expect("the store answers"));
        }
        let credential = credential_revision(installation).await;
        Self { schedules, runs, connectors: connectors.collect(), credential, claims }
    }
}

async fn live(installation: &Installation) -> gtm_sync::store::ConnectorRecord {
    let (tenant, connector) = ("hooli".parse().expect("id"), "live".parse().expect("id"));
    installation.store.connector(&tenant, &connector).await.expect("the store answers").expect("projected")
}

async fn credential_revision(installation: &Installation) -> i64 {
    live(installation).await.credential_revision
}

/// Which identity opens it.
async fn sealed_to(installation: &Installation) -> String {
    live(installation).await.credential.expect("a credential").sealed.key_id
}

/// What Git holds: all samples, and `hooli` with a connector on the simulated account, and these requests.
async fn apply_git(installation: &Installation, crm: &Simulator, requests: Value) {
    for (api, sample) in crds::samples(&installation.client, &installation.namespace).await {
        let applied = api.patch(&sample.name_any(), &super::harness::user(), &Patch::Apply(&sample)).await;
        applied.unwrap_or_else(|error| panic!("{}: {error}", sample.name_any()));
    }
    let yearly = json!({"tenantId": "hooli", "schedules": ["0 0 1 1 *"], "requests": {"trigger": {"token": "asked"}}});
    installation.apply_tenant("hooli", yearly).await;
    installation.apply_secret("token", json!({"accessToken": format!("pat-{CANARY}")})).await;
    let spec = json!({"tenantId": "hooli", "source": from(crm), "requests": requests,
        "credentials": {"secretRef": {"name": "token"}}});
    installation.apply_connector("live", spec).await;
    for (tenant, reason) in
        [("acme", "Scheduled"), ("globex", "Suspended"), ("initech", "Scheduled"), ("hooli", "Scheduled")]
    {
        installation.tenant_ready(tenant, "True", reason).await;
    }
    for connector in ["hubspot", "hubspot-eu", "live"] {
        installation.connector_ready(connector, "True", "Configured").await;
    }
}

/// The workers' identity, as a backup would have it.
async fn identity(installation: &Installation) -> Secret {
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let found = secrets.get("gtm-sync-identity").await.expect("made at first start");
    let metadata =
        ObjectMeta { name: found.metadata.name, annotations: found.metadata.annotations, ..Default::default() };
    Secret { metadata, ..found }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, etcd"]
async fn a_cluster_rebuilt_from_git_loads_nothing_anew_repeats_no_verb_and_keeps_every_schedule() {
    let crm = crm(200).await;
    let mut installation = Installation::new().await;
    let operator = installation.operator().await;
    let worker = Program::worker(&installation).await;
    apply_git(&installation, &crm, json!({})).await;
    installation.connector_condition("live", "Connected", "True", "Authenticated").await;
    let first = sync(&installation, "live", "first", None).await;
    let asked = json!({"sync": {"token": "asked"}, "fullSync": {"token": "asked"}});
    apply_git(&installation, &crm, asked).await;
    eventually("the second run has ended", 2 * SOON, || async {
        let last = installation.connectors().get("live").await.ok()?.status?.last_sync?;
        (last.end_time.is_some() && last.workflow_id != first).then_some(())
    })
    .await;
    let before = Kept::look(&installation).await;
    let backup = identity(&installation).await;
    operator.kill().await;

    // An empty view of the cluster, as with a wrong kubeconfig or lost definitions, ends nothing (R11).
    let server = ApiServer::start().await;
    installation.rebuild_on(server.config()).await;
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    secrets.create(&Default::default(), &backup).await.expect("restored");
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.event(&installation.namespace, "SweepSuspicious").await;
    assert_eq!(Kept::look(&installation).await, before, "with nothing in view");

    // Some tokens in Git were carried out before, some were written meanwhile: a new cluster takes all as done (R8).
    let requests = json!({"sync": {"token": "asked"}, "fullSync": {"token": "meanwhile"}, "replay": {"token": "meanwhile"},
        "discard": {"token": "meanwhile", "all": true}, "resetCursor": {"token": "meanwhile"}});
    apply_git(&installation, &crm, requests).await;
    installation.looked_again("Connector", 6).await;
    installation.looked_again("TenantSchedule", 8).await;
    assert_eq!(Kept::look(&installation).await, before, "after all was applied again");
    for tenant in installation.tenants().list(&Default::default()).await.expect("listed") {
        let told = installation.events(&tenant.name_any()).await;
        assert!(told.iter().all(|reason| reason == "Suspended"), "to {}: {told:?}", tenant.name_any());
    }

    let last = before.connectors["live"].3.clone().expect("a run");
    sync(&installation, "live", "after", Some(&last)).await;
    let shown = installation.connectors().get("live").await.expect("there").status.expect("a status");
    let result = shown.last_sync.expect("a sync");
    assert_eq!((result.outcome, result.records_written), (LastSyncOutcome::Complete, 0), "it went on at its cursor");
    let rows = installation.store.connector_statuses(None).await.expect("the store answers").rows;
    let run = rows.into_iter().filter_map(|row| row.last_run).find(|run| run.workflow_id == result.workflow_id);
    assert!(run.is_some_and(|run| !run.full_sync), "an increment");
    operator.stop().await;

    // Without a backup of the identity, what comes from Secrets is sealed to a new one.
    let former = sealed_to(&installation).await;
    secrets.delete("gtm-sync-identity", &Default::default()).await.expect("lost");
    let maps: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.namespace);
    maps.delete("gtm-sync-recipient", &Default::default()).await.expect("lost");
    let operator = installation.operator().await;
    eventually("sealed again", SOON, || async { (sealed_to(&installation).await != former).then_some(()) }).await;
    let made = identity(&installation).await.data.expect("data")["identity"].0.clone();
    let opener = Opener::new(&String::from_utf8(made).expect("text")).expect("an identity");
    let opened = opener.open(&live(&installation).await.credential.expect("a credential").sealed);
    assert_eq!(opened.expect("sealed to the new one").fields.0["accessToken"], format!("pat-{CANARY}"));
    operator.stop().await;
    drop(worker);
}
