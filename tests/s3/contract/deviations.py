"""What the doubles do otherwise than S3: each of these checks fails there."""

from __future__ import annotations

# fmt: off
_ROWS: list[tuple[str, ...]] = [
    ("moto ceph", "a_write_that_must_be_the_first_refuses_an_existing_key",
     "ignores If-None-Match on CopyObject", "copy"),
    ("ceph", "a_write_that_must_be_the_first_refuses_an_existing_key",
     "ignores If-None-Match on CompleteMultipartUpload", "complete"),
    ("moto ceph", "a_write_with_an_etag_replaces_that_object_only",
     "ignores If-Match on CopyObject and CompleteMultipartUpload", "copy", "complete"),
    ("ceph", "a_write_with_an_etag_replaces_that_object_only", "refuses the current ETag", "put"),
    ("moto", "a_copy_refuses_a_source_that_has_moved_on", "ignores x-amz-copy-source-if-match"),
    ("ceph", "a_copy_refuses_a_source_that_has_moved_on", "ignores x-amz-copy-source-if-match", "copy_part"),
    ("moto ceph", "put_refuses_a_wrong_checksum", "takes any checksum"),
    ("moto ceph", "put_part_refuses_a_wrong_checksum", "takes any checksum"),
    ("moto ceph", "multipart_refuses_a_wrong_full_object_checksum", "takes any checksum"),
    ("moto", "multipart_makes_a_composite_checksum", "the value lacks -N"),
    ("moto", "multipart_makes_a_full_object_checksum", "a value of its own", "CRC32C"),
    ("moto", "copy_of_a_multipart_object_has_one_part", "the checksum stays composite"),
    ("moto ceph", "a_website_redirect_is_put_but_never_copied", "copies it"),
    ("moto", "object_lock_is_set_told_and_kept", "asks for a Content-MD5 of a copy"),
    ("moto", "versions_are_listed_newest_first", "all versions of the page, then its delete markers"),
    ("moto", "a_delete_marker_hides_the_object", "does not say that what it deleted was a delete marker"),
    ("moto", "a_delete_marker_can_be_made_for_a_key_that_never_was", "makes none"),
    ("moto", "an_odd_key_makes_the_round_trip", "404 for a line feed", "line\nbreak"),
    ("moto", "versions_are_deleted_exactly", "404 for a line feed", "line\nbreak"),
    ("moto", "versions_are_deleted_exactly", "lists versions with control characters, not encoded", "control\x01"),
    ("moto", "an_odd_key_makes_the_round_trip",
     "lists versions with control characters, not encoded", "tab\tand\x01control\x7f"),
    ("moto", "an_odd_key_makes_the_round_trip",
     "lists versions with a carriage return, not encoded", "carriage\rreturn"),
    ("moto", "a_key_of_more_than_1024_bytes_is_refused", "takes it"),
    ("moto ceph", "an_aborted_upload_is_gone", "500 instead of NoSuchUpload", "complete"),
    ("moto", "an_aborted_upload_is_gone", "500 instead of NoSuchUpload", "put_part"),
    ("moto", "the_parts_of_an_upload_are_listed", "another root element than S3's"),
    ("moto", "a_copied_part_is_listed_with_what_its_copy_said", "another root element than S3's"),
    ("seaweedfs ceph", "put_with_an_etag_finds_no_key", "412 instead of 404"),
    ("seaweedfs", "a_bucket_that_is_not_there", "makes the bucket", "put", "create_multipart"),
    ("seaweedfs", "copied_parts_have_their_md5_as_etag", "an ETag of its own chunks"),
    ("seaweedfs ceph", "copy_of_what_is_current_says_which_version_that_is",
     "does not name the version that it copied"),
    ("seaweedfs", "copy_of_a_multipart_object_has_one_part", "keeps the multipart ETag and checksum"),
    ("seaweedfs", "a_website_redirect_is_put_but_never_copied", "drops it"),
    ("seaweedfs", "copy_sets_the_storage_class", "carries the source's class where S3 takes STANDARD"),
    ("seaweedfs ceph", "an_archived_object_cannot_be_read", "GLACIER is only a name"),
    ("seaweedfs", "a_restore_is_asked_for_once_and_may_be_asked_for_again", "knows no RestoreObject"),
    ("seaweedfs", "object_lock_is_set_told_and_kept", "drops the lock settings of a copy"),
    ("seaweedfs ceph", "head_tells_a_delete_marker_from_nothing", "no x-amz-delete-marker"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "drops the slash", "/leading"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "one slash", "a//b"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "refuses it", "a/../b", "./dot"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "a folder, without content", "trailing/"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "a slash", "back\\slash"),
    ("seaweedfs", "an_odd_key_makes_the_round_trip", "lists it as U+FFFD", "tab\tand\x01control\x7f"),
    ("ceph", "a_write_carries_headers_metadata_and_tags", "drops tags at the create", "multipart"),
    ("ceph", "a_restore_is_asked_for_once_and_may_be_asked_for_again", "501 for RestoreObject"),
    ("ceph", "encryption_is_asked_for_and_told", "has no SSE by default"),
    ("ceph", "copy_takes_the_version_it_names", "does not name the version of the copy"),
    ("ceph", "copy_keeps_the_checksum_algorithm", "keeps no checksum"),
    ("ceph", "copy_of_a_multipart_object_has_one_part", "keeps the multipart ETag"),
    ("ceph", "head_describes_a_part", "does not describe a part"),
    ("ceph", "a_delete_with_an_etag_takes_that_object_only", "ignores If-Match on DeleteObject", "False", "True"),
    ("ceph", "a_delete_with_an_etag_finds_nothing", "ignores If-Match on DeleteObject"),
    ("ceph", "put_keeps_a_checksum", "keeps no checksum", "CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256"),
    ("ceph", "multipart_makes_a_full_object_checksum", "keeps no checksum", "CRC64NVME", "CRC32", "CRC32C"),
    ("ceph", "multipart_makes_a_composite_checksum", "keeps no checksum", "SHA256", "SHA1"),
    # No server here keeps annotations: each takes the request for one of the object, or refuses it.
    *(("moto seaweedfs ceph", check, "keeps no annotations") for check in (
        "annotations_are_listed_and_read",
        "an_annotation_belongs_to_one_version",
        "copy_carries_annotations_unless_it_is_asked_not_to",
        "a_copy_in_parts_has_no_annotations",
        "an_annotation_is_put_onto_the_object_of_the_etag_alone",
        "a_name_that_is_not_allowed_is_refused",
        "a_text_that_is_not_allowed_is_refused",
    )),
]
"""Servers, check, what they do, and the cases if not all do so. Ceph is 18.2 (make test-ceph)."""
# fmt: on
DEVIATIONS: dict[tuple[str, ...], str] = {
    (check, server, *case): what
    for servers, check, what, *cases in _ROWS
    for server in servers.split()
    for case in [cases[at : at + 1] for at in range(max(1, len(cases)))]
}
"""By check and store, or by check, store and case."""
