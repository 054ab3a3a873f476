"""The model of last-copy courses: what Sealift deletes, held against the buckets, and outcomes against versions.

It does not check the ledger's books, which the other courses do: here somebody may forge them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.errors import StoreError
from jobs.s3.byte_ranges import ByteBudget
from tests.doubles.memory_buckets import Version
from tests.simulation.archives import tables as archive_tables
from tests.simulation.archives.books import PROBE
from tests.simulation.archives.model import BUDGETS_BYTES, CHAINS_AT_ONCE, READING_BYTES
from tests.simulation.copies import tables
from tests.simulation.copies.facts import Facts, stand
from tests.simulation.copies.schedule import LEDGER
from tests.simulation.engine.processes import EPOCH, Observer, Process, Request
from tests.simulation.last_copies.books import LastCopies
from tests.simulation.last_copies.schedule import LastCopySchedule, World

TRIAL = "a trial of If-Match hid an original, and its worker ended before it took that back"
LATE_TRIAL = "a trial of If-Match whose client was gone came late, and hid what others had written since"
WHEEL_SECONDS = 0.1
"""So soon after its command a worker that is tied to it has stopped to delete."""
FRESH_SECONDS = 15.0
"""What the ledger got so short before a row was taken up may be unseen: workers look as often."""
_WRITES = frozenset({"put", "copy", "complete_multipart"})
_DELETES = frozenset({"delete", "delete_versions"})
_TRIAL = re.compile(r"\.sealift-[0-9a-f]{16}-[ab]$")
"""Names of the objects by which a worker tries whether a server heeds conditions."""


class LastCopyModel(Facts, Observer):
    """Watches a schedule."""

    schedule: LastCopySchedule

    def __init__(self, schedule: LastCopySchedule):
        super().__init__(schedule)
        self.copies = LastCopies(self)
        self._calls: dict[tuple[str, str], float] = {}
        self._since: dict[int, dict[str, float]] = {}
        """By the number of a delete: when the process took up what it deletes. The delete may come late."""
        self._before: dict[int, dict[str, list[Version]]] = {}
        self.struck: Callable[[Process, str], None] | None = None
        """Called once, when the first delete of an original is on its way."""
        self.killed_at: dict[str, float] = {}
        """By run, when somebody killed its command."""
        self._wrong: dict[tuple[str, str, str | None], float] = {}
        """Place of a copy, its original's ETag → when the ledger got the first finding against it."""
        self._tried: list[tuple[str, str, Version, Version]] = []
        """Markers that hid something where a server ignores conditions; they have to be taken away at once."""
        self._deleters: dict[tuple[str, int], int] = {}
        """By run and shard: the highest lease with which something was deleted."""
        self._leases: dict[str, int] = {}
        """By process: the number of its last lease. Of two that start at once, the first may get the later one."""
        self.start_twin: Any

    # What a course asks of its model.

    def is_hidden_one_taken(self, run_id: str, key: str) -> bool:
        """Nobody else removes a version of an original for good here."""
        return False

    def budget_bytes(self, job: str) -> int:
        return BUDGETS_BYTES.get(job, READING_BYTES)

    def rows_at_once(self, job: str) -> int:
        return CHAINS_AT_ONCE.get(job, self.schedule.in_flight)

    def began(self, run_id: str, time: float) -> None:
        self.starts[run_id] = time

    def working(self, process: Process, rows: Sequence[ObjectVersion]) -> None:
        self._calls.update(((process.name, row.key), self.world.loop.time()) for row in rows)

    def returned(self, process: Process, rows: Sequence[ObjectVersion], outcomes: Sequence[Outcome]) -> None: ...
    def rested(self, process: Process) -> None: ...
    def rests(self, process: Process, budget: ByteBudget) -> None: ...
    def finished(self, process: Process) -> None: ...

    # What the world tells.

    def touched(self, bucket: str, key: str) -> None:
        self.touches.add((bucket, key))
        self.copies.taking(bucket, key)

    def flipped(self, bucket: str, key: str, version: Version, before: bytes) -> None:
        self.copies.flipped(key, version, before)

    def twin(self, process: Process) -> None:
        self.start_twin(process)

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("only errors of the tree", f"{process.name}: {type(error).__name__}: {error}")

    def asked(self, request: Request) -> None:
        if request.name in _DELETES:
            now = self.world.loop.time()
            self._since[request.number] = {
                key: self._calls.get((request.process.name, key), now) for key in _keys(request)
            }
        if request.name in _DELETES and self.struck is not None and self._job(request.process) == "expire":
            [key, *_] = _keys(request)
            if PROBE not in key and not self._is_trial(request):
                strike, self.struck = self.struck, None
                strike(request.process, key)
        is_deletion = request.name in _DELETES and request.bucket != LEDGER
        # A trial of the server removes what it made, whenever its answer comes.
        if is_deletion and self.schedule.world is World.ORPHAN and not all(map(_TRIAL.search, _keys(request))):
            self._check_wheel(request.process)

    def _check_wheel(self, process: Process) -> None:
        """A worker that is tied to its command ends with it. None deletes after one with a later lease did."""
        run_id, now = process.run_id, self.world.loop.time()
        number = self._leases.get(process.name, -1)
        latest = self._deleters[run_id, process.shard] = max(number, self._deleters.get((run_id, process.shard), -1))
        self.demand(number == latest, "one attempt at a time", f"{process.name} deletes beside a later one")
        killed_at = self.killed_at.get(run_id, now)
        commands = [each for each in self.world.processes if each.run_id == run_id and each.name.startswith("command")]
        if self.schedule.is_tied and not any(each.code is None and not each.is_dead for each in commands):
            self.demand(now - killed_at < WHEEL_SECONDS, "nobody deletes alone", f"{process.name} goes on")

    def applies(self, request: Request) -> None:
        if request.bucket != LEDGER and request.name in _DELETES | _WRITES:
            keys = _keys(request)
            self._before[request.number] = {key: list(self.world.versions(request.bucket, key)) for key in keys}

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        there = self._before.pop(request.number, {})
        if isinstance(result, StoreError):
            return
        if request.bucket == LEDGER:
            self._written(request)
        elif request.name in _DELETES:
            for key, versions in there.items():
                self._deleted(request, key, versions)
        elif request.name in _WRITES and before is not None:
            self._overwritten(request, before)

    # What is deleted.

    def _job(self, process: Process) -> str:
        if process.name.startswith("undo"):
            return "undo"
        return str(self.specs[process.run_id]["job"]) if process.run_id in self.specs else "none"

    def _deleted(self, request: Request, key: str, before: list[Version]) -> None:
        """Versions that were removed, or hidden by a marker."""
        after, process, job = self.world.versions(request.bucket, key), request.process, self._job(request.process)
        removed = [each for each in before if not any(each is other for other in after)]
        hidden = before[-1:] if after and after[-1].is_delete_marker and after[-1] not in before else []
        lost = [each for each in [*removed, *hidden] if not each.is_delete_marker and PROBE not in key]
        who = f"{process.name}: {request.name} {request.bucket}"
        if self._is_trial(request):
            known = [each for each in hidden if each.last_modified <= EPOCH + request.sent_at]
            self._tried += [(request.bucket, key, after[-1], version) for version in known]
            self.known_limits[LATE_TRIAL] += len(hidden) - len(known)
            lost = [] if hidden else lost
        for version in lost:
            since = self._since[request.number][key]
            self.copies.deleted(key, version, since, who)
            self.count("removed" if version in removed else "hidden")
            if job == "undo":
                self.violate("an undo destroys nothing", f"{who}: {key} {version.version_id}")
            elif job != "expire":
                self.violate("only expire deletes", f"{who}: {key} {version.version_id} ({job})")
            else:
                self._check_named(process.run_id, key, version, who)
                if self.schedule.world is World.LATER:
                    self._check_findings(process.run_id, key, version, since)

    def _check_findings(self, run_id: str, key: str, version: Version, since: float) -> None:
        """What all bytes showed to be wrong before the row was taken up is no copy, whatever the plan says."""
        for row in self.rows[run_id]:
            if row.key == key and row.etag == version.etag and row.proof is not None:
                proof: dict[str, Any] = msgspec.json.decode(row.proof)
                found_at = self._wrong.get((proof["bucket"], proof["key"], version.etag), since)
                self.demand(
                    since - found_at <= FRESH_SECONDS or proof["member"] is not None,
                    "what was found wrong is no copy",
                    f"{run_id}: {key} {version.version_id} goes for {proof['key']}, found wrong at {found_at:.0f} s",
                )

    def _is_trial(self, request: Request) -> bool:
        """Whether it is a delete with an ETag that no row has: is it refused, as it should be?"""
        etag = request.named.get("if_match")
        return etag is not None and all(etag != row.etag for row in self.rows.get(request.process.run_id, []))

    def _check_named(self, run_id: str, key: str, version: Version, who: str) -> None:
        """A row names the version: by its id or, where it has none, by its ETag."""
        rows = [row for row in self.rows[run_id] if row.key == key]
        named = [
            row
            for row in rows
            if row.version_id == version.version_id or (row.version_id is None and row.etag == version.etag)
        ]
        self.demand(named, "expire takes the version that a row names", f"{who}: {key} {version.version_id}: {rows}")

    def _overwritten(self, request: Request, before: Version) -> None:
        """`--overwrite never` is meant: what was there before the row was taken up stays on top."""
        process, key = request.process, request.key
        rows = [row for row in self.rows.get(process.run_id, []) if key.endswith(row.key)]
        taken_up = [self._calls[process.name, row.key] for row in rows if (process.name, row.key) in self._calls]
        if self._job(process) != "replicate" or before.is_delete_marker or not taken_up:
            return
        is_older = before.last_modified < self.world.memory._buckets.clock() - self.world.loop.time() + min(taken_up)
        now = self.world.versions(request.bucket, key)[-1]
        is_never = self.specs[process.run_id]["options"].get("overwrite") == "never"
        if is_never and is_older and before.data != now.data:
            self.violate("never means never", f"{process.name}: {request.bucket}/{key} {before.version_id}")

    # What the ledger says.

    def _written(self, request: Request) -> None:
        run_id, _, name = request.key.removeprefix("x/runs/").partition("/")
        if request.name != "put" or not request.key.startswith("x/runs/"):
            return
        data: bytes = request.arguments[2]
        if name == "spec.json":
            self.specs[run_id] = msgspec.json.decode(data)
        elif name.startswith("leases/") and not name.endswith("-ended.json"):
            self._leases[request.process.name] = int(name[-11:-5])
        elif name == "plan.json":
            self.rows[run_id] = self._rows_of(run_id, len(msgspec.json.decode(data)["shards"]))
        elif name.startswith("outcomes/"):
            outcomes = tables.read_outcomes(data)
            self.outcomes[run_id].append(outcomes)
            if self.specs[run_id]["job"] == "verify" and self.specs[run_id]["options"]["deep"]:
                self._note_findings(self.specs[run_id], outcomes)
            for outcome in outcomes if self.specs[run_id]["job"] == "expire" else ():
                self._check_outcome(run_id, outcome)
        elif name == "report.json":
            self.reports[run_id] = msgspec.json.decode(data)
            if self.specs[run_id]["job"] == "expire":
                self._check_honest(run_id)

    def _note_findings(self, spec: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
        source, (bucket, prefix) = (Location.parse(spec[side]["uri"]) for side in ("source", "destination"))
        for outcome in outcomes:
            if outcome.status is Status.MISMATCHED:  # what is missing may be copied later
                place = bucket, prefix + outcome.key.removeprefix(source.key)
                self._wrong.setdefault((*place, outcome.etag), self.world.loop.time())
                self.count("found wrong")

    def _rows_of(self, run_id: str, shards: int) -> list[ObjectVersion]:
        files = [self.world.versions(LEDGER, f"x/runs/{run_id}/shards/{shard:05d}.parquet") for shard in range(shards)]
        return [row for versions in files for row in tables.read_slice(versions[0].data)]

    def _check_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Expired: the version is gone, or hidden by the marker directly above it."""
        if outcome.status is Status.EXPIRED:
            self.count("expired")
        elif outcome.status in (Status.KEPT, Status.WAITING):
            self.count("found wrong: kept" if outcome.reason == archive_tables.DISPROVED else "kept")
        if outcome.status is not Status.EXPIRED or outcome.version_id is None:
            return
        bucket = Location.parse(self.specs[run_id]["source"]["uri"]).bucket
        there = self.world.versions(bucket, outcome.key)
        ids = [each.version_id for each in there]
        if (bucket, outcome.key) in self.touches or outcome.version_id not in ids:
            return
        place = ids.index(outcome.version_id)
        is_hidden = place + 1 < len(there) and there[place + 1].is_delete_marker
        self.demand(
            is_hidden or there[place].is_delete_marker or there[place].etag != outcome.etag,
            "expired is true",
            f"{run_id}: {outcome.key} {outcome.version_id} is there",
        )

    def _check_honest(self, run_id: str) -> None:
        """Where nothing is odd and nothing goes wrong, all that was proven goes."""
        schedule = self.schedule
        if schedule.world is not World.HONEST or schedule.faults or schedule.grace_seconds:
            return
        for row, outcome in stand(self.outcomes[run_id]).items():
            is_done = outcome.status in (Status.EXPIRED, Status.MISSING)
            self.demand(is_done, "what nothing hinders is done", f"{run_id} {row} {outcome.key}: {outcome.reason}")

    def count(self, what: str) -> None:
        """What the world came to."""
        self.branches[f"world {self.schedule.world.value}: {what}"] += 1

    def undone(self, process: Process, run_id: str) -> None:
        """`expire --undo` says that all of it is back."""
        self.count("undone")

    def check_end(self) -> None:
        """All is checked when it happens, but for what was hidden for a moment."""
        self.count("played")
        for bucket, key, marker, version in self._tried:
            if any(each is marker for each in self.world.versions(bucket, key)):
                self.known_limits[TRIAL] += 1
                self.copies.deleted(key, version, self.starts[max(self.starts)], "a trial of If-Match")


def _keys(request: Request) -> list[str]:
    if request.name != "delete_versions":
        return [request.key]
    named: Any = request.arguments[1]
    return list({key: None for key, _ in named})
