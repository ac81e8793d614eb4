//! What GitOps tools make of every state that a reconcile can leave: a table from the real steps' statuses to kstatus'
//! outcome. A reason of `Ready` that no row produces fails here, so a new one gets its row.

#[path = "../../tests/support/kstatus.rs"]
#[expect(unreachable_pub, reason = "shared with the tests on the real API server")]
mod kstatus;

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::kstatus::Outcome::{self, Current, Failed, InProgress, Terminating};
use super::{
    connector::{self, TenantView, Vault},
    error::Error,
    names::Installation,
    schedule::tests::{seen, wanted},
    schedule_overdue::Punctuality,
    schedule_terms::Terms,
    tenant_schedule, unreadable,
    world::{Answer, Kind, Reply, Request, Step, World, drive},
    world_fake::{FakeWorld, key},
};
use crate::{
    crd::{DataPolicy, conditions::reason},
    credentials::{Sealer, seal::generate_identity},
    error_class::Class,
    model::config::SecretFields,
    store,
    temporal::{self, schedules::SeenSchedule},
};

/// Other answers than a healthy world's.
type Otherwise = fn(&Request) -> Option<Reply>;

/// A healthy world, but for some of its answers.
struct Odd<'a>(&'a FakeWorld, Otherwise);

#[async_trait]
impl World for Odd<'_> {
    async fn call(&self, request: Request) -> Reply {
        match self.1(&request) {
            Some(reply) => reply,
            None => self.0.call(request).await,
        }
    }
}

/// A state: what is asked for, of what world, and what kstatus must say to what comes of it.
struct Row {
    reason: &'static str,
    expected: Outcome,
    spec: Value,
    prepare: fn(&FakeWorld),
    otherwise: Otherwise,
}

impl Row {
    fn new(reason: &'static str, expected: Outcome) -> Self {
        Self { reason, expected, spec: json!({}), prepare: |_| (), otherwise: |_| None }
    }

    fn spec(self, spec: Value) -> Self {
        Self { spec, ..self }
    }

    fn prepare(self, prepare: fn(&FakeWorld)) -> Self {
        Self { prepare, ..self }
    }

    fn but(self, otherwise: Otherwise) -> Self {
        Self { otherwise, ..self }
    }
}

fn now() -> Timestamp {
    "2026-11-23T01:00:00Z".parse().expect("timestamp")
}

fn temporal_away(request: &Request) -> Option<Reply> {
    let code = "lost".to_owned();
    matches!(request, Request::DescribeSchedule(_))
        .then(|| Err(Error::Temporal(temporal::Error::Unavailable { attempted: "answer", code })))
}

fn store_away(request: &Request) -> Option<Reply> {
    let code = "lost".to_owned();
    matches!(request, Request::PutTenant(_) | Request::TenantClaim(_))
        .then(|| Err(Error::Store(store::Error::Unavailable { attempted: "answer", code })))
}

fn nonsense(request: &Request) -> Option<Reply> {
    matches!(request, Request::PutTenant(_) | Request::TenantClaim(_)).then_some(Ok(Answer::Secret(None)))
}

fn refused_by_temporal(request: &Request) -> Option<Reply> {
    let code = "InvalidArgument".to_owned();
    matches!(request, Request::CreateSchedule(_))
        .then(|| Err(Error::Temporal(temporal::Error::Refused { attempted: "create", code })))
}

/// The schedule that both kinds' rows find under their id, edited.
fn found(world: &FakeWorld, edit: impl Fn(&mut SeenSchedule)) {
    for id in ["scheduled-sync-acme", "sync-acme-hubspot"] {
        let mut schedule = seen(&wanted());
        edit(&mut schedule);
        world.state().schedules.insert(id.to_owned(), schedule);
    }
}

fn somebody_elses(world: &FakeWorld) {
    found(world, |schedule| schedule.owner = None);
}

/// Ours, as a person or a failure left it.
fn ours(world: &FakeWorld, note: &str) {
    found(world, |schedule| {
        let owner = schedule.owner.as_mut().expect("an owner");
        owner.installation_id = "installation".to_owned();
        (schedule.state.paused, schedule.state.note) = (true, note.to_owned());
    });
}

