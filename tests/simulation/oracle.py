"""The oracle: checks from outside what Sealift promises, by what is in the buckets and by what it says of each row.

It knows no type of the program but the adapter's `Row`. Each violation names its promise: one of `PROMISES`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import zstandard

from tests.doubles.memory_buckets import Version
from tests.simulation.adapter import Program, StoreError
from tests.simulation.engine.determinism import EPOCH
from tests.simulation.engine.network import Request
from tests.simulation.engine.world import Observer, Process, World
from tests.simulation.row import Row
from tests.simulation.schedule import ARCHIVES, BACK, COPIES, DESTINATION, LEDGER, SOURCE, Verb

PROMISES = {
    "accounted": "every row of a manifest has an outcome, and a report that adds up",
    "pinned": "what was copied is the version that was named, with all that it carries",
    "guarded": "nothing newer, and nothing that somebody else wrote, is overwritten",
    "idempotent": "a second run writes nothing",
    "proven": "what is called verified, same, copied, packed or restored is so",
    "honest": "what is called wrong is wrong, and exit 0 means that all is well",
    "resumable": "after kills and faults a retry comes to an end",
    "nothing destroyed": "no last good copy is lost, and what was hidden comes back",
    "left alone": "each verb writes only where it says, and the ledger is written once",
    "newest on top": "when all events are handled, the copies are as the source is",
    "no bug": "no command ends by a bug, or goes round in circles",
}
COPYING = (Verb.REPLICATE, Verb.RETRY, Verb.BACKLOG, "events")
WRITERS = {COPIES: COPYING, ARCHIVES: (Verb.COMPACT, Verb.RETRY), BACK: (Verb.RESTORE, Verb.RESTORE_AS_OF, Verb.RETRY)}
UNSURE_SECONDS = 3600.0
TWO_CLOCKS_SECONDS = 300
"""A streamed copy replaces only what is older by more, where no versions are kept."""
AT_SOURCE = (Verb.EXPIRE, Verb.UNDO, Verb.RESTORE, Verb.RESTORE_AS_OF, Verb.RETRY)


@dataclass(slots=True)
class Placed:
    """A version that came. `maker` None: somebody else's. `gone_at`: when it was removed, or written over."""

    version: Version
    at: float
    maker: Process | None
    gone_at: float | None = None
    rots: list[tuple[float, bytes]] = field(default_factory=list)

    def states(self, since: float) -> list[bytes]:
        """The bytes that it had at some time since then."""
        return [before for at, before in self.rots if at >= since] + [self.version.data]

    def was_there(self, since: float) -> bool:
        """Whether it was there at some time since then."""
        return self.gone_at is None or self.gone_at >= since

    @property
    def whole(self) -> bytes:
        """The bytes with which it came."""
        return self.rots[0][1] if self.rots else self.version.data

    @property
    def is_object(self) -> bool:
        return not self.version.is_delete_marker


@dataclass(slots=True)
class Run:
    """A run that has a report. `since`: when its command began. `verb`: what it was asked for."""

    run_id: str
    document: dict[str, Any]
    rows: list[Row]
    since: float
    verb: str

    @property
    def is_well(self) -> bool:
        return all(row.is_settled for row in self.rows)


