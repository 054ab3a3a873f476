"""Content of zstd frames, decompressed no further than it is wanted.

Format: https://www.rfc-editor.org/rfc/rfc8878#section-3.1
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

SLICE_BYTES = 512
"""So much is decoded at once: a block of four bytes can be 128 KiB of zeros, so this becomes 16 MiB at most."""

DECODED_BYTES = 1024**2
"""About how much decoded content is handed on at once."""


def decompress(frames: bytes | memoryview, size_bytes: int) -> bytes:
    """The first bytes of the frames' content. Raises ValueError for damaged frames."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as reader:
            return reader.read(size_bytes)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error


async def decompress_pieces(pieces: AsyncIterator[bytes], skip: int, left: int) -> AsyncGenerator[bytes, None]:
    """`left` bytes of the frames' content after `skip` others. Raises ValueError for damaged frames."""
    import zstandard

    decoder = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    ready = bytearray()
    async for piece in pieces:
        for start in range(0, len(piece), SLICE_BYTES):
            try:
                data = decoder.decompress(piece[start : start + SLICE_BYTES])
            except zstandard.ZstdError as error:
                raise ValueError(f"zstd: {error}") from error
            content = data[skip : skip + left]
            skip = max(0, skip - len(data))
            left -= len(content)
            ready += content
            if len(ready) >= DECODED_BYTES:
                yield bytes(ready)
                ready.clear()
    if ready:
        yield bytes(ready)
