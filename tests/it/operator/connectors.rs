//! Connector: projection, Secret, tokens, own schedule, observation, deletion.

use std::collections::BTreeMap;

use gtm_sync::{
    contract::workflows::ConnectionStatus,
    crd::{Connector, Phase},
    credentials::Opener,
    model::{
        cursor::{Cursor, Load},
        entity::Entity,
        stream::Stream,
    },
    store::{ConnectionFound, ConnectorRecord, LeaseRequest, RunEnd, RunOutcome},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::Patch};
use serde_json::{Value, json};

use super::harness::{Installation, SOON, input, is};
use crate::support::{eventually, stack::CANARY};

pub(super) const COMPANIES: Stream = Stream { name: "companies", entity: Entity::Account, id_prefix: "" };

/// An operator, a ready tenant `acme` and a Secret `crm`.
pub(super) async fn with_tenant() -> (Installation, super::harness::Running) {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_secret("crm", json!({"accessToken": format!("{CANARY}\n")})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    (installation, operator)
}

pub(super) async fn record(installation: &Installation, connector: &str) -> Option<ConnectorRecord> {
    let (tenant, connector) = ("acme".parse().expect("id"), connector.parse().expect("id"));
    installation.store.connector(&tenant, &connector).await.expect("the store answers")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn what_a_connector_lacks_is_said_and_mended_without_a_restart() {
    let installation = Installation::new().await;
    let operator = installation.operator().await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "False", "TenantScheduleNotFound").await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let object = installation.connector_ready("hubspot", "False", "SecretNotFound").await;
    assert!(is(&object.status.expect("status").conditions, "Reconciling", "True", "ProgressingWithRetry"));
    installation.event("hubspot", "SecretNotFound").await;
    installation.apply_secret("crm", json!({"token": CANARY})).await;
    let object = installation.connector_ready("hubspot", "False", "SecretKeyMissing").await;
    let shown = serde_json::to_string(&object.status).expect("JSON");
    assert!(shown.contains("accessToken") && !shown.contains(CANARY), "{shown}");
    installation.apply_secret("crm", json!({"accessToken": CANARY})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    assert_eq!(installation.one_workflow("checkConnectionWorkflow").await, "check-acme-hubspot");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn the_credential_reaches_the_store_sealed_to_the_made_identity_and_nothing_else() {
    let (installation, operator) = with_tenant().await;
    installation
        .apply_connector(
            "hubspot",
            json!({"source": {"type": "HubSpot", "hubspot": {"baseUrl": "http://sim.example:8090/"}}}),
        )
        .await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let stored = record(&installation, "hubspot").await.expect("projected").credential.expect("a credential");
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let identity = secrets.get("gtm-sync-identity").await.expect("made at first start").data.expect("data");
    let identity = String::from_utf8(identity["identity"].0.clone()).expect("text");
    let envelope = Opener::new(&identity).expect("identity").open(&stored.sealed).expect("sealed to it");
    assert_eq!(envelope.fields.0, BTreeMap::from([("accessToken".to_owned(), CANARY.to_owned())]));
    assert_eq!(
        envelope.check(&"acme".parse().expect("id"), &"hubspot".parse().expect("id"), "sim.example:8090"),
        Ok(())
    );

    let revision = record(&installation, "hubspot").await.expect("projected").credential_revision;
    operator.stop().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.looked_again("Connector", 2).await;
    let again = record(&installation, "hubspot").await.expect("projected").credential_revision;
    assert_eq!(again, revision, "the same content is not written again, though sealing it differs each time");
    installation.apply_secret("crm", json!({"accessToken": "another"})).await;
    eventually("a new content is", SOON, || async {
        (record(&installation, "hubspot").await?.credential_revision > revision).then_some(())
    })
    .await;
    let shown = format!("{:?}", installation.connectors().get("hubspot").await.expect("there"));
    assert!(!shown.contains(CANARY));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_spec_that_the_schema_admits_but_nobody_can_use_is_stalled() {
    let (installation, operator) = with_tenant().await;
    let source = json!({"type": "HubSpot", "hubspot": {"baseUrl": "https://crm.example:99999"}});
    installation.apply_connector("odd", json!({"source": source})).await;
    let object = installation.connector_ready("odd", "False", "InvalidSpec").await;
    assert!(is(&object.status.expect("status").conditions, "Stalled", "True", "InvalidSpec"));
    let other = "gtmseal1:0123456789abcdef:AAAA";
    installation.apply_connector("sealed", json!({"credentials": {"sealed": other}})).await;
    installation.connector_ready("sealed", "False", "InvalidCredentials").await;
    operator.stop().await;
}

fn tokens(sync: &str) -> Value {
    json!({"requests": {"sync": {"token": sync}}})
}

fn handled(object: &Connector) -> Option<String> {
    Some(object.status.as_ref()?.last_handled.as_ref()?.sync.as_ref()?.token.clone())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_sync_token_starts_exactly_one_run_and_first_sight_tokens_none() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", tokens("from-git")).await;
    let object = installation.connector_ready("hubspot", "True", "Configured").await;
    assert_eq!(handled(&object).as_deref(), Some("from-git"), "recorded, not executed");
    installation.apply_connector("hubspot", tokens("now-1")).await;
    let run = installation.one_workflow("connectorSyncWorkflow").await;
    assert!(run.starts_with("sync-acme-hubspot-20") && run.ends_with('Z'), "{run}");
    eventually("the token is mirrored", SOON, || async {
        (handled(&installation.connectors().get("hubspot").await.ok()?).as_deref() == Some("now-1")).then_some(())
    })
    .await;
    operator.kill().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.looked_again("Connector", 3).await;
    assert_eq!(installation.workflows("connectorSyncWorkflow").await.len(), 1, "not repeated by a new operator");
    installation.event("hubspot", "RunTriggered").await;

    let annotated = json!({"metadata": {"annotations": {"sync.gtmclarity.io/requested-at": "2026-11-23T01:00:00Z"}}});
    let params = kube::api::PatchParams::default();
    installation.connectors().patch("hubspot", &params, &Patch::Merge(annotated)).await.expect("annotated");
    eventually("a second run", SOON, || async {
        (installation.workflows("connectorSyncWorkflow").await.len() == 2).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_connectors_own_schedule_starts_its_sync_and_pauses_with_the_tenant() {
    let (installation, operator) = with_tenant().await;
    let own = json!({"sync": {"schedules": ["*/30 * * * *"]}});
    installation.apply_connector("hubspot", own).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let schedule = installation.schedule("sync-acme-hubspot", "there", |_| true).await;
    assert_eq!(input(&schedule), r#"{"connectorId":"hubspot","fullSync":false,"tenantId":"acme"}"#);
    let jitter = schedule.spec.and_then(|spec| spec.jitter).map(|jitter| jitter.seconds);
    assert!(jitter >= Some(180), "at least a tenth of the interval (R31): {jitter:?}");
    installation.apply_tenant("acme", json!({"tenantId": "acme", "suspend": true})).await;
    installation
        .schedule("sync-acme-hubspot", "paused", |schedule| schedule.state.as_ref().is_some_and(|state| state.paused))
        .await;
    installation.apply_connector("hubspot", json!({})).await;
    eventually("no own schedule any more", SOON, || async {
        installation.describe("sync-acme-hubspot").await.is_none().then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_deleted_connector_leaves_the_registry_with_its_schedule_also_when_nobody_watched() {
    let (installation, operator) = with_tenant().await;
    for name in ["seen", "unseen", "stays"] {
        installation.apply_connector(name, json!({"sync": {"schedules": ["0 * * * *"]}})).await;
        installation.connector_ready(name, "True", "Configured").await;
    }
    let gone = |name: &'static str| {
        let installation = &installation;
        eventually("gone from the registry and from Temporal", SOON, move || async move {
            let unscheduled = installation.describe(&format!("sync-acme-{name}")).await.is_none();
            (unscheduled && record(installation, name).await.is_none()).then_some(())
        })
    };
    installation.delete_connector("seen").await;
    gone("seen").await;
    operator.stop().await;
    installation.delete_connector("unseen").await;
    let hurried = |settings: &mut gtm_sync::settings::OperatorSettings| {
        (settings.resync_seconds, settings.orphan_grace_seconds) = (1, 2);
    };
    let operator = installation.operator_with(hurried).await;
    gone("unseen").await;
    assert!(record(&installation, "stays").await.is_some());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn connection_and_runs_as_workers_record_them_are_shown_on_connector_and_tenant() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_condition("hubspot", "Connected", "Unknown", "CheckPending").await;
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    let known = record(&installation, "hubspot").await.expect("projected");
    let found = ConnectionFound {
        status: Some(ConnectionStatus::Connected),
        reason: String::new(),
        account_id: Some("4711".to_owned()),
    };
    let set = installation.store.set_connection(&tenant, &connector, known.credential_revision, &found).await;
    set.expect("recorded");
    installation.connector_condition("hubspot", "Connected", "True", "Authenticated").await;
    installation.event("hubspot", "Connected").await;

    let request = LeaseRequest {
        tenant_id: tenant,
        connector_id: connector,
        uid: known.uid,
        revision: known.revision,
        account_id: "4711".to_owned(),
        workflow_id: "sync-acme-hubspot-manual".to_owned(),
        full_sync: true,
        expected_epoch: None,
        former_outcome: RunOutcome::Terminated,
        load: Load::begin(&Cursor::default(), 0, true, &[COMPANIES], gtm_sync::clock::now()),
        restart_load: false,
        tenant_syncs: None,
    };
    let lease = installation.store.take_lease(&request).await.expect("a lease").lease;
    let object = installation.connector_condition("hubspot", "Syncing", "True", "Running").await;
    let progress = object.status.and_then(|status| status.progress).expect("progress");
    assert_eq!(progress.workflow_id, "sync-acme-hubspot-manual");
    installation.store.finish_run(&lease, &RunEnd::More, Default::default()).await.expect("ended at its budget");
    let next = installation.one_workflow("connectorSyncWorkflow").await;
    assert!(next.starts_with("sync-acme-hubspot-20"), "the next run goes on at once (R21): {next}");
    let request = LeaseRequest { workflow_id: next, ..request };
    let lease = installation.store.take_lease(&request).await.expect("a lease").lease;
    installation
        .store
        .finish_run(&lease, &RunEnd::Failed("Unauthorised".to_owned()), Default::default())
        .await
        .expect("ended");
    let object = installation.connector_condition("hubspot", "Healthy", "False", "LastSyncFailed").await;
    let status = object.status.expect("status");
    assert_eq!(status.progress.map(|progress| progress.phase), Some(Phase::Failed), "kept after its end");
    assert!(is(&status.conditions, "Syncing", "False", "Idle"));
    assert_eq!(status.last_sync.and_then(|sync| sync.error).as_deref(), Some("Unauthorised"));
    assert!(is(&status.conditions, "Ready", "True", "Configured"), "Ready never depends on a source");
    installation.event("hubspot", "SyncFailed").await;
    eventually("the tenant counts it", SOON, || async {
        let status = installation.tenants().get("acme").await.ok()?.status?;
        let counts = status.connectors?;
        let healthy = is(&status.conditions, "Healthy", "False", "ConnectorsFailing");
        (healthy && (counts.total, counts.connected, counts.failing) == (1, 1, 1)).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_wish_is_carried_out_once_and_status_tells_what_became_of_it() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let handled = |of: &'static str, token: &'static str| {
        let installation = &installation;
        eventually("the wish is mirrored", SOON, move || async move {
            let object = installation.connectors().get("hubspot").await.ok()?;
            let status = serde_json::to_value(object.status?).ok()?;
            let handled = status["lastHandled"][of].clone();
            (handled["token"] == token && handled["time"].is_string()).then_some(handled)
        })
    };
    let requests = json!({"requests": {
        "replay": {"token": "r1", "entity": "contact"},
        "resync": {"token": "s1", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"},
        "discard": {"token": "d1", "all": true},
        "resetCursor": {"token": "c1", "expectedPosition": 4711},
    }});
    installation.apply_connector("hubspot", requests).await;
    assert_eq!(handled("replay", "r1").await["outcome"], "0 dead letters marked");
    assert_eq!(handled("discard", "d1").await["outcome"], "0 dead letters discarded");
    let refused = handled("resetCursor", "c1").await["outcome"].clone();
    assert!(refused.as_str().is_some_and(|outcome| outcome.starts_with("PositionChanged")), "{refused}");
    handled("resync", "s1").await;
    installation.one_workflow("connectorSyncWorkflow").await;
    installation.apply_connector("hubspot", json!({"requests": {"confirmSweep": {"token": "w1"}}})).await;
    handled("confirmSweep", "w1").await;
    eventually("a second run, for the sweep", SOON, || async {
        (installation.workflows("connectorSyncWorkflow").await.len() == 2).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_deleted_connectors_rows_go_after_the_grace_if_it_says_so_and_stay_if_not() {
    let (installation, operator) = with_tenant().await;
    for (name, policy) in [("goes", "Delete"), ("stays", "Retain"), ("back", "Delete")] {
        installation.apply_connector(name, json!({"dataPolicy": policy})).await;
        installation.connector_ready(name, "True", "Configured").await;
        installation.delete_connector(name).await;
        eventually("marked removed", SOON, || async { record(&installation, name).await.is_none().then_some(()) })
            .await;
    }
    installation.apply_connector("back", json!({"dataPolicy": "Delete"})).await;
    installation.connector_ready("back", "True", "Configured").await;
    operator.stop().await;

    let listed = async || {
        let listed = installation.store.projected_connectors("").await.expect("lists");
        listed.into_iter().map(|row| row.owner.name).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["back", "goes", "stays"], "a day has not passed");
    let operator = installation.operator_with(|settings| settings.retention.purge_grace_seconds = 0).await;
    eventually("purged", SOON, || async { (listed().await == ["back", "stays"]).then_some(()) }).await;
    assert!(record(&installation, "back").await.is_some_and(|record| record.credential.is_some()));
    operator.stop().await;
}

/// The SQLite file, for statements of the test's own.
fn stored(installation: &Installation) -> rusqlite::Connection {
    let url = installation.settings.store.database_url.as_deref().expect("a URL");
    rusqlite::Connection::open(url.trim_start_matches("sqlite:")).expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn rows_of_the_registry_that_somebody_altered_are_put_right_at_the_next_look() {
    let (installation, operator) = with_tenant().await;
    operator.stop().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    let projected = async || {
        let found = record(&installation, "hubspot").await?;
        let wait = installation.store.list_connected(&"acme".parse().expect("id")).await.expect("lists").wait_seconds;
        Some((found.uid, found.desired_state, found.config, found.credential?.digest, wait))
    };
    let before = projected().await.expect("projected");
    for altered in [
        "UPDATE connector SET desired_state = 'stopped'",
        "UPDATE connector SET config = json_set(config, '$.batchSize', 1)",
        "UPDATE connector SET removed_at = updated_at",
        "DELETE FROM connector",
        "DELETE FROM credential",
        "UPDATE credential SET digest = 'another'",
        "UPDATE tenant SET wait_seconds = 1",
    ] {
        stored(&installation).execute_batch(altered).expect("altered");
        eventually(altered, SOON, || async { (projected().await.as_ref() == Some(&before)).then_some(()) }).await;
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn what_was_kept_long_enough_is_removed_by_the_leader() {
    let (installation, operator) = with_tenant().await;
    installation.apply_connector("hubspot", json!({})).await;
    installation.connector_ready("hubspot", "True", "Configured").await;
    operator.stop().await;
    let stored = || stored(&installation);
    const LETTER: &str = "INSERT INTO dead_letter (tenant_id, connector_id, observed_seq, account_id, workflow_id,
            batch_index, code, payload, payload_form, recorded_at)
        VALUES ('acme', 'hubspot', 1, '4711', 'run-1', 0, 'Test', x'7b7d', 'served', '2020-01-01T00:00:00.000000Z')";
    stored().execute_batch(LETTER).expect("inserts");
    let form = || stored().query_row("SELECT payload_form FROM dead_letter", [], |row| row.get::<_, String>(0));
    let keeping = installation.operator_with(|settings| settings.retention.dead_letter_payloads_days = 0).await;
    eventually("a look at the Connector", SOON, || async {
        (installation.reconciles("Connector").await? >= 1).then_some(())
    })
    .await;
    assert_eq!(form().as_deref(), Ok("served"), "0 days keep for ever");
    keeping.stop().await;
    let operator = installation.operator().await;
    eventually("the payload is gone, its letter stays", SOON, || async {
        (form().as_deref() == Ok("expired")).then_some(())
    })
    .await;
    operator.stop().await;
}
