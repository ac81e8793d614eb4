//! The custom resources on a real API server: what it refuses and says, what it fills in, and that we can parse all it admits.
//! What the operator makes of an object is in `operator.rs`.

use std::{fs, path::Path};

use gtm_sync::crd::{self, Connector, TenantSchedule};
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    discovery,
};
use serde_json::{Value, json};

use crate::support::{self, kstatus};

mod tables;

/// A client on the real API server.
pub(crate) async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(support::kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a usable kubeconfig")).expect("a client")
}

/// Applies this build's definitions and waits until the server serves them.
pub(crate) async fn install_definitions(client: &Client) {
    install(client, crd::definitions()).await;
}

/// The same with others.
pub(crate) async fn install(client: &Client, definitions: impl IntoIterator<Item = CustomResourceDefinition>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let name = definition.name_any();
        api.patch(&name, &strict(), &Patch::Apply(&definition)).await.expect("the definition is accepted");
        support::eventually("the definition is established", std::time::Duration::from_secs(30), || async {
            let conditions = api.get(&name).await.ok()?.status?.conditions?;
            conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
                .then_some(())
        })
        .await;
    }
}

/// A namespace of the test's own.
pub(crate) async fn namespace(client: &Client, prefix: &str) -> String {
    let name = support::fresh(prefix);
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).expect("a namespace");
    Api::all(client.clone()).create(&Default::default(), &namespace).await.expect("the namespace is made");
    name
}

/// Server-side apply as users are told to: unknown fields are refused.
fn strict() -> PatchParams {
    PatchParams::apply("test").validation_strict().force()
}

