"""The reference model of the event-driven path: what S3 told, what was stored, and what the journal says of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.errors import StoreError
from jobs.ledger.journal import SETTLED
from tests.doubles.memory_buckets import Version, place_version
from tests.scheduler.event_samples import record
from tests.simulation.copies.facts import Judge
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE, Kind
from tests.simulation.engine.network import HITTING
from tests.simulation.engine.processes import EPOCH, Observer, Process, Request
from tests.simulation.events.queue import Message, Queue
from tests.simulation.events.schedule import EventSchedule

BUFFER_BYTES = 40
"""What a runtime may hold of objects: the world is to scale."""
_READS = {"head", "get", "get_annotation", "get_tags", "list_annotations", "list_objects", "list_versions"}
CREATED, MARKED, REMOVED = "ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete"


@dataclass(slots=True)
class Told:
    """An event. `endings`: what the journal said of it, in order."""

    name: str
    key: str
    version: Version
    endings: list[str] = field(default_factory=list)


class EventModel(Judge, Observer):
    """Watches a schedule of events. By key: `sources` and `placed_at`, every version that ever was there.

    `late`: the keys at whose copies a write took effect when nobody waited for it any more.
    """

    def __init__(self, schedule: EventSchedule):
        super().__init__()
        self.schedule = schedule
        self.queue: Queue
        self.is_told = False
        """Whether S3 tells of what happens at the source yet."""
        self.told: list[Told] = []
        self.sources: dict[str, list[Version]] = defaultdict(list)
        self.placed_at: dict[str, list[Version]] = defaultdict(list)
        self.late: set[str] = set()
        self.left_archived: set[tuple[str, str | None]] = set()
        """The versions of which the backlog said that an archive class keeps them from being copied."""
        self.chance: Callable[[], float]

    # What happens at the source.

    def original(self, key: str, version: Version) -> None:
        place_version(self.sources[key], version)
        self._tell(MARKED if version.is_delete_marker else CREATED, key, version)

    def removed(self, key: str, version: Version) -> None:
        self._tell(REMOVED, key, version)

    def _tell(self, name: str, key: str, version: Version) -> None:
        """S3 sends an event, some minutes late, some twice."""
        if not self.is_told:
            return
        serial, schedule = len(self.told), self.schedule
        self.told.append(Told(name, key, version))
        thing: dict[str, Any] = {"sequencer": f"{0x660000 + serial:016X}"}
        if schedule.is_source_versioned:
            thing["versionId"] = version.version_id
        if name == CREATED:
            thing |= {"eTag": version.etag, "size": len(version.data)}
        time = datetime.fromtimestamp(EPOCH + self.world.loop.time(), UTC).isoformat(timespec="milliseconds")
        event = record(SOURCE, key, name, time.replace("+00:00", "Z"), **thing)
        prompt_seconds = 0.3 if schedule.is_hurried else 4.0
        for _ in range(1 + (self.chance() < schedule.doubles)):
            is_late = self.chance() < schedule.lateness
            self.queue.send(serial, event, self.chance() * (900 if is_late else prompt_seconds))

    def twin(self, process: Process) -> None:
        self.queue.repeat()

    def broke(self, process: Process, error: BaseException) -> None:
        self.violate("only errors of the tree", f"{process.name}: {type(error).__name__}: {error}")

    # What Sealift does.

    def asked(self, request: Request) -> None:
        if request.size_bytes and request.process.bytes_asked > BUFFER_BYTES:
            self.violate("bounded", f"{request.process.name} asks for {request.process.bytes_asked} bytes at once")

    def effect(self, request: Request, before: Version | None, result: Any) -> None:
        name = request.name
        if isinstance(result, StoreError) or (request.bucket == SOURCE and name in _READS):
            return
        who = f"{request.process.name}: {name} {request.key}"
        if request.bucket == SOURCE:
            self.violate("the source is left alone", who)
        elif request.bucket == LEDGER and name == "put":
            if len(self.world.versions(LEDGER, request.key)) > 1:
                self.violate("the ledger is written once", who)
            if request.key.startswith("l/journal/"):
                for line in request.arguments[2].splitlines():
                    self._journaled(json.loads(line))
        elif request.bucket == DESTINATION and name in ("put", "copy", "complete_multipart", "delete"):
            if request.named.get("version_id") is not None:
                self.violate("nothing is destroyed", who)
            after = self.world.made(request, result)
            if after is not None:  # else a write that began later has taken its place
                self._stored(request, before, after, who)

    def _stored(self, request: Request, before: Version | None, after: Version, who: str) -> None:
        key = request.key.removeprefix(PREFIX)
        self.placed_at[key].append(after)
        if request.is_late:
            self.late.add(key)
        if after.is_delete_marker:
            self.demand(self.schedule.mirrors_deletes, "deletes are retained", who)
            marked = any(told.key == key and told.name != CREATED for told in self.told)
            self.demand(marked, "nothing is destroyed", f"{who}, a marker, and nothing was deleted")
            return
        whole = [each for each in self.sources[key] if each.data == after.data]
        self.demand(whole, "pinned", f"{who}: these bytes were never at the source")
        alike = any(is_alike(each, after) for each in whole)
        self.demand(alike or not whole, "faithful", f"{who}: metadata is not the source's")
        if alike and not any(each.attributes.tags == after.attributes.tags for each in whole):
            self.demand(not self.schedule.is_source_versioned, "faithful", f"{who}: tags are not the source's")
        has_same_tags = before is not None and before.attributes.tags == after.attributes.tags
        if before is not None and is_alike(before, after) and has_same_tags and not self.world.network.fired:
            came_again = len({each.etag for each in whole}) < len(whole)  # the copy of an upload in parts has another
            is_unsure = came_again and not self.schedule.is_source_versioned
            covered = [each.etag for each in self.placed_at[key] if each is not after]
            if is_unsure or covered.count(before.etag) > 1:
                self.known_limits["an ETag that comes again hides that somebody else has written"] += 1
            elif before.is_archived and self._may_be_mistaken(key, before):
                self.known_limits["an archived copy that cannot be compared may be of another version"] += 1
            elif before.is_archived and self._lies_on_proven_copy(before, after, key):
                self.known_limits["an archived copy that cannot be compared was covered by one that can"] += 1
            elif len(whole) > 1 and any(each.is_archived for each in whole):
                self.known_limits["the same bytes came again in an archive class, and were put on top again"] += 1
            else:
                self.violate("nothing is duplicated", f"{who}, which is what was on top")

    def _may_be_mistaken(self, key: str, copy: Version) -> bool:
        """Whether only its bytes tell of which of several versions the copy is."""
        whole = [each for each in self.sources[key] if not each.is_delete_marker and len(each.data) == len(copy.data)]
        is_uncertain = len(whole) > 1 or not self.schedule.is_source_versioned
        return is_uncertain and not all(_are_comparable(each, copy) for each in whole)

    def _lies_on_proven_copy(self, copy: Version, after: Version, key: str) -> bool:
        """Whether nothing proves what the copy is, and another copy below is proven to be of the same version.

        To put that on top once more costs its minimum stay. To believe the other one could leave older bytes on top.
        """
        whole = [each for each in self.sources[key] if each.data == after.data]
        below = [each for each in self.placed_at[key] if each not in (copy, after) and is_alike(each, after)]
        is_proven = any(_are_comparable(source, each) for source in whole for each in below)
        return is_proven and not any(_are_comparable(source, copy) for source in whole)

    def _journaled(self, line: dict[str, Any]) -> None:
        told = self.told[int(line["sequencer"], 16) - 0x660000]
        status, reason = line["status"], line["reason"]
        told.endings.append(status)
        self.branches[f"event {told.name} {status} {line['evidence']}: {' '.join(reason.split()[:4])}"] += 1
        why = self._falsehood(told, status, line)
        self.demand(not why, f"{status} is true", f"{told.key} {told.name}: {why}")

    def _falsehood(self, told: Told, status: str, line: dict[str, Any]) -> str:
        """Why the journal's line cannot be true; empty when it can."""
        there = self.placed_at[told.key]
        if status in ("copied", "same", "unverifiable") and told.name == CREATED:
            named = [each for each in there if each.version_id == line["destination_version_id"]]
            if not named or named[0].data != told.version.data:
                return "that copy is not of these bytes"
            return "proven by nothing" if status == "same" and line["evidence"] == "none" else ""
        if status == "deleted":
            return "" if any(each.is_delete_marker for each in there) else "no marker was made"
        if status == "retained":
            return "deletes are mirrored" if self.schedule.mirrors_deletes or told.name == CREATED else ""
        if status in ("superseded", "missing"):
            return "its version is at the source" if self._is_there(told) else ""
        if status == "handed_over":
            return ""
        if status in ("failed", "denied"):
            return "" if self.was_hindered(told.key) else "nothing went wrong with its key"
        return "" if status == "same" else f"{status} is no ending of {told.name}"

    def was_hindered(self, key: str) -> bool:
        """Whether a fault hit a request about the key, a bucket or the ledger, or others kept writing it."""
        network = self.world.network
        kinds = (*HITTING, Kind.EXPIRED)
        is_shared = any(bucket == LEDGER or not at for kind in kinds for bucket, at in network.hits.get(kind, ()))
        return is_shared or network.has_hit(key, kinds) or len([each for each in self.told if each.key == key]) > 1

    def _is_there(self, told: Told) -> bool:
        return any(each is told.version for each in self.world.versions(SOURCE, told.key))

    def acknowledged(self, messages: Iterable[Message]) -> None:
        """The messages are about to be deleted: the journal has a good ending for each of their events."""
        for message in messages:
            ends = self.told[message.serial].endings
            is_settled = any(each in SETTLED for each in ends)
            self.demand(is_settled, "accounted", f"message {message.number} is done with, the journal says {ends}")

    # The end.

    def check_end(self) -> None:
        """What must be true when every event was handled, and the backlog too."""
        for told in self.told:
            self.demand(set(told.endings) & SETTLED, "accounted", f"{told.name} of {told.key}: {told.endings}")
        for key in sorted({told.key for told in self.told}):
            self._check_stored(key)
            if self.schedule.mirrors_deletes or any((told.key, told.name) == (key, CREATED) for told in self.told):
                self._check_top(key)

    def _check_stored(self, key: str) -> None:
        copies = self.world.versions(DESTINATION, PREFIX + key)
        for version in self.placed_at[key]:
            self.demand(
                any(each is version for each in copies), "nothing is destroyed", f"{version.version_id} is gone"
            )
        for told in self.told:
            version = told.version
            if (told.key, told.name) == (key, CREATED) and self._is_there(told) and not version.is_archived:
                stored = any(self._is_copy(version, each) for each in copies)
                if not stored and self._hides_what_cannot_come_back(key, version):
                    self.known_limits["an older version waits for the newest, which is archived on both sides"] += 1
                    continue
                self.demand(stored, "every version is stored", f"{key} {version.version_id} is not")

    def _hides_what_cannot_come_back(self, key: str, version: Version) -> bool:
        """Whether a copy of the version would lie on the newest one, which neither side can copy on top again.

        The backlog has to have said so of this version. A delete marker that is retained hides nothing.
        """
        are_marks_mirrored = self.schedule.mirrors_deletes
        there = self.world.versions(SOURCE, key)
        newest = [each for each in there if are_marks_mirrored or not each.is_delete_marker][-1]
        copies = self.world.versions(DESTINATION, PREFIX + key)
        is_told = (key, version.version_id) in self.left_archived
        return is_told and newest.is_archived and bool(copies) and copies[-1].is_archived

    def _check_top(self, key: str) -> None:
        """The source's newest version is on top; where deletes are mirrored, its absence as well."""
        now, copies = self.world.versions(SOURCE, key), self.world.versions(DESTINATION, PREFIX + key)
        top = copies[-1] if copies else None
        if self.schedule.mirrors_deletes and (not now or now[-1].is_delete_marker):
            shown = top is None or top.is_delete_marker
            self._demand_top(key, shown, f"{key} was deleted, {top and top.version_id} is on top")
            return
        wanted = [each for each in now if not each.is_archived and not each.is_delete_marker]
        if any(each.is_archived for each in now) and self.schedule.mirrors_deletes:
            return  # which of them counts, the design leaves open
        if not wanted:
            return
        newest = now[now.index(wanted[-1]) :]  # with archived ones, which may have been copied when they were not
        if top is not None and any(self._is_copy(each, top) for each in newest if not each.is_delete_marker):
            return
        later = self.sources[key][self.sources[key].index(wanted[-1]) + 1 :]
        gone = [each for each in later if all(each is not there for there in now)]
        if not self.schedule.mirrors_deletes and top is not None and any(is_alike(each, top) for each in gone):
            self.branches["event top: the copy of a version that the source has no more"] += 1
            return
        self._demand_top(key, False, f"{key}: {top and top.version_id} is on top, not {wanted[-1].version_id}")

    def _is_copy(self, version: Version, copy: Version) -> bool:
        """Whether all that a copy carries is the version's. No request pins tags without a version id."""
        has_same_tags = version.attributes.tags == copy.attributes.tags or not self.schedule.is_source_versioned
        return has_same_tags and is_alike(version, copy)

    def _demand_top(self, key: str, holds: bool, what: str) -> None:
        if not holds and key in self.late:
            self.known_limits["a request that came late or twice found its condition true again"] += 1
            return
        self.demand(holds, "the newest is on top", what)


def _are_comparable(one: Version, other: Version) -> bool:
    """Whether S3 keeps something of both that says whether the bytes are the same."""
    known = [{sum.algorithm for sum in each.checksums if not sum.is_composite} for each in (one, other)]
    return bool(known[0] & known[1]) or not any("-" in each.etag for each in (one, other))


def is_alike(one: Version, other: Version) -> bool:
    """Whether content, headers and metadata are the same."""
    mine, theirs = one.attributes, other.attributes
    same = one.data == other.data and one.is_delete_marker == other.is_delete_marker
    return same and dict(mine.headers) == dict(theirs.headers) and dict(mine.metadata) == dict(theirs.metadata)
