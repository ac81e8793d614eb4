//! Runs the store's conformance suite on SQLite, and on PostgreSQL with a database of its own for each test.

#[path = "../../src/store/conformance/mod.rs"]
mod conformance;
mod postgres_only;
mod resume_point;

use async_trait::async_trait;
use conformance::world::{Probe, World};
use gtm_sync::store;

/// A store in a file of its own.
struct Sqlite {
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

async fn sqlite_world() -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.sqlite");
    let store = store::open(&format!("sqlite:{}", path.display())).await.expect("opens");
    assert_eq!(store.schema_version().await, Ok(0), "an empty database");
    store.migrate().await.expect("migrates");
    World { store, probe: Box::new(Sqlite { path, _directory: directory }) }
}

#[async_trait]
impl Probe for Sqlite {
    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let connection = rusqlite::Connection::open(&self.path).expect("opens");
        let mut statement = connection.prepare(sql).expect("prepares");
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|place| row.get(place)).collect()).expect("queries");
        rows.collect::<Result<_, _>>().expect("rows of text")
    }

    async fn execute(&self, sql: &str) {
        rusqlite::Connection::open(&self.path).expect("opens").execute_batch(sql).expect("executes");
    }

    fn view(&self, table: &str) -> String {
        format!("canonical_{table}")
    }

    fn rewritten(&self) -> &'static str {
        "rowid"
    }

    fn payload_hex(&self) -> &'static str {
        "hex(payload)"
    }

    async fn close(self: Box<Self>) {}
}

/// A store in a database of its own, dropped with the world.
struct Postgres {
    url: String,
    name: String,
    client: tokio_postgres::Client,
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// The URL of another database of the same server.
fn database_url(name: &str) -> String {
    let mut url = url::Url::parse(&crate::support::postgres_url()).expect("a URL");
    url.set_path(name);
    url.to_string()
}

async fn fresh_database() -> Postgres {
    let name = crate::support::fresh("store").replace('-', "_");
    connect(&crate::support::postgres_url())
        .await
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .expect("creates");
    let url = database_url(&name);
    let client = connect(&url).await;
    client.batch_execute("SET search_path = gtm, canonical").await.expect("sets");
    Postgres { url, name, client }
}

async fn postgres_world() -> World {
    let database = fresh_database().await;
    let store = store::open(&database.url).await.expect("opens");
    assert_eq!(store.schema_version().await, Ok(0), "an empty database");
    store.migrate().await.expect("migrates");
    crate::support::resume_point::guard(&database.url).await;
    World { store, probe: Box::new(database) }
}

#[async_trait]
impl Probe for Postgres {
    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows = self.client.query(sql, &[]).await.expect("queries");
        rows.iter().map(|row| (0..row.len()).map(|place| row.get(place)).collect()).collect()
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect("executes");
    }

    fn view(&self, table: &str) -> String {
        format!("canonical.{table}")
    }

    fn rewritten(&self) -> &'static str {
        "xmin"
    }

    fn payload_hex(&self) -> &'static str {
        "encode(payload, 'hex')"
    }

    async fn close(self: Box<Self>) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        connect(&crate::support::postgres_url()).await.batch_execute(&drop).await.expect("drops");
    }
}

macro_rules! conformance {
    ($($group:ident { $($name:ident)* })*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::conformance::$group::$name(&super::sqlite_world().await).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs postgres"]
                async fn $name() {
                    let world = super::postgres_world().await;
                    super::conformance::$group::$name(&world).await;
                    world.probe.close().await;
                }
            )*)*
        }
    };
}

