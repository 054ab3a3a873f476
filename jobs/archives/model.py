"""Archives: a member's record and place, and the locator of an archive's index.

An archive is a tar (POSIX.1-2001, PAX headers) or the same tar cut into independent zstd frames
(RFC 8878), so stock tools read either. Its last member is its index. Its last 512 bytes, which tar
and zstd skip, are the `Locator` of that index. One ranged read brings a member's bytes.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

from jobs.core.enums import ArchiveFormat
from jobs.core.model import Checksum, Location, ObjectInfo, ObjectVersion
from jobs.errors import DamagedArchive, LaterArchive, UsageError

ARCHIVE_VERSION = 1
"""The version of the format. A reader refuses a higher one."""

BLOCK_BYTES = 512
FRAME_BYTES = 64 * 1024
"""The most of the tar in a frame of several members, so that reading one member reads little else.
"""

CHUNK_BYTES = 8 * 1024**2
"""The piece by which a larger member is read and, in `tar.zst`, compressed: a frame each."""

COUNT_MAX = 2**63 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_SKIPPABLE_MAGIC = (0x184D2A5E).to_bytes(4, "little")
"""A zstd frame that decoders skip: https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2"""
LOCATOR_BYTES = BLOCK_BYTES
_COMMENT = f"{LOCATOR_BYTES} comment=".encode()
"""Earlier archives lack it: their last block is the text alone, where `tar -i` complains."""
_SKIPPABLE_HEADER = _SKIPPABLE_MAGIC + (LOCATOR_BYTES - 8).to_bytes(4, "little")


class Member(NamedTuple):
    """One object version in an archive: all that S3 said of it, and where its bytes are.

    `sha256` (hex) is None where S3 copied the bytes itself. `offset` is where the content begins in
    the tar. In `tar.zst`, `frame_length` bytes of the archive from `frame_offset` on are whole
    frames, which decompress to the tar from `frame_start` on. In a plain tar these three are None,
    and `offset` is a place in the archive itself.
    """

    key: str
    version_id: str | None
    is_latest: bool
    size_bytes: int
    etag: str | None
    last_modified: float
    storage_class: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    checksums: tuple[Checksum, ...] = ()
    sha256: str | None = None
    offset: int = 0
    frame_start: int | None = None
    frame_offset: int | None = None
    frame_length: int | None = None

    @property
    def byte_range(self) -> tuple[int, int]:
        """(start, end exclusive) of the archive's bytes with the content. Empty for an empty
        member.
        """
        if self.frame_offset is None or self.frame_length is None:
            return self.offset, self.offset + self.size_bytes
        return self.frame_offset, self.frame_offset + self.frame_length

    @property
    def skip_bytes(self) -> int:
        """How many bytes of the (decompressed) `byte_range` come before the content."""
        return 0 if self.frame_start is None else self.offset - self.frame_start


def index_member(size_bytes: int) -> Member:
    """The member that an archive's own index is. It has no key, and no place yet."""
    return Member("", None, True, size_bytes, None, 0.0, "", {}, {}, {})


