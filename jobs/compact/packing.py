"""Packing: the rule by which members go into archives. Pure and deterministic.

Members are grouped by time, then by prefix, up to a target size. Rows come in the order of
`sort_key`. A group is one archive. It ends

- where the month of the objects changes, so that they are thawed and expired together,
- before it would exceed the target size, `MEMBERS_MAX` or the parts that S3 takes,
- where the folder changes, once it is half full, so that a prefix is in few archives.

A group depends neither on the rows after it nor on the groups before it: a worker that starts at
any group's first row finds the same groups as the plan.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from jobs.archives.member_names import spell
from jobs.archives.model import BLOCK_BYTES
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectInfo, ObjectVersion, is_exact
from jobs.core.part_sizes import MAX_OBJECT_BYTES, MAX_PART_BYTES, MAX_PARTS, count_parts

TARGET_BYTES = 1024**3
MEMBERS_MAX = 65_536
"""Bounds a worker's memory and the work that a crash loses, for any target size."""

PART_BYTES = 8 * 1024**2
SERVER_SIDE_BYTES = 64 * 1024**2
"""From this size on, S3 copies a member itself into a plain tar, if S3's checksum proves the copy.
"""

ROOM_BYTES = 1024**3
"""The room for headers and the index in S3's largest object."""

HEADER_BYTES = 3 * BLOCK_BYTES
"""The usual size of a member's header: PAX header, its records, and the entry itself."""

_STEM_BYTES = 600


@dataclass(frozen=True, slots=True)
class PackingRule:
    """How to cut groups and to write their archives. Only objects with all `tags` are packed."""

    target_bytes: int = TARGET_BYTES
    format: ArchiveFormat = ArchiveFormat.TAR_ZST
    tags: Mapping[str, str] = field(default_factory=dict)
    members_max: int = MEMBERS_MAX


class ArchiveStorage(NamedTuple):
    """How archives are stored. None: the bucket's default encryption, or its default key."""

    storage_class: str
    sse: str | None = None
    kms_key_id: str | None = None

    @property
    def encryption(self) -> str | None:
        """The encryption that was asked for, as an archive's record has it."""
        return ":".join(filter(None, (self.sse, self.kms_key_id))) or None

    def missing(self, has: Attributes) -> str:
        """The name of the encryption that an archive does not show as asked, else empty."""
        return has.missing_encryption(self.sse, self.kms_key_id)


class TarSize(NamedTuple):
    """The size of an archive of some members. `copied_bytes` of it S3 copies, in `copied_parts`."""

    size_bytes: int = 0
    copied_bytes: int = 0
    copied_parts: int = 0

    def part_bytes(self, *, is_streamed: bool = False) -> int | None:
        """The size of parts with which S3 takes the archive. None: it is too big.

        `is_streamed`: nothing of it is copied.
        """
        copied_bytes, copied_parts = (0, 0) if is_streamed else self[1:]
        written_bytes, left = self.size_bytes - copied_bytes + ROOM_BYTES, MAX_PARTS - copied_parts - 1
        if self.size_bytes > MAX_OBJECT_BYTES - ROOM_BYTES or left < 1:
            return None
        part_bytes = max(PART_BYTES, -(-written_bytes // left))
        return part_bytes if part_bytes <= MAX_PART_BYTES else None

    @property
    def parts(self) -> int:
        """How many parts it becomes."""
        written_bytes = self.size_bytes - self.copied_bytes
        return self.copied_parts + count_parts(written_bytes, self.part_bytes() or MAX_PART_BYTES)


class EarlierRule(NamedTuple):
    """What an earlier rule of a policy packs: keys with a prefix, older and smaller than its
    limits, with all of its tags.

    `older_than` is in epoch seconds. Nobody knows the tags of an object before it is read.
    """

    prefix: str
    older_than: float
    smaller_than_bytes: int
    tags: Mapping[str, str] = MappingProxyType({})

    def takes(self, key: str, info: ObjectInfo, tags: Mapping[str, str]) -> bool:
        """True for an object that this rule packs."""
        is_old, is_small = info.last_modified < self.older_than, info.size_bytes < self.smaller_than_bytes
        is_tagged = all(tags.get(name) == value for name, value in self.tags.items())
        return key.startswith(self.prefix) and is_old and is_small and is_tagged


def period(last_modified: float | None) -> str:
    """The month (UTC) in which an object was written, `2026-11`. `undated` if the manifest lacks
    it.
    """
    return "undated" if last_modified is None else time.strftime("%Y-%m", time.gmtime(last_modified))


def sort_key(row: ObjectVersion) -> tuple[str, bytes]:
    """The order of packing: by month, then by key in S3's order."""
    return period(row.last_modified), row.key.encode("utf-8", "surrogatepass")


def is_copied(size_bytes: int, kind: ArchiveFormat) -> bool:
    """True for a member that S3 copies into an archive, where it can."""
    return kind is ArchiveFormat.TAR and size_bytes >= SERVER_SIDE_BYTES


def is_unknown(row: ObjectVersion) -> bool:
    """True for a row that S3 has to be asked of before it can be packed.

    A key alone names no content: an archive of that key may hold an older object. The same content
    may come again, so without a version id the time of its write counts as well. And a size that is
    unknown is not zero.
    """
    is_described = is_exact(row.version_id) or None not in (row.etag, row.last_modified)
    return not row.is_delete_marker and not (is_described and row.size_bytes is not None)


def archive_location(
    archives: Location,
    source_bucket: str,
    rows: Sequence[ObjectVersion],
    rule: PackingRule,
    storage: ArchiveStorage,
    writes: Mapping[int, float] = MappingProxyType({}),
) -> Location:
    """Where a group's archive is written: below its members' folder, named by month and content.

    The same members with the same rule and storage get the same name in every run, so a run finds
    what an earlier one has packed. Every row needs a version id or an ETag, since a key alone names
    no content. `writes`: row → when it was written, for rows without a time.
    """
    asked = "\0".join([source_bucket, rule.format.value, str(sorted(rule.tags.items())), *map(str, storage)])
    digest = hashlib.sha256(f"3\0{asked}\n".encode())
    for row in rows:
        row_text = f"{row.key}\0{row.version_id or ''}\0{row.etag or ''}\0{row.size_bytes}{_write_of(row, writes)}\n"
        digest.update(row_text.encode("utf-8", "surrogatepass"))
    name = f"{period(rows[0].last_modified)}-{digest.hexdigest()[:20]}.{rule.format.value}"
    stem = common_folder(rows)
    return archives.join(f"{spell(stem[:-1])}/{name}" if stem else name)


def _write_of(row: ObjectVersion, writes: Mapping[int, float]) -> str:
    """The second of the write that made a version without an id of its own.

    The same content may be written again after other content. A member has the date of its write,
    and a restore takes the newest.
    """
    written = writes.get(row.row, row.last_modified)
    return "" if is_exact(row.version_id) or written is None else f"\0{int(written)}"


def common_folder(rows: Sequence[ObjectVersion]) -> str:
    """The folder, with its `/`, that all keys of a group share. Empty if they share none."""
    first, last = min(row.key for row in rows), max(row.key for row in rows)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    folder = first[: first.rfind("/", 0, shared) + 1]
    while len(spell(folder).encode()) > _STEM_BYTES:
        folder = folder[: folder.rfind("/", 0, -1) + 1]
    return folder


def folder_of(key: str) -> str:
    """The key up to its last `/`, which is included. Empty without one."""
    return key[: key.rfind("/") + 1]
