//! The round trip of every field of a schedule through a real server: what comes back must never look like an edit.

use serde_json::{Value, json};

use super::harness::{Installation, is};

/// Specs that together say everything that can be said, among them what the server rewrites: names of days and months,
/// macros, steps, ranges, zero and default values.
fn specs() -> Vec<Value> {
    let crons = [
        json!(["@hourly"]),
        json!(["@daily", "@weekly", "@monthly", "@yearly"]),
        json!(["*/7 1-5,9,22 * jan-mar,DEC mon"]),
        json!(["0 0 * * 0", "0 0 * * 7", "0 0 1,15 * *"]),
        json!(["0-59/5 0-23/1 * * MON-FRI"]),
        json!(["0 1 * * *", "0 2 * * *", "0 3 * * *", "0 4 * * *", "0 5 * * *", "0 6 * * *", "0 7 * * *", "0 8 * * *"]),
    ];
    let mut specs: Vec<_> = crons.into_iter().map(|crons| json!({"schedules": crons})).collect();
    for overlap in ["Skip", "BufferOne", "BufferAll", "CancelOther", "TerminateOther", "AllowAll"] {
        specs.push(json!({"overlapPolicy": overlap}));
    }
    specs.extend([
        json!({"timeZone": "America/Argentina/Buenos_Aires"}),
        json!({"timeZone": "UTC", "spread": {"window": "0s"}}),
        json!({"spread": {"window": "90s"}, "catchUpWindow": "10s"}),
        json!({"spread": {"window": "1h"}, "catchUpWindow": "8760h"}),
        json!({"suspend": true, "pauseOnFailure": true}),
        json!({"startAt": "2098-01-01T00:00:00Z", "endAt": "2099-12-31T23:59:59Z"}),
        json!({"startAt": "2026-01-01T00:00:00.25Z"}),
        json!({"maintenanceWindows": [{"schedule": "30 22 * * sat", "duration": "8h"}, {"schedule": "0 3 * * *", "duration": "30m"}]}),
    ]);
    specs
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn no_schedule_drifts_by_itself_whatever_its_spec_says() {
    let installation = Installation::new().await;
    let operator = installation.operator_with(|settings| settings.resync_seconds = 1).await;
    let tenants: Vec<_> = (0..).map(|number| format!("tenant-{number}")).zip(specs()).collect();
    for (tenant, spec) in &tenants {
        let mut spec = spec.clone();
        spec["tenantId"] = json!(tenant);
        installation.apply_tenant(tenant, spec).await;
    }
    for (tenant, spec) in &tenants {
        let reason = if spec["suspend"] == true { "Suspended" } else { "Scheduled" };
        installation.tenant_ready(tenant, "True", reason).await;
    }
    installation.looked_again("TenantSchedule", 3 * u64::try_from(tenants.len()).expect("few")).await;
    for (tenant, spec) in &tenants {
        let object = installation.tenants().get(tenant).await.expect("there");
        assert!(is(&object.status.expect("a status").conditions, "Synced", "True", "InSync"), "{spec}");
        let info = installation.describe(&format!("scheduled-sync-{tenant}")).await.and_then(|found| found.info);
        assert_eq!(info.expect("a schedule").update_time, None, "written again: {spec}");
        let told = installation.events(tenant).await;
        assert!(told.iter().all(|of| of == "ScheduleCreated" || of == "Suspended"), "{told:?}: {spec}");
    }
    operator.stop().await;
}
