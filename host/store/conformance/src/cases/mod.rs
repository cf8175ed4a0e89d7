//! The cases, grouped by what they hold a store to, and the one list of them all.
//!
//! A case is a short story: a [`Kit`](crate::Kit) is given, something happens, and what must hold is asserted. A function
//! that is in no row of the list is a warning of the compiler, so none is forgotten.

mod a1_enqueue;
mod a2_claim;
mod a3_finish;
mod a4_heartbeat;
mod a5_fire;
mod a6_cancel;
mod a7_reads;
mod again;
mod changes;
pub(crate) mod copy;
mod dependencies;
mod events;
mod hardship;
mod lanes;
mod modules;
mod reclaim;
mod restored;
mod results;
mod retention;
mod time;
mod unique;

/// Hands the list of all cases to the macro `$then`, after `$with`.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_case {
    ($then:path, $($with:tt)*) => {
        $then! {
            ($($with)*)
            a1_enqueue {
                what_was_asked_for_is_there_and_ready [];
                the_same_task_again_is_a_duplicate_wherever_it_stands [];
                another_task_under_the_same_id_is_a_conflict [];
                a_batch_answers_item_by_item_in_its_order [];
                an_empty_batch_is_answered_by_nothing [];
                the_order_of_arrival_is_that_of_the_batch_whatever_the_ids [];
                fields_of_a_newer_version_are_kept [];
                a_repeat_after_a_lost_answer_makes_nothing_twice [];
                what_was_accepted_survives_reopening [Durable];
                many_producers_at_once_lose_nothing [];
            }
            a2_claim {
                the_highest_priority_comes_first_then_arrival [];
                a_claim_takes_at_most_what_it_wants [];
                a_want_ends_where_it_would_have_more_bytes_than_it_may [];
                wants_are_served_in_turn_each_with_its_nonce [];
                a_lease_says_what_and_which_attempt [];
                every_claim_burns_a_fence_and_counts_an_attempt [];
                fences_go_on_for_ever [];
                what_is_ready_again_keeps_its_place [];
                what_waits_is_never_leased [];
                two_sessions_never_hold_one_task [];
                a_dead_session_gets_nothing [];
                what_is_past_its_time_to_live_is_expired_and_not_leased [];
                a_lost_claim_is_noticed_and_put_back [];
                reconcile_frees_only_what_the_session_does_not_hold [];
                a_lease_survives_reopening [Durable];
                two_processes_never_hold_one_task [Shared];
            }
            a3_finish {
                each_end_leads_where_it_should [];
                the_result_is_kept_as_it_was_given [];
                a_failure_keeps_its_cause [];
                the_same_end_again_was_applied_before [];
                a_lost_answer_is_repeated_without_harm [];
                the_first_end_by_a_token_stands [];
                a_stale_token_changes_nothing [];
                a_token_counts_as_a_whole [];
                a_batch_answers_item_by_item [];
                a_retry_waits_and_keeps_its_error [];
                a_release_refunds_the_attempt_and_burns_the_fence [];
                what_was_called_off_is_not_tried_again [];
                a_dead_session_may_end_what_nobody_took_from_it [];
                a_token_is_over_with_the_next_claim [];
                two_ends_at_once_commit_one [];
                an_end_survives_reopening [Durable];
            }
            a4_heartbeat {
                heartbeats_keep_a_session_alive [];
                a_session_lives_at_its_last_instant_and_not_after [];
                the_dead_are_never_revived [];
                unknown_and_closed_sessions_are_dead [];
                a_fingerprint_that_differs_is_told [];
                a_wish_to_stop_reaches_the_session [];
                closing_puts_everything_back_at_once [];
                a_task_called_off_is_not_put_back_by_closing [];
                lost_answers_of_a_session_are_repeated_without_harm [];
                opening_does_not_revive_the_dead [];
                opening_again_keeps_a_session_alive [];
                a_session_is_known_to_other_processes [Shared];
            }
            a5_fire {
                schedules_are_kept_and_listed_by_name [];
                a_change_that_saw_an_older_version_is_refused [];
                due_are_those_whose_instant_has_come [];
                a_firing_makes_its_tasks_and_moves_on [];
                the_second_scheduler_loses [];
                many_schedulers_fire_each_instant_once [];
                a_lost_answer_of_a_firing_makes_nothing_twice [];
                pausing_beats_a_firing_that_is_under_way [];
                removing_beats_a_firing_that_is_under_way [];
                an_instant_that_made_its_task_before_makes_no_second [];
                one_firing_may_make_many_tasks_or_none [];
                schedules_survive_reopening [Durable];
            }
            a6_cancel {
                what_waits_is_cancelled_at_once [];
                what_runs_is_asked_to_stop [];
                what_has_ended_is_skipped [];
                calling_off_twice_changes_nothing [];
                a_bulk_is_bounded_and_begins_with_the_oldest [];
                a_bulk_over_running_tasks_comes_to_an_end [];
                a_bulk_means_what_its_filter_says [];
                a_worker_that_dies_does_not_save_what_was_called_off [];
                end_and_cancel_at_once_agree [];
            }
            a7_reads {
                get_answers_in_the_order_of_its_question [];
                pages_hold_still_while_tasks_arrive [];
                a_full_last_page_says_that_it_is_the_last_or_an_empty_one_follows [];
                each_part_of_a_filter_filters [];
                counts_are_by_state [];
                ended_tasks_come_in_the_order_of_their_end [];
                large_tasks_are_read_a_few_at_a_time [];
                idle_means_that_nothing_is_left [];
                the_stores_clock_is_the_one_that_counts [];
                another_process_sees_what_was_committed [Shared];
                a_closed_store_says_so [Durable];
            }
            lanes {
                a_paused_lane_gives_nothing_until_it_goes_on [];
                pausing_leaves_what_runs_alone [];
                pausing_holds_one_lane_only [];
                pausing_twice_is_pausing_once [];
                what_becomes_ready_in_a_paused_lane_waits [];
                lanes_with_work_are_told_by_name [];
                a_lane_without_work_is_not_told [];
                a_thousand_lanes_are_served_in_the_order_asked_for [];
                a_pause_survives_reopening [Durable];
            }
            unique {
                a_second_task_is_answered_with_the_first [];
                within_a_batch_the_first_gets_the_key [];
                the_same_task_is_a_duplicate_of_itself [];
                another_tenant_has_keys_of_its_own [];
                until_finished_lasts_through_every_attempt [];
                every_end_frees_the_key [];
                until_started_ends_with_the_first_claim [];
                until_started_ends_with_the_task_too [];
                a_window_lasts_its_time_however_the_task_fares [];
                a_window_ends_also_under_a_live_task [];
                keys_of_different_scopes_are_the_same_keys [];
                a_reclaimed_task_holds_its_key [];
                a_retry_by_hand_takes_the_key_again [];
                a_retry_by_hand_is_skipped_while_another_holds_the_key [];
                of_two_that_are_retried_at_once_one_gets_the_key [];
                of_many_at_once_one_gets_the_key [];
                a_held_key_survives_reopening [Durable];
            }
            dependencies {
                a_child_waits_for_all_its_parents [];
                a_batch_may_hold_a_whole_graph [];
                unknown_parents_are_refused [];
                parents_that_have_ended_count_as_they_ended [];
                a_parent_that_fails_takes_its_children_along [];
                a_stubborn_child_waits_for_all_ends [];
                every_way_to_end_settles_children [];
                an_attempt_that_fails_settles_nothing [];
                a_child_has_its_own_delay_as_well [];
                a_parent_named_twice_counts_once [];
                a_child_called_off_stays_so [];
                a_retry_of_the_parent_does_not_wake_its_dead_children [];
                a_child_that_arrives_while_its_parent_ends_is_released [];
                a_wide_graph_is_released_at_once [];
                a_long_chain_falls_as_one [];
                an_unfinished_graph_survives_reopening [Durable];
            }
            time {
                a_delayed_task_is_ready_at_its_instant [];
                an_instant_that_is_over_is_no_delay [];
                the_later_of_delay_and_instant_counts [];
                promotion_is_bounded_and_says_when_to_come_again [];
                promoted_tasks_keep_their_place [];
                many_promoters_promote_each_once [];
                what_does_not_start_in_time_expires [];
                what_has_started_does_not_expire [];
                a_start_that_does_not_count_is_no_start [];
                expiry_is_bounded [];
            }
            reclaim {
                a_dead_workers_task_is_ready_again [];
                past_its_budget_of_crashes_a_task_has_failed [];
                the_living_keep_what_they_hold [];
                the_living_keep_it_among_many_dead [];
                reclaiming_is_bounded_and_begins_with_the_oldest [];
                many_reclaimers_take_each_once [];
                a_lost_answer_of_a_reclaim_counts_one_crash [];
                crashes_and_attempts_are_counted_apart [];
                a_dead_session_stays_dead_after_its_tasks_are_gone [];
                what_a_dead_process_held_is_reclaimed_after_reopening [Durable];
            }
            again {
                whatever_did_not_succeed_is_ready_again [];
                others_are_skipped [];
                budgets_are_fresh_and_the_fence_goes_on [];
                the_time_to_live_counts_anew [];
                a_bulk_retries_the_dead_letters_and_ends [];
                a_lost_answer_of_a_retry_retries_once [];
                a_second_life_ends_like_a_first [];
            }
            retention {
                ended_tasks_are_kept_for_their_time [];
                the_time_counts_from_the_end [];
                every_end_is_purged [];
                purging_is_bounded [];
                a_purged_id_is_free_again [];
                a_retried_task_is_not_purged_by_its_first_end [];
                ended_tasks_are_removed_on_demand [];
                a_lost_answer_of_a_removal_removes_once [];
                a_child_outlives_its_parents_record [];
            }
            results {
                a_value_is_read_as_it_was_written [Results];
                the_first_value_of_a_claim_stands [Results];
                the_nonce_is_part_of_the_key [Results];
                values_go_with_their_task [Results];
                values_are_kept_for_their_time [Results];
                purging_values_is_bounded [Results];
                large_values_are_kept [Results];
                values_survive_reopening [Results Durable];
            }
            events {
                events_come_back_whole_and_in_the_order_of_time [Events];
                the_same_event_is_kept_once [Events];
                events_are_filtered [Events];
                events_are_read_page_by_page [Events];
                an_attempt_that_is_told_at_once_is_two_events [Events];
                an_attempt_that_is_told_again_is_kept_once [Events];
                an_end_may_say_other_things_than_the_beginning [Events];
                the_beginning_of_an_attempt_is_forgotten_before_its_end [Events];
                old_events_are_forgotten [Events];
                the_watermark_never_goes_back [Events];
                events_survive_reopening [Events Durable];
            }
            modules {
                a_module_comes_back_as_it_was_pushed [Modules];
                pushing_the_same_again_changes_nothing [Modules];
                what_was_damaged_is_put_right_by_a_push [Modules];
                other_bytes_under_the_same_version_are_refused [Modules];
                without_a_version_the_last_one_pushed_is_meant [Modules];
                modules_are_listed_by_name_the_newest_first [Modules];
                bytes_live_as_long_as_something_points_to_them [Modules];
                large_modules_are_kept [Modules];
                modules_survive_reopening [Modules Durable];
            }
            changes {
                whatever_may_make_work_is_noticed [];
                every_end_is_noticed [];
                a_child_that_is_released_is_noticed [];
                a_waiter_is_woken [];
                what_happened_before_the_wait_is_not_missed [];
                a_wait_ends_with_its_time [];
                another_process_wakes_a_waiter [Shared];
            }
            copy {
                every_state_comes_in_whole [Admin];
                every_state_goes_out_whole [Admin];
                copying_again_changes_nothing [Admin];
                one_batch_takes_an_id_once [Admin];
                old_leases_are_void [Admin];
                an_end_is_not_told_as_applied_before [Admin];
                the_order_of_claims_is_kept [Admin];
                what_waits_goes_on_waiting [Admin];
                a_child_whose_parents_are_not_there_is_let_go [Admin];
                keys_come_along [Admin];
                a_key_that_is_taken_keeps_its_task_out [Admin];
                history_is_forgotten_at_its_time [Admin];
                what_failed_before_the_copy_can_be_tried_again [Admin];
                a_walk_gives_each_task_once_whatever_happens [Admin];
                a_large_batch_goes_over [Admin];
                what_was_copied_survives_reopening [Admin Durable];
                it_says_what_it_is [Admin];
                it_says_how_much_there_is [Admin];
            }
            restored {
                what_ran_is_ready_again_and_its_token_is_stale [Admin];
                every_session_is_over [Admin];
                fences_of_what_waits_rise_too [Admin];
                what_was_never_claimed_is_as_it_was [Admin];
                what_was_called_off_is_cancelled [Admin];
                what_has_ended_is_left_alone [Admin];
                it_can_be_said_again [Admin];
                thousands_are_put_back_and_raised [Admin];
                workers_that_go_on_meanwhile_lose_nothing [Admin];
                it_survives_reopening [Admin Durable];
                another_process_can_say_it [Admin Shared];
            }
            hardship {
                a_damaged_task_is_leased_so_that_it_can_be_ended [Damage];
                a_damaged_task_is_listed_and_can_be_called_off [Damage];
                a_damaged_task_that_kills_workers_fails_in_the_end [Damage];
                a_damaged_child_is_released [Damage];
                large_arguments_and_results_are_kept [];
                ten_thousand_tasks_go_through_in_large_batches [];
                extremes_of_every_field_are_kept [];
            }
        }
    };
}

/// The list as data.
macro_rules! list {
    (() $($group:ident { $($case:ident [$($need:ident)*];)* })*) => {
        /// Every case, in the order of the guarantees.
        pub const CASES: &[$crate::suite::Case] = &[$($(
            $crate::suite::Case {
                name: concat!(stringify!($group), "::", stringify!($case)),
                needs: &[$($crate::factory::Need::$need),*],
                run: |kit| Box::pin($group::$case(kit)),
            },
        )*)*];
    };
}
for_each_case!(list,);
