"""Findings of runs about copies, read from the ledger into a table.

A writer to the ledger may add files. A report is written once, so a forged report may take the
place of the real one. No added file can hide a finding here: all checkpoints count, whatever the
report says, and each outcome of a row counts, whichever one the fold chooses. The name of a
checkpoint has the number of its rows that ended badly, so a listing shows which ones have findings.

A swapped run compared the copies, as its source, with the originals. Its findings about a pair of
objects count for that pair. A damaged source is damaged whatever the run compared it with. Some
servers take `x//k` for `x/k`, so keys that differ only in empty parts count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jobs.core.bucket_names import is_second_name
from jobs.core.category import Category
from jobs.core.model import ObjectRef
from jobs.core.outcome import Evidence, Status
from jobs.core.reasons import Reason
from jobs.core.run import RunSpec
from jobs.core.spelling import one_spelling_sql
from jobs.core.words import explained_sql
from jobs.errors import LedgerError
from jobs.ledger.ledger import DIFFERENCES, Checkpoint, Ledger
from jobs.nights.runs_with_findings import ALTERED, COMPARISON, RunFiles, disproofs_of
from jobs.runs.folding import copy_key_sql
from jobs.s3.downloads import download
from jobs.s3.retries import gather_bounded
from jobs.tables.duck import in_thread, parquet, quoted

READS = 32

FINDINGS = """
    run_id VARCHAR, "row" BIGINT, is_disproof BOOLEAN, by_bytes BOOLEAN, of_original BOOLEAN, earliest DOUBLE,
    latest DOUBLE, objection VARCHAR, key VARCHAR, version_id VARCHAR, etag VARCHAR, copy_bucket VARCHAR,
    copy_key VARCHAR, copy_version_id VARCHAR, copy_etag VARCHAR
"""
"""The columns of the table `findings`.

