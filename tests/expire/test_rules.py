"""What may be deleted: the table, and that nothing is deleted without every one of its conditions."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from jobs.archives.index_tables import to_batch
from jobs.core.enums import Step
from jobs.core.evidence import Verdict
from jobs.core.model import (
    Attributes,
    Checksum,
    Listed,
    Location,
    ObjectInfo,
    ObjectLock,
    ObjectRef,
    ObjectVersion,
)
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason
from jobs.errors import DamagedArchive
from jobs.expire.copy_columns import MEMBER, SCHEMA, read_copies
from jobs.expire.rules import Candidate, CopyAt, Terms, decide
from tests.archives.samples import member

DAY = 86_400.0
NOW = 1_000 * DAY
TERMS = Terms(NOW, 30 * DAY, True, [Location("cold"), Location("b", "copies/")])
ROW = ObjectVersion(0, "k", "v1", size_bytes=3, etag="e", last_modified=0.0)
COPY = CopyAt("cold", "a.tar")
PACKED = replace(COPY, member=member("k", last_modified=0.5))
SAME = Verdict(True, Evidence.CHECKSUM)
THERE = ObjectInfo(3, "e", 0.0, "v1", "STANDARD")
"""What HEAD says of the original, and of the copy."""


def made(
    row: ObjectVersion = ROW,
    at: CopyAt = COPY,
    verdict: Verdict | None = SAME,
    copy: ObjectInfo | None = THERE,
    lock: ObjectLock | None = None,
    hidden_at: float | None = None,
    is_below: bool = False,
    **info: Any,
) -> Candidate:
    """A candidate that goes, but for what is said. Above it: nothing, or a marker and what that hides."""
    seen = replace(THERE, attributes=Attributes(lock=lock), **info)
    newest = Listed("k", "v8", False, False, 3, "e", hidden_at or 0.0, "STANDARD")
    marker = Listed("k", "v9", True, True, None, None, hidden_at or 0.0, None)
    above = () if hidden_at is None else (newest, marker) if is_below else (marker,)
    return Candidate(row, at, ObjectRef("docs", row.key, seen.version_id), seen, above, verdict, copy)


def row(**changes: Any) -> dict[str, Any]:
    return {"row": ROW._replace(**changes)}


def lock(*fields: Any, **named: Any) -> dict[str, Any]:
    return {"lock": ObjectLock(*fields, **named)}


UNVERSIONED = row(version_id=None) | {"version_id": None}
NULL = row(version_id="null") | {"version_id": "null"}
HIDDEN = {"hidden_at": NOW - 31 * DAY}
OFF = {"is_versioned": False}
TABLE: list[tuple[Step | Reason | Cause | None, dict[str, Any], dict[str, Any]]] = [
    (Reason.IS_MARKER, row(is_delete_marker=True), {}),
    (Reason.KEPT, {"at": CopyAt("b", "other/k")}, {}),
    (Cause(Reason.KEPT, "copies"), {"at": CopyAt("c", "copies/k")}, {}),
    (Cause(Reason.KEPT, "outside"), {}, {"prefix": "docs/"}),
    (Reason.SOURCE_REPLACED, row(etag=None), {}),
    (Reason.SOURCE_REPLACED, row(version_id="null"), {}),
    (Reason.SOURCE_REPLACED, {"version_id": "v2"}, {}),
    (Reason.SOURCE_REPLACED, {"etag": "f"}, {}),
    (Reason.SOURCE_REPLACED, {"size_bytes": 4}, {}),
    (Reason.SOURCE_CHANGED, row(is_latest=False), {}),
    (Reason.SOURCE_REPLACED, UNVERSIONED | {"at": PACKED, "last_modified": 1.5}, {}),
    (Reason.KEPT, lock(legal_hold=True), {}),
    (Reason.KEPT, lock(event_hold=True), {}),
    (Reason.KEPT, lock("COMPLIANCE", "some day"), {}),
    (Reason.KEPT, lock("COMPLIANCE", None), {}),
    (Reason.KEPT, lock("GOVERNANCE", "1972-09-27T00:00:01Z"), {}),
    (Step.HIDE, lock("GOVERNANCE", "1972-09-27T00:00:00Z"), {}),  # retention ends at its time, which is NOW
    (Step.HIDE, lock(None, "2099-01-01T00:00:00Z"), {}),  # without a mode it is no retention
    (Cause(Reason.KEPT, "metadata"), {"unsent_metadata": 1}, {}),
    (Cause(Reason.TOO_NEW, "written"), {"last_modified": NOW - 30 * DAY + 1}, {}),
    (Step.HIDE, {"last_modified": NOW - 30 * DAY}, {}),
    (Cause(Reason.TOO_NEW, "hidden"), {"hidden_at": NOW - DAY}, {}),
    (Cause(Reason.TOO_NEW, "copied"), {"copy": replace(THERE, last_modified=NOW - DAY)}, {}),
    (Reason.NOTHING_COMPARABLE, {"copy": None}, {}),
    (Reason.COPY_COVERED, HIDDEN | {"is_below": True}, {}),  # by an equal one, whose metadata may be other
    (Reason.CHECKSUM_DIFFERS, {"verdict": Verdict(False, Evidence.CHECKSUM, Reason.CHECKSUM_DIFFERS)}, {}),
    (Reason.SIZE_DIFFERS, {"verdict": Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)}, {}),
    (Reason.EVIDENCE_WEAK, {"verdict": Verdict(None, Evidence.NONE, Reason.EVIDENCE_WEAK)}, {}),
    (Reason.NOTHING_COMPARABLE, {"verdict": Verdict(True, Evidence.NONE)}, {}),
    (Cause(Reason.KEPT, "null"), NULL | HIDDEN, OFF),
    (Cause(Reason.KEPT, "suspended"), {}, OFF),  # removing it would bring an older version back
    (Cause(Reason.KEPT, "suspended"), NULL, OFF),
    (None, {"verdict": None}, {}),  # compare it
    (None, HIDDEN | {"verdict": None}, {}),
    (Step.HIDE, {}, {}),
    (Step.REMOVE, HIDDEN, {}),
    (Step.REMOVE, HIDDEN, OFF),
    (Step.REMOVE, UNVERSIONED, OFF),
    (Step.REMOVE, row(version_id="null") | {"version_id": None}, OFF),  # without an id it is the null version
    (Step.REMOVE, NULL | HIDDEN, {}),
    (Step.REMOVE, HIDDEN | {"is_below": True, "at": PACKED}, {}),
    (Step.REMOVE, UNVERSIONED | {"at": PACKED, "last_modified": 1.0}, OFF),  # as packed, by HEAD's seconds
    (Step.HIDE, {"at": PACKED, "last_modified": 9.0}, {}),  # a version id names one object, whatever its date
]


@pytest.mark.parametrize(("expected", "changes", "terms"), TABLE)
def test_what_keeps_an_original_and_how_one_goes(
    expected: Step | Reason | Cause | None, changes: dict[str, Any], terms: dict[str, Any]
) -> None:
    decision = decide(made(**changes), TERMS._replace(**terms))
    assert (decision.reason if isinstance(expected, Reason) and isinstance(decision, Cause) else decision) == expected


OF_SOME = (Reason.COPY_COVERED, Reason.SOURCE_CHANGED, Cause(Reason.KEPT, "null"), Cause(Reason.KEPT, "suspended"))
"""What keeps only a replica's original, a null version below others, or what is current."""


