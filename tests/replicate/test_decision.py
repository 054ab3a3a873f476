"""The decisions of replicate, each with its reason, and the truth table that `decide` shows of them."""

import re

import pytest

from jobs.core.evidence import Verdict
from jobs.core.model import ObjectInfo, ObjectVersion
from jobs.core.outcome import Evidence, Status
from jobs.replicate.decision import Origin, Overwrite, decide

ROW = ObjectVersion(0, "key", etag="e1", size_bytes=1, condemned_etag="bad")
IN_PARTS = "d41d8cd98f00b204e9800998ecf8427e-3"
SOURCES = {
    "gone": None,
    "another ETag": ObjectInfo(1, "e2", 100.0, None, "STANDARD"),
    "archived": ObjectInfo(1, "e1", 100.0, None, "GLACIER", is_archived=True),
    "there": ObjectInfo(1, "e1", 100.0, None, "STANDARD"),
    "in parts": ObjectInfo(1, IN_PARTS, 100.0, None, "STANDARD"),
}
DESTINATIONS = {
    "not there": None,
    "there": ObjectInfo(1, "d1", 50.0, None, "STANDARD"),
    "the condemned ETag": ObjectInfo(1, "bad", 200.0, None, "STANDARD"),
    "older than the source": ObjectInfo(1, "d1", 99.0, None, "STANDARD"),
    "as new or newer": ObjectInfo(1, "d1", 100.0, None, "STANDARD"),
    "made from an older version": ObjectInfo(1, "d2", 200.0, None, "STANDARD"),
    "of unknown origin": ObjectInfo(1, "d3", 200.0, None, "STANDARD"),
}
ORIGINS = {"made from an older version": Origin.OLDER_VERSION, "of unknown origin": Origin.UNKNOWN}
VERDICTS = {
    "same": Verdict(True, Evidence.CHECKSUM),
    "different": Verdict(False, Evidence.CHECKSUM, "CRC32 differs"),
    "by bytes": Verdict(True, Evidence.CONTENT),
    "damaged": Verdict(False, Evidence.CONTENT, "the source is damaged", is_source_damaged=True),
    "intact": Verdict(False, Evidence.CONTENT, "content differs at byte 1", is_copy_intact=True),
    "unknown": Verdict(None, Evidence.NONE, "nothing comparable"),
}
ACTIONS = {
    "missing": (False, False, None, Status.MISSING),
    "changed": (False, False, None, Status.CHANGED),
    "changed: it is in the way": (False, False, None, Status.CHANGED),
    "changed: it is newer": (False, False, None, Status.CHANGED),
    "changed: which is newer": (False, False, None, Status.CHANGED),
    "trace": (False, False, None, None),
    "archived": (False, False, None, Status.ARCHIVED),
    "same": (False, False, None, Status.SAME),
    "copy, nothing there": (True, False, None, None),
    "copy over it": (True, False, "the destination's", None),
    "prove": (False, True, None, None),
    "damaged": (False, False, None, Status.DAMAGED),
}

REASONS = {
    "missing": ["the source object is gone"],
    "changed": ["not the object that the manifest names"],
    "changed: it is in the way": ["at the destination", "CRC32 differs"],
    "changed: it is newer": ["destination is newer"],
    "changed: which is newer": ["which is newer is unknown", "--overwrite always", "CRC32 differs"],
    "archived": ["must be restored"],
    "damaged": ["the source is damaged"],
}
"""What a user reads of each ending. An action that goes on has no reason."""

ROWS = [
    # source, destination, verdict, overwrite, action, why
    ("gone", "", "", "", "missing", "there is nothing to copy, and what is at the destination is not ours to judge"),
    (
        "another ETag",
        "",
        "",
        "",
        "changed",
        "the row is about other bytes: a copy of these would be reported as its own",
    ),
    (
        "archived",
        "not there",
        "",
        "",
        "archived",
        "S3 cannot read it before a restore, and that costs: a person decides",
    ),
    ("there", "not there", "", "", "copy, nothing there", "and only while nothing is: a writer in between must win"),
    (
        "there",
        "the condemned ETag",
        "same",
        "",
        "prove",
        "its bytes were found wrong: the checksums and the ETag beside them agreed then as they do now",
    ),
    ("archived", "the condemned ETag", "same", "", "archived", "its bytes cannot be read before a restore"),
    ("there", "there", "same", "", "same", "a second copy would cost, and add a version"),
    ("there", "there", "by bytes", "", "same", "all bytes of both were read"),
    ("there", "the condemned ETag", "by bytes", "", "same", "all bytes of both were read, after the finding"),
    ("archived", "there", "same", "", "same", "what is proven the same needs no reading"),
    ("archived", "there", "different", "", "archived", "a copy is needed, and cannot be made before a restore"),
    ("archived", "there", "unknown", "", "archived", "its bytes cannot be read for a proof either"),
    ("there", "there", "unknown", "", "prove", "before a write it must be known that the other object differs"),
    ("there", "there", "damaged", "", "damaged", "the copy may be the last good one"),
    ("there", "the condemned ETag", "damaged", "", "damaged", "the copy was condemned by the bytes of the source"),
    (
        "there",
        "the condemned ETag",
        "different",
        "",
        "copy over it",
        "a verify proved this very object wrong: it may go, though it is newer, and under --overwrite never",
    ),
    (
        "there",
        "the condemned ETag",
        "intact",
        "older",
        "changed: it is newer",
        "the source may have rotted: then this is the last good copy",
    ),
    ("there", "there", "different", "never", "changed: it is in the way", "the user said so"),
    ("there", "there", "different", "always", "copy over it", "the user said so; only that object, by its ETag"),
    ("there", "older than the source", "different", "older", "copy over it", "the source was written after it"),
    (
        "in parts",
        "as new or newer",
        "different",
        "older",
        "trace",
        "S3 dates it by the beginning of its upload, so a copy of the object before it may look newer",
    ),
    (
        "in parts",
        "made from an older version",
        "different",
        "older",
        "copy over it",
        "so it is stale, whatever its date",
    ),
    (
        "in parts",
        "of unknown origin",
        "different",
        "older",
        "changed: which is newer",
        "it may be somebody's newer work: never replaced on a guess",
    ),
    (
        "there",
        "as new or newer",
        "different",
        "older",
        "changed: it is newer",
        "somebody's newer work is never replaced",
    ),
]
"""What is right, written down apart from the code. The first row that fits decides."""


