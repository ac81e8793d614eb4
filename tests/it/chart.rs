//! The Helm chart and deploy/base: what they render, what the API server says to it, and which rights it gives.
//! That the rendered pods also run is the cluster layer's to show (tests/cluster).

use std::{fs, path::PathBuf, process::Command};

use gtm_sync::crd;
use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        core::v1::{Namespace, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde_json::{Value, json};

use crate::{crds, support};

const DATABASE: &str = "database.secretName=gtm-sync-database";
/// Everything that servers may demand.
const LINKS: [&str; 9] = [
    "database.passwordSecret.name=database-password",
    "database.tls.mode=verify-full",
    "database.tls.caSecret=database-ca",
    "database.tls.clientCertificateSecret=database-client",
    "temporal.tls.enabled=true",
    "temporal.tls.serverName=temporal.example",
    "temporal.tls.caSecret=temporal-ca",
    "temporal.tls.clientCertificateSecret=temporal-client",
    "temporal.apiKeySecret.name=temporal-key",
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs helm; its output, or what it said when it failed.
fn helm(arguments: &[&str]) -> Result<String, String> {
    run(&support::service("GTM_TEST_HELM"), arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).current_dir(repository()).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stdout) + &text(output.stderr)) }
}

/// `helm template` with values set.
fn template(release: &str, namespace: &str, set: &[&str]) -> Result<String, String> {
    let mut arguments = vec!["template", release, "charts/gtm-sync", "--namespace", namespace];
    arguments.extend(set.iter().flat_map(|value| ["--set", value]));
    helm(&arguments)
}

fn objects(yaml: &str) -> Vec<DynamicObject> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let parse = |document| serde_json::from_value(document).expect("an object");
    documents.into_iter().filter(|document| !document.is_null()).map(parse).collect()
}

fn kind(object: &DynamicObject) -> &str {
    &object.types.as_ref().expect("every object has a kind").kind
}

/// The Deployment that the operator applies, out of the ConfigMap.
fn worker(rendered: &[DynamicObject]) -> DynamicObject {
    let config_map = rendered.iter().find(|object| kind(object) == "ConfigMap").expect("the worker template");
    let text = config_map.data["data"]["worker.yaml"].as_str().expect("worker.yaml");
    serde_saphyr::from_str(text).expect("the worker template is one YAML document")
}

fn operator(rendered: &[DynamicObject]) -> &DynamicObject {
    rendered.iter().find(|object| kind(object) == "Deployment").expect("the operator")
}

fn environment(deployment: &DynamicObject) -> Value {
    let environment = deployment.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("env");
    environment
        .iter()
        .map(|variable| (variable["name"].as_str().expect("a name").to_owned(), variable["value"].clone()))
        .collect()
}

/// The API of an object, in its namespace if it has one.
async fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.as_ref().expect("every object has a kind");
    let kind = GroupVersionKind::try_from(types).expect("a kind");
    let (resource, capabilities): (ApiResource, _) = discovery::pinned_kind(client, &kind).await.expect("a known kind");
    match (capabilities.scope, object.namespace()) {
        (Scope::Namespaced, namespace) => {
            Api::namespaced_with(client.clone(), &namespace.expect("every object says its namespace"), &resource)
        }
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    }
}

async fn apply(client: &Client, object: &DynamicObject, parameters: PatchParams) {
    let answer = api(client, object).await.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await;
    answer.unwrap_or_else(|error| panic!("{} {}: {error}", kind(object), object.name_any()));
}

fn strict() -> PatchParams {
    PatchParams::apply("helm").validation_strict().force()
}

/// Applies the service accounts, roles and bindings of a release, and nothing else of it.
pub(crate) async fn grant(client: &Client, release: &str, namespace: &str, set: Option<&String>) {
    let set: Vec<_> = [DATABASE, "crds.enabled=false"].into_iter().chain(set.map(String::as_str)).collect();
    let rendered = objects(&template(release, namespace, &set).expect("rendered"));
    for object in rendered.iter().filter(|object| kind(object).contains("Role") || kind(object) == "ServiceAccount") {
        apply(client, object, strict()).await;
    }
}

#[test]
fn the_chart_is_of_this_version() {
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(repository().join("charts/gtm-sync/Chart.yaml")).expect("a chart"))
            .expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
#[ignore = "needs helm"]
fn helm_lint_finds_nothing() {
    let answer = helm(&["lint", "charts/gtm-sync", "--strict", "--set", DATABASE]).expect("lint passes");
    assert!(answer.contains("0 chart(s) failed"), "{answer}");
}