fn tenant_rows() -> Vec<Row> {
    let never =
        || json!({"maintenanceWindows": [{"schedule": "0 22 * * *", "duration": "8h"}], "schedules": ["0 3 * * *"]});
    vec![
        Row::new(reason::SCHEDULED, Current),
        Row::new(reason::SUSPENDED, Current).spec(json!({"suspend": true})),
        Row::new(reason::COMPLETED, Current).spec(json!({"endAt": "2026-01-01T00:00:00Z"})),
        Row::new(reason::PAUSED_BY_PERSON, Current).prepare(|world| ours(world, "Kim")),
        Row::new(reason::PAUSED_BY_FAILURE, Current)
            .spec(json!({"pauseOnFailure": true}))
            .prepare(|world| ours(world, "paused due to workflow failure: x: y")),
        Row::new(reason::NEVER_FIRES, Failed).prepare(|world| {
            let wanted = tenant_schedule::build::schedule(&tenant_input(json!({"tenantId": "acme"})));
            world.state().schedules.insert(wanted.id.clone(), SeenSchedule { next_run: None, ..seen(&wanted) });
        }),
        Row::new(reason::INVALID_SPEC, Failed).spec(never()),
        Row::new(reason::TENANT_CONFLICT, Failed).prepare(|world| world.claim("acme", "elsewhere", "acme")),
        Row::new(reason::TOO_MANY_POOLS, Failed)
            .spec(json!({"workers": {"mode": "Dedicated"}}))
            .prepare(FakeWorld::take_every_pool),
        Row::new(reason::SCHEDULE_CONFLICT, Failed).prepare(somebody_elses),
        Row::new(reason::LEGACY_CRON, Failed).prepare(FakeWorld::start_cron),
        Row::new(reason::SCHEDULE_REFUSED, Failed).but(refused_by_temporal),
        Row::new(reason::TEMPORAL_UNAVAILABLE, InProgress).but(temporal_away),
        Row::new(reason::STORE_UNAVAILABLE, InProgress).but(store_away),
        Row::new(reason::INTERNAL_ERROR, InProgress).but(nonsense),
    ]
}

fn connector_rows() -> Vec<Row> {
    let own = || json!({"sync": {"schedules": ["*/30 * * * *"]}});
    let url = |url: &str| json!({"source": {"type": "HubSpot", "hubspot": {"baseUrl": url}}});
    vec![
        Row::new(reason::CONFIGURED, Current),
        Row::new(reason::PAUSED, Current).spec(json!({"state": "Paused"})),
        Row::new(reason::STOPPED, Current).spec(json!({"state": "Stopped"})),
        // What may still come with the rest of an apply is no failure.
        Row::new(reason::TENANT_SCHEDULE_NOT_FOUND, InProgress).prepare(|world| {
            world.unclaim();
            world.claim("acme", "elsewhere", "acme");
        }),
        Row::new(reason::SECRET_NOT_FOUND, InProgress).prepare(|world| world.state().secrets.clear()),
        Row::new(reason::SECRET_KEY_MISSING, InProgress).prepare(|world| {
            world.state().secrets.insert(("acme".to_owned(), "crm".to_owned()), SecretFields([].into()));
        }),
        Row::new(reason::SECRET_FORBIDDEN, InProgress).but(|request| {
            let (attempted, code) = ("get a Secret", "403 Forbidden".to_owned());
            let forbidden = Err(Error::Kubernetes { attempted, code, class: Class::Unauthorised });
            matches!(request, Request::GetSecret { .. }).then_some(forbidden)
        }),
        Row::new(reason::INVALID_CREDENTIALS, Failed).spec(json!({"credentials": {"sealed": "no"}})),
        Row::new(reason::INVALID_SPEC, Failed).spec(url("https://crm.example:99999")),
        Row::new(reason::NAME_TAKEN, Failed).but(|request| {
            let answer = store::ConnectorAnswer {
                revision: 0,
                credential_revision: 0,
                fresh_tokens: [].into(),
                handled: [].into(),
                name_taken: true,
            };
            matches!(request, Request::PutConnector(_)).then(|| Ok(Answer::Connector(Box::new(answer))))
        }),
        Row::new(reason::SCHEDULE_CONFLICT, Failed).spec(own()).prepare(somebody_elses),
        Row::new(reason::SCHEDULE_REFUSED, Failed).spec(own()).but(refused_by_temporal),
        Row::new(reason::TEMPORAL_UNAVAILABLE, InProgress).spec(own()).but(temporal_away),
        Row::new(reason::STORE_UNAVAILABLE, InProgress).but(store_away),
        Row::new(reason::INTERNAL_ERROR, InProgress).but(nonsense),
    ]
}

/// The object as the API server would show it: our part of the status over the definition's default.
fn object(world: &FakeWorld, deleting: bool) -> Value {
    let mut status = json!({"observedGeneration": -1});
    for (name, value) in world.state().statuses.last().and_then(Value::as_object).into_iter().flatten() {
        status[name] = value.clone();
    }
    let deleted_at = deleting.then_some("2026-11-23T01:00:00Z");
    json!({"metadata": {"generation": 2, "deletionTimestamp": deleted_at}, "status": status})
}

fn merged(mut spec: Value, extra: &Value) -> Value {
    for (name, value) in extra.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    spec
}

fn tenant_input(spec: Value) -> tenant_schedule::Input {
    tenant_schedule::Input {
        key: key(Kind::TenantSchedule, "acme"),
        generation: 2,
        spec: serde_json::from_value(spec).expect("a spec"),
        status: Default::default(),
        requested_at: None,
        force_delete: false,
        has_finalizer: true,
        deleting: false,
        now: now(),
        installation: Installation::new("installation".to_owned(), None),
        cron_suspected: false,
        punctuality: Punctuality::default(),
    }
}