def table() -> list[tuple[str, ...]]:
    lines = [
        line.strip().strip("|").split("|")
        for line in (decide.__doc__ or "").splitlines()
        if line.strip().startswith("|")
    ]
    return [
        tuple(cell.strip() for cell in line)
        for line in lines
        if not re.match(r"^[-|]+$", "".join(line)) and line[0].strip() != "source"
    ]


@pytest.mark.parametrize(("source", "destination", "verdict", "overwrite", "action", "why"), ROWS)
def test_every_row_is_decided_as_is_right(
    source: str, destination: str, verdict: str, overwrite: str, action: str, why: str
) -> None:
    tried = 0
    for there in [DESTINATIONS[destination]] if destination else DESTINATIONS.values():
        for judged in [VERDICTS[verdict]] if verdict else VERDICTS.values():
            for rule in [Overwrite(overwrite)] if overwrite else list(Overwrite):
                if there is not None and there.etag == "bad" and destination != "the condemned ETag":
                    continue
                row = ROW._replace(etag=IN_PARTS) if source == "in parts" else ROW
                origin = ORIGINS.get(destination)
                result = decide(row, SOURCES[source], there, judged if there else None, rule, origin)
                assert result.trace == (action == "trace"), why
                copy, prove, replaces, status = ACTIONS[action]
                expected = there.etag if replaces and there else None
                decided = (result.copy, result.prove, result.replaces, result.status)
                assert decided == (copy, prove, expected, status), why
                assert [each for each in REASONS.get(action, []) if each not in result.reason] == []
                assert bool(result.reason) == (action in REASONS)
                tried += 1
    assert tried > 0


def test_the_docstring_shows_these_rows() -> None:
    assert table() == [row[:5] for row in ROWS]


def test_an_outcome_that_is_no_copy_says_why() -> None:
    result = decide(ROW, SOURCES["there"], DESTINATIONS["as new or newer"], VERDICTS["different"])
    assert "newer" in result.reason
    assert "CRC32" in result.reason


def test_a_row_without_an_etag_is_about_what_is_there_now() -> None:
    assert decide(ObjectVersion(0, "key"), SOURCES["there"], None, None).copy


def test_a_row_with_a_size_alone_is_not_about_an_object_of_another_size() -> None:
    """Verify called such a row changed, and replicate copied the other object, with exit code 0."""
    row = ObjectVersion(0, "key", size_bytes=999)
    assert decide(row, SOURCES["there"], None, None).status is Status.CHANGED
    assert decide(row._replace(size_bytes=1), SOURCES["there"], None, None).copy
    assert decide(row._replace(etag="e1"), SOURCES["there"], None, None).copy  # the ETag says more


def test_always_replaces_what_is_newer_as_well() -> None:
    newer = DESTINATIONS["as new or newer"]
    result = decide(ROW, SOURCES["there"], newer, VERDICTS["different"], Overwrite.ALWAYS)
    assert (result.copy, result.replaces) == (True, "d1")


def test_of_two_that_differ_where_the_copy_may_be_the_right_one_a_person_decides() -> None:
    row = ROW._replace(etag=IN_PARTS)
    there = DESTINATIONS["of unknown origin"]
    result = decide(row, SOURCES["in parts"], there, VERDICTS["intact"], Overwrite.OLDER, Origin.UNKNOWN)
    assert result.status is Status.CHANGED
    assert "one of the two is wrong" in result.reason


def test_two_objects_that_nobody_compared_are_not_decided() -> None:
    with pytest.raises(ValueError, match="verdict"):
        decide(ROW, SOURCES["there"], DESTINATIONS["there"], None)
