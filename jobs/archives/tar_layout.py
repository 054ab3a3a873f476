"""The layout of an archive's tar: headers, padding, offsets.

It is known before any content is moved. The standard library (`tarfile`) makes the headers, in the
PAX format: names in UTF-8, sizes above 8 GiB. What S3 said of a member is in its header as extended
attributes (`user.sealift.…`). Stock tar knows the form, and sets them if it is asked to
(`tar --xattrs`). Everything in a header comes from the member, so the same members make the same
archive.

Format: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13, and for
`SCHILY.xattr` https://www.gnu.org/software/tar/manual/html_node/Extended-File-Attributes.html
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from jobs.archives.member_names import INDEX_NAME, Names
from jobs.archives.model import BLOCK_BYTES, Member, index_member

END_OF_TAR = bytes(2 * BLOCK_BYTES)
"""Two empty blocks end a tar."""

ATTRIBUTE = "SCHILY.xattr.user.sealift."
_OWN_CHECKSUM = "header-crc32"


class Placed(NamedTuple):
    """A member with its `offset`, the header before its content, and the zeros after it."""

    member: Member
    header: bytes
    padding: bytes


class Layout:
    """Places members one after the other. `size_bytes` is the tar's length so far."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._names = Names()

    def place(self, member: Member) -> Placed:
        """Place the next member."""
        name = self._names.spell(member.key, member.version_id, member.is_latest)
        return self._place(member, _header(name, member, _records(name, member)))

    def place_index(self, size_bytes: int) -> Placed:
        """Place the archive's index of `size_bytes`, after all members."""
        index = index_member(size_bytes)
        return self._place(index, _header(INDEX_NAME, index, {f"{ATTRIBUTE}index": "1"}))

    def _place(self, member: Member, header: bytes) -> Placed:
        offset = self.size_bytes + len(header)
        padding = bytes(-member.size_bytes % BLOCK_BYTES)
        self.size_bytes = offset + member.size_bytes + len(padding)
        return Placed(member._replace(offset=offset), header, padding)


def encode_map(values: Mapping[str, str]) -> str:
    """Names and values as JSON, the same for equal maps whatever their order."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")) if values else ""


def _records(name: str, member: Member) -> dict[str, str]:
    """The PAX records, without empty ones, and a checksum over them."""
    checksums = {checksum.algorithm: checksum.value for checksum in member.checksums}
    records = {
        "key": json.dumps(member.key) if member.key != name else "",
        "version-id": member.version_id or "",
        "is-latest": "" if member.is_latest else "false",
        "etag": member.etag or "",
        "sha256": member.sha256 or "",
        "storage-class": member.storage_class if member.storage_class != "STANDARD" else "",
        "checksums": encode_map(checksums),
        "headers": encode_map(member.headers),
        "metadata": encode_map(member.metadata),
        "tags": encode_map(member.tags),
    }
    own = {record: value for record, value in records.items() if value}
    own[_OWN_CHECKSUM] = _own_checksum(name, member.size_bytes, int(member.last_modified), own)
    return {ATTRIBUTE + record: value for record, value in own.items()}


def _own_checksum(name: str, size_bytes: int, modified_at: int, own: Mapping[str, str]) -> str:
    """The CRC-32 of all that a header says, since PAX itself proves a header's first block only."""
    text = json.dumps([name, size_bytes, modified_at, own], sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"


def _header(name: str, member: Member, records: dict[str, str]) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = member.size_bytes, int(member.last_modified), 0o644
    entry.pax_headers = records
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