fn connector_input(spec: Value) -> connector::Input {
    connector::Input {
        key: key(Kind::Connector, "hubspot"),
        generation: 2,
        spec: serde_json::from_value(spec).expect("a spec"),
        status: Default::default(),
        requested_at: None,
        now: now(),
        installation: Installation::new("installation".to_owned(), None),
        tenant: Some(TenantView {
            name: "acme".to_owned(),
            is_observed: true,
            time_zone: "UTC".to_owned(),
            spread: Duration::from_secs(60),
            catch_up_window: Duration::from_secs(3_600),
            suspend: false,
            terms: Terms::default(),
            data_policy: DataPolicy::Retain,
        }),
        vault: Vault::new(Sealer::new(&generate_identity().1).expect("recipient"), "installation"),
        connection: None,
        checks: None,
        check_wait: Duration::ZERO,
        punctuality: Punctuality::default(),
    }
}

/// A world with the tenant's claim, if any is asked for, and a Secret `crm`.
fn world(claimed: bool) -> FakeWorld {
    let world = FakeWorld::default();
    if claimed {
        world.claim("acme", "acme", "acme");
    }
    for (kind, name) in [(Kind::TenantSchedule, "acme"), (Kind::Connector, "hubspot")] {
        world.state().exists(&key(kind, name));
    }
    let content = SecretFields([("accessToken".to_owned(), "x".to_owned())].into());
    world.state().secrets.insert(("acme".to_owned(), "crm".to_owned()), content);
    world
}

/// Drives a row's step and looks at what it leaves.
fn check<S: Step>(row: &Row, world: &FakeWorld, step: S, deleting: bool) {
    (row.prepare)(world);
    futures::executor::block_on(drive(&Odd(world, row.otherwise), step));
    let object = object(world, deleting);
    let ready = object["status"]["conditions"].as_array().into_iter().flatten();
    let reasons: Vec<_> = ready.filter(|of| of["type"] == "Ready").map(|of| of["reason"].clone()).collect();
    assert_eq!(reasons, [row.reason], "{object:#}");
    assert_eq!(kstatus::outcome(&object), row.expected, "{}: {object:#}", row.reason);
    assert_eq!(kstatus::broken(&object), [""; 0], "{}: {object:#}", row.reason);
}

#[test]
fn kstatus_says_the_right_thing_about_every_state_of_a_tenant_schedule() {
    for row in tenant_rows() {
        let input = tenant_input(merged(json!({"tenantId": "acme"}), &row.spec));
        check(&row, &world(false), tenant_schedule::reconcile::Reconcile::new(input, Duration::from_secs(600)), false);
    }
    let blocked = Row::new(reason::CLEANUP_BLOCKED, Terminating).but(temporal_away);
    let input = tenant_schedule::Input { deleting: true, ..tenant_input(json!({"tenantId": "acme"})) };
    check(&blocked, &world(true), tenant_schedule::remove::Remove::new(input), true);
}

#[test]
fn kstatus_says_the_right_thing_about_every_state_of_a_connector() {
    let plain = || {
        json!({"tenantId": "acme", "source": {"type": "HubSpot", "hubspot": {}},
            "credentials": {"secretRef": {"name": "crm"}}})
    };
    for row in connector_rows() {
        let input = connector_input(merged(plain(), &row.spec));
        check(&row, &world(true), connector::reconcile::Reconcile::new(input, Duration::from_secs(600)), false);
    }
}

#[test]
fn an_object_that_nobody_has_looked_at_or_whose_edit_is_unseen_is_in_progress_and_an_unreadable_one_failed() {
    assert_eq!(kstatus::outcome(&object(&FakeWorld::default(), false)), InProgress, "new: the definition's default");
    let world = world(false);
    let mut edited = tenant_input(json!({"tenantId": "acme"}));
    edited.generation = 1;
    let step = tenant_schedule::reconcile::Reconcile::new(edited, Duration::from_secs(600));
    futures::executor::block_on(drive(&world, step));
    assert_eq!(kstatus::outcome(&object(&world, false)), InProgress, "settled, but for the spec before this one");
    for kind in [Kind::TenantSchedule, Kind::Connector] {
        let status = unreadable::status(kind, Some(2), now()).fields;
        let object = json!({"metadata": {"generation": 2}, "status": status});
        assert_eq!((kstatus::outcome(&object), kstatus::broken(&object)), (Failed, vec![]));
    }
}

#[test]
fn every_reason_of_ready_has_its_row() {
    let rows = tenant_rows().into_iter().chain(connector_rows()).map(|row| row.reason);
    let covered: BTreeSet<_> = rows.chain([reason::CLEANUP_BLOCKED]).collect();
    let of_ready = |meaning: &str| ["Ready:", "Ready,", "Not ready:"].iter().any(|of| meaning.trim().starts_with(of));
    let all: BTreeSet<_> =
        reason::REASONS.iter().filter(|(_, meaning)| of_ready(meaning)).map(|(reason, _)| *reason).collect();
    assert_eq!(covered, all, "a state without a row, or a row without a state");
}
