"""Reasons: why a row ended as it did, as codes, with what people read of each.

An outcome has a status, one of these codes, and as `detail` the one fact that the code has: a name,
a number, an S3 error as `Operation: Code`. Programs compare codes. Nothing compares a sentence, and
`jobs.core.words` alone makes sentences of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

_MEND_SOURCE = "compare it with the copy, and restore the source from what is right"


class Reason(StrEnum):
    """Why a row ended as it did. The value is what `query`, `--json` and Parquet have.

    `text`: what is said of it, with the outcome's detail behind it in parentheses. `advice`: what to do. `cases`: what
    is said instead where the detail is one of these words.
    """

    text: str
    advice: str
    cases: Mapping[str, str]

    def __new__(
        cls, code: str, text: str = "", advice: str = "", cases: Mapping[str, str] = MappingProxyType({})
    ) -> Reason:
        """A code that knows its words."""
        self = str.__new__(cls, code)
        self._value_ = code
        self.text, self.advice, self.cases = text, advice, cases
        return self

    # the source
    SOURCE_GONE = "source_gone", "the source no longer has it"
    SOURCE_REPLACED = (
        "source_replaced",
        "the source is not the object that the manifest names",
        "make a new manifest",
        {"packed": "it was written again after it was packed, so its archive has an older one: compact it again"},
    )
    SOURCE_CHANGED = "source_changed", "it changed while it was read", "take it again"
    ARCHIVED = "archived", "it must be restored from its archive class first"
    NEWEST_ARCHIVED = "newest_archived", "the newest version is archived, and could not be put back on top: restore it"
    TOO_LARGE = "too_large", "it is larger than the limit"
    TOO_SLOW = "too_slow", "there was no time left for it"
    NO_PAIR = "no_pair", "no pair of the policy covers it", "add a pair, or stop the notifications of its bucket"
    DAMAGED = "damaged", "the source is damaged: its bytes do not match the checksum that S3 keeps", _MEND_SOURCE
    FOUND_DAMAGED = "found_damaged", "verify found the source damaged, and nothing proves it right", _MEND_SOURCE
    BOTH_DAMAGED = "both_damaged", "source and copy are damaged: neither matches its checksum", _MEND_SOURCE
    EITHER_DAMAGED = (
        "either_damaged",
        "source and copy differ, and nothing shows which is wrong: only the copy has a checksum of its whole content",
        "look at both, then restore the source, or replace the copy with --overwrite always, and verify it with --deep",
    )
    BYTES_LOST = "bytes_lost", "its bytes are lost: S3 shows the object, and finds nothing when it is read"
    # which version is on top
    NEWER_COPIED = "newer_copied", "the source has a newer version by now, which was copied instead"
    COPIED_LATE = "copied_late", "it was copied late, and the newest version put on top of it again"
    COPY_COVERED = (
        "copy_covered",
        "its copy lies below another version, which readers get",
        "",
        {"next": "a copy of a newer version takes its place: pack old versions with sealift compact --versions all"},
    )
    COPY_HIDDEN = "copy_hidden", "its copy lies below a delete marker of the destination"
    HIDDEN_AGAIN = (
        "hidden_again",
        "it was copied above a delete marker before, and a new delete marker hides that copy",
        "exclude the copies from the lifecycle rule that hides them, then copy it with --overwrite always",
    )
    OLDER_ON_TOP = "older_on_top", "a copy of an older version is on top"
    DESTINATION_NEWER = "destination_newer", "the destination is newer and different"
    DESTINATION_DIFFERS = (
        "destination_differs",
        "another object is at the destination",
        "",
        {"plan": "it changed since the plan, and was left as it is"},
    )
    ORDER_UNKNOWN = (
        "order_unknown",
        "it is unknown which is newer: dates are close, or the source was uploaded in parts",
    )
    ONE_OF_SEVERAL = (
        "one_of_several",
        "the manifest names several versions of this key, and each copy would replace the one before",
        "copy them with --versions all, or name one of them",
    )
    ONLY_COPY = (
        "only_copy",
        "the copy differs, and its bucket keeps no versions, so it would be lost for good",
        "enable the bucket's versioning, or remove the copy if it is not needed",
    )
    # delete markers
    IS_MARKER = "is_marker", "it is a delete marker, which has no bytes", "copy and verify it with --versions all"
    MARKER_LATE = "marker_late", "newer versions are at the destination already, so the delete marker was not made"
    MARKER_DIFFERS = "marker_differs", "a delete marker is on one side only"
    DELETE_RETAINED = "delete_retained", "it was deleted at the source, and the pair keeps its copy"
    DELETED = "deleted", "it was deleted"
    HIDDEN = (
        "hidden",
        "a delete marker hides it: it came later",
        "",
        {"removed": "the delete marker that hid it was removed"},
    )
    # what a comparison found
    COPY_MISSING = "copy_missing", "nothing is at the destination"
    SIZE_DIFFERS = "size_differs", "the sizes differ"
    CHECKSUM_DIFFERS = "checksum_differs", "the checksums differ"
    ETAG_DIFFERS = "etag_differs", "the MD5 ETags differ"
    CONTENT_DIFFERS = "content_differs", "the bytes differ"
    METADATA_DIFFERS = "metadata_differs", "the metadata differs"
    NOTHING_COMPARABLE = "nothing_comparable", "no checksum or ETag can be compared"
    EVIDENCE_WEAK = "evidence_weak", "only weak checksums agree: other content can be made to match them"
    UNKNOWN_ALGORITHM = "unknown_algorithm", "this release does not know a checksum's algorithm", "update Sealift"
    CHECKSUMS_AT_REST = "checksums_at_rest", "proven by checksums at rest", "", {"proven": "proven by its bytes alone"}
    COPY_INCOMPLETE = "copy_incomplete", "the copy lacks something that was asked for"
    TOO_NEW = "too_new", "it is too new to be judged"
    REPLICATION = "replication", "S3 has not replicated it"
    # what S3 answered
    DENIED = "denied", "the credentials lack a permission"
    REFUSED = "refused", "S3 refuses the request"
    GIVEN_UP = "given_up", "given up after the last try", "retry the run"
    RACED = "raced", "it changed at each look", "retry the run"
    # what expire does not delete
    KEPT = (
        "kept",
        "it is not deleted",
        "",
        {
            "outside": "it is outside the place of originals of this run",
            "copies": "its copy is outside the places of copies of this run",
            "itself": "its copy is the original itself",
            "metadata": "it, or its copy, has metadata that S3 does not send, so the two cannot be compared",
            "expires": "a lifecycle rule will remove its copy",
            "folder": "this server keeps no versions of a key that ends with a slash: it would be gone for good",
            "suspended": "the versioning of its bucket is suspended, so a delete marker would replace it: enable it",
            "null": "it is a null version below others, and versioning is suspended: S3 cannot delete it by its ETag",
        },
    )
    # packing
    TAG_MISSING = "tag_missing", "it lacks a tag"
    EARLIER_RULE = "earlier_rule", "an earlier rule of the policy packs it, by its tags"
    HAS_ANNOTATIONS = "has_annotations", "no archive holds its annotations", "--annotations skip packs it without them"
    UNPACKABLE = "unpackable", "no archive can hold it"
    DOES_NOT_PAY = "does_not_pay", "packing it would not pay within two years", "--pack-all packs it all the same"
    # archives
    NOT_ARCHIVED = (
        "not_archived",
        "no archive has it",
        "",
        {"event": "the journal has it, but it has no copy: it was gone too early, or it expired since"},
    )
    NOT_INDEXED = (
        "not_indexed",
        "no index has it",
        "rebuild the index with sealift archives reindex --source URI, unless it is the copy of another archive",
    )
    ARCHIVE_GONE = "archive_gone", "its archive is gone"
    ARCHIVE_DAMAGED = "archive_damaged", "its archive is damaged, or is not the one of the index"
    IN_ARCHIVE = "in_archive", "its copy is in an archive"
    THAWING = "thawing", "it is being restored from its archive class", "retry the run then"
    CURRENT_UNKNOWN = (
        "current_unknown",
        "nothing says which version was current then",
        "",
        {
            "one second": "archives hold several versions of that second: restore the right one by a manifest",
            "overwritten": "versioning was off or suspended, so what was current then may have been replaced for good: "
            "restore this version by a manifest",
        },
    )


FAILURES = frozenset({Reason.DENIED, Reason.REFUSED, Reason.GIVEN_UP})
"""What S3 refused or did not answer: many of these have one cause. Other codes are about one row."""

Why: TypeAlias = Reason | Literal[""]
"""A reason, or none: all went as asked."""


class Cause(NamedTuple):
    """A reason and its detail."""

    reason: Reason
    detail: str = ""
