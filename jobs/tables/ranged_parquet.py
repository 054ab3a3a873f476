"""Ranged reads of Parquet files in S3.

The footer comes first, then only the row groups that can hold what is sought.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from jobs.core.model import ObjectRef
from jobs.errors import DamagedArchive
from jobs.s3.retries import gather_bounded
from jobs.s3.store import Store

TAIL_BYTES = 64 * 1024
"""Read first: the footer of an index of `MEMBERS_MAX` rows is shorter."""

GROUPS_AT_ONCE = 4


class KeyRange(NamedTuple):
    """A row group's place in the file, and the least and greatest key in it (None: not known)."""

    number: int
    start: int
    end: int
    first_key: str | None
    last_key: str | None


class RangedTable(Struct, frozen=True):
    """A Parquet file whose footer is known. Every read is pinned to its ETag."""

    store: Store
    ref: ObjectRef
    etag: str
    size_bytes: int
    footer: Any

    def groups(self) -> Iterator[KeyRange]:
        """The row groups, in order. Raises DamagedArchive for one that cannot be in the file."""
        for number in range(self.footer.num_row_groups):
            with _undamaged(self.ref):
                group = self.footer.row_group(number)
                keys = group.column(0)
                start = keys.dictionary_page_offset or keys.data_page_offset
                end = start + sum(group.column(index).total_compressed_size for index in range(group.num_columns))
                is_known = keys.is_stats_set and keys.statistics.has_min_max
                ends = (keys.statistics.min, keys.statistics.max) if is_known else (None, None)
                if not 0 <= start < end <= self.size_bytes or not all(isinstance(key, str | None) for key in ends):
                    raise ValueError(f"row group {number} is not where the file is, or has no keys")
            yield KeyRange(number, start, end, *ends)

    async def read(self, group: KeyRange) -> pa.Table:
        """One row group, by one ranged read.

        Raises DamagedArchive for one that cannot be decoded.
        """
        body = await self.store.get(self.ref, start=group.start, end=group.end, if_match=self.etag)
        return await asyncio.to_thread(self._decode, group, body.data)

    async def scan(self, is_wanted: Callable[[KeyRange], bool] = lambda group: True) -> AsyncGenerator[pa.Table, None]:
        """The wanted row groups, in order, a few at once."""
        wanted = [group for group in self.groups() if is_wanted(group)]
        for start in range(0, len(wanted), GROUPS_AT_ONCE):
            for table in await gather_bounded(self.read, wanted[start : start + GROUPS_AT_ONCE], GROUPS_AT_ONCE):
                yield table

    def _decode(self, group: KeyRange, data: bytes) -> pa.Table:
        source = _Stretch(group.start, data, self.size_bytes)
        with _undamaged(self.ref):
            file = pq.ParquetFile(cast("Any", source), metadata=self.footer, page_checksum_verification=True)
            return file.read_row_group(group.number)


async def open_table(store: Store, ref: ObjectRef) -> RangedTable:
    """Read the footer (one request, two where it is long).

    Raises NotFound, and DamagedArchive for no Parquet.
    """
    info = await store.head(ref)
    start = max(0, info.size_bytes - TAIL_BYTES)
    tail = (await store.get(ref, start=start, if_match=info.etag)).data
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    with _undamaged(ref):
        if tail[-4:] != b"PAR1" or footer_bytes + 4 > info.size_bytes:
            raise ValueError("not a Parquet file, or cut short")
    if footer_bytes > len(tail):
        tail = (await store.get(ref, start=info.size_bytes - footer_bytes, if_match=info.etag)).data
    with _undamaged(ref):
        return RangedTable(store, ref, info.etag, info.size_bytes, pq.read_metadata(io.BytesIO(tail[-footer_bytes:])))


def overlaps(prefix: str) -> Callable[[KeyRange], bool]:
    """Whether a row group can hold keys that begin with the prefix."""
    size = len(prefix)
    return lambda group: (
        group.first_key is None or group.last_key is None or group.first_key[:size] <= prefix <= group.last_key[:size]
    )


def holds_any(keys: Sequence[str] | None, first_key: str | None, last_key: str | None) -> bool:
    """Whether one of the keys, which are in order, is between these. `keys` None: any."""
    if keys is None or first_key is None or last_key is None:
        return True
    place = bisect_left(keys, first_key)
    return place < len(keys) and keys[place] <= last_key


@contextlib.contextmanager
def _undamaged(ref: ObjectRef) -> Iterator[None]:
    """Whatever pyarrow says of a file within is a DamagedArchive."""
    try:
        yield
    except (pa.ArrowException, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise DamagedArchive(
            f"{ref} is damaged ({error})", advice="rebuild it with sealift archives reindex"
        ) from error


class _Stretch(io.BytesIO):
    """A file of which only one stretch is there. To seek before it is a ValueError."""

    def __init__(self, start: int, data: bytes, size_bytes: int):
        super().__init__(data)
        self._start, self._size_bytes = start, size_bytes

    def tell(self) -> int:
        return super().tell() + self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size_bytes}[whence]
        return super().seek(base + offset - self._start) + self._start
