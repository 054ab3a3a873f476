"""Places: what their documents say, and what is refused before anything is listed whole."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import ConfigError, Denied, NotFound, StoreError, UsageError
from jobs.expire.places import Place, PlaceDocument, PlaceLook, foreign_places, read_places, refuse
from jobs.s3.store import UNGUARDED, Body
from tests.doubles.memory_store import MemoryStore, Request

NOW = 1_790_000_000.0
DAY = 86_400.0
DOCS, COPIES, COLD = Location("docs", "in/"), Location("copies", "out/"), Location("cold")
ID, COPIES_ID, COLD_ID, OTHER_ID = "a" * 32, "c" * 32, "d" * 32, "e" * 32


class World(MemoryStore):
    """Three places, declared a day ago."""

    def __init__(self, *, is_declared: bool = True) -> None:
        self.now = NOW - DAY
        numbers = itertools.count(1)
        super().__init__(clock=lambda: self.now, new_id=lambda: f"v{next(numbers)}")
        for bucket in ("docs", "copies", "cold"):
            self.create_bucket(bucket)
        for rank, (at, place_id) in enumerate([(DOCS, ID), (COPIES, COPIES_ID), (COLD, COLD_ID)] * is_declared):
            self.declare(at, place_id, rank)
        self.now = NOW

    def put_now(self, bucket: str, key: str, data: bytes) -> None:
        asyncio.run(MemoryStore.put(self, bucket, key, data, Attributes(), guard=UNGUARDED))

    def declare(self, at: Location, place_id: str, rank: int, *, is_replica: bool = False, more: str = "") -> str:
        key = f"{at.key}.sealift/place-{place_id}.json"
        self.put_now(at.bucket, key, f'{{"format":1,"id":"{place_id}","rank":{rank}{more}}}'.encode())
        self._buckets.find("", ObjectRef(at.bucket, key)).is_replica = is_replica
        return key

    def read(self, *copies: Location, source: Location = DOCS, other: MemoryStore | None = None, **options: Any) -> Any:
        async def allow(_: Location) -> None:
            return None

        named: dict[str, Any] = {"grace_seconds": DAY, "is_apart": other is not None, "check_replica": allow}
        named |= {"clock": lambda: math.inf} | options
        return asyncio.run(read_places(self, other or self, source, copies or (COPIES, COLD), **named))


def refused(read: Callable[[], Any], why: str, error: type[Exception] = ConfigError) -> None:
    with pytest.raises(error, match=why):
        read()


def test_places_are_read_and_come_back_from_a_plan() -> None:
    origin, copies = World().read()
    assert (origin.location, origin.document.id, origin.document.rank, origin.version_id) == (DOCS, ID, 0, "v1")
    assert [(each.location, each.document.rank) for each in copies] == [(COPIES, 1), (COLD, 2)]
    assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(copies))), list[Place]) == copies


@pytest.mark.parametrize("key", ["in", "in/2026"])
def test_prefix_that_is_not_whole_is_refused(key: str) -> None:
    refused(lambda: World().read(source=Location("docs", key)), "ends with a slash", UsageError)
    refused(lambda: World().read(Location("copies", key)), "ends with a slash", UsageError)


def test_places_that_overlap_are_refused() -> None:
    refused(lambda: World().read(Location("docs", "in/out/")), "overlap", UsageError)
    refused(lambda: World().read(COLD, Location("cold", "a/")), "overlap", UsageError)


def test_equal_names_on_two_services_are_two_buckets() -> None:
    one, other = World(is_declared=False), World(is_declared=False)
    one.declare(DOCS, ID, 0)
    other.declare(DOCS, COPIES_ID, 1)
    one.now = other.now = NOW + 2 * DAY
    assert one.read(DOCS, other=other)[1][0].document.id == COPIES_ID


def test_place_without_a_document_says_how_to_declare_it() -> None:
    refused(World(is_declared=False).read, "--declare")


def test_two_documents_of_a_place_are_refused() -> None:
    for at in (DOCS, COPIES):
        world = World()
        world.declare(at, OTHER_ID, 5)
        refused(world.read, "has 2 documents")


@pytest.mark.parametrize("parent", ["", "a/"])
def test_place_within_another_one_is_refused(parent: str) -> None:
    world, inner = World(), Location("copies", "a/b/")
    world.now = NOW - DAY
    world.declare(inner, OTHER_ID, 1)
    world.now = NOW
    world.read(inner)
    world.declare(Location("copies", parent), "f" * 32, 1)
    refused(lambda: world.read(inner), "lies in another place")


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


def test_document_that_s3_replication_brought_declares_no_place() -> None:
    world = World()
    world.declare(COLD, COLD_ID, 2, is_replica=True)
    refused(world.read, "document of another place")


def test_user_objects_beside_the_document_are_no_documents() -> None:
    world = World()
    for bucket, prefix in (DOCS, COPIES):
        world.put_now(bucket, f"{prefix}.sealift/place-names.txt", b"Oslo")
        world.put_now(bucket, f"{prefix}.sealift/trial-{OTHER_ID}", b"")
    world.read()


# ------------------------------------------------------------------ one bucket, mirrors, gateways


def test_one_bucket_by_two_names_is_refused() -> None:
    """An alias, another endpoint, an access point."""
    world = World()

    async def renamed(request: Request) -> Any:
        for name in ("ref", "bucket"):
            value = request.arguments.get(name)
            if value == "alias":
                request.arguments[name] = "docs"
            elif isinstance(value, ObjectRef) and value.bucket == "alias":
                request.arguments[name] = value._replace(bucket="docs")
        return await request()

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
    refused(world.read, "something mirrors")


def test_side_that_may_not_be_read_is_refused() -> None:
    for operation in ("get", "list_objects"):
        world = World()

        async def deny(request: Request) -> Any:
            if request.place.bucket == "copies":
                raise Denied("GetObject", "copies", "AccessDenied", status=403)
            return await request()

        world.hook(**{operation: deny})
        refused(world.read, "AccessDenied", (ConfigError, StoreError))  # type: ignore[arg-type]


def test_document_that_s3_replication_brought_is_allowed_if_it_carries_no_deletes() -> None:
    world, asked = World(), []
    world.now = NOW - DAY
    same = Location("copies", "in/")  # S3 keeps the keys
    world.declare(same, OTHER_ID, 1)
    replicated = world.declare(same, ID, 0, is_replica=True)
    world.now = NOW

    async def check(at: Location) -> None:
        asked.append(at)

    async def carries(at: Location) -> None:
        raise ConfigError("delete markers")

    origin, copies = world.read(same, check_replica=check)
    assert (asked, copies[0].document.id) == ([same], OTHER_ID)
    assert foreign_places([replicated, copies[0].key], copies[0], origin) == []
    refused(lambda: world.read(same, check_replica=carries), "delete markers")
    world.declare(same, ID, 0)
    refused(lambda: world.read(same, check_replica=check), "something mirrors")


def test_copies_document_is_never_allowed_at_the_originals() -> None:
    world = World()
    world.declare(Location("docs", "out/"), COPIES_ID, 1, is_replica=True)
    refused(world.read, "something mirrors")


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
        for ranks in itertools.product(range(size), repeat=size):
            ring = [but(S, id=str(number), rank=rank) for number, rank in enumerate(ranks)]
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
    made = PlaceLook(world, world, origin, *copies)
    return lambda: asyncio.run(made.look()), copies[0]


def test_look_answers_with_the_time_of_s3() -> None:
    world = World()
    see, _ = look(world)
    world.now = NOW + 5.5
    assert see() == NOW + 5


@pytest.mark.parametrize("change", ["removed", "replaced", "written again"])
def test_document_that_is_gone_or_replaced_ends_the_run(change: str) -> None:
    world = World()
    see, place = look(world)
    if change == "removed":
        asyncio.run(world.delete("copies", place.key))
    else:
        world.declare(COPIES, COPIES_ID, 1 if change == "written again" else 3)
    refused(see, "replaced" if change == "written again" else "gone, was replaced")


def test_answer_without_a_date_is_refused() -> None:
    async def undated(request: Request) -> Body:
        body: Body = await request()
        return body._replace(answered_at=None)

    world = World()
    see, _ = look(world)
    world.hook(get=undated)
    refused(see, "no Date")
    refused(world.read, "no Date")
