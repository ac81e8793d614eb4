//! Who acts: a Lease and its deadline, two operators at once, one that wakes up late (R26).

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use gtm_sync::settings::OperatorSettings;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use serde_json::json;
use tokio::time::Instant;

use super::{
    gate::Gate,
    harness::{Installation, SOON},
};
use crate::support::{self, eventually};

/// Takes part in the election with a Lease of so many seconds.
fn elected(seconds: u64) -> impl Fn(&mut OperatorSettings) {
    move |settings| {
        settings.no_leader_election = false;
        settings.lease_seconds = seconds;
    }
}

/// The same beside another operator of this process.
fn beside(change: impl Fn(&mut OperatorSettings)) -> impl Fn(&mut OperatorSettings) {
    move |settings| {
        change(settings);
        settings.health.health_address.set_port(0);
    }
}

async fn lease(installation: &Installation) -> Option<LeaseSpec> {
    let api: Api<Lease> = Api::namespaced(installation.client.clone(), &installation.namespace);
    api.get("gtm-sync-operator").await.ok()?.spec
}

async fn holder(installation: &Installation) -> String {
    eventually("a holder of the Lease", SOON, || async { lease(installation).await?.holder_identity }).await
}

async fn holder_is_not(installation: &Installation, former: &str) {
    eventually("another holder of the Lease", SOON, || async {
        let holder = lease(installation).await?.holder_identity?;
        (holder != former).then_some(())
    })
    .await;
}

async fn suspend(installation: &Installation) {
    installation.apply_tenant("acme", json!({"tenantId": "acme", "suspend": true})).await;
    installation.tenant_ready("acme", "True", "Suspended").await;
}

async fn assert_paused(installation: &Installation) {
    let schedule = installation.describe("scheduled-sync-acme").await.and_then(|found| found.schedule);
    assert!(schedule.expect("a schedule").state.expect("a state").paused, "as its successor left it");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_crashed_leader_is_followed_within_its_lease() {
    let installation = Installation::new().await;
    let first = installation.operator_with(elected(6)).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let former = holder(&installation).await;
    let second = installation.operator_with(beside(elected(6))).await;

    let crashed = Instant::now();
    first.kill().await;
    holder_is_not(&installation, &former).await;
    let followed = crashed.elapsed();
    assert!(followed > Duration::from_secs(3), "a silent holder keeps its Lease: {followed:?}");
    assert!(followed < Duration::from_secs(20), "6 s, a second look, and a busy machine: {followed:?}");
    assert_eq!(lease(&installation).await.and_then(|lease| lease.lease_transitions), Some(2));
    suspend(&installation).await;
    second.stop().await;
    assert_eq!(lease(&installation).await.and_then(|lease| lease.holder_identity), None, "given back");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_leader_that_cannot_renew_leaves_before_its_lease_ends() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    let first = installation.operator_in(gate.config(), elected(15)).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let former = holder(&installation).await;
    let second = installation.operator_with(beside(elected(15))).await;

    gate.hold(None, "/leases");
    let error = first.failed().await;
    assert!(error.to_string().contains("not renewed in time"), "{error:#}");
    assert_eq!(holder(&installation).await, former, "it was gone before anybody could follow");
    holder_is_not(&installation, &former).await;
    suspend(&installation).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn two_operators_at_once_leave_one_schedule_and_one_status() {
    let installation = Installation::new().await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    let (first, second) = tokio::join!(installation.operator_with(|_| {}), installation.operator_with(beside(|_| {})));
    installation.tenant_ready("acme", "True", "Scheduled").await;
    // Of two that think they lead, the store knows the later one; the other is told with its next write.
    let mut both = vec![first, second];
    let gone = eventually("one of the two has left", SOON, || async {
        installation.apply_tenant("acme", json!({"tenantId": "acme", "suspend": true})).await;
        installation.apply_tenant("acme", json!({"tenantId": "acme", "suspend": false})).await;
        both.iter().position(super::harness::Running::has_ended)
    })
    .await;
    let error = both.remove(gone).failed().await;
    assert!(error.to_string().contains("has taken the leadership"), "{error:#}");

    suspend(&installation).await;
    assert_paused(&installation).await;
    let listed = eventually("the schedule is listed", SOON, || async {
        let listed = installation.temporal.list_schedules().await.ok()?;
        let ids: Vec<_> = listed.into_iter().filter(|found| found.owner.is_some()).map(|found| found.id).collect();
        ids.contains(&"scheduled-sync-acme".to_owned()).then_some(ids)
    })
    .await;
    assert_eq!(listed.iter().filter(|id| id.contains("acme")).count(), 1, "{listed:?}");
    let conditions = installation.tenants().get("acme").await.expect("there").status.expect("a status").conditions;
    assert_eq!(conditions.iter().filter(|condition| condition.type_ == "Ready").count(), 1);
    let last = both.pop().expect("one goes on");
    assert!(!last.has_ended(), "one goes on");
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_leader_that_sees_only_the_past_is_told_by_the_store_that_it_has_a_successor() {
    let installation = Installation::new().await;
    let gate = Gate::open().await;
    let first = installation.operator_in(gate.config(), |settings| settings.resync_seconds = 1).await;
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    // From here on it knows the former spec only, and looks at it every second.
    gate.shut();
    let second = installation.operator_with(beside(|_| {})).await;
    suspend(&installation).await;
    let error = first.failed().await;
    assert!(error.to_string().contains("has taken the leadership"), "{error:#}");
    assert_paused(&installation).await;
    second.stop().await;
}

/// An operator as a process of its own, killed with the test.
struct Process(Child);

impl Process {
    fn start(installation: &Installation, lease_seconds: u64) -> Self {
        let OperatorSettings { store, temporal, .. } = &installation.settings;
        let child = Command::new(env!("CARGO_BIN_EXE_gtm-sync"))
            .arg("operator")
            .env("KUBECONFIG", support::kubeconfig())
            .env("GTM_DATABASE_URL", store.database_url.as_deref().expect("a URL"))
            .env("TEMPORAL_ADDRESS", &temporal.temporal_address)
            .env("TEMPORAL_NAMESPACE", &temporal.temporal_namespace)
            .env("GTM_HEALTH_ADDRESS", "127.0.0.1:0")
            .env("GTM_NAMESPACE", &installation.namespace)
            .env("GTM_WATCH_NAMESPACES", &installation.namespace)
            .env("GTM_LEASE_SECONDS", lease_seconds.to_string())
            .env("GTM_RESYNC_SECONDS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the operator starts"))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "{signal}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver, temporal"]
async fn a_leader_that_wakes_after_its_successor_changes_nothing() {
    let installation = Installation::new().await;
    let mut sleeper = Process::start(&installation, 6);
    installation.apply_tenant("acme", json!({"tenantId": "acme"})).await;
    installation.tenant_ready("acme", "True", "Scheduled").await;
    let former = holder(&installation).await;
    sleeper.signal("-STOP");
    let successor = installation.operator_with(elected(6)).await;
    holder_is_not(&installation, &former).await;
    suspend(&installation).await;
    let before = lease(&installation).await.and_then(|lease| lease.lease_transitions);

    sleeper.signal("-CONT");
    let left = eventually("the sleeper leaves", SOON, || {
        let left = sleeper.0.try_wait().expect("a child");
        async move { left }
    })
    .await;
    assert!(!left.success(), "leadership that was lost is no good end");
    assert_paused(&installation).await;
    assert_eq!(lease(&installation).await.and_then(|lease| lease.lease_transitions), before, "nobody took it back");
    successor.stop().await;
}
