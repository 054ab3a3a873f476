"""Which rows of a plan are done by a list of the destination, and that all of them are accounted for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Listed, Location, ObjectVersion, Repair
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.pricing import Histogram
from jobs.core.run import Plan, RunSpec, Side
from jobs.core.selection import Selection
from jobs.ledger.ledger import Ledger
from jobs.ledger.state_files import compact
from jobs.runs import there
from jobs.runs.planning import plan_rows
from jobs.runs.sharding import Shards
from jobs.runs.there import Copies, PackedCopies
from jobs.tables.rows import PLANNED, done_outcomes, manifest_batch, read_outcomes, read_shard
from tests.doubles.examples import examples
from tests.doubles.few_rows import manifest_of, there_of
from tests.doubles.memory_store import MemoryStore
from tests.doubles.packed_copies import md5, packed_copies
from tests.ledger.looks import BEGAN, Seen, tell

MD5 = [f"{number:032x}" for number in range(3)]
SIDES = Side(Location("source", "in/")), Side(Location("copies", "out/"))
RUN = RunSpec("20261201T000000Z-replicate-000000", "replicate", 0.0, *SIDES, "listing of s3://source/in/")
HISTORIES = replace(RUN, options={"all_versions": True})


def row(key: str = "in/a", **known: Any) -> ObjectVersion:
    return ObjectVersion(0, key, size_bytes=5, etag=MD5[0], last_modified=10.0)._replace(**known)


def copy(key: str = "out/a", **known: Any) -> Listed:
    entry = Listed(key, None, True, False, 5, MD5[0], 10.0, "STANDARD")
    return entry._replace(**known)


def marker(of: Any) -> Any:
    return of._replace(is_delete_marker=True, size_bytes=None, etag=None)


class Planning:
    """A plan of rows whose run's destination has these entries."""

    def __init__(
        self,
        rows: Sequence[ObjectVersion],
        listed: Sequence[Listed],
        run: RunSpec = RUN,
        *,
        page: int = 1_000,
        packed: PackedCopies | None = None,
        is_done: bool = True,
        ledger: Ledger | None = None,
        rows_per_shard: int = 100_000,
        **rules: Any,
    ):
        self.page, self.pages, self.prefixes = page, 0, list[str]()
        self.shards = dict[int, bytes]()
        self.listed = listed

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            yield manifest_of(rows)

        async def plan() -> tuple[Plan, Histogram]:
            with tempfile.TemporaryDirectory() as folder, mock.patch.object(there, "listed_rows", self.pages_of):
                return await plan_rows(
                    batches(),
                    Selection(versions="all"),
                    Shards(self.write_shard, Path(folder), rows_per_shard),
                    copies=Copies(run, packed, is_done, ledger=ledger),
                    **rules,
                )

        self.plan, self.histogram = asyncio.run(plan())
        known, shards = self.plan.there, len(self.shards)
        done = range(shards - known.get("shards", 0), shards)  # `publish` writes their outcomes
        self.outcomes = {number: done_outcomes(self.shards[number], known["at"]) for number in done}

    async def write_shard(self, number: int, data: bytes) -> None:
        self.shards[number] = data

    async def pages_of(self, _: Side, places: Sequence[Location], **__: Any) -> AsyncIterator[pa.RecordBatch]:
        self.prefixes.append(places[0].key)
        for start in range(0, len(self.listed), self.page):
            self.pages += 1
            yield manifest_batch(self.listed[start : start + self.page])

    def rows(self, shard: int) -> list[ObjectVersion]:
        return [each for some in read_shard(self.shards[shard]) for each in some]

    @property
    def done(self) -> list[Outcome]:
        return [each for data in self.outcomes.values() for each in read_outcomes(data)]


OBJECTS: dict[str, tuple[ObjectVersion, Listed, str | None]] = {
    "equal size and MD5": (row(), copy(), "same"),
    "older than its source": (row(), copy(last_modified=9.0), "alike"),
    "of no known time": (row(last_modified=None), copy(), "alike"),
    "of no known size": (row(size_bytes=None), copy(), "alike"),
    "of no known ETag": (row(etag=None), copy(), "alike"),
    "equal ETags that are no MD5s": (row(etag=f"{MD5[0]}-2"), copy(etag=f"{MD5[0]}-2"), "alike"),
    "another size": (row(), copy(size_bytes=6), "other"),
    "another MD5": (row(), copy(etag=MD5[1]), "other"),
    "proven wrong by a verify run": (row(beside=Repair(condemned_etag=MD5[0])), copy(), "alike"),
    "with a damaged source": (row(beside=Repair(damaged_etag=MD5[0])), copy(), "alike"),
    "a delete marker": (marker(row()), copy(), None),
}


