"""Frames are cut at any boundary of what comes, and decode block by block to the same bytes."""

from __future__ import annotations

import contextlib
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.zstd_frames import BLOCK_BYTES_MAX, FrameCutter, Piece
from tests.doubles.examples import examples

SKIPPED = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"
contents = st.lists(
    st.binary(max_size=300)
    | st.integers(0, 400_000).map(bytes)
    | st.integers(1, 9).map(lambda seed: random.Random(seed).randbytes(200_000)),
    max_size=4,
)


def pieces_of(data: bytes, step: int) -> tuple[list[Piece], FrameCutter]:
    cutter = FrameCutter()
    return [piece for start in range(0, len(data), step) for piece in cutter.feed(data[start : start + step])], cutter


@given(contents, st.integers(1, 5000), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=examples(25), deadline=None)
def test_frames_decode_block_by_block(
    frames: list[bytes], step: int, checksum: bool, sized: bool, skippable: bool
) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=sized)
    data = b"".join(compressor.compress(each) + SKIPPED * skippable for each in frames)
    cut, cutter = pieces_of(data, max(step, len(data) // 50))
    assert cutter.held_bytes == 0
    assert b"".join(piece.data for piece in cut) == data
    assert sum(piece.is_first for piece in cut) == len(frames)
    decoder, decoded = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True), []
    for piece in cut:
        if not piece.is_skippable:
            decoded.append(decoder.decompress(piece.data))
    assert max(map(len, decoded), default=0) <= BLOCK_BYTES_MAX
    assert b"".join(decoded) == b"".join(frames)


@given(st.binary(max_size=300), st.integers(1, 40))
@settings(max_examples=examples(25))
def test_any_bytes_are_cut_or_refused(data: bytes, step: int) -> None:
    taken = b""
    with contextlib.suppress(ValueError):
        cutter = FrameCutter()
        for start in range(0, len(data), step):
            taken += b"".join(piece.data for piece in cutter.feed(data[start : start + step]))
    assert data.startswith(taken)


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame of zstd"):
        list(FrameCutter().feed(b"ustar"))
