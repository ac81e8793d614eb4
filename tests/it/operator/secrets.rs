//! Planted secrets, looked for in every place that anybody can read: histories, schedules, logs, objects, metrics, tables.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gtm_sync::{
    credentials::{Envelope, Sealer, seal::generate_identity},
    model::config::SecretFields,
    store,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use prost::Message as _;
use serde_json::{Value, json};
use simulators::hubspot::{Edits, Kind, Simulator};
use temporalio_client::{grpc::WorkflowService as _, tonic::IntoRequest as _};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest,
};

use super::{
    harness::{Installation, SOON},
    house::{Program, crm, from, sync},
    samples::kubectl,
};
use crate::support::{self, eventually, stack::CANARY};

/// What every access token holds that the simulator gives out.
const ACCESS_TOKEN: &str = "oauth-access-";

/// How every age identity begins.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// A database of a role whose password is planted, and its URL for the role and for the superuser.
async fn database() -> (String, String) {
    let name = support::fresh("canary").replace('-', "_");
    let base = support::postgres_url();
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.expect("PostgreSQL");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'database-{CANARY}'")).await.expect("a role");
    client.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}")).await.expect("a database");
    drop(client);
    connection.await.expect("no panic").expect("closed");
    let mut url = url::Url::parse(&base).expect("a URL");
    url.set_path(&name);
    let superuser = url.to_string();
    url.set_username(&name).expect("a user");
    url.set_password(Some(&format!("database-{CANARY}"))).expect("a password");
    (url.into(), superuser)
}

