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
import json
import math
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from jobs.backup.events import ObjectEvent
from jobs.core.model import LATEST_SECONDS, NULL_VERSION, SIZE_LIMIT, format_time
from jobs.errors import LedgerError, StoreError
from jobs.ledger.backlog import (
    COUNT_LIMIT,
    MANIFEST_VERSION,
    NAMED_BYTES_MAX,
    SETTLED_SECONDS,
    Taken,
    Waiting,
    backlog_pairs,
    is_count,
    latest_manifest,
    list_backlog,
    manifest_document,
    manifest_numbers,
    parse_waiting,
)
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.s3.retries import gather_bounded
from scheduler.log import say
from scheduler.runtime import Runtime

READS_IN_FLIGHT = 32
ROWS_MAX = 100_000
"""The rows of one manifest, unless a single object has more. A function holds them in memory."""
_BARE = re.compile(r"[!#-+.-~-]*")
"""What a field of a manifest may hold unquoted: nothing that ends a line or field, no quotes."""


class BacklogRow(NamedTuple):
    """An object version that waits for a run. Without a version id it is the key's latest.

    `last_modified` (epoch seconds): S3's own date of the version, or the time of its event, which
    is not before that. An attempt that finds the version gone knows by it, and by the size, what a
    killed attempt may have left on top.
    """

    bucket: str
    key: str
    version_id: str | None
    size_bytes: int | None
    etag: str | None
    reason: str
    last_modified: float | None = None

    @classmethod
    def of(cls, event: ObjectEvent, reason: str) -> BacklogRow:
        """The row for an event.

        An object without an id of its own is the null version, which others may cover before the
        run, where versioning is enabled meanwhile.
        """
        version_id = event.version_id or NULL_VERSION
        return cls(event.bucket, event.key, version_id, event.size_bytes, event.etag, reason, event.event_time)


class Published(NamedTuple):
    """A manifest that a run can be started for. `manifest`: its URI. If None, `prefixes` say what
    to list.
    """

    pair: str
    number: int
    manifest: str | None
    prefixes: tuple[str, ...]
    rows: int
    size_bytes: int


async def add(runtime: Runtime, pair: str, rows: Sequence[BacklogRow]) -> str:
    """Put rows into the pair's backlog. Returns the object's name. Raises StoreError.

    A machine that slept amid the write may have been too late for its stamp (`Taken.before`): then
    it is written again.
    """
    size_bytes = min(sum(row.size_bytes or 0 for row in rows), NAMED_BYTES_MAX)
    data = b"".join(json.dumps(row._asdict()).encode() + b"\n" for row in rows)
    while True:
        began = runtime.clock()
        stamp = f"{int(began * 1000):013d}-{len(rows)}-{size_bytes}-{secrets.token_hex(6)}"
        name = f"backlog/pair={pair}/{stamp}.json"
        await runtime.write_once(name, data)
        if runtime.clock() - began < SETTLED_SECONDS / 2:
            return name


async def waiting(runtime: Runtime, pair: str) -> list[Waiting]:
    """The objects that no manifest has taken, the oldest first. Raises StoreError, LedgerError."""
    _, taken = await latest_manifest(runtime.store(), runtime.settings.ledger, pair)
    names = [each.key for each in await list_backlog(runtime.store(), runtime.settings.ledger, pair, taken)]
    return [each for name in names if not taken.has(name) and (each := _parse(name, pair)) is not None]


async def pairs(runtime: Runtime) -> list[str]:
    """The pairs that have a backlog, whatever the policy says. One LIST for each 1,000."""
    return await backlog_pairs(runtime.store(), runtime.settings.ledger)


