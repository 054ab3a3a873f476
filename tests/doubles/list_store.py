"""A store that keeps objects in a dictionary and lists what it is told: for reports and their readers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from jobs.core.model import Listed, ObjectInfo
from jobs.errors import Denied, NotFound, PreconditionFailed
from jobs.s3.store import Body, Marker, Page, Written


@dataclass
class Shelf:
    """`objects` by (bucket, key); `listing` is what a listing of any bucket gives; `denied` buckets refuse."""

    listing: list[Listed] = field(default_factory=list)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    largest_read_bytes: int = 0
    server_clock: float | None = None

    async def head(self, ref, *, part_number=None):
        if ref.bucket in self.denied:
            raise Denied("HeadObject", str(ref), "AccessDenied", status=403)
        if (ref.bucket, ref.key) not in self.objects:
            raise NotFound("HeadObject", str(ref), "NoSuchKey", status=404)
        data = self.objects[ref.bucket, ref.key]
        return ObjectInfo(len(data), hashlib.md5(data).hexdigest(), 0.0, None, "STANDARD")

    async def get(self, ref, *, start=0, end=None, if_match=None):
        info = await self.head(ref)
        data = self.objects[ref.bucket, ref.key][start:end]
        self.largest_read_bytes = max(self.largest_read_bytes, len(data))
        return Body(data, info)

    async def put(self, ref, data, attributes, *, guard, checksum=None):
        if guard.absent and ref[:2] in self.objects:
            raise PreconditionFailed("PutObject", str(ref), "PreconditionFailed", status=412)
        self.objects[ref[:2]] = data
        self.written.append(ref.key)
        return Written(hashlib.md5(data).hexdigest())

    async def list_objects(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        behind = (after.key, after.version_id or "\U0010ffff") if after else ("", "")
        found = [one for one in self.listing if one.key.startswith(prefix) and (one.key, one.version_id or "") > behind]
        found.sort(key=lambda one: (one.key, one.version_id or ""))
        more = Marker(found[max_keys - 1].key, found[max_keys - 1].version_id) if len(found) > max_keys else None
        return Page(found[:max_keys], [], more)

    list_versions = list_objects