#[test]
#[ignore = "needs helm"]
fn without_a_database_secret_the_chart_says_which_value_is_missing() {
    let message = template("gtm-sync", "gtm-sync", &[]).expect_err("refused");
    assert!(message.contains("database.secretName is not set: name the Secret that holds the URL"), "{message}");
}

#[test]
#[ignore = "needs helm"]
fn a_misspelt_or_impossible_value_is_refused() {
    for (value, expected) in [
        ("worker.replicas=2", "additional properties 'worker' not allowed"),
        ("workers.replica=2", "additional properties 'replica' not allowed"),
        ("workers.replicas=-1", "minimum: got -1, want 0"),
        ("workers.maxReplicas=0", "minimum: got 0, want 1"),
        ("workers.podTemplate.container=x", "additional properties 'container' not allowed"),
        ("workers.maxConcurrentWorkflows=1", "minimum: got 1, want 2"),
        ("workers.tenantSyncs=-1", "minimum: got -1, want 0"),
        ("log.format=yaml", "value must be one of 'json', 'text'"),
        ("image.digest=latest", "does not match pattern"),
        ("clusterId=EU_1", "does not match pattern"),
        ("watchNamespaces={a b}", "does not match pattern"),
        ("retention.runsDays=-1", "minimum: got -1, want 0"),
        ("database.tls.mode=verify-ca", "value must be one of"),
        ("temporal.apiKeySecret.value=x", "additional properties 'value' not allowed"),
        ("retention.days=1", "additional properties 'days' not allowed"),
    ] {
        let message = template("gtm-sync", "gtm-sync", &[DATABASE, value]).expect_err(value);
        assert!(message.contains(expected), "{value}: {message}");
    }
}

