"""The two truth tables of the rules, replayed line by line in SQL; and what no pair may ever be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.category import FINDINGS, Category
from jobs.core.model import Checksum
from jobs.core.outcome import Evidence
from jobs.reconcile import rules
from jobs.reconcile.rules import CIRCUMSTANCE, COMPARISON, Judgement, Rule
from tests.reconcile.scene import Facts, cause, judge

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
    "not ETags equal, MD5s, encryption known": (summed(SHA), OTHER._replace(checksum=SHA, encryption_status="NOT-SSE")),
    "checksums equal": (summed(SHA), OTHER._replace(checksum=SHA, encryption_status=None)),
    "ETags equal, MD5s": (PLAIN, PLAIN._replace(size_bytes=None)),
    "MD5s": (PLAIN, OTHER._replace(encryption_status=None)),
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


def written(rule: Rule) -> str:
    return ", ".join(rule.when)


def test_the_tables_are_the_rules():
    assert [(written(r), r.category or "differs", cause(r.reason, r.detail)) for r in COMPARISON] == COMPARISON_TABLE
    assert [written(r) for r in CIRCUMSTANCE] == [row[0] for row in CIRCUMSTANCE_TABLE]
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


@pytest.mark.parametrize("etag", [MD5, OTHER_MD5])
@pytest.mark.parametrize("is_source", [True, False])
def test_an_etag_of_an_upload_in_parts_is_no_md5_though_it_may_look_like_one(etag, is_source):
    """Some servers give such objects an ETag without the number of parts."""
    parts, plain = PLAIN._replace(is_multipart=True), PLAIN._replace(etag=etag)
    told = judge(*((parts, plain) if is_source else (plain, parts)), horizon=HORIZON)
    assert brief(told) == (Category.UNVERIFIABLE, "nothing_comparable: no MD5: in parts", False)


@pytest.mark.parametrize("value", ["a", "b"])
def test_composite_checksums_say_something_only_when_they_are_equal(value):
    one, other = Checksum("CRC32", "a-2", True), Checksum("CRC32", f"{value}-2", True)
    told = judge(summed(one)._replace(etag=PARTS), summed(other)._replace(etag=PARTS), horizon=HORIZON)
    assert told.category == (Category.SAME if value == "a" else Category.UNVERIFIABLE)


NEW_SUM, OTHER_NEW = Checksum("BLAKE9", "a"), Checksum("BLAKE9", "b")
NO_MD5 = "nothing_comparable: no MD5: in parts"
CRC = Checksum("CRC32", "a")


@pytest.mark.parametrize(
    ("source", "destination", "category", "reason"),
    [
        (summed(SHA), summed(SHA._replace(value="b", is_composite=True)), "same", ""),
        (summed(CRC), OTHER._replace(checksum=CRC), "different", "etag_differs"),
        (summed(SHA), summed(OTHER_SHA), "different", "checksum_differs"),
        (summed(CRC), summed(SHA), "same", ""),
        (summed(CRC), OTHER._replace(checksum=CRC, encryption_status="SSE-KMS"), "same", ""),
        (summed(CRC), OTHER._replace(checksum=CRC, encryption_status=None), "same", ""),
        (summed(NEW_SUM)._replace(etag=PARTS), summed(NEW_SUM)._replace(etag=PARTS), "unverifiable", NO_MD5),
        (summed(NEW_SUM), summed(OTHER_NEW), "same", ""),
    ],
)
def test_all_that_is_comparable_has_to_agree(source, destination, category, reason):
    """Content can be changed so that its CRC stays. An ETag that may be that of a KMS key is no evidence."""
    for one, other in ((source, destination), (destination, source)):
        assert brief(judge(one, other, horizon=HORIZON)) == (category, reason, category == "different")


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
