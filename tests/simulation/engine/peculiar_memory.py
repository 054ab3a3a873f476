"""S3 in memory as some servers are: conditions unheeded, opaque ETags, second names, lifecycle rules, suspension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectRef
from jobs.s3 import checksums
from jobs.s3.store import UNGUARDED, CopySettings, Deleted, Guard, Written
from tests.doubles.memory_buckets import Beginning, Bucket, Buckets, Version, md5, place_version
from tests.doubles.memory_store import MemoryStore


class PeculiarBuckets(Buckets):
    """`suspended`: names of buckets whose versioning is. `expiring`: by version (id in memory), what HEAD says."""

    def __init__(self, clock: Callable[[], float], new_id: Callable[[], str]):
        super().__init__(clock, new_id)
        self.suspended: set[int] = set()
        self.expiring: dict[int, str] = {}
        self._writes = 0

    def write(
        self,
        ref: ObjectRef,
        data: bytes,
        etag: str,
        attributes: Attributes,
        sums: tuple[Checksum, ...],
        part_sizes: tuple[int, ...] = (),
        began: Beginning | None = None,
    ) -> Written:
        """With KMS, an ETag says nothing of the content, and is never the same again."""
        self._writes += 1
        if attributes.sse == "aws:kms" and "-" not in etag:
            etag = md5(data + b"%d" % self._writes)
        return super().write(ref, data, etag, attributes, sums, part_sizes, began)

    def add(self, home: Bucket, key: str, version: Version) -> None:
        """Where versioning is suspended, a write replaces the null version and leaves the others."""
        if id(home) not in self.suspended:
            super().add(home, key, version)
            return
        if key not in home.versions:
            home.versions[key] = []
            home.order = None
        nulls = [each for each in home.versions[key] if each.version_id == "null"]
        if any(each.order > version.order for each in nulls):
            return
        versions = [each for each in home.versions[key] if each.version_id != "null"]
        place_version(versions, version)
        home.versions[key][:] = versions

    def remove(self, ref: ObjectRef) -> Deleted:
        """Where versioning is suspended, a delete puts a null marker in the place of the null version."""
        home = self.named[ref.bucket]
        if ref.version_id is None and id(home) in self.suspended:
            time, order = self.begin()
            marker = Version("null", b"", "", time, Attributes(), is_delete_marker=True, order=order)
            self.add(home, ref.key, marker)
            return Deleted("null", True)
        return super().remove(ref)

    def info(self, bucket: str, version: Version) -> ObjectInfo:
        """With the version id wherever versioning was ever on."""
        info = super().info(bucket, version)
        if id(self.named[bucket]) in self.suspended:
            info = _with(info, version_id=version.version_id)
        return _with(info, expiration=self.expiring[id(version)]) if id(version) in self.expiring else info


def _with(info: ObjectInfo, **known: Any) -> ObjectInfo:
    """Changed in what this ObjectInfo has."""
    for name, value in known.items():
        if name in ObjectInfo.__dataclass_fields__:
            object.__setattr__(info, name, value)
    return info


class PeculiarMemory(MemoryStore):
    """`ignored`: which requests heed no condition: `copy`, `delete`, or the `delete of what is there` only."""

    ignored: frozenset[str] = frozenset()
    heeds_conditions = False
    """Nobody knows: it is tried."""
    _buckets: PeculiarBuckets

    @classmethod
    def of(cls, plain: MemoryStore) -> PeculiarMemory:
        """An empty one with the clock, the ids and the settings of another."""
        made = cls(
            default_checksum=plain._default_checksum,
            minimum_part_bytes=plain._minimum_part_bytes,
        )
        made._buckets = PeculiarBuckets(plain._buckets.clock, plain._buckets.new_id)
        return made

    def add_name(self, name: str, bucket: str) -> None:
        """A second name of a bucket, as an access point's alias is."""
        self._buckets.named[name] = self._buckets.named[bucket]

    def suspend(self, bucket: str) -> None:
        """Suspend versioning."""
        home = self._buckets.named[bucket]
        home.is_versioned = False
        self._buckets.suspended.add(id(home))

    def let_expire(self, version: Version) -> None:
        """A lifecycle rule will remove the version."""
        self._buckets.expiring[id(version)] = 'expiry-date="Fri, 23 Dec 2033 00:00:00 GMT", rule-id="rule"'

    @property
    def expiring(self) -> dict[int, str]:
        """The versions (ids in memory) that a lifecycle rule will remove."""
        return self._buckets.expiring

    async def delete(
        self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None
    ) -> Deleted:
        """DeleteObject."""
        is_there = bool(self._buckets.named[bucket].versions.get(key)) if bucket in self._buckets.named else False
        if "delete" in self.ignored or ("delete of what is there" in self.ignored and is_there):
            if_match = None
        return await super().delete(bucket, key, version_id=version_id, if_match=if_match)

    async def copy(
        self, source: ObjectRef, source_etag: str | None, bucket: str, key: str, settings: CopySettings, *, guard: Guard
    ) -> Written:
        """CopyObject."""
        guard = UNGUARDED if "copy" in self.ignored else guard
        return await super().copy(source, source_etag, bucket, key, settings, guard=guard)


def twin_of(data: bytes, algorithm: str) -> bytes | None:
    """Other bytes of the same length and CRC, which an adversary computes; None where there are too few of them.

    A CRC is linear: flipping bits changes it by the exclusive or of what each flip alone changes. So some set of flips
    changes nothing, and elimination over GF(2) finds it.
    """
    zero = _number(algorithm, bytes(len(data)))
    rows: dict[int, tuple[int, int]] = {}
    for place in range(8 * len(data)):
        flips = 1 << place
        change = _number(algorithm, flips.to_bytes(len(data), "big")) ^ zero
        while change:
            top = change.bit_length()
            if top not in rows:
                rows[top] = change, flips
                break
            change, flips = change ^ rows[top][0], flips ^ rows[top][1]
        else:
            return (int.from_bytes(data, "big") ^ flips).to_bytes(len(data), "big")
    return None


def _number(algorithm: str, data: bytes) -> int:
    import base64

    return int.from_bytes(base64.b64decode(checksums.full_object(algorithm, data).value), "big")
