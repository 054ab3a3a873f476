"""Archives read as anybody can, by the standard library's tar: the model's own look, which knows nothing of Sealift's.

An archive's members are what its PAX headers say; one that is found by the index is what lies at its place.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import zstandard

from jobs.archives.model import Member
from tests.doubles.memory_buckets import Version

_VENDOR = "SCHILY.xattr.user.sealift."


class Entry(NamedTuple):
    """A member of an archive, as its header describes it."""

    key: str
    version_id: str | None
    etag: str | None
    data: bytes
    carried: tuple[Mapping[str, str], ...]


@lru_cache(64)
def plain_tar(data: bytes) -> bytes:
    """The tar of an archive, whichever its format; empty for what cannot be decompressed."""
    if data[:4] != zstandard.FRAME_HEADER:
        return data
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read()
    except zstandard.ZstdError:
        return b""


@lru_cache(64)
def entries(data: bytes) -> tuple[Entry, ...]:
    """The members of an archive as far as it can be read; its own index is none."""
    found: list[Entry] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(plain_tar(data))) as tar:
            for each in tar:
                records: Mapping[str, Any] = each.pax_headers
                file = tar.extractfile(each)
                if f"{_VENDOR}index" in records or file is None:
                    continue
                key = json.loads(records[f"{_VENDOR}key"]) if f"{_VENDOR}key" in records else each.name
                carried = tuple(
                    json.loads(records.get(_VENDOR + name, "{}")) for name in ("headers", "metadata", "tags")
                )
                version_id, etag = records.get(f"{_VENDOR}version-id"), records.get(f"{_VENDOR}etag")
                found.append(Entry(key, version_id, etag, file.read(), carried))
    except (tarfile.TarError, ValueError, EOFError, OverflowError):
        pass
    return tuple(found)


def content_places(data: bytes) -> list[tuple[int, int]]:
    """Where in a plain tar its members' contents are."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return [(each.offset_data, each.offset_data + each.size) for each in tar if each.size]
    except (tarfile.TarError, ValueError, EOFError, OverflowError):
        return []


def at_its_place(data: bytes, member: Member) -> bytes | None:
    """The bytes that lie where the index says that a member is; None where nothing can be read."""
    if not member.size_bytes:
        return b""
    start, end = member.byte_range
    piece = data[start:end]
    if member.frame_offset is not None:
        try:
            with zstandard.ZstdDecompressor().stream_reader(piece, read_across_frames=True) as reader:
                piece = reader.read(member.skip_bytes + member.size_bytes)
        except zstandard.ZstdError:
            return None
    return piece[member.skip_bytes : member.skip_bytes + member.size_bytes]


def carried_by(version: Version) -> tuple[dict[str, str], ...]:
    """What an object carries besides its bytes."""
    attributes = version.attributes
    return dict(attributes.headers), dict(attributes.metadata), dict(attributes.tags)


def carried_in(member: Member) -> tuple[dict[str, str], ...]:
    """The same as the index has it."""
    return dict(member.headers), dict(member.metadata), dict(member.tags)
