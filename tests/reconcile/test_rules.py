"""The two truth tables of the rules, replayed line by line in SQL; and what no pair may ever be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.category import FINDINGS, Category
from jobs.core.evidence import compare
from jobs.core.model import Checksum
from jobs.core.outcome import Evidence
from jobs.reconcile import rules
from jobs.reconcile.rules import CIRCUMSTANCE, PRESENCE, Judgement
from tests.reconcile.scene import Facts, cause, judge, judge_pairs

MD5, OTHER_MD5 = "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661"
PARTS = f"{MD5}-2"
OLD, NEW = 100.0, 200.0
HORIZON = 1000.0
DAY = 86_400.0
PLAIN = Facts(5, MD5, False, "SSE-S3", OLD)
MARKER = Facts(is_delete_marker=True, last_modified=OLD)
SHA, OTHER_SHA = Checksum("SHA256", "a"), Checksum("SHA256", "b")

OTHER = PLAIN._replace(etag=OTHER_MD5)


def summed(checksum: Checksum) -> Facts:
    """A plain object with this checksum."""
    return PLAIN._replace(checksum=checksum)


OWN = f".sealift/place-{'0a' * 16}.json"
COMPARED: dict[str, tuple[Facts | None, Facts | None]] = {
    "own": (PLAIN, None),
    "source gone, destination gone, current": (MARKER, None),
    "source marker, destination marker": (MARKER, MARKER),
    "source marker, destination absent": (MARKER, None),
    "source absent, destination marker": (None, MARKER),
    "source marker": (MARKER, PLAIN),
    "source absent": (None, PLAIN),
    "destination marker": (PLAIN, MARKER),
    "destination absent": (PLAIN, None),
    "sizes differ": (summed(SHA), summed(SHA)._replace(size_bytes=6)),
    "checksums differ": (summed(SHA), summed(OTHER_SHA)),
    "MD5s differ, encryption known": (summed(SHA), OTHER._replace(checksum=SHA, encryption_status="NOT-SSE")),
    "checksums equal": (summed(SHA), OTHER._replace(checksum=SHA, encryption_status=None)),
    "MD5s equal": (PLAIN, PLAIN._replace(size_bytes=None)),
    "MD5s differ": (PLAIN, OTHER._replace(encryption_status=None)),
    "ETag absent": (PLAIN._replace(etag=None), PLAIN),
    "encrypted": (PLAIN, PLAIN._replace(encryption_status="DSSE-KMS")),
    "multipart": (PLAIN, PLAIN._replace(etag=PARTS, is_multipart=None)),
    "": (PLAIN._replace(etag="opaque"), PLAIN._replace(etag="opaque")),
}
"""An example of each line of the first table."""


def tables() -> list[list[tuple[str, str, str]]]:
    """The tables of the module's docstring, without their heads."""
    found: list[list[tuple[str, str, str]]] = []
    inside = False
    for line in (rules.__doc__ or "").splitlines():
        is_row = line.strip().startswith("|")
        if is_row and not inside:
            found.append([])
        inside = is_row
        if is_row:
            one, two, three = (cell.strip() for cell in line.strip().strip("|").split("|"))
            found[-1].append((one, two, three))
    return [table[2:] for table in found]


COMPARISON_TABLE, CIRCUMSTANCE_TABLE = tables()


def brief(told: Judgement) -> tuple[Category, str, bool]:
    return told.category, cause(told.reason, told.detail), told.is_finding


def test_the_tables_are_the_rules():
    presence = [(r.when, r.category, cause(r.reason, r.detail)) for r in PRESENCE]
    assert presence == COMPARISON_TABLE[: len(PRESENCE)]
    assert [rule.when for rule in CIRCUMSTANCE] == [row[0] for row in CIRCUMSTANCE_TABLE]
    assert [*COMPARED] == [row[0] for row in COMPARISON_TABLE]


@pytest.mark.parametrize(("atoms", "category", "reason"), COMPARISON_TABLE)
def test_a_pair_is_what_the_first_table_says(atoms, category, reason):
    source, destination = COMPARED[atoms]
    all_versions = "marker" in atoms or "source absent" in atoms
    told = judge(source, destination, horizon=HORIZON, all_versions=all_versions, key=OWN if atoms == "own" else "a")
    if category != "differs":
        assert brief(told) == (category, reason, category in FINDINGS)
        return
    assert brief(told) == (Category.DIFFERENT, reason, True)
    assert source is not None
    newer = judge(source._replace(last_modified=NEW), destination, horizon=HORIZON)
    assert brief(newer) == (Category.STALE, reason, True)


