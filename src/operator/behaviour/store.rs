//! The store, by the requests of reconcilers: `store/conformance` has the rest.

use std::collections::BTreeMap;

use gtm_sync::{
    error_class::Class,
    model::config::{ConnectorConfig, DataPolicy, SourceConfig},
    operator::world::{Answer, Request},
    store::{
        ClaimOutcome, ConnectorAnswer, ConnectorProjection, DesiredState, Owner, Pool, TenantClaim, TenantProjection,
        TenantVerb, Verb, Wish,
    },
};

use super::{Servers, ask, refused};

fn owner(namespace: &str) -> Owner {
    Owner { cluster_id: String::new(), namespace: namespace.to_owned(), name: "acme".to_owned() }
}

fn tenant(namespace: &str) -> Request {
    let tenant_id = "acme".parse().expect("an id");
    let (owner, uid) = (owner(namespace), "1".to_owned());
    Request::PutTenant(TenantProjection { tenant_id, owner, uid, wait_seconds: None, dedicated: false })
}

fn connector(namespace: &str, uid: &str, token: Option<&str>) -> Request {
    let wishes: BTreeMap<_, _> = token.map(|token| (Verb::Sync, Wish::from(token))).into_iter().collect();
    Request::PutConnector(Box::new(ConnectorProjection {
        tenant_id: "acme".parse().expect("an id"),
        connector_id: "hubspot".parse().expect("an id"),
        owner: Owner { name: "hubspot".to_owned(), ..owner(namespace) },
        uid: uid.to_owned(),
        generation: 1,
        desired_state: DesiredState::Running,
        config: ConnectorConfig {
            source: SourceConfig::Hubspot { base_url: None },
            streams: Vec::new(),
            batch_size: 1,
            requests_per_second: None,
            quota_reserve_percent: 20,
            max_rejected_percent: 50,
            max_swept_percent: 10,
            data_policy: DataPolicy::Retain,
        },
        credential: None,
        own_schedule: false,
        wishes,
    }))
}

async fn projected(servers: &dyn Servers, uid: &str, token: Option<&str>) -> ConnectorAnswer {
    match ask(servers, connector("acme", uid, token)).await {
        Answer::Connector(answer) => *answer,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_claim_is_held_by_the_first(servers: &dyn Servers) {
    let claimant = || Request::TenantClaim("acme".parse().expect("an id"));
    assert_eq!(ask(servers, claimant()).await, Answer::Claimant(None));
    assert_eq!(ask(servers, tenant("acme")).await, Answer::Claim(ClaimOutcome::Held));
    assert_eq!(ask(servers, tenant("elsewhere")).await, Answer::Claim(ClaimOutcome::HeldBy(owner("acme"))));
    for (of, removed) in [("elsewhere", false), ("acme", true), ("acme", true)] {
        let request = Request::RemoveTenant("acme".parse().expect("an id"), owner(of));
        assert_eq!(ask(servers, request).await, Answer::Done);
        let claim = TenantClaim { owner: owner("acme"), pool: Pool::Shared, removed };
        assert_eq!(ask(servers, claimant()).await, Answer::Claimant(Some(claim)), "held for good");
    }
    assert_eq!(refused(servers, connector("elsewhere", "1", None)).await, Class::Invalid);
}

pub(crate) async fn a_token_is_fresh_once_and_never_at_first_sight(servers: &dyn Servers) {
    ask(servers, tenant("acme")).await;
    let first = projected(servers, "1", Some("old")).await;
    assert!(first.fresh_tokens.is_empty() && first.handled[&Verb::Sync].token == "old");
    let fresh = projected(servers, "1", Some("new")).await;
    assert_eq!(fresh.fresh_tokens[&Verb::Sync].token, "new");
    let again = projected(servers, "1", Some("new")).await;
    assert!(again.fresh_tokens.is_empty());
    assert_eq!(again.handled[&Verb::Sync], fresh.fresh_tokens[&Verb::Sync], "with the time of its recording");
    assert!(projected(servers, "2", Some("newer")).await.fresh_tokens.is_empty(), "another life");
}

pub(crate) async fn a_tenants_token_is_told_to_the_life_that_recorded_it_and_to_no_other(servers: &dyn Servers) {
    ask(servers, tenant("acme")).await;
    let recorded = async |uid: &str, token: &str| {
        let tokens = BTreeMap::from([(TenantVerb::Trigger, token.to_owned())]);
        let request = Request::RecordTenantTokens("acme".parse().expect("an id"), uid.to_owned(), tokens);
        let Answer::Recorded(times) = ask(servers, request).await else { panic!("another answer") };
        times.get(&TenantVerb::Trigger).copied()
    };
    assert_eq!(recorded("", "old").await, None, "at first sight it is nobody's");
    let first = recorded("1", "new").await;
    assert!(first.is_some());
    assert_eq!(recorded("1", "new").await, first, "with the time of its recording");
    assert_eq!(recorded("2", "new").await, None, "another life");
    assert!(recorded("2", "newer").await > first);
}

pub(crate) async fn a_connector_is_removed_by_its_uid_only(servers: &dyn Servers) {
    ask(servers, tenant("acme")).await;
    let first = projected(servers, "2", None).await.revision;
    let removed = |uid: &str| {
        let (tenant, connector) = ("acme".parse().expect("an id"), "hubspot".parse().expect("an id"));
        Request::RemoveConnector(tenant, connector, uid.to_owned())
    };
    ask(servers, removed("1")).await;
    assert_eq!(projected(servers, "2", None).await.revision, first, "a removal that comes late is not of this life");
    for _ in 0..2 {
        assert_eq!(ask(servers, removed("2")).await, Answer::Done);
    }
    assert!(projected(servers, "2", None).await.revision > first, "it is back");
}
