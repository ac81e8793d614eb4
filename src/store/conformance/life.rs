//! The life of the data: what ages, and erasing one person.

use gtm_sync::{
    ids::TenantId,
    model::{entity::Entity, pseudonym::PseudonymKey, record::Rejected},
    store::{Aged, ConnectorProjection, Erased, LeaseRequest, Owner, Person, Retention, TenantProjection},
};

use super::world::{
    World, activity, batch, connector, connector_id, contact, increment, load, load_at, owner, poison, rejected,
    request, tenant, tenant_id, tombstone,
};

const KEEP_ALL: Retention = Retention { runs_days: None, dead_letter_payloads_days: None, tombstones_days: None };
const LONG_AGO: &str = "2020-01-01T00:00:00.000000Z";

async fn age_until_nothing_is_left(world: &World, retention: &Retention) -> Aged {
    let aged = world.store.age(retention).await.expect("ages");
    assert_eq!(world.store.age(retention).await, Ok(Aged::default()), "a second call finds nothing");
    aged
}

pub(crate) async fn old_runs_and_their_entries_go_except_the_newest(world: &World) {
    world.projected().await;
    for (run, begun) in [("run-1", load()), ("run-2", increment()), ("run-3", increment())] {
        world.run(run, begun, batch(&[], &[rejected(run, "X", None)])).await;
    }
    world.probe.execute(&format!("UPDATE run SET finished_at = '{LONG_AGO}' WHERE workflow_id <> 'run-2'")).await;
    assert_eq!(world.store.age(&KEEP_ALL).await, Ok(Aged::default()));
    let retention = Retention { runs_days: Some(30), ..KEEP_ALL };
    let aged = age_until_nothing_is_left(world, &retention).await;
    assert_eq!(aged, Aged { runs: 1, ..Aged::default() });
    let left = world.probe.rows("SELECT workflow_id FROM run ORDER BY workflow_id").await;
    assert_eq!(left.concat(), [Some("run-2".to_owned()), Some("run-3".to_owned())], "run-3 is the newest");
    assert_eq!((world.count("failed_record").await, world.letters().await.len()), (2, 3), "letters stay");
}

pub(crate) async fn payloads_tombstones_and_orphans_age(world: &World) {
    world.projected().await;
    let rows = [
        contact("1", None, "a"),
        tombstone("2", None, "2020-01-01T00:00:00Z"),
        tombstone("3", None, "2099-01-01T00:00:00Z"),
        poison("4"),
    ];
    let lease = world.begin("run-1", load()).await.lease;
    world.commit(&lease, 0, load_at(1), batch(&rows, &[rejected("5", "X", None)])).await;
    world.commit(&lease, 1, load_at(2), batch(&[], &[rejected("6", "X", None)])).await;
    world.stage(&lease, 2, load_at(3), batch(&[], &[])).await;
    world.stage(&lease, 3, load_at(4), batch(&[], &[])).await;
    for (table, column, some) in [
        ("dead_letter", "recorded_at", "source_id <> '6'"),
        ("staged_batch", "staged_at", "seq = 2"),
        ("applied_batch", "applied_at", "seq = 0"),
    ] {
        world.probe.execute(&format!("UPDATE {table} SET {column} = '{LONG_AGO}' WHERE {some}")).await;
    }
    let retention = Retention { dead_letter_payloads_days: Some(14), tombstones_days: Some(90), ..KEEP_ALL };
    let aged = age_until_nothing_is_left(world, &retention).await;
    assert_eq!(aged, Aged { runs: 0, payloads: 2, tombstones: 1, batches: 2 });
    for letter in world.letters().await {
        let kept = letter.source_id.as_deref() == Some("6");
        assert_eq!((letter.payload.is_empty(), letter.payload_form == "expired"), (!kept, !kept), "{letter:?}");
    }
    assert_eq!((world.count("contact").await, world.count("staged_batch").await), (2, 1));
}

/// Projects another tenant with a connector of the same name and lets it have the same contact.
async fn another_tenant(world: &World) -> TenantId {
    let other: TenantId = "globex".parse().expect("id");
    let owned = |name: &str| Owner { namespace: "team-b".to_owned(), ..owner("", name) };
    let projection = TenantProjection { tenant_id: other.clone(), owner: owned("globex"), ..tenant() };
    world.store.put_tenant(&projection).await.expect("tenant");
    let projection = ConnectorProjection { tenant_id: other.clone(), owner: owned("hubspot"), ..connector() };
    world.store.put_connector(&projection).await.expect("connector");
    let wish = LeaseRequest { tenant_id: other.clone(), ..request("run-b", None) };
    let lease = world.store.take_lease(&wish).await.expect("free").lease;
    let quoting = [quoting("of-b", "ada@example.com")];
    world.commit(&lease, 0, load_at(1), batch(&[contact("1", None, "ada@example.com")], &quoting)).await;
    world.stage(&lease, 1, load_at(2), batch(&[], &[])).await;
    other
}

