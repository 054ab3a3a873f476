"""Places: where originals are, and where copies count.

A place is a bucket and a prefix with one document of its own in it:

    s3://bucket/PREFIX.sealift/place-<id>.json      {"format":1,"id":"<id>","rank":1,"deletes":"keep"}

An original goes only for a copy in a place of a higher rank, so no ring of places can delete the
last copy. A document that is at the other side as well shows that both are one bucket, or that
something mirrors or reads through. What something removes later is no copy: so mirrored deletes,
and lifecycle rules of the copies' buckets, refuse.

`declare` writes the documents, `read_places` reads and checks them for a plan, `look_again` does before
each delete.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations, product
from typing import Any, Literal

import msgspec

from jobs.aws.bucket_settings import lifecycle_rules, replication_rules
from jobs.aws.clients import PROMPT_TRIES, open_client
from jobs.core.model import Attributes, Location, ObjectRef, format_time, overlap
from jobs.core.run import Side
from jobs.core.selection import is_sealift_object
from jobs.errors import REFUSALS, ConfigError, Denied, NoSuchBucket, NotFound, StoreError, UsageError
from jobs.ledger.ledger import Ledger
from jobs.policy.model import Policy
from jobs.policy.resolved import FILE_NAME, decode_policy
from jobs.s3.listing import list_all
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded, retry, together
from jobs.s3.sessions import are_apart, endpoint_of, side_store
from jobs.s3.store import ABSENT, Store, server_time

SETTLED_SECONDS = 10.0
"""The least age of a document, whatever the grace period is."""
CLOCKS_SECONDS = 900.0
"""The tolerated difference between a server's clock and ours, as of S3 itself for a signature."""
REPLICA = "REPLICA"
"""The replication status of what S3's own replication has written."""
UNVERSIONED = "copies_unversioned"
"""A plan's warning, and `--declare`'s: the copies' bucket keeps no versions."""
_FOLDER = ".sealift/place-"
_LARGEST_BYTES = 4096


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
    """A place, by its document: `key`, and what identifies and dates the document in S3.

    `has_replica`: S3's own replication has brought the originals' document there.
    """

    location: Location
    key: str
    version_id: str | None
    etag: str
    last_modified: float
    document: PlaceDocument
    has_replica: bool = False


async def read_places(
    originals: Store,
    copies: Store,
    source: Side,
    destination: Side,
    copies_at: Sequence[Location],
    grace_seconds: float | None,
    clock: Callable[[], float] = time.time,
) -> tuple[Place, list[Place]]:
    """The places of originals and copies, checked but for what only whole listings show
    (`foreign_places`).

    `grace_seconds` None: they may be of any age. `clock`: ours, since a gateway may answer with a
    Date of its own. Raises UsageError, ConfigError, StoreError.
    """
    is_apart = are_apart(source, destination)
    check_locations(source.location, copies_at, is_apart)
    named = [_only(source.location, await list_documents(originals, source.location))]
    for at in copies_at:
        listed = await list_documents(copies, at)
        is_replica = await _refuse_shared(*named[0], copies, at, is_apart, may_be_replica=True)
        named.append(_only(at, [key for key in listed if not is_replica or key != at.key + _name(*named[0])]))
    (origin, *found), now = await look_at(originals, copies, named, is_apart)
    for place in found:
        await refuse_replicated_deletes(source, place.location, is_replica=place.has_replica)
    if why := refuse(origin, found, math.inf if grace_seconds is None else min(now, clock()), grace_seconds or 0.0):
        raise ConfigError(why)
    return origin, found


