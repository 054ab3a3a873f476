"""Members of a tar that may be cut, damaged or foreign, found without an index. Pure.

The tar comes in pieces, and nothing of it is kept but the header that is being read. Where a
header is damaged, the next one is searched for. A member counts as whole only if a checksum in its
own header proves its content.

What is found may lie within another member, which can be a tar itself, also where the scan sees no
damage: exactly a member's header may be missing. So a member is in doubt unless the archive's own
index has it, with its checksum. What the index has and the scan does not find is lost. Behind a
damage (a block of zeros is one, and so is a member whose content is not proven) no size is believed
that would hide a member which the index has.
"""

from __future__ import annotations

import bisect
import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from jobs.archives.model import BLOCK_BYTES, COUNT_MAX, Locator, Member
from jobs.archives.own_index import OwnIndex, OwnMember, identity
from jobs.archives.reader import content_checksums
from jobs.archives.tar_layout import is_index, read_member
from jobs.core.evidence import is_md5
from jobs.errors import DamagedArchive
from jobs.s3.checksums import ALGORITHMS, Hasher

RECORDS_BYTES_MAX = 1024**2
"""The most that a member's PAX records may have. S3's own limits come to some 10 KiB."""

_MAGIC_AT = 257
_EMPTY = bytes(BLOCK_BYTES)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


_TOO_FAR = "it would reach over a member of the archive, so its size is not believed"
CUT_SHORT = "the archive was cut short: what came after is lost"
ENDS_WITHIN = "the archive ends within it"
NO_INDEX = "the archive's own index cannot be read: it may have had more members"
NOT_FOUND = "the archive's own index has it, but it is not in the archive any more"


class Condition(StrEnum):
    """What became of a member."""

    WHOLE = "whole"
    UNPROVEN = "unproven"
    LOST = "lost"


class Found(NamedTuple):
    """A member, or a part of the tar that holds none. `name` is empty for such a part.

    `member` is None if its header has no records of Sealift's, or is damaged. `reason` says why it
    is not whole. `is_in_doubt`: it may be a part of another member.
    """

    name: str
    size_bytes: int
    condition: Condition
    reason: str = ""
    member: Member | None = None
    is_in_doubt: bool = False


class Begun(NamedTuple):
    """A member whose content follows, in pieces (`bytes`), and then what became of it (`Found`)."""

    name: str
    member: Member
    is_in_doubt: bool = False


Event = Begun | bytes | Found


@dataclass(slots=True)
class _Entry:
    """The entry whose content is being read."""

    name: str
    size_bytes: int
    left_bytes: int
    padding_bytes: int
    member: Member | None
    proof: _Proof | None
    is_shown: bool
    own: bytes = b""
    """The `identity` of the member that the archive's own index has."""
    condition: Condition = Condition.UNPROVEN
    reason: str = "its header has no checksum of it"
    is_in_doubt: bool = True

    def found(self) -> Found:
        """What became of it, now that all of its content was read."""
        condition, reason = self.proof.condition() if self.proof is not None else (self.condition, self.reason)
        return Found(self.name, self.size_bytes, condition, reason, self.member, self.is_in_doubt)


