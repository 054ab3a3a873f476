"""The backlog: rows that the backup function leaves to a run.

They were too large, too slow or archived.

    <ledger>/backlog/pair=<name>/<milliseconds>-<rows>-<bytes>-<unique>.json   rows, a line of JSON each, written once
    <ledger>/manifests/pair=<name>/000007-<unique>.csv                         rows as `jobs.manifests` reads them
    <ledger>/manifests/pair=<name>/000007.json                                 published: which backlog it has taken

It is in the ledger rather than in another queue: nothing in it can expire or be received twice, one
LIST shows how much waits and since when, and a run gets a reference, never a list. Manifests are
numbered. The writer of a number's document takes the rows that it lists, and the next one goes on
from there.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeAlias
from urllib.parse import quote_plus

import msgspec
from msgspec import Meta, Struct

from jobs.backup.events import ObjectEvent
from jobs.core.model import LATEST_SECONDS, NULL_VERSION, SIZE_LIMIT, format_time
from jobs.errors import StoreError
from jobs.ledger.backlog import NAMED_BYTES_MAX, Manifest, Taken, Waiting, latest_manifest, list_backlog, read_backlog
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.sync.edges import Version
from scheduler.log import say
from scheduler.runtime import Runtime

READS_IN_FLIGHT = 32
ROWS_MAX = 100_000
"""The rows of one manifest, unless a single object has more. A function holds them in memory."""
_Bare: TypeAlias = Annotated[str, Meta(pattern=r"\A[!#-+.-~-]*\Z")]
"""What a field of a manifest may hold unquoted: nothing that ends a line or field, no quotes."""


class BacklogRow(Struct, frozen=True):
    """An object version that waits for a run. Without a version id it is the key's latest.

    What it is read from may have keys that a newer Sealift has added.

    `last_modified` (epoch seconds): S3's own date of the version, or the time of its event, which
    is not before that. An attempt that finds the version gone knows by it, and by the size, what a
    killed attempt may have left on top.
    """

    bucket: _Bare
    key: Annotated[str, Meta(min_length=1)]
    version_id: _Bare | None
    size_bytes: Annotated[int, Meta(ge=0, lt=SIZE_LIMIT)] | None
    etag: str | None
    reason: str
    last_modified: Annotated[float, Meta(ge=0, le=LATEST_SECONDS)] | None = None

    @classmethod
    def of(cls, event: ObjectEvent, reason: str, version: Version | None = None) -> BacklogRow:
        """The row for an event, or for this version of its key.

        An object without an id of its own is the null version, which others may cover before the
        run, where versioning is enabled meanwhile.
        """
        if version is None:
            about = event.version_id or NULL_VERSION, event.size_bytes, event.etag
            return cls(event.bucket, event.key, *about, reason, event.event_time)
        at = max(0.0, version.at)  # servers that keep files may say 1969
        return cls(event.bucket, event.key, version.version_id, version.size_bytes, version.etag, reason, at)


async def add(runtime: Runtime, pair: str, rows: Sequence[BacklogRow]) -> str:
    """Put rows into the pair's backlog. Returns the object's name. Raises StoreError."""
    size_bytes = min(sum(row.size_bytes or 0 for row in rows), NAMED_BYTES_MAX)
    stamp = f"{int(runtime.clock() * 1000):013d}-{len(rows)}-{size_bytes}-{secrets.token_hex(6)}"
    name = f"backlog/pair={pair}/{stamp}.json"
    await runtime.write_once(name, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return name


async def waiting(runtime: Runtime, pair: str) -> list[Waiting]:
    """The objects that no manifest has taken, the oldest first. Raises StoreError, LedgerError."""
    return await read_backlog(runtime.store(), runtime.ledger, pair, sys.maxsize)


async def publish(
    runtime: Runtime,
    pair: str,
    taking: Iterable[Waiting],
    reason: str,
    *,
    rows_max: int = ROWS_MAX,
    deadline: float = math.inf,
) -> Manifest | None:
    """Publish a manifest of what waits. None if nothing of it can be read, or another call was first:
    then the next call goes on from there.

    It takes the first objects that have `rows_max` rows together, and what was read by `deadline`
    (the loop's time), but at least the first ones. An object that cannot be read is left in the
    backlog. Rows that another pair has by now go into its backlog. Invalid rows, and rows that no
    pair has, are left out. The log says all of it.
    """
    policy = await runtime.policy()
    number, taken = await latest_manifest(runtime.store(), runtime.ledger, pair)
    names = [each.name for each in taking if not taken.has(each.name)]
    own = await _read_objects(runtime, policy, pair, names, rows_max, deadline)
    if not own:
        return None
    rows = {(row.bucket, row.key, row.version_id): row for name in sorted(own) for row in own[name]}
    present = [each async for each in list_backlog(runtime.store(), runtime.ledger, pair, taken)]
    taken = taken.with_these(own, present, runtime.clock())
    return await _write(runtime, pair, number + 1, list(rows.values()), reason, taken)


async def _read_objects(
    runtime: Runtime, policy: Policy, pair: str, names: Sequence[str], rows_max: int, deadline: float
) -> dict[str, list[BacklogRow]]:
    """The rows of the first objects, by their names."""
    content: dict[str, list[BacklogRow]] = {}
    count, loop = 0, asyncio.get_running_loop()
    for start in range(0, len(names), READS_IN_FLIGHT):
        group = names[start : start + READS_IN_FLIGHT]
        places = [f"backlog/pair={pair}/{name}" for name in group]
        answers = await asyncio.gather(*map(runtime.read, places), return_exceptions=True)
        for name, place, data in zip(group, places, answers, strict=True):
            if isinstance(data, StoreError):
                say("error", "backlog object unreadable", name=place, error=str(data))
                continue
            if isinstance(data, BaseException):
                raise data
            by_pair = _rows_by_pair(policy, place, data)
            rows = by_pair.pop(pair, [])
            if content and count + len(rows) > rows_max:
                return content
            for other, theirs in by_pair.items():
                target = await add(runtime, other, theirs)
                say("warning", "backlog rows moved", pair=pair, name=name, rows=len(theirs), to=target)
            content[name], count = rows, count + len(rows)
        if loop.time() >= deadline:
            break
    return content


async def _write(
    runtime: Runtime, pair: str, number: int, rows: Sequence[BacklogRow], reason: str, taken: Taken
) -> Manifest | None:
    """Write the rows, then the document that publishes them. Returns None if the number was taken
    meanwhile.
    """
    folder = f"manifests/pair={pair}/"
    name = f"{folder}{number:06d}-{secrets.token_hex(6)}.csv"
    await runtime.write_once(name, _to_csv(rows))
    manifest = Manifest(
        str(pair),
        number,
        str(runtime.place(name)),
        len(rows),
        min(sum(row.size_bytes or 0 for row in rows), NAMED_BYTES_MAX),
        runtime.clock(),
        taken.before,
        sorted(taken.names),
        reason,
        secrets.token_hex(6),
    )
    is_ours = await runtime.write_once(f"{folder}{number:06d}.json", msgspec.json.encode(manifest))
    return manifest if is_ours else None


def _to_csv(rows: Sequence[BacklogRow]) -> bytes:
    """The rows as bucket,key,version id,size,time, with keys encoded as S3 does, so that nothing
    needs quotes.
    """
    lines = []
    for row in rows:
        size = "" if row.size_bytes is None else str(row.size_bytes)
        time = "" if row.last_modified is None else format_time(row.last_modified)
        lines.append(",".join([row.bucket, quote_plus(row.key, safe="/"), row.version_id or "", size, time]))
    return "".join(f"{line}\n" for line in lines).encode()


def _rows_by_pair(policy: Policy, name: str, data: bytes) -> dict[str, list[BacklogRow]]:
    """The rows of an object of the backlog, by the pairs that have them by the policy of now. Rows that no manifest can
    hold, and those that no pair has, are left out and logged, so that the others run.
    """
    by_pair: dict[str, list[BacklogRow]] = defaultdict(list)
    for line in filter(None, data.split(b"\n")):
        try:
            row = msgspec.json.decode(line, type=BacklogRow)
        except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
            say("error", "backlog row left out", name=name, error=f"{type(error).__name__}: {error}")
            continue
        if (pair := match(policy, row.bucket, row.key)) is None:
            say("warning", "backlog row left out", name=name, key=row.key, error="no pair has it, by the policy")
        else:
            by_pair[pair.name].append(row)
    return by_pair