async def look_at(
    originals: Store, copies: Store, named: Sequence[tuple[Location, str]], is_apart: bool
) -> tuple[list[Place], float]:
    """The places as they are now, that of the originals first, and S3's time, the earliest of all answers.

    `named`: each with the key of its document. Raises ConfigError for one that is gone or invalid, and for one that
    shows at the other side. Raises StoreError.
    """
    first, *others = named
    read = [read_document(copies if number else originals, *each) for number, each in enumerate(named)]
    replicated = [_refuse_shared(*first, copies, at, is_apart, may_be_replica=True) for at, _ in others]
    mirrored = [_refuse_shared(*each, originals, first[0], is_apart) for each in others]
    answers = await together(*read, *mirrored, *replicated)
    places, times = zip(*answers[: len(named)], strict=True)
    has_replica = [False, *answers[len(read) + len(mirrored) :]]
    found = [msgspec.structs.replace(place, has_replica=has) for place, has in zip(places, has_replica, strict=True)]
    return found, min(times)


async def look_again(originals: Store, copies: Store, pinned: Sequence[Place], is_apart: bool) -> float:
    """S3's time, as `look_at`. Raises ConfigError as well where a place is not as it was: plan again."""
    there, now = await look_at(originals, copies, [(each.location, each.key) for each in pinned], is_apart)
    for old, new in zip(pinned, there, strict=True):
        if old != new:
            raise ConfigError(f"{old.location}: its document {old.key} was replaced or replicated", advice="plan again")
    return now


def check_locations(source: Location, copies: Sequence[Location], is_apart: bool) -> None:
    """Raise UsageError for prefixes that are none of places, and for places that overlap."""
    for at in (source, *copies):
        if at.key and not at.key.endswith("/"):
            raise UsageError(f"{at}: the prefix of a place is empty or ends with a slash", advice=f"write {at}/")
    for at, other in combinations(copies if is_apart else [source, *copies], 2):
        if at.overlaps(other):
            raise UsageError(f"{at} and {other} overlap", advice="name places that have no key in common")


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
    everywhere, rank = [source, *copies], source.document.rank
    if len({each.document.id for each in everywhere}) < len(everywhere):
        return "two places have the same document, so one of them is a mirror: name places that nothing mirrors"
    for at, document in ((each.location, each.document) for each in copies):
        if document.rank <= rank:
            has = f"--destination {at} has rank {document.rank}, and --source {source.location} rank {rank}"
            return f"{has}: copies need a higher rank, else each could go for the other; see --replace"
        if document.deletes == "mirror":
            has = f"--destination {at}: deletes of a pair's source are mirrored there, says {document.key(at.key)}"
            return f"{has}: pack the originals and name the archives"
    newest, wait_seconds = max(everywhere, key=lambda each: each.last_modified), max(grace_seconds, SETTLED_SECONDS)
    if now - newest.last_modified < wait_seconds:
        until = format_time(newest.last_modified + wait_seconds)
        return f"{newest.location} was declared within the grace period: start the same command again after {until}"
    return ""


def foreign_places(keys: Iterable[str], own: Place, source: Place) -> list[str]:
    """The documents of other places among the keys of a listing of `own`.

    The originals' document may be at copies to which S3 has replicated it: `read_places` has checked that.
    """
    allowed = {own.key, own.location.key + _name(source.location, source.key)} if own.has_replica else {own.key}
    return [key for key in keys if _FOLDER in key and is_sealift_object(key) and key not in allowed]


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
    location: Location, key: str, store: Store, at: Location, is_apart: bool, *, may_be_replica: bool = False
) -> bool:
    """Raise ConfigError if the document of a place is at the other side, `at`, by GET.

    `may_be_replica`: S3's own replication may have brought it. Then returns whether it has.
    """
    keys, is_replica = {at.key + _name(location, key)}, False
    if is_apart or at.bucket != location.bucket:  # else one bucket under one name, apart by prefixes
        keys.add(key)
    for each in sorted(keys):
        try:
            body = await retry(partial(store.get, ObjectRef(at.bucket, each), end=_LARGEST_BYTES))
        except NotFound:
            continue
        is_replica = body.info.replication_status == REPLICA
        if not (may_be_replica and is_replica):
            raise ConfigError(
                f"{at} has the document of {location} at {each}: both are one bucket, or something mirrors it",
                advice="name places of which neither gets anything by itself, or delete what was copied by hand",
            )
    return is_replica