async def publish(
    runtime: Runtime,
    pair: str,
    taking: Iterable[Waiting],
    reason: str,
    *,
    rows_max: int = ROWS_MAX,
    deadline: float = math.inf,
) -> Published | None:
    """Publish a manifest of what waits. Returns None if other manifests have taken all of it, or
    nothing of it can be read.

    It takes the first objects that have `rows_max` rows together, and what was read by `deadline`
    (the loop's time), but at least the first ones. An object that cannot be read is left in the
    backlog. Rows that another pair has by now go into its backlog. Invalid rows, and rows that no
    pair has, are left out. The log says all of it.
    """
    policy = await runtime.policy()
    wanted = [each.name for each in taking]
    content: dict[str, list[BacklogRow]] | None = None
    while True:
        number, taken = await latest_manifest(runtime.store(), runtime.settings.ledger, pair)
        if content is None:
            names = [name for name in wanted if not taken.has(name)]
            content = await _read_objects(runtime, policy, pair, names, rows_max, deadline)
        own = {name: rows for name, rows in content.items() if not taken.has(name)}
        if not own:
            return None
        rows = {(row.bucket, row.key, row.version_id): row for name in sorted(own) for row in own[name]}
        present = await list_backlog(runtime.store(), runtime.settings.ledger, pair, taken)
        extra = _extra(reason, taken.with_these(own, present, runtime.clock()))
        published = await _write(runtime, pair, number + 1, list(rows.values()), (), extra)
        if published is not None:
            return published


async def _read_objects(
    runtime: Runtime, policy: Policy, pair: str, names: Sequence[str], rows_max: int, deadline: float
) -> dict[str, list[BacklogRow]]:
    """The rows of the first objects, by their names."""
    content: dict[str, list[BacklogRow]] = {}
    count, loop = 0, asyncio.get_running_loop()
    for group in _groups(names):
        answers = await asyncio.gather(*(_read_object(runtime, pair, name) for name in group))
        moved: list[tuple[str, str, list[BacklogRow]]] = []
        is_full = False
        for name, data in zip(group, answers, strict=True):
            if data is None:
                continue
            by_pair = _rows_by_pair(policy, pair, name, data)
            rows = by_pair.pop(pair, [])
            if is_full := bool(content) and count + len(rows) > rows_max:
                break
            content[name], count = rows, count + len(rows)
            moved += [(name, other, theirs) for other, theirs in by_pair.items()]
        await gather_bounded(lambda each: _move(runtime, pair, *each), moved, READS_IN_FLIGHT)
        if is_full or loop.time() >= deadline:
            break
    return content


async def _move(runtime: Runtime, pair: str, name: str, other: str, rows: Sequence[BacklogRow]) -> None:
    """Put rows of a pair's object into the backlog of the pair that has them by now."""
    target = await add(runtime, other, rows)
    say("warning", "backlog rows moved", pair=pair, name=name, rows=len(rows), to=target)


def _groups(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), READS_IN_FLIGHT):
        yield names[start : start + READS_IN_FLIGHT]


async def _read_object(runtime: Runtime, pair: str, name: str) -> bytes | None:
    """An object's bytes. None, and a line in the log, for one that cannot be read."""
    try:
        return await runtime.read(f"backlog/pair={pair}/{name}")
    except StoreError as error:
        say("error", "backlog object unreadable", name=f"backlog/pair={pair}/{name}", error=str(error))
        return None


async def publish_listed(
    runtime: Runtime, pair: str, rows: Sequence[BacklogRow], prefixes: Sequence[str], reason: str
) -> Published:
    """Publish a manifest of what a caller lists: object versions, or prefixes that the run must
    list.
    """
    while True:
        number, taken = await latest_manifest(runtime.store(), runtime.settings.ledger, pair)
        published = await _write(runtime, pair, number + 1, rows, prefixes, _extra(reason, taken))
        if published is not None:
            return published


def _extra(reason: str, taken: Taken) -> dict[str, Any]:
    """What a manifest's document says beside its rows."""
    return {"reason": reason, "taken_before": taken.before, "taken": sorted(taken.names)}


async def read_manifest(runtime: Runtime, pair: str, number: int) -> Published:
    """Read a published manifest. Raises NotFound, LedgerError."""
    published = _published(manifest_document(await runtime.read(f"manifests/pair={pair}/{number:06d}.json"), pair))
    folder = str(runtime.place(f"manifests/pair={pair}/"))
    name = (published.manifest or folder).removeprefix(folder)
    is_own = published.manifest is None or re.fullmatch(rf"{number:06d}-[0-9a-f]{{12}}\.csv", name)
    if (published.pair, published.number) != (pair, number) or not is_own:
        raise LedgerError(
            f"the manifest {number} of {pair} says that it is number {published.number} of {published.pair} "
            f"and names {published.manifest}: it was altered",
            advice=f"remove {folder}{number:06d}.json, and list its rows again",
        )
    return published


