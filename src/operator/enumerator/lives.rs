//! Random lives of objects: people create, edit, delete and recreate them, rotate Secrets and ask by tokens, at any moment,
//! also in the middle of a reconcile, while calls fail, watches are late and processes die. In the end all is as a fresh
//! install of the final specs makes it, but for what went before; and no token was carried out twice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    REST,
    random::Random,
    report,
    scenarios::{connector_spec, tenant_spec},
    simulation::Simulation,
    snapshot::{Against, Snapshot},
    wish,
    work::Delay,
};
use crate::{
    contract::CONNECTOR_SYNC_WORKFLOW,
    crd::REQUESTED_AT_ANNOTATION,
    model::config::SecretFields,
    operator::{
        world::{Kind, ObjectKey},
        world_fake::{Fault, Servers, State, block_on},
    },
    store::{Owner, TenantProjection},
};

/// Lives; `GTM_ENUMERATOR_RUNS` asks for more, `GTM_ENUMERATOR_SEED` for one.
const LIVES: u64 = 12;
/// Edits in a life that come while nothing else is going on; more come in between.
const EDITS: usize = 10;
/// An edit by hand is found by one look, and told as corrected until the next.
const ONE_MORE_LOOK: i64 = 720;
/// No watch is later.
const LATEST: SignedDuration = SignedDuration::from_secs(60);
const NAMESPACES: [&str; 2] = ["acme", "elsewhere"];
const TENANTS: [&str; 2] = ["acme", "beta"];
const SCHEDULES: [&str; 3] = ["acme", "beta", "heir"];
const CONNECTORS: [&str; 3] = ["hubspot", "second", "third"];
const CRONS: [&str; 3] = ["0 */4 * * *", "@hourly", "@daily"];

fn tenant(random: &mut Random, tenant_id: &str) -> Value {
    let mut spec = tenant_spec(json!({"tenantId": tenant_id, "schedules": [random.pick(&CRONS)]}));
    for (odds, field, value) in [
        (3, "suspend", json!(true)),
        (4, "overlapPolicy", json!("BufferOne")),
        (5, "timeZone", json!("Europe/Berlin")),
        (8, "timeZone", json!("Nowhere/Else")),
        (8, "schedules", json!(["no cron"])),
        (6, "maintenanceWindows", json!([{"schedule": "0 22 * * sat", "duration": "8h"}])),
        (4, "workers", json!({"mode": "Dedicated"})),
        (5, "endAt", json!("2099-01-01T00:00:00Z")),
        (5, "pauseOnFailure", json!(true)),
        (4, "deletionPolicy", json!("Orphan")),
        (5, "driftPolicy", json!("Report")),
    ] {
        if random.below(odds) == 0 {
            spec[field] = value;
        }
    }
    spec
}

fn connector(random: &mut Random, tenant_id: &str) -> Value {
    let mut spec = connector_spec(json!({"tenantId": tenant_id}));
    for (odds, field, value) in [
        (2, "sync", json!({"schedules": [random.pick(&CRONS)]})),
        (4, "state", json!("Paused")),
        (5, "state", json!("Stopped")),
        (4, "credentials", json!({"secretRef": {"name": "late"}})),
        (6, "source", json!({"type": "HubSpot", "hubspot": {"baseUrl": "ftp://wrong"}})),
        (6, "dataPolicy", json!("Delete")),
    ] {
        if random.below(odds) == 0 {
            spec[field] = value;
        }
    }
    spec
}

/// One thing that people do.
fn edit(state: &mut State, random: &mut Random) {
    let namespace = if random.below(4) == 0 { NAMESPACES[1] } else { NAMESPACES[0] };
    let keys: Vec<_> = state.objects.values().map(|object| object.key.clone()).collect();
    match random.below(12) {
        0..=2 => apply(state, random, Kind::TenantSchedule, namespace),
        3..=5 => apply(state, random, Kind::Connector, namespace),
        6 | 7 if !keys.is_empty() => {
            let key = random.pick(&keys).clone();
            // A view without any object of a kind sweeps nothing of that kind (R11).
            if key.name != "stays" {
                state.delete(&key);
            }
        }
        8 => {
            let name = if random.below(2) == 0 { "crm" } else { "late" };
            secret(state, namespace, name, &format!("token {}", random.below(3)));
        }
        9 if !keys.is_empty() => {
            let token = format!("a{}", state.changes.len());
            state.annotate(random.pick(&keys), REQUESTED_AT_ANNOTATION, &token);
        }
        10 if !keys.is_empty() => ask(state, random, &keys),
        11 => {
            let ids = settled_schedules(state);
            if !ids.is_empty() {
                let id = random.pick(&ids).clone();
                state.edit_schedule(&id, |schedule| schedule.echo = "edited".to_owned());
            }
        }
        _ => {}
    }
}

