//! Dedicated pools on a real Temporal server: two kinds of workers with an identity each, and a tenant that moves between them.

use std::path::PathBuf;

use gtm_sync::{
    credentials::{Envelope, Opener, Sealer, recipient_name, seal::generate_identity},
    model::config::SecretFields,
    store::{BaseCredential, Owner, TenantProjection},
};
use simulators::hubspot::{OauthOptions, Visibility};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use super::*;
use crate::support::stack::Worker;

const TOKEN: &str = "refresh-canary";

/// A tenant's own workers, beside the shared ones of a `Stack`.
struct Own<'a> {
    stack: &'a Stack,
    opener: Opener,
    identity_file: PathBuf,
}

impl<'a> Own<'a> {
    /// With the recipients of both pools mounted where all workers look.
    fn of(stack: &'a Stack, tenant: &str) -> Self {
        let (identity, recipient) = generate_identity();
        let identity_file = stack.directory.path().join(format!("identity.{tenant}"));
        std::fs::write(&identity_file, &identity).expect("identity file");
        let tenant = tenant.parse().expect("tenant id");
        let entries = [(recipient_name(None), stack.sealer.recipient()), (recipient_name(Some(&tenant)), recipient)];
        for (name, recipient) in entries {
            std::fs::write(stack.directory.path().join(name), recipient).expect("recipient");
        }
        Self { stack, opener: Opener::new(&identity).expect("identity"), identity_file }
    }

    fn worker(&self, tenant: &str) -> Worker {
        let identity_file = self.identity_file.to_str().expect("a path");
        let recipients = self.stack.directory.path().to_str().expect("a path");
        self.stack.worker_with(&[
            ("GTM_POOL", tenant),
            ("GTM_IDENTITY_FILE", identity_file),
            ("GTM_RECIPIENTS_DIRECTORY", recipients),
        ])
    }
}

fn shared_worker(stack: &Stack) -> Worker {
    stack.worker_with(&[("GTM_RECIPIENTS_DIRECTORY", stack.directory.path().to_str().expect("a path"))])
}

/// Projects the tenant, with workers of its own or without.
async fn put_tenant(stack: &Stack, tenant: &str, dedicated: bool) {
    let projection = TenantProjection {
        tenant_id: tenant.parse().expect("tenant id"),
        owner: Owner { cluster_id: String::new(), namespace: format!("tenant-{tenant}"), name: tenant.to_owned() },
        uid: "uid".to_owned(),
        wait_seconds: None,
        dedicated,
    };
    stack.store.put_tenant(&projection).await.expect("projected");
}

/// Projects connector `hubspot`, its credential of these fields sealed to one of the pools.
async fn put_connector(stack: &Stack, tenant: &str, crm: &Simulator, sealer: &Sealer, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let envelope = Envelope {
        tenant_id: tenant.parse().expect("tenant id"),
        connector_id: "hubspot".parse().expect("connector id"),
        allowed_hosts: vec![crm.address().to_string()],
        key_id: String::new(),
        fields: SecretFields(fields),
    };
    let credential = BaseCredential { sealed: sealer.seal(envelope), digest: "content".to_owned() };
    let edit = |connector: &mut ConnectorProjection| {
        connector.config.batch_size = 100;
        connector.credential = Some(credential);
    };
    stack.connector(tenant, "hubspot", &crm.base_url(), "", edit).await;
}

/// Queue of each activity that a workflow scheduled, and who worked on each.
async fn activities(stack: &Stack, id: &str) -> (Vec<String>, Vec<String>) {
    let (mut queues, mut workers) = (Vec::new(), Vec::new());
    for event in stack.events(id).await {
        match event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => {
                queues.push(scheduled.task_queue.expect("a queue").name);
            }
            Some(Attributes::ActivityTaskStartedEventAttributes(started)) => workers.push(started.identity),
            _ => {}
        }
    }
    assert!(!queues.is_empty() && queues.len() == workers.len(), "{queues:?} {workers:?}");
    (queues, workers)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_dedicated_tenants_activities_run_on_its_own_workers_only_and_a_start_by_hand_works() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(120).await);
    let _shared = shared_worker(&stack);
    let own = Own::of(&stack, "acme");
    let token = format!("pat-{CANARY}");
    put_tenant(&stack, "acme", true).await;
    put_connector(&stack, "acme", &crm, &own.opener.sealer(), &[("accessToken", &token)]).await;
    put_tenant(&stack, "globex", false).await;
    put_connector(&stack, "globex", &crm, &stack.sealer, &[("accessToken", &token)]).await;

    let input = json!({"tenantId": "acme", "connectorId": "hubspot"});
    stack.start("checkConnectionWorkflow", "waits", input).await;
    check_connection(&stack, "globex", "hubspot").await.completed();
    eventually("the check waits for workers that are not there yet", LONG, || async {
        (stack.pending_attempts("waits").await == [1]).then_some(())
    })
    .await;
    let _own = own.worker("acme");
    assert_eq!(stack.end("waits").await.completed()["status"], "connected");
    for (tenant, queue, worker) in
        [("acme", "connector-sync-acme", "gtm-sync-worker-acme@"), ("globex", "connector-sync", "gtm-sync-worker@")]
    {
        let id = format!("by-hand-{tenant}");
        stack.sync(&id, tenant, "hubspot", true).await.completed();
        let (queues, workers) = activities(&stack, &id).await;
        assert!(queues.iter().all(|found| found == queue), "{queues:?}");
        assert!(workers.iter().all(|found| found.starts_with(worker)), "{workers:?}");
        assert_clean(&stack, &crm, tenant, "hubspot").await;
    }
    stack.start("scheduledSyncWorkflow", "tick", json!({"tenantId": "acme"})).await;
    assert_eq!(stack.end("tick").await.completed()["successes"], 1, "listed on the shared queue, synced on its own");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn workers_without_the_key_say_so_and_the_connection_stays_as_it_was() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(20).await);
    let _shared = shared_worker(&stack);
    let own = Own::of(&stack, "acme");
    let token = format!("pat-{CANARY}");
    put_tenant(&stack, "acme", false).await;
    put_connector(&stack, "acme", &crm, &own.opener.sealer(), &[("accessToken", &token)]).await;
    let Ended::Failed { type_name, message } = check_connection(&stack, "acme", "hubspot").await else {
        panic!("the shared workers opened what is sealed to a tenant's own")
    };
    assert_eq!(type_name, "Unavailable", "{message}");
    assert!(message.contains("for which this worker has no identity"), "{message}");
    let found = status(&stack).await;
    assert_eq!(json!(found.connection_status), "pending", "nothing is wrong with the credential");
    assert!(found.connection_reason.contains("has no identity"), "{}", found.connection_reason);
    put_connector(&stack, "acme", &crm, &stack.sealer, &[("accessToken", &token)]).await;
    check_connection(&stack, "acme", "hubspot").await.completed();
}

