"""What Ceph 18.2 does otherwise than S3, as the tests of the command line see it (`make test-ceph`)."""

from __future__ import annotations

from tests.doubles.deviation import Deviation

_NOT_REPLACED = "ignores If-Match on CopyObject, so Sealift replaces nothing in a bucket without versions"
_NOT_DELETED = Deviation(
    "ignores If-Match on DeleteObject, so expire deletes no current object",
    r"AssertionError: .*(deletes whatever If-Match says: nothing can be deleted safely there"
    r"|assert \{\} == \{'expired': \d|assert \(10, \{\}\) == \(3, \{'expired': 1, 'kept': 1\}\))",
)
_INDEX_KEPT = Deviation(
    "refuses If-Match of PutObject with the current ETag, so no damaged index of an archive is replaced",
    r"AssertionError: .*it refuses If-Match with the ETag that is there\. To have it made again, delete s3://led-",
)
DEVIATIONS = {
    "test_what_is_there_already_is_proven_and_skipped": Deviation(
        "keeps no checksum, so the MD5 of an ETag is the proof",
        r"AssertionError: .*\{'md5_etag': 20\} != \{'checksum': 20\}",
    ),
    "test_a_large_object_goes_in_parts_with_all_it_carries": Deviation(
        "drops the tags of an upload in parts", "KeyError: 'TagSet'"
    ),
    "test_nothing_overwrites_a_newer_object": Deviation(
        _NOT_REPLACED, r"AssertionError: assert \{'failed': 1\} == \{'copied': 1\}"
    ),
    "test_exactly_the_damaged_copies_are_found_and_repaired": Deviation(
        _NOT_REPLACED, r"AssertionError: assert \(3, \{.*'failed': 3\}\) == \(0, \{'copied': 4\}\)"
    ),
    "test_a_repair_replaces_only_what_was_condemned": Deviation(
        _NOT_REPLACED, r"AssertionError: .*\{'changed': 1, 'failed': 1\} != \{'copied': 1, 'changed': 1\}"
    ),
    "test_the_report_of_a_comparison_knows_what_was_repaired_since": Deviation(
        _NOT_REPLACED, r"AssertionError: assert \{'failed': 1\} == \{'copied': 1\}"
    ),
    "test_a_lost_index_is_made_anew_from_the_archives": _INDEX_KEPT,
    "test_a_reindex_makes_a_forged_index_again": _INDEX_KEPT,
    "test_an_archive_that_was_copied_over_itself_is_indexed_as_it_is_now": _INDEX_KEPT,
    "test_a_member_keeps_everything_that_its_object_had": Deviation(
        "keeps no checksum, so a member has none of S3's", r"KeyError: 'ChecksumSHA256'"
    ),
    "test_a_run_sends_the_requests_that_its_plan_says": Deviation(
        "ignores conditions, so each copy looks first: a HEAD more a row",
        r"AssertionError: Counter\(\{'copy': 66, 'head': 60, .*\)\nassert \d+ <= 34",
    ),
    "test_bytes_that_rotted_are_found_though_what_is_stored_agrees": Deviation(
        "keeps no checksum, so the MD5 of an ETag is the proof",
        r"AssertionError: assert \{'md5_etag': 1\} == \{'checksum': 1\}",
    ),
    "test_a_source_that_rotted_is_damaged_and_no_retry_copies_it_over_the_copy": Deviation(
        "keeps no checksum, so nothing stored tells that bytes rotted",
        r"AssertionError: assert \(0, \{'verified': 1\}\) == \(3, \{'damaged': 1\}\)",
    ),
    "test_required_conditions_change_nothing_where_they_are_heeded": Deviation(
        "ignores conditions of copies",
        r"AssertionError: .*ignores conditions on CopyObject, CompleteMultipartUpload, UploadPartCopy, so a write",
    ),
    "test_hints_lead_out_of_what_a_retry_only_repeats": Deviation(
        _NOT_REPLACED, r"AssertionError: assert 3 == 0\n.*1 of 1 row needs attention: 1 failed"
    ),
    "test_a_row_that_s3_refuses_keeps_no_other_row_of_a_backlog_from_being_copied": Deviation(
        "copies a folder's marker as S3 does", r"AssertionError: .*assert \(0, \{'copied': 21\}\) == \(3, "
    ),
    "test_a_look_that_found_the_copy_wrong_by_another_spelling_of_its_key_counts_as_well": Deviation(
        "keeps `//` in a key as S3 does", r"KeyError: 'mismatched'"
    ),
    "test_documented_commands_end_as_documented[docs/expire.md]": _NOT_DELETED,
} | dict.fromkeys(
    (
        "test_packed_originals_go_only_when_it_is_said",
        "test_the_first_step_removes_nothing_for_good_not_even_a_folder",
        "test_the_page_of_a_dry_run_shows_what_would_go",
        "test_status_names_what_a_run_did_not_delete_until_one_has_deleted_it",
        "test_the_marks_of_a_running_expiry_are_not_copied",
        "test_originals_that_prove_each_other_do_not_both_go_in_two_runs",
        "test_a_null_version_is_hidden_and_then_removed",
        "test_the_plan_names_the_runs_that_workers_need_not_read",
        "test_a_verify_run_with_swapped_sides_voids_the_proof",
        "test_undo_reports_junk_files_and_goes_on_with_the_rest",
        "test_what_the_reason_names_frees_originals_where_a_run_cannot_be_read",
        "test_the_command_that_a_refusal_proposes_is_complete",
        "test_a_copy_that_nobody_reads_any_more_saves_its_original",
        "test_rows_and_copies_elsewhere_than_the_operator_says_are_left_out",
        "test_a_copy_that_a_later_run_found_rotten_saves_its_original",
        "test_a_worker_deletes_only_what_its_launcher_has_pinned",
        "test_copies_that_prove_each_other_keep_each_other",
        "test_batch_workers_get_the_digest_with_their_command",
        "test_a_pair_expires_only_what_the_policy_says_is_its",
        "test_undo_takes_markers_away_once",
        "test_a_marker_that_lies_elsewhere_than_the_tombstone_says_stays",
        "test_a_version_that_a_manifest_names_with_and_without_its_id_counts_once",
        "test_a_forged_tombstone_takes_no_version_away",
        "test_a_marker_with_a_version_between_stays",
        "test_undo_says_how_many_versions_are_gone_for_good",
        "test_a_manifest_of_keys_means_their_current_objects",
        "test_tombstones_of_another_run_or_bucket_are_refused",
        "test_undo_counts_what_a_later_run_removed_behind_its_markers",
        "test_a_proof_of_another_servers_bucket_of_the_same_name_answers_no_finding",
        "test_junk_among_what_others_announced_ends_a_run_without_a_traceback",
        "test_junk_among_a_buckets_tombstones_ends_a_plan_without_a_traceback",
        "test_a_dismissed_finding_keeps_its_original_until_bytes_were_compared_again",
        "test_a_copy_outside_counts_although_another_one_lies_where_the_run_deletes",
        "test_a_marker_stays_where_somebody_removed_the_hidden_version_and_an_older_one_is_below",
        "test_a_copy_whose_bytes_are_lost_saves_its_original_until_it_is_copied_again",
    ),
    _NOT_DELETED,
)
"""By the name of the test, or of one of its cases."""
