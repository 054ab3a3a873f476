"""Confirmation of suspicions: a HEAD for each, before it is called a finding.

The rules stay those of `jobs.reconcile.rules`. Only the facts are new. A key that has changed since
the reports is in flight, as if the reports had said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from jobs.core.model import ObjectInfo, ObjectRef
from jobs.core.pace import Pace
from jobs.core.prefix_map import PrefixMap
from jobs.errors import Denied, NoSuchBucket, NotFound, StoreError, Throttled
from jobs.reconcile.rules import Facts, judge
from jobs.reconcile.rules_sql import judgements
from jobs.s3.retries import retry
from jobs.s3.store import Store

IN_FLIGHT = 64
TRIES = 6
ROWS_AT_ONCE = 5_000
_PLAIN_SSE = (None, "AES256")


@dataclass(frozen=True, slots=True)
class Suspects:
    """The buckets to ask, and the maximum number of rows."""

    source: Store
    source_bucket: str
    destination: Store
    destination_bucket: str
    limit: int


class Confirmation(NamedTuple):
    """The result: rows asked, findings upheld, findings dismissed, rows that S3 refused to answer
    for (they stay findings), and rows beyond the limit.
    """

    asked: int = 0
    upheld: int = 0
    dismissed: int = 0
    unanswered: int = 0
    unasked: int = 0


class _Suspicion(NamedTuple):
    rowid: int
    joined: str
    version_id: str | None
    destination_version_id: str | None
    replication: str | None
    is_delete_marker: bool
    at_source: bool
    at_destination: bool


class _Answer(NamedTuple):
    rowid: int
    code: int
    source: Facts | None
    destination: Facts | None


async def confirm(
    connection: duckdb.DuckDBPyConnection,
    suspects: Suspects,
    prefixes: PrefixMap,
    horizon: float,
    *,
    all_versions: bool,
) -> Confirmation:
    """Judge the findings in the table `judged` (see `jobs.reconcile.join`) again, by what S3 says
    of them now.

    `horizon`: epoch seconds. Newer objects are not judged. Raises Unavailable when S3 does not
    answer after several tries.
    """
    total = connection.execute(f"SELECT count(*) FROM ({_SUSPICIONS})").fetchone()
    count = int(total[0]) if total else 0
    codes = {judgement: code for code, judgement in reversed(judgements().items())}
    pace = Pace(IN_FLIGHT)
    asked = upheld = dismissed = unanswered = 0
    for batch in _batches(connection, suspects.limit):
        gate = asyncio.Semaphore(pace.in_flight)

        async def ask(
            suspicion: _Suspicion, gate: asyncio.Semaphore = gate
        ) -> tuple[Facts | None, Facts | None] | None:
            async with gate:
                try:
                    return await _look(suspects, suspicion, prefixes, pace, all_versions=all_versions)
                except Denied:
                    return None

        answers = await asyncio.gather(*map(ask, batch))
        updates = []
        for suspicion, facts in zip(batch, answers, strict=True):
            if facts is None:
                unanswered += 1
                continue
            judgement = judge(*facts, horizon=horizon, all_versions=all_versions)
            upheld += judgement.is_finding
            dismissed += not judgement.is_finding
            updates.append(_Answer(suspicion.rowid, codes[judgement], *facts))
        asked += len(batch)
        await asyncio.to_thread(_update_judged, connection, updates)
    return Confirmation(asked, upheld, dismissed, unanswered, count - asked)


_SUSPICIONS = """
    SELECT judged.rowid AS rowid, joined, version_id, destination_version_id, replication,
           coalesce(is_delete_marker, false) AS is_delete_marker, at_source, at_destination
    FROM judged JOIN verdicts USING (code) WHERE is_finding"""


def _batches(connection: duckdb.DuckDBPyConnection, limit: int) -> Iterator[list[_Suspicion]]:
    """Yield the findings as they were before any of them is updated: their ids are read first."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE suspicions AS {_SUSPICIONS} ORDER BY rowid LIMIT {int(limit)}")
    after = -1
    while True:
        rows = connection.execute(
            f"FROM suspicions WHERE rowid > {after} ORDER BY rowid LIMIT {ROWS_AT_ONCE}"
        ).fetchall()
        if not rows:
            return
        yield [_Suspicion._make(row) for row in rows]
        after = rows[-1][0]


