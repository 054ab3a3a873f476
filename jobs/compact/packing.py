"""Packing: the rule by which members go into archives. Pure and deterministic.

Members are grouped by time, then by prefix, up to a target size. A group is one archive. It ends

- where the month of the objects changes, so that they are thawed and expired together,
- before it would exceed the target size or `MEMBERS_MAX`,
- where the folder changes, once it is half full, so that a prefix is in few archives.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from jobs.archives.member_names import spell
from jobs.archives.model import BLOCK_BYTES
from jobs.core.enums import CHECK_ANNOTATIONS, ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectInfo, ObjectVersion, is_exact
from jobs.core.part_sizes import MAX_OBJECT_BYTES, choose_part_size

TARGET_BYTES = 1024**3
MEMBERS_MAX = 65_536
"""Bounds a worker's memory and the work that a crash loses, for any target size."""

PART_BYTES = 8 * 1024**2
ROOM_BYTES = 1024**3
"""The room for headers and the index in S3's largest object."""

MEMBER_BYTES_MAX = MAX_OBJECT_BYTES - 2 * ROOM_BYTES
HEADER_BYTES = 3 * BLOCK_BYTES
"""The usual size of a member's header: PAX header, its records, and the entry itself."""

_STEM_BYTES = 600


class PackingRule(Struct, frozen=True):
    """How to cut groups and to write their archives. Only objects with all `tags` are packed."""

    target_bytes: int = TARGET_BYTES
    format: ArchiveFormat = ArchiveFormat.TAR_ZST
    tags: Mapping[str, str] = {}
    members_max: int = MEMBERS_MAX


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


class CompactOptions(Struct, frozen=True):
    """How to pack, and how archives are stored. None: the bucket's default encryption, or its
    default key.

    `annotations`: whether an object with annotations is left out (`check`) or packed without
    them (`skip`). `earlier_rules`: those of the policy that take objects before this one does.
    `pack_all`: groups that would not pay are packed, too.
    """

    rule: PackingRule
    storage_class: str = "GLACIER_IR"
    sse: str | None = None
    kms_key_id: str | None = None
    annotations: str = CHECK_ANNOTATIONS
    earlier_rules: tuple[EarlierRule, ...] = ()
    pack_all: bool = False

    @property
    def encryption(self) -> str | None:
        """The encryption that was asked for, as an archive's record has it."""
        return ":".join(filter(None, (self.sse, self.kms_key_id))) or None

    def missing(self, has: Attributes) -> str:
        """The name of the encryption that an archive does not show as asked, else empty."""
        return has.missing_encryption(self.sse, self.kms_key_id)


def tar_bytes(size_bytes: int) -> int:
    """About what a member of this size takes of a tar."""
    return HEADER_BYTES + -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def part_bytes(archive_bytes: int) -> int:
    """The size of the parts of an archive of about this size."""
    return choose_part_size(archive_bytes + ROOM_BYTES, PART_BYTES)


def archive_location(
    archives: Location, source_bucket: str, rows: Sequence[ObjectVersion], options: CompactOptions
) -> Location:
    """Where a group's archive is written: below its members' folder, named by month and content.

    The same members with the same rule and storage get the same name in every run, so a run finds
    what an earlier one has packed.
    """
    rule, storage = options.rule, (options.storage_class, options.sse, options.kms_key_id)
    asked = "\0".join([source_bucket, rule.format.value, str(sorted(rule.tags.items())), *map(str, storage)])
    digest = hashlib.sha256(f"3\0{asked}\n".encode())
    for row in rows:
        row_text = f"{row.key}\0{row.version_id or ''}\0{row.etag or ''}\0{row.size_bytes}{_write_of(row)}\n"
        digest.update(row_text.encode("utf-8", "surrogatepass"))
    month = time.strftime("%Y-%m", time.gmtime(rows[0].last_modified))
    name = f"{month}-{digest.hexdigest()[:20]}.{rule.format.value}"
    stem = common_folder(rows)
    return archives.join(f"{spell(stem[:-1])}/{name}" if stem else name)


def _write_of(row: ObjectVersion) -> str:
    """The second of the write that made a version without an id of its own.

    The same content may be written again after other content. A member has the date of its write,
    and a restore takes the newest.
    """
    return "" if is_exact(row.version_id) else f"\0{int(row.last_modified or 0.0)}"


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
