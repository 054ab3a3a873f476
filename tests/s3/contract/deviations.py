"""What the doubles do otherwise than S3; each line is asserted."""

from __future__ import annotations

_ANNOTATION_CHECKS = (
    "annotations_are_listed_and_read",
    "an_annotation_belongs_to_one_version",
    "copy_carries_annotations_unless_it_is_asked_not_to",
    "a_copy_in_parts_has_no_annotations",
    "an_annotation_is_put_onto_the_object_of_the_etag_alone",
    "a_name_that_is_not_allowed_is_refused",
    "a_text_that_is_not_allowed_is_refused",
)
# (check, store) or (check, store, case) → what the double does instead, and how the check ends then:
# a pattern of the error's class and its message, which begins with the operation and has S3's code.
DEVIATIONS: dict[tuple[str, ...], tuple[str, str]] = {
    ("copy_absent_refuses_an_existing_key", "moto"): (
        "ignores If-None-Match on CopyObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("copy_with_an_etag_replaces_that_object_only", "moto"): (
        "ignores If-Match on CopyObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("complete_with_an_etag_replaces_that_object_only", "moto"): (
        "ignores If-Match on CompleteMultipartUpload",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("copy_refuses_a_source_that_has_moved_on", "moto"): (
        "ignores x-amz-copy-source-if-match",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("copy_part_refuses_a_source_that_has_moved_on", "moto"): (
        "ignores x-amz-copy-source-if-match",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("put_refuses_a_wrong_checksum", "moto"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_part_refuses_a_wrong_checksum", "moto"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("a_part_of_a_file_with_another_checksum_is_refused", "moto"): (
        "takes any checksum",
        "Failed: DID NOT RAISE Unavailable",
    ),
    ("multipart_refuses_a_wrong_full_object_checksum", "moto"): (
        "takes any checksum",
        "Failed: DID NOT RAISE Unavailable",
    ),
    ("multipart_makes_a_composite_checksum", "moto"): ("the value lacks -N", "AssertionError"),
    ("multipart_makes_a_full_object_checksum", "moto", "CRC32C"): ("a value of its own", "AssertionError"),
    ("copy_of_a_multipart_object_has_one_part", "moto"): ("the checksum stays composite", "AssertionError"),
    ("a_website_redirect_is_put_but_never_copied", "moto"): ("copies it", "AssertionError"),
    ("object_lock_is_set_told_and_kept", "moto"): (
        "asks for a Content-MD5 of a copy",
        "Rejected: CopyObject .*: MissingUploadObjectWithObjectLockHeaders",
    ),
    ("versions_are_listed_newest_first", "moto"): (
        "all versions of the page, then its delete markers",
        "AssertionError",
    ),
    ("a_delete_marker_hides_the_object", "moto"): (
        "does not say that what it deleted was a delete marker",
        "AssertionError",
    ),
    ("a_delete_marker_can_be_made_for_a_key_that_never_was", "moto"): ("makes none", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "moto", "line\nbreak"): (
        "404 for a line feed",
        "NotFound: PutObject .*: NotFound",
    ),
    ("an_odd_key_makes_the_round_trip", "moto/botocore", "tab\tand\x01control\x7f"): (
        "lists versions as no XML",
        "Unavailable: ListObjectVersions .*: InternalError",
    ),
    ("versions_are_deleted_together_and_exactly", "moto", "line\nbreak"): (
        "404 for a line feed",
        "NotFound: PutObject .*: NotFound",
    ),
    ("versions_under_a_lock_are_told_from_those_deleted", "moto"): (
        "does not say what it did not delete",
        "AssertionError",
    ),
    ("a_key_of_more_than_1024_bytes_is_refused", "moto"): ("takes it", "Failed: DID NOT RAISE Rejected"),
    ("an_aborted_upload_is_gone", "moto"): (
        "500 instead of NoSuchUpload",
        "Unavailable: CompleteMultipartUpload .*: InternalError",
    ),
    ("a_part_for_no_upload_is_refused", "moto"): (
        "500 instead of NoSuchUpload",
        "Unavailable: UploadPart .*: InternalError",
    ),
    ("the_parts_of_an_upload_are_listed", "moto"): (
        "another root element than S3's",
        "Unavailable: ListParts .*: MalformedAnswer",
    ),
    ("a_copied_part_is_listed_with_what_its_copy_said", "moto"): (
        "another root element than S3's",
        "Unavailable: ListParts .*: MalformedAnswer",
    ),
    ("put_with_an_etag_finds_no_key", "seaweedfs"): (
        "412 instead of 404",
        "PreconditionFailed: PutObject .*: PreconditionFailed",
    ),
    ("a_bucket_that_is_not_there", "seaweedfs", "put"): ("makes the bucket", "Failed: DID NOT RAISE NotFound"),
    ("a_bucket_that_is_not_there", "seaweedfs", "create_multipart"): (
        "makes the bucket",
        "Failed: DID NOT RAISE NotFound",
    ),
    ("copied_parts_have_their_md5_as_etag", "seaweedfs"): ("an ETag of its own chunks", "AssertionError"),
    ("copy_of_a_multipart_object_has_one_part", "seaweedfs"): (
        "keeps the multipart ETag and checksum",
        "AssertionError",
    ),
    ("a_website_redirect_is_put_but_never_copied", "seaweedfs"): ("drops it", "AssertionError"),
    ("copy_sets_the_storage_class", "seaweedfs"): (
        "carries the source's class where S3 takes STANDARD",
        "AssertionError",
    ),
    ("an_archived_object_cannot_be_read", "seaweedfs"): (
        "GLACIER is only a name",
        "Failed: DID NOT RAISE ArchivedObject",
    ),
    ("a_restore_is_asked_for_once_and_may_be_asked_for_again", "seaweedfs"): (
        "knows no RestoreObject",
        "NotFound: RestoreObject .*: MethodNotAllowed",
    ),
    ("a_restore_of_what_is_not_archived_is_refused", "seaweedfs"): (
        "404 for all of RestoreObject",
        "NotFound: RestoreObject .*: MethodNotAllowed",
    ),
    ("object_lock_is_set_told_and_kept", "seaweedfs"): ("drops the lock settings of a copy", "AssertionError"),
    ("head_tells_a_delete_marker_from_nothing", "seaweedfs"): ("no x-amz-delete-marker", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "/leading"): ("drops the slash", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a//b"): ("one slash", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "a/../b"): (
        "refuses it",
        "Rejected: PutObject .*: InvalidRequest",
    ),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "./dot"): ("refuses it", "Rejected: PutObject .*: InvalidRequest"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "trailing/"): ("a folder, without content", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "back\\slash"): ("a slash", "AssertionError"),
    ("an_odd_key_makes_the_round_trip", "seaweedfs", "tab\tand\x01control\x7f"): (
        "lists it as U+FFFD",
        "AssertionError",
    ),
    # What botocore does on these servers, and our client does not.
    ("an_odd_key_makes_the_round_trip", "moto/botocore", "carriage\rreturn"): (
        "lists versions without encoding-type",
        "AssertionError",
    ),
    ("versions_are_deleted_together_and_exactly", "moto/botocore", "control\x01"): (
        "lists versions as no XML",
        "Unavailable: ListObjectVersions .*: InternalError",
    ),
    ("is_versioned", "moto/botocore"): (
        "another root element than S3's",
        "Unavailable: GetBucketVersioning .*: MalformedAnswer",
    ),
    # Ceph 18.2 (make test-ceph).
    ("multipart_carries_headers_metadata_and_tags", "ceph"): ("drops tags at the create", "AssertionError"),
    ("a_website_redirect_is_put_but_never_copied", "ceph"): ("copies it or drops it", "AssertionError"),
    ("an_archived_object_cannot_be_read", "ceph"): ("GLACIER is only a name", "Failed: DID NOT RAISE ArchivedObject"),
    ("a_restore_is_asked_for_once_and_may_be_asked_for_again", "ceph"): (
        "501 for RestoreObject",
        "Rejected: RestoreObject .*: NotImplemented",
    ),
    ("encryption_is_asked_for_and_told", "ceph"): ("has no SSE by default", "Rejected: PutObject .*: InvalidRequest"),
    ("put_with_an_etag_replaces_that_object_only", "ceph"): (
        "refuses the current ETag",
        "PreconditionFailed: PutObject .*: PreconditionFailed",
    ),
    ("put_with_an_etag_finds_no_key", "ceph"): (
        "412 instead of 404",
        "PreconditionFailed: PutObject .*: PreconditionFailed",
    ),
    ("copy_absent_refuses_an_existing_key", "ceph"): (
        "ignores If-None-Match on CopyObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("copy_with_an_etag_replaces_that_object_only", "ceph"): (
        "ignores If-Match on CopyObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("complete_absent_refuses_an_existing_key", "ceph"): (
        "ignores conditions on CompleteMultipartUpload",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("complete_with_an_etag_replaces_that_object_only", "ceph"): (
        "ignores conditions on CompleteMultipartUpload",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    # What botocore does not overlook, and our client does.
    ("an_odd_key_makes_the_round_trip", "ceph/botocore", "tab\tand\x01control\x7f"): (
        "lists it raw",
        "Unavailable: ListObjectVersions .*: InternalError",
    ),
    ("versions_come_in_pages", "ceph/botocore"): (
        "sends its markers raw",
        "Unavailable: ListObjectVersions .*: MalformedAnswer",
    ),
    ("copy_takes_the_version_it_names", "ceph"): ("names no version, or another ETag", "AssertionError"),
    ("copy_part_refuses_a_source_that_has_moved_on", "ceph"): (
        "ignores x-amz-copy-source-if-match",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("put_keeps_a_checksum", "ceph", "CRC64NVME"): ("keeps no checksum", "AssertionError"),
    ("put_keeps_a_checksum", "ceph", "CRC32"): ("keeps no checksum", "AssertionError"),
    ("put_keeps_a_checksum", "ceph", "CRC32C"): ("keeps no checksum", "AssertionError"),
    ("put_keeps_a_checksum", "ceph", "SHA1"): ("keeps no checksum", "AssertionError"),
    ("put_keeps_a_checksum", "ceph", "SHA256"): ("keeps no checksum", "AssertionError"),
    ("put_refuses_a_wrong_checksum", "ceph", "CRC64NVME"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_refuses_a_wrong_checksum", "ceph", "CRC32"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_refuses_a_wrong_checksum", "ceph", "CRC32C"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_refuses_a_wrong_checksum", "ceph", "SHA1"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_refuses_a_wrong_checksum", "ceph", "SHA256"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("put_part_refuses_a_wrong_checksum", "ceph"): ("takes any checksum", "Failed: DID NOT RAISE Unavailable"),
    ("multipart_makes_a_composite_checksum", "ceph", "SHA256"): ("keeps no checksum", "AssertionError"),
    ("multipart_makes_a_composite_checksum", "ceph", "SHA1"): ("keeps no checksum", "AssertionError"),
    ("multipart_makes_a_full_object_checksum", "ceph", "CRC64NVME"): ("keeps no checksum", "AssertionError"),
    ("multipart_makes_a_full_object_checksum", "ceph", "CRC32"): ("keeps no checksum", "AssertionError"),
    ("multipart_makes_a_full_object_checksum", "ceph", "CRC32C"): ("keeps no checksum", "AssertionError"),
    ("multipart_refuses_a_wrong_full_object_checksum", "ceph"): (
        "takes any checksum",
        "Failed: DID NOT RAISE Unavailable",
    ),
    ("copy_keeps_the_checksum_algorithm", "ceph"): ("keeps no checksum", "AssertionError"),
    ("copy_of_a_multipart_object_has_one_part", "ceph"): ("keeps the multipart ETag", "AssertionError"),
    ("head_describes_a_part", "ceph"): ("does not describe a part", "AssertionError"),
    ("an_aborted_upload_is_gone", "ceph"): (
        "500 instead of NoSuchUpload",
        "Unavailable: CompleteMultipartUpload .*: InternalError",
    ),
    ("head_tells_a_delete_marker_from_nothing", "ceph"): ("no x-amz-delete-marker", "AssertionError"),
    ("a_delete_with_an_etag_takes_that_object_only", "ceph", "False"): (
        "ignores If-Match on DeleteObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("a_delete_with_an_etag_takes_that_object_only", "ceph", "True"): (
        "ignores If-Match on DeleteObject",
        "Failed: DID NOT RAISE PreconditionFailed",
    ),
    ("a_delete_with_an_etag_finds_nothing", "ceph"): (
        "ignores If-Match on DeleteObject",
        "Failed: DID NOT RAISE any of",
    ),
} | {
    # No server here keeps annotations: each takes the request for one of the object, or refuses it.
    (check, server): ("keeps no annotations", "Failed: keeps no annotations")
    for check in _ANNOTATION_CHECKS
    for server in ("moto", "seaweedfs", "ceph")
}