def _name(location: Location, key: str) -> str:
    """A document's key without the prefix of its place."""
    return key[len(location.key) :]


def _only(at: Location, keys: Sequence[str]) -> tuple[Location, str]:
    """The one place that has a document there. `keys`: of the documents there."""
    if not keys:
        raise ConfigError(f"{at} is not declared as a place", advice="give the same places with --declare")
    if len(keys) > 1:
        raise ConfigError(
            f"{at} has {len(keys)} documents of places: it is another place by its other name, or gets its objects",
            advice="delete those of other places, or replace all with --declare --replace",
        )
    return at, keys[0]


async def read_document(store: Store, at: Location, key: str) -> tuple[Place, float]:
    """The place of a document, and S3's time. Raises ConfigError for one that is gone, or invalid."""
    try:
        body = await retry(partial(store.get, ObjectRef(at.bucket, key), end=_LARGEST_BYTES))
        document = msgspec.json.decode(body.data, type=PlaceDocument)
    except (*REFUSALS, msgspec.MsgspecError) as error:
        raise ConfigError(f"s3://{at.bucket}/{key}: the document of a place is gone or invalid: {error}") from error
    if body.answered_at is None:
        raise ConfigError(f"{at}: the server sends no Date, so the age of nothing is known there: nothing is deleted")
    info = body.info
    if key != document.key(at.key) or info.replication_status == REPLICA:
        why = f"s3://{at.bucket}/{key} is the document of another place"
        raise ConfigError(why, advice="delete it, and declare this one")
    return Place(at, key, info.version_id, info.etag, info.last_modified, document), body.answered_at


# What removes copies later.


async def find_policy(ledger: Ledger, *, is_given: bool = False) -> Policy | None:
    """The policy that Terraform keeps in the ledger. `is_given`: the user names one as well.

    Raises PolicyError for an invalid one, ConfigError for one of an earlier release, unless one is given.
    """
    place, earlier = ledger.location.join(FILE_NAME), ledger.location.join("policy.yaml")
    try:
        found = await retry(lambda: ledger.store.get(ObjectRef(*place)))
    except NotFound:
        there = await retry(lambda: find(ledger.store, ObjectRef(*earlier)))
        if there is not None and not is_given:
            raise ConfigError(
                f"{earlier} is the policy of an earlier release, whose functions may mirror deletes to the copies",
                advice="run `terraform apply` of this release first, or give --policy",
            ) from None
        return None
    return decode_policy(found.data, str(place))


def refuse_mirrors(policy: Policy, copies: Sequence[Location]) -> None:
    """Raise UsageError if the deletes of originals reach one of the places."""
    for pair in policy.pairs:
        mirrors = [("deletes: mirror", pair.destination.bucket)] if pair.deletes == "mirror" else []
        if pair.replica and pair.replica.delete_markers:
            mirrors.append(("replica.delete_markers", pair.replica.bucket))
        for (setting, bucket), prefix in product(mirrors, pair.source.prefixes):
            reached = Location(bucket, pair.copy_key(prefix))
            if place := next(filter(reached.overlaps, copies), None):
                raise UsageError(
                    f"--destination {place}: by {setting} of pair {pair.name} deletes of originals reach the copies",
                    advice="set it to keep them, or pack the originals and name the archives",
                )


async def refuse_lifecycle(copies: Sequence[Location], side: Side) -> None:
    """Raise ConfigError if a lifecycle rule removes objects in one of the places, or may do so."""
    for bucket in dict.fromkeys(place.bucket for place in copies):
        for rule in await _ask(side, bucket, "lifecycle", partial(lifecycle_rules, bucket=bucket, owner=side.owner)):
            covered = next((place for place in copies if place.overlaps(Location(bucket, rule.prefix))), None)
            if covered and rule.removes:
                raise ConfigError(
                    f"--destination {covered}: the lifecycle rule {rule.rule_id!r} of s3://{bucket} has "
                    f"{rule.removes}, which removes or may remove objects below {rule.prefix!r}",
                    advice="exclude the copies from it, or name a narrower place",
                )


