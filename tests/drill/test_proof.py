"""What a drill compares, what it removes, and what it says of all objects."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Side
from jobs.drill.model import Leg, Written
from jobs.drill.proof import Prover, remove
from jobs.drill.summary import at_most
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
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
        ({"note": True}, "metadata_differs"),
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
    if restored.pop("note", False):
        noted = ObjectRef("src", "k") if by == "source" else ObjectRef("hot", "c/k", version)
        asyncio.run(store.put_annotation(noted, "sealed", b"by me", object_etag=copy.etag))
    put(store, "drills", "try/one/hot/k", **own if is_of_others else own | restored)
    [there] = store.stored("drills", "try/one/hot/k")
    row = ObjectVersion(0, "c/k", version, etag=copy.etag, last_modified=copy.last_modified)
    outcome = Outcome(0, "c/k", version, Status.DONE)._replace(
        destination_etag=there.etag, destination_version_id="other" if is_of_others else there.version_id
    )
    leg = Leg("hot", Side(Location("hot", "c/")), "c/", ("c/",), ())
    route = Route(Location("hot", "c/"), PLACE.join("hot/"))
    prover = Prover(leg, route, Location("src"), store, store, store, ByteBudget(1 << 20), 0.0)
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


def test_three_hundred_right_ones_rule_out_one_in_a_hundred():
    assert 0.0099 < at_most(300) < 0.01