def describe(row: ObjectVersion, info: ObjectInfo, tags: Mapping[str, str], sha256: str | None) -> Member:
    """The member of the version `row`, from what HEAD or GET said of it. It has no place yet."""
    return Member(
        key=row.key,
        version_id=info.version_id or row.version_id,
        is_latest=row.is_latest,
        size_bytes=info.size_bytes,
        etag=info.etag,
        last_modified=info.last_modified,
        storage_class=info.storage_class,
        headers=info.attributes.headers,
        metadata=info.attributes.metadata,
        tags=tags,
        checksums=info.checksums,
        sha256=sha256,
    )


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """What the index says of an archive as a whole. It is there = the archive is finished.

    `etag` and `version_id` pin every read of the archive. `source_bucket` is where its members'
    keys were. `member_bytes` are the members' own, without headers and padding. `checksum` is
    `ALGORITHM:base64` of the archive as S3 keeps it, with `-N` of N parts, None if unknown. `parts`
    has the size and base64 SHA-256 of each part, and is empty if one is unknown. `encryption` is
    what was asked for (`AES256`, `aws:kms:KEY`), None for the bucket's default. `incomplete`: why
    the index lacks members of the archive, None if it has all.
    """

    location: Location
    format: ArchiveFormat
    size_bytes: int
    etag: str
    version_id: str | None
    storage_class: str
    members: int
    member_bytes: int
    first_key: str
    last_key: str
    source_bucket: str
    created_at: float
    checksum: str | None = None
    run_id: str | None = None
    archive_version: int = ARCHIVE_VERSION
    encryption: str | None = None
    incomplete: str | None = None
    parts: tuple[tuple[int, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return shown | {"location": str(self.location), "format": self.format.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchiveRecord:
        """The inverse of `to_dict`. Raises DamagedArchive for an invalid document or a later
        version.
        """
        try:
            version = data.get("archive_version", 0)
            if version > ARCHIVE_VERSION:
                raise LaterArchive(f"{data.get('location')} is of archive version {version}", advice="update Sealift")
            known = {name: data[name] for name in cls.__dataclass_fields__ if name in data or name not in _ADDED}
            location = Location.parse(data["location"])
            parts = tuple((size, value) for size, value in data.get("parts", ()))
            record = cls(**known | {"location": location, "format": ArchiveFormat(data["format"]), "parts": parts})
        except (KeyError, ValueError, TypeError, AttributeError, UsageError) as error:
            raise DamagedArchive(f"a record of an archive cannot be read: {error!r}") from error
        if wrong := [name for name in cls.__dataclass_fields__ if not _is_valid(name, getattr(record, name))]:
            raise DamagedArchive(f"a record of an archive has the {wrong[0]} {getattr(record, wrong[0])!r}")
        return record


_COUNTS = frozenset({"size_bytes", "members", "member_bytes", "archive_version"})
_OPTIONAL = frozenset({"version_id", "checksum", "run_id", "encryption", "incomplete"})
_ADDED = frozenset({"encryption", "incomplete", "parts"})
"""Fields that the records of earlier releases lack."""


def _is_valid(name: str, value: object) -> bool:
    """True if a field of a record may have this value."""
    if name in _COUNTS:
        return _is_count(value)
    if name == "created_at":
        return type(value) in (int, float) and abs(cast("float", value)) < COUNT_MAX
    if name in ("location", "format"):
        return True
    if name == "parts":
        return all(_is_count(size) and is_text(digest) for size, digest in cast("list[Any]", value))
    return is_text(value) or (value is None and name in _OPTIONAL)


def _is_count(value: object, is_optional: bool = False) -> bool:
    return (type(value) is int and 0 <= value <= COUNT_MAX) or (value is None and is_optional)


def is_text(value: object) -> bool:
    """True for a text that UTF-8 can hold: JSON can hold a lone surrogate, UTF-8 cannot."""
    return isinstance(value, str) and not _SURROGATE.search(value)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where an archive's own index is. The numbers mean what they mean for a `Member`."""

    offset: int
    size_bytes: int
    frame_start: int | None = None
    frame_offset: int | None = None
    frame_length: int | None = None
    archive_version: int = ARCHIVE_VERSION

    def to_member(self) -> Member:
        """The index as the member that it is, whose bytes are found as any member's are."""
        return index_member(self.size_bytes)._replace(
            offset=self.offset,
            frame_start=self.frame_start,
            frame_offset=self.frame_offset,
            frame_length=self.frame_length,
        )

    def encode(self, kind: ArchiveFormat) -> bytes:
        """The end of an archive, whose last `LOCATOR_BYTES` hold the numbers.

        In `tar.zst` it is a frame that decoders skip. In a plain tar it comes after the tar's end,
        as a comment in a global PAX header. So `cat a.tar b.tar | tar -it` reads over it.
        """
        text = json.dumps({"sealift": asdict(self)}, separators=(",", ":"))
        if kind is ArchiveFormat.TAR_ZST:
            return _SKIPPABLE_HEADER + text.encode().ljust(LOCATOR_BYTES - len(_SKIPPABLE_HEADER))
        comment = text.ljust(LOCATOR_BYTES - len(_COMMENT) - 1)
        return tarfile.TarInfo.create_pax_global_header({"comment": comment})

    @classmethod
    def decode(cls, tail: bytes) -> Locator:
        """The locator in an archive's end. Raises DamagedArchive if it is not Sealift's, or cut
        short.
        """
        try:
            end = tail[-LOCATOR_BYTES:].removeprefix(_SKIPPABLE_HEADER).removeprefix(_COMMENT)
            data = json.loads(end)["sealift"]
            locator = cls(**data)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedArchive("the end of the archive does not say where its index is: it was cut short") from error
        required = {"offset", "size_bytes", "archive_version"}
        if not all(_is_count(value, name not in required) for name, value in asdict(locator).items()):
            raise DamagedArchive("the end of the archive says where its index is, but not in numbers of bytes")
        if locator.archive_version > ARCHIVE_VERSION:
            raise LaterArchive(f"the archive is of version {locator.archive_version}", advice="update Sealift")
        return locator
