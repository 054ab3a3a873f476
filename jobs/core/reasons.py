"""Reasons: why a row ended as it did, as codes. `jobs.core.words` words them.

An outcome has a status, one of these codes, and as `detail` the one fact that the code has: a name,
a number, an S3 error as `Operation: Code`. `WORDS` in `jobs.core.words` says for each what its
detail is. Programs compare codes. Nothing compares a sentence.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias


class Reason(StrEnum):
    """Why a row ended as it did. The value is what `query`, `--json` and Parquet have."""

    # the source
    SOURCE_GONE = "source_gone"
    SOURCE_REPLACED = "source_replaced"
    SOURCE_CHANGED = "source_changed"
    ARCHIVED = "archived"
    NEWEST_ARCHIVED = "newest_archived"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    NO_PAIR = "no_pair"
    DAMAGED = "damaged"
    FOUND_DAMAGED = "found_damaged"
    BOTH_DAMAGED = "both_damaged"
    EITHER_DAMAGED = "either_damaged"
    BYTES_LOST = "bytes_lost"
    # which version is on top
    NEWER_COPIED = "newer_copied"
    COPIED_LATE = "copied_late"
    COPY_COVERED = "copy_covered"
    COPY_HIDDEN = "copy_hidden"
    HIDDEN_AGAIN = "hidden_again"
    OLDER_ON_TOP = "older_on_top"
    DESTINATION_NEWER = "destination_newer"
    DESTINATION_DIFFERS = "destination_differs"
    ORDER_UNKNOWN = "order_unknown"
    ONE_OF_SEVERAL = "one_of_several"
    ONLY_COPY = "only_copy"
    # delete markers
    IS_MARKER = "is_marker"
    MARKER_LATE = "marker_late"
    MARKER_DIFFERS = "marker_differs"
    DELETE_RETAINED = "delete_retained"
    DELETED = "deleted"
    # what a comparison found
    COPY_MISSING = "copy_missing"
    SIZE_DIFFERS = "size_differs"
    CHECKSUM_DIFFERS = "checksum_differs"
    ETAG_DIFFERS = "etag_differs"
    CONTENT_DIFFERS = "content_differs"
    METADATA_DIFFERS = "metadata_differs"
    NOTHING_COMPARABLE = "nothing_comparable"
    EVIDENCE_WEAK = "evidence_weak"
    UNKNOWN_ALGORITHM = "unknown_algorithm"
    CHECKSUMS_AT_REST = "checksums_at_rest"
    COPY_INCOMPLETE = "copy_incomplete"
    TOO_NEW = "too_new"
    REPLICATION = "replication"
    # what S3 answered
    DENIED = "denied"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    RACED = "raced"
    # what expire does not delete
    KEPT = "kept"
    # packing
    TAG_MISSING = "tag_missing"
    EARLIER_RULE = "earlier_rule"
    HAS_ANNOTATIONS = "has_annotations"
    UNPACKABLE = "unpackable"
    DOES_NOT_PAY = "does_not_pay"
    # archives
    NOT_ARCHIVED = "not_archived"
    NOT_INDEXED = "not_indexed"
    ARCHIVE_GONE = "archive_gone"
    ARCHIVE_DAMAGED = "archive_damaged"
    IN_ARCHIVE = "in_archive"
    THAWING = "thawing"
    CURRENT_UNKNOWN = "current_unknown"


FAILURES = frozenset({Reason.DENIED, Reason.REFUSED, Reason.GIVEN_UP})
"""What S3 refused or did not answer: many of these have one cause. Other codes are about one row."""

Why: TypeAlias = Reason | Literal[""]
"""A reason, or none: all went as asked."""


class Cause(NamedTuple):
    """A reason and its detail."""

    reason: Reason
    detail: str = ""
