"""The ledger: the S3 prefix where runs live.

Every object is written once, and the last write publishes:

    <ledger>/runs/<run id>/
      spec.json                        what was asked
      shards/00000.parquet …           each worker's slice of the manifest
      plan.json                        counts, bytes, requests, dollars (exists = the plan is valid)
      outcomes/00000/<checkpoint>      by any number of attempts. The fold takes one outcome a row
      owner/000001.json                the command, submission or cancel that has the run: the last one
      batch/                           what was sent to AWS Batch
      uploads/00000/<name>             multipart uploads that were begun, and that have ended
      failures.parquet failures.csv    the rows that need attention, usable as a manifest
      report.json                      the fold of all outcomes (exists = the run has ended)

A checkpoint's name carries its counts, so a listing alone shows a run's progress. A plan has the
digest of each shard, and a run's id names its job. That is all the agreement there is: who may write
here can make a report lie, and `expire` believes nothing of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from jobs.core.model import Attributes, Location
from jobs.core.run import SPEC_VERSION, Plan, RunSpec
from jobs.errors import ConfigError, LedgerError, NoSuchBucket, NotFound, PreconditionFailed, UsageError
from jobs.ledger.files import JSON, PARQUET, list_files, list_folders, list_names, read_file, write_file, write_once
from jobs.ledger.run_ids import begin_order, is_spec_of, run_job
from jobs.s3.retries import Tries
from jobs.s3.store import Marker, Store

DIFFERENCES = "differences/00000.parquet"
"""The file of a reconciliation with the rows that are neither the same nor excluded."""
UNDONE = "undone/"
WRITE_TRIES = Tries(6)
T = TypeVar("T")


class Missing(LedgerError):
    """A file of a run that is not there."""


class Checkpoint(NamedTuple):
    """One outcome file: shard, attempt, number, rows, rows that ended badly, bytes.

    `written_at`: when S3 received it, in epoch seconds. 0 if it was not listed.
    """

    shard: int
    attempt: str
    number: int
    rows: int
    bad_rows: int
    size_bytes: int
    written_at: float = 0.0

    @property
    def name(self) -> str:
        """The file's name below its shard."""
        return f"{self.attempt}-{self.number:06d}-{self.rows}-{self.bad_rows}-{self.size_bytes}.parquet"

    @property
    def began_at(self) -> float:
        """When its attempt began, in epoch seconds (`jobs.runs.worker.new_attempt`). 0: no worker's."""
        stamp = self.attempt[:13]
        return int(stamp, 16) / 1000 if re.fullmatch("[0-9a-f]{13}", stamp) else 0.0

    @classmethod
    def parse(cls, shard: int, name: str) -> Checkpoint:
        """The inverse of `name`. Raises LedgerError for a name that is not a checkpoint's."""
        parts = name.removesuffix(".parquet").split("-")
        if len(parts) != 5 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise LedgerError(f"{name!r} in the outcomes of shard {shard} is not a checkpoint", advice="remove it")
        return cls(shard, parts[0], *map(int, parts[1:]))


