"""What others do in the world: they write and delete objects without asking, and bits flip at rest."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from jobs.core.model import Attributes
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.schedule import DESTINATION, PREFIX, SOURCE, Kind, Put, content
from tests.simulation.copies.tables import PART_BYTES
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import Request

if TYPE_CHECKING:
    from tests.simulation.engine.world import World


class Others:
    """Everybody but Sealift."""

    def __init__(self, world: World):
        self._world = world
        self._contents = 20_000

    def put(self, bucket: str, put: Put) -> None:
        """Somebody else writes an object (or deletes it), without the network."""
        if put.is_marker:
            self.mark(bucket, put.key)
        elif put.parts > 1:
            self.begin_upload(bucket, put)()
        else:
            key = put.key if bucket == SOURCE else PREFIX + put.key
            data, attributes = content(put.content, put.size_bytes), attributes_of(put)
            run_at_once(self._world.memory.put(bucket, key, data, attributes, guard=UNGUARDED))
            self._tell(bucket, put.key)

    def begin_upload(self, bucket: str, put: Put) -> Callable[[], None]:
        """Somebody else begins an upload in parts. Call the result to complete it: now, or long after."""
        key, memory = put.key if bucket == SOURCE else PREFIX + put.key, self._world.memory
        data, attributes = content(put.content, put.size_bytes), attributes_of(put)
        upload = run_at_once(memory.create_multipart(
            bucket, key, attributes, checksum_algorithm=put.algorithm, is_composite=put.algorithm == "SHA256"
        ))  # fmt: skip
        size = max(len(data) // put.parts, PART_BYTES)
        cuts = [*range(0, len(data) - size + 1, size)][: put.parts]
        pieces = [data[start:end] for start, end in pairwise([*cuts, len(data)])]
        parts = [run_at_once(memory.put_part(bucket, key, upload, n, piece)) for n, piece in enumerate(pieces, 1)]

        def complete() -> None:
            before = list(self._world.versions(bucket, key))
            run_at_once(memory.complete_multipart(bucket, key, upload, parts, guard=UNGUARDED))
            self._world.note("completed", bucket, key)
            made = [each for each in self._world.versions(bucket, key) if all(each is not old for old in before)]
            if made:  # without versions, a write that began later takes its place
                self._tell(bucket, put.key, made[0])

        return complete

    def mark(self, bucket: str, key: str) -> None:
        """Somebody else deletes an object: a delete marker is made or, without versions, it is gone."""
        place = key if bucket == SOURCE else PREFIX + key
        there = self._world.versions(bucket, place)
        last = there[-1] if there else None
        run_at_once(self._world.memory.delete(bucket, place))
        if bucket == SOURCE and last is not None and not self._world.versions(bucket, place):
            self._world.observer.removed(key, last)
        self._tell(bucket, key)

    def remove(self, bucket: str, key: str, pick: int) -> None:
        """Somebody else removes a version for good."""
        place = key if bucket == SOURCE else PREFIX + key
        versions = self._world.versions(bucket, place)
        if versions:
            doomed = versions[pick % len(versions)]
            run_at_once(self._world.memory.delete(bucket, place, version_id=doomed.version_id))
            if bucket == SOURCE:
                self._world.observer.removed(key, doomed)

    def _tell(self, bucket: str, key: str, made: Version | None = None) -> None:
        """Tell the observer of the version that somebody else has made (None: the one on top, or that is gone)."""
        versions = self._world.versions(bucket, key if bucket == SOURCE else PREFIX + key)
        if bucket == SOURCE and versions:
            original = made or versions[-1]
            original.annotations = annotations_of(original)
            self._world.observer.original(key, original)
        elif bucket == DESTINATION:
            self._world.observer.placed(key, versions[-1] if versions else None, "")

    def flip(self, pick: int) -> None:
        """A bit at rest at the destination changes."""
        self.flip_in(DESTINATION, pick)

    def flip_in(self, bucket: str, pick: int) -> None:
        """A bit at rest changes; nothing that S3 says of the object does."""
        found = [
            (key, version)
            for key in self._world.keys(bucket)
            for version in self._world.versions(bucket, key)
            if version.data
        ]
        if found:
            key, version = found[pick % len(found)]
            at, before = pick // 64 % len(version.data), version.data
            version.data = before[:at] + bytes([before[at] ^ 1 << pick % 8]) + before[at + 1 :]
            self._world.observer.flipped(bucket, key, version, before)
            self._world.note("flipped", key, version.version_id, at)

    def meddle(self, kind: Kind, pick: int, request: Request) -> None:
        """Others write or delete, half of the time the object that the request is about."""
        side = SOURCE if kind in (Kind.SOURCE_PUT, Kind.SOURCE_MARK, Kind.SOURCE_REMOVE) else DESTINATION
        keys = self._world.schedule.keys
        key = request.key.removeprefix(PREFIX)
        if pick % 2 or key not in keys:
            key = keys[pick // 2 % len(keys)]
        place = key if side == SOURCE else PREFIX + key
        self._world.note("others", kind.name, key)
        self._world.observer.touched(side, key)
        if kind in (Kind.SOURCE_PUT, Kind.TARGET_PUT):
            self._contents += 1
            put = Put(key, (3, 9, 17, 24)[pick // 4 % 4], self._contents)
            if kind is Kind.SOURCE_PUT and put.size_bytes > 8 and pick // 16 % 2:
                complete = self.begin_upload(side, put._replace(parts=2))
                self._world.note("slow upload", key)
                self._world.loop.call_later(0.1 * 2.0 ** (pick // 32 % 10), complete, context=self._world.outside)
            else:
                self.put(side, put)
        elif kind is Kind.SOURCE_REMOVE:
            self.remove(side, key, pick // 8)
        else:
            there = self._world.versions(side, place)
            if there and not there[-1].is_delete_marker:
                self.mark(side, key)


def attributes_of(put: Put) -> Attributes:
    """What an object of the schedule carries."""
    return Attributes(
        headers={"content-type": "text/plain"} if put.content % 3 else {},
        metadata={"number": str(put.content)},
        tags=_tags_of(put),
        storage_class=put.storage_class,
    )


def annotations_of(version: Version) -> dict[str, bytes]:
    """What somebody notes of an object: of one in four two texts, by its number."""
    number = version.attributes.metadata.get("number", "0")
    return {name: number.encode() for name in ("labels", "words")} if int(number) % 4 == 3 else {}


def _tags_of(put: Put) -> dict[str, str]:
    tag = put.content if put.tag is None else put.tag
    return {"tag": str(tag)} if tag % 2 else {}