/// Those whose echo their object's status has, and has had for so long that every cache shows it: an edit by hand that comes
/// between our write and its look, or before a late watch shows that look, cannot be told from the write.
fn settled_schedules(state: &State) -> Vec<String> {
    let is_old = |of: &ObjectKey| {
        let last = state.changes.iter().rfind(|change| change.object.key == *of);
        last.is_some_and(|change| state.now.duration_since(change.at) > LATEST)
    };
    let objects = state.objects.values().filter(|object| is_old(&object.key));
    let shown: Vec<_> = objects.map(|object| object.status()["schedule"].clone()).collect();
    let is_shown = |id: &String, echo: &String| shown.iter().any(|of| of["id"] == **id && of["echoHash"] == **echo);
    let settled = state.schedules.iter().filter(|(id, seen)| is_shown(id, &seen.echo));
    settled.map(|(id, _)| id.clone()).collect()
}

fn apply(state: &mut State, random: &mut Random, kind: Kind, namespace: &str) {
    let name = match kind {
        Kind::TenantSchedule => *random.pick(&SCHEDULES),
        Kind::Connector => *random.pick(&CONNECTORS),
    };
    let before = state.objects.get(&(kind, namespace.to_owned(), name.to_owned()));
    // Immutable, so a life of a name has one; another may have another.
    let tenant_id = before.and_then(|object| object.spec["tenantId"].as_str().map(str::to_owned));
    let tenant_id = tenant_id.unwrap_or_else(|| (*random.pick(&TENANTS)).to_owned());
    let requests = before.map(|object| object.spec["requests"].clone()).filter(|of| !of.is_null());
    let mut spec = match kind {
        Kind::TenantSchedule => tenant(random, &tenant_id),
        Kind::Connector => connector(random, &tenant_id),
    };
    if let Some(requests) = requests {
        spec["requests"] = requests;
    }
    state.apply(kind, namespace, name, spec);
}

/// A new token of some verb.
fn ask(state: &mut State, random: &mut Random, keys: &[ObjectKey]) {
    let key = random.pick(keys).clone();
    let Some(object) = state.object(&key) else { return };
    let mut spec = object.spec.clone();
    let verb = match key.kind {
        Kind::TenantSchedule => "trigger",
        Kind::Connector => *random.pick(&["sync", "fullSync", "replay", "resetCursor"]),
    };
    spec["requests"][verb] = json!({"token": format!("t{}", state.changes.len())});
    state.apply(key.kind, &key.namespace, &key.name, spec);
}

fn secret(state: &mut State, namespace: &str, name: &str, token: &str) {
    let fields = SecretFields([("accessToken".to_owned(), token.to_owned())].into());
    state.secrets.insert((namespace.to_owned(), name.to_owned()), fields);
}

/// In the middle of things, now and then.
fn now_and_then(state: &mut State, random: &mut Random) {
    if random.below(25) == 0 {
        edit(state, random);
    }
}

fn live(seed: u64) -> Simulation {
    let mut random = Random::of(&[seed, 1]);
    let faults: Vec<_> = (0..random.below(12))
        .map(|_| {
            let at = random.below(300);
            *random.pick(&Fault::all_at(at))
        })
        .collect();
    let delays: Vec<_> = (0..random.below(10))
        .map(|_| {
            let late = SignedDuration::from_secs(i64::try_from(random.below(40)).expect("seconds"));
            (random.below(150), *random.pick(&[Delay::Stale(late), Delay::Missed]))
        })
        .collect();
    let mut simulation = Simulation::step_by_step(&faults, &delays, Some(seed));
    simulation.servers.state().update_lag = random.below(3);
    simulation.secret("acme", "crm", "token 0");
    simulation.connector("acme", "stays", connector_spec(json!({"state": "Paused"})));
    simulation.tenant("acme", "stays", tenant_spec(json!({"tenantId": "quiet"})));
    simulation.people = Some(now_and_then);
    simulation.rivals = random.below(3) == 0;
    for _ in 0..EDITS {
        edit(&mut simulation.servers.state(), &mut random);
        simulation.run_for(*random.pick(&[0, 0, 1, 5, 30, 120, 700]));
    }
    simulation.people = None;
    simulation.rivals = false;
    mend(&mut simulation.servers.state());
    settle(&mut simulation);
    simulation
}

/// What is refused stays as it was applied before, and what is only reported as it was edited, which a fresh install does not
/// know: people mend it.
fn mend(state: &mut State) {
    let objects: Vec<_> = state.objects.values().map(|object| (object.key.clone(), object.spec.clone())).collect();
    for (key, mut spec) in objects {
        let wrong = [
            json!("Nowhere/Else"),
            json!(["no cron"]),
            json!({"type": "HubSpot", "hubspot": {"baseUrl": "ftp://wrong"}}),
        ];
        for field in ["timeZone", "schedules", "source"] {
            if wrong.contains(&spec[field]) {
                spec[field] = match field {
                    "timeZone" => json!("UTC"),
                    "schedules" => json!(["@hourly"]),
                    _ => json!({"type": "HubSpot", "hubspot": {}}),
                };
            }
        }
        spec["driftPolicy"].take();
        spec.as_object_mut().expect("a spec").retain(|_, value| !value.is_null());
        state.apply(key.kind, &key.namespace, &key.name, spec);
    }
}

