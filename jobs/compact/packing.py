"""Packing: which members go into which archive. Pure and deterministic.

Members are grouped by time, then by prefix, up to a target size. Rows come in the order of
`sort_key`. A group is one archive. It ends

- where the month of the objects changes, so that they are thawed and expired together,
- before it would exceed the target size or `MEMBERS_MAX`,
- where the folder changes, once it is half full, so that a prefix is in few archives.

A group depends neither on the rows after it nor on the groups before it: a worker that starts at
any group's first row finds the same groups as the plan.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobs.archives.member_names import spell
from jobs.archives.model import BLOCK_BYTES
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Location, ObjectVersion

TARGET_BYTES = 1024**3
MEMBERS_MAX = 65_536
"""Bounds a worker's memory and the work that a crash loses, for any target size."""

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for a run's options."""
        return {
            "target_bytes": self.target_bytes,
            "format": self.format.value,
            "tags": dict(self.tags),
            "members_max": self.members_max,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PackingRule:
        """The inverse of `to_dict`."""
        return cls(data["target_bytes"], ArchiveFormat(data["format"]), data["tags"], data["members_max"])


class ArchiveStorage(NamedTuple):
    """How archives are stored. None: the bucket's default encryption, or its default key."""

    storage_class: str
    sse: str | None = None
    kms_key_id: str | None = None

    @property
    def encryption(self) -> str | None:
        """The encryption that was asked for, as an archive's record has it."""
        return ":".join(filter(None, (self.sse, self.kms_key_id))) or None


class EarlierRule(NamedTuple):
    """What an earlier rule of a policy packs: keys with a prefix, older and smaller than its
    limits.

    `older_than` is in epoch seconds.
    """

    prefix: str
    older_than: float
    smaller_than_bytes: int


def period(last_modified: float | None) -> str:
    """The month (UTC) in which an object was written, `2026-11`. `undated` if the manifest lacks
    it.
    """
    return "undated" if last_modified is None else time.strftime("%Y-%m", time.gmtime(last_modified))


def sort_key(row: ObjectVersion) -> tuple[str, bytes]:
    """The order of packing: by month, then by key in S3's order."""
    return period(row.last_modified), row.key.encode("utf-8", "surrogatepass")


def tar_bytes(row: ObjectVersion) -> int:
    """About how many bytes of a tar the row takes."""
    size_bytes = row.size_bytes or 0
    return HEADER_BYTES + size_bytes + -size_bytes % BLOCK_BYTES


def cut(rows: Iterable[ObjectVersion], rule: PackingRule) -> Iterator[list[ObjectVersion]]:
    """The rows, in the order of `sort_key`, group by group. No row is lost, no group is empty."""
    group: list[ObjectVersion] = []
    size_bytes = 0
    for row in rows:
        if group and _is_full(group, size_bytes, row, rule):
            yield group
            group, size_bytes = [], 0
        group.append(row)
        size_bytes += tar_bytes(row)
    if group:
        yield group


def archive_location(
    archives: Location,
    source_bucket: str,
    rows: Sequence[ObjectVersion],
    rule: PackingRule,
    storage: ArchiveStorage,
) -> Location:
    """Where a group's archive is written: below its members' folder, named by month and content.

    The same members with the same rule and storage get the same name in every run, so a run finds
    what an earlier one has packed. Every row needs a version id or an ETag, since a key alone names
    no content.
    """
    asked = "\0".join([source_bucket, rule.format.value, str(sorted(rule.tags.items())), *map(str, storage)])
    digest = hashlib.sha256(f"3\0{asked}\n".encode())
    for row in rows:
        row_text = f"{row.key}\0{row.version_id or ''}\0{row.etag or ''}\0{row.size_bytes}\n"
        digest.update(row_text.encode("utf-8", "surrogatepass"))
    name = f"{period(rows[0].last_modified)}-{digest.hexdigest()[:20]}.{rule.format.value}"
    stem = common_folder(rows)
    return archives.join(f"{spell(stem[:-1])}/{name}" if stem else name)


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


def _is_full(group: list[ObjectVersion], size_bytes: int, row: ObjectVersion, rule: PackingRule) -> bool:
    if len(group) >= rule.members_max or size_bytes + tar_bytes(row) > rule.target_bytes:
        return True
    last = group[-1]
    if last.last_modified != row.last_modified and period(last.last_modified) != period(row.last_modified):
        return True
    is_half_full = 2 * size_bytes >= rule.target_bytes or 2 * len(group) >= rule.members_max
    return is_half_full and _folder(last.key) != _folder(row.key)


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]