CIRCUMSTANCES = {
    "same, FAILED": (PLAIN._replace(replication_status="FAILED", last_modified=HORIZON + 1), PLAIN),
    "same": (PLAIN._replace(replication_status="PENDING", last_modified=HORIZON + 1), PLAIN),
    "excluded": (MARKER._replace(replication_status="FAILED", last_modified=HORIZON + 1), None),
    "FAILED, not extra": (PLAIN._replace(replication_status="FAILED", last_modified=HORIZON + 1), None),
    "PENDING": (PLAIN._replace(replication_status="PENDING"), None),
    "young": (None, PLAIN._replace(last_modified=HORIZON + 1)),
    "": (PLAIN._replace(last_modified=HORIZON), None),
}


@pytest.mark.parametrize(("atoms", "becomes", "reason"), CIRCUMSTANCE_TABLE)
def test_a_circumstance_makes_of_it_what_the_second_table_says(atoms, becomes, reason):
    source, destination = CIRCUMSTANCES[atoms]
    plain = judge(source and source._replace(replication_status=None), destination, horizon=None)
    told = judge(source, destination, horizon=HORIZON)
    category = plain.category if becomes.startswith("as it is") else Category(becomes)
    assert told.category == category
    assert cause(told.reason, told.detail) == reason.replace("as it is", cause(plain.reason, plain.detail), 1)
    assert told.is_finding == (becomes.endswith("a finding") or (category in FINDINGS))


@pytest.mark.parametrize(
    ("modified", "category"),
    [(HORIZON - DAY, Category.MISSING), (HORIZON - DAY + 1, Category.IN_FLIGHT), (None, Category.IN_FLIGHT)],
)
def test_what_is_pending_for_more_than_a_day_is_judged_by_what_is_there(modified, category):
    """S3 may replicate it elsewhere, or never."""
    source = PLAIN._replace(replication_status="PENDING", last_modified=modified)
    assert judge(source, None, horizon=HORIZON).category is category


SUMS = [
    Checksum(name, value, how) for name, how in (("CRC32", False), ("CRC32", True), ("BLAKE9", False)) for value in "ab"
]
SIDES = [
    PLAIN._replace(etag=etag, is_multipart=is_multipart, encryption_status=encryption, checksum=checksum)
    for etag in (None, "opaque", MD5, OTHER_MD5)
    for is_multipart in (None, True)
    for encryption in (None, "NOT-SSE", "SSE-KMS")
    for checksum in (None, *SUMS)
]


def test_content_is_what_compare_says_of_every_pair():
    """Where a report does not say how an object is encrypted, what is proven without its ETag counts first."""
    sides = [*SIDES, summed(SUMS[0])._replace(size_bytes=6)]
    for source, destination, told in judge_pairs(sides):
        sure, likely = (compare(source.info(sse), destination.info(sse)) for sse in ("aws:kms", None))
        same = likely.same if sure.same is None else sure.same
        assert told.category == {True: "same", False: "different", None: "unverifiable"}[same], (source, destination)
        is_unproven = sure.evidence is Evidence.NONE and not likely.same  # no two objects of KMS have one ETag
        assert (told.evidence is Evidence.NONE) == is_unproven, (source, destination)


checksums = st.builds(Checksum, st.sampled_from(["CRC32", "SHA256"]), st.sampled_from(["a", "b"]), st.booleans())
facts = st.builds(
    Facts,
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from([MD5, OTHER_MD5, PARTS, "opaque", MD5.upper(), f"{MD5}\n"]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["SSE-S3", "NOT-SSE", "SSE-KMS", "SSE-C"]),
    st.none() | st.sampled_from([OLD, NEW, HORIZON, HORIZON + 1]),
    st.none() | st.sampled_from(["PENDING", "FAILED", "COMPLETED", "REPLICA"]),
    st.booleans(),
    st.none() | checksums,
)
one_side = st.none() | facts
pairs = st.tuples(one_side, one_side).filter(any)


@given(pairs, st.booleans())
def test_same_needs_a_proof(pair, all_versions):
    source, destination = pair
    told = judge(source, destination, horizon=HORIZON, all_versions=all_versions)
    if told.category is not Category.SAME:
        return
    assert source is not None
    assert destination is not None
    assert told.evidence is not Evidence.NONE or source.is_delete_marker
    if source.is_delete_marker:
        assert destination.is_delete_marker
    else:
        assert source.etag == destination.etag or source.checksum == destination.checksum is not None
        assert source.size_bytes == destination.size_bytes or None in (source.size_bytes, destination.size_bytes)


@given(pairs, st.booleans())
def test_only_what_is_settled_can_be_found_wrong(pair, all_versions):
    source, destination = pair
    told = judge(source, destination, horizon=HORIZON, all_versions=all_versions)
    if told.is_finding and not (source and source.replication_status == "FAILED"):
        assert told.category in FINDINGS
        assert all(side is None or (side.last_modified or 0) <= HORIZON for side in (source, destination))
    if told.category in (Category.MISSING, Category.EXTRA, Category.UNVERIFIABLE, Category.IN_FLIGHT):
        assert told.reason
