"""Archives: a member's record and place, and the locator of an archive's index.

An archive is a tar (POSIX.1-2001, PAX headers) or the same tar cut into independent zstd frames
(RFC 8878), so stock tools read either. Its last member is its index. Its last 512 bytes, which tar
and zstd skip, are the `Locator` of that index. One ranged read brings a member's bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

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
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
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


class ArchiveRecord(Struct, frozen=True):
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
    size_bytes: Count
    etag: str
    version_id: str | None
    storage_class: str
    members: Count
    member_bytes: Count
    first_key: str
    last_key: str
    source_bucket: str
    created_at: Annotated[float, msgspec.Meta(gt=-COUNT_MAX, lt=COUNT_MAX)]
    checksum: str | None = None
    run_id: str | None = None
    archive_version: Count = ARCHIVE_VERSION
    encryption: str | None = None
    incomplete: str | None = None
    parts: tuple[tuple[Count, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return shown | {"location": str(self.location)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchiveRecord:
        """The inverse of `to_dict`. Raises DamagedArchive for an invalid document or a later
        version.
        """
        try:
            if (version := data.get("archive_version", 0)) > ARCHIVE_VERSION:
                raise LaterArchive(f"{data.get('location')} is of archive version {version}", advice="update Sealift")
            return msgspec.convert(dict(data) | {"location": Location.parse(data["location"])}, cls)
        except (KeyError, ValueError, TypeError, AttributeError, UsageError) as error:
            raise DamagedArchive(f"a record of an archive cannot be read: {error!r}") from error


class Locator(Struct, frozen=True):
    """Where an archive's own index is. The numbers mean what they mean for a `Member`."""

    offset: Count
    size_bytes: Count
    frame_start: Count | None = None
    frame_offset: Count | None = None
    frame_length: Count | None = None
    archive_version: Count = ARCHIVE_VERSION

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
            locator = msgspec.json.decode(end, type=dict[Literal["sealift"], Locator])["sealift"]
        except (ValueError, KeyError, RecursionError) as error:
            raise DamagedArchive("the end of the archive does not say where its index is: it was cut short") from error
        if locator.archive_version > ARCHIVE_VERSION:
            raise LaterArchive(f"the archive is of version {locator.archive_version}", advice="update Sealift")
        return locator


class DamagedIndex(NamedTuple):
    """Why the index of an archive is of no use: it cannot be read, lacks members or is missing.

    `source_bucket`: the bucket of its members, if another record says it. `code`: the same for programs: `damaged`,
    `missing`, or what a caller found wrong with the archive itself or its place.
    """

    archive: Location
    reason: str
    source_bucket: str | None = None
    code: str = "damaged"
