"""What stored checksums and ETags prove, and what they do not."""

from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.algorithms import ALGORITHMS, Protection, protects
from jobs.core.evidence import best_checksum, compare, is_md5, is_multipart, with_checksums
from jobs.core.model import Attributes, Checksum, ObjectInfo
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason

MD5_A, MD5_B = "a" * 32, "b" * 32
CRC_A, CRC_B = Checksum("CRC64NVME", "AAAA"), Checksum("CRC64NVME", "BBBB")
SHA_A, SHA_B = Checksum("SHA256", "AAAA"), Checksum("SHA256", "BBBB")
PARTS_A, PARTS_B = Checksum("SHA256", "AAAA-2", True), Checksum("SHA256", "BBBB-2", True)
NEW = Checksum("BLAKE9", "AAAA")
XXH_A = Checksum("XXHASH128", "AAAA")
MD5_SUM = Checksum("MD5", "AAAA")


def info(etag: str = MD5_A, *checksums: Checksum, size: int = 10, **attributes: Any) -> ObjectInfo:
    return ObjectInfo(size, etag, 0.0, None, "STANDARD", checksums, Attributes(**attributes))


NONE, CHECKSUM, MD5 = Evidence.NONE, Evidence.CHECKSUM, Evidence.MD5_ETAG
Pair = tuple[ObjectInfo, ObjectInfo, bool | None, Evidence]
BY_ACCIDENT: dict[str, Pair] = {
    "all have to agree": (info(MD5_A, SHA_A), info(MD5_B, SHA_A), False, MD5),
    "both agree": (info(MD5_A, CRC_A), info(MD5_A, CRC_A), True, CHECKSUM),
    "a multipart ETag is not compared": (info(MD5_A, CRC_A), info("x-2", CRC_A), True, CHECKSUM),
    "nor one of a KMS key": (info(MD5_A, CRC_A), info(MD5_B, CRC_A, sse="aws:kms"), True, CHECKSUM),
    "two of one algorithm": (info(MD5_A, CRC_A, CRC_B), info(MD5_A, CRC_A), False, CHECKSUM),
    "one of two differs": (info(MD5_A, CRC_A, SHA_A), info(MD5_A, CRC_A, SHA_B), False, CHECKSUM),
    "MD5 ETags equal": (info(), info(), True, MD5),
    "MD5 ETags differ": (info(), info(MD5_B), False, MD5),
    "other bytes outweigh other metadata": (info(metadata={"a": "1"}), info(MD5_B), False, MD5),
    "a server that names no encryption at all": (info(sse=""), info(), True, MD5),
    "SSE-S3 keeps the MD5": (info(sse="AES256"), info(sse="AES256"), True, MD5),
    "a KMS ETag is no MD5": (info(sse="aws:kms"), info(MD5_B), None, NONE),
    "encrypted again in place, it keeps its ETag": (info(MD5_A, sse="aws:kms"), info(MD5_A), None, NONE),
    "and its checksums": (info(MD5_A, CRC_A, sse="aws:kms"), info(MD5_A, CRC_A), True, CHECKSUM),
    "equal multipart ETags prove nothing": (info("x-2"), info("x-2"), None, NONE),
    "different multipart ETags disprove nothing": (info("x-2"), info("y-3"), None, NONE),
    "equal composites": (info("x-2", PARTS_A), info("x-2", PARTS_A), True, CHECKSUM),
    "composites may be cut otherwise": (info("x-2", PARTS_A), info("y-2", PARTS_B), None, NONE),
    "composite against full object": (info("x-2", PARTS_A), info("x-2", SHA_A), None, NONE),
}
BY_INTENT: dict[str, Pair] = {
    "a CRC can be forged": (info("x-2", CRC_A), info("y-2", CRC_A), None, NONE),
    "one that differs disproves": (info("x-2", CRC_A), info("y-2", CRC_B), False, CHECKSUM),
    "XXHASH has no secret": (info("x-2", XXH_A), info("y-2", XXH_A), None, NONE),
    "SHA-256": (info("x-2", CRC_A, SHA_A), info("y-2", CRC_A, SHA_A), True, CHECKSUM),
    "an MD5 as a checksum": (info("x-2", MD5_SUM), info("y-2", MD5_SUM), True, CHECKSUM),
    "an MD5 as an ETag": (info(MD5_A, CRC_A), info(MD5_A, CRC_A), True, MD5),
    "a composite of SHA-256": (info("x-2", PARTS_A), info("y-2", PARTS_A), True, CHECKSUM),
}


@pytest.mark.parametrize(
    ("against", "name"),
    [*((Protection.ACCIDENT, each) for each in BY_ACCIDENT), *((Protection.INTENT, each) for each in BY_INTENT)],
)
def test_compare(against: Protection, name: str) -> None:
    source, destination, same, evidence = (BY_INTENT if against is Protection.INTENT else BY_ACCIDENT)[name]
    for one, other in ((source, destination), (destination, source)):
        verdict = compare(one, other, against)
        assert (verdict.same, verdict.evidence) == (same, evidence)
        assert bool(verdict.reason) == (same is not True)


def test_the_best_checksum_is_the_strongest_full_object_one() -> None:
    assert best_checksum(info(MD5_A, CRC_A, PARTS_A, SHA_B)) == "SHA256:BBBB"
    assert best_checksum(info(MD5_A, PARTS_A)) is None
    assert best_checksum(info(MD5_A, NEW, CRC_A)) == "CRC64NVME:AAAA"
    assert best_checksum(info(MD5_A, NEW)) is None


