//! The operator's own links, to a Temporal and a PostgreSQL that demand certificates, key and password, which are replaced
//! while it runs. What workers make of the same is in `links`.

use gtm_sync::settings::TemporalSettings;
use serde_json::json;

use super::harness::Installation;
use crate::links::{postgres, temporal};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal, postgres"]
async fn an_edit_arrives_after_the_keys_to_temporal_and_postgresql_were_replaced_under_a_running_operator() {
    let mut database = postgres::House::new("first").await;
    let mut front = temporal::House::new(Some("first")).await;
    let (database_keys, front_keys) = (database.keys("first"), front.keys("first"));
    let installation = Installation::new().await;
    let operator = installation
        .operator_with(|settings| {
            settings.store = postgres::settings(&database_keys);
            settings.temporal = TemporalSettings {
                temporal_namespace: settings.temporal.temporal_namespace.clone(),
                ..front.settings(&front_keys, |tls| tls.temporal_api_key_file = Some(front_keys.path("api-key")))
            };
        })
        .await;
    let edit = async |hour: i32| {
        let spec = json!({"tenantId": "acme", "schedules": [format!("0 {hour} * * *")]});
        installation.apply_tenant("acme", spec).await;
    };
    edit(4).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;

    // Each link by itself: what was right is refused until its files follow.
    database.replace("second").await;
    front.replace("second");
    edit(5).await;
    installation.tenant_ready("acme", "False", "StoreUnavailable").await;
    database.renew(&database_keys, "second");
    installation.tenant_ready("acme", "False", "TemporalUnavailable").await;
    front.renew(&front_keys, "second");
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let hour = |schedule: &temporalio_common::protos::temporal::api::schedule::v1::Schedule| {
        schedule.spec.as_ref().map(|spec| spec.structured_calendar[0].hour[0].start)
    };
    installation.schedule("scheduled-sync-acme", "as edited", |schedule| hour(schedule) == Some(5)).await;
    assert_eq!(front.front.authorizations(), ["first", "second"].map(|key| format!("Bearer {key}")).into());
    assert!(!operator.has_ended(), "the same operator");
    operator.stop().await;
}
