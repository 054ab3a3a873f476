"""What the benchmark works on: buckets of made-up objects, and key files for the raw loop and the planner."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import raw


@dataclass(frozen=True, slots=True)
class Dataset:
    """`count` objects of `size_bytes` in a bucket of their own; keys as a document archive has them."""

    name: str
    count: int
    size_bytes: int

    @property
    def bucket(self) -> str:
        return f"bench-{self.name}"

    def names(self) -> list[str]:
        """`current/2020/03/07/shipment-0000123.pdf`: a thousand to a folder, six tenths in `current/`."""
        current = self.count * 6 // 10
        return [
            f"{'current' if i < current else 'archive'}/{2020 + i // 336_000}/{i // 28_000 % 12 + 1:02d}/"
            f"{i // 1000 % 28 + 1:02d}/shipment-{i:07d}.pdf"
            for i in range(self.count)
        ]


class Data:
    """Makes datasets when they are first asked for. `folder` keeps their key files."""

    def __init__(self, client: Any, environment: Mapping[str, str], folder: Path) -> None:
        self.client, self.environment, self.folder = client, environment, folder
        self._made: set[str] = set()

    def key_file(self, dataset: Dataset) -> Path:
        """The dataset's JSON lines for the raw loop; the objects exist afterwards."""
        path = self.folder / f"{dataset.name}.jsonl"
        if dataset.name in self._made:
            return path
        print(f"making {dataset.count:,} objects of {dataset.size_bytes:,} bytes in {dataset.bucket} …", flush=True)
        with path.open("w") as lines:
            for key in dataset.names():
                etag = hashlib.md5(raw.content(key, dataset.size_bytes), usedforsecurity=False).hexdigest()
                lines.write(json.dumps([dataset.bucket, key, etag, dataset.size_bytes]) + "\n")
        self.fresh_bucket(dataset.bucket)
        inflight = "64" if dataset.size_bytes < 1 << 20 else "2"
        command = [sys.executable, raw.__file__, "put", str(path), "--inflight", inflight]
        subprocess.run(command, env=dict(self.environment), check=True)
        self._made.add(dataset.name)
        return path

    def fresh_bucket(self, name: str) -> str:
        """An empty bucket that was written to: SeaweedFS takes 0.2 or 1 s for the first object of a bucket, which would
        be most of what a small run takes.
        """
        self.client.create_bucket(Bucket=name)
        self.client.put_object(Bucket=name, Key="first", Body=b"first")
        self.client.delete_object(Bucket=name, Key="first")
        return name

    def count(self, bucket: str, prefix: str = "") -> int:
        """How many objects the bucket holds."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sum(page["KeyCount"] for page in pages)

    def remove(self, bucket: str) -> None:
        """The bucket and all in it."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            if entries := page.get("Contents", []):
                doomed = [{"Key": entry["Key"]} for entry in entries]
                self.client.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})
        self.client.delete_bucket(Bucket=bucket)

    def parquet_manifest(self, rows: int, size_bytes: int, bucket: str, *, months: int = 0) -> str:
        """A Parquet manifest of `rows` small objects that need not exist; returns its URI.

        `months`: over how many, from 2024 on, they were written, in another order than that of their keys (0: undated).
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / f"manifest-{rows}-{months}.parquet"
        keys = Dataset("manifest", rows, size_bytes).names()
        etag = hashlib.md5(raw.content("", size_bytes), usedforsecurity=False).hexdigest()
        columns: dict[str, pa.Array[Any]] = {
            "bucket": pa.array([bucket] * rows),
            "key": pa.array(keys),
            "size_bytes": pa.array([size_bytes] * rows, pa.int64()),
            "etag": pa.array([etag] * rows),
            "storage_class": pa.array(["STANDARD"] * rows),
        }
        if months:
            seconds = [1_704_067_200 + i * 7_919_993 % (months * 2_629_800) for i in range(rows)]
            columns["last_modified"] = pa.array(seconds, pa.timestamp("s", "UTC"))
        pq.write_table(pa.table(columns), path, row_group_size=100_000)
        if "bench-manifests" not in self._made:
            self.fresh_bucket("bench-manifests")
            self._made.add("bench-manifests")
        self.client.upload_file(str(path), "bench-manifests", path.name)
        os.unlink(path)
        return f"s3://bench-manifests/{path.name}"
