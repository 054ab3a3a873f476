"""How each version of a key ends by the copies that are there: the table of `verify_key`, replayed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Listed, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.sync.verify import verify_key
from tests.doubles.examples import examples

SIZE_BYTES = 10
ROTTEN, MARKER, SEALED = "!", "-", "?"
"""Suffixes of contents: a copy that rotted below its ETag, a version whose copies cannot be compared; and a marker."""


class ByContent:
    """Compares contents, which ETags hide. Counts the comparisons."""

    def __init__(self, source: list[str], copies: list[str]):
        self.source, self.copies = source, copies
        self.asked: list[tuple[str, str]] = []

    def _contents(self, version: ObjectVersion, copy: Listed) -> tuple[str, str]:
        return self.source[int(version.version_id or 0)], self.copies[int(copy.version_id or 0)]

    async def compare(self, version: ObjectVersion, copy: Listed) -> Outcome:
        ours, theirs = self._contents(version, copy)
        self.asked.append((ours, theirs))
        if theirs == MARKER:
            return Outcome.of(version, Status.DIFFERENT, Reason.MARKER_DIFFERS)
        if ours == theirs:
            return Outcome.of(version, Status.UNKNOWN if SEALED in ours else Status.VERIFIED)
        return Outcome.of(version, Status.DIFFERENT, Reason.CONTENT_DIFFERS)

    async def claims(self, version: ObjectVersion, copy: Listed, outcome: Outcome) -> bool:
        ours, theirs = self._contents(version, copy)
        return ours == theirs.rstrip(ROTTEN)

    async def is_current(self, version: ObjectVersion) -> bool:
        return version.version_id == str(len(self.source) - 1)


def verify(
    source: str, copies: str, *, named: str = "", is_listed: bool = True
) -> tuple[dict[str, Outcome], ByContent]:
    """Version → its outcome. Histories are contents, oldest first, with spaces between."""
    ours, theirs = source.split(), copies.split()
    by = ByContent(ours, theirs)
    wanted = named.split() or ours
    versions = [
        ObjectVersion(n if each in wanted else -1, "k", str(n), False, each == MARKER, SIZE_BYTES, f"s{n}", float(n))
        for n, each in enumerate(ours)
    ]
    there = [
        Listed("k", str(n), False, each == MARKER, SIZE_BYTES, f"d{n}", 100.0 + n, None)
        for n, each in enumerate(theirs)
    ]
    ends = asyncio.run(verify_key(versions, there, by, is_listed=is_listed))
    return {ours[int(version_id or 0)]: end for version_id, end in ends.items()}, by


TABLE: dict[str, list[tuple[str, str, str]]] = {
    "a marker, newest: no object is on top of the copies": [("a -", "a -", MARKER), ("-", "", MARKER)],
    "a marker: there is one between the copies around it": [("a - b", "a - b", MARKER)],
    "a marker, a newer version has a copy": [("a - b", "a b", MARKER)],
    "a marker": [("a - b", "a", MARKER), ("a -", "a", MARKER)],
    "matched, current, below a delete marker": [("a", "a -", "a")],
    "matched, current, below an object that differs": [("a", "a x", "a"), ("a b", "a b a", "b")],
    "matched": [("a", "a", "a"), ("a b", "a b", "a"), ("a b", "b a b", "b"), ("a", "a a", "a")],
    "unmatched, a free copy differs, and is its copy by ETag and such": [("a b", "x a! b", "a"), ("a", "a!", "a")],
    "unmatched, a comparison ended otherwise": [],
    "unmatched, as many copies as versions, a free one in its place": [("a b", "a x", "b"), ("a b c", "a x c", "b")],
    "unmatched": [("a b", "a", "b"), ("a", "", "a"), ("a b", "a x x", "b")],
}


def test_the_table_of_verify_key() -> None:
    lines = [line.strip().strip("|").split("|") for line in (verify_key.__doc__ or "").splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line] for line in lines[2:]]
    assert [line[0] for line in cells] == list(TABLE)
    for what, end in cells:
        status, _, reason = end.partition(": ")
        for source, copies, version in TABLE[what]:
            outcome = verify(source, copies)[0][version]
            told = "verified" if what == "matched" else status
            assert outcome.status == told, (what, source, copies, outcome)
            assert not reason or outcome.reason == reason, (what, source, copies)


def test_a_comparison_that_ends_otherwise_is_the_versions_end() -> None:
    assert verify("a?", "a?")[0]["a?"].status is Status.UNKNOWN


@pytest.mark.parametrize("copies", ["x", "x y", "a!"])
def test_nothing_is_called_damaged_by_its_place_if_nobody_may_list_the_source(copies: str) -> None:
    expected = Status.DIFFERENT if ROTTEN in copies else Status.MISSING
    assert verify("a", copies, is_listed=False)[0]["a"].status is expected


def test_only_named_versions_are_compared() -> None:
    ends, by = verify("a b c", "a b c", named="c")
    assert (set(ends), by.asked) == ({"c"}, [("c", "c")])


contents = st.lists(st.sampled_from(["a", "b", "c", MARKER]), max_size=6)


@settings(max_examples=examples(100), deadline=None)
@given(contents, contents)
def test_a_version_is_verified_only_by_a_copy_of_its_own(source: list[str], copies: list[str]) -> None:
    by = ByContent(source, copies)
    versions = [
        ObjectVersion(n, "k", str(n), False, each == MARKER, SIZE_BYTES, f"s{n}", float(n))
        for n, each in enumerate(source)
    ]
    there = [Listed("k", str(n), False, c == MARKER, SIZE_BYTES, f"d{n}", 9.0, None) for n, c in enumerate(copies)]
    ends: Any = asyncio.run(verify_key(versions, there, by, is_listed=True))
    for content in "abc":
        verified = sum(end.status is Status.VERIFIED and source[int(n)] == content for n, end in ends.items())
        assert verified <= copies.count(content)
        if copies and copies[-1] != MARKER and source and source[-1] == content != copies[-1]:
            assert ends[str(len(source) - 1)].status is not Status.VERIFIED, "readers get another one"
    assert len(by.asked) <= 2 * max(1, len(source)) * max(1, len(copies))
    if source == copies:
        assert {end.status for end in ends.values()} <= {Status.VERIFIED, Status.LEFT}


@pytest.mark.parametrize("there", [range(60), range(1, 60), [*range(20), *range(21, 60)], range(30), range(59, -1, -1)])
def test_many_versions_of_one_size_cost_a_few_comparisons_each(there: Any) -> None:
    ends, by = verify(" ".join(f"c{n}" for n in range(60)), " ".join(f"c{n}" for n in there))
    assert len(by.asked) <= 4 * 60 if list(there) == sorted(there) else 60 * 60
    verified = {content for content, end in ends.items() if end.status is Status.VERIFIED}
    on_top = f"c{[*there][-1]}"
    assert verified == {f"c{n}" for n in there} - ({"c59"} if on_top != "c59" else set())