A finding is a disproof (`is_disproof`) or a proof. `by_bytes`: it is about the bytes, not only what
S3 keeps beside them. `of_original`: the original is damaged. It was found between `earliest` and
`latest` (epoch seconds). `objection`: why a disproof voids a proof, for the user. A bucket, version
or ETag that is null fits any.
"""

PROOFS: Mapping[str, frozenset[Status]] = {
    "replicate": frozenset({Status.DONE, Status.SAME}),
    "verify": frozenset({Status.VERIFIED}),
}
"""Job → the outcomes that say that there is a copy."""
_DIFFERING = (Category.DIFFERENT, Category.STALE)
_BROKEN = (*ALTERED, pa.ArrowException, duckdb.Error)
"""What reading an altered run raises."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings in one ledger about the copies in the connection's table `proven`.

    They go into the table `findings` (columns: `FINDINGS`). `folder`: for downloaded files. Each
    file is downloaded once.
    """

    ledger: Ledger
    connection: duckdb.DuckDBPyConnection
    folder: Path

    async def add_disproofs(self, runs: Sequence[RunFiles]) -> None:
        """Add the disproofs of any age, since only bytes restore what was disproved by bytes.

        A run that cannot be read is a disproof of each copy that it may be about. Raises
        duckdb.IOException where the disk is full, and StoreError.
        """
        for run in runs:
            problem = run.problem
            if run.spec is not None and not problem:
                try:
                    add = self._add_differences if run.spec.job == COMPARISON else self._add_outcomes
                    problem = await add(run.spec, run)
                except (duckdb.IOException, duckdb.OutOfMemoryException):  # no room
                    raise
                except _BROKEN as error:
                    problem = str(error)
            if problem:
                await self._add_doubt(run, problem)

    async def add_proofs(self, runs: Sequence[RunFiles]) -> None:
        """Add the proofs of objects that have disproofs, those of the newest runs first."""
        for run in sorted(runs, key=lambda each: each.newest, reverse=True):
            if run.spec is None or run.problem or run.spec.job == COMPARISON or False not in run.is_swapped:
                continue
            files = [each for each, _ in run.checkpoints if each.rows > each.bad_rows]
            if not files or not self._has_disproofs_below(run.spec.source.location.key):
                continue
            try:
                rows = await self._download(run, files)
            except _BROKEN:
                continue  # what cannot be read proves nothing
            await self._insert(run.spec, rows, PROOFS[run.spec.job], is_swapped=False, among="findings")

    def _has_disproofs_below(self, prefix: str) -> bool:
        sql = f"SELECT count(*) FROM findings WHERE is_disproof AND starts_with(key, {quoted(prefix)})"
        (count,) = self.connection.execute(sql).fetchone() or (0,)
        return bool(count)

    async def _add_outcomes(self, spec: RunSpec, run: RunFiles) -> str:
        """Add the disproofs among a run's outcomes. Returns what is lost, else an empty text."""
        statuses = run.disproofs
        files = [each for each, _ in run.checkpoints if each.bad_rows]
        rows = await self._download(run, files) if files else ""
        found = 0
        if rows:
            sql = f"SELECT count(DISTINCT row) FROM {rows} WHERE status IN ({_listed(statuses)})"
            (found,) = self.connection.execute(sql).fetchone() or (0,)
            for is_swapped in run.is_swapped:
                await self._insert(spec, rows, statuses, is_swapped=is_swapped)
            for is_copy in run.reads_copies:
                await self._insert_damaged(spec, rows, is_copy=is_copy)
        counted = _counted(run.report, statuses)
        if found >= counted:
            return ""
        return (
            f"{self.ledger.uri(spec.run_id)} has lost outcomes. Rows that are wrong, missing or damaged: {counted:,} "
            f"by its report, {found:,} by its outcomes"
        )

    async def _download(self, run: RunFiles, files: Sequence[Checkpoint]) -> str:
        """Download checkpoints. Returns SQL for their rows, with `written_at` (epoch seconds)."""
        paths = {each: self.folder / f"{run.run_id}-{each.shard:05d}-{each.name}" for each in files}
        wanted = [each for each, path in paths.items() if not path.exists()]
        numbers = (await self.ledger.plan(run.run_id)).row_numbers() if wanted else ()

        async def fetch(checkpoint: Checkpoint) -> None:
            if checkpoint.shard >= len(numbers):
                raise LedgerError(f"the plan of {self.ledger.uri(run.run_id)} has no shard {checkpoint.shard}")
            data = await self.ledger.checkpoint_data(run.run_id, checkpoint, numbers[checkpoint.shard])
            paths[checkpoint].write_bytes(data)

        await gather_bounded(fetch, wanted, READS)
        written = dict(run.checkpoints)
        times = ", ".join(f"({quoted(path.name)}, {written[each]!r}::DOUBLE)" for each, path in paths.items())
        return f"""(
            SELECT * FROM (SELECT *, parse_filename(filename) AS file FROM {parquet(paths.values(), "filename = true")})
            JOIN (VALUES {times}) AS times(file, written_at) USING (file))"""

    async def _insert(
        self, spec: RunSpec, rows: str, statuses: Iterable[Status], *, is_swapped: bool, among: str = "proven"
    ) -> None:
        """Add the outcomes with one of these statuses whose keys are in the table `among`."""
        is_of_all_versions = bool(spec.options.get("deep") and spec.options.get("all_versions"))
        if is_swapped and not is_of_all_versions:
            # What is missing at the destination is the original.
            statuses = set(statuses) - {Status.MISSING}
        disproofs = _listed(disproofs_of(spec))
        await self._insert_pairs(
            f"""
            SELECT {quoted(spec.run_id)} AS run_id, "row", status IN ({disproofs}) AS is_disproof,
                   {_by_bytes_sql(spec)} AS by_bytes,
                   status = {quoted(Status.DAMAGED.value)} AND {not is_swapped} AS of_original,
                   least(epoch(finished_at), written_at) AS earliest,
                   greatest(epoch(finished_at), written_at) AS latest, {_objection_sql(spec, is_swapped=is_swapped)}
                   AS objection, key AS source_key, version_id AS source_version_id, etag AS source_etag,
                   {copy_key_sql(spec)} AS destination_key, destination_version_id, destination_etag
            FROM {rows} WHERE status IN ({_listed(statuses)})
            """,
            spec,
            is_swapped=is_swapped,
            among=among,
        )

    async def _insert_damaged(self, spec: RunSpec, rows: str, *, is_copy: bool) -> None:
        """Add the sources that were found damaged, as originals or as copies (`is_copy`)."""
        of_row, of_pair = ("copy_", "") if is_copy else ("", "copy_")
        source = spec.source.location.bucket
        is_it = f"copy_bucket = {quoted(source)}" if is_copy and not is_second_name(source) else "true"
        await in_thread(
            self.connection,
            self.connection.execute,
            f"""
            INSERT INTO findings BY NAME
            SELECT * EXCLUDE (spelled) FROM (
                SELECT {quoted(spec.run_id)} AS run_id, "row", true AS is_disproof, true AS by_bytes,
                       {not is_copy} AS of_original, least(epoch(finished_at), written_at) AS earliest,
                       greatest(epoch(finished_at), written_at) AS latest,
                       {_objection_sql(spec, is_swapped=is_copy)} AS objection,
                       key AS {of_row}key, version_id AS {of_row}version_id, etag AS {of_row}etag
                FROM {rows} WHERE status = {quoted(Status.DAMAGED.value)}
            ) AS damaged
            JOIN (
                SELECT DISTINCT copy_bucket, {of_pair}key, {one_spelling_sql(f"{of_row}key")} AS spelled
                FROM proven WHERE NOT in_archive AND {is_it}
            ) AS pairs ON {one_spelling_sql(f"damaged.{of_row}key")} = spelled
            """,
        )

    async def _add_differences(self, spec: RunSpec, run: RunFiles) -> str:
        """Add the rows of a comparison whose checksums differ. Returns what is lost, else "".

        Where S3 computed the checksums at rest, no other finding is about the bytes: the ETag and
        the stored checksums of the copy have not changed.
        """
        categories = (run.report or {}).get("categories")
        counted = [categories.get(each) or {} for each in _DIFFERING] if isinstance(categories, dict) else []
        rows = sum(each.get("rows") or 0 for each in counted)
        if run.report is not None and not rows:
            return ""
        place = self.ledger.location.join(f"runs/{spec.run_id}/{DIFFERENCES}")
        written_at = run.files.get(DIFFERENCES)
        if written_at is None:  # without a report, it was ended before it compared
            return f"{self.ledger.uri(spec.run_id)} has lost its differences" if rows else ""
        path = self.folder / f"differences-{spec.run_id}.parquet"
        if not path.exists():
            await download(self.ledger.store, ObjectRef(*place), path)
        objection = _against(spec, "disproved its copy", _REPORT + spec.run_id)
        for is_swapped in run.is_swapped:
            await self._insert_pairs(
                f"""
                SELECT {quoted(spec.run_id)} AS run_id, true AS is_disproof, true AS by_bytes,
                       false AS of_original, {min(spec.created_at, written_at)!r}::DOUBLE AS earliest,
                       {max(spec.created_at, written_at)!r}::DOUBLE AS latest, {objection} AS objection,
                       key AS source_key, version_id AS source_version_id, source_etag, destination_key,
                       destination_version_id, destination_etag
                FROM {parquet(path)}
                WHERE category IN ({_listed(_DIFFERING)}) AND reason = '{Reason.CHECKSUM_DIFFERS}'
                """,
                spec,
                is_swapped=is_swapped,
            )
        return ""

    async def _insert_pairs(self, sql: str, spec: RunSpec, *, is_swapped: bool, among: str = "proven") -> None:
        """Add the findings in `sql`, with source and destination renamed to original and copy."""
        sides = ("destination", "source") if is_swapped else ("source", "destination")
        copies = (spec.source if is_swapped else spec.destination).location.bucket
        bucket = "NULL" if is_second_name(copies) else quoted(copies)
        names = [
            f"{side}_{what} AS {kind}{what}"
            for side, kind in zip(sides, ("", "copy_"), strict=True)
            for what in ("key", "version_id", "etag")
        ]
        renamed = (
            "source_key, source_version_id, source_etag, destination_key, destination_version_id, destination_etag"
        )
        await in_thread(
            self.connection,
            self.connection.execute,
            f"""
            INSERT INTO findings BY NAME
            FROM (SELECT * EXCLUDE ({renamed}), {", ".join(names)}, {bucket} AS copy_bucket FROM ({sql})) AS pairs
            SEMI JOIN {among} AS named ON {have_same_keys("named", "pairs")}
                AND coalesce(named.copy_bucket = pairs.copy_bucket, true)
            """,
        )

    async def _add_doubt(self, run: RunFiles, problem: str) -> None:
        """Add a disproof of all copies for a run that cannot be read, as new as its newest file."""
        text = (
            f"run {run.run_id} may have found its copy wrong, and its files cannot be read ({problem}): put back what "
            "is lost or altered there, if the ledger's bucket keeps versions"
        )
        values = (
            f"{quoted(run.run_id)}, true, true, false, {run.newest!r}::DOUBLE, {run.newest!r}::DOUBLE, {quoted(text)}"
        )
        await in_thread(
            self.connection,
            self.connection.execute,
            f"""
            INSERT INTO findings (
                run_id, is_disproof, by_bytes, of_original, earliest, latest, objection, key, copy_bucket, copy_key)
            SELECT {values}, * FROM (SELECT DISTINCT key, copy_bucket, copy_key FROM proven WHERE NOT in_archive)
            """,
        )