@dataclass(slots=True)
class TarScan:
    """The scan of one tar, or of several one after the other.

    `index`: the archive's own. It may also be that of another archive, within a member where the
    archive was cut. So nothing is believed of one that lacks the first member, unless it moved. And
    nothing of one that moved, if the archive's beginning is damaged.
    """

    index: OwnIndex = field(default_factory=OwnIndex)
    _place: int | None = 0
    """Where the buffer begins in the tar. None: nobody knows."""
    _is_damaged: bool = False
    """True behind a damage, up to a member that the index has."""
    _is_confirmed: bool = False
    """True once a member was seen that the index has."""
    _has_members: bool = False
    _has_index: bool = False
    """True if the last entry was an index."""
    _whole: set[bytes] = field(default_factory=set)
    _reported: set[bytes] = field(default_factory=set)
    """The members of the index that were found whole, and all that were reported."""
    _own_places: list[int] = field(default_factory=list)
    """The places of the index's contents in order, once they are needed."""
    _buffer: bytearray = field(default_factory=bytearray)
    _entry: _Entry | None = None
    _records: dict[str, str] = field(default_factory=dict)
    _has_header: bool = False
    _skip_bytes: int = 0
    _is_searching: bool = False
    _unreadable_bytes: int = 0
    _is_ended: bool = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The next bytes of the tar."""
        self._buffer += data
        while True:
            before = len(self._buffer), self._entry
            if self._entry is not None:
                yield from self._content(self._entry)
            elif self._skip_bytes:
                self._skip_bytes -= len(self._take(self._skip_bytes))
            elif self._is_searching:
                yield from self._search()
            else:
                yield from self._header()
            if (len(self._buffer), self._entry) == before:
                return

    def locate(self, place: int) -> None:
        """The next bytes that are fed are at this place of the tar."""
        if self._place is None:
            self._place = place - len(self._buffer)

    def lose(self) -> Iterator[Event]:
        """Bytes are missing here, nobody knows how many."""
        yield from self._give_up("a part of the archive cannot be read")
        self._unreadable_bytes += len(self._take(len(self._buffer)))
        self._is_searching = self._is_damaged = True
        self._place = None

    def close(self) -> Iterator[Event]:
        """The end of all bytes."""
        yield from self._give_up(ENDS_WITHIN)
        self._unreadable_bytes += len(self._buffer)
        if self._unreadable_bytes:
            yield self._unreadable()
        elif self._is_searching or not self._is_ended:
            yield Found("", 0, Condition.LOST, CUT_SHORT)
        if not self._is_damaged and not self._has_index:
            self.index = OwnIndex()  # it lies within the last entry
        for name, own in self.index.members.items():
            if name not in self._reported:
                yield Found(own.key, own.size_bytes, Condition.LOST, NOT_FOUND, own.to_member())
        if self._has_members and not self.index.members:
            yield Found("", 0, Condition.LOST, NO_INDEX)

    def _content(self, entry: _Entry) -> Iterator[Event]:
        data = self._take(entry.left_bytes)
        entry.left_bytes -= len(data)
        if entry.proof is not None:
            entry.proof.update(data)
            if data:
                yield data
        if not entry.left_bytes:
            self._entry, self._skip_bytes = None, entry.padding_bytes
            if entry.is_shown:
                found = entry.found()
                # Where bytes are missing, what comes behind is a part of another member.
                self._is_damaged |= entry.member is not None and found.condition is not Condition.WHOLE
                yield self._report(found, entry.own)

    def _give_up(self, reason: str) -> Iterator[Event]:
        """The entry, or the header of one, whose rest does not come."""
        entry, self._entry, self._skip_bytes = self._entry, None, 0
        if entry is not None and entry.is_shown:
            found = Found(entry.name, entry.size_bytes, Condition.LOST, reason, entry.member, entry.is_in_doubt)
            yield self._report(found, entry.own)
        elif self._has_header:
            yield self._headless(reason)
        self._records, self._has_header = {}, False

    def _headless(self, reason: str) -> Found:
        name = self._records.get("path", "")
        self._records, self._has_header = {}, False
        return self._report(Found(name, 0, Condition.LOST, f"its header is damaged: {reason}"))

    def _report(self, found: Found, name: bytes = b"") -> Found:
        """What is reported of a member, with its key by the index if its own header has none."""
        if found.condition is Condition.LOST and found.member is None and found.name:
            left = (each for each in self.index.members.items() if each[0] not in self._reported)
            name, own = next((each for each in left if each[1].name == found.name), (b"", None))
            found = found._replace(member=None if own is None else own.to_member())
        self._reported.add(name)
        if found.condition is Condition.WHOLE:
            self._whole.add(name)
        return found

    def _header(self) -> Iterator[Event]:
        if len(self._buffer) < BLOCK_BYTES:
            return
        block = bytes(self._buffer[:BLOCK_BYTES])
        if block == _EMPTY:
            self._is_ended = self._is_damaged = True  # zeros may also be all that is left of a header
            self._take(BLOCK_BYTES)
            return
        header = _parsed(block)
        if header is None:
            if self._is_ended and _is_locator(block):
                self._take(BLOCK_BYTES)
                return
            if self._has_header:
                yield self._headless("its first block")
            self._is_searching = self._is_damaged = True
            self._unreadable_bytes = len(self._take(1))
            return
        if header.type in (*_RECORDS, *_LONG_NAMES, tarfile.XGLTYPE):
            yield from self._read_records(header)
            return
        self._take(BLOCK_BYTES)
        self._is_ended = False
        self._entry = self._begin(header)
        if self._hides(self._entry.left_bytes):
            self._entry = replace(
                self._entry, left_bytes=0, padding_bytes=0, proof=None, condition=Condition.LOST, reason=_TOO_FAR
            )
        if self._entry.proof is not None and self._entry.member is not None:
            yield Begun(self._entry.name, self._entry.member, self._entry.is_in_doubt)

    def _read_records(self, header: tarfile.TarInfo) -> Iterator[Event]:
        """The records before a member's header. Those of a whole archive say nothing of members."""
        if header.size > RECORDS_BYTES_MAX:
            yield self._headless("its records are too large")
            self._is_searching = self._is_damaged = True
            self._unreadable_bytes = len(self._take(BLOCK_BYTES))
            return
        whole_bytes = BLOCK_BYTES + header.size + -header.size % BLOCK_BYTES
        if self._hides(whole_bytes):
            yield self._headless(_TOO_FAR)
            self._is_searching = True
            self._unreadable_bytes = len(self._take(BLOCK_BYTES))
            return
        if len(self._buffer) < whole_bytes:
            self._has_header = self._has_header or header.type != tarfile.XGLTYPE
            return
        data = self._take(whole_bytes)[BLOCK_BYTES : BLOCK_BYTES + header.size]
        if header.type in _RECORDS:
            self._records |= _records(data)
        elif header.type == tarfile.GNUTYPE_LONGNAME:
            self._records["path"] = data.rstrip(b"\0").decode(errors="replace")
        self._has_header = header.type != tarfile.XGLTYPE
        if not self._has_header:
            self._is_ended = True

    def _begin(self, header: tarfile.TarInfo) -> _Entry:
        records, self._records = self._records, {}
        has_records, self._has_header = self._has_header, False
        name = records.get("path", header.name)
        size_bytes = _number(records.get("size"), header.size)
        modified_at = _number(records.get("mtime"), int(header.mtime))
        is_file = header.type in _FILES
        left_bytes = size_bytes if is_file or header.type not in tarfile.SUPPORTED_TYPES else 0
        entry = _Entry(name, size_bytes, left_bytes, -left_bytes % BLOCK_BYTES, None, None, not is_index(records))
        if not is_file:
            entry.reason = "it is not a file"
            return entry
        try:
            entry.member = read_member(name, size_bytes, modified_at, records)
        except DamagedArchive as error:
            entry.condition, entry.reason = Condition.LOST, str(error)
        if entry.is_shown and entry.member is not None:
            if self._is_damaged and not self._has_members and self.index.moved_bytes:
                self.index = OwnIndex()  # all that is left may be a part of a member, and so its index
            self._has_members = True
        own = self._own_member(entry.member)
        if entry.member is not None:
            entry.proof = _Proof.of(entry.member if own is None else entry.member._replace(sha256=own.sha256))
            if own is not None and (self._is_in_place(own) or (entry.proof is not None and entry.proof.is_strong)):
                entry.own, entry.is_in_doubt = identity(entry.member), False
        self._weigh(entry, has_records=has_records)
        return entry

    def _own_member(self, member: Member | None) -> OwnMember | None:
        """The index's row of a member that was not found whole yet."""
        if member is None or (name := identity(member)) in self._whole:
            return None
        own = self.index.members.get(name)
        return own if own is not None and member.sha256 in (None, own.sha256) else None

    def _is_in_place(self, own: OwnMember) -> bool:
        return self._place == own.offset and not self.index.moved_bytes

    def _weigh(self, entry: _Entry, *, has_records: bool) -> None:
        """What the entry says of the index, and of the size by which the next one is found."""
        self._has_index = not entry.is_shown
        if entry.own:
            self._is_damaged, self._is_confirmed = False, True
        elif entry.is_shown and entry.member is not None and not (self._is_damaged or self._is_confirmed):
            if not self.index.moved_bytes:
                self.index = OwnIndex()  # it is the index of another archive
        elif entry.is_shown and entry.member is None and has_records:
            self._is_damaged = True  # its size may be damaged, and so where the next one begins

    def _hides(self, size_bytes: int) -> bool:
        """Whether so many bytes, behind a damage, would reach over a member of the archive.

        An index that moved may lie within the member that is weighed here. So it says nothing of
        sizes before a member confirms it.
        """
        is_believed = self._is_confirmed or not self.index.moved_bytes
        if not self._is_damaged or self._place is None or not is_believed:
            return False
        self._own_places = self._own_places or self.index.places()
        following = bisect.bisect_right(self._own_places, self._place)
        return following < len(self._own_places) and self._own_places[following] < self._place + size_bytes

    def _search(self) -> Iterator[Event]:
        """Find the next header behind bytes that are none, at any place."""
        start = 0
        while (place := self._buffer.find(b"ustar", start)) >= 0:
            begin = place - _MAGIC_AT
            if begin >= 0:
                if len(self._buffer) < begin + BLOCK_BYTES:
                    break
                if _parsed(bytes(self._buffer[begin : begin + BLOCK_BYTES])) is not None:
                    self._unreadable_bytes += len(self._take(begin))
                    yield self._unreadable()
                    return
            start = place + 1
        self._unreadable_bytes += len(self._take(max(0, len(self._buffer) - BLOCK_BYTES)))

    def _unreadable(self) -> Found:
        size_bytes, self._unreadable_bytes, self._is_searching = self._unreadable_bytes, 0, False
        return Found("", size_bytes, Condition.LOST, "a part of the archive that cannot be read")

    def _take(self, size_bytes: int) -> bytes:
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        if self._place is not None:
            self._place += len(taken)
        return taken


