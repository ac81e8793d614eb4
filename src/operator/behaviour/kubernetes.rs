//! The API server: finalizers, deletion, parts of a status, Secrets.

use gtm_sync::{
    crd::{NOT_OBSERVED, SCHEDULE_FINALIZER},
    error_class::Class,
    model::config::SecretFields,
    operator::{
        status_part::{TENANT_CONTROL, TENANT_OBSERVED},
        world::{Answer, Kind, ObjectKey, Request, StatusPart},
    },
};
use serde_json::{Value, json};

use super::{FOREIGN_FINALIZER, Found, Servers, ask, refused};

async fn found(servers: &dyn Servers, key: &ObjectKey) -> Found {
    servers.object(key).await.expect("it is there")
}

fn condition(of: &str) -> Value {
    json!({"type": of, "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-11-23T01:00:00Z"})
}

fn control(generation: i64, paused: bool) -> StatusPart {
    let fields = json!({"observedGeneration": generation, "paused": paused, "conditions": [condition("Ready")]});
    StatusPart { manager: TENANT_CONTROL.manager, fields }
}

fn observed() -> StatusPart {
    let fields = json!({"lastSuccessTime": "2026-11-23T01:00:00Z", "conditions": [condition("Healthy")]});
    StatusPart { manager: TENANT_OBSERVED.manager, fields }
}

pub(crate) async fn a_finalizer_is_added_once_beside_those_of_others(servers: &dyn Servers) {
    let key = servers.create(Kind::TenantSchedule, "held").await;
    servers.hold(&key, true).await;
    assert_eq!(ask(servers, Request::AddFinalizer(key.clone())).await, Answer::Done);
    let added = found(servers, &key).await;
    let mut finalizers = added.finalizers.clone();
    finalizers.sort();
    assert_eq!(finalizers, [SCHEDULE_FINALIZER, FOREIGN_FINALIZER]);
    assert_eq!(ask(servers, Request::AddFinalizer(key.clone())).await, Answer::Done);
    assert_eq!(found(servers, &key).await, added, "a second time changes nothing");
    assert_eq!(ask(servers, Request::RemoveFinalizer(key.clone())).await, Answer::Done);
    assert_eq!(found(servers, &key).await.finalizers, [FOREIGN_FINALIZER]);
    servers.hold(&key, false).await;
}

pub(crate) async fn a_deleted_object_goes_with_its_last_finalizer_and_takes_no_new_one(servers: &dyn Servers) {
    let key = servers.create(Kind::TenantSchedule, "goes").await;
    ask(servers, Request::AddFinalizer(key.clone())).await;
    let before = found(servers, &key).await;
    servers.hold(&key, true).await;
    servers.delete(&key).await;
    let deleting = found(servers, &key).await;
    assert!(deleting.deleting && deleting.generation > before.generation, "a deletion is a generation of its own");
    ask(servers, Request::RemoveFinalizer(key.clone())).await;
    assert!(servers.object(&key).await.is_some(), "somebody else's holds it");
    assert_eq!(refused(servers, Request::AddFinalizer(key.clone())).await, Class::Invalid);
    servers.hold(&key, false).await;
    assert_eq!(servers.object(&key).await, None);
    assert_eq!(ask(servers, Request::RemoveFinalizer(key.clone())).await, Answer::Done);
    assert_eq!(refused(servers, Request::AddFinalizer(key.clone())).await, Class::Conflict);
    assert_eq!(refused(servers, Request::ApplyStatus(key.clone(), control(1, false))).await, Class::Conflict);
    assert_eq!(servers.object(&key).await, None, "nothing brings it back");
}

pub(crate) async fn another_life_of_a_name_is_not_the_object(servers: &dyn Servers) {
    let former = servers.create(Kind::TenantSchedule, "reborn").await;
    servers.delete(&former).await;
    let key = servers.create(Kind::TenantSchedule, "reborn").await;
    assert_ne!(former.uid, key.uid);
    assert_eq!(refused(servers, Request::AddFinalizer(former.clone())).await, Class::Conflict);
    assert_eq!(found(servers, &key).await.finalizers, [""; 0]);
    ask(servers, Request::AddFinalizer(key.clone())).await;
    ask(servers, Request::RemoveFinalizer(former.clone())).await;
    assert_eq!(found(servers, &key).await.finalizers, [SCHEDULE_FINALIZER]);
}

