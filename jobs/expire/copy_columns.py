"""Columns of an expire run's shards: where each row's copy is, beside a usual shard's columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from jobs.archives.index_tables import SCHEMA as INDEX_FIELDS
from jobs.archives.index_tables import from_batch
from jobs.expire.rules import CopyAt
from jobs.tables.rows import fit, shard_schema

MEMBER = pa.struct([each.with_nullable(True) for each in INDEX_FIELDS])
_TEXTS = [pa.field(name, pa.string()) for name in ("copy_bucket", "copy_key", "copy_checksum")]
COPY_MEMBER: pa.Field[Any] = pa.field("copy_member", MEMBER)
SCHEMA = pa.schema([*shard_schema(), *_TEXTS, COPY_MEMBER])


def read_copies(batch: pa.RecordBatch) -> Iterator[CopyAt | None]:
    """Where the copies of a batch's rows are. None: a listing had none, or the row names half of one.

    Raises ArrowException, KeyError, ValueError or DamagedArchive for other columns.
    """
    members: Any = fit(batch, COPY_MEMBER)
    packed = from_batch(pa.RecordBatch.from_struct_array(members.drop_null()))
    texts = [fit(batch, each).to_pylist() for each in _TEXTS]
    for bucket, key, checksum, is_packed in zip(*texts, members.is_valid().to_pylist(), strict=True):
        member = next(packed) if is_packed else None
        yield None if bucket is None or key is None else CopyAt(bucket, key, member, checksum)
