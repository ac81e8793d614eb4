//! The request budget that everybody on one vendor account shares.

use std::time::Duration;

use gtm_sync::store::{BudgetGrant, BudgetKey, BudgetLimit};
use jiff::{SignedDuration, Timestamp};

use super::world::World;

const LIMIT: BudgetLimit = BudgetLimit { requests: 100, window: Duration::from_secs(3_600) };

fn key(account: &str, class: &'static str) -> BudgetKey {
    BudgetKey { system: "hubspot", account_id: account.to_owned(), class }
}

pub(crate) async fn a_budget_is_shared_and_used_up_it_says_how_long_to_wait(world: &World) {
    let search = key("portal-1", "search");
    assert_eq!(world.store.take_budget(&search, &LIMIT, 60).await, Ok(BudgetGrant::Granted(60)));
    assert_eq!(world.store.take_budget(&search, &LIMIT, 60).await, Ok(BudgetGrant::Granted(40)));
    let waits = world.store.take_budget(&search, &LIMIT, 1).await.expect("asks");
    let BudgetGrant::Wait(wait, None) = waits else { panic!("{waits:?}") };
    assert!(wait > Duration::from_secs(3_000) && wait <= Duration::from_secs(3_800), "{wait:?}");
    for other in [key("portal-2", "search"), key("portal-1", "crud")] {
        assert_eq!(world.store.take_budget(&other, &LIMIT, 1).await, Ok(BudgetGrant::Granted(1)));
    }
}

pub(crate) async fn many_takers_together_get_no_more_than_the_limit(world: &World) {
    let shared = key("portal-1", "crud");
    let takers = (0..16).map(|_| world.store.take_budget(&shared, &LIMIT, 10));
    let granted: u32 = futures::future::join_all(takers)
        .await
        .into_iter()
        .map(|grant| match grant.expect("asks") {
            BudgetGrant::Granted(count) => count,
            BudgetGrant::Wait(..) => 0,
        })
        .sum();
    assert_eq!(granted, LIMIT.requests);
}

#[expect(clippy::disallowed_methods, reason = "the vendor's wish is a wall-clock time")]
pub(crate) async fn a_parked_budget_stops_everybody_until_then(world: &World) {
    let parked = key("portal-1", "crud");
    let until = Timestamp::now() + SignedDuration::from_mins(30);
    world.store.park_budget(&parked, until, "DailyLimit").await.expect("parks");
    let sooner = Timestamp::now() + SignedDuration::from_secs(1);
    world.store.park_budget(&parked, sooner, "TenSecondly").await.expect("parks");
    let answer = world.store.take_budget(&parked, &LIMIT, 1).await.expect("asks");
    let BudgetGrant::Wait(wait, reason) = answer else { panic!("{answer:?}") };
    assert!(wait > Duration::from_secs(1_700) && wait <= Duration::from_secs(1_800), "{wait:?}");
    assert_eq!(reason.as_deref(), Some("DailyLimit"), "the longer wish stands");
    let past = Timestamp::now() - SignedDuration::from_secs(1);
    world.store.park_budget(&key("portal-2", "crud"), past, "over").await.expect("parks");
    let over = world.store.take_budget(&key("portal-2", "crud"), &LIMIT, 1).await;
    assert_eq!(over, Ok(BudgetGrant::Granted(1)));
}