fn quoting<'a>(id: &'a str, address: &'a str) -> Rejected<'a> {
    let payload = format!(r#"{{"properties":{{"email":"{address}"}}}}"#).into_bytes();
    Rejected { payload: payload.into(), ..rejected(id, "X", None) }
}

async fn of_tenant(world: &World, table: &str, tenant: &TenantId) -> i64 {
    world.count(&format!("{table} WHERE tenant_id = '{tenant}'")).await
}

pub(crate) async fn a_person_is_erased_by_address_everywhere_in_one_tenant_only(world: &World) {
    world.projected().await;
    let lease = world.begin("run-1", load()).await.lease;
    let mut refused = poison("8");
    refused.cells[0] = gtm_sync::model::record::Cell::Text("ADA@example.com".into());
    let rows = [
        contact("1", None, "Ada@Example.com"),
        contact("2", None, "ada@example.com"),
        contact("3", None, "bob@example.com"),
        activity("call:1", "1", "what Ada said"),
        activity("call:2", "3", "what Bob said"),
        refused,
        poison("9"),
    ];
    world
        .commit(
            &lease,
            0,
            load_at(1),
            batch(&rows, &[quoting("7", "ADA@EXAMPLE.COM"), quoting("6", "bob@example.com")]),
        )
        .await;
    world
        .commit(
            &lease,
            1,
            load_at(2),
            batch(&[tombstone("2", None, "2026-02-01T00:00:00Z")], &[rejected("1", "X", None)]),
        )
        .await;
    world.stage(&lease, 2, load_at(3), batch(&[contact("1", None, "ada@example.com")], &[])).await;
    let other = another_tenant(world).await;

    let ada = Person::Email("ada@EXAMPLE.com".to_owned());
    let erased = world.store.erase(&tenant_id(), &ada).await;
    assert_eq!(erased, Ok(Erased { records: 2, activities: 1, dead_letters: 3, staged_batches: 1 }));
    assert_eq!(world.letter_ids().await, ["9", "6"], "Bob's stay");
    assert_eq!(of_tenant(world, "contact", &tenant_id()).await, 1);
    let bodies = world.probe.rows("SELECT body FROM activity ORDER BY source_id").await;
    assert_eq!(bodies.concat(), [None, Some("what Bob said".to_owned())]);
    assert_eq!(world.store.erase(&tenant_id(), &ada).await, Ok(Erased::default()), "twice is once");

    for table in ["contact", "dead_letter", "staged_batch"] {
        assert_eq!(of_tenant(world, table, &other).await, 1, "{table} of the other tenant");
    }
}

pub(crate) async fn a_person_is_erased_by_record_and_comes_back_only_as_the_source_serves_it(world: &World) {
    world.projected().await;
    let rows = [contact("1", None, "ada@example.com"), contact("2", None, "ada@example.com")];
    world.run("run-1", load(), batch(&rows, &[])).await;
    world.run("run-2", increment(), batch(&[], &[rejected("1", "X", None), rejected("2", "X", None)])).await;
    let one = |entity| Person::Record { connector_id: connector_id(), entity, source_id: "1".to_owned() };
    let nobody = world.store.erase(&tenant_id(), &one(Entity::Lead)).await;
    assert_eq!(nobody, Ok(Erased::default()));
    let erased = world.store.erase(&tenant_id(), &one(Entity::Contact)).await;
    assert_eq!(erased, Ok(Erased { records: 1, dead_letters: 1, ..Erased::default() }));
    assert_eq!((world.letter_ids().await, world.count("contact").await), (vec!["2".to_owned()], 1));
    world.run("run-3", load(), batch(&rows, &[])).await;
    assert_eq!(world.count("contact").await, 2, "a full sync of a source that still has the record");
}

pub(crate) async fn a_person_whose_address_is_hashed_is_erased_by_the_address(world: &World) {
    world.projected().await;
    let installation_id = world.store.installation_id().await.expect("installation id");
    let hashed = PseudonymKey::of(&installation_id, &tenant_id()).pseudonym("ada@example.com");
    let lease = world.begin("run-1", load()).await.lease;
    let rows = [contact("1", None, &hashed), contact("2", None, "another hash")];
    world.commit(&lease, 0, load_at(1), batch(&rows, &[])).await;
    let erased = world.store.erase(&tenant_id(), &Person::Email(" Ada@Example.com".to_owned())).await;
    assert_eq!(erased, Ok(Erased { records: 1, ..Erased::default() }));
    assert_eq!(of_tenant(world, "contact", &tenant_id()).await, 1);
}
