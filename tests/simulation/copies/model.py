"""The reference model: what was at the source and at the destination when, and what Sealift may say and do about it.

It knows nothing of how Sealift works, only what S3 was asked and what the promises are. `violations` says which
promise was broken, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobs.core.model import ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.errors import StoreError
from jobs.replicate.decision import Overwrite
from jobs.s3.byte_ranges import ByteBudget
from tests.doubles.memory_buckets import Version, place_version
from tests.simulation.copies.copies import Copies
from tests.simulation.copies.facts import Facts, stand
from tests.simulation.copies.records import Records
from tests.simulation.copies.schedule import DESTINATION, LEDGER, OTHERS, PREFIX, SOURCE, Schedule, Step
from tests.simulation.engine.processes import Observer, Process, Request

BUDGET_BYTES = 40
"""A worker's budget for object data, of jobs that copy or compare."""
_READS = frozenset({"head", "get", "get_annotation", "get_tags", "list_annotations", "list_objects", "list_versions"})
_CHANGES = frozenset({
    "put", "copy", "delete", "delete_versions", "create_multipart", "copy_part", "put_part", "complete_multipart",
})  # fmt: skip


class Model(Facts, Observer):
    """Watches a schedule."""

    def __init__(self, schedule: Schedule):
        super().__init__(schedule)
        self.start_twin: Callable[[Process], None]
        self._records, self._copies = Records(self), Copies(self)
        self._uploads: dict[str, Process] = {}
        self._aborts: set[str] = set()
        self._at_work: dict[tuple[str, int], Process] = {}
        """By run and shard, the attempt that was the last to begin with a row."""

    # How much at once.

    def budget_bytes(self, job: str) -> int:
        """What a worker may hold of objects."""
        return BUDGET_BYTES

    def most_bytes(self, process: Process) -> int:
        """What a process may ask for at once."""
        return BUDGET_BYTES

    def rows_at_once(self, job: str) -> int:
        """How many chains of rows a worker may have in flight."""
        return self.schedule.in_flight

    # What the world tells.

    def began(self, run_id: str, time: float) -> None:
        self.starts[run_id] = time

    def original(self, key: str, version: Version) -> None:
        place_version(self.sources[key], version)

    def flipped(self, bucket: str, key: str, version: Version, before: bytes) -> None:
        if bucket == SOURCE:
            self.rots[id(version)].append((self.world.loop.time(), before))
        else:
            self.once_flipped.add(id(version))

    def touched(self, bucket: str, key: str) -> None:
        self.touches.add((bucket, key))

    def twin(self, process: Process) -> None:
        self.start_twin(process)

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("only errors of the tree", f"{process.name}: {type(error).__name__}: {error}")

    def asked(self, request: Request) -> None:
        process = request.process
        is_write = request.name in _CHANGES and request.bucket != LEDGER
        if is_write and process.shard >= 0 and self.schedule.has_leases:
            last = self._at_work.get((process.run_id, process.shard))
            what = f"{process.name} sends {request.name} {request.key}, after {last and last.name} has begun"
            self.demand(last in (None, process), "one attempt at a shard", what)
        if request.name == "abort_multipart":
            self._aborts.add(request.arguments[2])
        elif request.size_bytes and process.bytes_asked > self.most_bytes(process):
            self.violate("bounded", f"{process.name} asks for {process.bytes_asked} bytes at once")

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        name, bucket = request.name, request.bucket
        if isinstance(result, StoreError):
            return
        if bucket == LEDGER:
            if name == "put":
                self._records.written(request)
            elif name == "list_objects" and request.process.shard >= 0 and "/outcomes/" in request.key:
                attempt = self._records.attempts[request.process]
                if attempt.settled is None:
                    attempt.settled = set(self._records.settled[request.process.run_id, request.process.shard])
        elif name == "get":
            start = request.named.get("start", 0)
            self.reads.add((request.process.run_id, bucket, result.info.etag, start, result.data))
        elif bucket == DESTINATION and name == "list_versions":
            self._copies.listed(request)
        elif bucket == DESTINATION and name in ("put", "copy", "complete_multipart", "delete"):
            self._copies.written(request, before, self.world.made(request, result))
        elif bucket == SOURCE and name not in _READS:
            self.violate("the source is left alone", f"{request.process.name}: {name} {request.key}")

    def answered(self, request: Request, result: Any) -> None:
        if request.name == "create_multipart" and not isinstance(result, StoreError):
            self._uploads[result] = request.process

    # What workers do.

    def working(self, process: Process, rows: Sequence[ObjectVersion]) -> None:
        attempt = self._records.attempts[process]
        self.calls |= dict.fromkeys(((process, row.key) for row in rows), self.world.loop.time())
        if not attempt.has_begun:
            attempt.has_begun, self._at_work[process.run_id, process.shard] = True, process
        attempt.at_work += 1
        if attempt.at_work > self.rows_at_once(self.specs[process.run_id]["job"]):
            self.violate("bounded", f"{process.name} has {attempt.at_work} rows in flight")
        settled = attempt.settled or set()
        if all(row.row in settled for row in rows):
            what = f"{process.name} does rows {[row.row for row in rows]}, which were in the ledger when it began"
            self.violate("resumed work is not done again", what)

    def rested(self, process: Process) -> None:
        self._records.attempts[process].at_work -= 1

    def returned(self, process: Process, rows: Sequence[ObjectVersion], outcomes: Sequence[Outcome]) -> None:
        self._records.attempts[process].returned.update(outcome.row for outcome in outcomes)
        if [(o.row, o.key) for o in outcomes] != [(r.row, r.key) for r in rows]:
            what = f"the job got rows {[r.row for r in rows]}, it gave {[o.row for o in outcomes]}"
            self.violate("accounted", what)

    def rests(self, process: Process, budget: ByteBudget) -> None:
        """The worker ends, well or not, but on its own: what the job gave it is in the ledger."""
        if process.is_dead or process.had_ledger_errors or self.world.loop.is_over:
            return
        attempt = self._records.attempts[process]
        lost = attempt.returned - attempt.written - (attempt.settled or set())
        self.demand(not lost, "a worker that ends has checkpointed", f"{process.name} forgot rows {sorted(lost)}")
        self.demand(
            budget._free == budget.size_bytes,
            "bounded",
            f"{process.name} ends with {budget._free} bytes of budget free",
        )

    def finished(self, process: Process) -> None:
        """The worker says that all is done: every row of its shard has an outcome in the ledger."""
        self.demand(
            not process.is_refused, "who is refused stops", f"{process.name} went on when its credentials had expired"
        )
        shard = (process.run_id, process.shard)
        missing = self._records.shards.get(shard, set()) - self._records.settled[shard]
        self.demand(not missing, "accounted", f"{process.name} says done, rows {sorted(missing)} have no outcome")

    def check_end(self) -> None:
        """What must be true when all is over."""
        for upload_id in self.world.memory.uploads(DESTINATION):
            process = self._uploads.get(upload_id)
            if process is not None and not process.is_dead and process.code is not None:
                is_right = upload_id in self._aborts or self._is_left_rightly(upload_id, process)
                self.demand(is_right, "no upload is left", f"{process.name} left {upload_id}")
        last = self.schedule.steps[-1]
        is_quiet = not any(fault.kind in OTHERS for fault in self.schedule.faults) and self.reports
        if is_quiet and last is not Step.VERIFY:
            self._check_copies()

    def _is_left_rightly(self, upload_id: str, process: Process) -> bool:
        """Whether another attempt will find it."""
        return False

    def _check_copies(self) -> None:
        """Nobody else has written since: every row that ended well is at the destination, the latest on top."""
        run_id = list(self.reports)[-1]
        chosen = stand(self.outcomes[run_id])
        for row in self.rows[run_id]:
            outcome, versions = chosen[row.row], self.world.versions(DESTINATION, PREFIX + row.key)
            if outcome.status not in (Status.COPIED, Status.SAME) or row.is_delete_marker:
                continue
            etags = [each.etag for each in versions if not each.is_delete_marker]
            self.demand(
                outcome.destination_etag in etags, "a copy stays", f"{row.key}: {outcome.destination_etag} is gone"
            )
            for made in (each for each in versions if each.etag == outcome.destination_etag):
                if outcome.destination_version_id not in (None, made.version_id):
                    continue  # the copy of another original of equal bytes
                if self._copies.is_made(made) and not outcome.reason:
                    texts = [each.annotations for each in self.originals(row)]
                    if outcome.status is Status.SAME:
                        # It may be the copy of another version of equal bytes, if it has all that this one has.
                        equal = [e.annotations for e in self.world.versions(SOURCE, row.key) if e.etag == made.etag]
                        texts += [has for has in equal if any(own.items() <= has.items() for own in texts)]
                    what = f"{row.key}: its copy has the annotations {sorted(made.annotations)}, and no reason says why"
                    self.demand(made.annotations in texts, "annotations come along", what)
            is_current = bool(versions) and versions[-1].etag == outcome.destination_etag
            if self.schedule.all_versions or is_current:
                continue
            if versions and self._is_copy_of_unseen_rot(run_id, row, versions[-1]):
                self.known_limits["nothing that S3 keeps of a source showed that it is damaged"] += 1
            else:
                self.violate("a copy is current", f"{row.key} is not")

    def _is_copy_of_unseen_rot(self, run_id: str, row: ObjectVersion, top: Version) -> bool:
        """Whether another attempt, asked to replace whatever differs, copied the row once more when its source had
        other bytes than before, and nothing that S3 keeps of the source says so.
        """
        overwrites = self.specs[run_id]["options"].get("overwrite") == Overwrite.ALWAYS
        rotten = [each for each in self.originals(row) if self.rots.get(id(each)) and not self.was_damaged(each)]
        return overwrites and self._copies.is_made(top) and any(self.is_made_of(each, top.data) for each in rotten)