#[test]
#[ignore = "needs helm"]
fn values_arrive_at_operator_and_workers() {
    let set = [
        DATABASE,
        "clusterId=eu1",
        "watchNamespaces={a,b}",
        "temporal.address=temporal:7233",
        "workers.allowedPrivateHosts={10.0.0.0/8,sim:80}",
        "workers.drainSeconds=50",
        "workers.replicas=3",
        "workers.tenantSyncs=3",
        "workers.identitySecret=mine",
        "workers.sourceCaSecret=ca",
        "image.digest=",
        "image.repository=registry/gtm",
        "image.tag=v9",
        "workers.nodeSelector.pool=sync",
        "retention.tombstonesDays=7",
        "retention.purgeGraceHours=2",
    ];
    let rendered = objects(&template("gtm-sync", "gtm-sync", &set).expect("rendered"));
    let (operator, worker) = (operator(&rendered), worker(&rendered));
    let (seen, worker_seen) = (environment(operator), environment(&worker));
    for seen in [&seen, &worker_seen] {
        assert_eq!((&seen["GTM_CLUSTER_ID"], &seen["TEMPORAL_ADDRESS"]), (&json!("eu1"), &json!("temporal:7233")));
    }
    assert_eq!(seen["GTM_WATCH_NAMESPACES"], "a,b");
    assert_eq!(
        (&seen["GTM_RETENTION_TOMBSTONES_DAYS"], &seen["GTM_PURGE_GRACE_SECONDS"]),
        (&json!("7"), &json!("7200"))
    );
    assert_eq!(seen["GTM_RETENTION_RUNS_DAYS"], "90");
    assert_eq!(worker_seen["GTM_ALLOWED_PRIVATE_HOSTS"], "10.0.0.0/8,sim:80");
    assert_eq!(worker_seen["GTM_TENANT_SYNCS"], "3");
    let pod = &worker.data["spec"]["template"]["spec"];
    assert_eq!((&worker.data["spec"]["replicas"], &pod["terminationGracePeriodSeconds"]), (&json!(3), &json!(60)));
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "mine");
    assert_eq!(
        (&pod["containers"][0]["image"], &pod["nodeSelector"]["pool"]),
        (&json!("registry/gtm:v9"), &json!("sync"))
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(
        rendered.iter().all(|object| kind(object) != "ClusterRoleBinding"),
        "a list of namespaces needs no cluster-wide rights"
    );
    let text = serde_json::to_string(&rendered).expect("JSON");
    assert!(!text.contains("gtm-sync-identity"), "an identity of the user's own: nothing to make, no right to make it");
    let roles = rendered.iter().filter(|object| kind(object) == "Role" && object.name_any().ends_with("tenants"));
    assert_eq!(roles.map(|role| role.namespace().expect("a namespace")).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
#[ignore = "needs helm"]
fn what_servers_demand_is_mounted_as_files_and_no_secret_stands_in_the_environment() {
    let rendered = objects(&template("gtm-sync", "gtm-sync", &[&[DATABASE], &LINKS[..]].concat()).expect("rendered"));
    for deployment in [operator(&rendered), &worker(&rendered)] {
        let pod = &deployment.data["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().expect("volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == "connections").expect("connections");
        let mut files: Vec<_> = Vec::new();
        for source in volume["projected"]["sources"].as_array().expect("sources") {
            let secret = source["secret"]["name"].as_str().expect("a Secret");
            let items = source["secret"]["items"].as_array().expect("items");
            files.extend(items.iter().map(|item| (secret, item["path"].as_str().expect("a path").to_owned())));
        }
        let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
        let mount = mounts.iter().find(|mount| mount["name"] == "connections").expect("mounted");
        let folder = mount["mountPath"].as_str().expect("a path");
        let environment = environment(deployment);
        for (name, secret) in [
            ("GTM_DATABASE_URL_FILE", "gtm-sync-database"),
            ("GTM_DATABASE_PASSWORD_FILE", "database-password"),
            ("PGSSLROOTCERT", "database-ca"),
            ("PGSSLCERT", "database-client"),
            ("PGSSLKEY", "database-client"),
            ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "temporal-ca"),
            ("TEMPORAL_TLS_CLIENT_CERT_PATH", "temporal-client"),
            ("TEMPORAL_TLS_CLIENT_KEY_PATH", "temporal-client"),
            ("GTM_TEMPORAL_API_KEY_FILE", "temporal-key"),
        ] {
            let path = environment[name].as_str().expect(name).strip_prefix(folder).expect(name);
            assert!(files.contains(&(secret, path[1..].to_owned())), "{name}: {path} of {secret} in {files:?}");
        }
        assert_eq!((&environment["TEMPORAL_TLS"], &environment["PGSSLMODE"]), (&json!("true"), &json!("verify-full")));
        let text = serde_json::to_string(&pod["containers"][0]["env"]).expect("JSON");
        assert!(!text.contains("secretKeyRef"), "{text}");
    }
}

#[test]
#[ignore = "needs helm"]
fn a_pod_template_of_the_users_is_merged_into_ours_and_its_containers_variables_and_volumes_are_added() {
    let set = [
        DATABASE,
        "workers.podTemplate.metadata.annotations.team=data",
        "workers.podTemplate.spec.priorityClassName=high",
        "workers.podTemplate.spec.volumes[0].name=spare",
        "workers.podTemplate.spec.containers[0].name=worker",
        "workers.podTemplate.spec.containers[0].env[0].name=GTM_DRAIN_SECONDS",
        "workers.podTemplate.spec.containers[0].env[0].value=five",
        "workers.podTemplate.spec.containers[0].resources.limits.memory=1Gi",
        "workers.podTemplate.spec.containers[0].volumeMounts[0].name=spare",
        "workers.podTemplate.spec.containers[1].name=beside",
        "workers.deployment.progressDeadlineSeconds=90",
    ];
    let worker = worker(&objects(&template("gtm-sync", "gtm-sync", &set).expect("rendered")));
    let (spec, pod) = (&worker.data["spec"], &worker.data["spec"]["template"]["spec"]);
    assert_eq!((&spec["progressDeadlineSeconds"], &spec["replicas"]), (&json!(90), &json!(1)));
    assert_eq!(spec["template"]["metadata"]["annotations"]["team"], "data");
    assert_eq!(spec["template"]["metadata"]["labels"]["app.kubernetes.io/component"], "worker");
    assert_eq!((&pod["priorityClassName"], &pod["enableServiceLinks"]), (&json!("high"), &json!(false)));
    let names = |of: &Value| of.as_array().expect("a list").iter().map(|it| it["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&pod["volumes"]), ["identity", "recipients", "connections", "spare"]);
    assert_eq!(names(&pod["containers"]), ["worker", "beside"]);
    let container = &pod["containers"][0];
    assert_eq!(names(&container["volumeMounts"]), ["identity", "recipients", "connections", "spare"]);
    assert_eq!(
        container["resources"],
        json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}})
    );
    let variables = environment(&worker);
    assert_eq!(
        (&variables["GTM_DRAIN_SECONDS"], &variables["TEMPORAL_NAMESPACE"]),
        (&json!("five"), &json!("default"))
    );
    let drains = names(&container["env"]).into_iter().filter(|name| name == "GTM_DRAIN_SECONDS").count();
    assert_eq!(drains, 1, "the user's in place of ours");
}

