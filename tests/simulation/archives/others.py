"""What others do where archives are: bits flip in them and in their indexes, somebody replaces or deletes them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from jobs.core.model import Attributes, ObjectLock
from jobs.errors import Denied
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_buckets import Version
from tests.simulation.archives.contents import content_places
from tests.simulation.archives.schedule import ARCHIVES, Lock
from tests.simulation.copies.others import Others
from tests.simulation.copies.schedule import DESTINATION, LEDGER, SOURCE, Kind
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import EPOCH, Request

INDEXES = "x/archives/"


class ArchiveOthers(Others):
    """Everybody but Sealift."""

    def flip(self, pick: int) -> None:
        """A bit at rest changes: mostly in an archive, sometimes in an index or in what was restored."""
        bucket, prefix = (LEDGER, INDEXES) if pick % 5 == 0 else (DESTINATION, "" if pick % 5 == 1 else ARCHIVES)
        found = [
            (key, version)
            for key in self._world.keys(bucket)
            if key.startswith(prefix) and not key.endswith(".json")
            for version in self._world.versions(bucket, key)
            if version.data
        ]
        if found:
            key, version = found[pick // 5 % len(found)]
            at = pick // 64 % len(version.data)
            places = content_places(version.data) if key.endswith(".tar") and pick % 3 else []
            if places:
                start, end = places[pick // 64 % max(1, len(places) - 1)]  # the last one is the index
                at = start + pick // 512 % (end - start)
            self._world.observer.touched(bucket, key)
            before = version.data
            version.data = before[:at] + bytes([before[at] ^ 1 << pick % 8]) + before[at + 1 :]
            self._world.observer.flipped(bucket, key, version, before)
            self._world.note("flipped", bucket, key, version.version_id, at)

    def lock(self, lock: Lock) -> Version | None:
        """Put the version under Object Lock, or take its legal hold away; the version, if there is one."""
        version = next(
            (each for each in self._world.versions(SOURCE, lock.key)[::-1] if not each.is_delete_marker), None
        )
        if version is not None:
            known = version.attributes.lock or ObjectLock()
            if lock.seconds:
                until = datetime.fromtimestamp(EPOCH + self._world.loop.time() + lock.seconds, UTC).isoformat()
                known = replace(known, mode="GOVERNANCE", retain_until=until)
            else:
                known = replace(known, legal_hold=lock.seconds is None)
            version.attributes = replace(version.attributes, lock=known)
            self._world.note("locked", lock.key, version.version_id, known)
        return version

    def remove(self, bucket: str, key: str, pick: int) -> None:
        """Somebody else removes a version for good, unless it is locked."""
        with suppress(Denied):
            super().remove(bucket, key, pick)

    def meddle(self, kind: Kind, pick: int, request: Request) -> None:
        """At the destination, half of the time with an archive."""
        archives = [key for key in self._world.keys(DESTINATION) if key.startswith(ARCHIVES)]
        if kind not in (Kind.TARGET_PUT, Kind.TARGET_MARK) or not archives or pick % 2:
            key = "" if request.name == "delete_versions" else request.key  # which names many
            super().meddle(kind, pick // 2, replace(request, key=key))
            return
        key = archives[pick // 8 % len(archives)]
        self._world.note("others", kind.name, key)
        self._world.observer.touched(DESTINATION, key)
        memory = self._world.memory
        if kind is Kind.TARGET_PUT:
            run_at_once(memory.put(DESTINATION, key, b"not an archive" * (pick % 90), Attributes(), guard=UNGUARDED))
        else:
            run_at_once(memory.delete(DESTINATION, key))
        there = self._world.versions(DESTINATION, key)
        self._world.observer.placed(key, there[-1] if there else None, "")