@dataclass(slots=True)
class _Proof:
    """The content's checksum as it grows, and what it has to become."""

    member: Member
    known: str
    hasher: Any

    @classmethod
    def of(cls, member: Member) -> _Proof | None:
        """None if nothing in the header proves a content."""
        for checksum in content_checksums(member):
            if checksum.algorithm in ALGORITHMS:
                return cls(member, f"{checksum.algorithm}:{checksum.value}", Hasher(checksum.algorithm))
        if is_md5(member.etag):
            return cls(member, "", hashlib.md5(usedforsecurity=False))
        return None

    @property
    def is_strong(self) -> bool:
        """True if nobody can make another content that it proves as well, as with a CRC."""
        return not self.known or self.known.startswith("SHA")

    def update(self, data: bytes) -> None:
        """The next piece of the content."""
        self.hasher.update(data)

    def condition(self) -> tuple[Condition, str]:
        """What the whole content came to, and why it is not whole.

        The ETag of an object encrypted with KMS looks like an MD5: only an equal one proves
        anything.
        """
        if not self.known:
            is_proven = self.hasher.hexdigest() == self.member.etag
            return (Condition.WHOLE, "") if is_proven else (Condition.UNPROVEN, "its header has no checksum of it")
        if self.hasher.spelled() == self.known:
            return Condition.WHOLE, ""
        return Condition.LOST, f"its content is damaged: its {self.hasher.algorithm} is another"


def _parsed(block: bytes) -> tarfile.TarInfo | None:
    """The header in a block. None if its checksum says that it is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except tarfile.HeaderError:
        return None
    return header if 0 <= header.size <= COUNT_MAX else None


def _records(data: bytes) -> dict[str, str]:
    """PAX records: `LENGTH KEYWORD=VALUE` and a line's end, as far as they can be read."""
    records: dict[str, str] = {}
    start = 0
    while start < len(data):
        length, space, _ = data[start : start + 20].partition(b" ")
        if not (space and length.isdigit()):
            break
        end = start + int(length)
        keyword, equals, value = data[start + len(length) + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            break
        records[keyword.decode(errors="replace")] = value[:-1].decode(errors="replace")
        start = end
    return records


def _number(text: str | None, known: int) -> int:
    """A whole number in a record, else the one that the header's block has."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 20
    return min(int(text), COUNT_MAX) if text is not None and is_number else known


def _is_locator(block: bytes) -> bool:
    """True for the last block of a plain archive that has no comment around it."""
    try:
        Locator.decode(block)
    except DamagedArchive:
        return False
    return True
