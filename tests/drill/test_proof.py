"""What a drill compares, what it removes, and what it says of all objects."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Side
from jobs.drill.model import Leg, Sample, Written
from jobs.drill.proof import Prover, remove
from jobs.drill.summary import Drill, LegResult, Summary, at_most, ended_drills, judge
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.archives.samples import TAR, member, packed
from tests.doubles.ledgers import make_ledger
from tests.doubles.memory_store import MemoryStore

PLACE = Location("drills", "try/one/")


def put(store: MemoryStore, bucket: str, key: str, data: bytes = b"data", **attributes: Any) -> str | None:
    return asyncio.run(store.put(ObjectRef(bucket, key), data, Attributes(**attributes), guard=UNGUARDED)).version_id


def test_only_versions_that_the_drill_wrote_below_its_place_are_removed():
    store = MemoryStore(buckets=["drills"])
    ours, covered, theirs = (put(store, "drills", f"try/one/hot/{key}") for key in ("a", "b", "b"))
    outside = put(store, "drills", "try/two/a")
    named = [Written("try/one/hot/a", ours), Written("try/one/hot/b", covered), Written("try/two/a", outside)]
    left = asyncio.run(remove(store, PLACE, [*named, Written("try/one/hot/b", None), Written("try/one/hot/c", "null")]))
    assert left == ["try/one/hot/b"]
    there = {key: [each.version_id for each in store.stored("drills", key)] for key in ("try/one/hot/b", "try/two/a")}
    assert there == {"try/one/hot/b": [theirs], "try/two/a": [outside]}


@pytest.mark.parametrize(
    ("restored", "reason"),
    [
        ({}, ""),
        ({"tags": {"a": "b", "more": "x"}}, ""),
        ({"data": b"rot!"}, "content_differs"),
        ({"metadata": {"who": "you"}}, "metadata_differs"),
        ({"tags": {"a": "c"}}, "metadata_differs"),
        ({"note": "copied"}, "metadata_differs"),
        ({"note": "left out by the policy"}, ""),
        ({"is_of_others": True}, "destination_differs"),
    ],
)
@pytest.mark.parametrize("by", ["source", "version"])
def test_what_came_back_has_the_bytes_metadata_and_tags_of_what_says_how_it_has_to_be(by, restored, reason):
    restored = dict(restored)
    store = MemoryStore(buckets=["src", "hot", "drills"], clock=itertools.count(1.0).__next__)
    own: dict[str, Any] = {"metadata": {"who": "me"}, "tags": {"a": "b"}}
    if by == "source":
        put(store, "src", "k", **own)
    version = put(store, "hot", "c/k", **own)
    [copy] = store.stored("hot", "c/k")
    if by == "version":
        put(store, "src", "k", b"a newer one")
    is_of_others = "is_of_others" in restored
    if "note" in restored:
        noted = ObjectRef("src", "k") if by == "source" else ObjectRef("hot", "c/k", version)
        asyncio.run(store.put_annotation(noted, "sealed", b"by me", object_etag=copy.etag))
    note = restored.pop("note", "copied")
    put(store, "drills", "try/one/hot/k", **own if is_of_others else own | restored)
    [there] = store.stored("drills", "try/one/hot/k")
    row = ObjectVersion(0, "c/k", version, etag=copy.etag, last_modified=copy.last_modified)
    outcome = Outcome(0, "c/k", version, Status.DONE)._replace(
        destination_etag=there.etag, destination_version_id="other" if is_of_others else there.version_id
    )
    leg = Leg("hot", Side(Location("hot", "c/")), "c/", ("c/",), ())
    route = Route(Location("hot", "c/"), PLACE.join("hot/"))
    prover = Prover(leg, route, Location("src"), store, store, store, ByteBudget(1 << 20), 0.0, note == "copied")
    [proof] = asyncio.run(prover.prove([row], [outcome]))
    assert (proof.by, proof.reason) == ("" if is_of_others else by, reason)


def test_what_came_from_an_archive_that_does_not_say_how_it_was_is_no_proof():
    store = MemoryStore(buckets=["src", "hot", "drills"])
    put(store, "drills", "try/one/archives/k")
    [there] = store.stored("drills", "try/one/archives/k")
    row = ObjectVersion(0, "k", "v", etag=there.etag, last_modified=there.last_modified, archive="s3://hot/gone.tar")
    outcome = Outcome(0, "k", "v", Status.DONE, destination_etag=there.etag)
    leg, route = (
        Leg("archives", Side(Location("hot")), "", ("",), (), "src"),
        Route(Location("hot"), PLACE.join("archives/")),
    )
    prover = Prover(leg, route, Location("src"), store, store, store, ByteBudget(1 << 20), 0.0)
    [proof] = asyncio.run(prover.prove([row], [outcome]))
    assert (proof.by, proof.reason) == ("", "archive_damaged")


def test_a_version_from_an_archive_is_compared_with_that_version():
    both = [(member("k", data, version), data) for version, data in (("v1", b"one"), ("v2", b"two"))]
    made, store = packed(both, TAR), MemoryStore(buckets=["src", "drills"])
    archive = str(made.record.location)
    rows = [ObjectVersion(0, "k", "v1", archive=archive), ObjectVersion(1, "k", "v2", archive=archive)]
    put(store, "drills", "try/one/archives/k", b"one")
    [there] = store.stored("drills", "try/one/archives/k")
    leg = Leg("archives", Side(Location("cold", "packed/")), "", ("",), (), "src")
    route = Route(Location("cold"), PLACE.join("archives/"))
    prover = Prover(leg, route, Location("src"), store, made.store, store, ByteBudget(1 << 20), 0.0)
    done = [Outcome(each.row, "k", each.version_id, Status.DONE, destination_etag=there.etag) for each in rows]
    found = [asyncio.run(prover.prove([row], [outcome])) for row, outcome in zip(rows, done, strict=True)]
    assert [(proof.by, proof.reason) for [proof] in found] == [("index", ""), ("index", "checksum_differs")]


def test_three_hundred_right_ones_rule_out_one_in_a_hundred():
    assert 0.0099 < at_most(300) < 0.01


@pytest.mark.parametrize(
    ("sample", "is_good"),
    [
        (Sample(3, 9, 3, 3, 0, 0), True),
        (Sample(3, 9, 3, 3, 4, 5), True),
        (Sample(3, 9, 3, 3, 0, 0, absent=1), False),
        (Sample(0, 0, 0, 0, 4, 0), False),
        (Sample(0, 0, 0, 0, 0, 0), False),
    ],
)
def test_a_drill_is_good_if_something_came_back_and_all_that_a_manifest_names(sample: Sample, is_good: bool):
    _, steps = judge("docs", [LegResult(leg="hot", sample=sample)], None, [])
    assert (steps == []) is is_good
    _, steps = judge("docs", [LegResult(leg="hot", sample=Sample(1, 1, 1, 1, 0, 0))], None, ["of others"])
    assert steps != []


async def test_summaries_that_cannot_be_read_leave_those_before_them():
    ledger = make_ledger(clock=itertools.count(1.0).__next__)
    ends = [
        Summary(
            pair="docs", name=name, to="", verdict="", next_steps=[], exit_code=0, began_at=0.0, finished_at=at,
            good_at=at, legs=[], check=None, left=[], report_html="",
        )
        for name, at in (("one", 1.0), ("two", 2.0), ("three", 3.0))
    ]  # fmt: skip
    for each in ends:
        await Drill(ledger, "docs", each.name).write(".json", each)
    for name in ("four", "five"):
        await Drill(ledger, "docs", name).write_bytes(".json", b"{}")
    assert await ended_drills(ledger, "docs") == ends[:1:-1]
    assert await ended_drills(ledger, "docs", 30) == ends[::-1]
