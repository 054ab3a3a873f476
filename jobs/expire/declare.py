"""Declaring places: writes the documents that say where originals are, and where copies count."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from jobs.core.model import Attributes, Location
from jobs.core.run import Side
from jobs.errors import ConfigError, Denied
from jobs.expire.place_checks import refuse_replicated_deletes
from jobs.expire.places import Place, PlaceDocument, ReplicaCheck, check_locations, list_documents, read_document
from jobs.expire.places import read_places as check_places
from jobs.s3.sessions import are_apart, open_side
from jobs.s3.store import ABSENT, Store


class Declared(NamedTuple):
    """What has become of a place's document.

    `action`: `kept`, `written`, `replaced`, or `denied` where the credentials may not write it.
    `replaced`: the documents that it takes the place of.
    """

    location: Location
    document: PlaceDocument
    action: str
    replaced: Sequence[Place] = ()

    def to_dict(self, endpoint: str | None) -> dict[str, Any]:
        """JSON-ready. `command`: for somebody who may write the document."""
        place = {"uri": str(self.location), "key": self.document.key(self.location.key), "action": self.action}
        place |= msgspec.to_builtins(self.document)
        command = self._command(place["key"], endpoint) if self.action == "denied" else None
        return place | {"replaced": msgspec.to_builtins(self.replaced, enc_hook=str), "command": command}

    def _command(self, key: str, endpoint: str | None) -> str:
        file, bucket = f"place-{self.document.id}.json", self.location.bucket
        document = shlex.quote(msgspec.json.encode(self.document).decode())
        requests = [["put-object", "--if-none-match", "*", "--key", key, "--body", file]]
        for each in self.replaced:
            version = ["--version-id", each.version_id] if each.version_id else []
            requests.append(["delete-object", "--key", each.key, *version])
        at = ["--bucket", bucket, *(["--endpoint-url", endpoint] if endpoint else [])]
        commands = [shlex.join(["aws", "s3api", *request, *at]) for request in requests]
        return " && ".join([f"printf %s {document} > {file}", *commands])


def ranks(source: int | None, copies: Sequence[int | None]) -> list[int]:
    """The ranks of the originals' place and of those of copies, by those that they have (None: none).

    Pure. A rank that fits stays.

    | originals | copies | become         |
    |-----------|--------|----------------|
    | none      | none   | 0, 1           |
    | 3         | none   | 3, 4           |
    | none      | 3      | 2, 3           |
    | none      | 3, 5   | 2, 3, 5        |
    | 3         | 5      | 3, 5           |
    | 3         | 3      | 3, 4: replaced |
    | 3         | 1      | 3, 4: replaced |
    """
    rank = source if source is not None else min((each for each in copies if each is not None), default=1) - 1
    return [rank, *(each if each is not None and each > rank else rank + 1 for each in copies)]


async def declare(
    source: Store,
    copies: Store,
    source_at: Location,
    copies_at: Sequence[Location],
    *,
    replaces: bool,
    is_apart: bool,
    check_replica: ReplicaCheck,
) -> list[Declared]:
    """Declare the places, those of originals first.

    `replaces`: a document whose rank does not fit is replaced. Raises UsageError, ConfigError,
    StoreError.
    """
    check_locations(source_at, copies_at, is_apart)
    of_source = await _read_all(source, source_at)
    ids = {each.document.id for each in of_source}
    of_copies = [[each for each in await _read_all(copies, at) if each.document.id not in ids] for at in copies_at]
    there = [of_source, *of_copies]
    first, *others = [max((each.document.rank for each in places), default=None) for places in there]
    done: list[Declared] = []
    for at, rank, old in zip([source_at, *copies_at], ranks(first, others), there, strict=True):
        done.append(await _settle(copies if done else source, at, rank, old, replaces=replaces))
    if all(each.action != "denied" for each in done):
        await check_places(
            source, copies, source_at, copies_at, grace_seconds=None, is_apart=is_apart, check_replica=check_replica
        )
    return done


async def declare_sides(
    source: Side, destination: Side, copies: Sequence[Location], *, replaces: bool
) -> tuple[dict[str, Any], str]:
    """Declare the places of two sides → what has become of each, JSON-ready and as text.

    `copies`: all are reached in the way of `destination`. Raises UsageError, ConfigError, StoreError.
    """
    stores, is_apart = (open_side(source), open_side(destination)), are_apart(source, destination)
    check = partial(refuse_replicated_deletes, source)
    try:
        done = await declare(
            *stores, source.location, copies, replaces=replaces, is_apart=is_apart, check_replica=check
        )
    finally:
        for store in stores:
            await store.close()
    places = [each.to_dict((destination if number else source).endpoint) for number, each in enumerate(done)]
    return {"places": places}, "\n".join(map(_text, places))


async def _read_all(store: Store, at: Location) -> list[Place]:
    return [(await read_document(store, at, key))[0] for key in await list_documents(store, at)]


async def _settle(store: Store, at: Location, rank: int, old: Sequence[Place], *, replaces: bool) -> Declared:
    if [each.document.rank for each in old] == [rank]:
        return Declared(at, old[0].document, "kept")
    if old and not replaces:
        said = ", ".join(f"{each.name} with rank {each.document.rank}" for each in old)
        raise ConfigError(
            f"{at} has {said}, not one document with rank {rank}", advice="see --replace, which says what it ends"
        )
    is_mirror = any(each.document.deletes == "mirror" for each in old)
    document = PlaceDocument(id=secrets.token_hex(16), rank=rank, deletes="mirror" if is_mirror else "keep")
    body, attributes = msgspec.json.encode(document), Attributes(headers={"content-type": "application/json"})
    try:
        await store.put(at.bucket, document.key(at.key), body, attributes, guard=ABSENT)
    except Denied:
        return Declared(at, document, "denied", old)
    for each in old:
        etag = each.etag if each.version_id is None else None
        await store.delete(at.bucket, each.key, version_id=each.version_id, if_match=etag)
    return Declared(at, document, "replaced" if old else "written", old)


def _text(place: dict[str, Any]) -> str:
    lines = [f"{place['uri']} rank {place['rank']}: {place['action']}, {place['key']}"]
    for old in place["replaced"]:
        takes = f"  takes back rank {old['document']['rank']} ({old['key']})"
        lines.append(f"{takes}: expire runs that rely on it stop, plan them again")
    if place["command"]:
        lines.append(f"  you may not write there: let its owner give this command\n  {place['command']}")
    return "\n".join(lines)
