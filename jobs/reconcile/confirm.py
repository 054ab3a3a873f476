"""Confirmation of suspicions: a HEAD for each, before it is called a finding.

The rules stay those of `jobs.reconcile.rules`. Only the facts are new. A key that has changed since
the reports is in flight, as if the reports had said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from jobs.core.evidence import compare, is_md5, is_multipart
from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectRef
from jobs.core.pace import Pace
from jobs.core.prefix_map import PrefixMap
from jobs.core.reasons import Reason
from jobs.errors import (
    AuthenticationFailed,
    Conflict,
    NoSuchBucket,
    NotFound,
    Redirected,
    StoreError,
    Throttled,
    Unavailable,
)
from jobs.reconcile.rules import Facts
from jobs.reconcile.rules_sql import RuleOptions, judge, judgements
from jobs.s3.lookup import key_history
from jobs.s3.retries import retry
from jobs.s3.store import Store
from jobs.tables.duck import in_thread

IN_FLIGHT = 64
TRIES = 6
ROWS_AT_ONCE = 5_000
OLDER_LOOKED_AT = 10
"""So many older versions are asked for checksums, the newest first, where ETags say nothing."""
_PLAIN_SSE = (None, "", "AES256")


@dataclass(frozen=True, slots=True)
class Suspects:
    """The buckets to ask, and the maximum number of rows."""

    source: Store
    source_bucket: str
    destination: Store
    destination_bucket: str
    limit: int


class Confirmation(NamedTuple):
    """The result: rows asked, findings upheld, findings dismissed, rows that S3 did not answer for
    (they stay findings), and rows beyond the limit.
    """

    asked: int = 0
    upheld: int = 0
    dismissed: int = 0
    unanswered: int = 0
    unasked: int = 0


class _Suspicion(NamedTuple):
    """A finding and what it was judged by.

    The version ids are those to ask each side for, None for the current object. `is_proven_wrong`:
    checksums of the bytes at rest differ, which a HEAD does not read.
    """

    rowid: int
    joined: str
    source_version_id: str | None
    destination_version_id: str | None
    replication: str | None
    is_proven_wrong: bool
    source: _Listed
    destination: _Listed

    def is_upheld_by(self, source: Facts | None, destination: Facts | None) -> bool:
        """True if the checksums that differ are those of the objects that are there now."""
        return self.is_proven_wrong and self.source.is_still(source) and self.destination.is_still(destination)


class _Listed(NamedTuple):
    """What tells whether an object is still the one that a report listed."""

    etag: str | None
    modified_us: int | None

    def is_still(self, now: Facts | None) -> bool:
        """True if HEAD shows this object. Its times are in whole seconds."""
        if now is None or now.is_delete_marker:
            return False
        if None not in (self.etag, now.etag) and self.etag != now.etag:
            return False
        return None in (self.modified_us, now.last_modified) or (
            int(self.modified_us or 0) // 1_000_000 == int(now.last_modified or 0)
        )


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
    versions_sql: str = "",
) -> Confirmation:
    """Judge the findings in the table `judged` (see `jobs.reconcile.join`) again, by what S3 says
    of them now.

    `horizon`: epoch seconds. Newer objects are not judged. `versions_sql`: the version map as a
    relation (`jobs.reconcile.join_side.JoinOptions.versions_sql`).

    What a HEAD cannot settle stays a finding: objects whose checksums at rest differ and that have
    not changed since, and objects that S3 does not answer for. Raises Unavailable when S3 answers
    for nothing.
    """
    total = connection.execute(f"SELECT count(*) FROM ({_FINDINGS})").fetchone()
    count = int(total[0]) if total else 0
    rules, meanings = RuleOptions(int(horizon * 1e6), all_versions), judgements()
    pace = Pace(IN_FLIGHT)
    asked = upheld = dismissed = unanswered = 0
    for batch in _batches(connection, suspects.limit, prefixes, versions_sql if all_versions else ""):
        gate = asyncio.Semaphore(pace.in_flight)

        async def ask(
            suspicion: _Suspicion, gate: asyncio.Semaphore = gate
        ) -> tuple[Facts | None, Facts | None] | None:
            async with gate:
                return await _look(suspects, suspicion, prefixes, pace, all_versions=all_versions)

        answers = await asyncio.gather(*map(ask, batch))
        answered = [(each, facts) for each, facts in zip(batch, answers, strict=True) if facts is not None]
        open_ones = [(each, facts) for each, facts in answered if not each.is_upheld_by(*facts)]
        codes = await in_thread(connection, judge, connection, [facts for _, facts in open_ones], rules)
        found = sum(meanings[code].is_finding for code in codes)
        unanswered += len(batch) - len(answered)
        upheld += len(answered) - len(open_ones) + found
        dismissed += len(open_ones) - found
        updates = [_Answer(each.rowid, code, *facts) for (each, facts), code in zip(open_ones, codes, strict=True)]
        asked += len(batch)
        await in_thread(connection, _update_judged, connection, updates, all_versions=all_versions)
    return Confirmation(asked, upheld, dismissed, unanswered, count - asked)


_FINDINGS = "SELECT judged.rowid AS rowid, judged.*, reason FROM judged JOIN verdicts USING (code) WHERE is_finding"


def _batches(
    connection: duckdb.DuckDBPyConnection, limit: int, prefixes: PrefixMap, versions_sql: str
) -> Iterator[list[_Suspicion]]:
    """Yield the findings as they were before any of them is updated: their ids are read first."""
    ours, theirs, joins = "f.version_id", "f.destination_version_id", ""
    if versions_sql:
        ours, theirs = f"{ours}, back.version_id", f"{theirs}, forth.destination_version_id"
        key = prefixes.source_sql("f.joined")
        joins = (
            f"LEFT JOIN ({versions_sql}) forth ON forth.key = {key} AND forth.version_id = f.version_id "
            "LEFT JOIN (SELECT key, destination_version_id, max(version_id) AS version_id "
            f"FROM ({versions_sql}) GROUP BY ALL) back "
            f"ON back.key = {key} AND back.destination_version_id = f.destination_version_id"
        )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE suspicions AS SELECT f.rowid AS rowid, joined, "
        # a side's own id, else the one that the map gives, else the other side's
        f"coalesce({ours}, f.destination_version_id) AS ours, coalesce({theirs}, f.version_id) AS theirs, replication, "
        f"reason = '{Reason.CHECKSUM_DIFFERS}' AS is_proven, source_etag, source_modified_us, "
        "destination_etag, destination_modified_us "
        f"FROM ({_FINDINGS} ORDER BY judged.rowid LIMIT {int(limit)}) f {joins}"
    )
    after = -1
    while True:
        rows = connection.execute(
            f"FROM suspicions WHERE rowid > {after} ORDER BY rowid LIMIT {ROWS_AT_ONCE}"
        ).fetchall()
        if not rows:
            return
        yield [_Suspicion._make((*row[:6], _Listed._make(row[6:8]), _Listed._make(row[8:]))) for row in rows]
        after = rows[-1][0]


async def _look(
    suspects: Suspects, suspicion: _Suspicion, prefixes: PrefixMap, pace: Pace, *, all_versions: bool
) -> tuple[Facts | None, Facts | None] | None:
    """Return what HEAD says of both sides. None where S3 does not answer for one of them."""
    key = prefixes.source_of(suspicion.joined)
    ours = ObjectRef(suspects.source_bucket, key if key is not None else suspicion.joined)
    theirs = ObjectRef(suspects.destination_bucket, suspicion.joined)
    if all_versions:
        ours = ours._replace(version_id=suspicion.source_version_id)
        theirs = theirs._replace(version_id=suspicion.destination_version_id)
    both = _find(suspects.source, ours, pace), _find(suspects.destination, theirs, pace)
    try:
        source, destination = await asyncio.gather(*both)
    except _Unanswered:
        return None
    is_older_copy = False
    if not all_versions and isinstance(source, ObjectInfo) and isinstance(destination, ObjectInfo):
        is_newer = destination.last_modified >= source.last_modified and not is_multipart(source.etag)
        if is_newer and compare(source, destination).same is False:
            is_older_copy = await _is_older_copy(suspects.source, ours, source, destination, pace)
    ours_now, theirs_now = _facts_of(source), _facts_of(destination)
    return (
        ours_now and ours_now._replace(replication_status=suspicion.replication),
        theirs_now and theirs_now._replace(is_older_copy=is_older_copy),
    )


async def _is_older_copy(
    store: Store, ours: ObjectRef, source: ObjectInfo, destination: ObjectInfo, pace: Pace
) -> bool:
    """True if the destination's object is a copy of a version below the source's current one.

    A request that S3 carries out after its client has died can put it on top of the newest copy.
    False where that cannot be found out: the row stays different.
    """
    slow_down = _slowing(pace)
    try:
        history = await retry(lambda: key_history(store, ours.bucket, ours.key), slow_down, TRIES)
    except StoreError:
        return False
    if not history or history[-1].is_delete_marker or history[-1].etag != source.etag:
        return False
    older = [each for each in history[:-1] if not each.is_delete_marker and each.size_bytes == destination.size_bytes]
    if any(each.etag == destination.etag and is_md5(each.etag) for each in older):
        return True
    for version in older[: -OLDER_LOOKED_AT - 1 : -1]:
        try:
            info = await _find(store, ours._replace(version_id=version.version_id or NULL_VERSION), pace)
        except (_Unanswered, StoreError):
            return False
        if isinstance(info, ObjectInfo) and compare(info, destination).same:
            return True
    return False


def _slowing(pace: Pace) -> Callable[[StoreError], None]:
    def slow_down(error: StoreError) -> None:
        if isinstance(error, Throttled):
            pace.throttle(asyncio.get_running_loop().time())

    return slow_down


class _Unanswered(Exception):
    """S3 answers, but not for this object."""


async def _find(store: Store, ref: ObjectRef, pace: Pace) -> ObjectInfo | Facts | None:
    """Return what HEAD says of an object, None where it is gone. Of a delete marker that it is one.

    S3 names a delete marker as such. Raises _Unanswered where only this object has no answer: it is
    denied, has a key of its customer, an id that the bucket never gave, or an error of its own.
    """
    try:
        return await retry(lambda: store.head(ref), _slowing(pace), TRIES)
    except (NoSuchBucket, AuthenticationFailed, Redirected):
        raise
    except NotFound as error:
        if error.status == 405 and error.code != "DeleteMarker":
            return await _listed_marker(store, ref)
        return Facts(is_delete_marker=True) if error.code == "DeleteMarker" else None
    except StoreError as error:
        if isinstance(error, (Unavailable, Conflict)) and not await _answers(store, ref):
            raise
        raise _Unanswered from error


async def _listed_marker(store: Store, ref: ObjectRef) -> Facts:
    """Return a delete marker for a 405 that does not say what it is: some servers leave the header
    out.

    A proxy can answer 405 as well, so the version has to be listed. Raises _Unanswered if it is not
    a delete marker there.
    """
    try:
        history = await retry(lambda: key_history(store, ref.bucket, ref.key), tries=TRIES)
    except StoreError as error:
        raise _Unanswered from error
    if not any(each.is_delete_marker and (each.version_id or NULL_VERSION) == ref.version_id for each in history):
        raise _Unanswered
    return Facts(is_delete_marker=True)


async def _answers(store: Store, ref: ObjectRef) -> bool:
    """True if S3 answers a listing of the object's bucket, be it with a refusal."""
    try:
        await store.list_objects(ref.bucket, ref.key, max_keys=1)
    except (Unavailable, NoSuchBucket, AuthenticationFailed, Redirected):
        return False
    except StoreError:
        return True
    return True