def test_a_row_is_done_only_by_an_equal_copy_that_is_not_older() -> None:
    rows = [wanted._replace(key=f"in/{name}") for name, (wanted, _, _) in OBJECTS.items()]
    listed = [there._replace(key=f"out/{name}") for name, (_, there, _) in OBJECTS.items()]
    words = [word for _, _, word in OBJECTS.values()]
    planned = Planning([*rows, row("in/missing")], [*listed, copy("out/MISSING")])
    assert there_of(rows, listed, RUN) == {place: word for place, word in enumerate(words) if word}
    assert {word: planned.plan.there[word] for word in ("same", "alike", "other")} == {
        word: words.count(word) for word in ("same", "alike", "other")
    }
    assert [each.key for each in planned.done] == ["in/equal size and MD5"]


@pytest.mark.parametrize("is_done", [True, False], ids=["copies", "verifies"])
def test_a_row_whose_copy_expired_is_left_out_if_an_archive_holds_it(is_done: bool) -> None:
    """Not where a hot copy is listed, nor where an MD5 does not say that it is the same."""
    names = ("packed", "listed", "other", "parts", "missing")
    rows = [row(f"in/{name}", etag=md5(name), size_bytes=len(name)) for name in names]
    rows[3] = rows[3]._replace(etag=f"{md5('parts')}-2")
    members = [(f"out/{name}", name, {"etag": rows[3].etag} if name == "parts" else {}) for name in names[:4]]
    members[2] = ("out/other", "OTHER", {})
    held = packed_copies(*members, bucket="copies")
    planned = Planning(rows, [copy("out/listed", etag=md5("older"), size_bytes=5)], packed=held, is_done=is_done)
    left = {each.key.removeprefix("in/") for shard in planned.shards for each in planned.rows(shard)}
    assert (left, planned.plan.excluded, planned.plan.rows) == ({*names[1:]}, {"in_archive": 1}, 4)
    assert bool(planned.plan.there) is is_done
    unlisted = Planning(rows, [copy(str(number)) for number in range(9)], page=1, packed=held)  # not listed to its end
    assert unlisted.plan.excluded == {}


PARTS = "e-2"
KNOWN: dict[str, tuple[dict[str, Any] | None, list[Seen], bool]] = {
    "proven by a later look": ({}, [Seen("good", 5)], True),
    "as the state names its version": ({"version_id": "1"}, [Seen("good", 5, version_id="1")], True),
    "of another version": ({"version_id": "2"}, [Seen("good", 5, version_id="1")], False),
    "of which the state knows nothing": ({}, [], False),
    "that was made, and never compared": ({}, [Seen("good", 5, "listed", "nothing_comparable")], False),
    "that a list alone showed": ({}, [Seen("good", 5, "listed")], False),
    "whose bytes alone are proven": ({}, [Seen("good", 5, "bytes", "proven")], False),
    "whose older copy was compared": ({}, [Seen("good", 5, copy_etag="f"), Seen("good", 6, "listed", "same")], False),
    "looked at in the second of its write": ({}, [Seen("good", 1)], False),
    "found wrong": ({}, [Seen("good", 5), Seen("bad", 6)], False),
    "found wrong, and accepted": ({}, [Seen("bad", 6), Seen("accepted", 7)], False),
    "that could not be read since": ({}, [Seen("good", 5), Seen("unknown", 6, code="denied")], False),
    "written again since": ({"last_modified": BEGAN + 9.0}, [Seen("good", 5)], False),
    "with other bytes since": ({"etag": "f-2"}, [Seen("good", 5)], False),
    "whose copy was written again since": ({}, [Seen("good", 5, copy_modified=0)], False),
    "whose copy is another one since": ({}, [Seen("good", 5, copy_etag="f-2")], False),
    "whose copy was made in parts": ({}, [Seen("good", 5, copy_etag=PARTS)], False),
    "of another size": ({"size_bytes": 6}, [Seen("good", 5)], False),
    "that a verify run has condemned": ({"beside": Repair(condemned_etag=PARTS)}, [Seen("good", 5)], False),
    "that the manifest names twice": (None, [Seen("good", 5)], False),
}


