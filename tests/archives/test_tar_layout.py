"""The layout alone: offsets before a byte is there, headers that stock tar reads, sizes beyond what is in memory."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from jobs.archives.model import BLOCK_BYTES, Member
from jobs.archives.tar_layout import END_OF_TAR, Layout

sizes = st.integers(0, 3000) | st.sampled_from([8 * 1024**3 - 1, 8 * 1024**3, 48 * 1024**4])


def described(key: str, size_bytes: int) -> Member:
    return Member(key, None, True, size_bytes, "e", 1.0, "STANDARD", {}, {}, {})


@given(st.lists(st.tuples(st.text(min_size=1, max_size=150), sizes), max_size=10))
def test_offsets_are_known_before_any_content(members: list[tuple[str, int]]) -> None:
    layout, end = Layout(), 0
    for key, size_bytes in members:
        placed = layout.place(described(key, size_bytes))
        assert len(placed.header) % BLOCK_BYTES == 0
        assert placed.member.offset == end + len(placed.header)
        end = placed.member.offset + size_bytes + len(placed.padding)
        assert end % BLOCK_BYTES == 0
        assert len(placed.padding) < BLOCK_BYTES
        with tarfile.open(fileobj=io.BytesIO(placed.header + END_OF_TAR)) as tar:
            entry = tar.next()
        assert entry is not None
        assert (entry.size, entry.mode, entry.uid) == (size_bytes, 0o644, 0)
        assert layout.size_bytes == end
