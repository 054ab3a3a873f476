"""Declaring places: ranks, what is kept and what is taken back, and buckets that one may not write to."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import shlex
from typing import Any
from unittest.mock import patch

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import ConfigError, Denied, UsageError
from jobs.expire.places import PlaceDocument, declare, ranks
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request

NOW = 1_790_000_000.0
DOCS, COPIES, COLD = Location("docs", "in/"), Location("copies"), Location("cold", "packed/")


async def allow(_: Location) -> None:
    return None


def store(*, versioned: bool = True) -> MemoryStore:
    made = MemoryStore(clock=lambda: NOW)
    for bucket in ("docs", "copies", "cold"):
        made.create_bucket(bucket, versioned=versioned)
    return made


def declared(
    made: MemoryStore, *copies: Location, source: Location = DOCS, replaces: bool = False
) -> list[dict[str, Any]]:
    sides = Side(source, endpoint="http://s3.test"), Side(copies[0], endpoint="http://s3.test")
    with patch("jobs.expire.places.open_side", lambda _: made):
        return asyncio.run(declare(*sides, copies, replaces=replaces))


def brief(done: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(each["rank"], each["action"]) for each in done]


def documents(made: MemoryStore, at: Location) -> dict[str, Any]:
    """Key → document, of all versions."""

    async def read() -> dict[str, Any]:
        entries = (await made.list_versions(at.bucket, at.key + ".sealift/")).entries
        return {each.key: json.loads((await made.get(ObjectRef(at.bucket, each.key))).data) for each in entries}

    return asyncio.run(read())


def put(made: MemoryStore, at: Location, document: PlaceDocument) -> None:
    body = json.dumps({"id": document.id, "rank": document.rank, "deletes": document.deletes}).encode()
    asyncio.run(made.put(at.bucket, document.key(at.key), body, Attributes(), guard=UNGUARDED))


ROWS = re.findall(r"\| +(none|\d) +\| (\S.*?) +\| (\S.*?) +\|", inspect.getdoc(ranks) or "")


def test_table_of_ranks_is_replayed() -> None:
    assert len(ROWS) == 7
    for source, copies, result in ROWS:
        old = [None if each == "none" else int(each) for each in (source, *copies.split(", "))]
        assert ranks(old[0], old[1:]) == [int(each) for each in result.partition(":")[0].split(", ")]


@pytest.mark.parametrize("versioned", [True, False])
def test_first_pair_has_ranks_0_and_1_and_stays(versioned: bool) -> None:
    made = store(versioned=versioned)
    first = declared(made, COPIES)
    assert brief(first) == [(0, "written"), (1, "written")]
    assert documents(made, DOCS) == {
        f"in/.sealift/place-{first[0]['id']}.json": {
            "format": 1,
            "id": first[0]["id"],
            "rank": 0,
            "deletes": "keep",
        }
    }
    again = declared(made, COPIES)
    assert brief(again) == [(0, "kept"), (1, "kept")]
    assert [each["id"] for each in again] == [each["id"] for each in first]


def test_chain_of_places_is_declared_pair_by_pair_in_any_order() -> None:
    """A hot bucket is a copy of the source and the original of an archive."""
    made = store()
    assert brief(declared(made, COLD, source=COPIES)) == [(0, "written"), (1, "written")]
    assert brief(declared(made, COPIES)) == [(-1, "written"), (0, "kept")]
    assert brief(declared(made, COLD)) == [(-1, "kept"), (1, "kept")]


@pytest.mark.parametrize("versioned", [True, False])
def test_opposite_direction_is_refused_and_replaced_only_if_that_is_meant(versioned: bool) -> None:
    made = store(versioned=versioned)
    old = declared(made, COPIES)
    with pytest.raises(ConfigError, match="--replace"):
        declared(made, DOCS, source=COPIES)
    assert len(documents(made, DOCS)) == 1
    source, copies = declared(made, DOCS, source=COPIES, replaces=True)
    assert brief([source, copies]) == [(1, "kept"), (2, "replaced")]
    assert copies["replaced"] == [{"key": old[0]["key"], "id": old[0]["id"], "rank": 0}]
    assert list(documents(made, DOCS)) == [copies["key"]]  # the old one is gone with its version


def test_place_to_which_deletes_are_mirrored_is_refused_and_stays_one_when_it_is_replaced() -> None:
    made = store()
    put(made, COPIES, PlaceDocument(id="a" * 32, rank=0, deletes="mirror"))
    put(made, DOCS, PlaceDocument(id="b" * 32, rank=4))
    with pytest.raises(ConfigError, match="mirrored"):
        declared(made, COPIES, replaces=True)
    [document] = documents(made, COPIES).values()
    assert (document["rank"], document["deletes"]) == (5, "mirror")


def test_two_documents_become_one() -> None:
    made = store()
    for place_id in ("a" * 32, "b" * 32):
        put(made, COPIES, PlaceDocument(id=place_id, rank=3))
    with pytest.raises(ConfigError, match="not one document"):
        declared(made, COPIES)
    assert brief(declared(made, COPIES, replaces=True))[1] == (3, "replaced")


def test_bucket_that_one_may_not_write_to_gets_a_command() -> None:
    made = store()

    async def deny(request: Request) -> Any:
        if request.place.bucket == "copies":
            raise Denied("PutObject", "s3://copies/", "AccessDenied", status=403)
        return await request()

    made.hook(put=deny)
    source, told = declared(made, COPIES)
    assert brief([source, told]) == [(0, "written"), (1, "denied")]
    assert source["command"] is None
    words = shlex.split(told["command"])
    document = json.loads(words[words.index("%s") + 1])
    assert (document["id"], document["rank"]) == (told["id"], 1)
    for option, value in {
        "--bucket": "copies",
        "--key": told["key"],
        "--if-none-match": "*",
        "--endpoint-url": "http://s3.test",
    }.items():
        assert words[words.index(option) + 1] == value
    made.hook(put=None)
    put(made, COPIES, PlaceDocument(id=document["id"], rank=document["rank"]))
    assert brief(declared(made, COPIES)) == [(0, "kept"), (1, "kept")]


def test_one_bucket_by_two_names_is_told_at_once() -> None:
    made = store()

    async def renamed(request: Request) -> Any:
        ref = request.arguments.get("ref")
        if ref is not None and ref.bucket == "alias":
            request.arguments["ref"] = ref._replace(bucket="docs")
        elif request.arguments.get("bucket") == "alias":
            request.arguments["bucket"] = "docs"
        return await request()

    made.hook(every=renamed)
    with pytest.raises(ConfigError, match="one bucket"):
        declared(made, Location("alias", "out/"))


def test_places_that_overlap_are_not_declared() -> None:
    made = store()
    with pytest.raises(UsageError, match="overlap"):
        declared(made, Location("docs", "in/a/"))
    declared(made, COPIES)
    with pytest.raises(ConfigError, match="lies in another place"):
        declared(made, Location("copies", "in/"), source=COLD)
    assert not documents(made, COLD)
