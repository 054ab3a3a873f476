"""What expire runs may take away, and what `--undo` may bring back."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from jobs.core.enums import Step
from jobs.ledger.tombstones import DONE, INTENT, Tombstone
from tests.doubles.memory_buckets import Version
from tests.simulation.archives.tables import read_stones
from tests.simulation.copies.schedule import PREFIX, SOURCE, Kind
from tests.simulation.engine.processes import Request

if TYPE_CHECKING:
    from tests.simulation.archives.model import ArchiveModel


class Deletes:
    """Checks each. `markers` and `hidden`: by id in memory, the run that put a marker, or hid a version by one.

    `taken`: version → the run that removed it for good ("" for others).
    """

    def __init__(self, model: ArchiveModel):
        self.model = model
        self.stones: dict[str, list[tuple[bool, Tombstone]]] = defaultdict(list)
        self.markers: dict[int, tuple[str, Version, Version]] = {}
        self.hidden: dict[int, str] = {}
        self.taken: dict[int, str] = {}
        self.mistaken: set[str] = set()
        """Keys of which somebody else's marker is called the expiry's."""
        self.late: set[int] = set()
        """Markers that came when nobody waited for them any more."""
        self._since: dict[int, dict[str, float]] = {}

    def gone(self, key: str, run_id: str = "") -> list[Version]:
        """Versions of the source that are there no more, since somebody looked last."""
        there = self.model.world.versions(SOURCE, key)
        gone = [
            each
            for each in self.model.sources[key]
            if id(each) not in self.taken and not any(each is other for other in there)
        ]
        self.taken.update((id(each), run_id) for each in gone)
        return gone

    def is_hidden_one_taken(self, run_id: str, key: str) -> bool:
        """Whether others removed a version that the run hid, while its marker and an older version are there."""
        there = self.model.world.versions(SOURCE, key)
        return any(
            run == run_id and self.taken.get(id(hidden)) == "" and any(each is marker for each in there[1:])
            for run, marker, hidden in self.markers.values()
        )

    def announced(self, request: Request) -> None:
        """A file of tombstones was written: what it calls done has happened."""
        model, run_id = self.model, request.key.split("/")[3]
        stones = read_stones(request.arguments[2])
        is_done = request.key.endswith(DONE)
        model.demand(is_done or request.key.endswith(INTENT), "tombstones have names", request.key)
        self.stones[run_id] += [(is_done, stone) for stone in stones]
        for stone in stones if is_done else ():
            versions = self._named(stone)
            if stone.step is Step.HIDE:
                holds = any(id(each) in self.hidden or id(each) in self.taken for each in versions)
                ours = [
                    marker for _, marker, hidden in self.markers.values() if any(hidden is each for each in versions)
                ]
                if stone.marker_version_id is not None and not any(
                    each.version_id == stone.marker_version_id for each in ours
                ):
                    self._foreign_marker(stone)
            else:
                holds = any(id(each) in self.taken for each in versions)
            model.demand(
                holds or self._is_hidden(stone),
                "a tombstone is true",
                f"{run_id}: {stone.key} {stone.version_id} is there",
            )

    def _foreign_marker(self, stone: Tombstone) -> None:
        """Somebody deleted it as well, while nobody knew whether the announced delete had come through; or what the
        marker hid is another version of the same bytes and ETag.
        """
        hid = [hidden for _, marker, hidden in self.markers.values() if marker.version_id == stone.marker_version_id]
        if any(each.etag == stone.etag for each in hid):
            return
        if (SOURCE, stone.key) in self.model.touches:
            self.model.known_limits["a delete marker of others was taken for the expiry's"] += 1
            self.mistaken.add(stone.key)
        else:
            self.model.violate(
                "a tombstone is true", f"{stone.key}: {stone.marker_version_id} is no marker of the run's"
            )

    def _is_hidden(self, stone: Tombstone) -> bool:
        there = self.model.world.versions(SOURCE, stone.key)
        return stone.step is Step.HIDE and bool(there) and there[-1].etag != stone.etag

    def _named(self, stone: Tombstone) -> list[Version]:
        return [
            each
            for each in self.model.sources[stone.key]
            if each.etag == stone.etag and stone.version_id in (None, each.version_id)
        ]

    # Requests.

    def asked(self, request: Request) -> None:
        """When the process took up what it deletes now."""
        self._since[request.number] = {key: self.model.since(request.process, key) for key in _keys(request)}

    def done(self, request: Request, before: Version | None) -> None:
        """A delete took effect."""
        model, process, run_id = self.model, request.process, request.process.run_id
        who = f"{process.name}: {request.name}"
        if process.name.startswith("undo"):
            self._taken_back(request, who)
            return
        job = model.specs[run_id]["job"] if run_id in model.specs else "none"
        if job == "replicate" and request.bucket != SOURCE:
            versions = model.world.versions(request.bucket, request.key)
            model.placed(request.key.removeprefix(PREFIX), versions[-1] if versions else None, run_id)
            return
        if request.bucket != SOURCE or job != "expire":
            model.violate("only expire deletes", f"{who} {request.bucket}/{request.key} ({job})")
            return
        for key in _keys(request):
            there = model.world.versions(SOURCE, key)
            gone = self.gone(key, run_id)
            if (
                request.name == "delete"
                and request.named.get("version_id") is None
                and there
                and there[-1].is_delete_marker
            ):
                if before is None or before.is_delete_marker:
                    model.violate("expire deletes what it has proven", f"{who} {key}: a marker over nothing")
                else:
                    self.markers[id(there[-1])] = run_id, there[-1], before
                    if request.is_late:
                        self.late.add(id(there[-1]))
                    self._check(request, key, before, Step.HIDE)
                    self.hidden[id(before)] = run_id
            for version in gone:
                self._check(request, key, version, Step.REMOVE)

    def _check(self, request: Request, key: str, version: Version, step: Step) -> None:
        """The one version that a row of the run names, which is announced, and of which a copy is there."""
        model, run_id = self.model, request.process.run_id
        who = f"{request.process.name}: {step} {key} {version.version_id} {version.etag}"
        rows = [row for row in model.rows[run_id] if row.key == key]
        options, now = model.specs[run_id]["options"], model.world.loop.time()
        model.demand(options["delete"], "a dry run deletes nothing", who)
        named = [
            row for row in rows if row.version_id in (None, "null", version.version_id) and row.etag == version.etag
        ]
        twin = [each for row in rows for each in model.holdings.originals(row) if each.data == version.data]
        if not named and twin and twin[0].etag == version.etag:
            model.known_limits["another version of the same bytes and ETag was hidden"] += 1
            version = twin[0]  # the one that was meant, of which there is a copy
        else:
            model.demand(named, "expire deletes what it has proven", f"{who}: no row names it")
        stones = [stone for is_done, stone in self.stones[run_id] if not is_done and stone.key == key]
        model.demand(
            any(each.etag == version.etag and each.step is step for each in stones),
            "what goes was announced", f"{who}: {stones}",
        )  # fmt: skip
        since = self._since[request.number].get(key, 0.0)
        model.demand(not model.locks.is_held(version, since), "what is locked stays", who)
        if not model.holdings.holds(key, version, now):
            if model.holdings.holds(key, version, since):
                model.known_limits["a copy was destroyed between its proof and the delete"] += 1
            elif model.holdings.has_flipped_replica(key, version, since):
                model.known_limits["replicas with comparable checksums are not read: a flipped bit was not seen"] += 1
            else:
                model.violate("no byte is lost", f"{who}: no copy of it can be read")
        elif not model.known_limits["a header or a frame's sum was damaged, what the index names was not"]:
            model.last_copies.deleted(key, version, since, who)
        model.demand(
            step is Step.HIDE or self.hidden.get(id(version)) != run_id,
            "one run takes one step",
            f"{who}: it has hidden it",
        )
        is_told_true = not model.world.network.fired[Kind.JUMP]
        if is_told_true and options["grace_seconds"]:
            self._check_grace(key, version, step, options["grace_seconds"], who)

    def _check_grace(self, key: str, version: Version, step: Step, grace_seconds: float, who: str) -> None:
        memory = self.model.world.memory
        now = memory._buckets.clock()
        self.model.demand(now - version.last_modified >= grace_seconds - 1, "grace", f"{who}: it was written just now")
        hider = next((marker for _, marker, hidden in self.markers.values() if hidden is version), None)
        if step is Step.REMOVE and hider is not None:
            self.model.demand(now - hider.last_modified >= grace_seconds - 1, "grace", f"{who}: it was hidden just now")

    def _taken_back(self, request: Request, who: str) -> None:
        """An undo removes the markers of its run and nothing else."""
        model, run_id = self.model, request.process.run_id
        for key, version_id in request.arguments[1] if request.name == "delete_versions" else [(request.key, None)]:
            ours = [
                marker
                for maker, marker, _ in self.markers.values()
                if maker == run_id and marker.version_id == version_id
            ]
            if ours:
                self.gone(key, run_id)
                continue
            gone = [each for each in self.gone(key, run_id) if each.version_id == version_id]
            if gone and gone[0].is_delete_marker and (SOURCE, key) in model.touches and self._is_open(run_id, key):
                model.known_limits["an undo took a delete marker of others away"] += 1
            elif gone:
                model.violate("an undo takes back what expire did", f"{who}: {key} {version_id}")

    def _is_open(self, run_id: str, key: str) -> bool:
        return any(stone.key == key for _, stone in self.stones[run_id])

    def undone(self, run_id: str) -> None:
        """No marker of the run is left."""
        for maker, marker, version in self.markers.values():
            key = next(key for key, versions in self.model.sources.items() if any(each is version for each in versions))
            there = self.model.world.versions(SOURCE, key)
            if maker != run_id or not any(each is marker for each in there):
                continue
            if id(marker) in self.late:
                self.model.known_limits["a delete whose client was gone came late"] += 1
            else:
                self.model.violate("what is hidden can be undone", f"{run_id}: {key} is still hidden")

    def is_left_to_a_person(self, run_id: str) -> bool:
        """Whether a marker of the run may be one of others: by a wrong clock, or since versions lie below it that are
        not the one that the run hid."""
        model = self.model
        for maker, marker, version in self.markers.values():
            there = [each for key in model.sources for each in model.world.versions(SOURCE, key)]
            if maker != run_id or not any(each is marker for each in there):
                continue
            place = next(at for at, each in enumerate(there) if each is marker)
            if model.world.network.fired[Kind.JUMP] or place == 0 or there[place - 1] is not version:
                return True
        told = {stone.key for is_done, stone in self.stones[run_id] if is_done}
        hiding = [stone for is_done, stone in self.stones[run_id] if not is_done and stone.step is Step.HIDE]
        return any(self._is_apart_from_marker(stone) for stone in hiding if stone.key not in told)

    def _is_apart_from_marker(self, stone: Tombstone) -> bool:
        """Whether other versions lie between the version that a killed attempt announced and a delete marker."""
        there = self.model.world.versions(SOURCE, stone.key)
        named = self._named(stone)
        above = [there[at + 1 :] for at, each in enumerate(there) if any(each is other for other in named)]
        return any(
            later and not later[0].is_delete_marker and any(each.is_delete_marker for each in later) for later in above
        )


def _keys(request: Request) -> list[str]:
    if request.name == "delete":
        return [request.key]
    named: Any = request.arguments[1]
    return [key for key, _ in named]