async def refuse_replicated_deletes(source: Side, copies: Location, *, is_replica: bool) -> None:
    """Raise ConfigError if replication of the originals' bucket carries deletes to the copies, or may do so.

    `is_replica`: replication has brought the originals' document there. MinIO replicates deletes by a setting
    that S3's API does not have, and once a rule is enabled again also what was deleted while it was disabled:
    https://github.com/minio/minio/blob/master/docs/bucket/replication/DESIGN.md#existing-object-replication
    """
    bucket, prefix = source.location
    is_aws = endpoint_of(source).partition is not None
    if is_replica and not is_aws:
        raise ConfigError(f"--destination {copies}: its server, which is not AWS, may replicate deletes of originals")
    rules = await _ask(source, bucket, "replication", partial(replication_rules, bucket=bucket))
    rules = [rule for rule in rules if (rule.is_enabled or not is_aws) and overlap(rule.prefix, prefix)]
    is_named = not is_replica or any(rule.destination == copies.bucket for rule in rules)  # else by another name
    for rule in rules:
        if (rule.replicates_markers or not is_aws) and (rule.destination == copies.bucket or not is_named):
            raise ConfigError(
                f"--destination {copies}: the replication rule {rule.rule_id!r} of s3://{bucket} may carry deletes",
                advice="remove it, or pack the originals and name the archives",
            )


async def _ask(side: Side, bucket: str, what: str, question: Callable[[Any], Sequence[Any]]) -> Sequence[Any]:
    """What the bucket's settings say: nothing, if the server has none. Raises ConfigError, StoreError."""
    client = open_client("s3", side.region, PROMPT_TRIES, endpoint=side.endpoint, profile=side.profile)
    try:
        return await asyncio.to_thread(question, client)
    except (StoreError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError) and not isinstance(error, Denied):
            if error.status == 501 or error.code == "NotImplemented":
                return ()
            raise
        raise ConfigError(
            f"s3://{bucket}: whether a {what} rule removes the copies is not known, so nothing is deleted: {error}",
            advice=f"permit s3:Get{what.capitalize()}Configuration",
        ) from error


async def find_warnings(copies: Store, places: Sequence[Location]) -> list[dict[str, str]]:
    """What a person has to know of places of copies, JSON-ready. A bucket that does not say so keeps no versions."""

    async def keeps_versions(at: Location) -> bool:
        with suppress(NoSuchBucket, *REFUSALS):  # no other error says anything of the bucket
            return await retry(partial(copies.is_versioned, at.bucket))
        return False

    kept = await gather_bounded(keeps_versions, places, len(places))
    return [{"uri": str(at), "code": UNVERSIONED} for at, is_kept in zip(places, kept, strict=True) if not is_kept]


def warning(found: Mapping[str, str]) -> str:
    """One of `find_warnings`, for people."""
    return f"{found['uri']}: without versions an overwrite ends the last copy: turn them on ({found['code']})"


