"""What may be deleted: the table, and that nothing is deleted without every one of its conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    parse_time,
)
from jobs.core.outcome import Evidence
from jobs.core.reasons import Cause, Reason
from jobs.errors import DamagedArchive
from jobs.expire.copy_columns import MEMBER, SCHEMA, read_copies
from jobs.expire.rules import CopyAt, Original, Proven, Terms, decide
from tests.archives.samples import member

DAY = 86_400.0
NOW = 1_000 * DAY
TERMS = Terms(NOW, 30 * DAY, True, [Location("cold"), Location("b", "copies/")])
ROW = ObjectVersion(0, "k", "v1", size_bytes=3, etag="e", last_modified=0.0)
COPY = CopyAt("cold", "a.tar", "archive-etag")


class Facts(NamedTuple):
    """What S3 says of an original."""

    version_id: str | None
    etag: str
    size_bytes: int
    last_modified: float
    lock: ObjectLock | None = None
    hidden_at: float | None = None
    newest_etag: str | None = None
    unsent_metadata: int = 0

    @property
    def above(self) -> tuple[Listed, ...]:
        """What lies above it: a newer version below a delete marker, or that alone."""
        if self.hidden_at is None:
            return ()
        newest = Listed("k", "v8", False, False, 3, self.newest_etag, self.hidden_at, "STANDARD")
        marker = Listed("k", "v9", True, True, None, None, self.hidden_at, None)
        return (newest, marker) if self.newest_etag else (marker,)


def judge(
    row: ObjectVersion,
    copy: CopyAt,
    facts: Facts,
    verdict: Verdict | None,
    current: ObjectInfo | None,
    terms: Terms,
) -> Step | Cause | None:
    attributes = Attributes(lock=facts.lock)
    info = ObjectInfo(facts.size_bytes, facts.etag, facts.last_modified, facts.version_id, "", attributes=attributes)
    info = replace(info, unsent_metadata=facts.unsent_metadata)
    original = Original(row, copy, ObjectRef("docs", row.key, facts.version_id), info, facts.above)
    return decide(original, verdict and Proven(verdict, current, 0.0), terms)


ORIGINAL = Facts("v1", "e", 3, 0.0)
SAME = Verdict(True, Evidence.CHECKSUM)
PACKED = replace(COPY, member=member("k", last_modified=0.5))
UNVERSIONED = ROW._replace(version_id=None), ORIGINAL._replace(version_id=None)


THERE = ObjectInfo(3, "e", 0.0, "v1", "STANDARD")
"""What HEAD says of the copy."""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"row": ROW._replace(is_delete_marker=True)}, Reason.IS_MARKER),
        ({"copy": CopyAt("b", "other/k")}, Reason.KEPT),
        ({"copy": CopyAt("c", "copies/k")}, Reason.KEPT),
        ({"terms": TERMS._replace(places=[])}, Reason.KEPT),
        ({"terms": TERMS._replace(prefix="docs/")}, Reason.KEPT),
        ({"row": ROW._replace(etag=None)}, Reason.SOURCE_REPLACED),
        ({"row": ROW._replace(version_id="null")}, Reason.SOURCE_REPLACED),
        ({"facts": ORIGINAL._replace(version_id="v2")}, Reason.SOURCE_REPLACED),
        ({"facts": ORIGINAL._replace(etag="f")}, Reason.SOURCE_REPLACED),
        ({"facts": ORIGINAL._replace(size_bytes=4)}, Reason.SOURCE_REPLACED),
        (
            {"row": UNVERSIONED[0], "copy": PACKED, "facts": UNVERSIONED[1]._replace(last_modified=1.5)},
            Reason.SOURCE_REPLACED,
        ),
        ({"facts": ORIGINAL._replace(lock=ObjectLock(legal_hold=True))}, Reason.KEPT),
        ({"facts": ORIGINAL._replace(lock=ObjectLock(event_hold=True))}, Reason.KEPT),
        ({"facts": ORIGINAL._replace(unsent_metadata=1)}, Reason.KEPT),
        ({"facts": ORIGINAL._replace(lock=ObjectLock("GOVERNANCE", "1972-10-01T00:00:00Z"))}, Reason.KEPT),
        ({"facts": ORIGINAL._replace(lock=ObjectLock("COMPLIANCE", "some day"))}, Reason.KEPT),
        ({"facts": ORIGINAL._replace(last_modified=NOW - 29 * DAY)}, Reason.TOO_NEW),
        ({"current": replace(THERE, last_modified=NOW - DAY)}, Reason.TOO_NEW),
        ({"current": None}, Reason.NOTHING_COMPARABLE),
        ({"facts": ORIGINAL._replace(hidden_at=NOW - DAY)}, Reason.TOO_NEW),
        (
            {"facts": ORIGINAL._replace(hidden_at=0.0, newest_etag="f")},
            Reason.COPY_COVERED,
        ),
        ({"verdict": Verdict(False, Evidence.CHECKSUM, Reason.CHECKSUM_DIFFERS)}, Reason.CHECKSUM_DIFFERS),
        ({"verdict": Verdict(False, Evidence.NONE, Reason.SIZE_DIFFERS)}, Reason.SIZE_DIFFERS),
        ({"verdict": Verdict(None, Evidence.NONE, Reason.EVIDENCE_WEAK)}, Reason.EVIDENCE_WEAK),
        ({"verdict": Verdict(True, Evidence.NONE)}, Reason.NOTHING_COMPARABLE),
        (
            {
                "row": ROW._replace(version_id="null"),
                "facts": ORIGINAL._replace(version_id="null", hidden_at=0.0),
                "terms": TERMS._replace(is_versioned=False),
            },
            Reason.KEPT,
        ),
    ],
)
def test_what_keeps_an_original(change: dict[str, Any], reason: Reason) -> None:
    given_: dict[str, Any] = {
        "row": ROW,
        "copy": COPY,
        "facts": ORIGINAL,
        "verdict": SAME,
        "current": THERE,
        "terms": TERMS,
    } | change
    decision = judge(**given_)
    assert isinstance(decision, Cause)
    assert decision.reason == reason


@pytest.mark.parametrize("copy", [PACKED, COPY])
@pytest.mark.parametrize("modified", [0.0, 1.0])
def test_the_object_that_was_packed_goes_by_whatever_date_its_listing_has(copy: CopyAt, modified: float) -> None:
    row, original = UNVERSIONED
    terms = TERMS._replace(is_versioned=False)
    assert judge(row, copy, original._replace(last_modified=modified), SAME, THERE, terms) == Step.REMOVE
    later = ORIGINAL._replace(last_modified=modified + 9)  # a version id names one object, whatever its date
    assert judge(ROW, PACKED, later, SAME, THERE, TERMS) == Step.HIDE


@pytest.mark.parametrize(
    ("is_current", "is_versioned", "step"),
    [(True, True, Step.HIDE), (True, False, Step.REMOVE), (False, True, Step.REMOVE), (False, False, Step.REMOVE)],
)
def test_how_a_proven_original_goes(is_current: bool, is_versioned: bool, step: Step) -> None:
    original = ORIGINAL._replace(hidden_at=None if is_current else NOW - 31 * DAY)
    row = ROW
    if is_current and not is_versioned:  # where there never were versions, an object has no version id
        original, row = original._replace(version_id=None), ROW._replace(version_id=None)
    terms = TERMS._replace(is_versioned=is_versioned)
    assert judge(row, COPY, original, None, None, terms) is None
    assert judge(row, COPY, original, SAME, THERE, terms) is step


@pytest.mark.parametrize(
    ("newest_etag", "copy"), [(None, COPY), ("e", COPY), ("f", PACKED)], ids=["hidden", "equal", "archived"]
)
def test_an_old_version_goes_if_no_newer_one_takes_the_place_of_its_copy(newest_etag: str | None, copy: CopyAt) -> None:
    original = ORIGINAL._replace(hidden_at=0.0, newest_etag=newest_etag)
    assert judge(ROW, copy, original, SAME, THERE, TERMS) == Step.REMOVE


@pytest.mark.parametrize("version_id", ["v1", "null"])
def test_what_is_current_where_versioning_is_suspended_stays(version_id: str) -> None:
    """Removing it would bring an older version back."""
    original = ORIGINAL._replace(version_id=version_id)
    terms = TERMS._replace(is_versioned=False)
    decision = judge(ROW._replace(version_id=version_id), COPY, original, SAME, THERE, terms)
    assert decision == Cause(Reason.KEPT, "suspended")


times = st.sampled_from([0.0, NOW - 31 * DAY, NOW - 29 * DAY, NOW])
copies = st.builds(
    CopyAt, st.sampled_from(["b", "c"]), st.sampled_from(["k", "copies/k"]), st.sampled_from([None, "x"])
)
currents = st.none() | st.builds(ObjectInfo, st.just(3), st.just("e"), times, st.none(), st.just("STANDARD"))
locks = st.none() | st.builds(
    ObjectLock,
    st.sampled_from([None, "GOVERNANCE", "COMPLIANCE"]),
    st.sampled_from([None, "1970-01-02T00:00:00Z", "2099-01-01T00:00:00Z"]),
    st.booleans(),
)
versions = st.sampled_from([None, "null", "v1", "v2"])
etags = st.sampled_from(["e", "f"])
rows = st.builds(
    ObjectVersion,
    st.just(0),
    st.just("k"),
    versions,
    is_delete_marker=st.booleans(),
    etag=etags | st.none(),
    size_bytes=st.sampled_from([None, 3, 4]),
)
originals = st.builds(
    Facts,
    versions,
    etags,
    st.just(3),
    times,
    locks,
    st.none() | times,
    newest_etag=etags | st.none(),
)
verdicts = st.none() | st.builds(Verdict, st.sampled_from([True, False, None]), st.sampled_from(Evidence))


@given(rows, copies, originals, verdicts, currents, st.booleans())
def test_nothing_goes_unless_everything_speaks_for_it(
    row: ObjectVersion,
    copy: CopyAt,
    original: Facts,
    verdict: Verdict | None,
    current: ObjectInfo | None,
    is_versioned: bool,
) -> None:
    decision = judge(row, copy, original, verdict, current, TERMS._replace(is_versioned=is_versioned))
    assert decision is not None or verdict is None
    if not isinstance(decision, Step):
        return
    assert verdict is not None
    assert current is not None
    assert verdict.same is True
    assert verdict.evidence is not Evidence.NONE
    assert (copy.bucket, copy.key) == ("b", "copies/k")
    assert (row.etag, row.size_bytes or 3) == (original.etag, original.size_bytes)
    assert row.version_id in (None, original.version_id or "null")
    assert original.hidden_at is None or original.newest_etag in (None, original.etag)
    assert max(current.last_modified, original.last_modified, original.hidden_at or 0) <= NOW - 30 * DAY
    lock = original.lock or ObjectLock()
    assert not lock.legal_hold
    assert lock.mode is None or lock.retain_until == "1970-01-02T00:00:00Z"
    if is_versioned and original.hidden_at is None:  # what can be undone is done first
        assert decision is Step.HIDE


def test_the_grace_period_ends_with_its_last_second() -> None:
    for seconds, waits in ((30 * DAY - 1, True), (30 * DAY, False)):
        original = ORIGINAL._replace(last_modified=NOW - seconds)
        assert judge(ROW, COPY, original, SAME, THERE, TERMS) == (
            Cause(Reason.TOO_NEW, "written") if waits else Step.HIDE
        )


@pytest.mark.parametrize(
    ("until", "is_kept"), [("1972-09-27T00:00:00Z", False), ("1972-09-27T00:00:01Z", True), (None, True)]
)
def test_retention_ends_at_its_time(until: str | None, is_kept: bool) -> None:
    original = ORIGINAL._replace(lock=ObjectLock("COMPLIANCE", until))
    assert parse_time("1972-09-27T00:00:00Z") == NOW
    assert isinstance(judge(ROW, COPY, original, SAME, THERE, TERMS), Cause) is is_kept


def test_a_time_without_a_mode_is_no_retention() -> None:
    original = ORIGINAL._replace(lock=ObjectLock(None, "2099-01-01T00:00:00Z"))
    assert judge(ROW, COPY, original, SAME, THERE, TERMS) is Step.HIDE


def test_a_null_version_below_others_goes_by_its_id_where_versions_are_kept() -> None:
    row, original = ROW._replace(version_id="null"), ORIGINAL._replace(version_id="null", hidden_at=0.0)
    assert judge(row, COPY, original, SAME, THERE, TERMS) == Step.REMOVE


def test_an_object_without_a_version_id_is_the_null_version() -> None:
    row, original = ROW._replace(version_id="null"), ORIGINAL._replace(version_id=None)
    assert judge(row, COPY, original, SAME, THERE, TERMS._replace(is_versioned=False)) == Step.REMOVE


ROWS = [
    None,
    COPY,
    replace(PACKED, member=member("k", b"x", checksums=(Checksum("SHA256", "eA=="),))),
    CopyAt("b", "k"),
]
TEXTS = SCHEMA.names[-5:-1]


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
    *(("copy_bucket", pa.nulls(4)), ("copy_key", pa.nulls(4)), ("copy_etag", pa.nulls(4))),
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