#[test]
#[ignore = "needs helm"]
fn bounds_a_fixed_number_and_an_autoscaler_of_the_users_arrive_as_they_are_meant() {
    let of = |set: &[&str]| {
        let rendered = objects(&template("gtm-sync", "gtm-sync", &[&[DATABASE], set].concat()).expect("rendered"));
        let most = environment(operator(&rendered)).get("GTM_WORKER_MAX_REPLICAS").cloned();
        (worker(&rendered).data["spec"].get("replicas").cloned(), most)
    };
    assert_eq!(of(&["workers.replicas=3"]), (Some(json!(3)), None));
    let bounds = ["workers.minReplicas=0", "workers.maxReplicas=5"];
    assert_eq!(of(&bounds), (Some(json!(0)), Some(json!("5"))));
    assert_eq!(of(&["workers.autoscaling.external=true"]), (None, None));
}

#[test]
#[ignore = "needs helm"]
fn every_variable_of_the_chart_is_one_that_the_binary_reads() {
    let set = [
        DATABASE,
        "clusterId=a",
        "watchNamespaces={a}",
        "recipient=age1x",
        "workers.tenantSyncs=0",
        "workers.allowedPrivateHosts={a}",
        "workers.sourceCaSecret=ca",
        "workers.maxReplicas=2",
    ];
    let set = [&set[..], &LINKS].concat();
    let rendered = objects(&template("gtm-sync", "gtm-sync", &set).expect("rendered"));
    let files = ["src/settings.rs", "src/settings/connections.rs"];
    let settings = files.map(|file| fs::read_to_string(repository().join(file)).expect("settings")).concat();
    for deployment in [operator(&rendered), &worker(&rendered)] {
        for name in environment(deployment).as_object().expect("variables").keys() {
            assert!(settings.contains(&format!("env = \"{name}\"")), "{name}");
        }
    }
}

#[test]
#[ignore = "needs helm"]
fn definitions_come_with_the_chart_unless_switched_off() {
    let definitions = |set: &[&str]| {
        let rendered = objects(&template("gtm-sync", "gtm-sync", set).expect("rendered"));
        rendered.into_iter().filter(|object| kind(object) == "CustomResourceDefinition").collect::<Vec<_>>()
    };
    let generated: Vec<_> = crd::manifests().iter().flat_map(|(_, yaml)| objects(yaml)).collect();
    assert_eq!(definitions(&[DATABASE, "crds.keep=false"]), generated);
    for kept in definitions(&[DATABASE]) {
        assert_eq!(kept.annotations()["helm.sh/resource-policy"], "keep");
    }
    assert_eq!(definitions(&[DATABASE, "crds.enabled=false"]), []);
}