async def _look(
    suspects: Suspects, suspicion: _Suspicion, prefixes: PrefixMap, pace: Pace, *, all_versions: bool
) -> tuple[Facts | None, Facts | None]:
    key = prefixes.source_of(suspicion.joined)
    ours = ObjectRef(suspects.source_bucket, key if key is not None else suspicion.joined)
    theirs = ObjectRef(suspects.destination_bucket, suspicion.joined)
    if all_versions:
        ours = ours._replace(version_id=suspicion.version_id or suspicion.destination_version_id)
        theirs = theirs._replace(version_id=suspicion.destination_version_id or suspicion.version_id)
    source, destination = await asyncio.gather(
        _facts(suspects.source, ours, pace), _facts(suspects.destination, theirs, pace)
    )
    if source is not None:
        source = source._replace(replication_status=suspicion.replication)
    return source, destination


async def _facts(store: Store, ref: ObjectRef, pace: Pace) -> Facts | None:
    """Return what HEAD says of an object, None where it is gone.

    S3 names a delete marker as such.
    """

    def slow_down(error: StoreError) -> None:
        if isinstance(error, Throttled):
            pace.throttle(asyncio.get_running_loop().time())

    try:
        return _described(await retry(lambda: store.head(ref), slow_down, TRIES))
    except NoSuchBucket:
        raise
    except NotFound as error:
        return Facts(is_delete_marker=True) if error.code == "DeleteMarker" else None
    except StoreError as error:
        # HEAD of a delete marker by its version id.
        if error.code in ("MethodNotAllowed", "DeleteMarker"):
            return Facts(is_delete_marker=True)
        raise


def _described(info: ObjectInfo) -> Facts:
    known = [each for each in info.checksums if not each.is_composite] or list(info.checksums)
    return Facts(
        size_bytes=info.size_bytes,
        etag=info.etag,
        is_multipart="-" in info.etag,
        encryption_status="SSE-S3" if info.attributes.sse in _PLAIN_SSE else "SSE-KMS",
        last_modified=info.last_modified,
        checksum=known[0] if known else None,
    )


def _update_judged(connection: duckdb.DuckDBPyConnection, answers: list[_Answer]) -> None:
    """Write the new codes and facts of the rows into `judged`."""
    columns = {
        "rid": pa.array([row.rowid for row in answers], pa.int64()),
        "new_code": pa.array([row.code for row in answers], pa.uint16()),
        "new_at_source": pa.array([row.source is not None for row in answers], pa.bool_()),
        "new_at_destination": pa.array([row.destination is not None for row in answers], pa.bool_()),
    }
    sides = {"source": [row.source for row in answers], "destination": [row.destination for row in answers]}
    for name, known in sides.items():
        facts = [each or Facts() for each in known]
        times = [None if each.last_modified is None else int(each.last_modified * 1e6) for each in facts]
        columns[f"new_{name}_size_bytes"] = pa.array([each.size_bytes for each in facts], pa.int64())
        columns[f"new_{name}_etag"] = pa.array([each.etag for each in facts], pa.string())
        columns[f"new_{name}_modified_us"] = pa.array(times, pa.int64())
    names = [name.removeprefix("new_") for name in columns if name != "rid"]
    connection.register("answers", pa.table(columns))
    connection.execute(
        f"UPDATE judged SET {', '.join(f'{name} = answers.new_{name}' for name in names)} "
        "FROM answers WHERE judged.rowid = answers.rid"
    )
    connection.unregister("answers")