class Oracle(Observer):
    """Watches a world. `violations`: promise, and what broke it. `seen` counts outcomes, `limits` what S3 allows."""

    def __init__(self) -> None:
        self.world: World
        self.program: Program
        self.violations: list[tuple[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.limits: Counter[str] = Counter()
        self.places: dict[tuple[str, str], list[Placed]] = defaultdict(list)
        self.runs: dict[str, Run] = {}
        self.began: dict[str, tuple[float, str]] = {}
        """By run: when its command began, and its verb."""
        self.retry_of: dict[str, str] = {}
        """By run: the run whose failed rows it acts on."""
        self.folded: dict[tuple[Process, str], list[str]] = {}
        """By process and run: the checkpoints that it listed last. What comes later is in no report."""
        self.condemned: dict[str, set[str | None]] = defaultdict(set)
        """By key: the ETags of copies that a run found wrong."""
        self.touched: dict[tuple[str, str], float] = {}
        """By bucket and key: when others last changed it."""
        self.late: set[str] = set()
        """Keys at whose copies a write took effect when nobody waited for it any more."""
        self.writes = 0
        """How often a process wrote to the destination."""

    def violate(self, promise: str, what: str) -> None:
        """Note a violation."""
        assert promise in PROMISES
        self.violations.append((promise, what))
        self.world.note("VIOLATION", promise, what)

    def demand(self, holds: object, promise: str, what: str) -> None:
        """Note a violation unless it holds."""
        if not holds:
            self.violate(promise, what)

    # What happens in the buckets.

    def placed(self, bucket: str, key: str, version: Version, maker: Process | None, before: list[Version]) -> None:
        self.places[bucket, key].append(Placed(version, self.world.loop.now, maker))
        if maker is None:
            self.touched[bucket, key] = self.world.loop.now
            return
        what = f"{maker.name} ({maker.verb}): {bucket}/{key} {version.version_id}"
        if bucket == LEDGER:
            run_id, _ = self.program.run_of(key)
            self.demand(not run_id or not before, "left alone", f"{what} was written again")
            return
        if bucket == SOURCE:
            self._at_source(key, version, maker, before, what)
            return
        self.writes += 1
        prefix = next((each for each in WRITERS if key.startswith(each)), "")
        verb = Verb.RETRY if maker.run_id in self.retry_of else maker.verb  # a retry given twice may begin a run
        self.demand(verb in WRITERS.get(prefix, ()), "left alone", what)
        if prefix == COPIES:
            self._copied(key.removeprefix(COPIES), version, maker, before, what)
        elif prefix == BACK:
            self._restored(key.removeprefix(BACK), version, before, what)

    def _at_source(self, key: str, version: Version, maker: Process, before: list[Version], what: str) -> None:
        self.demand(maker.verb in AT_SOURCE, "left alone", what)
        if not version.is_delete_marker:
            self._restored(key, version, before, what)
        elif before and not before[-1].is_delete_marker:
            self._demand_copy(key, before[-1], maker, f"{what} hides {before[-1].version_id}")

    def lost(self, bucket: str, key: str, versions: list[Version], maker: Process | None, after: list[Version]) -> None:
        for version in versions:
            placed = self._find(bucket, key, version)
            placed.gone_at = self.world.loop.now
            if maker is None:
                self.touched[bucket, key] = self.world.loop.now
                continue
            what = f"{maker.name} ({maker.verb}) removed {bucket}/{key} {version.version_id}"
            if bucket == SOURCE and not version.is_delete_marker:
                self._demand_copy(key, version, maker, what)
            elif bucket == SOURCE and placed.maker is None and maker.verb == Verb.UNDO and self._is_unsure(key, placed):
                self.limits["an undo took away the delete marker of others: the answer to a delete was lost"] += 1
            elif bucket == SOURCE:
                self.demand(placed.maker is not None or maker.verb == Verb.EXPIRE, "nothing destroyed", what)
            elif bucket == DESTINATION:
                is_written_over = not self.world.schedule.is_destination_versioned and after
                self.demand(is_written_over, "nothing destroyed", what)

    def rotted(self, bucket: str, key: str, version: Version, before: bytes) -> None:
        self._find(bucket, key, version).rots.append((self.world.loop.now, before))

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("no bug", f"{process.name}: {type(error).__name__}: {error}")

    def _find(self, bucket: str, key: str, version: Version) -> Placed:
        return next(each for each in self.places[bucket, key] if each.version is version)

    def _is_unsure(self, key: str, marker: Placed) -> bool:
        """Whether others set the marker within an hour of an expire run, of whose deletes an answer was lost, or an
        attempt died or was overtaken: S3 does not say whose marker it is.
        """
        runs = [since for since, verb in self.began.values() if verb == Verb.EXPIRE]
        attempts = [each for each in self.world.processes if each.verb == Verb.EXPIRE]
        has_unfinished = any(each.is_dead or each.code not in (0, 3) or each.is_twin for each in attempts)
        is_lost = (SOURCE, key) in self.world.network.hits or has_unfinished
        return is_lost and any(since <= marker.at <= since + UNSURE_SECONDS for since in runs)

    def has_rotten_source(self, key: str) -> bool:
        """Whether a version at the source has other bytes than it came with."""
        return any(each.rots for each in self.places[SOURCE, key])

    def _sources(self, key: str) -> list[Placed]:
        """Every version that was at the source, delete markers left out."""
        return [each for each in self.places[SOURCE, key] if each.is_object]

    def _demand_copy(self, key: str, version: Version, maker: Process, what: str) -> None:
        """A copy with all its bytes was there since the command had begun that takes the original away."""
        since = (maker.parent or maker).began
        grace_seconds = float(self.world.schedule.grace.removesuffix("s"))
        age_seconds = EPOCH + self.world.loop.now - version.last_modified
        if age_seconds < grace_seconds and (maker.is_dead or maker.code is not None):
            self.limits["a delete landed when its client had ended, on what was written again"] += 1
        else:
            young = f"{what}, which is only {age_seconds:.0f} s old"
            self.demand(age_seconds >= grace_seconds, "nothing destroyed", young)
        original = self._find(SOURCE, key, version)
        wanted = {original.whole, *original.states(since)}
        copies = [each for each in self.places[DESTINATION, COPIES + key] if each.is_object and each.was_there(since)]
        found = any(wanted & set(each.states(since)) for each in copies)
        found = found or any(wanted & set(some) for some in self._archived(key, since))
        self.demand(found, "nothing destroyed", f"{what}, and no copy has its bytes")

    def _archived(self, key: str, since: float) -> Iterable[list[bytes]]:
        """What each archive holds of a key."""
        for (bucket, place), some in self.places.items():
            if bucket == DESTINATION and place.startswith(ARCHIVES):
                for each in some:
                    if each.was_there(since):
                        for data in each.states(since):
                            yield members(data, each.whole).get(key, [])

    # Copies.

    def _copied(self, key: str, version: Version, maker: Process, before: list[Version], what: str) -> None:
        top = before[-1] if before else None
        if version.is_delete_marker:
            has_gone = any(not each.is_object or each.gone_at is not None for each in self.places[SOURCE, key])
            is_asked = self.world.schedule.mirrors_deletes or self.world.schedule.all_versions
            self.demand(has_gone and is_asked, "nothing destroyed", f"{what}, a marker that nobody asked for")
            return
        made_of = [each for each in self._sources(key) if is_made_of(each, version.data)]
        if not made_of and self._is_put_back(key, version, maker, before):
            return
        if not made_of:
            rotten = [each for each in self.places[DESTINATION, COPIES + key] if each.rots]
            if any(version.data in each.states(0.0) for each in rotten):
                self.limits["a copy that had rotted was put on top again"] += 1
                return
            self.violate("pinned", f"{what}: these bytes were never at the source")
            return
        like = [each for each in made_of if _carried(each.version) == _carried(version)]
        is_right = bool(like) or self._is_put_back(key, version, maker, before)
        self.demand(is_right, "pinned", f"{what}: what it carries is not the source's: {version.attributes}")
        is_exact = any(each.version.attributes.tags == version.attributes.tags for each in like)
        is_tagged = (
            is_exact or not like or ((SOURCE, key) in self.touched and not self.world.schedule.is_source_versioned)
        )
        self.demand(is_tagged, "pinned", f"{what}: tags are not the source's")
        is_history = self.world.schedule.all_versions or maker.verb in (Verb.BACKLOG, "events")
        if top is not None and not top.is_delete_marker and not is_history:
            self._written_over(key, top, version, like or made_of, maker, what)

    def _is_put_back(self, key: str, version: Version, maker: Process, before: list[Version]) -> bool:
        """Whether what somebody else has written comes on top of what the same process has put over it."""
        placed = [self._find(DESTINATION, COPIES + key, each) for each in before]
        like = [each for each in placed if each.version.data == version.data]
        over = placed[placed.index(like[-1]) + 1 :] if any(each.maker is None for each in like) else []
        return bool(over) and all(each.maker is maker for each in over)

    def _written_over(
        self, key: str, top: Version, version: Version, like: list[Placed], maker: Process, what: str
    ) -> None:
        """What somebody else wrote was older than the source, or found wrong, or all may be written over."""
        there = self._find(DESTINATION, COPIES + key, top)
        overwrite = self._overwrite(maker.run_id, key)
        tie_seconds = 0 if self.world.schedule.is_destination_versioned else 1  # a version is kept: nothing is lost
        is_older = any(int(top.last_modified) + tie_seconds <= int(each.version.last_modified) for each in like)
        is_overtaken = any(self._is_below(key, there, each) for each in like)
        allowed = (
            top.etag in self.condemned[key]
            or there.maker is maker  # what it copied itself, of a source that was overwritten meanwhile
            or overwrite == "always"
            or (overwrite != "never" and (is_older or is_overtaken))
            or top.data == version.data
        )
        self.demand(allowed, "guarded", f"{what} over {top.etag}, which is not older ({overwrite})")

    def _overwrite(self, run_id: str, key: str) -> str:
        """What a run may replace: what its command said. A verify run has no such option: its retry replaces what is
        older, and of keys alone that verify did not prove.
        """
        while run_id in self.retry_of:
            run_id = self.retry_of[run_id]
        verified = self.runs.get(run_id)
        if verified is None or verified.verb != Verb.VERIFY:
            return self.world.schedule.overwrite
        return "older" if any(row.key == key and not row.is_settled for row in verified.rows) else "never"

    def _is_below(self, key: str, copy: Placed, original: Placed) -> bool:
        """Whether a copy is of a version that lies below an original."""
        order = original.version.order
        below = [each for each in self._sources(key) if each.version.order < order]
        return any(is_made_of(each, copy.whole) for each in below)

    def _restored(self, key: str, version: Version, before: list[Version], what: str) -> None:
        self.demand(
            not before or before[-1].is_delete_marker, "guarded", f"{what} over {before and before[-1].version_id}"
        )
        made_of = [
            each for each in self._sources(key) if each.version is not version and is_made_of(each, version.data)
        ]
        self.demand(made_of, "pinned", f"{what}: these bytes were never at the source")

    # Requests and runs.

    def effect(self, request: Request, result: Any) -> None:
        if isinstance(result, StoreError):
            return
        if request.bucket == DESTINATION and request.is_late:
            self.late.add(request.key.removeprefix(COPIES))
        if request.bucket != LEDGER:
            return
        run_id, name = self.program.run_of(request.key)
        process = request.process
        if request.name == "list_objects" and name == "outcomes/" and not request.answer.done():
            self.folded[process, run_id] = self.world.keys(LEDGER, request.key)
        if request.name != "put":
            return
        if name == "spec.json" and (retried := json.loads(request.arguments[1]).get("retry_of")):
            self.retry_of[run_id] = retried
        elif name == "plan.json":
            command = process.parent or process
            command.run_id = process.run_id = run_id
            self.began.setdefault(run_id, (command.began, command.verb))
        elif name == "report.json":
            self._reported(run_id, json.loads(request.arguments[1]), self.folded.get((process, run_id), []))

    def _reported(self, run_id: str, document: dict[str, Any], checkpoints: list[str]) -> None:
        since, verb = self.began[run_id]
        run = self.runs[run_id] = Run(run_id, document, self.program.rows(run_id, checkpoints), since, verb)
        self.seen.update(f"{document['job']} {row.status} {row.evidence}" for row in run.rows)
        missing = [row.key for row in run.rows if not row.status]
        self.demand(not missing, "accounted", f"{run_id}: no outcome for {missing}")
        counted = Counter(row.status for row in run.rows)
        said = {name: count for name, count in document["outcomes"].items() if count}
        self.demand(said == counted, "accounted", f"{run_id}: the report says {said}, the rows {dict(counted)}")
        if verb in (Verb.REPLICATE, Verb.VERIFY) and run_id not in self.retry_of:
            self._check_listed(run)
        for row in run.rows:
            if row.status and (why := self.falsehood(run, row)):
                promise = "proven" if row.is_settled else "honest"
                self.violate(
                    promise, f"{run_id}: {row.key} {row.version_id} is not {row.status} ({row.evidence}): {why}"
                )
            if row.status == "different":
                self.condemned[row.key].add(row.copy_etag)

    def _check_listed(self, run: Run) -> None:
        """What was at the source all the time has a row, or was left out and has a copy."""
        named, left = {row.key for row in run.rows}, run.document["excluded"].get("proven_before", 0)
        for key in self.world.keys(SOURCE):
            top, touched = self.world.top(SOURCE, key), self.touched.get((SOURCE, key), 0.0)
            if top is None or key in named or touched >= run.since:
                continue
            if (original := self._find(SOURCE, key, top)).at < run.since:
                there = [each for each in self.places[DESTINATION, COPIES + key] if each.was_there(run.since)]
                left -= 1
                is_copied = left >= 0 and any(each.whole == original.whole for each in there)
                self.demand(is_copied, "accounted", f"{run.run_id} has no row for {key}")

    def _is_by(self, run: Run, row: Row, copy: Placed) -> bool:
        """Whether a run has made a copy. Where no versions are kept, an upload in parts that began later takes
        precedence, of another run too: no answer tells two objects of one ETag apart.
        """
        is_named = row.copy_version_id not in (None, "null")
        is_own = copy.maker is not None and copy.maker.run_id == run.run_id
        return is_own or (not is_named and copy.maker is not None and copy.at >= run.since)

    def falsehood(self, run: Run, row: Row) -> str:
        """Why what a run says of a row cannot be true; empty if it can."""
        meant = [
            each
            for each in self._sources(row.key)
            if row.version_id in (None, each.version.version_id) and row.etag in (None, each.version.etag)
        ]
        copies = [
            each
            for each in self.places[DESTINATION, COPIES + row.key]
            if each.version.etag == row.copy_etag and row.copy_version_id in (None, each.version.version_id)
        ]
        there = [each for each in copies if each.gone_at is None or each.gone_at >= run.since]
        done_by = run.document["job"] if row.status == "done" else ""
        markers = [each for each in self.places[SOURCE, row.key] if not each.is_object]
        if row.is_marker or any(row.version_id == each.version.version_id for each in markers):  # no CSV says which is
            made = [each for each in self.places[DESTINATION, COPIES + row.key] if not each.is_object]
            is_made = any(self._is_by(run, row, each) for each in made)
            return "" if done_by != "replicate" or is_made else "this run made no delete marker"
        if done_by == "replicate":
            own = [each for each in copies if each.maker is not None and self._is_by(run, row, each)]
            return "" if any(is_made_of(m, each.whole) for m in meant for each in own) else "this run made no such copy"
        if row.status in ("same", "verified") and run.document["job"] in ("replicate", "verify"):
            return self._unproven(run, row, meant, there)
        if done_by == "compact":
            held = [data for some in self._archived(row.key, run.since) for data in some]
            return "" if any(data in each.states(run.since) for data in held for each in meant) else "no archive has it"
        if done_by == "restore":
            place = (SOURCE, row.key) if self.world.schedule.in_place else (DESTINATION, BACK + row.key)
            own = [each for each in self.places[place] if each.maker is not None and each.is_object]
            return "" if any(each.maker and each.maker.run_id == run.run_id for each in own) else "nothing was restored"
        if done_by == "expire":
            top = self.world.top(SOURCE, row.key)
            is_there = top is not None and any(each.version is top for each in meant) and len(meant) == 1
            was_hidden = any(each.maker and each.maker.run_id == run.run_id for each in markers)  # others undid it
            return "its original is there" if is_there and not was_hidden else ""
        if row.status == "different" and run.document["job"] == "verify":
            rots = any(each.rots for each in (*meant, *there))
            # Of equal bytes, a row without a version id may mean each: their metadata may differ.
            is_same = bool(there) and all(_is_copy(m, each) for m in meant for each in there)
            return "its copy has its bytes and metadata" if is_same and not rots else ""
        return ""

    def _unproven(self, run: Run, row: Row, meant: list[Placed], there: list[Placed]) -> str:
        if row.evidence == "none":
            return "nothing proves it"
        if run.document["job"] == "verify" and row.key and self._is_archive_row(run):
            return ""
        if row.evidence == "content":
            pairs = [(one.states(run.since), other.states(run.since)) for one in meant for other in there]
            return "" if any(set(one) & set(other) for one, other in pairs) else "no copy had its bytes then"
        if run.verb == Verb.VERIFY == run.document["job"] and self.world.schedule.deep:
            return "it was to be read"
        return (
            "" if any(one.whole == other.whole for one in meant for other in there) else "no copy was made of its bytes"
        )

    def _is_archive_row(self, run: Run) -> bool:
        return run.verb == Verb.VERIFY_ARCHIVES

    # The end.

    def check_exit(self, run: Run, code: int) -> None:
        """0 says that every row ended well."""
        self.demand((code == 0) == run.is_well, "honest", f"{run.run_id} ends with {code}: {run.document['outcomes']}")

    def check_settled(self, first: Run, again: Run, proof: Run, writes: int) -> None:
        """All was quiet: the copies were made, made again, and verified by their bytes."""
        if first.is_well:
            # The first run need not have seen that a source has other bytes than it came with. The second one does.
            may_write = any(self.has_rotten_source(row.key) for row in again.rows)
            self.demand(writes == 0 or may_write, "idempotent", f"{again.run_id} wrote {writes} times")
            is_again_well = all(row.is_settled or self.has_rotten_source(row.key) for row in again.rows)
            self.demand(is_again_well, "idempotent", f"{again.run_id} finds {again.document['outcomes']}")
        for run in (again, proof):
            for row in run.rows:
                is_excused = row.is_settled or self._is_odd(row.key)
                self.demand(
                    is_excused, "honest", f"{run.run_id}: {row.key} is {row.status} {row.reason}, and all was quiet"
                )
        if not self.world.schedule.all_versions:
            for row in proof.rows:
                original, copy = self.world.top(SOURCE, row.key), self.world.top(DESTINATION, COPIES + row.key)
                is_same = original is not None and copy is not None and original.data == copy.data
                self.demand(is_same or not row.is_settled, "proven", f"{proof.run_id}: the copy of {row.key} differs")

    def _is_odd(self, key: str) -> bool:
        """Whether others wrote at the destination, or something rotted, or cannot be read."""
        sides = self.places[SOURCE, key], self.places[DESTINATION, COPIES + key]
        is_rotten = any(each.rots for side in sides for each in side)
        is_cold = any(each.version.is_archived for side in sides for each in side)
        schedule = self.world.schedule
        is_history = schedule.all_versions or schedule.has_events or schedule.overwrite == "never"
        original, copy = self.world.top(SOURCE, key), self.world.top(DESTINATION, COPIES + key)
        has_two_clocks = schedule.streamed and not schedule.is_destination_versioned and schedule.overwrite == "older"
        apart_seconds = TWO_CLOCKS_SECONDS if has_two_clocks else 0
        if original and copy and int(original.last_modified) <= int(copy.last_modified) + apart_seconds:
            if original.data != copy.data:
                self.limits[f"the source was overwritten within {apart_seconds or 1} s of its copy"] += 1
                return True
            if self._is_of_removed(key, original, copy):
                self.limits["a copy carries what a removed version of equal bytes did: no list or date tells"] += 1
                return True
        return is_rotten or is_cold or is_history or (DESTINATION, COPIES + key) in self.touched or key in self.late

    def _is_of_removed(self, key: str, original: Version, copy: Version) -> bool:
        """Whether a copy does not carry what a version does, but what a removed one of these bytes did."""
        gone = [each.version for each in self._sources(key) if each.gone_at is not None]
        like = [each for each in gone if each.data == copy.data and _carried(each) == _carried(copy)]
        return bool(like) and _carried(original) != _carried(copy)

    def check_undone(self, run_id: str, since: float) -> None:
        """What an expire run has hidden can be seen again, unless others have written since, or have removed it."""
        for row in self.runs[run_id].rows if run_id in self.runs else ():
            here = [each for each in self.places[SOURCE, row.key] if each.gone_at is None]
            own = [each for each in here if not each.is_object and each.maker and each.maker.run_id == run_id]
            touched = self.touched.get((SOURCE, row.key), 0.0) >= self.runs[run_id].since
            is_there = any(each.is_object and row.etag in (None, each.version.etag) for each in here)
            self.demand(
                not own or touched or not is_there,
                "nothing destroyed",
                f"{row.key} is still hidden after the undo of {run_id}",
            )

    def check_events(self) -> None:
        """All events are handled: what the source has on top, the copies have on top."""
        for key in self.world.schedule.keys:
            is_told = any(each.at > 0 and each.maker is None for each in self.places[SOURCE, key])
            if not is_told or self._is_cold_or_hindered(key):
                continue
            now, top = self.world.versions(SOURCE, key), self.world.top(DESTINATION, COPIES + key)
            if self.world.schedule.mirrors_deletes and self.world.top(SOURCE, key) is None:
                self.demand(top is None, "newest on top", f"{key} was deleted, and its copy is there")
                continue
            wanted = [each for each in now if not each.is_delete_marker][-1:]
            for each in wanted if wanted and self._find(SOURCE, key, wanted[0]).at > 0 else ():
                is_on_top = top is not None and top.data == each.data
                if not is_on_top and top is not None and self._is_retained(key, each, top):
                    self.limits["the copy of a removed version stays on top: deletes are retained"] += 1
                    continue
                self.demand(is_on_top, "newest on top", f"{key}: {top and top.version_id}, not {each.version_id}")
            for each in now if not self.world.schedule.lateness else ():
                copies = [copy.data for copy in self.world.versions(DESTINATION, COPIES + key)]
                is_stored = each.is_delete_marker or self._find(SOURCE, key, each).at == 0 or each.data in copies
                self.demand(is_stored, "newest on top", f"{key} {each.version_id} was not stored")

    def _is_retained(self, key: str, newest: Version, top: Version) -> bool:
        """Whether the top is a copy of a version that was removed, and that was above the newest one of now."""
        came = self.places[SOURCE, key]
        later = came[came.index(self._find(SOURCE, key, newest)) + 1 :]
        is_of_removed = any(each.gone_at is not None and each.version.data == top.data for each in later)
        return is_of_removed and not self.world.schedule.mirrors_deletes

    def _is_cold_or_hindered(self, key: str) -> bool:
        sides = self.places[SOURCE, key], self.places[DESTINATION, COPIES + key]
        is_odd = any(each.rots or each.version.is_archived for side in sides for each in side)
        return is_odd or key in self.late or (DESTINATION, COPIES + key) in self.touched


def _carried(version: Version) -> tuple[dict[str, str], dict[str, str]]:
    """What a copy takes along, tags left out."""
    return dict(version.attributes.headers), dict(version.attributes.metadata)


def _is_copy(original: Placed, copy: Placed) -> bool:
    """Whether a copy has a version's bytes and all that it takes along."""
    return is_made_of(original, copy.whole) and _carried(original.version) == _carried(copy.version)


def is_made_of(original: Placed, data: bytes) -> bool:
    """Whether bytes are those of a version, each as it was at some time."""
    states = original.states(0.0) if len(original.rots) else [original.version.data]
    return data in states or (
        len(states) > 1
        and len(data) == len(states[0])
        and all(each in some for each, some in zip(data, zip(*states, strict=True), strict=True))
    )


@lru_cache(256)
def members(data: bytes, whole: bytes) -> dict[str, list[bytes]]:
    """By key, what is in an archive, read with nothing of Sealift's. Empty for what is none.

    `whole`: the bytes with which it came. They say where a member lies, since a header that has rotted harms no member.
    """
    found: dict[str, list[bytes]] = defaultdict(list)
    try:
        if whole[:4] == b"\x28\xb5\x2f\xfd":
            data, whole = map(b"".join, zip(*_frames(data, whole), strict=True))
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            for member in archive:
                own = (text for name, text in member.pax_headers.items() if name.endswith(".key"))
                key = json.loads(next(own, json.dumps(member.name)))
                found[key].append(data[member.offset_data : member.offset_data + member.size])
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OSError):
        pass  # damaged from here on
    return dict(found)


def _frames(data: bytes, whole: bytes) -> Iterable[tuple[bytes, bytes]]:
    """What is in each frame, and with what it came. One that has rotted harms no other, and its members are what
    its blocks hold: its checksum, the last four bytes, says nothing of a single one of them.
    """
    while whole:
        frame = zstandard.ZstdDecompressor().decompressobj()
        came = frame.decompress(whole)
        size_bytes = len(whole) - len(frame.unused_data)
        try:
            now = zstandard.ZstdDecompressor().decompressobj().decompress(data[: size_bytes - 4])
        except zstandard.ZstdError:
            now = b""
        yield now if len(now) == len(came) else bytes(255 - each for each in came), came
        data, whole = data[size_bytes:], whole[size_bytes:]
