"""Declaring places: writes the documents that say where originals are, and where copies count."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from jobs.core.model import Attributes, Location
from jobs.core.run import Side
from jobs.errors import ConfigError, Denied
from jobs.expire.place_checks import refuse_replicated_deletes
from jobs.expire.places import Place, PlaceDocument, check_locations, list_documents, read_document, read_places
from jobs.s3.sessions import are_apart, open_side
from jobs.s3.store import ABSENT, Store


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
    source: Side, destination: Side, copies: Sequence[Location], *, replaces: bool
) -> list[dict[str, Any]]:
    """Declare the places, those of originals first → what has become of each, JSON-ready.

    `copies`: all are reached in the way of `destination`. `replaces`: a document whose rank does not
    fit is replaced. `action`: `kept`, `written`, `replaced`, or `denied` where the credentials may
    not write it. Then `command` is for somebody who may. Raises UsageError, ConfigError, StoreError.
    """
    is_apart, check = are_apart(source, destination), partial(refuse_replicated_deletes, source)
    check_locations(source.location, copies, is_apart)
    stores = open_side(source), open_side(destination)
    try:
        there = [await _read_all(stores[0], source.location)]
        ids = {each.document.id for each in there[0]}
        there += [[each for each in await _read_all(stores[1], at) if each.document.id not in ids] for at in copies]
        first, *others = [max((each.document.rank for each in places), default=None) for places in there]
        done: list[dict[str, Any]] = []
        for at, rank, old in zip([source.location, *copies], ranks(first, others), there, strict=True):
            store, side = (stores[1], destination) if done else (stores[0], source)
            done.append(await _settle(store, side, at, rank, old, replaces=replaces))
        if all(each["action"] != "denied" for each in done):
            terms: dict[str, Any] = {"grace_seconds": None, "is_apart": is_apart, "check_replica": check}
            await read_places(*stores, source.location, copies, **terms)
        return done
    finally:
        for each in stores:
            await each.close()


def told(place: dict[str, Any]) -> str:
    """What has become of a place, for people."""
    lines = [f"{place['uri']} rank {place['rank']}: {place['action']}, {place['key']}"]
    for old in place["replaced"]:
        takes = f"  takes back rank {old['document']['rank']} ({old['key']})"
        lines.append(f"{takes}: expire runs that rely on it stop, plan them again")
    if place["command"]:
        lines.append(f"  you may not write there: let its owner give this command\n  {place['command']}")
    return "\n".join(lines)


async def _read_all(store: Store, at: Location) -> list[Place]:
    return [(await read_document(store, at, key))[0] for key in await list_documents(store, at)]


async def _settle(
    store: Store, side: Side, at: Location, rank: int, old: Sequence[Place], *, replaces: bool
) -> dict[str, Any]:
    if [each.document.rank for each in old] == [rank]:
        return _become(at, old[0].document, "kept")
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
        return _become(at, document, "denied", old, _command(side, at, document, old))
    for each in old:
        etag = each.etag if each.version_id is None else None
        await store.delete(at.bucket, each.key, version_id=each.version_id, if_match=etag)
    return _become(at, document, "replaced" if old else "written", old)


def _become(
    at: Location, document: PlaceDocument, action: str, replaced: Sequence[Place] = (), command: str | None = None
) -> dict[str, Any]:
    place: dict[str, Any] = {"uri": str(at), "key": document.key(at.key), "action": action}
    place |= msgspec.to_builtins(document)
    return place | {"replaced": msgspec.to_builtins(replaced, enc_hook=str), "command": command}


def _command(side: Side, at: Location, document: PlaceDocument, old: Sequence[Place]) -> str:
    file, body = f"place-{document.id}.json", shlex.quote(msgspec.json.encode(document).decode())
    requests = [["put-object", "--if-none-match", "*", "--key", document.key(at.key), "--body", file]]
    for each in old:
        version = ["--version-id", each.version_id] if each.version_id else []
        requests.append(["delete-object", "--key", each.key, *version])
    where = ["--bucket", at.bucket, *(["--endpoint-url", side.endpoint] if side.endpoint else [])]
    commands = [shlex.join(["aws", "s3api", *request, *where]) for request in requests]
    return " && ".join([f"printf %s {body} > {file}", *commands])
