"""What others do where copies are: they hide, replace or remove them, let them expire, and forge the ledger."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobs.archives.model import Member
from jobs.core.enums import Step
from jobs.core.model import Attributes
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.ledger.tombstones import DONE, INTENT, Tombstone
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_buckets import Version
from tests.simulation.archives import tables as archive_tables
from tests.simulation.archives.schedule import ARCHIVES
from tests.simulation.copies import tables
from tests.simulation.copies.others import Others
from tests.simulation.copies.schedule import DESTINATION, LEDGER, Kind
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import Request, second_of
from tests.simulation.last_copies.books import ROGUE

if TYPE_CHECKING:
    from tests.simulation.last_copies.course import LastCopyCourse

OWN = "own"
"""An object that nobody has backed up."""


class LastCopyOthers(Others):
    """Everybody but Sealift, and an adversary who can write to the ledger."""

    def __init__(self, course: LastCopyCourse):
        super().__init__(course.world)
        self._course, self._schedule = course, course.schedule

    # Others who are honest.

    def flip(self, pick: int) -> None:
        """A bit at rest changes, of a replica or of an archive."""
        bucket = self._course.sides[1].bucket
        found = [
            (key, self._world.versions(bucket, key)[-1])
            for key in self._world.keys(bucket)
            if key.startswith((ARCHIVES, self._course.sides[1].key))
        ]
        found = [(key, version) for key, version in found if version.data]
        if found:
            key, version = found[pick % len(found)]
            at, before = pick // 64 % len(version.data), version.data
            self._world.observer.touched(bucket, key)
            version.data = before[:at] + bytes([before[at] ^ 1 << pick % 8]) + before[at + 1 :]
            self._world.observer.flipped(bucket, key, version, before)
            self._world.note("flipped", bucket, key, version.version_id, at)

    def meddle(self, kind: Kind, pick: int, request: Request) -> None:
        """Somebody writes an original anew, or hides or replaces a copy."""
        if kind is Kind.SOURCE_PUT:
            self.edit(pick)
        else:
            self.hide_copy(pick // 2, "mark" if kind is Kind.TARGET_MARK else "put")

    def edit(self, pick: int) -> None:
        """Somebody writes an original."""
        place = self._course.sides[0]
        key = place.key + self._schedule.keys[pick % len(self._schedule.keys)]
        self._contents += 1
        self.write(place.bucket, key, b"%d" % self._contents)

    def write(self, bucket: str, key: str, data: bytes) -> None:
        """Somebody writes an object."""
        self._world.observer.touched(bucket, key)
        run_at_once(self._world.memory.put(bucket, key, data, self._course.attributes(), guard=UNGUARDED))
        if not key.startswith(ARCHIVES):
            self._course.model.copies.written(key, data)
        self._world.note("others", "write", bucket, key)

    def hide_copy(self, pick: int, how: str = "") -> None:
        """One of the copies is hidden, replaced, removed, or will be by a lifecycle rule."""
        bucket, prefix = self._course.sides[1]
        keys = [key for key in self._world.keys(bucket) if key.startswith((ARCHIVES, prefix))]
        keys = [key for key in keys if not self._world.versions(bucket, key)[-1].is_delete_marker]
        if not keys:
            return
        key, how = keys[pick % len(keys)], how or ("mark", "put", "remove", "expire")[pick // 8 % 4]
        top, memory = self._world.versions(bucket, key)[-1], self._course.memory
        if how == "put":
            self.write(bucket, key, b"other %d" % (pick % 100))
            return
        self._world.observer.touched(bucket, key)
        self._world.note("others", how, bucket, key)
        if how == "mark":
            run_at_once(memory.delete(bucket, key))
        elif how == "remove":
            run_at_once(memory.delete(bucket, key, version_id=top.version_id))
        else:
            memory.let_expire(top)

    # An adversary.

    def forge(self, pick: int) -> None:
        """What the world of the schedule is odd in."""
        forgers: dict[str, Callable[[int], None]] = {
            "a tombstone is forged": self._forge_tombstone,
            "a run is forged": self._forge_run,
            "an archive's member is forged": self._forge_member,
        }
        forgers[self._schedule.world.value](pick)

    def _put(self, key: str, data: bytes) -> None:
        run_at_once(self._world.memory.put(LEDGER, key, data, Attributes(), guard=UNGUARDED))
        self._world.note("forged", key)

    def _forge_tombstone(self, pick: int) -> None:
        """The run says that it hid an object of somebody else's, by a marker that is the object's own version."""
        run_id, bucket = self._course.expired, self._course.sides[0].bucket
        key = self._course.sides[0].key + OWN
        there = self._world.versions(bucket, key)
        if not run_id or not there:
            return
        top = there[-1]
        stone = Tombstone(
            900 + pick % 9, key, "hidden", top.etag, 1, 0.0, Step.HIDE, "s3://copy", None, None, "checksum",
            top.version_id, 0.0,
        )  # fmt: skip
        name = f"x/tombstones/{bucket}/{run_id}/{stone.row}-{stone.row}-0000000000000forged{(DONE, INTENT)[pick % 2]}"
        self._put(name, archive_tables._sealed(archive_tables._encoder.encode([stone])))

    def _forge_run(self, pick: int) -> None:
        """A later run than all others: its copies are on another server, which has them."""
        run_id = self._course.proving(0)
        if not run_id:
            return
        forged, folder = "20231114T221300Z-verify-bbbbbb", f"x/runs/{run_id}/"
        rows = self._course.model.rows[run_id]
        outcomes = []
        for row in rows:
            data = self._original(row.key)
            name = "copy/" + row.key.removeprefix(self._course.sides[0].key)
            written = run_at_once(self._world.memory.put(ROGUE, name, data, Attributes(), guard=UNGUARDED))
            outcomes.append(Outcome(
                row.row, row.key, row.version_id, Status.VERIFIED, "", evidence=Evidence.CHECKSUM, etag=row.etag,
                size_bytes=len(data), destination_version_id=written.version_id, destination_etag=written.etag,
                finished_at=self._course.now,
            ))  # fmt: skip
        for key in self._world.keys(LEDGER):
            name = key.removeprefix(folder)
            data = self._world.versions(LEDGER, key)[-1].data
            if key.startswith(folder) and not name.startswith("outcomes/"):
                if name in ("spec.json", "report.json"):
                    document: dict[str, Any] = json.loads(data)
                    document |= {"run_id": forged}
                    if "created_at" in document:
                        document["created_at"] = second_of(forged)
                    if name == "spec.json":
                        document["destination"] |= {"uri": f"s3://{DESTINATION}/copy/", "endpoint": "https://rogue"}
                    data = json.dumps(document).encode()
                self._put(f"x/runs/{forged}/{name}", data)
        self._put(
            f"x/runs/{forged}/outcomes/00000/{'f' * 16}-000001-{len(rows)}-0-1.parquet",
            tables._write_outcomes(outcomes),
        )

    def _original(self, key: str) -> bytes:
        versions = self._world.versions(self._course.sides[0].bucket, key)
        return versions[-1].data if versions else b""

    def _forge_member(self, pick: int) -> None:
        """Other bytes of the same size are in an archive, and its index describes them."""
        found = [key for key in self._world.keys(DESTINATION) if key.startswith(ARCHIVES)]
        if not found:
            return
        key = found[pick % len(found)]
        version, place = self._world.versions(DESTINATION, key)[-1], f"x/archives/{DESTINATION}/{key}.parquet"
        indexes = self._world.versions(LEDGER, place)
        if version.is_delete_marker or not indexes:
            return
        record, members = archive_tables.read_index(indexes[-1].data)
        chosen = [each for each in members if each.size_bytes and each.byte_range[1] <= len(version.data)]
        if not chosen:
            return
        self._world.observer.touched(DESTINATION, key)
        forged = {id(each): _forged(version, each, pick) for each in chosen}
        file, rows = io.BytesIO(), [forged.get(id(each), each) for each in members]
        data = archive_tables._sealed(archive_tables._encoder.encode(rows))
        archive_tables.write_index(io.BytesIO(data), record, file)
        self._put(place, file.getvalue())


def _forged(version: Version, member: Member, pick: int) -> Member:
    """The member with a bit flipped where it lies, and described as it is now."""
    start, end = member.byte_range
    piece = version.data[start:end]
    if member.frame_offset is None:
        at = member.skip_bytes + pick % member.size_bytes
        piece = piece[:at] + bytes([piece[at] ^ 1 << pick % 8]) + piece[at + 1 :]
        content = piece[member.skip_bytes : member.skip_bytes + member.size_bytes]
        version.data = version.data[:start] + piece + version.data[end:]
        digest = hashlib.sha256(content).hexdigest()
        return member._replace(sha256=digest, checksums=())
    return member
