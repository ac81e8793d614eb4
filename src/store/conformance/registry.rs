//! Claims, projections, verbs, listing.

use gtm_sync::{
    contract::workflows::ConnectionStatus,
    model::cursor::Cursor,
    store::{
        ClaimOutcome, ConnectorProjection, DesiredState, Error, Owner, SCHEMA_VERSIONS, TenantClaim, TenantProjection,
        Verb,
    },
};

use super::world::{
    ACCOUNT, World, at, claim, connector, connector_id, credential, found, load_at_end, owner, request, tenant,
    tenant_id, wishes,
};

pub(crate) async fn migrating_again_keeps_version_and_installation(world: &World) {
    let installation = world.store.installation_id().await.expect("id");
    let (first, second) = tokio::join!(world.store.migrate(), world.store.migrate());
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(world.store.schema_version().await, Ok(*SCHEMA_VERSIONS.end()));
    assert_eq!(world.store.installation_id().await, Ok(installation));
}

pub(crate) async fn the_first_claim_wins_and_its_owner_may_come_back_with_a_new_uid(world: &World) {
    assert_eq!(world.store.tenant_claim(&tenant_id()).await, Ok(None));
    assert_eq!(world.store.put_tenant(&tenant()).await, Ok(ClaimOutcome::Held));
    let rebuilt = TenantProjection { uid: "tenant-uid-2".to_owned(), ..tenant() };
    assert_eq!(world.store.put_tenant(&rebuilt).await, Ok(ClaimOutcome::Held));
    for other in [owner("team-b", "acme"), owner("team-a", "second")] {
        let thief = TenantProjection { owner: other, ..tenant() };
        assert_eq!(world.store.put_tenant(&thief).await, Ok(ClaimOutcome::HeldBy(tenant().owner)));
    }
    let other_cluster = owner("team-a", "acme");
    let thief = TenantProjection {
        owner: gtm_sync::store::Owner { cluster_id: "us1".to_owned(), ..other_cluster },
        ..tenant()
    };
    assert_eq!(world.store.put_tenant(&thief).await, Ok(ClaimOutcome::HeldBy(tenant().owner)));
    assert_eq!(world.store.tenant_claim(&tenant_id()).await, Ok(Some(claim())));
}

pub(crate) async fn a_removed_tenant_lists_nothing_and_its_claim_stays_with_its_namespace(world: &World) {
    world.projected().await;
    world.store.remove_tenant(&tenant_id(), &owner("team-b", "acme")).await.expect("does nothing");
    assert_eq!(world.store.list_connected(&tenant_id()).await.expect("lists").connectors.len(), 1, "not its owner");
    world.store.remove_tenant(&tenant_id(), &tenant().owner).await.expect("removes");
    let listing = world.store.list_connected(&tenant_id()).await.expect("lists");
    assert_eq!((listing.connectors, listing.wait_seconds), (vec![], None));
    let thief = TenantProjection { owner: owner("team-b", "acme"), ..tenant() };
    assert_eq!(world.store.put_tenant(&thief).await, Ok(ClaimOutcome::HeldBy(tenant().owner)));
    let renamed = TenantProjection { owner: owner("team-a", "renamed"), ..tenant() };
    assert_eq!(world.store.put_tenant(&renamed).await, Ok(ClaimOutcome::Held));
    assert_eq!(world.store.list_connected(&tenant_id()).await.expect("lists").connectors.len(), 1);
}

