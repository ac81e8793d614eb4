//! Credentials go where the tenant's activities go (R14, R22).

use super::*;
use crate::{
    credentials::{Envelope, Opener},
    store::Pool,
};

/// A world whose tenant has workers of its own.
fn dedicated() -> FakeWorld {
    let world = world();
    world.set_pool(Pool::Dedicated);
    world
}

fn stored(world: &FakeWorld) -> crate::store::BaseCredential {
    world.projected("hubspot").expect("projected").credential.expect("a credential")
}

#[test]
fn a_dedicated_tenants_credential_is_sealed_to_its_own_workers_whatever_call_fails() {
    let undisturbed = dedicated();
    reconcile(&undisturbed, json!({}));
    let calls = undisturbed.calls();
    assert_eq!(calls, ["TenantClaim", "EnsurePool", "GetSecret", "PutConnector", "ApplyStatus"]);
    for fault in every_fault(calls.len()) {
        let world = dedicated();
        world.fail(Some(fault));
        assert!(reconcile(&world, json!({})).outcome.failed.is_some(), "{fault:?}");
        world.fail(None);
        reconcile(&world, json!({}));
        assert_eq!(shown(&world), shown(&undisturbed), "{fault:?}");
        let own = world.state().pools["acme"].key_id().to_owned();
        assert_eq!(stored(&world).sealed.key_id, own, "{fault:?}");
    }
}

#[test]
fn the_same_secret_for_other_workers_has_the_same_digest() {
    let world = world();
    let input = input(&world, json!({}));
    let mut seen = Vec::new();
    for pool in [Pool::Shared, Pool::Dedicated, Pool::Left] {
        world.set_pool(pool);
        run(&world, Reconcile::new(input.clone(), RESYNC));
        seen.push(stored(&world));
    }
    assert_eq!(seen[0].digest, seen[1].digest, "or the refreshed tokens would be dropped (R7)");
    assert_ne!(seen[0].sealed.key_id, seen[1].sealed.key_id);
    assert_eq!((&seen[2].digest, &seen[2].sealed.key_id), (&seen[0].digest, &seen[0].sealed.key_id));
}

#[test]
fn a_string_sealed_to_the_wrong_workers_is_refused_with_the_pools_name() {
    let world = dedicated();
    let (identity, recipient) = generate_identity();
    let sealer = Sealer::new(&recipient).expect("recipient");
    world.state().pools.insert("acme".to_owned(), sealer.clone());
    let envelope = Envelope {
        tenant_id: "acme".parse().expect("id"),
        connector_id: "hubspot".parse().expect("id"),
        allowed_hosts: vec!["api.hubapi.com".to_owned()],
        key_id: String::new(),
        fields: SecretFields([("accessToken".to_owned(), "canary".to_owned())].into()),
    };
    let other = Sealer::new(&generate_identity().1).expect("recipient");
    reconcile(&world, json!({"credentials": {"sealed": other.seal(envelope.clone()).to_text()}}));
    assert_eq!(ready(&world), "False/InvalidCredentials");
    let status = shown(&world);
    let message = &status.conditions.iter().find(|of| of.type_ == "Ready").expect("Ready").message;
    assert!(message.contains("tenant acme has workers of its own"), "{message}");
    assert!(message.contains("recipient.acme of ConfigMap gtm-sync-recipient"), "{message}");
    reconcile(&world, json!({"credentials": {"sealed": sealer.seal(envelope).to_text()}}));
    assert_eq!(ready(&world), "True/Configured");
    assert!(Opener::new(&identity).expect("identity").open(&stored(&world).sealed).is_ok());
}
