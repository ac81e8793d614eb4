//! An erased person stays away as long as the source does not serve the record anew.

use gtm_sync::store::Person;

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_person_erased_at_the_source_and_here_does_not_come_back() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(300).await);
    let _worker = stack.worker();
    acme(&stack, &crm).await;
    stack.sync("first", "acme", "hubspot", true).await.completed();
    let person = crm.state().live_ids(Kind::Contacts).remove(0);
    let row = format!("SELECT email FROM contact WHERE source_id = '{person}'");
    let address = texts(&stack, &row).remove(0).expect("an address");
    assert!(crm.state().vanish(Kind::Contacts, &person));
    let erased = stack.store.erase(&"acme".parse().expect("id"), &Person::Email(address.to_uppercase())).await;
    assert_eq!(erased.expect("erases").records, 1);
    crm.state().advance_clock(Duration::from_secs(900));
    for (id, full) in [("increment", false), ("full", true)] {
        stack.sync(id, "acme", "hubspot", full).await.completed();
        assert_eq!(texts(&stack, &row), []);
    }
    assert_clean(&stack, &crm, "acme", "hubspot").await;
}