async def numbers(runtime: Runtime, pair: str) -> list[int]:
    """The numbers of all manifests of a pair, in order."""
    return await manifest_numbers(runtime.store(), runtime.settings.ledger, pair)


async def _write(
    runtime: Runtime,
    pair: str,
    number: int,
    rows: Sequence[BacklogRow],
    prefixes: Sequence[str],
    extra: Mapping[str, Any],
) -> Published | None:
    """Write the rows, then the document that publishes them. Returns None if the number was taken
    meanwhile.
    """
    folder, manifest = f"manifests/pair={pair}/", None
    if rows:
        name = f"{folder}{number:06d}-{secrets.token_hex(6)}.csv"
        await runtime.write_once(name, _to_csv(rows))
        manifest = str(runtime.place(name))
    document = {
        "version": MANIFEST_VERSION,
        "pair": pair,
        "number": number,
        "manifest": manifest,
        "prefixes": list(prefixes),
        "rows": len(rows),
        "size_bytes": min(sum(row.size_bytes or 0 for row in rows), COUNT_LIMIT - 1),
        "created_at": runtime.clock(),
        "token": secrets.token_hex(6),
        **extra,
    }
    is_ours = await runtime.write_once(f"{folder}{number:06d}.json", json.dumps(document, indent=2).encode())
    return _published(document) if is_ours else None


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


def _published(document: Mapping[str, Any]) -> Published:
    return Published(
        document["pair"],
        document["number"],
        document.get("manifest"),
        tuple(document["prefixes"]),
        document["rows"],
        document["size_bytes"],
    )


def _rows_by_pair(policy: Policy, pair: str, name: str, data: bytes) -> dict[str, list[BacklogRow]]:
    """The rows of an object of the backlog that a manifest can hold, by the pairs that have them by
    the policy of now.
    """
    by_pair: dict[str, list[BacklogRow]] = defaultdict(list)
    rows = list(_read_rows(f"backlog/pair={pair}/{name}", data))
    for row in rows:
        if (theirs := match(policy, row.bucket, row.key)) is not None:
            by_pair[theirs.name].append(row)
    if refused := len(rows) - sum(map(len, by_pair.values())):
        reason = "no pair has them, by the policy"
        say("warning", "backlog rows refused", pair=pair, name=name, rows=refused, reason=reason)
    return by_pair


def _parse(name: str, pair: str) -> Waiting | None:
    """What a name of the backlog says. None, and a line in the log, for a name that Sealift did not
    write.
    """
    waiting = parse_waiting(name)
    if waiting is None:
        say("error", "stray object", name=f"backlog/pair={pair}/{name}")
    return waiting


def _read_rows(name: str, data: bytes) -> Iterator[BacklogRow]:
    """The rows of a backlog object. A row that no manifest can hold is left out and logged, so that
    the others run.
    """
    for number, line in enumerate(data.split(b"\n"), 1):
        if line:
            try:
                yield check_row(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                say("error", "backlog row left out", name=name, line=number, error=f"{type(error).__name__}: {error}")


def check_row(document: Mapping[str, Any]) -> BacklogRow:
    """The row of a document, if a manifest can hold it. Keys that a newer Sealift has added are
    ignored. Raises ValueError, TypeError.
    """
    row = BacklogRow(**{name: document[name] for name in BacklogRow._fields if name in document})
    texts, key = (row.bucket, row.reason, *(text for text in (row.version_id, row.etag) if text is not None)), row.key
    if not key or not all(isinstance(text, str) for text in (key, *texts)):
        raise TypeError("bucket, key, version id, ETag and reason are no texts")
    key.encode()  # UnicodeEncodeError is a ValueError
    if not _BARE.fullmatch(row.bucket) or not _BARE.fullmatch(row.version_id or ""):
        raise ValueError("bucket or version id has characters that neither can have")
    if row.size_bytes is not None and not (is_count(row.size_bytes) and row.size_bytes < SIZE_LIMIT):
        raise ValueError(f"the size is {row.size_bytes!r}")
    if (at := row.last_modified) is not None and not (type(at) in (int, float) and 0 <= at <= LATEST_SECONDS):
        raise ValueError(f"the time is {at!r}")
    return row
