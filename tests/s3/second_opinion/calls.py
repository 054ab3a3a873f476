"""Calls of every method of a Store, with what is odd but legal in them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from jobs.core.model import Attributes, Checksum, ObjectLock, ObjectRef
from jobs.s3 import checksums
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Marker, PartDone, Upload

BUCKET = "bucket"
KEYS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
) | st.sampled_from(
    ["a b", "a+b", "100%", "%41", "/lead", "a//b", "a/../b", "./a", "a/", "q?a=b&c#d", "港/é", "line\nbreak", "~*()!'"]
)
VERSIONS = st.text("abcXYZ019._-", min_size=1, max_size=12)
"""URL-ready, as S3's are: https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html"""
ETAGS = st.text("0123456789abcdef", min_size=32, max_size=32) | st.just("0123456789abcdef0123456789abcdef-12")
TOKENS = st.text("abcXYZ019._-+/=~", min_size=1, max_size=20)
UPLOADS = st.builds(Upload, st.just(BUCKET), KEYS, TOKENS)
DATA = st.binary(max_size=40)
ANNOTATIONS = st.text("abcXYZ019._-éЖ港", min_size=1, max_size=12)
GUARDS = st.sampled_from([ABSENT, UNGUARDED]) | ETAGS.map(lambda etag: Guard(etag=etag))
ALGORITHMS = ("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")
REFS = st.builds(ObjectRef, st.just(BUCKET), KEYS, st.none() | VERSIONS | st.just("null"))
TARGETS = st.builds(ObjectRef, st.just(BUCKET), KEYS, st.none())
SOURCES = st.builds(ObjectRef, st.just("source"), KEYS, st.none() | VERSIONS)
LOCKS = st.sampled_from(
    [None, ObjectLock("GOVERNANCE", "2099-01-01T00:00:00Z"), ObjectLock("COMPLIANCE", "2099-01-01T00:00:00Z", True), ObjectLock(legal_hold=True), ObjectLock(event_hold=True, event_days=9), ObjectLock(event_hold=True, event_years=2)]  # noqa: E501
)  # fmt: skip
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
TEXTS = VALUES | st.tuples(VALUES, VALUES).map("  ".join) | st.sampled_from(["Łódź — 港", "é", "a\tb"])
ATTRIBUTES = st.builds(
    Attributes,
    headers=st.dictionaries(
        st.sampled_from(["content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"]),  # noqa: E501
        VALUES,
        max_size=3,
    ),
    metadata=st.dictionaries(st.text("abcxyz-019", min_size=1, max_size=8), TEXTS, max_size=3),
    tags=st.dictionaries(KEYS, KEYS, max_size=3),
    storage_class=st.sampled_from([None, "STANDARD_IA", "DEEP_ARCHIVE"]),
    sse=st.sampled_from([None, "AES256", "aws:kms"]),
    kms_key_id=st.sampled_from([None, "arn:aws:kms:eu-west-1:1:key/k"]),
    lock=LOCKS,
)  # fmt: skip
SETTINGS = st.builds(
    CopySettings,
    storage_class=st.sampled_from([None, "GLACIER_IR"]),
    sse=st.sampled_from([None, "aws:kms"]),
    kms_key_id=st.sampled_from([None, "k"]),
    lock=LOCKS,
    without_annotations=st.booleans(),
)
MARKERS = (
    st.none() | st.builds(Marker, KEYS, st.none() | VERSIONS, st.none()) | st.builds(Marker, KEYS, st.none(), TOKENS)
)


def _checksum(data: bytes, algorithm: str | None) -> Checksum | None:
    return checksums.full_object(algorithm, data) if algorithm else None


@st.composite
def _puts(draw: Any) -> tuple[Any, Any]:
    data, algorithm = draw(DATA), draw(st.none() | st.sampled_from(ALGORITHMS))
    named = {"guard": draw(GUARDS), "checksum": _checksum(data, algorithm)}
    return (draw(TARGETS), data, draw(ATTRIBUTES)), named


@st.composite
def _parts(draw: Any) -> tuple[Any, Any]:
    data, algorithm = draw(DATA), draw(st.none() | st.sampled_from(ALGORITHMS))
    return (draw(UPLOADS), draw(st.integers(1, 10_000)), data), {"checksum": _checksum(data, algorithm)}


@st.composite
def _completions(draw: Any) -> tuple[Any, Any]:
    algorithm = draw(st.none() | st.sampled_from(ALGORITHMS))
    value = _checksum(b"part", algorithm)
    numbers = draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=3, unique=True))
    parts = [PartDone(number, draw(ETAGS), (value,) if value else ()) for number in numbers]
    whole = _checksum(b"whole", draw(st.none() | st.just(algorithm)))
    named = {"guard": draw(GUARDS), "checksum": whole, "size_bytes": draw(st.none() | st.integers(0, 10**13))}
    return (draw(UPLOADS), parts), named


@st.composite
def _gets(draw: Any) -> tuple[Any, Any]:
    start = draw(st.integers(0, 5))
    end = draw(st.none() | st.integers(start + 1, 9))
    return (draw(REFS),), {"start": start, "end": end, "if_match": draw(st.none() | ETAGS)}


def _list() -> st.SearchStrategy[Any]:
    named = st.fixed_dictionaries(
        {"after": MARKERS, "delimiter": st.sampled_from(["", "/", "é"]), "max_keys": st.integers(1, 1000)}
    )
    return st.tuples(st.tuples(st.just(BUCKET), st.just("") | KEYS), named)


def _named(*arguments: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.tuples(*arguments), st.fixed_dictionaries(dict(named)))


ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "abort_multipart": _named(UPLOADS),
    "complete_multipart": _completions(),
    "copy": _named(SOURCES, st.none() | ETAGS, TARGETS, SETTINGS, guard=GUARDS),
    "copy_part": _named(SOURCES, ETAGS, st.just(3), st.none() | st.integers(4, 99), UPLOADS, st.integers(1, 10_000)),
    "create_multipart": _named(
        TARGETS,
        ATTRIBUTES,
        checksum=st.none() | st.builds(Checksum, st.sampled_from(ALGORITHMS), st.just(""), st.booleans()),
    ),
    "delete": _named(REFS, if_match=st.none() | ETAGS),
    "get": _gets(),
    "get_annotation": _named(REFS, ANNOTATIONS),
    "get_tags": _named(REFS),
    "head": _named(REFS, part_number=st.none() | st.integers(1, 10_000)),
    "is_versioned": _named(st.just(BUCKET)),
    "list_annotations": _named(REFS, token=st.none() | TOKENS),
    "list_objects": _list(),
    "list_parts": _named(UPLOADS, after=st.integers(0, 10_000)),
    "list_versions": _list(),
    "may_read_locks": _named(REFS),
    "put": _puts(),
    "put_annotation": _named(REFS, ANNOTATIONS, DATA, object_etag=ETAGS),
    "put_part": _parts(),
    "request_restore": _named(
        REFS, days=st.none() | st.integers(1, 30), tier=st.sampled_from(["Bulk", "Standard", "Expedited"])
    ),
}
"""By method of a Store."""