def test_what_keeps_an_original_keeps_it_whatever_else_is_so() -> None:
    """Each line that keeps with each other line, whichever of them go alone."""
    keeping = [each for each in TABLE if isinstance(each[0], Reason | Cause) and each[0] not in OF_SOME]
    asked = 0
    for (_, keeps, keeping_terms), (_, changes, terms) in itertools.product(keeping, TABLE):
        if not keeps.keys() & changes.keys() and not keeping_terms.keys() & terms.keys():
            decision = decide(made(**keeps, **changes), TERMS._replace(**keeping_terms, **terms))
            unknown = decision is None and "verdict" in changes
            assert isinstance(decision, Cause) or unknown, (keeps, changes)
            asked += 1
    assert asked > 850


ROWS = [
    None,
    COPY,
    replace(PACKED, member=member("k", b"x", checksums=(Checksum("SHA256", "eA=="),))),
    CopyAt("b", "k"),
]
TEXTS = SCHEMA.names[-4:-1]


def written() -> pa.RecordBatch:
    """The columns of a shard with these copies."""
    columns: dict[str, Any] = {
        name: pa.array([each and getattr(each, name.removeprefix("copy_")) for each in ROWS], pa.string())
        for name in TEXTS
    }
    members: Any = to_batch([each.member for each in ROWS if each and each.member]).to_struct_array().cast(MEMBER)
    places = iter(range(len(members)))
    numbers = pa.array([next(places) if each and each.member else None for each in ROWS], pa.int64())
    return pa.RecordBatch.from_pydict({**columns, "copy_member": members.take(numbers)})


def test_copies_are_read_as_they_were_written() -> None:
    assert list(read_copies(written())) == ROWS


FORGED = [
    *((name, pa.array([b"\xff"] * 4)) for name in TEXTS),
    *(("copy_member", pa.array([{"key": "k"}] * 4)), ("copy_member", pa.array(["k"] * 4))),
]


@pytest.mark.parametrize(("name", "values"), FORGED)
def test_copies_of_any_other_form_are_refused(name: str, values: Any) -> None:
    """A row of a shard may come from anybody who can write the ledger."""
    batch = written()
    altered = batch.set_column(batch.schema.get_field_index(name), name, values)
    with pytest.raises((pa.ArrowException, DamagedArchive, ValueError, KeyError)):
        list(read_copies(altered))
