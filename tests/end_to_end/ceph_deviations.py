"""What Ceph 18.2 does otherwise than S3, as the tests of the command line see it (`make test-ceph`)."""

from __future__ import annotations

from tests.doubles.deviation import Deviation

_NOT_REPLACED = "ignores If-Match on CopyObject, so Sealift replaces nothing in a bucket without versions"
_NOT_DELETED = Deviation(
    "ignores If-Match on DeleteObject, so expire deletes no current object",
    r"AssertionError: .*deletes whatever If-Match says: nothing can be deleted safely there",
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
    "test_a_member_keeps_everything_that_its_object_had": Deviation(
        "keeps no checksum, so a member has none of S3's", r"KeyError: 'ChecksumSHA256'"
    ),
    "test_packed_originals_go_only_when_it_is_said": _NOT_DELETED,
    "test_the_page_of_a_dry_run_shows_what_would_go": _NOT_DELETED,
    "test_status_names_what_a_run_did_not_delete_until_one_has_deleted_it": _NOT_DELETED,
    "test_the_marks_of_a_running_expiry_are_not_copied": Deviation(
        _NOT_DELETED.what, r"AssertionError: assert \{\} == \{'expired': 2\}"
    ),
}
"""By the name of the test."""