def test_only_cryptographic_hashes_protect_against_intent() -> None:
    for each in ALGORITHMS.values():
        assert protects(each.name, Protection.ACCIDENT)
        assert protects(each.name, Protection.INTENT) is each.hasher.startswith("hashlib:")
    assert not any(protects("BLAKE9", each) for each in Protection)


TABLE = {
    "two checksums of the source contradict each other": (info("x-2", CRC_A, CRC_B), info("x-2", CRC_A)),
    "two checksums of the copy contradict each other": (info("x-2", CRC_A), info("x-2", CRC_A, CRC_B)),
    "the sizes differ": (info(size=1), info(size=2)),
    "a comparable checksum or MD5 ETag differs": (info(MD5_A, CRC_A), info(MD5_A, CRC_B)),
    "user metadata or a content header differs": (info(MD5_A, CRC_A, metadata={"a": "1"}), info(MD5_A, CRC_A)),
    "a comparable one that protects `against` that agrees": (info(MD5_A, CRC_A), info(MD5_A, CRC_A)),
    "another comparable one agrees": (info("x-2", CRC_A), info("y-2", CRC_A)),
    "nothing is comparable": (info("x-2"), info("x-2")),
}
EVIDENCE = {"that one": Evidence.CHECKSUM, "the strongest": Evidence.MD5_ETAG}


def table_lines(function: Callable[..., object]) -> list[list[str]]:
    """The cells of the lines of a docstring's table, without its head."""
    lines = [line.strip() for line in (function.__doc__ or "").splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_compare() -> None:
    lines = table_lines(compare)
    assert [line[0] for line in lines] == list(TABLE)
    for what, same, reason, evidence in lines:
        verdict = compare(*TABLE[what], Protection.INTENT)
        assert verdict.same is {"yes": True, "no": False, "?": None}[same], what
        assert (verdict.reason, verdict.evidence) == (reason, EVIDENCE.get(evidence, evidence)), what
        assert verdict.is_source_damaged is (reason == Reason.DAMAGED)


@pytest.mark.parametrize(
    ("source", "destination", "against", "detail"),
    [
        (info(MD5_A, CRC_A, SHA_A), info(MD5_A, CRC_B, SHA_B), Protection.ACCIDENT, "SHA256"),
        (info("x-2", CRC_A, XXH_A), info("y-2", CRC_A, XXH_A), Protection.INTENT, "XXHASH128, CRC64NVME"),
        (
            info("x-2", PARTS_A, CRC_A),
            info(MD5_A),
            Protection.ACCIDENT,
            "composite SHA256 and CRC64NVME and a multipart ETag; an MD5 ETag",
        ),
        (info("x"), info(MD5_A, sse="aws:kms"), Protection.ACCIDENT, "an opaque ETag; an opaque ETag"),
    ],
)
def test_the_detail_names_what_differs_or_what_is_at_hand_the_strongest_first(
    source: ObjectInfo, destination: ObjectInfo, against: Protection, detail: str
) -> None:
    assert compare(source, destination, against).detail == detail


@pytest.mark.parametrize(
    ("ours", "theirs", "differing"),
    [
        ({}, {}, ""),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, "user metadata"),
        ({}, {"metadata": {"a": "2"}}, "user metadata"),
        ({"headers": {"cache-control": "no-store"}}, {}, "cache-control"),
        ({"headers": {"content-type": "text/plain"}}, {"headers": {"content-type": "text/html"}}, "content-type"),
        ({"headers": {"content-type": "binary/octet-stream"}}, {}, ""),
        ({"headers": {"x-amz-website-redirect-location": "/a"}}, {}, ""),
    ],
)
def test_metadata_and_headers_are_part_of_a_copy(ours: Any, theirs: Any, differing: str) -> None:
    for one, other in ((ours, theirs), (theirs, ours)):
        verdict = compare(info(**one), info(**other))
        assert (verdict.same, verdict.detail) == (not differing, differing)
        assert verdict.reason == (Reason.METADATA_DIFFERS if differing else "")


def test_an_algorithm_that_nobody_knows_proves_nothing_and_damages_nobody() -> None:
    other = Checksum("BLAKE9", "BBBB")
    for ours, theirs in (((NEW,), (NEW,)), ((NEW,), (other,)), ((NEW, other), (NEW,)), ((NEW,), (NEW, other))):
        assert compare(info("x-2", *ours), info("x-2", *theirs)).same is None


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [((CRC_A,), CRC_A, True), ((CRC_A,), CRC_B, False), ((CRC_A,), SHA_A, None), ((), CRC_A, None)],
)
def test_a_checksum_at_rest_is_compared_with_what_the_other_side_has(
    ours: Any, theirs: Checksum, same: bool | None
) -> None:
    at_rest = with_checksums(info("x-2"), ours)
    for other in (info("x-2", theirs), with_checksums(info("x-2"), (theirs,))):
        assert compare(at_rest, other).same is same
    assert with_checksums(info("x-2", CRC_A), (CRC_A, SHA_A)).checksums == (CRC_A, SHA_A)


def test_an_etag_says_whether_the_upload_was_in_parts() -> None:
    assert is_multipart(f"{MD5_A}-1")
    assert is_multipart(f"{MD5_A}-10000")
    for etag in (None, "", MD5_A, f"{MD5_A}-", f"{MD5_A}-123456", f"{MD5_A}-٣", f"{MD5_A}-2\n", f"-2-{MD5_A}"):
        assert not is_multipart(etag), etag


def test_an_etag_has_the_form_of_an_md5_or_not() -> None:
    assert is_md5(MD5_A)
    for etag in (None, "", MD5_A.upper(), f"{MD5_A}-2", f"{MD5_A}a", f"{MD5_A}\n"):
        assert not is_md5(etag), etag