def test_a_row_is_left_out_if_the_state_knows_both_objects_to_be_the_same() -> None:
    """Their ETags are no MD5s, so each second run over uploads in parts, or with KMS, had a look at every one."""
    ledger = Ledger(MemoryStore(buckets=["ledger"]), Location("ledger", "l/"))
    run = replace(RUN, source=Side(Location("originals")), destination=Side(Location("copies")))
    own: dict[str, Any] = {"etag": PARTS, "last_modified": float(BEGAN)}
    rows = [row(name, **own | (other or {})) for name, (other, *_) in KNOWN.items()]
    rows += [row(name, version_id="0", **own) for name, (other, *_) in KNOWN.items() if other is None]
    etags = dict.fromkeys(KNOWN, "e") | {"whose copy was made in parts": PARTS}
    listed = [copy(name, etag=etag, last_modified=BEGAN + 1.0) for name, etag in etags.items()]
    seen = [each._replace(key=name, etag=PARTS) for name, (_, some, _) in KNOWN.items() for each in some]
    asyncio.run(tell(ledger, "run", *seen))
    planned = Planning(rows, listed, run, ledger=ledger)
    left_out = {name for name, (*_, is_known) in KNOWN.items() if is_known}
    kept = {each.key for shard in planned.shards for each in planned.rows(shard)}
    assert (kept, planned.plan.excluded.get("proven_before", 0)) == (KNOWN.keys() - left_out, len(left_out))
    assert Planning(rows, listed, run).plan.there["alike"] == planned.plan.there["alike"] + len(left_out)
    others = replace(run, destination=Side(Location("others"))), replace(run, options={"all_versions": True})
    unknown = [Planning(rows, listed, each, ledger=ledger) for each in others]
    asyncio.run(compact(ledger, "a night"))
    with mock.patch.object(there, "STATE_TIMES", 0.1):  # the state is large beside these rows
        unknown.append(Planning(rows, listed, run, ledger=ledger))
    assert not any(each.plan.excluded.get("proven_before") for each in unknown)


def test_an_object_that_a_server_lists_twice_does_no_other_row() -> None:
    planned = Planning([row("in/a"), row("in/b"), row("in/c")], [copy("out/a"), copy("out/a"), copy("out/a")])
    assert [each.key for each in planned.done] == ["in/a"]
    assert [len(planned.rows(shard)) for shard in planned.shards] == [2, 1]


def test_rows_of_one_key_are_not_done_where_one_copy_is_wanted() -> None:
    rows = [row(version_id="2"), row(version_id="1", etag=MD5[1])]
    assert Planning(rows, [copy()]).plan.there["same"] == 0


NEW, OLD = copy(etag=MD5[1], last_modified=11.0), copy(is_latest=False)
HISTORY = [row(version_id="2", etag=MD5[1], last_modified=11.0), row(version_id="1", is_latest=False)]
LISTED: dict[str, list[Listed]] = {
    "equal": [NEW, OLD],
    "one is missing": [NEW],
    "another order": [copy(last_modified=11.0), copy(etag=MD5[1], is_latest=False)],
    "one more": [NEW, OLD, copy(is_latest=False, etag=MD5[2])],
    "hidden": [marker(copy(last_modified=12.0)), NEW._replace(is_latest=False), OLD],
    "one is older": [NEW, OLD._replace(last_modified=9.0)],
    "one is not comparable": [NEW, OLD._replace(etag=f"{MD5[0]}-1")],
    "marked": [marker(copy(last_modified=12.0)), OLD],
}


def test_a_history_is_done_only_whole_and_in_order() -> None:
    histories = dict.fromkeys(LISTED, HISTORY) | {"marked": [marker(HISTORY[0]), HISTORY[1]]}
    rows = [each._replace(key=f"in/{name}") for name, some in histories.items() for each in some]
    listed = [each._replace(key=f"out/{name}") for name, some in LISTED.items() for each in some]
    done = Planning(rows, listed, HISTORIES).done
    assert [(each.key, each.version_id, each.evidence) for each in done] == [
        ("in/equal", "1", Evidence.MD5_ETAG),
        ("in/equal", "2", Evidence.MD5_ETAG),
        ("in/marked", "1", Evidence.MD5_ETAG),
        ("in/marked", "2", Evidence.NONE),
    ]


