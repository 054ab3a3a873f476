"""Frames of zstd: decompressed up to a place, or cut into their blocks before anything is decoded.

A few bytes of zstd can be megabytes of zeros. A block never decodes to more than `BLOCK_BYTES_MAX`,
so a decoder that gets one block at a time stays within bounds, whatever the frame claims.

Format: https://www.rfc-editor.org/rfc/rfc8878#section-3.1
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import NamedTuple

MAGIC = (0xFD2FB528).to_bytes(4, "little")
BLOCK_BYTES_MAX = 128 * 1024
"""The most that a block decodes to."""

DECODED_BYTES = 1024**2
"""About how much decoded content is handed on at once."""

_SKIPPABLE_MAGICS = range(0x184D2A50, 0x184D2A60)
_ID_BYTES = (0, 1, 2, 4)
_SIZE_BYTES = (0, 2, 4, 8)
_REPEATED, _COMPRESSED = 1, 2


class Piece(NamedTuple):
    """A frame's header, one of its blocks, or a part of a frame that decoders skip."""

    data: bytes
    is_first: bool = False
    is_skippable: bool = False


class FrameCutter:
    """Cuts frames that come in pieces of any size. It holds at most a block beside what it got."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skippable_bytes = 0
        self._is_in_frame = False
        self._has_checksum = False

    @property
    def held_bytes(self) -> int:
        """How many bytes were fed and not cut."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that are whole by now. Raises ValueError for bytes that are not zstd."""
        self._buffer += data
        while (piece := self._next()) is not None:
            yield piece

    def _next(self) -> Piece | None:
        if self._skippable_bytes:
            return self._skip(min(self._skippable_bytes, len(self._buffer)))
        return self._block() if self._is_in_frame else self._header()

    def _header(self) -> Piece | None:
        if len(self._buffer) < 4:
            return None
        magic = int.from_bytes(self._buffer[:4], "little")
        if magic in _SKIPPABLE_MAGICS:
            if len(self._buffer) < 8:
                return None
            self._skippable_bytes = 8 + int.from_bytes(self._buffer[4:8], "little")
            return self._next()
        if self._buffer[:4] != MAGIC:
            raise ValueError("no frame of zstd begins here")
        if len(self._buffer) < 5:
            return None
        flags = self._buffer[4]
        is_single = bool(flags & 0x20)
        sized = _SIZE_BYTES[flags >> 6] or int(is_single)
        size_bytes = 5 + (not is_single) + _ID_BYTES[flags & 3] + sized
        if len(self._buffer) < size_bytes:
            return None
        self._is_in_frame, self._has_checksum = True, bool(flags & 4)
        return Piece(self._take(size_bytes), is_first=True)

    def _block(self) -> Piece | None:
        if len(self._buffer) < 3:
            return None
        header = int.from_bytes(self._buffer[:3], "little")
        is_last, kind, size_bytes = bool(header & 1), header >> 1 & 3, header >> 3
        if kind > _COMPRESSED or size_bytes > BLOCK_BYTES_MAX:
            raise ValueError("a block of zstd is damaged")
        whole_bytes = 3 + (1 if kind == _REPEATED else size_bytes) + (4 if is_last and self._has_checksum else 0)
        if len(self._buffer) < whole_bytes:
            return None
        self._is_in_frame = not is_last
        return Piece(self._take(whole_bytes))

    def _skip(self, size_bytes: int) -> Piece | None:
        if not size_bytes:
            return None
        self._skippable_bytes -= size_bytes
        return Piece(self._take(size_bytes), is_skippable=True)

    def _take(self, size_bytes: int) -> bytes:
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken


def decompress(frames: bytes | memoryview, size_bytes: int) -> bytes:
    """The first bytes of the frames' content. Raises ValueError for damaged frames."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as reader:
            return reader.read(size_bytes)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error


async def decompress_pieces(pieces: AsyncIterator[bytes], skip: int, left: int) -> AsyncGenerator[bytes, None]:
    """`left` bytes of the frames' content after `skip` others. Raises ValueError for damaged frames.

    It is decoded block by block, because a few hundred bytes can be many MiB of zeros.
    """
    import zstandard

    cutter, decoder = FrameCutter(), zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    ready = bytearray()
    async for piece in pieces:
        try:
            for block in cutter.feed(piece):
                data = decoder.decompress(block.data)
                content = data[skip : skip + left]
                skip = max(0, skip - len(data))
                left -= len(content)
                ready += content
                if len(ready) >= DECODED_BYTES:
                    yield bytes(ready)
                    ready.clear()
        except zstandard.ZstdError as error:
            raise ValueError(f"zstd: {error}") from error
    if ready:
        yield bytes(ready)
