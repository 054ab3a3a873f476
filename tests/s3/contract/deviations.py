"""What the doubles do otherwise than S3; each line is asserted."""

from __future__ import annotations

from tests.doubles.deviation import Deviation

_ANNOTATION_CHECKS = (
    "annotations_are_listed_and_read",
    "an_annotation_belongs_to_one_version",
    "copy_carries_annotations_unless_it_is_asked_not_to",
    "a_copy_in_parts_has_no_annotations",
    "an_annotation_is_put_onto_the_object_of_the_etag_alone",
    "a_name_that_is_not_allowed_is_refused",
    "a_text_that_is_not_allowed_is_refused",
)
DEVIATIONS: dict[tuple[str, ...], Deviation] = {
    ("copy_absent_refuses_an_existing_key", "moto"): Deviation(
        "ignores If-None-Match on CopyObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("copy_with_an_etag_replaces_that_object_only", "moto"): Deviation(
        "ignores If-Match on CopyObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("complete_with_an_etag_replaces_that_object_only", "moto"): Deviation(
        "ignores If-Match on CompleteMultipartUpload", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("copy_refuses_a_source_that_has_moved_on", "moto"): Deviation(
        "ignores x-amz-copy-source-if-match", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("copy_part_refuses_a_source_that_has_moved_on", "moto"): Deviation(
        "ignores x-amz-copy-source-if-match", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("put_refuses_a_wrong_checksum", "moto"): Deviation("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_part_refuses_a_wrong_checksum", "moto"): Deviation("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("multipart_refuses_a_wrong_full_object_checksum", "moto"): Deviation(
        "takes any checksum", "Failed: DID NOT RAISE Unavailable"
    ),
    ("multipart_makes_a_composite_checksum", "moto"): Deviation(
        "the value lacks -N",
        r"AssertionError: .*value='([^'-]+)', is_composite=True\) != Checksum\(.*value='\1-2', is_composite=True\)",
    ),
    ("multipart_makes_a_full_object_checksum", "moto", "CRC32C"): Deviation(
        "a value of its own",
        r"AssertionError: .*value='([^']{6})==', is_composite=False\) != Checksum\(.*value='(?!\1)[^']{6}=='",
    ),
    ("copy_of_a_multipart_object_has_one_part", "moto"): Deviation(
        "the checksum stays composite", r"AssertionError: .*is_composite=True\) != Checksum\(.*is_composite=False\)"
    ),
    ("a_website_redirect_is_put_but_never_copied", "moto"): Deviation(
        "copies it", r"AssertionError: assert 'x-amz-website-redirect-location' not in \{.*'/elsewhere'"
    ),
    ("object_lock_is_set_told_and_kept", "moto"): Deviation(
        "asks for a Content-MD5 of a copy", "Rejected: CopyObject .*: MissingUploadObjectWithObjectLockHeaders"
    ),
    ("versions_are_listed_newest_first", "moto"): Deviation(
        "all versions of the page, then its delete markers",
        r"AssertionError: .*At index 1 diff: \('a', '[^']+', False, False, 2\) != \('a', '[^']+', False, True, None\)",
    ),
    ("a_delete_marker_hides_the_object", "moto"): Deviation(
        "does not say that what it deleted was a delete marker",
        r"AssertionError: assert False.*is_delete_marker=False\)\.is_delete_marker",
    ),
    ("a_delete_marker_can_be_made_for_a_key_that_never_was", "moto"): Deviation(
        "makes none", r"AssertionError: assert \[\] == \[\('never', "
    ),
    ("an_odd_key_makes_the_round_trip", "moto", "line\nbreak"): Deviation(
        "404 for a line feed", "NotFound: PutObject .*: NotFound"
    ),
    ("versions_are_deleted_exactly", "moto", "line\nbreak"): Deviation(
        "404 for a line feed", "NotFound: PutObject .*: NotFound"
    ),
    ("a_key_of_more_than_1024_bytes_is_refused", "moto"): Deviation("takes it", "Failed: DID NOT RAISE Rejected"),
    ("an_aborted_upload_is_gone", "moto"): Deviation(
        "500 instead of NoSuchUpload", "Unavailable: CompleteMultipartUpload .*: InternalError"
    ),
    ("a_part_for_no_upload_is_refused", "moto"): Deviation(
        "500 instead of NoSuchUpload", "Unavailable: UploadPart .*: InternalError"
    ),
    ("the_parts_of_an_upload_are_listed", "moto"): Deviation(
        "another root element than S3's", "Unavailable: ListParts .*: MalformedAnswer"
    ),
    ("a_copied_part_is_listed_with_what_its_copy_said", "moto"): Deviation(
        "another root element than S3's", "Unavailable: ListParts .*: MalformedAnswer"
    ),
    ("put_with_an_etag_finds_no_key", "seaweedfs"): Deviation(
        "412 instead of 404", "PreconditionFailed: PutObject .*: PreconditionFailed"
    ),
    ("a_bucket_that_is_not_there", "seaweedfs", "put"): Deviation("makes the bucket", "Failed: DID NOT RAISE NotFound"),
    ("a_bucket_that_is_not_there", "seaweedfs", "create_multipart"): Deviation(
        "makes the bucket", "Failed: DID NOT RAISE NotFound"
    ),
    ("copied_parts_have_their_md5_as_etag", "seaweedfs"): Deviation(
        "an ETag of its own chunks", r"AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"
    ),
    ("copy_of_what_is_current_says_which_version_that_is", "seaweedfs"): Deviation(
        "does not name the version that it copied", r"AssertionError: assert None == '[0-9a-f]+'"
    ),
    ("copy_of_what_is_current_says_which_version_that_is", "ceph"): Deviation(
        "does not name the version that it copied", r"AssertionError: assert None == '[^']+'"
    ),
    ("copy_of_a_multipart_object_has_one_part", "seaweedfs"): Deviation(
        "keeps the multipart ETag and checksum", r"AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"
    ),
    ("a_website_redirect_is_put_but_never_copied", "seaweedfs"): Deviation(
        "drops it", r"AssertionError: assert None == '/elsewhere'"
    ),
    ("copy_sets_the_storage_class", "seaweedfs"): Deviation(
        "carries the source's class where S3 takes STANDARD",
        r"AssertionError: .*\{'plain': 'STANDARD_IA'\} != \{'plain': 'STANDARD'\}",
    ),
    ("an_archived_object_cannot_be_read", "seaweedfs"): Deviation(
        "GLACIER is only a name", "Failed: DID NOT RAISE ArchivedObject"
    ),
    ("a_restore_is_asked_for_once_and_may_be_asked_for_again", "seaweedfs"): Deviation(
        "knows no RestoreObject", "Rejected: RestoreObject .*: MethodNotAllowed"
    ),
    ("object_lock_is_set_told_and_kept", "seaweedfs"): Deviation(
        "drops the lock settings of a copy", r"AssertionError: assert None is not None.*lock=None\)\.lock"
    ),
    ("head_tells_a_delete_marker_from_nothing", "seaweedfs"): Deviation(
        "no x-amz-delete-marker", r"AssertionError: assert \['NotFound', 'NotFound'\] == \['DeleteMarke"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "/leading"): Deviation(
        "drops the slash", r"AssertionError: assert \['leading'\] == \['/leading'\]"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a//b"): Deviation(
        "one slash", r"AssertionError: assert \['a/b'\] == \['a//b'\]"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a/../b"): Deviation(
        "refuses it", "Rejected: PutObject .*: InvalidRequest"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "./dot"): Deviation(
        "refuses it", "Rejected: PutObject .*: InvalidRequest"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "trailing/"): Deviation(
        "a folder, without content", r"AssertionError: assert b'' == b'content'"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "back\\slash"): Deviation(
        "a slash", r"AssertionError: assert \['back/slash'\] == \['back\\\\slash'\]"
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "tab\tand\x01control\x7f"): Deviation(
        "lists it as U+FFFD", r"AssertionError: .*'tab\\tand\ufffdcontrol\\x7f' != 'tab\\tand\\x01control\\x7f'"
    ),
    # Ceph 18.2 (make test-ceph).
    ("multipart_carries_headers_metadata_and_tags", "ceph"): Deviation(
        "drops tags at the create", r"AssertionError: assert \{\} == \{'team': 'ops"
    ),
    ("a_website_redirect_is_put_but_never_copied", "ceph"): Deviation(
        "copies it", r"AssertionError: assert 'x-amz-website-redirect-location' not in \{.*'/elsewhere'"
    ),
    ("an_archived_object_cannot_be_read", "ceph"): Deviation(
        "GLACIER is only a name", "Failed: DID NOT RAISE ArchivedObject"
    ),
    ("a_restore_is_asked_for_once_and_may_be_asked_for_again", "ceph"): Deviation(
        "501 for RestoreObject", "Rejected: RestoreObject .*: NotImplemented"
    ),
    ("encryption_is_asked_for_and_told", "ceph"): Deviation(
        "has no SSE by default", "Rejected: PutObject .*: InvalidRequest"
    ),
    ("put_with_an_etag_replaces_that_object_only", "ceph"): Deviation(
        "refuses the current ETag", "PreconditionFailed: PutObject .*: PreconditionFailed"
    ),
    ("put_with_an_etag_finds_no_key", "ceph"): Deviation(
        "412 instead of 404", "PreconditionFailed: PutObject .*: PreconditionFailed"
    ),
    ("copy_absent_refuses_an_existing_key", "ceph"): Deviation(
        "ignores If-None-Match on CopyObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("copy_with_an_etag_replaces_that_object_only", "ceph"): Deviation(
        "ignores If-Match on CopyObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("complete_absent_refuses_an_existing_key", "ceph"): Deviation(
        "ignores conditions on CompleteMultipartUpload", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("complete_with_an_etag_replaces_that_object_only", "ceph"): Deviation(
        "ignores conditions on CompleteMultipartUpload", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("copy_takes_the_version_it_names", "ceph"): Deviation(
        "does not name the version of the copy", r"AssertionError: assert None == '.*version_id=None.*\.version_id"
    ),
    ("copy_part_refuses_a_source_that_has_moved_on", "ceph"): Deviation(
        "ignores x-amz-copy-source-if-match", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("put_part_refuses_a_wrong_checksum", "ceph"): Deviation("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("multipart_refuses_a_wrong_full_object_checksum", "ceph"): Deviation(
        "takes any checksum", "Failed: DID NOT RAISE Unavailable"
    ),
    ("copy_keeps_the_checksum_algorithm", "ceph"): Deviation(
        "keeps no checksum", r"AssertionError: assert \(\) == \(Checksum\(alg"
    ),
    ("copy_of_a_multipart_object_has_one_part", "ceph"): Deviation(
        "keeps the multipart ETag", r"AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"
    ),
    ("head_describes_a_part", "ceph"): Deviation(
        "does not describe a part", r"AssertionError: .*At index 0 diff: \(5242887, None\) != \(5242880, 2\)"
    ),
    ("an_aborted_upload_is_gone", "ceph"): Deviation(
        "500 instead of NoSuchUpload", "Unavailable: CompleteMultipartUpload .*: InternalError"
    ),
    ("head_tells_a_delete_marker_from_nothing", "ceph"): Deviation(
        "no x-amz-delete-marker", r"AssertionError: assert \['NotFound', 'NotFound'\] == \['DeleteMarke"
    ),
    ("a_delete_with_an_etag_takes_that_object_only", "ceph", "False"): Deviation(
        "ignores If-Match on DeleteObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("a_delete_with_an_etag_takes_that_object_only", "ceph", "True"): Deviation(
        "ignores If-Match on DeleteObject", "Failed: DID NOT RAISE PreconditionFailed"
    ),
    ("a_delete_with_an_etag_finds_nothing", "ceph"): Deviation(
        "ignores If-Match on DeleteObject", "Failed: DID NOT RAISE any of"
    ),
}
_SUMLESS = Deviation("keeps no checksum", r"AssertionError: assert \(\) == \(Checksum\(alg")
for _check, _cases in {
    "put_keeps_a_checksum": ("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256"),
    "multipart_makes_a_full_object_checksum": ("CRC64NVME", "CRC32", "CRC32C"),
    "multipart_makes_a_composite_checksum": ("SHA256", "SHA1"),
}.items():
    DEVIATIONS |= {(_check, "ceph", case): _SUMLESS for case in _cases}
DEVIATIONS["put_refuses_a_wrong_checksum", "ceph"] = DEVIATIONS["put_refuses_a_wrong_checksum", "moto"]
DEVIATIONS |= {
    # No server here keeps annotations: each takes the request for one of the object, or refuses it.
    (check, server): Deviation("keeps no annotations", "Failed: keeps no annotations")
    for check in _ANNOTATION_CHECKS
    for server in ("moto", "seaweedfs", "ceph")
}
"""By check and store, or by check, store and case."""