def have_same_keys(one: str, other: str) -> str:
    """SQL: whether the rows of two tables have the same original and copy, in whatever spelling."""
    return " AND ".join(
        f"{one_spelling_sql(f'{one}.{key}')} = {one_spelling_sql(f'{other}.{key}')}" for key in ("key", "copy_key")
    )


def _counted(report: Mapping[str, Any] | None, statuses: frozenset[Status]) -> int:
    """Return how many rows with these outcomes the report of a run counts."""
    outcomes = (report or {}).get("outcomes")
    counts = [outcomes.get(status) for status in statuses] if isinstance(outcomes, dict) else []
    return sum(count for count in counts if isinstance(count, int))


_REPORT = "see what helps with sealift runs show "
_RETRY = "copy it again with sealift runs retry "
_RESTORE = "compare it with the copy, and restore it from what is right"
_COMPARE = "see which of the two is right, and restore the other"
_UNREAD = "could not read both sides"


def _objection_sql(spec: RunSpec, *, is_swapped: bool) -> str:
    """SQL for why an outcome voids a proof.

    It never advises to retry a swapped run, which would replace originals.
    """
    is_damaged, is_failed = (f"status = {quoted(each.value)}" for each in (Status.DAMAGED, Status.BLOCKED))
    if is_swapped:
        damaged, other = ("found its copy damaged", _COMPARE), ("found that it differs from its copy", _COMPARE)
    else:
        damaged, other = ("found the original damaged", _RESTORE), ("disproved its copy", _RETRY + spec.run_id)
    unread = _against(spec, _UNREAD, _REPORT + spec.run_id)
    return f"""CASE WHEN {is_damaged} THEN {_against(spec, *damaged)} WHEN {is_failed} THEN {unread}
        ELSE {_against(spec, *other)} END"""


