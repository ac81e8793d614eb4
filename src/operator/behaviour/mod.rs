//! What servers answer to the requests of reconcilers, as scenarios over the seam itself. Compiled into tests only (hence
//! `gtm_sync::`), and run twice: on the fake world in the unit tests, on the real API server, Temporal and store in
//! `tests/it/operator/behaviours.rs`. A fake that is friendlier than the server proves nothing (R36).

pub(crate) mod kubernetes;
pub(crate) mod store;
pub(crate) mod temporal;
pub(crate) mod workers;

use async_trait::async_trait;
use gtm_sync::{
    error_class::Class,
    operator::world::{Answer, Kind, ObjectKey, Request, World},
};
use serde_json::Value;

/// The servers behind a world, and what is done to them by others.
#[async_trait]
pub(crate) trait Servers: Send + Sync {
    /// The way of reconcilers to them.
    fn world(&self) -> &dyn World;

    /// Where objects and Secrets are made.
    fn namespace(&self) -> &str;

    /// A moment passes: servers do some things in their own time.
    async fn moment(&self);

    /// Makes an object of tenant `acme`.
    async fn create(&self, kind: Kind, name: &str) -> ObjectKey;

    /// Deletes an object, as `kubectl delete --wait=false` does.
    async fn delete(&self, key: &ObjectKey);

    /// Another controller puts its finalizer on an object, or takes it away.
    async fn hold(&self, key: &ObjectKey, held: bool);

    /// The object of this uid.
    async fn object(&self, key: &ObjectKey) -> Option<Found>;

    /// Writes a Secret of text values.
    async fn put_secret(&self, name: &str, key: &str, value: &str);

    /// Ends a workflow.
    async fn end_workflow(&self, id: &str);

    /// Starts a cron workflow for tenant `acme`, by hand.
    async fn start_cron(&self, id: &str);
}

/// An object as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) generation: i64,
    pub(crate) resource_version: String,
    pub(crate) finalizers: Vec<String>,
    pub(crate) deleting: bool,
    /// `Null` if there is none.
    pub(crate) status: Value,
}

/// The finalizer of `Servers::hold`.
pub(crate) const FOREIGN_FINALIZER: &str = "tests.example.com/held";

/// Asks, and expects an answer.
async fn ask(servers: &dyn Servers, request: Request) -> Answer {
    let told = format!("{request:?}");
    servers.world().call(request).await.unwrap_or_else(|error| panic!("{error} ({told})"))
}

/// Asks, and expects an error of a class.
async fn refused(servers: &dyn Servers, request: Request) -> Class {
    let told = format!("{request:?}");
    match servers.world().call(request).await {
        Err(error) => error.class(),
        Ok(answer) => panic!("{answer:?} ({told})"),
    }
}

/// Runs a macro on every scenario: `module::scenario, …`.
macro_rules! every_behaviour {
    ($run:ident) => {
        $run! {
            kubernetes::a_finalizer_is_added_once_beside_those_of_others,
            kubernetes::a_deleted_object_goes_with_its_last_finalizer_and_takes_no_new_one,
            kubernetes::another_life_of_a_name_is_not_the_object,
            kubernetes::a_late_status_reaches_the_next_life_of_a_name_and_is_overwritten_whole,
            kubernetes::each_manager_writes_its_own_part_of_a_status,
            kubernetes::an_equal_status_changes_nothing_and_no_status_is_an_edit,
            kubernetes::an_object_is_asked_for_its_tenant_by_name,
            kubernetes::a_secret_is_told_as_it_is_now,
            kubernetes::a_tenants_own_workers_have_one_recipient_and_another_tenants_have_another,
            temporal::what_is_not_there_is_described_as_none_and_deleted_twice,
            temporal::a_schedule_is_created_once_and_paused_in_the_same_request,
            temporal::an_update_keeps_what_it_says_and_moves_the_token,
            temporal::an_update_with_an_old_token_changes_nothing_and_one_without_a_token_all,
            temporal::an_update_of_the_state_alone_leaves_the_rest_word_for_word,
            temporal::a_schedule_is_left_with_a_mark_that_goes_with_the_next_content,
            temporal::schedules_are_listed_with_their_owners_and_what_comes_next,
            temporal::a_tenant_without_a_cron_workflow_has_none_to_end,
            temporal::a_cron_workflow_is_found_for_its_tenant_and_ended_by_its_first_run_once,
            temporal::a_backfill_starts_a_tick_of_its_range_and_is_seen_to_have,
            temporal::a_deleted_schedule_can_be_created_again,
            temporal::what_the_server_cannot_read_is_refused_as_invalid,
            temporal::a_run_by_a_name_for_good_starts_once,
            temporal::a_run_that_follows_another_is_repeated_if_it_did_not_complete,
            temporal::a_check_runs_one_at_a_time,
            store::a_claim_is_held_by_the_first,
            store::a_token_is_fresh_once_and_never_at_first_sight,
            store::a_tenants_token_is_told_to_the_life_that_recorded_it_and_to_no_other,
            store::a_connector_is_removed_by_its_uid_only,
        }
    };
}
pub(crate) use every_behaviour;