pub(crate) async fn a_claim_that_was_given_up_is_taken_by_whoever_asks_next_with_its_connectors(world: &World) {
    world.projected().await;
    assert_eq!(world.store.release_tenant(&tenant_id(), &owner("team-b", "acme")).await, Ok(false), "not its owner");
    assert_eq!(world.store.tenant_claim(&tenant_id()).await, Ok(Some(claim())));
    assert_eq!(world.store.release_tenant(&tenant_id(), &tenant().owner).await, Ok(true));
    let nobodys = TenantClaim { owner: Owner::nobody(), removed: true, ..claim() };
    assert_eq!(world.store.tenant_claim(&tenant_id()).await, Ok(Some(nobodys)));
    let listed = world.store.list_connected(&tenant_id()).await.expect("lists").connectors;
    assert_eq!(listed, [], "nothing runs while nobody holds it");
    assert!(world.store.put_connector(&connector()).await.is_err(), "nor is anything projected");

    let next = TenantProjection { owner: owner("team-b", "acme"), ..tenant() };
    assert_eq!(world.store.put_tenant(&next).await, Ok(ClaimOutcome::Held));
    assert_eq!(world.store.put_tenant(&tenant()).await, Ok(ClaimOutcome::HeldBy(next.owner.clone())));
    let listed = world.store.list_connected(&tenant_id()).await.expect("lists").connectors;
    assert_eq!(listed, [], "no Connector of the former holder");
    let moved = ConnectorProjection { owner: owner("team-b", "hubspot"), uid: "uid-b".to_owned(), ..connector() };
    world.store.put_connector(&moved).await.expect("projects");
    assert_eq!(world.store.list_connected(&tenant_id()).await.expect("lists").connectors.len(), 1);
}

pub(crate) async fn an_equal_projection_writes_nothing_and_a_changed_one_is_a_new_revision(world: &World) {
    world.store.put_tenant(&tenant()).await.expect("tenant");
    let first = world.store.put_connector(&connector()).await.expect("projects");
    assert_eq!((first.revision, first.credential_revision), (1, 1));
    const STORED: &str = "SELECT CAST(updated_at AS TEXT) FROM connector UNION ALL SELECT CAST(updated_at AS TEXT)
        FROM tenant UNION ALL SELECT CAST(updated_at AS TEXT) FROM credential";
    let before = world.probe.rows(STORED).await;
    world.store.put_tenant(&tenant()).await.expect("tenant");
    assert_eq!(world.store.put_connector(&connector()).await.expect("projects"), first);
    // age seals the same content to other bytes each time.
    let resealed =
        gtm_sync::store::BaseCredential { sealed: super::world::sealed("other bytes"), ..credential("digest-1") };
    let resealed = ConnectorProjection { credential: Some(resealed), ..connector() };
    assert_eq!(world.store.put_connector(&resealed).await.expect("projects"), first);
    assert_eq!(world.probe.rows(STORED).await, before);

    let paused = ConnectorProjection { desired_state: DesiredState::Paused, generation: 2, ..connector() };
    assert_eq!(world.store.put_connector(&paused).await.expect("projects").revision, 2);
    let stored = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((stored.desired_state, stored.revision), (DesiredState::Paused, 2));
    assert_eq!((stored.config, stored.credential), (connector().config, connector().credential));
    let without_secret = ConnectorProjection { credential: None, ..paused };
    let answer = world.store.put_connector(&without_secret).await.expect("projects");
    assert_eq!((answer.revision, answer.credential_revision), (2, 1), "an unreadable Secret leaves the stored one");
}

pub(crate) async fn a_connector_outside_the_claims_namespace_is_refused(world: &World) {
    world.store.put_tenant(&tenant()).await.expect("tenant");
    let foreign = ConnectorProjection { owner: owner("team-b", "hubspot"), ..connector() };
    let error = world.store.put_connector(&foreign).await.expect_err("refused");
    assert!(matches!(&error, Error::Refused { code, .. } if code == "TenantClaimedElsewhere"), "{error:?}");
    assert_eq!(world.store.connector(&tenant_id(), &connector_id()).await, Ok(None));
}

pub(crate) async fn the_later_of_two_connectors_with_one_joined_name_is_refused(world: &World) {
    let named = |tenant: &str, connector_name: &str| ConnectorProjection {
        tenant_id: tenant.parse().expect("id"),
        connector_id: connector_name.parse().expect("id"),
        ..connector()
    };
    assert!(!world.store.put_connector(&named("a", "b-c")).await.expect("first").name_taken);
    let answer = world.store.put_connector(&named("a-b", "c")).await.expect("second");
    assert!(answer.name_taken && answer.revision == 0);
    assert_eq!(world.count("connector").await, 1);
    assert_eq!(world.count("credential").await, 1, "nothing of the refused one is written");
}