def _facts_of(seen: ObjectInfo | Facts | None) -> Facts | None:
    return described(seen) if isinstance(seen, ObjectInfo) else seen


def described(info: ObjectInfo) -> Facts:
    """Return what HEAD says of an object, as the rules take it."""
    return Facts(
        size_bytes=info.size_bytes,
        etag=info.etag or None,
        is_multipart="-" in info.etag,
        encryption_status="SSE-S3" if info.attributes.sse in _PLAIN_SSE else "SSE-KMS",
        last_modified=info.last_modified,
        checksums=tuple(info.checksums),
    )


def _update_judged(connection: duckdb.DuckDBPyConnection, answers: list[_Answer], *, all_versions: bool) -> None:
    """Write the new codes and facts of the rows into `judged`.

    A current object that is not the reported one has another version id, which is left out.
    """
    columns = {
        "rid": pa.array([row.rowid for row in answers], pa.int64()),
        "new_code": pa.array([row.code for row in answers], pa.uint16()),
        "new_at_source": pa.array([row.source is not None for row in answers], pa.bool_()),
        "new_at_destination": pa.array([row.destination is not None for row in answers], pa.bool_()),
        # As `KEPT` has it: the source's, and the destination's of what is only there.
        "new_is_delete_marker": pa.array(
            [bool((row.source or row.destination or Facts()).is_delete_marker) for row in answers], pa.bool_()
        ),
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
    changes = [f"{name} = answers.new_{name}" for name in names]
    if not all_versions:
        is_reported = "source_etag IS NOT DISTINCT FROM answers.new_source_etag"
        changes.append(f"version_id = CASE WHEN {is_reported} THEN version_id END")
    connection.execute(f"UPDATE judged SET {', '.join(changes)} FROM answers WHERE judged.rowid = answers.rid")
    connection.unregister("answers")