def _against(spec: RunSpec, what: str, advice: str) -> str:
    """SQL for what the run found, with the row's `reason`, and what helps."""
    head = quoted(f"run {spec.run_id} {what} (")
    return f"{head} || {explained_sql()} || {quoted(f'), and no run has proven it as well since: {advice}')}"


def _by_bytes_sql(spec: RunSpec) -> str:
    """SQL for whether a finding is about the bytes of the copy. In doubt that of a disproof is.

    `done` is about them: the run wrote the bytes. So are `damaged` and `blocked`: the run read
    them, or could not. Where a run compared all versions by bytes, a copy with wrong bytes is
    `missing`. A report of checksums at rest may be older than a disproof by bytes, so a proof by
    such a report is not about them.
    """
    options = spec.options
    is_deep = bool(options.get("deep"))
    is_at_rest = bool(options.get("source_checksums") or options.get("destination_checksums"))
    is_of_all_versions = is_deep and bool(options.get("all_versions"))
    checksum = quoted(Evidence.CHECKSUM.value)
    return f"""(evidence = {quoted(Evidence.CONTENT.value)}
        OR status IN ({_listed((Status.DONE, Status.DAMAGED, Status.BLOCKED))})
        OR status = {quoted(Status.MISSING.value)} AND {is_of_all_versions}
        OR CASE WHEN status IN ({_listed(disproofs_of(spec))})
            THEN {is_deep or is_at_rest} AND evidence <> {quoted(Evidence.NONE.value)}
            ELSE {is_deep and spec.job == "verify"} AND evidence = {checksum} AND coalesce(reason, '') = '' END)"""


def _listed(words: Iterable[Status | Category]) -> str:
    return ", ".join(quoted(word.value) for word in sorted(words))
