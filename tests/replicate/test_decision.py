"""The truth table in `decide`'s docstring, replayed line by line."""

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
}


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


@pytest.mark.parametrize(("source", "destination", "verdict", "overwrite", "action"), table())
def test_decide_does_what_its_table_says(
    source: str, destination: str, verdict: str, overwrite: str, action: str
) -> None:
    tried = 0
    for there in [DESTINATIONS[destination]] if destination else DESTINATIONS.values():
        for judged in [VERDICTS[verdict]] if verdict else VERDICTS.values():
            for rule in [Overwrite(overwrite)] if overwrite else list(Overwrite):
                if there is not None and there.etag == "bad" and destination != "the condemned ETag":
                    continue
                if destination == "the condemned ETag" and judged.same:
                    continue  # an earlier line decides: it is the same after all
                row = ROW._replace(etag=IN_PARTS) if source == "in parts" else ROW
                origin = ORIGINS.get(destination)
                result = decide(row, SOURCES[source], there, judged if there else None, rule, origin)
                assert result.trace == (action == "trace")
                copy, prove, replaces, status = ACTIONS[action]
                expected = there.etag if replaces and there else None
                assert (result.copy, result.prove, result.replaces, result.status) == (copy, prove, expected, status)
                tried += 1
    assert tried > 0


def test_the_table_is_read() -> None:
    assert len(table()) == 17


def test_an_outcome_that_is_no_copy_says_why() -> None:
    result = decide(ROW, SOURCES["there"], DESTINATIONS["as new or newer"], VERDICTS["different"])
    assert "newer" in result.reason
    assert "CRC32" in result.reason
