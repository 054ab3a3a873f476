"""The reference model: what was at the source and at the destination when, and what Sealift may say and do about it.

It knows nothing of how Sealift works, only what S3 was asked and what the promises are. `violations` says which
promise was broken, and how.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.core.decision import Overwrite
from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import StoreError
from jobs.runs.ledger import Checkpoint
from jobs.s3.memory_buckets import Version
from jobs.s3.streams import ByteBudget
from tests.simulation import tables
from tests.simulation.schedule import OTHERS, Kind, Schedule, Step
from tests.simulation.world import DESTINATION, LEDGER, PREFIX, SOURCE, Observer, Process, Request, World

GOOD = {"copied", "same", "deleted", "verified"}
BUDGET_BYTES = 40
"""A worker's budget for object data."""
ORDER = [
    "mismatched", "copied", "packed", "deleted", "same", "skipped", "changed", "missing", "verified", "unverifiable",
    "archived", "denied", "failed",
]  # fmt: skip
"""Which outcome stands when attempts disagree, from the design: bad news found, then work done, then what was seen."""


@dataclass(slots=True)
class Placed:
    """What somebody put at a key, or took away (`version` None); `data` as it was written. `run_id` "": others."""

    time: float
    run_id: str
    version: Version | None
    data: bytes | None

    @property
    def is_object(self) -> bool:
        return self.data is not None


@dataclass(slots=True)
class Attempt:
    """What the model knows of one worker: rows that it found settled, got from the job, and wrote down."""

    settled: set[int] | None = None
    returned: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    at_work: int = 0