#[test]
#[ignore = "needs helm"]
fn the_kustomize_base_is_what_the_chart_renders() {
    let rendered = template("gtm-sync", "gtm-sync", &["database.secretName=gtm-sync-database", "crds.enabled=false"])
        .expect("rendered");
    let base = fs::read_to_string(repository().join("deploy/base/operator.yaml")).expect("the base");
    let body = base.split_once('\n').map(|(_, body)| body);
    assert_eq!(body, Some(rendered.as_str()), "stale, run `cargo xtask generate`");
    let kustomized =
        run(&support::service("GTM_TEST_KUBECTL"), &["kustomize", "deploy/base"]).expect("kustomize builds");
    assert_eq!(objects(&kustomized).len(), objects(&rendered).len() + 3, "and a namespace and two definitions");
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn the_api_server_takes_every_rendered_manifest() {
    let client = crds::client().await;
    let namespace = crds::namespace(&client, "chart").await;
    let watched = format!("watchNamespaces={{{namespace}}}");
    for set in
        [vec![DATABASE], vec![DATABASE, &watched, "workers.sourceCaSecret=ca", "podDisruptionBudget.enabled=false"]]
    {
        let set = [&set[..], &LINKS].concat();
        let mut rendered = objects(&template("chart", &namespace, &set).expect("rendered"));
        rendered.push(worker(&rendered));
        assert!(rendered.len() >= 10, "{}", rendered.len());
        for object in &rendered {
            apply(&client, object, strict().dry_run()).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn a_restricted_namespace_admits_operator_and_worker_pods() {
    let client = crds::client().await;
    let name = support::fresh("restricted");
    let labels =
        json!({ "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    let namespace: Namespace = serde_json::from_value(labels).expect("a namespace");
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("the namespace is made");
    let rendered = objects(&template("chart", &name, &[DATABASE, "workers.sourceCaSecret=ca"]).expect("rendered"));
    for account in rendered.iter().filter(|object| kind(object) == "ServiceAccount") {
        apply(&client, account, strict()).await;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for deployment in [operator(&rendered), &worker(&rendered)] {
        let spec = serde_json::from_value(deployment.data["spec"]["template"]["spec"].clone()).expect("a pod");
        let mut pod = Pod {
            metadata: ObjectMeta { name: Some("x".to_owned()), ..ObjectMeta::default() },
            spec: Some(spec),
            status: None,
        };
        pods.create(&dry_run, &pod).await.unwrap_or_else(|error| panic!("{}: {error}", deployment.name_any()));
        pod.spec.as_mut().expect("set above").security_context = None;
        let refusal = pods.create(&dry_run, &pod).await.expect_err("the namespace does enforce");
        assert!(refusal.to_string().contains("violates PodSecurity"), "{refusal}");
    }
}

/// Verb, group, resource, subresource, name.
type Right = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[tokio::test]
#[ignore = "needs kube-apiserver"]
async fn the_operator_may_do_what_it_must_and_no_more_and_workers_nothing() {
    const GROUP: &str = crd::GROUP;
    let client = crds::client().await;
    let (namespace, release) = (crds::namespace(&client, "rights").await, support::fresh("gtm-sync"));
    grant(&client, &release, &namespace, None).await;
    let everywhere: &[Right] = &[
        ("watch", GROUP, "connectors", "", ""),
        ("list", GROUP, "tenantschedules", "", ""),
        ("patch", GROUP, "tenantschedules", "", ""),
        ("patch", GROUP, "tenantschedules", "status", ""),
        ("patch", GROUP, "connectors", "status", ""),
        ("get", "", "secrets", "", "acme-hubspot"),
        ("create", "events.k8s.io", "events", "", ""),
    ];
    let own: &[Right] = &[
        ("update", "coordination.k8s.io", "leases", "", ""),
        ("patch", "apps", "deployments", "", ""),
        ("list", "apps", "deployments", "", ""),
        ("delete", "apps", "deployments", "", ""),
        ("patch", "policy", "poddisruptionbudgets", "", ""),
        ("patch", "", "configmaps", "", "gtm-sync-recipient"),
        ("create", "", "configmaps", "", ""),
        ("create", "", "secrets", "", ""),
    ];
    let never: &[Right] = &[
        ("list", "", "secrets", "", ""),
        ("patch", "", "configmaps", "", ""),
        ("watch", "", "secrets", "", ""),
        ("update", "", "secrets", "", ""),
        ("delete", "", "secrets", "", ""),
        ("patch", GROUP, "connectors", "", ""),
        ("delete", GROUP, "connectors", "", ""),
        ("delete", GROUP, "tenantschedules", "", ""),
        ("create", "", "pods", "", ""),
        ("create", "", "pods", "exec", ""),
        ("create", "rbac.authorization.k8s.io", "roles", "", ""),
        ("patch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
        ("impersonate", "", "users", "", ""),
    ];
    let account = |component: &str| format!("system:serviceaccount:{namespace}:{release}-{component}");
    for (account, namespace, rights, expected) in [
        (account("operator"), "default", everywhere, true),
        (account("operator"), &namespace, own, true),
        (account("operator"), "default", own, false),
        (account("operator"), "default", never, false),
        (account("operator"), &namespace, never, false),
        (account("worker"), &namespace, everywhere, false),
        (account("worker"), &namespace, own, false),
    ] {
        for right in rights {
            assert_eq!(
                allowed(&client, &account, namespace, *right).await,
                expected,
                "{account} in {namespace}: {right:?}"
            );
        }
    }
}

async fn allowed(
    client: &Client,
    account: &str,
    namespace: &str,
    (verb, group, resource, subresource, name): Right,
) -> bool {
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let resource = ResourceAttributes {
        namespace: set(namespace),
        verb: set(verb),
        group: Some(group.to_owned()),
        resource: set(resource),
        subresource: set(subresource),
        name: set(name),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(account.to_owned()),
        resource_attributes: Some(resource),
        ..Default::default()
    };
    let review = SubjectAccessReview { metadata: ObjectMeta::default(), spec, status: None };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.expect("a review");
    answer.status.expect("the server answers in the status").allowed
}