# Declaring.


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
    source: Side,
    destination: Side,
    copies: Sequence[Location],
    *,
    replaces: bool,
    clock: Callable[[], float] = time.time,
) -> list[dict[str, Any]]:
    """Declare the places, those of originals first → what has become of each, JSON-ready.

    `copies`: all are reached in the way of `destination`. `replaces`: a document whose rank does not
    fit is replaced. `action`: `kept`, `written`, `replaced`, or `denied` where the credentials may
    not write it. Then `command` is for somebody who may. Raises UsageError, ConfigError, StoreError. If a
    server's clock is behind, it would date the documents too early.
    """
    check_locations(source.location, copies, are_apart(source, destination))
    async with side_store(source) as originals, side_store(destination) as others:
        where = [(originals, source, source.location), *((others, destination, at) for at in copies)]
        there = [await _read_all(store, at) for store, _, at in where]
        ids = {each.document.id for each in there[0]}
        there[1:] = [[each for each in some if each.document.id not in ids] for some in there[1:]]
        for store, _, at in where:
            if server_time(store) < clock() - CLOCKS_SECONDS:
                raise ConfigError(
                    f"the clock of the server of {at} is behind ours, so that its places would be old too early",
                    advice="set the clock that is wrong, and declare then",
                )
        first, *rest = [max((each.document.rank for each in places), default=None) for places in there]
        done = [
            await _settle(store, at, rank, old, side.endpoint, replaces=replaces)
            for (store, side, at), rank, old in zip(where, ranks(first, rest), there, strict=True)
        ]
        warnings = await find_warnings(others, copies)
        for place in done:
            place["warnings"] = [each for each in warnings if each["uri"] == place["uri"]]
        if all(each["action"] != "denied" for each in done):
            await read_places(originals, others, source, destination, copies, None)
        return done


def told(place: dict[str, Any]) -> str:
    """What has become of a place, for people."""
    lines = [f"{place['uri']} rank {place['rank']}: {place['action']}, {place['key']}"]
    stop = "expire runs that rely on it stop, plan them again"
    lines += [f"  takes back rank {old['rank']} ({old['key']}): {stop}" for old in place["replaced"]]
    lines += [f"  {warning(each)}" for each in place["warnings"]]
    if place["command"]:
        lines.append(f"  you may not write there: let its owner give this command\n  {place['command']}")
    return "\n".join(lines)


async def _read_all(store: Store, at: Location) -> list[Place]:
    return [(await read_document(store, at, key))[0] for key in await list_documents(store, at)]


async def _settle(
    store: Store, at: Location, rank: int, old: Sequence[Place], endpoint: str | None, *, replaces: bool
) -> dict[str, Any]:
    fits, action = [each.document.rank for each in old] == [rank], "replaced" if old else "written"
    if old and not (fits or replaces):
        said = ", ".join(f"{_name(at, each.key)} with rank {each.document.rank}" for each in old)
        raise ConfigError(f"{at} has {said}, not one document with rank {rank}", advice="see --replace")
    if fits:
        document, old, action = old[0].document, [], "kept"
    else:
        is_mirror = any(each.document.deletes == "mirror" for each in old)
        document = PlaceDocument(id=secrets.token_hex(16), rank=rank, deletes="mirror" if is_mirror else "keep")
    command = None
    try:
        if not fits:
            body, attributes = msgspec.json.encode(document), Attributes(headers={"content-type": "application/json"})
            await store.put(ObjectRef(at.bucket, document.key(at.key)), body, attributes, guard=ABSENT)
    except Denied:
        action, command = "denied", _command(at, document, old, endpoint)
    else:
        for each in old:
            etag = each.etag if each.version_id is None else None
            await store.delete(ObjectRef(at.bucket, each.key, each.version_id), if_match=etag)
    place: dict[str, Any] = {"uri": str(at), "key": document.key(at.key), "action": action, "command": command}
    place["replaced"] = [{"key": each.key, "id": each.document.id, "rank": each.document.rank} for each in old]
    return place | {name: getattr(document, name) for name in ("format", "id", "rank", "deletes")}


def _command(at: Location, document: PlaceDocument, old: Sequence[Place], endpoint: str | None) -> str:
    file, body = f"place-{document.id}.json", shlex.quote(msgspec.json.encode(document).decode())
    requests = [["put-object", "--if-none-match", "*", "--key", document.key(at.key), "--body", file]]
    for each in old:
        version = ["--version-id", each.version_id] if each.version_id else []
        requests.append(["delete-object", "--key", each.key, *version])
    where = ["--bucket", at.bucket, *(["--endpoint-url", endpoint] if endpoint else [])]
    commands = [shlex.join(["aws", "s3api", *request, *where]) for request in requests]
    return " && ".join([f"printf %s {body} > {file}", *commands])
