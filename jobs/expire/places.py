"""Places: where originals are, and where copies count.

A place is a bucket and a prefix with one document of its own in it:

    s3://bucket/PREFIX.sealift/place-<id>.json      {"format":1,"id":"<id>","rank":1,"deletes":"keep"}

An original goes only for a copy in a place of a higher rank, so no ring of places can delete the
last copy. A document that is at the other side as well shows that both are one bucket, or that
something mirrors or reads through. `jobs.expire.declare` writes the documents.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Literal

import msgspec

from jobs.core.model import Location, ObjectRef, format_time
from jobs.core.selection import is_sealift_object
from jobs.errors import ArchivedObject, ConfigError, Denied, NoSuchBucket, NotFound, PreconditionFailed, UsageError
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Body, Store

SETTLED_SECONDS = 10.0
"""The least age of a document, whatever the grace period is."""
REPLICA = "REPLICA"
"""The replication status of what S3's own replication has written."""
_FOLDER = ".sealift/place-"
_LARGEST_BYTES = 4096

ReplicaCheck = Callable[[Location], Awaitable[None]]
"""Raises ConfigError unless S3's own replication into a place carries no deletes
(`jobs.expire.place_checks.refuse_replicated_deletes`)."""


class PlaceDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`deletes`: `mirror` where deletes of a pair's source are mirrored to this place."""

    format: Literal[1] = 1
    id: str
    rank: int
    deletes: Literal["keep", "mirror"] = "keep"

    def key(self, prefix: str) -> str:
        """Where it belongs in the place with this prefix."""
        return f"{prefix}{_FOLDER}{self.id}.json"


class Place(msgspec.Struct, frozen=True):
    """A place, by its document: `key`, and what identifies and dates the document in S3."""

    location: Location
    key: str
    version_id: str | None
    etag: str
    last_modified: float
    document: PlaceDocument

    @property
    def name(self) -> str:
        """The document's key without the prefix of its place."""
        return self.key[len(self.location.key) :]


async def read_places(
    source: Store,
    copies: Store,
    source_at: Location,
    copies_at: Sequence[Location],
    *,
    grace_seconds: float | None,
    is_apart: bool,
    check_replica: ReplicaCheck,
    clock: Callable[[], float] = time.time,
) -> tuple[Place, list[Place]]:
    """The places of originals and copies, checked but for what only whole listings show
    (`foreign_places`).

    `is_apart`: they are on different services, so that one bucket name means two buckets.
    `grace_seconds` None: they may be of any age. `clock`: ours, since a gateway may answer with a
    Date of its own. Raises UsageError, ConfigError, StoreError.
    """
    check_locations(source_at, copies_at, is_apart)
    origin, now = await _read_place(source, source_at)
    found: list[Place] = []
    for at in copies_at:
        await _refuse_shared(origin, copies, at, is_apart, check_replica)
        place, answered_at = await _read_place(copies, at, origin.name)
        await _refuse_shared(place, source, source_at, is_apart)
        found.append(place)
        now = min(now, answered_at)
    if why := refuse(origin, found, math.inf if grace_seconds is None else min(now, clock()), grace_seconds or 0.0):
        raise ConfigError(why)
    return origin, found


def check_locations(source: Location, copies: Sequence[Location], is_apart: bool) -> None:
    """Raise UsageError for prefixes that are none of places, and for places that overlap."""
    named = [("--source", source), *(("--destination", each) for each in copies)]
    for option, at in named:
        if at.key and not at.key.endswith("/"):
            raise UsageError(
                f"{option} {at}: the prefix of a place is empty or ends with a slash", advice=f"write {at}/"
            )
    for (option, at), (_, other) in combinations(named[1:] if is_apart else named, 2):
        if at.overlaps(other):
            raise UsageError(
                f"{option} {at} and --destination {other} overlap", advice="name places that have no key in common"
            )


def refuse(source: Place, copies: Sequence[Place], now: float, grace_seconds: float) -> str:
    """Why these places may not be used, else an empty text. Pure. The first line that applies:

    | the places                                                        | refused |
    |-------------------------------------------------------------------|---------|
    | two of them have one id                                           | yes     |
    | the rank of copies is not higher than that of the originals       | yes     |
    | deletes are mirrored to copies                                    | yes     |
    | a document is younger than the grace period, or than 10 s         | yes     |
    | any other                                                         | no      |

    `now`: S3's time. Where the clocks of two services, or ours, differ, the earliest one.
    """
    everywhere = [source, *copies]
    if len({each.document.id for each in everywhere}) < len(everywhere):
        return "two places have the same document, so one of them is a mirror: name places that nothing mirrors"
    rank = source.document.rank
    if low := [each for each in copies if each.document.rank <= rank]:
        first = low[0]
        has = (
            f"--destination {first.location} has rank {first.document.rank}, and --source {source.location} rank {rank}"
        )
        return f"{has}: copies need a higher rank, else each could be deleted for the sake of the other; see --replace"
    if mirrors := [each for each in copies if each.document.deletes == "mirror"]:
        has = (
            f"--destination {mirrors[0].location}: deletes of a pair's source are mirrored there, says {mirrors[0].key}"
        )
        return f"{has}: pack the originals and name the archives"
    newest, wait_seconds = max(everywhere, key=lambda each: each.last_modified), max(grace_seconds, SETTLED_SECONDS)
    if now - newest.last_modified < wait_seconds:
        until = format_time(newest.last_modified + wait_seconds)
        return f"{newest.location} was declared within the grace period: start the same command again after {until}"
    return ""