class Ledger(Struct, frozen=True):
    """The runs below one S3 prefix."""

    store: Store
    location: Location

    def at(self, run_id: str, name: str = "") -> Location:
        """Where a run's folder is, or a file in it."""
        return self.location.join(f"runs/{run_id}/{name}")

    def uri(self, run_id: str, name: str = "") -> str:
        """The S3 URI of `at`."""
        return str(self.at(run_id, name))

    async def create(self, spec: RunSpec) -> None:
        """Write the run's spec. Raises PreconditionFailed when the ledger already holds the run."""
        await self.write_document(spec.run_id, "spec.json", spec.to_dict())

    async def spec(self, run_id: str) -> RunSpec:
        """The run's spec. Raises LedgerError for a missing run, or a spec of another run."""
        absent = f"the ledger {self.location} has no run {run_id}: give a whole id of `sealift runs list`"
        spec = await self.read(run_id, "spec.json", RunSpec.from_dict, absent)
        if not is_spec_of(run_id, spec):
            raise self._altered(run_id, "spec.json", f"it is the spec of run {spec.run_id!r}, a {spec.job!r}")
        return spec

    async def write_shard(self, run_id: str, shard: int, data: bytes) -> None:
        """Write one worker's slice of the manifest, as Parquet."""
        await self._write(run_id, f"shards/{shard:05d}.parquet", data, PARQUET)

    async def shard(self, run_id: str, shard: int, plan: Plan) -> bytes:
        """A slice's Parquet file. Raises LedgerError if it is missing, or not the one that was planned."""
        name = f"shards/{shard:05d}.parquet"
        data = await self._read(run_id, name)
        if (planned := plan.shards[shard].sha256) and hashlib.sha256(data).hexdigest() != planned:
            raise self._altered(run_id, name, "it is not the one that was planned")
        return data

    async def publish_plan(self, run_id: str, plan: Plan) -> None:
        """Write the plan: from now on the run's shards are valid."""
        await self.write_document(run_id, "plan.json", plan.to_dict())

    async def plan(self, run_id: str) -> Plan:
        """The run's plan. Raises LedgerError when planning did not finish.

        A comparison has no shards, its report is all of its result. It writes its plan at last, and nothing can
        make its report later: without one, it did not finish.
        """
        otherwise = f"planning did not finish, start a new run instead of {run_id} ({self.uri(run_id)})"
        plan = await self.read(run_id, "plan.json", Plan.from_dict, otherwise)
        if run_job(run_id) == "reconcile":
            await self.read(run_id, "report.json", dict, otherwise)
        return plan

    async def write_checkpoint(self, run_id: str, checkpoint: Checkpoint, data: bytes) -> None:
        """Write one outcome file."""
        await self._write(run_id, f"outcomes/{checkpoint.shard:05d}/{checkpoint.name}", data, PARQUET)

    async def checkpoints(self, run_id: str, shard: int | None = None, *, plan: Plan | None = None) -> list[Checkpoint]:
        """All checkpoints of the run, or of one shard, in the order of their names.

        Raises LedgerError for a file that is not a checkpoint, and for a shard that the plan lacks.
        """
        folder = self.at(run_id, "outcomes/").key
        place = self.at(run_id, "outcomes/" if shard is None else f"outcomes/{shard:05d}/")
        checkpoints = []
        async for entry in list_files(self.store, place):
            number, _, name = entry.key[len(folder) :].partition("/")
            if not re.fullmatch("[0-9]{5,9}", number) or (plan and int(number) >= len(plan.shards)):
                raise self._altered(run_id, f"outcomes/{number}", "the plan has no such shard")
            checkpoints.append(Checkpoint.parse(int(number), name)._replace(written_at=entry.last_modified))
        return checkpoints

    async def checkpoint_data(self, run_id: str, checkpoint: Checkpoint) -> bytes:
        """The Parquet file of a checkpoint."""
        return await self._read(run_id, f"outcomes/{checkpoint.shard:05d}/{checkpoint.name}")

    async def write_failures(self, run_id: str, parquet: bytes, csv: bytes) -> str:
        """Write the rows that need attention → the URI of the Parquet file, for the report.

        A later fold can find other rows, if an attempt was still at work. These get their own name.
        """
        where, name = (self.store, self.location), "failures"
        if not await write_once(*where, f"runs/{run_id}/{name}.parquet", parquet, PARQUET):
            name = f"failures-{hashlib.sha256(parquet).hexdigest()[:16]}"
            await self._write(run_id, f"{name}.parquet", parquet, PARQUET)
        await self.write_file(run_id, f"{name}.csv", csv, "text/csv")
        return self.uri(run_id, f"{name}.parquet")

    async def write_file(self, run_id: str, name: str, data: bytes | Path, content_type: str) -> str:
        """Write a file beside the report, before the report → its URI. The first writer wins."""
        attributes = Attributes(headers={"content-type": content_type})
        await write_once(self.store, self.location, f"runs/{run_id}/{name}", data, attributes)
        return self.uri(run_id, name)

    async def publish_report(self, run_id: str, report: dict[str, Any]) -> dict[str, Any]:
        """Write the report: from now on the run has ended → the report that won, perhaps another
        process's.
        """
        try:
            await self.write_document(run_id, "report.json", report)
        except PreconditionFailed:
            return await self.report(run_id) or report
        return report

    async def report(self, run_id: str) -> dict[str, Any] | None:
        """The run's report. None while it has not ended. Raises LedgerError for an altered one."""
        try:
            report = await self.read(run_id, "report.json", dict[str, Any])
        except Missing:
            return None
        if report.get("run_id", run_id) != run_id:
            raise self._altered(run_id, "report.json", f"it is the report of run {report['run_id']!r}")
        return report

    async def write_document(self, run_id: str, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON document of the run. Raises PreconditionFailed when another one has the name."""
        data = msgspec.json.encode({**document, "spec_version": SPEC_VERSION})
        await self._write(run_id, name, msgspec.json.format(data), JSON)

    async def read(self, run_id: str, name: str, parse: Callable[[dict[str, Any]], T], otherwise: str = "") -> T:
        """A JSON document of the run. Raises LedgerError when it is missing, or of another format.

        `otherwise`: what it means that it is missing.
        """
        data = await self._read(run_id, name, otherwise)
        try:
            document = msgspec.json.decode(data, type=dict[str, Any])
            if (version := document.get("spec_version", SPEC_VERSION)) == SPEC_VERSION:
                return parse(document)
        except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
            raise self._altered(run_id, name, f"{type(error).__name__}: {error}") from error
        raise LedgerError(
            f"{self.uri(run_id, name)} is of version {version}, this Sealift reads version {SPEC_VERSION}",
            advice="use the Sealift that wrote it, or a newer one",
        )

    async def names(self, run_id: str, folder: str) -> list[str]:
        """The names of the run's files in a folder (`batch/`), without the folder, in order."""
        return await list_names(self.store, self.at(run_id, folder))

    async def written_at(self, run_id: str) -> float:
        """When the last of the run's files was written, in epoch seconds. 0: there is none."""
        times = [entry.last_modified or 0.0 async for entry in list_files(self.store, self.at(run_id, ""))]
        return max(times, default=0.0)

    async def run_ids(self, since: str = "") -> list[str]:
        """All runs, oldest first, or those whose ids come after `since`. Raises ConfigError without a bucket."""
        place = self.location.join("runs/")
        after = Marker(place.key + since) if since else None
        try:
            return sorted(await list_folders(self.store, place, after=after), key=begin_order)
        except NoSuchBucket as error:
            raise ConfigError(
                f"the ledger's bucket {self.location.bucket} does not exist",
                advice="create it, or name another one with --ledger or SEALIFT_LEDGER",
            ) from error

    async def _read(self, run_id: str, name: str, otherwise: str = "") -> bytes:
        try:
            return await read_file(self.store, self.location, f"runs/{run_id}/{name}")
        except NotFound as error:
            raise Missing(otherwise or f"there is no {name} of run {run_id} ({self.uri(run_id, name)})") from error

    def _altered(self, run_id: str, name: str, why: str) -> LedgerError:
        return LedgerError(
            f"{self.uri(run_id, name)} is not what Sealift writes ({why}): it was altered",
            advice="restore an earlier version of it, or start a new run",
        )

    async def _write(self, run_id: str, name: str, data: bytes | Path, attributes: Attributes) -> None:
        """Write once. Raises PreconditionFailed when other bytes are there."""
        await write_file(self.store, self.location, f"runs/{run_id}/{name}", data, attributes, WRITE_TRIES)