/// The API of one kind, untyped.
pub(crate) fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = match kind {
        "Connector" => ApiResource::erase::<Connector>(&()),
        _ => ApiResource::erase::<TenantSchedule>(&()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// A valid object of the kind with `spec` merged in; a null takes a field away, as in a JSON merge patch.
fn object(kind: &str, spec: &Value) -> Value {
    let mut valid = match kind {
        "Connector" => json!({
            "tenantId": "acme",
            "source": { "type": "HubSpot", "hubspot": {} },
            "credentials": { "secretRef": { "name": "acme-hubspot" } },
        }),
        _ => json!({ "tenantId": "acme" }),
    };
    merge(&mut valid, spec);
    json!({ "apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": kind, "metadata": { "name": "x" }, "spec": valid })
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => drop(into.remove(key)),
                    value => merge(into.entry(key).or_insert(json!({})), value),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// The server's answer to an apply that changes nothing: the object as it would be stored, or the message.
async fn tried(api: &Api<DynamicObject>, object: &Value) -> Result<DynamicObject, String> {
    let name = object["metadata"]["name"].as_str().expect("a name");
    api.patch(name, &strict().dry_run(), &Patch::Apply(object)).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        other => panic!("the server did not answer: {other}"),
    })
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn a_wrong_object_is_refused_with_a_sentence_that_says_what_to_write() {
    let client = client().await;
    install_definitions(&client).await;
    for (kind, table) in [
        ("TenantSchedule", tables::refused_schedules()),
        ("Connector", tables::refused_connectors()),
        ("Connector", tables::refused_wishes()),
    ] {
        let api = api(&client, "default", kind);
        for (spec, expected) in table {
            let message = tried(&api, &object(kind, &spec)).await.expect_err(&format!("admitted: {kind} {spec}"));
            assert!(message.contains(expected), "{kind} {spec}: {message}");
        }
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn a_connectors_name_is_a_dns_label() {
    let client = client().await;
    install_definitions(&client).await;
    let api = api(&client, "default", "Connector");
    for (name, admitted) in [("a".repeat(63), true), ("a".repeat(64), false), ("a.b".to_owned(), false)] {
        let mut object = object("Connector", &json!({}));
        object["metadata"]["name"] = json!(name);
        match tried(&api, &object).await {
            Ok(_) => assert!(admitted, "{name}"),
            Err(message) => {
                assert!(!admitted && message.contains("a DNS label of at most 63 characters"), "{name}: {message}")
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn a_right_object_is_admitted_and_parses_without_loss() {
    let client = client().await;
    install_definitions(&client).await;
    for (kind, table) in [
        ("TenantSchedule", tables::accepted_schedules()),
        ("Connector", tables::accepted_connectors()),
        ("Connector", tables::accepted_wishes()),
    ] {
        let api = api(&client, "default", kind);
        for spec in table {
            let stored =
                tried(&api, &object(kind, &spec)).await.unwrap_or_else(|message| panic!("{kind} {spec}: {message}"));
            let parsed = parsed(kind, &stored).unwrap_or_else(|error| panic!("{kind} {spec}: {error}"));
            let mut expected = stored.data["spec"].clone();
            without_empty_lists(&mut expected);
            assert_eq!(parsed["spec"], expected, "{kind}");
        }
    }
}

/// An empty list is written as an absent one.
fn without_empty_lists(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| *member != json!([]));
            members.values_mut().for_each(without_empty_lists);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty_lists),
        _ => {}
    }
}

/// The object through the Rust type and back.
fn parsed(kind: &str, object: &DynamicObject) -> Result<Value, serde_json::Error> {
    let value = serde_json::to_value(object)?;
    match kind {
        "Connector" => serde_json::to_value(serde_json::from_value::<Connector>(value)?),
        _ => serde_json::to_value(serde_json::from_value::<TenantSchedule>(value)?),
    }
}

/// Every path of the schema below `path`, lists by their first item.
fn paths(schema: &JSONSchemaProps, path: &str, into: &mut Vec<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}/{name}");
        paths(property, &path, into);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &property.items {
            into.push(format!("{path}/0"));
            paths(item, &format!("{path}/0"), into);
        }
        into.push(path);
    }
}

/// Sets a value deep inside, making objects and lists on the way.
fn set(into: &mut Value, path: &str, value: Value) {
    let Some((first, rest)) = path.trim_start_matches('/').split_once('/').or(Some((path.trim_start_matches('/'), "")))
    else {
        return;
    };
    let slot = if first == "0" {
        if !into.is_array() {
            *into = json!([null]);
        }
        &mut into[0]
    } else {
        if !into.is_object() {
            *into = json!({});
        }
        &mut into[first]
    };
    if rest.is_empty() { *slot = value } else { set(slot, rest, value) }
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn whatever_the_schema_admits_also_parses() {
    let client = client().await;
    install_definitions(&client).await;
    let odd = [
        json!(null),
        json!(""),
        json!("x"),
        json!("5m"),
        json!("99999h"),
        json!("HubSpot"),
        json!("deals"),
        json!("a".repeat(300)),
        json!("ü\u{0}"),
        json!(0),
        json!(-1),
        json!(1),
        json!(2_147_483_648_i64),
        json!(i64::MAX),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!([null]),
    ];
    let mut admitted = 0;
    for definition in crd::definitions() {
        let kind = definition.spec.names.kind.as_str();
        let api = api(&client, "default", kind);
        let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let mut all = Vec::new();
        paths(&schema.expect("a schema").properties.as_ref().expect("properties")["spec"], "/spec", &mut all);
        for (path, value) in all.iter().flat_map(|path| odd.iter().map(move |value| (path, value))) {
            let mut object = object(kind, &json!({}));
            set(&mut object, path, value.clone());
            if let Ok(stored) = tried(&api, &object).await {
                admitted += 1;
                parsed(kind, &stored).unwrap_or_else(|error| panic!("{kind} {path} = {value} was admitted: {error}"));
            }
        }
    }
    assert!(admitted > 50, "only {admitted} variations were admitted: the test has gone blind");
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn defaults_are_filled_in_and_a_fresh_status_says_that_nobody_has_looked() {
    let client = client().await;
    install_definitions(&client).await;
    let schedule = tried(&api(&client, "default", "TenantSchedule"), &object("TenantSchedule", &json!({})))
        .await
        .expect("admitted");
    let expected = json!({
        "tenantId": "acme", "schedules": ["0 */4 * * *"], "timeZone": "UTC", "spread": { "window": "5m" }, "overlapPolicy": "Skip",
        "catchUpWindow": "4h", "suspend": false, "pausePolicy": "Cooperative",
        "pauseOnFailure": false, "driftPolicy": "Correct", "conflictPolicy": "Refuse", "deletionPolicy": "Delete", "dataPolicy": "Retain",
        "workers": { "mode": "Shared" },
    });
    assert_eq!(schedule.data["spec"], expected);
    assert_eq!(schedule.data["status"]["observedGeneration"], json!(-1));
    let outcome = |object: &DynamicObject| kstatus::outcome(&serde_json::to_value(object).expect("JSON"));
    assert_eq!(outcome(&schedule), kstatus::Outcome::InProgress, "not Current before anybody has looked");

    let connector =
        tried(&api(&client, "default", "Connector"), &object("Connector", &json!({}))).await.expect("admitted");
    let expected = json!({
        "tenantId": "acme", "source": { "type": "HubSpot", "hubspot": {} }, "credentials": { "secretRef": { "name": "acme-hubspot" } },
        "sync": { "batchSize": 5_000 }, "limits": { "quotaReservePercent": 20, "maxRejectedPercent": 50, "maxSweptPercent": 10 }, "state": "Running",
    });
    assert_eq!(connector.data["spec"], expected);
    assert_eq!(connector.data["status"]["observedGeneration"], json!(-1));
    assert_eq!(outcome(&connector), kstatus::Outcome::InProgress);
}

#[test]
fn defaults_of_the_api_are_those_of_the_model() {
    let connector: crd::SyncSpec = serde_json::from_value(json!({})).expect("all fields have defaults");
    assert_eq!(connector.batch_size.unsigned_abs(), gtm_sync::model::config::DEFAULT_BATCH_SIZE);
    let schema = serde_json::to_value(&crd::definitions()[0]).expect("plain JSON");
    let batch_size =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/sync/properties/batchSize/maximum";
    let maximum = schema.pointer(batch_size).and_then(Value::as_f64);
    assert_eq!(maximum, Some(f64::from(gtm_sync::model::config::MAX_BATCH_SIZE)));
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn the_tenant_of_an_object_cannot_be_changed() {
    let client = client().await;
    install_definitions(&client).await;
    let namespace = namespace(&client, "immutable").await;
    for kind in ["TenantSchedule", "Connector"] {
        let api = api(&client, &namespace, kind);
        api.patch("x", &strict(), &Patch::Apply(object(kind, &json!({})))).await.expect("made");
        let message = tried(&api, &object(kind, &json!({ "tenantId": "other" }))).await.expect_err("changed");
        assert!(message.contains("tenantId cannot be changed"), "{message}");
    }
}

/// The objects of `deploy/samples`, each with the API that takes it into a namespace.
pub(crate) async fn samples(client: &Client, namespace: &str) -> Vec<(Api<DynamicObject>, DynamicObject)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut samples = Vec::new();
    for entry in fs::read_dir(directory).expect("samples") {
        let path = entry.expect("an entry").path();
        if path.ends_with("kustomization.yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let sample: DynamicObject = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let kind = kube::core::GroupVersionKind::try_from(sample.types.as_ref().expect("types")).expect("a kind");
        let (resource, _) = discovery::pinned_kind(client, &kind).await.expect("a kind the server knows");
        samples.push((Api::namespaced_with(client.clone(), namespace, &resource), sample));
    }
    assert!(samples.len() >= 5, "{}", samples.len());
    samples
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn every_sample_applies_and_a_second_apply_changes_nothing() {
    let client = client().await;
    install_definitions(&client).await;
    let namespace = namespace(&client, "samples").await;
    for (api, sample) in samples(&client, &namespace).await {
        // The first apply stores the object without the default of its status, the second with it; from then on nothing is written.
        let mut applied = Vec::new();
        for _ in 0..3 {
            let object = api.patch(&sample.name_any(), &strict(), &Patch::Apply(&sample)).await;
            applied.push(object.unwrap_or_else(|error| panic!("{}: {error}", sample.name_any())));
        }
        assert_eq!(applied[0].metadata.generation, applied[1].metadata.generation, "{}", sample.name_any());
        assert_eq!(applied[0].data, applied[1].data, "{}", sample.name_any());
        assert_eq!(applied[1], applied[2], "{}", sample.name_any());
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn kubectl_get_shows_the_columns_and_finds_objects_by_tenant() {
    let client = client().await;
    install_definitions(&client).await;
    let namespace = namespace(&client, "columns").await;
    let api = api(&client, &namespace, "Connector");
    api.patch("x", &strict(), &Patch::Apply(object("Connector", &json!({})))).await.expect("made");
    let status = json!({ "status": {
        "progress": { "workflowId": "w", "phase": "syncing", "entityType": "deals", "recordsProcessed": 42, "errorsCount": 0 },
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Configured", "message": "", "lastTransitionTime": "2026-11-23T00:00:00Z" }],
        "deadLetters": { "count": 3 },
    } });
    api.patch_status("x", &PatchParams::default(), &Patch::Merge(status)).await.expect("status written");

    let url = format!(
        "/apis/sync.gtmclarity.io/v1alpha1/namespaces/{namespace}/connectors?fieldSelector=spec.tenantId%3Dacme"
    );
    let request = http_request(&url);
    let table: Value = client.request(request).await.expect("a table");
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| column["name"].as_str().expect("a name"))
        .collect();
    let expected = [
        "Name",
        "Type",
        "Tenant",
        "State",
        "Ready",
        "Connected",
        "Syncing",
        "Phase",
        "Records",
        "Last Success",
        "DL",
        "Age",
        "Reason",
        "Healthy",
    ];
    assert_eq!(columns, expected);
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        (&cells[1], &cells[4], &cells[7], &cells[8], &cells[10]),
        (&json!("HubSpot"), &json!("True"), &json!("syncing"), &json!(42), &json!(3))
    );
    let none: Value = client.request(http_request(&url.replace("acme", "other"))).await.expect("a table");
    assert_eq!(none["rows"].as_array().map(Vec::len), Some(0));
}

fn http_request(url: &str) -> axum::http::Request<Vec<u8>> {
    let request = axum::http::Request::get(url).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    request.body(Vec::new()).expect("a valid request")
}