def foreign_places(keys: Iterable[str], own: Place, source: Place) -> list[str]:
    """The documents of other places among the keys of a listing of `own`.

    The originals' document may be at the copies: `read_places` has checked it.
    """
    allowed = {own.key, own.location.key + source.name}
    return [key for key in keys if _FOLDER in key and is_sealift_object(key) and key not in allowed]


class PlaceLook:
    """A look at the documents of all places."""

    def __init__(self, source: Store, copies: Store, origin: Place, *others: Place):
        self._places = [(source, origin), *((copies, each) for each in others)]

    async def look(self) -> float:
        """S3's time, the earliest of all answers.

        Raises ConfigError where a document is not the pinned one any more, StoreError.
        """
        return min(await gather_bounded(lambda each: self._look_at(*each), self._places, len(self._places)))

    async def _look_at(self, store: Store, place: Place) -> float:
        body, answered_at = await _get(store, place.location, place.key, place.etag)
        if (body.info.version_id, body.info.last_modified) != (place.version_id, place.last_modified):
            raise ConfigError(f"{place.location}: its document {place.key} was replaced", advice="plan again")
        return answered_at


async def list_documents(store: Store, at: Location) -> list[str]:
    """The keys of documents at a place. Raises ConfigError for one at a prefix that holds it."""
    parents = [Location(at.bucket, at.key[: match.start() + 1]) for match in re.finditer("/", at.key[:-1])]
    for parent in [Location(at.bucket), *parents] if at.key else []:
        if await _documents(store, parent):
            raise ConfigError(f"{at} lies in another place, {parent}", advice="name places that have no key in common")
    return await _documents(store, at)


async def _documents(store: Store, at: Location) -> list[str]:
    pages = list_all(store, Location(at.bucket, at.key + _FOLDER), versions=False, concurrency=1)
    return [entry.key async for page in pages for entry in page if is_sealift_object(entry.key)]


async def _refuse_shared(
    place: Place, store: Store, at: Location, is_apart: bool, check: ReplicaCheck | None = None
) -> None:
    """Raise ConfigError if the document of `place` is at the other side, `at`, by listing or by GET.

    `check`: S3's own replication may have brought it.
    """
    listed = await list_documents(store, at)
    keys = dict.fromkeys((at.key + place.name, place.key))
    if not is_apart and at.bucket == place.location.bucket:  # one bucket under one name, apart by prefixes
        keys.pop(place.key)
    for key in keys:
        try:
            body = await retry(partial(store.get, ObjectRef(at.bucket, key), end=_LARGEST_BYTES))
            is_replica = body.info.replication_status == REPLICA
        except NoSuchBucket:
            raise
        except NotFound:
            if key not in listed:
                continue
            is_replica = False
        if check is None or not is_replica:
            raise ConfigError(
                f"{at} has the document of {place.location} at {key}: both are one bucket, or something mirrors one to "
                "the other",
                advice="name places of which neither gets anything by itself, or delete what was copied by hand",
            )
        await check(at)


async def _read_place(store: Store, at: Location, replicated: str = "") -> tuple[Place, float]:
    """The one place whose document is there, and S3's time. `replicated`: the name of one that may be there as well."""
    keys = [key for key in await list_documents(store, at) if key != at.key + replicated]
    if not keys:
        raise ConfigError(
            f"{at} is not declared as a place", advice="give the same --source and --destination with --declare"
        )
    if len(keys) > 1:
        raise ConfigError(
            f"{at} has {len(keys)} documents of places: it is another place by its other name, or gets its objects. "
            "Delete those of other places, or replace all with --declare --replace"
        )
    return await read_document(store, at, keys[0])


async def read_document(store: Store, at: Location, key: str) -> tuple[Place, float]:
    """The place of a document, and S3's time. Raises ConfigError for an invalid document."""
    body, answered_at = await _get(store, at, key)
    try:
        document = msgspec.json.decode(body.data, type=PlaceDocument)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"s3://{at.bucket}/{key} is no document of a place: {error}") from error
    if key != document.key(at.key) or body.info.replication_status == REPLICA:
        raise ConfigError(f"s3://{at.bucket}/{key} is the document of another place: delete it, and declare this one")
    info = body.info
    return Place(at, key, info.version_id, info.etag, info.last_modified, document), answered_at


async def _get(store: Store, at: Location, key: str, etag: str | None = None) -> tuple[Body, float]:
    """A document, and S3's time."""
    try:
        body = await retry(partial(store.get, ObjectRef(at.bucket, key), end=_LARGEST_BYTES, if_match=etag))
    except NoSuchBucket:
        raise
    except (NotFound, PreconditionFailed, ArchivedObject, Denied) as error:
        raise ConfigError(f"the document of a place is gone, was replaced, or cannot be read: {error}") from error
    if body.answered_at is None:
        raise ConfigError(f"{at}: the server sends no Date, so the age of nothing is known there: nothing is deleted")
    return body, body.answered_at
