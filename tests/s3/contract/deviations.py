"""What the doubles do otherwise than S3; each line is asserted."""

from __future__ import annotations

from tests.doubles.deviation import Deviation

_FIRST, _ONLY = (
    "a_write_that_must_be_the_first_refuses_an_existing_key",
    "a_write_with_an_etag_replaces_that_object_only",
)
_NOT_HEEDED = "Failed: DID NOT RAISE PreconditionFailed"
_NOT_CHECKED = "Failed: DID NOT RAISE Unavailable"
_SUMLESS = r"AssertionError: assert \(\) == \(Checksum\(alg"
# fmt: off
_ROWS: list[tuple[str, ...]] = [
    ("ceph", _FIRST, "ignores If-None-Match on CopyObject", _NOT_HEEDED, "copy"),
    ("ceph", _FIRST, "ignores If-None-Match on CompleteMultipartUpload", _NOT_HEEDED, "complete"),
    ("ceph", _ONLY, "ignores If-Match on CopyObject and CompleteMultipartUpload", _NOT_HEEDED, "copy", "complete"),
    ("ceph", _ONLY, "refuses the current ETag", "PreconditionFailed: PutObject .*: PreconditionFailed", "put"),
    ("ceph", "a_copy_refuses_a_source_that_has_moved_on", "ignores x-amz-copy-source-if-match", _NOT_HEEDED,
     "copy_part"),
    ("ceph", "put_refuses_a_wrong_checksum", "takes any checksum", _NOT_CHECKED),
    ("ceph", "put_part_refuses_a_wrong_checksum", "takes any checksum", _NOT_CHECKED),
    ("ceph", "multipart_refuses_a_wrong_full_object_checksum", "takes any checksum", _NOT_CHECKED),
    ("ceph", "a_website_redirect_is_put_but_never_copied", "copies it",
     r"AssertionError: assert 'x-amz-website-redirect-location' not in \{.*'/elsewhere'"),
    ("ceph", "an_aborted_upload_is_gone", "500 instead of NoSuchUpload",
     "Unavailable: CompleteMultipartUpload .*: InternalError", "complete"),
    ("seaweedfs ceph", "put_with_an_etag_finds_no_key", "412 instead of 404",
     "PreconditionFailed: PutObject .*: PreconditionFailed"),
    ("seaweedfs", "a_bucket_that_is_not_there", "makes the bucket",
     "Failed: DID NOT RAISE any of", "put", "create_multipart"),
    ("seaweedfs", "copied_parts_have_their_md5_as_etag", "an ETag of its own chunks",
     "AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"),
    ("seaweedfs", "copy_of_what_is_current_says_which_version_that_is", "does not name the version that it copied",
     "AssertionError: assert None == '[0-9a-f]+'"),
    ("ceph", "copy_of_what_is_current_says_which_version_that_is", "does not name the version that it copied",
     "AssertionError: assert None == '[^']+'"),
    ("seaweedfs", "copy_of_a_multipart_object_has_one_part", "keeps the multipart ETag and checksum",
     "AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"),
    ("seaweedfs", "a_website_redirect_is_put_but_never_copied", "drops it",
     "AssertionError: assert None == '/elsewhere'"),
    ("seaweedfs", "copy_sets_the_storage_class", "carries the source's class where S3 takes STANDARD",
     r"AssertionError: .*\{'plain': 'STANDARD_IA'\} != \{'plain': 'STANDARD'\}"),
    ("seaweedfs ceph", "an_archived_object_cannot_be_read", "GLACIER is only a name",
     "Failed: DID NOT RAISE ArchivedObject"),
    ("seaweedfs", "a_restore_is_asked_for_once_and_may_be_asked_for_again", "knows no RestoreObject",
     "Rejected: RestoreObject .*: MethodNotAllowed"),
    ("seaweedfs", "object_lock_is_set_told_and_kept", "drops the lock settings of a copy",
     r"AssertionError: assert None is not None.*lock=None\)\.lock"),
    ("seaweedfs ceph", "head_tells_a_delete_marker_from_nothing", "no x-amz-delete-marker",
     r"AssertionError: assert \['NotFound', 'NotFound'\] == \['DeleteMarke"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "drops the slash",
     r"AssertionError: assert \['leading'\] == \['/leading'\]", "/leading"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "one slash",
     r"AssertionError: assert \['a/b'\] == \['a//b'\]", "a//b"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "refuses it",
     "Rejected: PutObject .*: InvalidRequest", "a/../b", "./dot"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "a folder, without content",
     "AssertionError: assert b'' == b'content'", "trailing/"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "a slash",
     r"AssertionError: assert \['back/slash'\] == \['back\\\\slash'\]", "back\\slash"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "lists it as U+FFFD",
     r"AssertionError: .*'tab\\tand\ufffdcontrol\\x7f' != 'tab\\tand\\x01control\\x7f'", "tab\tand\x01control\x7f"),
    ("ceph", "a_write_carries_headers_metadata_and_tags", "drops tags at the create",
     r"AssertionError: assert \{\} == \{'team': 'ops", "multipart"),
    ("ceph", "a_restore_is_asked_for_once_and_may_be_asked_for_again", "501 for RestoreObject",
     "Rejected: RestoreObject .*: NotImplemented"),
    ("ceph", "encryption_is_asked_for_and_told", "has no SSE by default", "Rejected: PutObject .*: InvalidRequest"),
    ("ceph", "copy_takes_the_version_it_names", "does not name the version of the copy",
     r"AssertionError: assert None == '.*version_id=None.*\.version_id"),
    ("ceph", "copy_keeps_the_checksum_algorithm", "keeps no checksum", _SUMLESS),
    ("ceph", "copy_of_a_multipart_object_has_one_part", "keeps the multipart ETag",
     "AssertionError: assert '[0-9a-f.]+-2' == '[0-9a-f.]+'"),
    ("ceph", "head_describes_a_part", "does not describe a part",
     r"AssertionError: .*At index 0 diff: \(5242887, None\) != \(5242880, 2\)"),
    ("ceph", "a_delete_with_an_etag_takes_that_object_only", "ignores If-Match on DeleteObject",
     _NOT_HEEDED, "False", "True"),
    ("ceph", "a_delete_with_an_etag_finds_nothing", "ignores If-Match on DeleteObject", "Failed: DID NOT RAISE any of"),
    ("ceph", "put_keeps_a_checksum", "keeps no checksum", _SUMLESS, "CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256"),
    ("ceph", "multipart_makes_a_full_object_checksum", "keeps no checksum", _SUMLESS, "CRC64NVME", "CRC32", "CRC32C"),
    ("ceph", "multipart_makes_a_composite_checksum", "keeps no checksum", _SUMLESS, "SHA256", "SHA1"),
    # No server here keeps annotations: each takes the request for one of the object, or refuses it.
    *(("seaweedfs ceph", check, "keeps no annotations", "Failed: keeps no annotations") for check in (
        "annotations_are_listed_and_read",
        "an_annotation_belongs_to_one_version",
        "copy_carries_annotations_unless_it_is_asked_not_to",
        "a_copy_in_parts_has_no_annotations",
        "an_annotation_is_put_onto_the_object_of_the_etag_alone",
        "a_name_that_is_not_allowed_is_refused",
        "a_text_that_is_not_allowed_is_refused",
    )),
]
"""Servers, check, what they do, how the check ends, and the cases if not all do so. Ceph is 18.2 (make test-ceph)."""
# fmt: on
DEVIATIONS: dict[tuple[str, ...], Deviation] = {
    (check, server, *case): Deviation(what, ending)
    for servers, check, what, ending, *cases in _ROWS
    for server in servers.split()
    for case in [cases[at : at + 1] for at in range(max(1, len(cases)))]
}
"""By check and store, or by check, store and case."""
