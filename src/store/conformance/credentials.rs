//! The overlay of refreshed tokens and its lock.

use gtm_sync::{
    credentials::Sealed,
    error_class::Class,
    store::{BaseCredential, ConnectorProjection},
};

use super::world::{World, connector, connector_id, credential, sealed, tenant_id};

pub(crate) async fn a_refresh_is_single_flight_and_its_token_is_kept(world: &World) {
    world.projected().await;
    let (tenant, connector) = (tenant_id(), connector_id());
    let lock = || world.store.lock_refresh(&tenant, &connector);
    let mine = lock().await.expect("asks").expect("free");
    assert!(lock().await.expect("asks").is_none(), "one refresh at a time");
    world.store.save_overlay(&mine, 1, &sealed("refreshed")).await.expect("saves");
    let overlay = world.store.overlay(&tenant_id(), &connector_id()).await.expect("reads").expect("saved");
    assert_eq!((overlay.credential_revision, overlay.revision, overlay.sealed), (1, 1, sealed("refreshed")));
    let again = world.store.save_overlay(&mine, 1, &sealed("twice")).await.expect_err("the lock is gone");
    assert_eq!(again.class(), Class::Conflict);

    let next = lock().await.expect("asks").expect("free after the save");
    world.store.release_refresh(&next).await.expect("releases");
    let next = lock().await.expect("asks").expect("free after the release");
    world.store.save_overlay(&next, 1, &sealed("second")).await.expect("saves");
    let overlay = world.store.overlay(&tenant_id(), &connector_id()).await.expect("reads").expect("saved");
    assert_eq!((overlay.revision, overlay.sealed), (2, sealed("second")));
}

pub(crate) async fn of_many_that_want_to_refresh_exactly_one_may(world: &World) {
    world.projected().await;
    let (tenant, connector) = (tenant_id(), connector_id());
    let wishes = (0..8).map(|_| world.store.lock_refresh(&tenant, &connector));
    let granted = futures::future::join_all(wishes).await;
    assert_eq!(granted.into_iter().filter(|lock| matches!(lock, Ok(Some(_)))).count(), 1);
}

pub(crate) async fn a_dead_holders_lock_is_void_after_a_minute(world: &World) {
    world.projected().await;
    let dead = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("free");
    world.probe.execute("UPDATE refresh_lock SET locked_at = '2020-01-01T00:00:00.000000Z'").await;
    let heir = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("void");
    let late = world.store.save_overlay(&dead, 1, &sealed("late")).await.expect_err("not held any more");
    assert_eq!(late.class(), Class::Conflict);
    world.store.save_overlay(&heir, 1, &sealed("heir")).await.expect("saves");
}

pub(crate) async fn an_equal_digest_keeps_the_overlay_under_any_key_and_another_drops_it(world: &World) {
    world.projected().await;
    let lock = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("free");
    world.store.save_overlay(&lock, 1, &sealed("refreshed")).await.expect("saves");
    let lock = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("free");
    world.store.put_connector(&connector()).await.expect("projects");
    assert!(world.store.overlay(&tenant_id(), &connector_id()).await.expect("reads").is_some());

    let resealed = Sealed { key_id: "key-2".to_owned(), ciphertext: b"under another key".to_vec() };
    let content = BaseCredential { sealed: resealed.clone(), digest: credential("digest-1").digest };
    let resealing = ConnectorProjection { credential: Some(content), ..connector() };
    assert_eq!(world.store.put_connector(&resealing).await.expect("projects").credential_revision, 1);
    assert!(world.store.overlay(&tenant_id(), &connector_id()).await.expect("reads").is_some(), "sealed again");
    let read = world.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("projected");
    assert_eq!(read.credential.map(|credential| credential.sealed), Some(resealed));

    let rotated = ConnectorProjection { credential: Some(credential("digest-2")), ..connector() };
    assert_eq!(world.store.put_connector(&rotated).await.expect("projects").credential_revision, 2);
    assert!(world.store.overlay(&tenant_id(), &connector_id()).await.expect("reads").is_none());
    let late = world.store.save_overlay(&lock, 1, &sealed("of the former")).await.expect_err("another credential");
    assert_eq!(late.class(), Class::Conflict);
}
