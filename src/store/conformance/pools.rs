//! Dedicated pools: who gets one, where activities go, and credentials that are sealed with another key (R7, R14, R22).

use gtm_sync::store::{
    BaseCredential, ClaimOutcome, ConnectorProjection, DedicatedPool, MAX_DEDICATED_POOLS, Owner, Pool, Route,
    TenantProjection,
};

use super::world::{World, connector, connector_id, credential, owner, sealed, tenant, tenant_id};

fn dedicated(dedicated: bool) -> TenantProjection {
    TenantProjection { dedicated, ..tenant() }
}

fn other(name: &str) -> TenantProjection {
    TenantProjection { tenant_id: name.parse().expect("id"), owner: owner("team-a", name), ..dedicated(true) }
}

fn key(key_id: &str, text: &str) -> gtm_sync::credentials::Sealed {
    gtm_sync::credentials::Sealed { key_id: key_id.to_owned(), ..sealed(text) }
}

fn resealed(key_id: &str) -> ConnectorProjection {
    let credential = BaseCredential { sealed: key(key_id, "resealed"), ..credential("digest-1") };
    ConnectorProjection { credential: Some(credential), ..connector() }
}

async fn route(world: &World) -> Route {
    world.store.route(&tenant_id(), &connector_id()).await.expect("reads")
}

async fn pools(world: &World) -> Vec<(String, bool)> {
    let pools = world.store.dedicated_pools("eu1").await.expect("reads");
    pools.into_iter().map(|DedicatedPool { tenant_id, needed, .. }| (tenant_id.to_string(), needed)).collect()
}

pub(crate) async fn a_tenants_pool_is_its_claims_and_is_remembered_after_it_left(world: &World) {
    assert_eq!(route(world).await, Route::default(), "an unknown tenant is served by the shared pool");
    for (wanted, pool) in [(false, Pool::Shared), (true, Pool::Dedicated), (false, Pool::Left), (true, Pool::Dedicated)]
    {
        assert_eq!(world.store.put_tenant(&dedicated(wanted)).await, Ok(ClaimOutcome::Held));
        assert_eq!(route(world).await.pool, pool);
        let claim = world.store.tenant_claim(&tenant_id()).await.expect("reads").expect("held");
        assert_eq!((claim.owner, claim.pool), (tenant().owner, pool));
    }
}

pub(crate) async fn a_refreshed_token_under_another_key_than_its_base_is_told_until_it_is_sealed_alike(world: &World) {
    world.projected().await;
    let sealed_with = async |key_id: &str| {
        let lock = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("free");
        world.store.save_overlay(&lock, 1, &key(key_id, "refreshed")).await.expect("saves");
    };
    assert_eq!(route(world).await.reseal(), None, "nothing was refreshed");
    sealed_with("key-1").await;
    assert_eq!(route(world).await.reseal(), None, "both are sealed with one key");
    world.store.put_connector(&resealed("key-2")).await.expect("projects");
    let moved = route(world).await;
    assert_eq!((moved.reseal(), moved.credential_revision), (Some(("key-1", "key-2")), 1));
    sealed_with("key-2").await;
    assert_eq!(route(world).await.reseal(), None);
}

pub(crate) async fn a_pool_is_needed_while_its_tenant_has_it_or_tokens_are_sealed_to_it(world: &World) {
    world.projected().await;
    assert_eq!(pools(world).await, []);
    world.store.put_tenant(&dedicated(true)).await.expect("held");
    assert_eq!(pools(world).await, [("acme".to_owned(), true)]);
    let lock = world.store.lock_refresh(&tenant_id(), &connector_id()).await.expect("asks").expect("free");
    world.store.save_overlay(&lock, 1, &key("key-of-acme", "refreshed")).await.expect("saves");
    world.store.put_tenant(&dedicated(false)).await.expect("held");
    assert_eq!(pools(world).await, [("acme".to_owned(), true)], "a token is still sealed to it");
    world.store.put_connector(&resealed("key-of-acme")).await.expect("projects");
    assert_eq!(pools(world).await, [("acme".to_owned(), false)]);
    world.store.put_tenant(&dedicated(true)).await.expect("held");
    world.store.remove_tenant(&tenant_id(), &tenant().owner).await.expect("removes");
    assert_eq!(pools(world).await, [("acme".to_owned(), false)], "nobody works for a removed tenant");
    assert_eq!(world.store.dedicated_pools("us1").await, Ok(vec![]), "another cluster's operator deploys others");
}

pub(crate) async fn the_ninety_first_pool_is_refused_until_another_leaves(world: &World) {
    for number in 0..MAX_DEDICATED_POOLS {
        assert_eq!(world.store.put_tenant(&other(&format!("t{number}"))).await, Ok(ClaimOutcome::Held));
    }
    assert_eq!(world.store.put_tenant(&dedicated(true)).await, Ok(ClaimOutcome::NoPoolLeft));
    assert_eq!(world.store.tenant_claim(&tenant_id()).await, Ok(None), "nothing is written");
    assert_eq!(world.store.put_tenant(&other("t7")).await, Ok(ClaimOutcome::Held), "who has one keeps it");
    let thief = TenantProjection { owner: owner("team-b", "t7"), ..other("t7") };
    let holder = Owner { ..other("t7").owner };
    assert_eq!(world.store.put_tenant(&thief).await, Ok(ClaimOutcome::HeldBy(holder)));
    world.store.put_tenant(&dedicated(false)).await.expect("the shared pool takes everybody");
    assert_eq!(world.store.put_tenant(&dedicated(true)).await, Ok(ClaimOutcome::NoPoolLeft));
    assert_eq!(route(world).await.pool, Pool::Shared, "it goes on where it was");

    world.store.remove_tenant(&"t3".parse().expect("id"), &other("t3").owner).await.expect("removes");
    let (first, second) = (dedicated(true), other("t3"));
    let (one, two) = tokio::join!(world.store.put_tenant(&first), world.store.put_tenant(&second));
    let mut answers = [one.expect("answers"), two.expect("answers")];
    answers.sort_by_key(|answer| *answer == ClaimOutcome::NoPoolLeft);
    assert_eq!(answers, [ClaimOutcome::Held, ClaimOutcome::NoPoolLeft], "of two exactly one gets the last pool");
}
