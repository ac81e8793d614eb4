//! The course of a connector's life that meets every call which activities make of the store. The same account, the same
//! edits and the same faults for every life; batches of a page, so that there are many of them.

use std::time::Duration;

use gtm_sync::{
    credentials::Envelope,
    model::config::{SecretFields, StreamConfig},
    store::{BaseCredential, Verb, Wish},
};
use serde_json::{Value, json};
use simulators::{
    checker,
    hubspot::{Edits, Effect, Fault, Kind, Limits, OauthOptions, Options, Simulator, Visibility},
};

use super::{House, Plan, snapshot::Snapshot};
use crate::support::{
    eventually, interrupting,
    stack::{CANARY, Ended},
};

/// What happens in a life, in this order; each is interrupted by itself.
pub(super) const PHASES: [&str; 5] = ["check", "failing run", "full load", "tick", "sweep"];

const LONG: Duration = Duration::from_secs(120);
const STREAMS: [&str; 3] = ["companies", "contacts", "deals"];
/// Two pages of contacts, one of each other stream.
const RECORDS: u32 = 280;
/// More than the source's visibility lag and the lookback of an increment, and than an access token lives.
const LATER: Duration = Duration::from_secs(900);

/// A phase that is over.
pub(super) struct Lived {
    pub(super) phase: interrupting::Phase,
    pub(super) snapshot: Snapshot,
}

/// Leads a life to its end.
pub(super) async fn live(house: &House, number: u32, plan: Plan) -> Vec<Lived> {
    let life = Life::begin(house, number).await;
    let [check, failing, full, tick, sweep] = plan;
    vec![
        life.phase(check, life.check()).await,
        life.phase(failing, life.fail()).await,
        life.phase(full, life.load()).await,
        life.phase(tick, life.tick()).await,
        life.phase(sweep, life.sweep()).await,
    ]
}

struct Life<'a> {
    house: &'a House,
    /// The tenant.
    name: String,
    crm: Simulator,
    poisoned: String,
}

impl<'a> Life<'a> {
    async fn begin(house: &'a House, number: u32) -> Self {
        let (name, portal_id) = (format!("life-{number:04}"), 900_000 + u64::from(number));
        let options = Options {
            records: RECORDS,
            portal_id,
            oauth: Some(OauthOptions {
                client_id: "app".to_owned(),
                client_secret: format!("secret-{CANARY}"),
                refresh_token: format!("refresh-{CANARY}"),
                access_token_seconds: 600,
                rotate: true,
            }),
            limits: Limits::unlimited(),
            visibility: Visibility { late_records: 0, ..Visibility::default() },
            ..Options::default()
        };
        let crm = Simulator::start(options).await.expect("simulator");
        house.store.owns(&name, portal_id);
        let poisoned = crm.state().live_ids(Kind::Contacts).remove(0);
        let life = Self { house, name, crm, poisoned };
        life.set_last_name("no\0database takes it");
        life.crm.state().advance_clock(LATER);
        house.stack.tenant(&life.name, None).await;
        life.project([]).await;
        life
    }

    async fn phase(
        &self,
        plan: Option<(interrupting::Call, interrupting::Interruption)>,
        work: impl Future<Output = Value>,
    ) -> Lived {
        self.house.store.begin(&self.name, plan);
        let result = work.await;
        let phase = self.house.store.end(&self.name);
        Lived { phase, snapshot: Snapshot::take(&self.house.stack, &self.name, &result).await }
    }

    /// Projects the connector with these wishes, as the operator would.
    async fn project(&self, wishes: impl IntoIterator<Item = (Verb, Wish)>) {
        let fields = [
            ("clientId", "app".to_owned()),
            ("clientSecret", format!("secret-{CANARY}")),
            ("refreshToken", format!("refresh-{CANARY}")),
        ];
        let envelope = Envelope {
            tenant_id: self.name.parse().expect("tenant id"),
            connector_id: "hubspot".parse().expect("connector id"),
            allowed_hosts: vec![self.crm.address().to_string()],
            key_id: String::new(),
            fields: SecretFields(fields.map(|(name, value)| (name.to_owned(), value)).into()),
        };
        let stack = &self.house.stack;
        let credential = BaseCredential { sealed: stack.sealer.seal(envelope), digest: "grant".to_owned() };
        stack
            .connector(&self.name, "hubspot", &self.crm.base_url(), "", |connector| {
                let stream = |name: &str| StreamConfig { name: name.to_owned(), ..StreamConfig::default() };
                connector.config.streams = STREAMS.map(stream).into();
                // Every page is a batch.
                connector.config.batch_size = 1;
                connector.config.max_rejected_percent = 100;
                connector.credential = Some(credential);
                connector.wishes = wishes.into_iter().collect();
            })
            .await;
    }

