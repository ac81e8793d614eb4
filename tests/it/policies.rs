//! `deploy/policies` on a real API server, asked by people without and with the right. The binding is narrowed to the test's
//! namespace: other tests share the server.

use std::{fs, time::Duration};

use gtm_sync::crd::TenantSchedule;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Namespace,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{crds, support};

/// A client of this person.
async fn person(name: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(support::kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.expect("a usable kubeconfig");
    config.auth_info.impersonate = Some(name.to_owned());
    Client::try_from(config).expect("a client")
}

async fn grant(client: &Client, namespace: &str, person: &str, resource: &str, verbs: &[&str]) {
    let name = format!("{person}-{resource}");
    let role: Role = of(json!({"metadata": {"name": name},
        "rules": [{"apiGroups": ["sync.gtmclarity.io"], "resources": [resource], "verbs": verbs}]}));
    put(Api::namespaced(client.clone(), namespace), &name, &role).await;
    let binding: RoleBinding = of(json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}]}));
    put(Api::namespaced(client.clone(), namespace), &name, &binding).await;
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

async fn put<K>(api: Api<K>, name: &str, object: &K)
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let created = api.create(&PostParams::default(), object).await;
    created.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Applies the policy, under a name of its own and for one namespace.
async fn apply_policy(client: &Client, namespace: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policies/tenants.yaml");
    let text = fs::read_to_string(path).expect("the policy");
    let documents: Vec<Value> =
        text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect();
    let mut policy: ValidatingAdmissionPolicy = of(documents[0].clone());
    policy.metadata.name = Some(namespace.to_owned());
    Api::all(client.clone()).create(&PostParams::default(), &policy).await.expect("the policy is accepted");
    let mut binding = documents[1].clone();
    binding["metadata"]["name"] = json!(namespace);
    binding["spec"]["policyName"] = json!(namespace);
    let only = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    binding["spec"]["matchResources"] = json!({"namespaceSelector": only});
    let binding: ValidatingAdmissionPolicyBinding = of(binding);
    Api::all(client.clone()).create(&PostParams::default(), &binding).await.expect("the binding is accepted");
}

/// What the API server says to this spec.
async fn said(client: &Client, namespace: &str, name: &str, spec: Value) -> Result<(), String> {
    let api: Api<TenantSchedule> = Api::namespaced(client.clone(), namespace);
    let object = json!({"apiVersion": "sync.gtmclarity.io/v1alpha1", "kind": "TenantSchedule",
        "metadata": {"name": name}, "spec": spec});
    let applied = api.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver"]
async fn a_namespace_is_its_tenants_and_workers_of_its_own_are_granted() {
    let admin = crds::client().await;
    crds::install_definitions(&admin).await;
    let namespace = crds::namespace(&admin, "policy").await;
    for person in ["dev", "lead"] {
        grant(&admin, &namespace, person, "tenantschedules", &["get", "create", "patch"]).await;
    }
    apply_policy(&admin, &namespace).await;
    let (dev, lead) = (person("dev").await, person("lead").await);
    let acme = || json!({"tenantId": "acme"});
    // Each time another object: one that was let in before the policy is not asked again while its spec stays.
    let refused = support::eventually("the policy is in force", Duration::from_secs(60), || async {
        said(&dev, &namespace, &support::fresh("probe"), acme()).await.err()
    })
    .await;
    assert!(refused.contains("lacks the label sync.gtmclarity.io/tenant"), "{refused}");

    let label = json!({"metadata": {"labels": {"sync.gtmclarity.io/tenant": "acme"}}});
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(label)).await.expect("labelled");
    support::eventually("the label is seen", Duration::from_secs(60), || async {
        said(&dev, &namespace, "acme", acme()).await.ok()
    })
    .await;
    let refused = said(&dev, &namespace, "globex", json!({"tenantId": "globex"})).await.expect_err("another tenant's");
    assert!(refused.contains("this namespace is of tenant acme"), "{refused}");

    let dedicated = |replicas: i32| json!({"tenantId": "acme", "workers": {"mode": "Dedicated", "replicas": replicas}});
    for client in [&dev, &lead] {
        let refused = said(client, &namespace, "acme", dedicated(1)).await.expect_err("not granted");
        assert!(refused.contains("may use dedicatedworkers.sync.gtmclarity.io"), "{refused}");
    }
    grant(&admin, &namespace, "lead", "dedicatedworkers", &["use"]).await;
    support::eventually("the grant is seen", Duration::from_secs(60), || async {
        said(&lead, &namespace, "acme", dedicated(1)).await.ok()
    })
    .await;
    let mut edited = dedicated(1);
    edited["suspend"] = json!(true);
    assert_eq!(said(&dev, &namespace, "acme", edited).await, Ok(()), "what was granted is nobody's to ask for again");
    assert!(said(&dev, &namespace, "acme", dedicated(20)).await.is_err(), "more of it is");
}