pub(crate) async fn tokens_at_first_sight_are_recorded_and_a_later_one_is_fresh_once(world: &World) {
    let with = |pairs: &[(Verb, &str)]| ConnectorProjection { wishes: wishes(pairs), ..connector() };
    let first =
        world.store.put_connector(&with(&[(Verb::Sync, "t1"), (Verb::FullSync, "f1")])).await.expect("projects");
    assert!(first.fresh_tokens.is_empty(), "recorded, not executed");
    assert_eq!(first.handled[&Verb::Sync].token, "t1");

    let later = with(&[(Verb::Sync, "t2"), (Verb::FullSync, "f1")]);
    let second = world.store.put_connector(&later).await.expect("projects");
    assert_eq!(second.fresh_tokens.keys().collect::<Vec<_>>(), [&Verb::Sync]);
    assert_eq!(second.fresh_tokens[&Verb::Sync], second.handled[&Verb::Sync]);
    assert_eq!(second.revision, first.revision, "a verb is no change of the projection");
    let third = world.store.put_connector(&later).await.expect("projects");
    assert!(third.fresh_tokens.is_empty());
    assert_eq!(third.handled, second.handled, "with the time of recording");

    let rebuilt = ConnectorProjection { uid: "uid-2".to_owned(), ..with(&[(Verb::Sync, "t1")]) };
    let fourth = world.store.put_connector(&rebuilt).await.expect("projects");
    assert!(fourth.fresh_tokens.is_empty(), "restored from a backup with an older token: no verb is repeated");
}

pub(crate) async fn a_cursor_reset_forgets_account_cursor_and_load_and_ends_the_run(world: &World) {
    world.projected().await;
    let lease = world.lease("run-1").await.lease;
    let reset = ConnectorProjection { wishes: wishes(&[(Verb::ResetCursor, "r1")]), ..connector() };
    let answer = world.store.put_connector(&reset).await.expect("projects");
    assert!(answer.fresh_tokens.contains_key(&Verb::ResetCursor));
    let stored = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((stored.account_id, stored.cursor, stored.load), (None, Cursor::default(), None));
    assert!(matches!(world.store.sync_state(&lease).await, Err(Error::StaleRun { .. })));
    assert_eq!(world.store.lease_holder(&tenant_id(), &connector_id()).await, Ok(None));
    world.connect(1, Some("portal-2")).await;
    let other = gtm_sync::store::LeaseRequest { account_id: "portal-2".to_owned(), ..request("run-2", None) };
    let granted = world.store.take_lease(&other).await.expect("the other account");
    assert_eq!(granted.lease.run_no, lease.run_no + 1, "versions go on over accounts");
}

pub(crate) async fn only_running_and_connected_connectors_are_listed(world: &World) {
    world.store.put_tenant(&tenant()).await.expect("tenant");
    let variants = [
        ("connected", DesiredState::Running, ConnectionStatus::Connected, false),
        ("own", DesiredState::Running, ConnectionStatus::Connected, true),
        ("paused", DesiredState::Paused, ConnectionStatus::Connected, false),
        ("stopped", DesiredState::Stopped, ConnectionStatus::Connected, false),
        ("pending", DesiredState::Running, ConnectionStatus::Pending, false),
        ("refused", DesiredState::Running, ConnectionStatus::Disconnected, false),
        ("removed", DesiredState::Running, ConnectionStatus::Connected, false),
    ];
    for (name, desired_state, status, own_schedule) in variants {
        let id = name.parse().expect("id");
        let projection = ConnectorProjection { connector_id: id, desired_state, own_schedule, ..connector() };
        world.store.put_connector(&projection).await.expect("projects");
        let id = &projection.connector_id;
        world.store.set_connection(&tenant_id(), id, 1, &found(status, None)).await.expect("connection");
    }
    world.store.remove_connector(&tenant_id(), &"removed".parse().expect("id"), "uid-1").await.expect("removes");
    let listing = world.store.list_connected(&tenant_id()).await.expect("lists");
    let listed: Vec<_> = listing.connectors.iter().map(|(id, own)| (id.as_str(), *own)).collect();
    assert_eq!((listed, listing.wait_seconds), (vec![("connected", false), ("own", true)], Some(3_000)));
    let unknown = world.store.list_connected(&"nobody".parse().expect("id")).await.expect("lists");
    assert!(unknown.connectors.is_empty());
}

