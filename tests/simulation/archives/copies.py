"""What lies at the destination and in archives, when it was altered, and whether what is written there may be."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.archives.model import ArchiveRecord, Member
from jobs.core.model import Location, ObjectVersion
from tests.doubles.memory_buckets import Version
from tests.simulation.archives.contents import at_its_place, carried_by, carried_in, entries
from tests.simulation.archives.schedule import ARCHIVES
from tests.simulation.archives.tables import read_index
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE
from tests.simulation.engine.processes import Request

if TYPE_CHECKING:
    from tests.simulation.archives.model import ArchiveModel

INDEXES = f"x/archives/{DESTINATION}/"


@dataclass(slots=True, eq=False)
class Copy:
    """An object at the destination. `gone_at`: when it was taken away. `run_id` empty: others wrote it."""

    key: str
    version: Version
    run_id: str
    made_at: float
    gone_at: float | None = None


class ArchiveCopies:
    """Keeps them. `flips`: by version (its id in memory) when bits of it flipped, and what was there before."""

    def __init__(self, model: ArchiveModel):
        self.model = model
        self.all: list[Copy] = []
        self.flips: dict[int, list[tuple[float, bytes]]] = defaultdict(list)
        self.reads: dict[str, list[tuple[str, float, bytes]]] = defaultdict(list)
        """By run: key, time and bytes of what it read."""
        self.last_index: dict[str, tuple[ArchiveRecord, list[Member]]] = {}

    # What is there.

    def placed(self, key: str, version: Version | None, run_id: str) -> None:
        """Somebody wrote a version, or took one away."""
        now = self.model.world.loop.time()
        if version is not None and not version.is_delete_marker:
            self.all.append(Copy(key, version, run_id, now))
        for copy in self.all:
            if copy.gone_at is None and not any(
                each is copy.version for each in self.model.world.versions(DESTINATION, copy.key)
            ):
                copy.gone_at = now

    def data_since(self, copy: Copy, since: float) -> set[bytes]:
        """What could be read of it from then on."""
        if copy.gone_at is not None and copy.gone_at < since:
            return set()
        earlier = {before for time, before in self.flips[id(copy.version)] if time >= since}
        return {copy.version.data, *earlier}

    def holds(self, key: str, version: Version, since: float) -> bool:
        """Whether a copy of the version could be read at some time from then on."""
        for copy in self.all:
            if copy.key == PREFIX + key:
                if version.data in self.data_since(copy, since):
                    return True
            elif copy.key.startswith(ARCHIVES):
                if any(self._is_in(data, key, version) for data in self.data_since(copy, since)):
                    return True
                _, members = self.last_index.get(copy.key, (None, []))
                named = [each for each in members if each.key == key and each.version_id in (None, version.version_id)]
                states = self.data_since(copy, since)
                if any(at_its_place(data, each) == version.data for each in named for data in states):
                    self.model.known_limits["a header or a frame's sum was damaged, what the index names was not"] += 1
                    return True
        return False

    def has_flipped_replica(self, key: str, version: Version, since: float) -> bool:
        """Whether a replica of it was there from then on of which S3 said what it had been."""
        replicas = [
            copy
            for copy in self.all
            if copy.key == PREFIX + key and copy.run_id and (copy.gone_at is None or copy.gone_at >= since)
        ]
        return any(before == version.data for copy in replicas for _, before in self.flips[id(copy.version)])

    def _is_in(self, data: bytes, key: str, version: Version) -> bool:
        return any(
            (each.key, each.data) == (key, version.data) and each.version_id in (None, version.version_id)
            for each in entries(data)
        )

    def is_spoiled(self, key: str, since: float = -1.0) -> bool:
        """Whether others or flipped bits changed an archive, or its index, from then on."""
        flips = [
            version
            for bucket, place in ((DESTINATION, key), (LEDGER, f"{INDEXES}{key}.parquet"))
            for version in self.model.world.versions(bucket, place)
            if any(time >= since for time, _ in self.flips[id(version)])
        ]
        return (
            bool(flips)
            or (DESTINATION, key) in self.model.touches
            or (LEDGER, f"{INDEXES}{key}.parquet") in self.model.touches
        )

    def read(self, request: Request, data: bytes) -> None:
        """A process has got bytes."""
        self.reads[request.process.run_id].append((request.key, self.model.world.loop.time(), data))

    # What is written.

    def made(self, request: Request, before: Version | None, after: Version, job: str) -> None:
        """A process has written an object."""
        who = f"{request.process.name}: {request.name} {request.bucket}/{request.key}"
        is_archive = request.bucket == DESTINATION and request.key.startswith(ARCHIVES)
        if job == "compact" and is_archive:
            self._archived(request, before, after, who)
        elif job == "restore":
            self._restored(request, before, after, who)
        elif job != "replicate" or is_archive or request.bucket == SOURCE:
            self.model.violate("only what is asked", f"{who} ({job})")
        if request.bucket == SOURCE:
            self.model.original(request.key, after)
        elif is_archive or request.key.startswith(PREFIX):
            self.model.placed(
                request.key if is_archive else request.key.removeprefix(PREFIX), after, request.process.run_id
            )

    def _archived(self, request: Request, before: Version | None, after: Version, who: str) -> None:
        """Nothing was there; the same members are the same bytes in whatever run."""
        model = self.model
        model.demand(
            before is None or before.is_delete_marker,
            "nothing is written over an object",
            f"{who} over {before and before.etag}",
        )
        # One that others took away is packed again from what the versions are now, the latest or not.
        was_touched = (request.bucket, request.key) in model.touches
        for copy in self.all:
            if copy.key == request.key and copy.run_id and not was_touched:
                found = [(each.key, each.version_id, each.etag, each.carried) for each in entries(after.data)]
                [first, *_] = [data for _, data in self.flips[id(copy.version)]] or [copy.version.data]
                theirs = [(each.key, each.version_id, each.etag, each.carried) for each in entries(first)]
                model.demand(found != theirs or first == after.data, "the same members make the same archive", who)

    def _restored(self, request: Request, before: Version | None, after: Version, who: str) -> None:
        """The bytes of the version that a row names, with what it carried, where nothing was."""
        model, run_id = self.model, request.process.run_id
        model.demand(before is None or before.is_delete_marker, "a restore replaces nothing", who)
        place = Location.parse(model.specs[run_id]["destination"]["uri"])
        rows = [
            row for row in model.rows[run_id] if (place.bucket, place.key + row.key) == (request.bucket, request.key)
        ]
        meant = [each for row in rows for each in self.originals(row)]
        equal = [each for each in meant if each.data == after.data]
        model.demand(equal, "a restore writes the version's bytes", f"{who}: {after.data!r} for {rows}")
        like = [each for each in equal if carried_by(each) == carried_by(after)]
        if (
            equal
            and not like
            and self._has_tags_of_another(request.key.removeprefix(place.key), equal, carried_by(after))
        ):
            model.known_limits["tags, which no ETag pins, were those of another version"] += 1
        elif equal:
            model.demand(like, "faithful", f"{who}: carries {carried_by(after)}, not {carried_by(equal[-1])}")

    def originals(self, row: ObjectVersion) -> list[Version]:
        """What a row can mean."""
        return [each for each in self.model.originals(row) if not each.is_delete_marker]

    def _has_tags_of_another(self, key: str, like: list[Version], carried: tuple[Any, ...]) -> bool:
        """Without version ids, tags are asked for by the key alone."""
        if self.model.schedule.is_source_versioned or not any(carried_by(each)[:2] == carried[:2] for each in like):
            return False
        return carried[2] in [dict(each.attributes.tags) for each in self.model.sources[key]]

    # Indexes.

    def indexed(self, request: Request) -> None:
        """An index was published: its archive is finished, and all that it says of it is true."""
        model, who = self.model, f"{request.process.name}: index {request.key}"
        record, members = self.last_index[record_key(request.key)] = read_index(request.arguments[2])
        named = [
            copy
            for copy in self.all
            if (copy.key, copy.version.etag) == (record.location.key, record.etag)
            and record.version_id in (None, copy.version.version_id)
        ]
        # The index of an archive that others took away is replaced when it is packed again.
        was_touched = not model.touches.isdisjoint(
            {(LEDGER, request.key), (record.location.bucket, record.location.key)}
        )
        if len(model.world.versions(LEDGER, request.key)) > 1 and not was_touched:
            model.violate("an index is written once", who)
        model.demand(named, "an index is written last", f"{who}: there is no such archive")
        counted = len(members), sum(each.size_bytes for each in members)
        model.demand(counted == (record.members, record.member_bytes), "an index is true", f"{who}: counts {counted}")
        twice = [key for key, count in Counter((each.key, each.version_id) for each in members).items() if count > 1]
        model.demand(not twice, "an index is true", f"{who}: {twice} twice")
        for copy in named:
            for member in members:
                self._check_member(copy, member, who)

    def _check_member(self, copy: Copy, member: Member, who: str) -> None:
        model = self.model
        originals = [
            each
            for each in model.sources[member.key]
            if each.etag == member.etag and member.version_id in (None, each.version_id) and not each.is_delete_marker
        ]
        wanted = {each.data for each in originals}
        model.demand(wanted, "an index is true", f"{who}: {member.key} {member.version_id} never was at the source")
        found = [at_its_place(data, member) for data in self.data_since(copy, 0.0)]
        model.demand(
            any(each in wanted for each in found),
            "an index is true",
            f"{who}: {member.key} is not at its place: {found}",
        )
        like = [each for each in originals if carried_by(each) == carried_in(member)]
        if not like and self._has_tags_of_another(member.key, originals, carried_in(member)):
            model.known_limits["tags, which no ETag pins, were those of another version"] += 1
        else:
            model.demand(like, "faithful", f"{who}: {member.key} carries {carried_in(member)}")
        known = {(int(each.last_modified), each.storage_class) for each in originals}
        is_known = (member.last_modified, member.storage_class) in known
        model.demand(is_known, "faithful", f"{who}: {member.key} is of another time or class")

    def index_of(self, key: str) -> tuple[ArchiveRecord, list[Member]] | None:
        """An archive's index as it is now; None when there is none, or it is damaged."""
        there = self.model.world.versions(LEDGER, f"{INDEXES}{key}.parquet")
        try:
            return read_index(there[-1].data) if there and not there[-1].is_delete_marker else None
        except Exception:  # noqa: BLE001  whatever Arrow or JSON says of a flipped bit
            return None

    def unreadable(self) -> set[str]:
        """The archives whose index cannot be read."""
        keys = {record_key(place) for place in self._index_places()}
        return {key for key in keys if self.index_of(key) is None}

    def _index_places(self) -> list[str]:
        keys = self.model.world.keys(LEDGER)
        return [
            key
            for key in keys
            if key.startswith(INDEXES)
            and key.endswith(".parquet")
            and not self.model.world.versions(LEDGER, key)[-1].is_delete_marker
        ]

    def indexes(self) -> dict[str, tuple[ArchiveRecord, list[Member]]]:
        """All indexes that can be read, by their archive's key."""
        keys = [record_key(place) for place in self._index_places()]
        return {key: found for key in keys if (found := self.index_of(key)) is not None}


def record_key(place: str) -> str:
    """The key of the archive whose index lies there."""
    return place.removeprefix(INDEXES).removesuffix(".parquet")
