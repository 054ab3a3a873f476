"""Answers: evidence that what a night found wrong is over, from the ledger and the buckets.

A later run of any kind answers a finding about an object if it proved the object and its copy, and
read bytes where the finding read bytes. Workers' clocks may be wrong, so a proof has the earliest
time, and a finding the latest, that the times at which S3 received the files allow. A later run
whose files cannot be read may have found anything.

| the original now | found wrong  | a later run proved     | the copy now     | answered |
|------------------|--------------|------------------------|------------------|----------|
| any              | the copy     | the object found       | any              | yes      |
| there            | the copy     | the object there now   | any              | yes      |
| there            | the copy     | an older object        | any              | no       |
| there            | the copy     | nothing                | any              | no       |
| gone             | the copy     | nothing                | gone, or another | yes      |
| gone             | the copy     | nothing                | the wrong one    | no       |
| gone             | the original | nothing                | any              | yes      |
| not known        | any          | nothing                | any              | no       |

Only a verification shows that an original is right: a copy of it does not. A wrong copy whose
original is gone is a finding until a person removes it. An object that a later stage found wrong
again, by a comparison as deep, counts in that stage's finding alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectRef
from jobs.core.outcome import Status
from jobs.core.run import RunSpec, Side
from jobs.core.sampling import Sample
from jobs.errors import LedgerError, StoreError
from jobs.ledger.agreement import begin_order
from jobs.ledger.ledger import Ledger
from jobs.nights.disproofs import FOUND, Disproof, is_as_deep
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import is_between, open_side
from jobs.s3.store import Store
from jobs.verify.kind import KIND as VERIFICATION

if TYPE_CHECKING:
    import duckdb

RUNS_READ = 100
"""How many of the latest runs between the same places are searched for proofs."""
OBJECTS_LOOKED_AT = 1_000
"""For how many objects without a proof in the ledger both sides are asked, by one HEAD each."""
KEYS_SLICED = 10_000
"""Up to so many keys are compared with the slice of a run. A run with none of them is not read."""
_MEMORY = "256MB"
_READS = 32
_COLUMNS = "run_id, key, version_id, etag, status, copy_key, copy_etag"


class Rest(NamedTuple):
    """What is left of a disproof.

    `rows`: the number of rows without an answer. `orphans`: URIs of wrong copies whose original is
    gone.
    """

    rows: int
    orphans: tuple[str, ...] = ()


class _Found(NamedTuple):
    """An object that was found wrong. `status`: different or damaged."""

    number: int
    key: str
    status: str
    copy_key: str
    copy_etag: str | None


class _Now(NamedTuple):
    """What is at both sides now. None: the key has no object."""

    source: ObjectInfo | None
    copy: ObjectInfo | None


async def find_rests(
    ledger: Ledger, disproofs: Sequence[Disproof], later: Sequence[Disproof], source: Side, destination: Side
) -> dict[str, Rest]:
    """Return what is left of each disproof, by the id of its run.

    `disproofs`: the oldest first. `later`: what this night itself has found. A disproof has no
    entry where its objects are not known: files of the ledger are lost or damaged, or its run
    worked between other places. Raises StoreError.
    """
    from jobs.tables.duck import connect

    rests: dict[str, Rest] = {}
    with tempfile.TemporaryDirectory(prefix="sealift-answers-") as name:
        folder = Path(name)
        with connect(folder, memory_limit=_MEMORY) as connection:
            try:
                counts = await _fill(ledger, [*disproofs, *later], source, destination, folder, connection)
            except LedgerError:
                return rests
            _pass_on(connection, [*disproofs, *later])
            await _look(connection, source, destination)
            left = dict(
                connection.execute(
                    "SELECT run_id, count(*) FROM found WHERE NOT is_answered GROUP BY run_id"
                ).fetchall()
            )
            for each in disproofs:
                if counts.get(each.run_id, 0) >= each.rows:  # else outcomes are lost
                    rests[each.run_id] = Rest(left.get(each.run_id, 0), _orphans(connection, each.run_id, destination))
    return rests


async def _fill(
    ledger: Ledger,
    disproofs: Sequence[Disproof],
    source: Side,
    destination: Side,
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
) -> dict[str, int]:
    """Fill the table `found` with what the runs of the disproofs found wrong, and `findings` with
    all later findings about the same keys.

    Returns the number of rows of each run between these places, by run id.
    """
    from jobs.tables.duck import in_thread

    connection.execute(
        "CREATE TABLE found (run_id VARCHAR, key VARCHAR, version_id VARCHAR, etag VARCHAR, status VARCHAR, "
        "copy_key VARCHAR, copy_etag VARCHAR, is_answered BOOLEAN DEFAULT false, is_orphan BOOLEAN DEFAULT false)"
    )
    counts = {}
    for disproof in disproofs:
        spec = await ledger.spec(disproof.run_id)
        if is_between(spec, source, destination):
            counts[spec.run_id] = await _add_found(ledger, spec, folder / f"found-{spec.run_id}", connection)
    if counts:
        await _add_findings(ledger, min(counts, key=begin_order), source, destination, folder, connection)
        await in_thread(connection, _answer, connection)
    return counts


async def _add_found(ledger: Ledger, spec: RunSpec, folder: Path, connection: duckdb.DuckDBPyConnection) -> int:
    """Add what a run found wrong. Returns the number of its rows."""
    from jobs.runs.folding import copy_key_sql, open_fold
    from jobs.tables.duck import in_thread, parquet, quoted

    folder.mkdir()
    fold = await open_fold(ledger, spec.run_id, await ledger.plan(spec.run_id), folder, has_manifest=False)
    if fold is None:
        return 0
    rows, statuses = folder / "found.parquet", ", ".join(quoted(each.value) for each in FOUND)
    with closing(fold):
        await in_thread(
            fold,
            fold.execute,
            f"COPY (SELECT {quoted(spec.run_id)} AS run_id, key, version_id, etag, status, "
            f"{copy_key_sql(spec)} AS copy_key, destination_etag AS copy_etag "
            f"FROM folded WHERE status IN ({statuses})) TO {quoted(str(rows))} (FORMAT parquet)",
        )
    connection.execute(f"INSERT INTO found ({_COLUMNS}) SELECT {_COLUMNS} FROM {parquet(rows)}")
    (count,) = connection.execute(f"SELECT count(*) FROM {parquet(rows)}").fetchone() or (0,)
    return int(count)


async def _add_findings(
    ledger: Ledger, first: str, source: Side, destination: Side, folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    """Fill `findings` with the findings about the keys in `found`, of runs since `first`.

    Every disproof counts. A proof counts only if its run worked between these buckets.
    """
    from jobs.nights.findings import FINDINGS, Findings
    from jobs.nights.runs_with_findings import find_runs

    connection.execute("CREATE TABLE proven (key VARCHAR, copy_bucket VARCHAR, copy_key VARCHAR, in_archive BOOLEAN)")
    ours, theirs = source.location.bucket, destination.location.bucket
    connection.execute("INSERT INTO proven SELECT DISTINCT key, $1, copy_key, false FROM found", [theirs])
    connection.execute(f"CREATE TABLE findings ({FINDINGS})")
    older = {each for each in await ledger.run_ids() if begin_order(each) < begin_order(first)}
    runs = [each for each in await find_runs(ledger, ours, {theirs}, older) if each.may_have_findings]
    findings = Findings(ledger, connection, folder)
    await findings.add_disproofs(runs)
    keys = [key for (key,) in connection.execute(f"SELECT key FROM proven LIMIT {KEYS_SLICED + 1}").fetchall()]
    proving = [
        each
        for each in runs
        if each.spec is not None
        and is_between(each.spec, source, destination)
        and _may_take(each.spec.options.get("sample"), keys)
    ]
    await findings.add_proofs(proving[-RUNS_READ:])


def _may_take(sample: object, keys: Iterable[str]) -> bool:
    """True if a slice has one of these keys, or if there are more than `KEYS_SLICED` of them."""
    keys = list(keys)
    match sample:
        case [int(number), int(of)] if of > 0 and len(keys) <= KEYS_SLICED:
            return any(Sample(number, of).contains(key) for key in keys)
    return True


def _answer(connection: duckdb.DuckDBPyConnection) -> None:
    """Mark the objects in `found` that a later run has proven.

    A disproof counts against each spelling of its keys, and a proof for its own alone.
    """
    from jobs.nights.findings import have_same_keys

    connection.execute(
        f"""
        CREATE TABLE good AS
        WITH bad AS (
            SELECT proven.key, proven.copy_key, max(latest) AS latest, bool_or(by_bytes) AS by_bytes
            FROM proven JOIN findings ON {have_same_keys("proven", "findings")}
            WHERE is_disproof GROUP BY proven.key, proven.copy_key
        )
        SELECT findings.*, contains(run_id, $1) AS is_verification
        FROM findings JOIN bad USING (key, copy_key)
        WHERE NOT is_disproof AND earliest > bad.latest AND (findings.by_bytes OR NOT bad.by_bytes)
        """,
        [f"-{VERIFICATION.name}-"],
    )
    _mark(connection, "found")


def _mark(connection: duckdb.DuckDBPyConnection, named: str) -> None:
    """Mark the rows of `found` whose version, or ETag, in the table `named` was proven."""

    def own(column: str) -> str:
        return f"nullif(nullif({column}, ''), '{NULL_VERSION}')"

    ids = own("good.version_id"), own(f"{named}.version_id")
    join = "" if named == "found" else f"JOIN {named} ON {named}.number = found.rowid"
    connection.execute(
        f"""
        UPDATE found SET is_answered = true WHERE NOT is_answered AND rowid IN (
            SELECT found.rowid FROM found {join}
            JOIN good ON good.key = found.key AND good.copy_key = found.copy_key
            WHERE (good.is_verification OR found.status <> '{Status.DAMAGED}')
            AND CASE WHEN {ids[0]} IS NOT NULL AND {ids[1]} IS NOT NULL THEN {ids[0]} = {ids[1]}
                ELSE coalesce(good.etag = {named}.etag, false) END)
        """
    )


def _pass_on(connection: duckdb.DuckDBPyConnection, disproofs: Sequence[Disproof]) -> None:
    """Mark what a later disproof has found wrong again, by a comparison as deep.

    A wrong copy does not pass on a damaged original, which less would answer.
    """
    for number, disproof in enumerate(disproofs):
        again = [each.run_id for each in disproofs[number + 1 :] if is_as_deep(each.stage, disproof.stage)]
        connection.execute(
            f"""
            UPDATE found SET is_answered = true WHERE run_id = $1 AND EXISTS (
                SELECT 1 FROM found AS again WHERE list_contains($2, again.run_id)
                AND again.key = found.key AND again.copy_key = found.copy_key
                AND (again.status = found.status OR found.status <> '{Status.DAMAGED}'))
            """,
            [disproof.run_id, again],
        )


async def _look(connection: duckdb.DuckDBPyConnection, source: Side, destination: Side) -> None:
    """Ask both sides for what no run has proven: it may be gone or replaced."""
    from jobs.tables.duck import in_thread

    rows = connection.execute(
        "SELECT rowid, key, status, copy_key, copy_etag FROM found WHERE NOT is_answered "
        f"ORDER BY rowid LIMIT {OBJECTS_LOOKED_AT}"
    ).fetchall()
    if not rows:
        return
    found = [_Found(*row) for row in rows]
    ours, theirs = open_side(source), open_side(destination)

    async def look(row: _Found) -> _Now | None:
        try:
            return _Now(
                await find(ours, ObjectRef(source.location.bucket, row.key)),
                await find(theirs, ObjectRef(destination.location.bucket, row.copy_key)),
            )
        except StoreError:
            return None

    try:
        looks = await gather_bounded(look, found, _READS)
    finally:
        await _close(ours, theirs)
    connection.execute("CREATE TABLE current (number BIGINT, version_id VARCHAR, etag VARCHAR)")
    for row, now in zip(found, looks, strict=True):
        if now is None:
            continue
        if now.source is not None:
            values = [row.number, now.source.version_id, now.source.etag]
            connection.execute("INSERT INTO current VALUES ($1, $2, $3)", values)
        else:
            column = "is_answered" if is_over(row.status, row.copy_etag, now.source, now.copy) else "is_orphan"
            connection.execute(f"UPDATE found SET {column} = true WHERE rowid = $1", [row.number])
    await in_thread(connection, _mark, connection, "current")


async def _close(*stores: Store) -> None:
    for store in stores:
        await store.close()


def is_over(status: str, copy_etag: str | None, source: ObjectInfo | None, copy: ObjectInfo | None) -> bool:
    """Return True if the original is gone, and with it the object that was found wrong.

    `source`, `copy`: the objects that are there now. `copy_etag`: that of the copy that was found
    wrong, None if unknown.
    """
    if source is not None:
        return False
    return status == Status.DAMAGED or copy is None or copy_etag not in (None, copy.etag)


def _orphans(connection: duckdb.DuckDBPyConnection, run_id: str, destination: Side) -> tuple[str, ...]:
    rows = connection.execute(
        "SELECT copy_key FROM found WHERE is_orphan AND NOT is_answered AND run_id = $1 ORDER BY 1", [run_id]
    ).fetchall()
    return tuple(f"s3://{destination.location.bucket}/{key}" for (key,) in rows)
