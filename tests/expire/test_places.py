"""Places: what their documents say, what is refused before anything is listed whole, and how they are declared."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import math
import re
import shlex
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import AuthenticationFailed, ConfigError, Denied, NotFound, StoreError, Unavailable, UsageError
from jobs.expire import places
from jobs.expire.places import (
    Place,
    PlaceDocument,
    declare,
    foreign_places,
    look_again,
    ranks,
    read_places,
    refuse,
    told,
)
from jobs.s3.store import UNGUARDED, Body
from tests.doubles.memory_store import MemoryStore, Request

NOW = 1_790_000_000.0
DAY = 86_400.0
DOCS, COPIES, COLD = Location("docs", "in/"), Location("copies", "out/"), Location("cold")
ID, COPIES_ID, COLD_ID, OTHER_ID = "a" * 32, "c" * 32, "d" * 32, "e" * 32


class World(MemoryStore):
    """Three places, declared a day ago."""

    def __init__(self, *, is_declared: bool = True, versioned: bool = True) -> None:
        self.now = NOW - DAY
        numbers = itertools.count(1)
        super().__init__(clock=lambda: self.now, new_id=lambda: f"v{next(numbers)}")
        for bucket in ("docs", "copies", "cold"):
            self.create_bucket(bucket, versioned=versioned)
        for rank, (at, place_id) in enumerate([(DOCS, ID), (COPIES, COPIES_ID), (COLD, COLD_ID)] * is_declared):
            self.declare(at, place_id, rank)
        self.now = NOW

    def put_now(self, bucket: str, key: str, data: bytes) -> None:
        asyncio.run(MemoryStore.put(self, ObjectRef(bucket, key), data, Attributes(), guard=UNGUARDED))

    def declare(self, at: Location, place_id: str, rank: int, *, is_replica: bool = False, more: str = "") -> str:
        key = f"{at.key}.sealift/place-{place_id}.json"
        self.put_now(at.bucket, key, f'{{"format":1,"id":"{place_id}","rank":{rank}{more}}}'.encode())
        self._buckets.find("", ObjectRef(at.bucket, key)).is_replica = is_replica
        return key

    def read(
        self,
        *copies: Location,
        source: Location = DOCS,
        other: MemoryStore | None = None,
        clock: Callable[[], float] = lambda: math.inf,
    ) -> Any:
        copies = copies or (COPIES, COLD)
        sides = Side(source, "http://one"), Side(copies[0], "http://other" if other else "http://one")
        return asyncio.run(read_places(self, other or self, *sides, copies, DAY, clock))


def refused(read: Callable[[], Any], why: str, error: type[Exception] = ConfigError) -> None:
    with pytest.raises(error, match=why):
        read()


def test_places_are_read_and_come_back_from_a_plan() -> None:
    origin, copies = World().read()
    assert (origin.location, origin.document.id, origin.document.rank, origin.version_id) == (DOCS, ID, 0, "v1")
    assert [(each.location, each.document.rank) for each in copies] == [(COPIES, 1), (COLD, 2)]
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(copies))), list[Place]) == copies


INNER = Location("copies", "a/b/")
REFUSED: list[tuple[str, Callable[[World], Any]]] = [
    ("ends with a slash", lambda world: world.read(source=Location("docs", "in"))),
    ("ends with a slash", lambda world: world.read(Location("copies", "in/2026"))),
    ("overlap", lambda world: world.read(Location("docs", "in/out/"))),
    ("overlap", lambda world: world.read(COLD, Location("cold", "a/"))),
    ("--declare", lambda world: world.read(source=Location("docs", "other/"))),
    ("--declare", lambda world: world.read(COLD, INNER)),
    ("has 2 documents", lambda world: (world.declare(DOCS, OTHER_ID, 5), world.read())),
    ("has 2 documents", lambda world: (world.declare(COPIES, OTHER_ID, 5), world.read())),
    ("lies in another place", lambda world: (world.declare(Location("copies"), OTHER_ID, 1), world.read(INNER))),
    ("lies in another place", lambda world: (world.declare(Location("copies", "a/"), OTHER_ID, 1), world.read(INNER))),
    # S3's replication brought it, so it declares no place. A document of copies is never allowed at the originals.
    ("of another place", lambda world: (world.declare(COLD, COLD_ID, 2, is_replica=True), world.read())),
    ("mirrors", lambda world: (world.declare(Location("docs", "out/"), COPIES_ID, 1, is_replica=True), world.read())),
]


@pytest.mark.parametrize(("why", "read"), REFUSED)
def test_places_that_are_refused(why: str, read: Callable[[World], Any]) -> None:
    world = World()
    with pytest.raises((ConfigError, UsageError)) as refusal:
        read(world)
    assert why in str(refusal.value) + (refusal.value.advice or "")


def test_equal_names_on_two_services_are_two_buckets() -> None:
    one, other = World(is_declared=False), World(is_declared=False)
    one.declare(DOCS, ID, 0)
    other.declare(DOCS, COPIES_ID, 1)
    one.now = other.now = NOW + 2 * DAY
    assert one.read(DOCS, other=other)[1][0].document.id == COPIES_ID


@pytest.mark.parametrize(
    "document",
    [
        '{"id":"%s"}',
        '{"id":"%s","rank":1.5}',
        '{"id":"%s","rank":1,"deletes":"never"}',
        '{"id":"%s","rank":1,"format":2}',
        '{"id":"%s","rank":1,"more":0}',
        f'{{"id":"{OTHER_ID}","rank":1}}',
        "[]",
        "{",
    ],
)
def test_invalid_document_is_refused(document: str) -> None:
    world = World()
    key = f"{COLD.key}.sealift/place-{COLD_ID}.json"
    world.put_now(COLD.bucket, key, document.replace("%s", COLD_ID).encode())
    refused(world.read, "document of")


def test_user_objects_beside_the_document_are_no_documents() -> None:
    world = World()
    for bucket, prefix in (DOCS, COPIES):
        world.put_now(bucket, f"{prefix}.sealift/place-names.txt", b"Oslo")
        world.put_now(bucket, f"{prefix}.sealift/trial-{OTHER_ID}", b"")
    world.read()


# ------------------------------------------------------------------ one bucket, mirrors, gateways


async def renamed(request: Request) -> Any:
    for name in ("ref", "bucket"):
        value = request.arguments.get(name)
        if value == "alias":
            request.arguments[name] = "docs"
        elif isinstance(value, ObjectRef) and value.bucket == "alias":
            request.arguments[name] = value._replace(bucket="docs")
    return await request()


def test_one_bucket_by_two_names_is_refused() -> None:
    """An alias, another endpoint, an access point."""
    world = World()
    world.hook(every=renamed)
    refused(lambda: world.read(Location("alias", "in/")), "one bucket")
    world.declare(Location("docs", "other/"), OTHER_ID, 1)
    refused(lambda: world.read(Location("alias", "other/")), "one bucket")
    refused(lambda: world.read(Location("docs", "in/"), other=world), "one bucket")


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("is_backward", [True, False])
@pytest.mark.parametrize("is_full_key", [True, False])
def test_document_that_shows_at_the_other_side_is_refused(
    is_listed: bool, is_backward: bool, is_full_key: bool
) -> None:
    """A mirror copies it; a gateway answers GETs of what it does not list."""
    world = World()
    own, other, place_id = (COPIES, DOCS, COPIES_ID) if is_backward else (DOCS, COPIES, ID)
    key = (own if is_full_key else other).key + f".sealift/place-{place_id}.json"
    world.put_now(other.bucket, key, b"{}")

    async def hide(request: Request) -> Any:
        page, is_hidden = await request(), not is_listed and request.place.bucket == other.bucket
        return page._replace(entries=[entry for entry in page.entries if not is_hidden or entry.key != key])

    world.hook(list_objects=hide)
    is_second = is_listed and is_backward and not is_full_key
    refused(world.read, "has 2 documents" if is_second else "one bucket, or something mirrors")


def test_listed_document_counts_even_if_it_is_not_served() -> None:
    world = World()
    key = f"out/.sealift/place-{ID}.json"
    world.put_now("copies", key, b"{}")

    async def lose(request: Request) -> Any:
        if request.place == ObjectRef("copies", key):
            raise NotFound("GetObject", key, "NoSuchKey", status=404)
        return await request()

    world.hook(get=lose)
    refused(world.read, "has 2 documents")


def test_side_that_may_not_be_read_is_refused() -> None:
    for operation in ("get", "list_objects"):
        world = World()

        async def deny(request: Request) -> Any:
            if request.place.bucket == "copies":
                raise Denied("GetObject", "copies", "AccessDenied", status=403)
            return await request()

        world.hook(**{operation: deny})
        refused(world.read, "AccessDenied", (ConfigError, StoreError))  # type: ignore[arg-type]  # pytest.raises takes several


def test_document_that_s3_replication_brought_is_allowed_if_it_carries_no_deletes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, asked = World(), []
    world.now = NOW - DAY
    same = Location("copies", "in/")  # S3 keeps the keys
    world.declare(same, OTHER_ID, 1)
    replicated = world.declare(same, ID, 0, is_replica=True)
    world.now = NOW

    async def check(source: Side, at: Location, *, is_replica: bool) -> None:
        asked.append((at, is_replica))

    async def carries(source: Side, at: Location, *, is_replica: bool) -> None:
        raise ConfigError("delete markers")

    monkeypatch.setattr(places, "refuse_replicated_deletes", check)
    origin, copies = world.read(same)
    assert (asked, copies[0].document.id) == ([(same, True)], OTHER_ID)
    assert foreign_places([replicated, copies[0].key], copies[0], origin) == []
    monkeypatch.setattr(places, "refuse_replicated_deletes", carries)
    refused(lambda: world.read(same), "delete markers")
    monkeypatch.setattr(places, "refuse_replicated_deletes", check)
    world.declare(same, ID, 0)
    refused(lambda: world.read(same), "something mirrors")


def test_documents_of_other_places_in_a_listing_are_named() -> None:
    origin, (copies, _) = World().read()
    inner = [f"in/a/.sealift/place-{OTHER_ID}.json", f"in/.sealift/place-{COPIES_ID}.json"]
    keys = [origin.key, "in/a", f"in/.sealift/trial-{OTHER_ID}", "in/.sealift/place-names.txt", *inner]
    assert foreign_places(keys, origin, origin) == inner
    assert foreign_places([copies.key, "out/a"], copies, origin) == []


# ------------------------------------------------------------------------------- the truth table

S = Place(DOCS, "", None, "e", NOW - DAY, PlaceDocument(id=ID, rank=0))


def but(place: Place, *, location: Location | None = None, last_modified: float = NOW - DAY, **document: Any) -> Place:
    """The place with another location or date, or with other fields of its document."""
    changed = msgspec.structs.replace(place.document, **document)
    at = location or place.location
    return msgspec.structs.replace(place, location=at, last_modified=last_modified, document=changed)


C = but(S, location=COPIES, id=COPIES_ID, rank=1)


@pytest.mark.parametrize(
    ("source", "copies", "grace_seconds", "why"),
    [
        (S, [C], DAY, ""),
        (but(S, deletes="mirror"), [C], DAY, ""),
        (but(S, rank=-1), [but(C, rank=0), but(C, id=COLD_ID, rank=7)], DAY, ""),
        (S, [C, but(C, location=COLD)], DAY, "same document"),
        (S, [but(C, id=ID)], DAY, "same document"),
        (S, [but(C, rank=0)], DAY, "need a higher rank"),
        (S, [C, but(C, id=COLD_ID, rank=-1)], DAY, "need a higher rank"),
        (S, [but(C, deletes="mirror")], DAY, "mirrored"),
        (S, [but(C, last_modified=NOW - DAY + 1)], DAY, "grace period"),
        (but(S, last_modified=NOW - DAY + 1), [C], DAY, "grace period"),
        (but(S, last_modified=NOW - 10), [C], 0.0, ""),
        (but(S, last_modified=NOW - 9), [C], 0.0, "grace period"),
        (but(S, last_modified=NOW + 40 * DAY), [C], 0.0, "grace period"),
    ],
)
def test_truth_table(source: Place, copies: list[Place], grace_seconds: float, why: str) -> None:
    reason = refuse(source, copies, NOW, grace_seconds)
    assert why in reason
    assert bool(why) == bool(reason)


def test_ranks_of_a_ring_are_refused_somewhere() -> None:
    """Whatever the ranks of up to four places are."""
    for size in (2, 3, 4):
        for some in itertools.product(range(size), repeat=size):
            ring = [but(S, id=str(number), rank=rank) for number, rank in enumerate(some)]
            assert any(refuse(one, [other], NOW, 0.0) for one, other in zip(ring, ring[1:] + ring[:1], strict=True))


def test_ages_are_told_by_the_earlier_of_two_clocks() -> None:
    world, other = World(is_declared=False), World(is_declared=False)
    world.declare(DOCS, ID, 0)
    other.declare(COPIES, COPIES_ID, 1)
    world.now, other.now = NOW + DAY - 1, NOW + 40 * DAY
    refused(lambda: world.read(COPIES, other=other), "grace period")
    world.now = NOW + DAY
    world.read(COPIES, other=other)


def test_gateway_that_dates_ahead_ends_no_grace_period() -> None:
    """It answers for both places with a Date of its own, and with the dates that S3 gave to the documents."""
    world = World()
    refused(lambda: world.read(clock=lambda: NOW - 1), "grace period")
    world.read(clock=lambda: NOW)


# -------------------------------------------------------------------------------------- the look


def look(world: World) -> tuple[Callable[[], float], Place]:
    origin, copies = world.read()
    return lambda: asyncio.run(look_again(world, world, [origin, *copies], False)), copies[0]


def test_look_answers_with_the_time_of_s3() -> None:
    world = World()
    see, _ = look(world)
    world.now = NOW + 5.5
    assert see() == NOW + 5


@pytest.mark.parametrize(
    "change", ["removed", "replaced", "written again", "replicated", "shown at copies", "shown at originals"]
)
def test_document_that_is_gone_or_replaced_ends_the_run(change: str) -> None:
    world = World()
    see, place = look(world)
    if change == "removed":
        asyncio.run(world.delete(ObjectRef("copies", place.key)))
    elif change.startswith("shown"):
        own, other = (COPIES_ID, "docs") if change.endswith("originals") else (ID, "copies")
        world.put_now(other, f"out/.sealift/place-{own}.json", b"{}")
    elif change == "replicated":  # which rules there are was asked when the run was planned
        world.declare(COPIES, ID, 0, is_replica=True)
    else:
        world.declare(COPIES, COPIES_ID, 1 if change == "written again" else 3)
    why = "something mirrors" if change.startswith("shown") else "was replaced"
    refused(see, "is gone" if change == "removed" else why)


def test_gateway_that_begins_to_read_through_while_a_run_is_at_work_ends_it() -> None:
    """It answers what the copies lack from the originals, of which it lists nothing."""
    world = World()
    see, _ = look(world)

    async def read_through(request: Request) -> Any:
        try:
            return await request()
        except NotFound:
            request.arguments["ref"] = ObjectRef("docs", request.place.key)
            return await request()

    world.hook(get=read_through)
    refused(see, "something mirrors")


def test_answer_without_a_date_is_refused() -> None:
    async def undated(request: Request) -> Body:
        body: Body = await request()
        return body._replace(answered_at=None)

    world = World()
    see, _ = look(world)
    world.hook(get=undated)
    refused(see, "no Date")
    refused(world.read, "no Date")


# --------------------------------------------------------------------------------- declaring


def declared(
    made: World, *copies: Location, source: Location = DOCS, replaces: bool = False, ours: float = NOW
) -> list[dict[str, Any]]:
    sides = Side(source, endpoint="http://s3.test"), Side(copies[0], endpoint="http://s3.test")
    with patch("jobs.s3.sessions.open_side", lambda _: made):
        return asyncio.run(declare(*sides, copies, replaces=replaces, clock=lambda: ours))


def brief(done: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(each["rank"], each["action"]) for each in done]


def documents(made: World, at: Location) -> dict[str, Any]:
    """Key → document, of all versions."""

    async def read() -> dict[str, Any]:
        entries = (await made.list_versions(at.bucket, at.key + ".sealift/")).entries
        return {each.key: json.loads((await made.get(ObjectRef(at.bucket, each.key))).data) for each in entries}

    return asyncio.run(read())


ROWS = re.findall(r"\| +(none|\d) +\| (\S.*?) +\| (\S.*?) +\|", inspect.getdoc(ranks) or "")


def test_table_of_ranks_is_replayed() -> None:
    assert len(ROWS) == 7
    for source, copies, result in ROWS:
        old = [None if each == "none" else int(each) for each in (source, *copies.split(", "))]
        assert ranks(old[0], old[1:]) == [int(each) for each in result.partition(":")[0].split(", ")]


@pytest.mark.parametrize("versioned", [True, False])
def test_first_pair_has_ranks_0_and_1_and_stays(versioned: bool) -> None:
    made = World(is_declared=False, versioned=versioned)
    first = declared(made, COPIES)
    assert brief(first) == [(0, "written"), (1, "written")]
    document = {"format": 1, "id": first[0]["id"], "rank": 0, "deletes": "keep"}
    assert documents(made, DOCS) == {f"in/.sealift/place-{first[0]['id']}.json": document}
    again = declared(made, COPIES)
    assert brief(again) == [(0, "kept"), (1, "kept")]
    assert [each["id"] for each in again] == [each["id"] for each in first]


def test_chain_of_places_is_declared_pair_by_pair_in_any_order() -> None:
    """A hot bucket is a copy of the source and the original of an archive."""
    made = World(is_declared=False)
    assert brief(declared(made, COLD, source=COPIES)) == [(0, "written"), (1, "written")]
    assert brief(declared(made, COPIES)) == [(-1, "written"), (0, "kept")]
    assert brief(declared(made, COLD)) == [(-1, "kept"), (1, "kept")]


@pytest.mark.parametrize("versioned", [True, False])
def test_opposite_direction_is_refused_and_replaced_only_if_that_is_meant(versioned: bool) -> None:
    made = World(is_declared=False, versioned=versioned)
    old = declared(made, COPIES)
    with pytest.raises(ConfigError, match="--replace"):
        declared(made, DOCS, source=COPIES)
    assert len(documents(made, DOCS)) == 1
    source, copies = declared(made, DOCS, source=COPIES, replaces=True)
    assert brief([source, copies]) == [(1, "kept"), (2, "replaced")]
    assert copies["replaced"] == [{"key": old[0]["key"], "id": old[0]["id"], "rank": 0}]
    assert list(documents(made, DOCS)) == [copies["key"]]  # the old one is gone with its version


def test_place_to_which_deletes_are_mirrored_is_refused_and_stays_one_when_it_is_replaced() -> None:
    made = World(is_declared=False)
    made.declare(COPIES, COPIES_ID, 0, more=',"deletes":"mirror"')
    made.declare(DOCS, ID, 4)
    with pytest.raises(ConfigError, match="mirrored"):
        declared(made, COPIES, replaces=True)
    [document] = documents(made, COPIES).values()
    assert (document["rank"], document["deletes"]) == (5, "mirror")


def test_two_documents_become_one() -> None:
    made = World(is_declared=False)
    for place_id in (COPIES_ID, OTHER_ID):
        made.declare(COPIES, place_id, 3)
    with pytest.raises(ConfigError, match="not one document"):
        declared(made, COPIES)
    assert brief(declared(made, COPIES, replaces=True))[1] == (3, "replaced")


def test_bucket_that_one_may_not_write_to_gets_a_command() -> None:
    made = World(is_declared=False)

    async def deny(request: Request) -> Any:
        if request.place.bucket == "copies":
            raise Denied("PutObject", "s3://copies/", "AccessDenied", status=403)
        return await request()

    made.hook(put=deny)
    source, other = declared(made, COPIES)
    assert brief([source, other]) == [(0, "written"), (1, "denied")]
    assert source["command"] is None
    words = shlex.split(other["command"])
    document = json.loads(words[words.index("%s") + 1])
    assert (document["id"], document["rank"]) == (other["id"], 1)
    options = {"--bucket": "copies", "--key": other["key"], "--if-none-match": "*", "--endpoint-url": "http://s3.test"}
    for option, value in options.items():
        assert words[words.index(option) + 1] == value
    made.hook(put=None)
    made.declare(COPIES, document["id"], document["rank"])
    assert brief(declared(made, COPIES)) == [(0, "kept"), (1, "kept")]


@pytest.mark.parametrize(("versioned", "denied"), [(True, False), (False, False), (True, True)])
def test_copies_without_versions_are_told(versioned: bool, denied: bool) -> None:
    """One overwrite there ends the last copy. A bucket that does not say so may keep none."""
    made = World(versioned=versioned)

    async def deny(request: Request) -> Any:
        raise Denied("GetBucketVersioning", "s3://copies", "AccessDenied", status=403)

    made.hook(is_versioned=deny if denied else None)
    source, *others = declared(made, COPIES, COLD)
    warnings = [[{"uri": str(at), "code": "copies_unversioned"}] for at in (COPIES, COLD)]
    is_told = denied or not versioned
    assert [each["warnings"] for each in (source, *others)] == ([[], *warnings] if is_told else [[], [], []])
    assert ["copies_unversioned" in told(each) for each in others] == [is_told] * 2


@pytest.mark.parametrize("kind", [Unavailable, AuthenticationFailed])
def test_a_server_that_does_not_answer_says_nothing_of_versions(kind: type[StoreError]) -> None:
    made = World()

    async def fail(request: Request) -> Any:
        raise kind("GetBucketVersioning", "s3://copies", "NoAnswer")

    made.hook(is_versioned=fail)
    with pytest.raises(kind):
        declared(made, COPIES)


def test_one_bucket_by_two_names_is_told_at_once() -> None:
    made = World(is_declared=False)
    made.hook(every=renamed)
    with pytest.raises(ConfigError, match="one bucket"):
        declared(made, Location("alias", "out/"))


def test_server_whose_clock_is_behind_declares_nothing() -> None:
    """Places were 40 days old as soon as somebody set it right."""
    made = World(is_declared=False)
    with pytest.raises(ConfigError, match="clock of the server"):
        declared(made, COPIES, ours=NOW + 40 * DAY)
    assert documents(made, DOCS) == documents(made, COPIES) == {}
    declared(made, COPIES, ours=NOW - 40 * DAY)  # dates that come too late only wait for longer


def test_places_that_overlap_are_not_declared() -> None:
    made = World(is_declared=False)
    with pytest.raises(UsageError, match="overlap"):
        declared(made, Location("docs", "in/a/"))