    fn set_last_name(&self, name: &str) {
        let properties = [("lastname".into(), Some(name.into()))].into();
        assert!(self.crm.state().update(Kind::Contacts, &self.poisoned, properties));
    }

    async fn sync(&self, id: &str) -> Ended {
        self.house.stack.sync(&format!("{}-{id}", self.name), &self.name, "hubspot", true).await
    }

    /// The token endpoint is away at first, so that a refresh is given up. Checks again while one is under way.
    async fn check(&self) -> Value {
        self.crm.state().add_fault(Fault::new("/oauth/", 1, Effect::Status { status: 503 }));
        eventually("the connector is connected", LONG, || async {
            let (stack, id) = (&self.house.stack, format!("{}-{}", self.name, uuid::Uuid::new_v4()));
            let input = json!({"tenantId": self.name, "connectorId": "hubspot"});
            stack.start("checkConnectionWorkflow", &id, input).await;
            let checked = stack.end(&id).await.completed();
            (checked["status"] == "connected").then_some(checked)
        })
        .await
    }

    /// No stream can be read.
    async fn fail(&self) -> Value {
        self.crm.state().add_fault(Fault::always("/crm/objects/", Effect::Status { status: 403 }));
        let Ended::Failed { type_name, .. } = self.sync("failing").await else { panic!("{}: read", self.name) };
        self.crm.state().clear_faults();
        json!(type_name)
    }

    /// Goes on where the failed run was; its first batch is refused by the database, the source throttles once, and one
    /// record is poison.
    async fn load(&self) -> Value {
        self.house.store.refuse_first_batch(&self.name);
        self.crm.state().advance_clock(LATER);
        let throttled = Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds: Some(3) };
        let second_page = Fault::new("/crm/objects/2026-03/contacts", 1, throttled).after(1);
        self.crm.state().add_fault(Fault { method: Some("GET".to_owned()), ..second_page });
        let done = self.sync("full").await.completed();
        assert!(self.crm.state().faults().is_empty(), "{}: throttled", self.name);
        self.assert_clean().await;
        done
    }

    /// An increment as a schedule starts it, which also brings what was dead-lettered.
    async fn tick(&self) -> Value {
        self.set_last_name("mended at the source");
        self.crm.state().edit_random(Edits { seed: 7, create: 8, update: 20, archive: 5, merge: 1 });
        self.crm.state().advance_clock(LATER);
        self.project([(Verb::Replay, "mended".into())]).await;
        let (stack, id) = (&self.house.stack, format!("{}-tick", self.name));
        stack.start("scheduledSyncWorkflow", &id, json!({"tenantId": self.name})).await;
        let tick = stack.end(&id).await.completed();
        let (tenant, connector) = (self.name.parse().expect("id"), "hubspot".parse().expect("id"));
        let child = stack.store.runs(&tenant, &connector, 1).await.expect("runs").remove(0);
        let done = stack.end(&child.workflow_id).await.completed();
        self.assert_clean().await;
        json!([tick, done])
    }

    async fn sweep(&self) -> Value {
        for kind in [Kind::Companies, Kind::Contacts] {
            let gone = self.crm.state().live_ids(kind).remove(0);
            assert!(self.crm.state().vanish(kind, &gone));
        }
        self.crm.state().advance_clock(LATER);
        let done = self.sync("sweep").await.completed();
        self.assert_clean().await;
        done
    }

    async fn assert_clean(&self) {
        let target = checker::Target {
            database: self.house.stack.database_url.clone(),
            tenant: self.name.clone(),
            connector: "hubspot".to_owned(),
            streams: STREAMS.map(str::to_owned).into(),
        };
        let report = checker::check(&checker::Source::InProcess(self.crm.state()), &target).await;
        let report = report.expect("checker runs");
        assert!(report.is_clean(), "{}: {report}", self.name);
    }
}