/// A tenant with a grant whose refresh tokens work once.
async fn rotating(records: u32) -> Simulator {
    let options = Options {
        records,
        oauth: Some(OauthOptions {
            client_id: "app".to_owned(),
            client_secret: "secret".to_owned(),
            refresh_token: TOKEN.to_owned(),
            access_token_seconds: 1_800,
            rotate: true,
        }),
        limits: Limits::unlimited(),
        visibility: Visibility { late_records: 0, ..Visibility::default() },
        ..Options::default()
    };
    Simulator::start(options).await.expect("simulator")
}

const GRANT: [(&str, &str); 3] = [("clientId", "app"), ("clientSecret", "secret"), ("refreshToken", TOKEN)];

async fn overlay_key(stack: &Stack) -> String {
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    stack.store.overlay(&tenant, &connector).await.expect("reads").expect("refreshed").sealed.key_id
}

/// Access tokens end, so that the next request needs the newest refresh token; an older one would end the grant.
fn expire_tokens(crm: &Simulator) {
    crm.state().add_fault(Fault::new("", 1, Effect::ExpireTokens { private: false }));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_tenant_that_moves_in_mid_run_and_back_loses_neither_its_place_nor_its_rotated_token() {
    let (stack, crm) = (Stack::on_sqlite().await, rotating(1_500).await);
    let (own, _shared) = (Own::of(&stack, "acme"), shared_worker(&stack));
    put_tenant(&stack, "acme", false).await;
    put_connector(&stack, "acme", &crm, &stack.sealer, &GRANT).await;
    check_connection(&stack, "acme", "hubspot").await.completed();
    assert_eq!(overlay_key(&stack).await, stack.sealer.key_id());

    // Moves in while its run waits for a page.
    crm.state().add_fault(Fault::new("contacts", 3, Effect::Delay { milliseconds: 4_000 }));
    stack.start_sync("moving", "acme", "hubspot", true).await;
    eventually("rows of the run", LONG, || async {
        let run = status(&stack).await.last_run?;
        (run.stats.records_written > 0).then_some(())
    })
    .await;
    let _own = own.worker("acme");
    put_tenant(&stack, "acme", true).await;
    put_connector(&stack, "acme", &crm, &own.opener.sealer(), &GRANT).await;
    stack.end("moving").await.completed();
    let (queues, _) = activities(&stack, "moving").await;
    assert_eq!(queues.first().map(String::as_str), Some("connector-sync"));
    assert_eq!(queues.last().map(String::as_str), Some("connector-sync-acme"));
    assert_clean(&stack, &crm, "acme", "hubspot").await;
    assert_eq!(overlay_key(&stack).await, own.opener.sealer().key_id());
    expire_tokens(&crm);
    stack.sync("there", "acme", "hubspot", false).await.completed();

    // Moves out: its own workers hand the token back.
    put_tenant(&stack, "acme", false).await;
    put_connector(&stack, "acme", &crm, &stack.sealer, &GRANT).await;
    crm.state().edit_random(Edits { seed: 7, create: 20, update: 100, archive: 15, merge: 2 });
    crm.state().advance_clock(Duration::from_secs(900));
    expire_tokens(&crm);
    stack.sync("back", "acme", "hubspot", false).await.completed();
    let (queues, _) = activities(&stack, "back").await;
    assert_eq!(queues[0], "connector-sync-acme", "`reseal`");
    assert!(queues[1..].iter().all(|queue| queue == "connector-sync"), "{queues:?}");
    assert_eq!(overlay_key(&stack).await, stack.sealer.key_id());
    assert_clean(&stack, &crm, "acme", "hubspot").await;
    let log = std::fs::read_to_string(stack.log_path()).expect("worker log");
    assert!(!log.contains(TOKEN), "a refresh token in a log");
}