class Model(Observer):
    """Watches a schedule. `known_limits` counts what the design accepts and a guard of S3's could not prevent."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.world: World
        self.start_twin: Callable[[Process], None]
        self.violations: list[tuple[str, str]] = []
        self.known_limits: Counter[str] = Counter()
        self.branches: Counter[str] = Counter()
        self.rows: dict[str, list[ObjectVersion]] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, float] = {}
        self.sources: dict[str, list[Version]] = defaultdict(list)
        self.places: dict[str, list[Placed]] = defaultdict(list)
        self.touches: set[tuple[str, str]] = set()
        self.shards: dict[tuple[str, int], set[int]] = {}
        self.outcomes: dict[str, list[list[Outcome]]] = defaultdict(list)
        self.settled: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.reads: set[tuple[str, str | None, int, bytes]] = set()
        self.attempts: dict[Process, Attempt] = defaultdict(Attempt)
        self.uploads: dict[str, Process] = {}
        self.aborts: set[str] = set()

    def violate(self, promise: str, what: str) -> None:
        """Note a violation."""
        self.violations.append((promise, what))
        self.world.note("VIOLATION", promise, what)

    def demand(self, holds: object, promise: str, what: str) -> None:
        """Note a violation unless it holds."""
        if not holds:
            self.violate(promise, what)

    # What the world tells.

    def began(self, run_id: str, time: float) -> None:
        self.starts[run_id] = time

    def original(self, key: str, version: Version) -> None:
        self.sources[key].append(version)

    def placed(self, key: str, version: Version | None, run_id: str) -> None:
        data = None if version is None or version.is_delete_marker else version.data
        self.places[key].append(Placed(self.world.loop.time(), run_id, version, data))

    def touched(self, bucket: str, key: str) -> None:
        self.touches.add((bucket, key))

    def twin(self, process: Process) -> None:
        self.start_twin(process)

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("only errors of the tree", f"{process.name}: {type(error).__name__}: {error}")

    def asked(self, request: Request) -> None:
        process = request.process
        if request.name == "abort_multipart":
            self.aborts.add(request.arguments[2])
        elif request.size_bytes and process.bytes_asked > BUDGET_BYTES:
            self.violate("bounded", f"{process.name} asks for {process.bytes_asked} bytes at once")

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        name, bucket = request.name, request.bucket
        if isinstance(result, StoreError):
            return
        if bucket == LEDGER:
            if name == "put":
                self._written(request)
            elif name == "list_objects" and request.process.shard >= 0:
                attempt = self.attempts[request.process]
                if attempt.settled is None:
                    attempt.settled = set(self.settled[request.process.run_id, request.process.shard])
        elif name == "get":
            self.reads.add((request.process.run_id, result.info.etag, request.named.get("start", 0), result.data))
        elif bucket == DESTINATION and name in ("put", "copy", "complete_multipart", "delete"):
            versions = self.world.versions(bucket, request.key)
            self._destination_written(request, before, versions[-1] if versions else None)
        elif bucket == SOURCE and name not in ("head", "get", "get_tags", "list_objects", "list_versions"):
            self.violate("the source is left alone", f"{request.process.name}: {name} {request.key}")

    def answered(self, request: Request, result: Any) -> None:
        if request.name == "create_multipart" and not isinstance(result, StoreError):
            self.uploads[result] = request.process

    # What workers do.

    def working(self, process: Process, rows: Sequence[ObjectVersion]) -> None:
        attempt = self.attempts[process]
        attempt.at_work += 1
        self.demand(
            attempt.at_work <= self.schedule.in_flight,
            "bounded",
            f"{process.name} has {attempt.at_work} rows in flight",
        )
        settled = attempt.settled or set()
        self.demand(
            any(row.row not in settled for row in rows),
            "resumed work is not done again",
            f"{process.name} does rows {[row.row for row in rows]}, which were in the ledger when it began",
        )

    def rested(self, process: Process) -> None:
        self.attempts[process].at_work -= 1

    def returned(self, process: Process, rows: Sequence[ObjectVersion], outcomes: Sequence[Outcome]) -> None:
        self.attempts[process].returned.update(outcome.row for outcome in outcomes)
        self.demand(
            [(o.row, o.key) for o in outcomes] == [(r.row, r.key) for r in rows],
            "accounted",
            f"the job got rows {[r.row for r in rows]}, it gave {[o.row for o in outcomes]}",
        )

    def rests(self, process: Process, budget: ByteBudget) -> None:
        """The worker ends, well or not, but on its own: what the job gave it is in the ledger."""
        if process.is_dead or process.had_ledger_errors or self.world.loop.is_over:
            return
        attempt = self.attempts[process]
        lost = attempt.returned - attempt.written - (attempt.settled or set())
        self.demand(not lost, "a worker that ends has checkpointed", f"{process.name} forgot rows {sorted(lost)}")
        self.demand(
            budget._free == budget.size_bytes,
            "bounded",
            f"{process.name} ends with {budget._free} bytes of budget free",
        )

    def finished(self, process: Process) -> None:
        """The worker says that all is done: every row of its shard has an outcome in the ledger."""
        missing = self.shards.get((process.run_id, process.shard), set()) - self.settled[process.run_id, process.shard]
        self.demand(not missing, "accounted", f"{process.name} says done, rows {sorted(missing)} have no outcome")

    # The ledger.

    def _written(self, request: Request) -> None:
        run_id, _, name = request.key.removeprefix("x/runs/").partition("/")
        data: bytes = request.arguments[2]
        if len(self.world.versions(LEDGER, request.key)) > 1:
            self.violate("the ledger is written once", f"{request.process.name} wrote {name} again")
        if name == "spec.json":
            self.specs[run_id] = json.loads(data)
        elif name == "plan.json":
            self._planned(run_id, json.loads(data))
        elif name.startswith("outcomes/"):
            self._checkpointed(request.process, run_id, name, data)
        elif name == "report.json":
            self._reported(run_id, json.loads(data))

    def _planned(self, run_id: str, plan: dict[str, Any]) -> None:
        rows: list[ObjectVersion] = []
        for shard, summary in enumerate(plan["shards"]):
            there = self.world.versions(LEDGER, f"x/runs/{run_id}/shards/{shard:05d}.parquet")
            if not there:
                self.violate("the plan is written last", f"shard {shard} of {run_id} is not there yet")
                continue
            some = tables.read_slice(there[0].data)
            self.demand(len(some) == summary["rows"], "accounted", f"shard {shard} has {len(some)} rows")
            self.shards[run_id, shard] = {row.row for row in some}
            rows += some
        self.rows[run_id] = rows
        self.demand(
            sorted(row.row for row in rows) == list(range(plan["rows"])),
            "accounted",
            f"the plan of {run_id} says {plan['rows']} rows, its shards have {sorted(row.row for row in rows)}",
        )

    def _checkpointed(self, process: Process, run_id: str, name: str, data: bytes) -> None:
        shard, file = int(name.split("/")[1]), name.split("/")[2]
        outcomes, checkpoint = tables.read_outcomes(data), Checkpoint.parse(shard, file)
        rows = {outcome.row for outcome in outcomes}
        bad = sum(outcome.status not in GOOD for outcome in outcomes)
        self.demand(
            (checkpoint.rows, checkpoint.bad_rows) == (len(outcomes), bad), "accounted", f"{file} says wrong numbers"
        )
        self.demand(rows <= self.shards.get((run_id, shard), set()), "accounted", f"{file} has rows of another shard")
        attempt = self.attempts[process]
        self.demand(
            not rows & attempt.written and len(rows) == len(outcomes), "accounted", f"{process.name} wrote a row twice"
        )
        attempt.written |= rows
        self.settled[run_id, shard] |= rows
        self.outcomes[run_id].append(outcomes)
        for outcome in outcomes:
            self.branches[f"{self.specs[run_id]['job']} {outcome.status} {outcome.evidence}: {_words(outcome)}"] += 1
            self._check_truth(run_id, outcome)

    def _reported(self, run_id: str, report: dict[str, Any]) -> None:
        self.reports[run_id] = report
        rows = {row.row: row for row in self.rows[run_id]}
        for count in range(len(self.outcomes[run_id]), -1, -1):
            chosen = _stand(self.outcomes[run_id][:count])
            tally = dict(sorted(Counter(str(each.status) for each in chosen.values()).items()))
            if tally == report["outcomes"]:
                break
        else:
            self.violate("accounted", f"{run_id}'s report says {report['outcomes']}, no state of the ledger does")
            return
        self.demand(
            set(chosen) == set(rows) and report["accounted"] == report["rows"] == len(rows),
            "accounted",
            f"{run_id} is reported complete with rows {sorted(chosen)} of {len(rows)}",
        )
        bad = {each.row for each in chosen.values() if each.status not in GOOD}
        self.demand(
            report["failures"] == len(bad), "accounted", f"{run_id} has {len(bad)} bad rows, its report says not"
        )
        stem = Location.parse(report["failures_manifest"] or "s3://ledger/").key.removesuffix(".parquet")
        files = [self.world.versions(LEDGER, f"{stem}.{kind}") for kind in ("parquet", "csv")]
        if bad:
            named = {(row.key, row.version_id) for row in tables.read_failures(files[0][0].data)} if files[0] else set()
            wanted = {(rows[row].key, rows[row].version_id) for row in bad if row in rows}
            self.demand(
                named == wanted, "the failures are the report's", f"{run_id}: it names {named}, bad are {wanted}"
            )
            self.demand(files[1], "the failures are there as CSV", run_id)

    # The destination.

    def originals(self, row: ObjectVersion) -> list[Version]:
        """The source versions that the row may mean: more than one only where an ETag alone pins it."""
        return [
            each
            for each in self.sources[row.key]
            if row.version_id in (None, each.version_id)
            and row.is_delete_marker == each.is_delete_marker
            and row.etag in (None, each.etag)
        ]

    def _destination_written(self, request: Request, before: Version | None, after: Version | None) -> None:
        key, run_id = request.key.removeprefix(PREFIX), request.process.run_id
        self.placed(key, after, run_id)
        rows = [row for row in self.rows[run_id] if row.key == key]
        options, who = self.specs[run_id]["options"], f"{request.process.name}: {request.name} {key}"
        if self.specs[run_id]["job"] != "replicate":
            self.violate("verify writes nothing", who)
        elif request.name == "delete":
            self._marked(request, rows, before, who)
        elif after is not None:
            meant = [(row, each) for row in rows for each in self.originals(row) if each.data == after.data]
            like = [(row, each) for row, each in meant if _carried(each) == _carried(after)]
            if not meant:
                self.violate("pinned", f"{who}: these are not the bytes of the row's version")
                return
            if not like and self._has_tags_of_another(key, meant, after):
                self.known_limits["tags, which no ETag pins, were those of another version"] += 1
            else:
                self.demand(like, "faithful", f"{who}: metadata or tags are not the source's: {after.attributes}")
            like = like or meant
            if options["all_versions"]:
                self._appended(key, rows, like, after, who)
            elif before is not None and not before.is_delete_marker:
                self._overwritten(like, before, Overwrite(options.get("overwrite", "older")), who)

    def _has_tags_of_another(self, key: str, meant: list[tuple[ObjectVersion, Version]], after: Version) -> bool:
        """A manifest without version ids, and a source that others changed while its tags were asked for."""
        is_named = all(row.version_id is not None for row, _ in meant)
        alike = any(_carried(each)[:3] == _carried(after)[:3] for _, each in meant)
        others = [dict(each.attributes.tags) for each in self.sources[key]]
        return not is_named and alike and (SOURCE, key) in self.touches and dict(after.attributes.tags) in others

    def _overwritten(
        self, like: list[tuple[ObjectVersion, Version]], before: Version, overwrite: Overwrite, who: str
    ) -> None:
        """An object was there: it was older than its source, or condemned, or all may be overwritten."""
        is_allowed = any(
            row.condemned_etag == before.etag
            or overwrite is Overwrite.ALWAYS
            or (overwrite is Overwrite.OLDER and int(before.last_modified) < int(each.last_modified))
            for row, each in like
        )
        self.demand(is_allowed, "nothing is destroyed", f"{who} over {before.etag}, which is not older ({overwrite})")

    def _appended(
        self,
        key: str,
        rows: list[ObjectVersion],
        like: list[tuple[ObjectVersion, Version]],
        after: Version,
        who: str,
    ) -> None:
        """In a history, nothing that is newer at the source lies beneath."""
        history = self.sources[key]
        place = max(index for index, each in enumerate(history) for _, o in like if each is o)
        for each in self.world.versions(DESTINATION, PREFIX + key):
            if each is not after and not each.is_delete_marker:
                self._covered(key, rows, place, each, who)
        ours = [p for p in self.places[key][:-1] if p.run_id and p.version and p.version.is_delete_marker]
        if ours and not any(each.is_delete_marker for each in history[:place]):
            self.known_limits["a late copy over a delete marker"] += 1

    def _marked(self, request: Request, rows: list[ObjectVersion], before: Version | None, who: str) -> None:
        """A delete marker: one of the source's, and nothing newer than it was current."""
        key = request.key.removeprefix(PREFIX)
        history, ours = self.sources[key], {row.version_id for row in rows if row.is_delete_marker}
        places = [i for i, each in enumerate(history) if each.is_delete_marker and each.version_id in ours]
        self.demand(
            request.named.get("version_id") is None and places,
            "nothing is destroyed",
            f"{who}: no row is a delete marker",
        )
        if before is not None and not before.is_delete_marker and places:
            self._covered(key, rows, max(places), before, f"{who}, a marker")

    def _covered(self, key: str, rows: list[ObjectVersion], place: int, there: Version, who: str) -> None:
        """What lies beneath number `place` of the source's history is not a copy of what is newer.

        Nobody can know it of a version that the source has no more, unless a row has its MD5.
        """
        history, now = self.sources[key], self.world.versions(SOURCE, key)
        known = {each.version_id for each in now} | {row.version_id for row in rows if "-" not in (row.etag or "-")}
        at = [i for i, o in enumerate(history) if (o.etag, o.data) == (there.etag, there.data)]
        if not at or min(at) <= place:
            return
        markers = [p for p in self.places[key] if p.version is not None and p.version.is_delete_marker]
        if not any(history[index].version_id in known for index in at):
            self.known_limits["the copy of a version that the source has no more was covered"] += 1
        elif any(not p.run_id for p in markers):
            self.known_limits["a delete marker of others at the destination was taken for the source's"] += 1
        elif len(markers) > sum(each.is_delete_marker for each in history):
            self.known_limits["a delete marker, written without a guard, came twice or late"] += 1
        else:
            self.violate("an older version is never on top", f"{who}: number {place} over number {min(at)}")

    # What Sealift says.

    def _check_truth(self, run_id: str, outcome: Outcome) -> None:
        rows = [row for row in self.rows[run_id] if row.row == outcome.row]
        if not rows or (rows[0].key, rows[0].version_id) != (outcome.key, outcome.version_id):
            self.violate("accounted", f"{run_id}: row {outcome.row} is about another object")
            return
        why = self._falsehood(run_id, rows[0], outcome)
        self.demand(not why, f"{outcome.status} is true", f"{run_id} row {outcome.row} {outcome.key}: {why}")

    def _falsehood(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        """Why the outcome cannot be true; empty when it can."""
        status, spec, key = outcome.status, self.specs[run_id], row.key
        originals = {each.data for each in self.originals(row)}
        here = [p for p in self.places[key] if p.is_object and self._is_named(p, outcome)]
        if status is Status.COPIED:
            copies = [p for p in here if p.run_id == run_id and p.data in originals]
            return "" if copies else "this run has not made that copy"
        if status in (Status.SAME, Status.VERIFIED) and row.is_delete_marker:
            return "" if any(p.version and p.version.is_delete_marker for p in self.places[key]) else "no marker there"
        if status in (Status.SAME, Status.VERIFIED):
            equal = [p for p in here if p.data in originals and self._was_there(p, run_id)]
            if not equal:
                return "no object there had its bytes"
            if outcome.evidence is Evidence.NONE:
                return "proven by nothing"
            if outcome.evidence is Evidence.CONTENT and not any(self._was_read(run_id, p, originals) for p in equal):
                return "its bytes were not read, or were others"
            if status is Status.VERIFIED and spec["options"].get("deep") and outcome.evidence is not Evidence.CONTENT:
                return "deep, but not read"
            return ""
        if status is Status.DELETED:
            made = [p for p in self.places[key] if p.run_id == run_id and p.version and p.version.is_delete_marker]
            return "" if made else "this run has made no marker"
        if status is Status.MISMATCHED:
            return self._false_alarm(here, originals)
        return self._unexcused(spec["job"], row, outcome, originals)

    def _is_named(self, placed: Placed, outcome: Outcome) -> bool:
        version = placed.version
        return (
            version is not None
            and version.etag == outcome.destination_etag
            and outcome.destination_version_id in (None, version.version_id)
        )

    def _was_there(self, placed: Placed, run_id: str) -> bool:
        """Whether it was current (in histories: there) at some time of the run."""
        key_places = next(each for each in self.places.values() if placed in each)
        later = key_places[key_places.index(placed) + 1 :]
        return self.schedule.all_versions or not later or later[0].time >= self.starts[run_id]

    def _was_read(self, run_id: str, placed: Placed, originals: set[bytes]) -> bool:
        assert placed.version is not None
        assert placed.data is not None
        data, step, etag = placed.data, tables.RANGE_BYTES, placed.version.etag
        return all(
            (run_id, etag, start, data[start : start + step]) in self.reads for start in range(0, len(data), step)
        )

    def _false_alarm(self, here: list[Placed], originals: set[bytes]) -> str:
        for placed in here:
            if placed.data not in originals or _is_flipped(placed):
                return ""
        return "what is there has its bytes" if here else ""

    def _unexcused(self, job: str, row: ObjectVersion, outcome: Outcome, originals: set[bytes]) -> str:
        """Why a row that ended badly should not have."""
        status, key, fired = outcome.status, row.key, self.world.fired
        is_touched = any((side, key) in self.touches for side in (SOURCE, DESTINATION))
        if status is Status.FAILED:
            return "" if sum(fired.values()) or row.is_delete_marker else "nothing went wrong"
        if status is Status.DENIED:
            return "" if fired[Kind.DENIED] else "nothing was denied"
        if status is Status.ARCHIVED:
            if any(each.is_archived for each in self.originals(row)):
                return ""
            if self.schedule.all_versions and any(each.is_archived for each in self.sources[key]):
                self.known_limits["an archived version of a history hides what the others are"] += 1
                return ""
            return "it is not archived"
        if status is Status.UNVERIFIABLE:
            is_archived = any(each.is_archived for each in self.sources[key])
            return "" if not self.schedule.deep or is_archived or row.is_delete_marker else "it could be read"
        if status is Status.MISSING and job == "replicate":
            return "" if (SOURCE, key) in self.touches else "nobody has removed it"
        if status is Status.MISSING:
            there = [p for p in self.places[key] if p.time < outcome.finished_at]
            is_there = bool(there) and all(p.version is not None for p in there) and not self.schedule.all_versions
            return "it was there" if is_there and not is_touched and not there[-1].run_id and there[-1].data else ""
        if status is Status.CHANGED:
            others = any(p.data not in originals or _is_flipped(p) for p in self.places[key] if p.is_object)
            return "" if is_touched or others or self.schedule.all_versions else "nothing changed"
        return f"{status} is no outcome of {job}"

    # The end.

    def check_end(self) -> None:
        """What must be true when all is over."""
        for upload_id in self.world.memory.uploads(DESTINATION):
            process = self.uploads.get(upload_id)
            if process is not None and not process.is_dead and process.code is not None:
                self.demand(upload_id in self.aborts, "no upload is left", f"{process.name} left {upload_id}")
        last = self.schedule.steps[-1]
        is_quiet = not any(fault.kind in OTHERS for fault in self.schedule.faults) and self.reports
        if is_quiet and last is not Step.VERIFY:
            self._check_copies()

    def _check_copies(self) -> None:
        """Nobody else has written since: every row that ended well is at the destination, the latest on top."""
        run_id = list(self.reports)[-1]
        chosen = _stand(self.outcomes[run_id])
        for row in self.rows[run_id]:
            outcome, versions = chosen[row.row], self.world.versions(DESTINATION, PREFIX + row.key)
            if outcome.status not in (Status.COPIED, Status.SAME) or row.is_delete_marker:
                continue
            etags = [each.etag for each in versions if not each.is_delete_marker]
            self.demand(
                outcome.destination_etag in etags, "a copy stays", f"{row.key}: {outcome.destination_etag} is gone"
            )
            if not self.schedule.all_versions:
                self.demand(
                    versions and versions[-1].etag == outcome.destination_etag, "a copy is current", f"{row.key} is not"
                )


def _stand(checkpoints: Sequence[Sequence[Outcome]]) -> dict[int, Outcome]:
    """The outcome that stands for each row."""
    chosen: dict[int, Outcome] = {}
    for outcomes in checkpoints:
        for each in outcomes:
            known = chosen.get(each.row)
            if known is None or ORDER.index(each.status) < ORDER.index(known.status):
                chosen[each.row] = each
    return chosen


def _carried(version: Version) -> tuple[Any, ...]:
    """What a copy takes along besides bytes."""
    attributes = version.attributes
    return dict(attributes.headers), dict(attributes.metadata), version.storage_class, dict(attributes.tags)


def _is_flipped(placed: Placed) -> bool:
    return placed.version is not None and placed.version.data != placed.data


def _words(outcome: Outcome) -> str:
    return " ".join(outcome.reason.split()[:4])