pub(crate) async fn a_removed_connector_is_unknown_to_workers_and_listed_for_the_sweep(world: &World) {
    world.projected().await;
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-0").await.expect("not this life");
    assert!(world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").is_some(), "it came too late");
    world.store.remove_connector(&tenant_id(), &connector_id(), "uid-1").await.expect("removes");
    assert_eq!(world.store.connector(&tenant_id(), &connector_id()).await, Ok(None));
    let listed = world.store.projected_connectors("eu1").await.expect("lists");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].removed_at.is_some() && listed[0].uid == "uid-1");
    assert_eq!(world.store.projected_connectors("us1").await, Ok(vec![]));
    world.store.put_connector(&connector()).await.expect("comes back");
    let listed = world.store.projected_connectors("eu1").await.expect("lists");
    assert_eq!((listed[0].removed_at, listed[0].generation), (None, 1));
}

pub(crate) async fn another_account_is_refused_until_it_is_reset(world: &World) {
    world.projected().await;
    let other = found(ConnectionStatus::Connected, Some("portal-2"));
    let refused = world.store.set_connection(&tenant_id(), &connector_id(), 1, &other).await;
    let wanted = Error::AccountChanged { stored: ACCOUNT.to_owned(), found: "portal-2".to_owned() };
    assert_eq!(refused, Err(wanted.clone()));
    let lease = gtm_sync::store::LeaseRequest { account_id: "portal-2".to_owned(), ..request("run-1", None) };
    assert_eq!(world.store.take_lease(&lease).await, Err(wanted));
    let stored = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!(stored.account_id.as_deref(), Some(ACCOUNT));
}

pub(crate) async fn a_finding_about_a_former_credential_is_ignored(world: &World) {
    world.projected().await;
    let rotated = ConnectorProjection { credential: Some(credential("digest-2")), ..connector() };
    let answer = world.store.put_connector(&rotated).await.expect("projects");
    assert_eq!((answer.revision, answer.credential_revision), (2, 2));
    let status = |found: gtm_sync::store::ConnectorRecord| found.connection_status;
    let read = || async { world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known") };
    assert_eq!(status(read().await), ConnectionStatus::Pending, "a new credential is to be checked");
    let refused = found(ConnectionStatus::Disconnected, None);
    world.store.set_connection(&tenant_id(), &connector_id(), 1, &refused).await.expect("ignored");
    assert_eq!(status(read().await), ConnectionStatus::Pending);
    world.store.set_connection(&tenant_id(), &connector_id(), 2, &refused).await.expect("recorded");
    assert_eq!(status(read().await), ConnectionStatus::Disconnected);
    let unsure = gtm_sync::store::ConnectionFound { status: None, reason: "Unavailable".to_owned(), account_id: None };
    world.store.set_connection(&tenant_id(), &connector_id(), 2, &unsure).await.expect("recorded");
    assert_eq!(status(read().await), ConnectionStatus::Disconnected, "a transient failure leaves it");
}

pub(crate) async fn a_worker_reads_cursor_and_load_of_the_bound_account(world: &World) {
    world.projected().await;
    let granted = world.lease("run-1").await;
    let reference = world.stage(&granted.lease, 0, load_at_end(), super::world::batch(&[], &[])).await;
    world.store.apply(&granted.lease, &[reference]).await.expect("applies");
    let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((record.load, record.generation), (Some(load_at_end()), 0));
    world
        .store
        .finish_run(&granted.lease, &gtm_sync::store::RunEnd::Complete, Default::default())
        .await
        .expect("finishes");
    let record = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known");
    assert_eq!((record.load, record.generation), (None, 1));
    assert_eq!(record.cursor.streams.get("contacts"), Some(&at("2026-11-22T11:55:00Z")));
}