def test_the_outcomes_of_done_rows_are_the_last_shards() -> None:
    rows = [row(f"in/{number:02d}", version_id=f"v{number}", size_bytes=number) for number in range(40)]
    listed = [copy(f"out/{number:02d}", size_bytes=number) for number in range(0, 40, 2)]
    planned = Planning(rows, listed, rows_per_shard=4)
    open_rows, done_from = planned.plan.rows - 20, len(planned.shards) - planned.plan.there["shards"]
    counts = {name: planned.plan.there[name] for name in ("listed", "same", "same_keys", "same_bytes")}
    assert counts == {"listed": 20, "same": 20, "same_keys": 20, "same_bytes": sum(range(0, 40, 2))}
    assert sorted(planned.outcomes) == list(range(done_from, len(planned.shards)))
    assert sum(each.rows for each in planned.histogram.groups) == planned.histogram.keys == open_rows == 20
    numbered = [each for shard in planned.shards for each in planned.rows(shard)]
    assert [each.row for each in numbered] == list(range(40))
    for shard, data in planned.outcomes.items():
        assert [each.row for each in read_outcomes(data)] == [each.row for each in planned.rows(shard)]
    for done in planned.done:
        wanted = numbered[done.row]
        assert (done.key, done.version_id, done.size_bytes) == (wanted.key, wanted.version_id, wanted.size_bytes)
        assert (done.etag, done.destination_etag, done.attempt) == (wanted.etag, wanted.etag, PLANNED)
        assert (done.status, done.reason, done.evidence) == (Status.SAME, "", Evidence.MD5_ETAG)


def test_only_what_lies_below_the_keys_is_listed_and_at_most_a_page_for_six_rows() -> None:
    rows, copies = [row(f"in/x/{number}") for number in range(12)], [copy(f"out/x/{number}") for number in range(3)]
    few = Planning(rows, copies[:2], page=1)
    assert (few.prefixes, few.plan.there["same"]) == (["out/x/"], 2)
    many = Planning(rows, copies, page=1)
    assert (many.pages, many.plan.there, many.outcomes) == (3, {}, {})


ETAGS = st.sampled_from([*MD5[:2], f"{MD5[0]}-2", None])
TIMES = st.sampled_from([None, 9.0, 10.0, 11.0])
KNOWN_BEFORE = st.sampled_from([None, None, Repair(condemned_etag="e")])


@st.composite
def entries(draw: Any) -> tuple[list[ObjectVersion], list[Listed]]:
    names, booleans, sizes = (
        st.sampled_from(["a", "b", "c", "d", "e", "é"]),
        st.booleans(),
        st.sampled_from([5, 6, None]),
    )
    rows = [
        row(f"in/{draw(names)}", version_id=f"v{number}", is_latest=draw(booleans), size_bytes=draw(sizes),
            etag=draw(ETAGS), last_modified=draw(TIMES), beside=draw(KNOWN_BEFORE))
        for number in range(draw(st.integers(1, 24)))
    ]  # fmt: skip
    listed = [
        copy(f"out/{draw(names)}", is_latest=draw(booleans), size_bytes=draw(sizes), etag=draw(ETAGS),
             last_modified=draw(TIMES) or 0.0)
        for _ in range(draw(st.integers(0, 24)))
    ]  # fmt: skip
    is_marker = st.sampled_from([True, False, False])
    rows = [marker(each) if draw(is_marker) else each for each in rows]
    listed = [marker(each) if draw(is_marker) else each for each in listed]
    return rows, listed


@settings(max_examples=examples(8), deadline=None)
@given(entries(), st.booleans())
def test_sql_says_what_the_rules_say(drawn: tuple[list[ObjectVersion], list[Listed]], all_versions: bool) -> None:
    rows, listed = drawn
    run = HISTORIES if all_versions else RUN
    if not all_versions:  # a list of objects has a key once
        listed = list({each.key: each for each in listed if not each.is_delete_marker}.values())
    expected = there_of(rows, listed, run)
    planned = Planning(rows, listed, run)
    counts = {word: list(expected.values()).count(word) for word in ("same", "alike", "other")}
    assert {word: planned.plan.there[word] for word in counts} == counts
    done = sorted((each.key, each.version_id) for each in planned.done)
    assert done == sorted((rows[at].key, rows[at].version_id) for at, word in expected.items() if word == "same")