conformance! {
    registry {
        migrating_again_keeps_version_and_installation
        the_first_claim_wins_and_its_owner_may_come_back_with_a_new_uid
        a_removed_tenant_lists_nothing_and_its_claim_stays_with_its_namespace
        a_claim_that_was_given_up_is_taken_by_whoever_asks_next_with_its_connectors
        an_equal_projection_writes_nothing_and_a_changed_one_is_a_new_revision
        a_connector_outside_the_claims_namespace_is_refused
        the_later_of_two_connectors_with_one_joined_name_is_refused
        tokens_at_first_sight_are_recorded_and_a_later_one_is_fresh_once
        a_cursor_reset_forgets_account_cursor_and_load_and_ends_the_run
        only_running_and_connected_connectors_are_listed
        a_removed_connector_is_unknown_to_workers_and_listed_for_the_sweep
        another_account_is_refused_until_it_is_reset
        a_finding_about_a_former_credential_is_ignored
        a_worker_reads_cursor_and_load_of_the_bound_account
    }
    leaders {
        a_leader_with_an_older_epoch_writes_nothing
        leaders_of_different_things_leave_each_other_alone
    }
    credentials {
        a_refresh_is_single_flight_and_its_token_is_kept
        of_many_that_want_to_refresh_exactly_one_may
        a_dead_holders_lock_is_void_after_a_minute
        an_equal_digest_keeps_the_overlay_under_any_key_and_another_drops_it
    }
    pools {
        a_tenants_pool_is_its_claims_and_is_remembered_after_it_left
        a_refreshed_token_under_another_key_than_its_base_is_told_until_it_is_sealed_alike
        a_pool_is_needed_while_its_tenant_has_it_or_tokens_are_sealed_to_it
        the_ninety_first_pool_is_refused_until_another_leaves
    }
    leases {
        a_take_over_closes_the_former_run_and_drops_what_it_staged
        the_same_workflow_goes_on_with_its_counts
        a_former_holder_is_refused_everywhere
        of_two_that_take_one_lease_exactly_one_gets_it
        pause_stop_and_removal_refuse_the_next_commit_and_a_new_lease
        a_load_in_progress_is_continued_unless_it_is_to_be_restarted
        a_connector_that_was_edited_since_it_was_read_is_not_leased
        a_run_that_goes_on_with_another_account_counts_its_batches_from_there
    }
    commits {
        a_commit_moves_the_position_and_counts_and_repeats_its_answer
        two_batches_are_one_commit_and_can_be_asked_for_one_by_one_afterwards
        a_batch_out_of_place_or_missing_is_refused
        of_two_attempts_at_one_position_one_lands_and_the_counts_are_right
        an_empty_batch_moves_the_position_only
        every_entity_and_every_kind_of_value_is_stored_as_it_came
    }
    versions {
        an_older_version_does_not_overwrite_a_newer_one
        an_unchanged_row_is_not_rewritten
        a_changed_row_keeps_its_canonical_id_and_first_sight
        a_tombstone_keeps_the_last_values_and_a_newer_row_brings_the_record_back
        a_tombstone_of_an_unknown_id_stands_alone
        a_record_that_the_source_did_not_know_comes_back_as_it_was
        within_one_call_what_was_observed_last_says_whether_an_unknown_record_is_back
        within_one_call_the_greatest_version_of_a_key_wins
        a_row_of_another_account_gives_way_to_the_one_observed_later
    }
    rejections {
        rejected_records_are_kept_and_make_one_entry_a_batch
        rows_that_the_database_refuses_are_isolated_and_the_good_ones_land
        a_whole_batch_can_be_dead_lettered_once
        a_damaged_batch_fails_to_apply_and_can_still_be_stepped_past
        above_the_ceiling_nothing_is_written
        what_was_read_back_does_not_meet_the_ceiling
        the_array_holds_the_first_thousand_entries_and_all_are_counted
    }
    endings {
        a_complete_run_moves_the_cursor_and_frees_the_lease
        more_and_failed_keep_the_load
        a_load_that_is_not_at_its_end_cannot_complete
        a_failed_stream_is_named_and_its_watermark_stays
        a_workflow_id_used_again_after_its_end_is_a_new_run
        a_parked_run_shows_why_and_until_when
    }
    purges {
        a_removed_connector_that_asked_for_it_is_purged_whole_and_its_neighbour_is_not
        a_connector_that_is_there_or_whose_data_stays_is_never_purged
        a_purge_takes_a_bounded_part_and_one_that_comes_back_meanwhile_reads_everything_again
        runs_are_listed_newest_first
    }
    statuses {
        only_connectors_changed_since_are_returned
        failures_in_a_row_and_of_a_day_and_what_runs_took_are_added_up
    }
    shares {
        places_go_round_in_the_order_of_asking_and_there_are_never_more
        a_parked_run_leaves_its_place_and_comes_back_to_the_front_of_the_line
        a_connector_stands_once_and_the_silent_are_passed_over_but_not_forgotten
        a_dead_run_is_closed_by_its_lease_and_no_other_is
    }
    letters {
        a_dead_letter_is_resolved_when_its_record_lands_later
        a_newer_dead_letter_of_a_record_supersedes_the_older
        within_one_commit_what_was_served_last_says_whether_a_record_has_a_letter
        a_full_load_that_read_everything_resolves_older_dead_letters_and_no_other_load_does
        a_full_load_over_two_runs_keeps_the_dead_letters_of_both
        a_replay_marks_only_dead_letters_with_an_id_and_pages_by_version
        a_full_load_resolves_letters_of_the_streams_that_it_read_and_of_no_other
        letters_of_a_former_account_are_listed_with_it_and_never_marked
        a_replayed_record_lands_or_is_rejected_again_with_one_newer_unmarked_letter
        a_replay_resolves_its_letter_and_never_overwrites_a_newer_row
        dead_letters_are_discarded_by_run_batch_entity_record_or_all
    }
    sweeps {
        a_sweep_finds_exactly_the_live_rows_that_the_load_did_not_see
        streams_that_share_a_table_are_swept_apart
        an_increment_keeps_the_ids_of_streams_that_it_reads_whole_and_of_no_other
        rows_of_a_former_account_are_neither_swept_nor_counted
        candidates_are_paged_by_id_and_noted_anew_each_time
        a_sweep_of_a_lost_lease_is_refused
        a_load_in_progress_keeps_its_notes_over_runs_and_a_new_one_forgets_them
        the_sources_count_stands_beside_ours_and_mismatches_add_up_until_they_agree
        a_refused_sweep_is_on_record_until_the_next_full_load
    }
    wishes {
        wishes_present_at_first_sight_are_recorded_without_effect
        a_resync_is_done_once_by_its_reread_or_by_a_full_load_that_began_after_it
        a_tenants_token_is_recorded_once_and_by_one_life_of_its_object
        a_confirmed_sweep_allows_what_was_refused_until_it_is_done
        a_confirmation_outlives_a_load_in_which_its_stream_failed
        a_confirmation_while_a_load_is_at_work_is_not_lost_with_that_loads_end
        a_reset_with_an_expected_position_resets_only_there
    }
    life {
        old_runs_and_their_entries_go_except_the_newest
        payloads_tombstones_and_orphans_age
        a_person_is_erased_by_address_everywhere_in_one_tenant_only
        a_person_is_erased_by_record_and_comes_back_only_as_the_source_serves_it
        a_person_whose_address_is_hashed_is_erased_by_the_address
    }
    losses {
        losses_are_noted_at_the_position_and_make_the_next_lease_careful
        a_commit_a_new_load_and_an_erased_person_forget_the_losses
        a_record_left_out_becomes_a_dead_letter_without_payload_and_all_others_land
        a_batch_left_out_as_a_whole_meets_no_ceiling
        a_probe_stores_nothing_and_knows_one_record
    }
    budgets {
        a_budget_is_shared_and_used_up_it_says_how_long_to_wait
        many_takers_together_get_no_more_than_the_limit
        a_parked_budget_stops_everybody_until_then
    }
}
