"""The reference model of archive courses: where each version of the source is, and what may be done with it.

It reads archives by itself (`archive_contents`), and knows of Sealift only what S3 was asked and what the promises are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jobs.core.model import ObjectVersion
from jobs.errors import StoreError
from tests.doubles.memory_buckets import Version
from tests.simulation.archives.books import ArchiveBooks
from tests.simulation.archives.copies import ArchiveCopies
from tests.simulation.archives.deletes import Deletes
from tests.simulation.archives.locks import Locks
from tests.simulation.archives.schedule import ARCHIVES, ArchiveSchedule
from tests.simulation.copies.facts import stand
from tests.simulation.copies.model import Model
from tests.simulation.copies.records import Records
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE
from tests.simulation.copies.tables import PART_BYTES
from tests.simulation.engine.processes import Process, Request
from tests.simulation.last_copies.books import LastCopies

BUDGETS_BYTES = {"compact": 96, "replicate": 40}
"""What a worker may hold of objects; the jobs that read archives by spans of 4,096 bytes hold several of them."""
READING_BYTES = 6_000
COMPARED_BYTES = 500
CHAINS_AT_ONCE = {"compact": 2, "verify": 2, "expire": 2, "restore": 4}
PARTS_AT_ONCE = 4
_READS = frozenset(
    {
        "head",
        "get",
        "get_annotation",
        "get_tags",
        "list_annotations",
        "list_objects",
        "list_versions",
        "is_versioned",
    }
)
MARK = re.compile(r"[.]sealift-[0-9a-f]{16}$")
_MAKES = frozenset({"put", "copy", "complete_multipart"})


class ArchiveModel(Model):
    """Watches a schedule. `beside`: by run and row, the keys of the rows that the job got together."""

    schedule: ArchiveSchedule

    def __init__(self, schedule: ArchiveSchedule):
        super().__init__(schedule)
        self.holdings = ArchiveCopies(self)
        self.deletes = Deletes(self)
        self.locks = Locks(self)
        self.last_copies = LastCopies(self)
        self.books = ArchiveBooks(self)
        self._records = Records(self, self.books.check)
        self.beside: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.parts: dict[str, list[Request]] = defaultdict(list)
        self.touch_times: dict[tuple[str, str], float] = {}

    # How much at once.

    def budget_bytes(self, job: str) -> int:
        return BUDGETS_BYTES.get(job, READING_BYTES)

    def most_bytes(self, process: Process) -> int:
        """Beside the budget: an archive's own index is read whole, and so are originals that are compared."""
        job = self._job(process)
        if job not in ("compact", "verify", "none"):
            return self.budget_bytes(job) + (0 if job == "replicate" else COMPARED_BYTES)
        whole = max((len(each.version.data) for each in self.holdings.all), default=0)
        return self.budget_bytes(job) + self.rows_at_once(job) * whole + COMPARED_BYTES

    def rows_at_once(self, job: str) -> int:
        return CHAINS_AT_ONCE.get(job, self.schedule.in_flight)

    # What the world tells.

    def original(self, key: str, version: Version) -> None:
        super().original(key, version)
        self.deletes.gone(key)
        if not version.is_delete_marker:
            self.last_copies.written(key, version.data)

    def removed(self, key: str, version: Version) -> None:
        self.deletes.gone(key)

    def touched(self, bucket: str, key: str) -> None:
        super().touched(bucket, key)
        if bucket == DESTINATION:
            self.last_copies.taking(bucket, key if key.startswith(ARCHIVES) else PREFIX + key)
        self.touch_times[bucket, key] = self.world.loop.time()

    def placed(self, key: str, version: Version | None, run_id: str) -> None:
        super().placed(key, version, run_id)
        place = key if key.startswith(ARCHIVES) else PREFIX + key
        self.holdings.placed(place, version, run_id)

    def flipped(self, bucket: str, key: str, version: Version, before: bytes) -> None:
        self.holdings.flips[id(version)].append((self.world.loop.time(), before))

    def asked(self, request: Request) -> None:
        super().asked(request)
        if request.name == "get" and request.bucket == SOURCE and self._job(request.process) == "compact":
            asked = sum(each.size_bytes for each in request.process.asked if each.bucket == SOURCE)
            most = self.budget_bytes("compact") + self.rows_at_once("compact") * PART_BYTES
            self.demand(asked <= most, "bounded", f"{request.process.name} asks for {asked} bytes of the source")
        if request.bucket == SOURCE and request.name in ("delete", "delete_versions"):
            self.deletes.asked(request)
        elif request.name == "put_part" and self._job(request.process) != "replicate":
            upload_id = request.arguments[2]
            parts = [each for each in self.parts[upload_id] if not each.answer.done()]
            self.parts[upload_id] = [*parts, request]
            self.demand(
                len(parts) < PARTS_AT_ONCE, "bounded", f"{request.process.name}: {len(parts) + 1} parts at once"
            )

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        name, bucket, process = request.name, request.bucket, request.process
        if isinstance(result, StoreError):
            return
        if bucket == LEDGER:
            self._written(request)
            return
        if bucket == SOURCE and MARK.search(str(request.key)):
            self._marked(request)
        elif name in ("delete", "delete_versions"):
            self.deletes.done(request, before)
        elif name in _MAKES:
            after = self.world.made(request, result)
            if after is not None:  # else a write that began later has taken its place
                self.holdings.made(request, before, after, self._job(process))
        elif name == "get":
            self.holdings.read(request, result.data)
        elif name not in _READS and name not in (
            "create_multipart", "put_part", "copy_part", "abort_multipart", "request_restore",
            "put_annotation",
        ):  # fmt: skip
            self.violate("only what is asked", f"{process.name}: {name} {request.key}")

    def _marked(self, request: Request) -> None:
        """Expire finds out whether the copies' bucket is this one: by an empty object, or a marker over nothing."""
        is_fine = self._job(request.process) == "expire" and (request.name != "put" or not request.arguments[2])
        self.demand(
            is_fine or request.name in _READS,
            "only what is asked",
            f"{request.process.name}: {request.name} {request.key}",
        )
        if request.name == "delete":
            self.deletes.gone(request.key)
        for version in self.world.versions(SOURCE, request.key):
            if not version.is_delete_marker and not any(each is version for each in self.sources[request.key]):
                self.original(request.key, version)

    def _job(self, process: Process) -> str:
        return str(self.specs[process.run_id]["job"]) if process.run_id in self.specs else "none"

    def _written(self, request: Request) -> None:
        name, key = request.name, request.key
        if name == "list_objects" and request.process.shard >= 0 and "/outcomes/" in key:
            attempt = self._records.attempts[request.process]
            if attempt.settled is None:
                attempt.settled = set(self._records.settled[request.process.run_id, request.process.shard])
        elif name == "put" and key.startswith("x/runs/"):
            self._records.written(request)
            if key.endswith("/plan.json"):
                self.books.planned(request.process.run_id)
            elif key.endswith("/report.json"):
                self.books.reported(request.process.run_id)
        elif name == "put" and key.startswith("x/tombstones/"):
            self.deletes.announced(request)
        elif name == "put" and key.startswith("x/archives/") and key.endswith(".parquet"):
            self.holdings.indexed(request)

    # What workers do.

    def working(self, process: Process, rows: Sequence[ObjectVersion]) -> None:
        super().working(process, rows)
        keys = {row.key for row in rows}
        for row in rows:
            self.beside[process.run_id, row.row] |= keys

    def since(self, process: Process, key: str) -> float:
        """When the process took up a row of the key."""
        return self.calls.get((process, key), 0.0)

    def is_hidden_one_taken(self, run_id: str, key: str) -> bool:
        """Whether others removed a version that the run hid, so that its undo leaves the marker to a person."""
        return self.deletes.is_hidden_one_taken(run_id, key)

    def undone(self, process: Process, run_id: str) -> None:
        """`expire --undo` says that all of it is back."""
        self.deletes.undone(run_id)

    def check_end(self) -> None:
        """No upload of a process that ended by itself is left; what ended well is still there."""
        for upload_id in [*self.world.memory.uploads(DESTINATION), *self.world.memory.uploads(SOURCE)]:
            process = self._uploads.get(upload_id)
            if process is not None and not process.is_dead and process.code is not None:
                self.demand(upload_id in self._aborts, "no upload is left", f"{process.name} left {upload_id}")
        self._check_quiet()

    def _check_quiet(self) -> None:
        """Where nothing went wrong, all that was asked has been done."""
        schedule = self.schedule
        if (
            schedule.faults
            or any(schedule.edits)
            or schedule.grace_seconds
            or schedule.payback_months is not None
            or schedule.with_tag
        ):
            return
        for run_id, report in self.reports.items():
            job, chosen = report["job"], stand(self.outcomes[run_id])
            for row in self.rows[run_id]:
                outcome = chosen[row.row]
                self.demand(
                    self.books.is_expected(job, row, outcome),
                    "what nothing hinders is done",
                    f"{run_id} {row.key} {row.version_id}: {outcome.status} {outcome.reason}",
                )