/// Whatever was missing comes, nothing fails any more, and everything that has to happen happens.
fn settle(simulation: &mut Simulation) {
    {
        let mut state = simulation.servers.state();
        state.faults.clear();
        for (namespace, name) in NAMESPACES.into_iter().flat_map(|of| [(of, "crm"), (of, "late")]) {
            secret(&mut state, namespace, name, "final token");
        }
    }
    simulation.run_for(REST + ONE_MORE_LOOK);
}

/// The final objects on empty servers. Claims are history: a tenant stays with the namespace that had it first (R5).
fn fresh_install(lived: &Simulation) -> Simulation {
    let mut simulation = Simulation::new(&[], &[]);
    const CLAIMS: &str = "SELECT tenant_id, namespace, name, pool, CAST(wait_seconds AS TEXT), removed_at FROM tenant";
    for claim in lived.servers.file.rows(CLAIMS) {
        let [Some(tenant_id), Some(namespace), Some(name), Some(pool), wait, removed] = &claim[..] else { continue };
        let wait_seconds = wait.as_ref().map(|wait| wait.parse().expect("seconds"));
        let owner = Owner { cluster_id: String::new(), namespace: namespace.clone(), name: name.clone() };
        let tenant_id = tenant_id.parse().expect("an id");
        let uid = "before".to_owned();
        let claim = TenantProjection { tenant_id, owner, uid, wait_seconds, dedicated: pool == "dedicated" };
        let store = &simulation.servers.store;
        block_on(async {
            store.put_tenant(&claim).await.expect("claimed");
            if removed.is_some() {
                store.remove_tenant(&claim.tenant_id, &claim.owner).await.expect("removed");
            }
        });
    }
    for object in lived.servers.state().objects.values() {
        let ObjectKey { kind, namespace, name, .. } = &object.key;
        simulation.servers.state().apply(*kind, namespace, name, object.spec.clone());
    }
    settle(&mut simulation);
    simulation
}

/// Every token of a life of an object is at most one run, and the last ones are told as handled.
fn broken_tokens(servers: &Servers) -> Vec<String> {
    let state = servers.state();
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for change in state.changes.iter().filter(|change| change.object.key.kind == Kind::Connector) {
        let (object, spec) = (&change.object, &change.object.spec);
        let of = asked.entry(format!("{}/{}", spec["tenantId"], object.key.name)).or_default();
        let annotation = object.annotations.get(REQUESTED_AT_ANNOTATION);
        of.extend(annotation.map(|token| format!("{} {token}", object.key.uid)));
        for (verb, request) in spec["requests"].as_object().into_iter().flatten() {
            of.insert(format!("{} {verb} {}", object.key.uid, request["token"]));
        }
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for start in state.started.iter().filter(|start| start.workflow_type == CONNECTOR_SYNC_WORKFLOW) {
        let connector = start.input["connectorId"].as_str().unwrap_or_default();
        *runs.entry(format!("{}/{connector}", start.input["tenantId"])).or_default() += 1;
    }
    let too_many = runs.iter().filter(|(of, count)| asked.get(*of).map_or(0, BTreeSet::len) < **count);
    let mut broken: Vec<_> =
        too_many.map(|(of, count)| format!("{of}: {count} runs for {:?}", asked.get(of))).collect();
    for object in state.objects.values() {
        let status = object.status();
        let ready = status["conditions"].as_array().into_iter().flatten().find(|of| of["type"] == "Ready");
        if ready.is_none_or(|ready| ready["status"] != "True") {
            continue;
        }
        for (verb, request) in object.spec["requests"].as_object().into_iter().flatten() {
            let handled = &status["lastHandled"][verb];
            if *handled != request["token"] && handled["token"] != request["token"] {
                broken.push(format!("{}: {verb} {} is not told as handled: {handled}", object.key, request["token"]));
            }
        }
    }
    broken
}

#[test]
fn random_lives_end_as_a_fresh_install_and_carry_no_token_out_twice() {
    let first = wish("GTM_ENUMERATOR_SEED").and_then(|seed| seed.parse().ok());
    let count = wish("GTM_ENUMERATOR_RUNS").and_then(|count| count.parse().ok()).unwrap_or(LIVES);
    let seeds = first.map_or(0..count, |seed| seed..seed + 1);
    let mut failures = Vec::new();
    for seed in seeds {
        let lived = live(seed);
        let expected = Snapshot::of(&fresh_install(&lived).servers, Against::FreshInstall);
        let mut broken = Snapshot::of(&lived.servers, Against::FreshInstall).differences(&expected);
        broken.extend(broken_tokens(&lived.servers));
        if !broken.is_empty() {
            let replay = format!("GTM_ENUMERATOR_SEED={seed} cargo test --lib random_lives");
            failures.push(format!("life {seed}\n{}\n  again: {replay}", broken.join("\n")));
        }
    }
    report(usize::try_from(count).expect("a count"), &failures);
}