/// Runs statements as the superuser; the rows' first columns as text.
async fn query(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    let connection = tokio::spawn(connection);
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    drop(client);
    connection.await.expect("no panic").expect("closed");
    let rows = answer.into_iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

/// Keeps a copy of every batch that is ever staged: at rest there is none.
const KEEP_STAGED: &str = "
    CREATE TABLE public.staged (payload bytea);
    GRANT ALL ON public.staged TO PUBLIC;
    CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.staged VALUES (NEW.payload); RETURN NULL; END $$;
    CREATE TRIGGER keep AFTER INSERT ON gtm.staged_batch FOR EACH ROW EXECUTE FUNCTION public.keep();";

/// A text as it may be hidden in others: itself, its bytes in hex, and in base64 wherever it stands in a longer text.
fn disguises(secret: &str) -> Vec<String> {
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let shifted = (0..3).map(|shift| {
        let encoded = STANDARD.encode(format!("{}{secret}", "x".repeat(shift)));
        // The ends depend on the neighbours.
        encoded.trim_end_matches('=')[4..encoded.trim_end_matches('=').len() - 2].to_owned()
    });
    [secret.to_owned(), hex].into_iter().chain(shifted).collect()
}

/// What is found in a text, also in what it holds as hex and compressed.
fn found(text: &str) -> Option<String> {
    let secrets = [CANARY, ACCESS_TOKEN, IDENTITY].map(disguises).concat();
    secrets.into_iter().find(|secret| text.contains(secret.as_str()))
}

/// A row's text, and what its binary columns hold.
fn unpacked(row: &str) -> String {
    let mut text = row.to_owned();
    for hex in row.split("\\x").skip(1) {
        let digits: Vec<u8> = hex.bytes().take_while(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let inflated = zstd::decode_all(bytes.as_slice()).unwrap_or_default();
        text += &String::from_utf8_lossy(&bytes);
        text += &String::from_utf8_lossy(&inflated);
    }
    text
}

/// Every history of the Temporal namespace, as the server keeps it.
async fn histories(installation: &Installation) -> BTreeMap<String, String> {
    let client = installation.temporal.sdk_client().expect("client");
    let namespace = installation.temporal.namespace().to_owned();
    let request = ListWorkflowExecutionsRequest { namespace: namespace.clone(), ..Default::default() };
    let listed = client.connection().clone().list_workflow_executions(request.into_request()).await.expect("listed");
    let mut histories = BTreeMap::new();
    for run in listed.into_inner().executions {
        let mut name = "history of ".to_owned();
        name += run.execution.as_ref().map_or("", |execution| &execution.workflow_id);
        let mut request = GetWorkflowExecutionHistoryRequest {
            namespace: namespace.clone(),
            execution: run.execution.clone(),
            ..Default::default()
        };
        let text: &mut String = histories.entry(name).or_default();
        *text += &String::from_utf8_lossy(&run.encode_to_vec());
        loop {
            let page = client.connection().clone().get_workflow_execution_history(request.clone().into_request()).await;
            let page = page.expect("a history").into_inner();
            *text += &String::from_utf8_lossy(&page.history.unwrap_or_default().encode_to_vec());
            if page.next_page_token.is_empty() {
                break;
            }
            request.next_page_token = page.next_page_token;
        }
    }
    histories
}

/// Every table of the database, row by row.
async fn tables(superuser: &str) -> BTreeMap<String, String> {
    const TABLES: &str = "SELECT table_schema || '.' || table_name FROM information_schema.tables
        WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let mut tables = BTreeMap::new();
    for table in query(superuser, TABLES).await {
        let rows = query(superuser, &format!("SELECT it::text FROM {table} AS it")).await;
        tables.insert(format!("table {table}"), rows.iter().map(|row| unpacked(row) + "\n").collect());
    }
    tables
}

/// Connectors of every kind of credential, one of them refused, on an account with a record that becomes a dead letter.
async fn connectors(installation: &Installation, crm: &Simulator) {
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.apply_secret("token", json!({"accessToken": format!("pat-{CANARY}")})).await;
    installation.apply_secret("wrong", json!({"accessToken": format!("wrong-{CANARY}")})).await;
    let grant = json!({"clientId": "app", "clientSecret": format!("secret-{CANARY}"), "refreshToken": format!("refresh-{CANARY}")});
    installation.apply_secret("grant", grant).await;
    for (name, secret) in [("token", "token"), ("oauth", "grant"), ("refused", "wrong")] {
        let spec = json!({"source": from(crm), "credentials": {"secretRef": {"name": secret}}});
        installation.apply_connector(name, spec).await;
    }
    let maps: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.namespace);
    let recipient = eventually("the recipient", SOON, || async {
        maps.get("gtm-sync-recipient").await.ok()?.data?.remove("recipient")
    })
    .await;
    let envelope = Envelope {
        tenant_id: "acme".parse().expect("id"),
        connector_id: "sealed".parse().expect("id"),
        allowed_hosts: vec![crm.address().to_string()],
        key_id: String::new(),
        fields: SecretFields([("accessToken".to_owned(), format!("pat-{CANARY}"))].into()),
    };
    let sealed = Sealer::new(&recipient).expect("a recipient").seal(envelope).to_text();
    installation.apply_connector("sealed", json!({"source": from(crm), "credentials": {"sealed": sealed}})).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres, kubectl"]
async fn no_secret_is_found_anywhere_but_in_its_secret() {
    let mut installation = Installation::new().await;
    let (url, superuser) = database().await;
    installation.store = store::open(&url).await.expect("opens");
    installation.store.migrate().await.expect("migrated");
    installation.settings.store.database_url = Some(url);
    query(&superuser, KEEP_STAGED).await;
    let crm = crm(300).await;
    let contacts = crm.state().live_ids(Kind::Contacts);
    let emails: Vec<_> = contacts.iter().filter_map(|id| crm.state().property(Kind::Contacts, id, "email")).collect();
    let poison = [("lastname".into(), Some("no\0database takes it".into()))].into();
    assert!(crm.state().update(Kind::Contacts, &contacts[0], poison));
    crm.state().advance_clock(Duration::from_secs(900));

    let operator = Program::operator(&installation);
    let worker = Program::worker(&installation).await;
    connectors(&installation, &crm).await;
    installation.connector_condition("refused", "Connected", "False", "CredentialsRefused").await;
    let synced = ["token", "oauth", "sealed"];
    let mut runs = Vec::new();
    for name in synced {
        installation.connector_condition(name, "Connected", "True", "Authenticated").await;
        runs.push(sync(&installation, name, "first", None).await);
    }
    // Access tokens have expired by then.
    crm.state().edit_random(Edits { seed: 5, create: 5, update: 20, archive: 5, merge: 1 });
    crm.state().advance_clock(Duration::from_secs(900));
    for (name, before) in synced.into_iter().zip(&runs) {
        sync(&installation, name, "second", Some(before)).await;
    }
    let letters = query(&superuser, "SELECT count(*) FROM gtm.dead_letter").await;
    assert_ne!(letters, ["0"], "a record was refused");

    let mut places = histories(&installation).await;
    places.extend(tables(&superuser).await);
    for schedule in installation.temporal.list_schedules().await.expect("listed") {
        let described = installation.describe(&schedule.id).await.expect("a schedule").encode_to_vec();
        places.insert(format!("schedule {}", schedule.id), String::from_utf8_lossy(&described).into_owned());
    }
    let objects = "connectors,tenantschedules,configmaps,events,leases,serviceaccounts,pods,deployments";
    places.insert("objects".to_owned(), kubectl(&["get", objects, "-n", &installation.namespace, "-o", "json"]).await);
    for (name, program) in [("operator", &operator), ("worker", &worker)] {
        places.insert(format!("log of the {name}"), program.said());
        places.insert(format!("metrics of the {name}"), program.metrics().await);
    }

    for (place, text) in &places {
        assert_eq!(found(text), None, "in {place}");
    }
    for log in ["log of the operator", "log of the worker"] {
        let told = emails.iter().find(|email| email.contains('@') && places[log].contains(email.as_str()));
        assert_eq!(told, None, "a person in the {log}");
    }
    // Whoever finds nothing must have looked: each place holds what it is expected to hold.
    let everywhere: Vec<_> = places.keys().cloned().collect();
    for (place, witness) in [
        ("history of sync-acme-oauth", "connectorSyncWorkflow"),
        ("history of check-acme-refused", "checkConnectionWorkflow"),
        ("schedule scheduled-sync-acme", "scheduledSyncWorkflow"),
        ("objects", "\"CredentialsRefused\""),
        ("objects", "\"ConnectionRefused\""),
        ("log of the operator", "DEBUG"),
        ("log of the worker", "DEBUG"),
        ("metrics of the operator", "gtm_sync_reconciles"),
        ("metrics of the worker", "gtm_sync_activities"),
        ("table public.staged", emails.iter().find(|email| email.contains('@')).expect("an address")),
        ("table gtm.run", "sync-acme-token"),
        ("table gtm.dead_letter", "UnstorableValue"),
        ("table gtm.credential", "\\x"),
        ("table gtm.credential_overlay", "\\x"),
    ] {
        let seen = places.iter().any(|(name, text)| name.starts_with(place) && text.contains(witness));
        assert!(seen, "{witness} was expected in {place}; places: {everywhere:?}");
    }
}

#[test]
fn a_secret_is_found_in_every_disguise() {
    let secret = format!("pat-{CANARY}");
    let compressed = zstd::encode_all(format!("{{\"token\": \"{secret}\"}}").as_bytes(), 1).expect("compressed");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hidden: [String; 7] = [
        json!({"authorization": format!("Bearer {secret}")}).to_string(),
        STANDARD.encode(format!("app:{secret}")),
        STANDARD.encode(format!("{{\"accessToken\":\"{secret}\"}}")),
        unpacked(&format!("(acme,\"\\\\x{}\",1)", hex(&compressed)).replace("\\\\", "\\")),
        hex(secret.as_bytes()),
        "oauth-access-62515-1".to_owned(),
        STANDARD.encode(generate_identity().0),
    ];
    for text in hidden {
        assert!(found(&text).is_some(), "{text}");
    }
    assert_eq!(found(&Value::String("pat-innocent".to_owned()).to_string()), None);
}