pub(crate) async fn a_late_status_reaches_the_next_life_of_a_name_and_is_overwritten_whole(servers: &dyn Servers) {
    let former = servers.create(Kind::TenantSchedule, "late").await;
    servers.delete(&former).await;
    let key = servers.create(Kind::TenantSchedule, "late").await;
    ask(servers, Request::ApplyStatus(former, control(7, true))).await;
    assert_eq!(found(servers, &key).await.status["observedGeneration"], 7);
    let own = StatusPart { fields: json!({"observedGeneration": 1, "paused": false}), ..control(1, false) };
    ask(servers, Request::ApplyStatus(key.clone(), own.clone())).await;
    assert_eq!(found(servers, &key).await.status, own.fields, "no condition of the former life");
}

pub(crate) async fn each_manager_writes_its_own_part_of_a_status(servers: &dyn Servers) {
    let key = servers.create(Kind::TenantSchedule, "shared").await;
    for part in [control(1, true), observed()] {
        assert_eq!(ask(servers, Request::ApplyStatus(key.clone(), part)).await, Answer::Done);
    }
    let status = found(servers, &key).await.status;
    assert_eq!((&status["paused"], &status["lastSuccessTime"]), (&json!(true), &json!("2026-11-23T01:00:00Z")));
    let types = |status: &Value| -> Vec<String> {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut types: Vec<_> = conditions.filter_map(|of| of["type"].as_str().map(str::to_owned)).collect();
        types.sort();
        types
    };
    assert_eq!(types(&status), ["Healthy", "Ready"]);
    let less = StatusPart { fields: json!({"observedGeneration": NOT_OBSERVED}), ..control(1, true) };
    ask(servers, Request::ApplyStatus(key.clone(), less)).await;
    let status = found(servers, &key).await.status;
    assert_eq!(status["lastSuccessTime"], "2026-11-23T01:00:00Z", "the other's stays");
    assert_eq!(types(&status), ["Healthy"], "what a manager leaves out goes");
}

pub(crate) async fn an_equal_status_changes_nothing_and_no_status_is_an_edit(servers: &dyn Servers) {
    let key = servers.create(Kind::TenantSchedule, "equal").await;
    let created = found(servers, &key).await;
    ask(servers, Request::ApplyStatus(key.clone(), control(1, false))).await;
    let written = found(servers, &key).await;
    assert_ne!(written.resource_version, created.resource_version);
    assert_eq!(written.generation, created.generation);
    // An apply within the same second as the one before would change nothing anyway: managers' times are whole seconds.
    for _ in 0..12 {
        servers.moment().await;
    }
    ask(servers, Request::ApplyStatus(key.clone(), control(1, false))).await;
    assert_eq!(found(servers, &key).await, written);
}

pub(crate) async fn an_object_is_asked_for_its_tenant_by_name(servers: &dyn Servers) {
    let tenant_of = |kind| Request::TenantOf(kind, servers.namespace().to_owned(), "asked".to_owned());
    assert_eq!(ask(servers, tenant_of(Kind::TenantSchedule)).await, Answer::Tenant(None));
    let key = servers.create(Kind::TenantSchedule, "asked").await;
    assert_eq!(ask(servers, tenant_of(Kind::TenantSchedule)).await, Answer::Tenant(Some("acme".to_owned())));
    assert_eq!(ask(servers, tenant_of(Kind::Connector)).await, Answer::Tenant(None), "another kind");
    servers.hold(&key, true).await;
    servers.delete(&key).await;
    assert_eq!(ask(servers, tenant_of(Kind::TenantSchedule)).await, Answer::Tenant(Some("acme".to_owned())));
    servers.hold(&key, false).await;
    assert_eq!(ask(servers, tenant_of(Kind::TenantSchedule)).await, Answer::Tenant(None));
}

pub(crate) async fn a_secret_is_told_as_it_is_now(servers: &dyn Servers) {
    let get = || Request::GetSecret { namespace: servers.namespace().to_owned(), name: "crm".to_owned() };
    assert_eq!(ask(servers, get()).await, Answer::Secret(None));
    for value in ["first", "second"] {
        servers.put_secret("crm", "accessToken", value).await;
        let fields = SecretFields([("accessToken".to_owned(), value.to_owned())].into());
        assert_eq!(ask(servers, get()).await, Answer::Secret(Some(fields)));
    }
}

pub(crate) async fn a_tenants_own_workers_have_one_recipient_and_another_tenants_have_another(servers: &dyn Servers) {
    let ensured = async |tenant: &str| ask(servers, Request::EnsurePool(tenant.parse().expect("an id"))).await;
    let first = ensured("acme").await;
    assert!(matches!(first, Answer::Recipient(_)), "{first:?}");
    assert_ne!(ensured("beta").await, first);
    assert_eq!(ensured("acme").await, first);
}
