"""The loop that one writes first: boto3 threads read ahead, tarfile writes, smart_open streams up.

python tar_loop.py s3://bucket/ s3://bucket/key.tar
"""

from __future__ import annotations

import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

THREADS = 32


def tar_by_loop(source: str, destination: str) -> None:
    """Every object of the source bucket into one tar."""
    import boto3
    from botocore.config import Config
    from smart_open import open as open_anywhere

    client = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    bucket = source.removeprefix("s3://").strip("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(key: str) -> bytes:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    with (
        ThreadPoolExecutor(THREADS) as pool,
        open_anywhere(destination, "wb", transport_params={"client": client}) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,
    ):
        for start in range(0, len(keys), 4 * THREADS):
            some = keys[start : start + 4 * THREADS]
            for key, data in zip(some, pool.map(read, some), strict=True):
                entry = tarfile.TarInfo(key)
                entry.size = len(data)
                tar.addfile(entry, BytesIO(data))


if __name__ == "__main__":
    tar_by_loop(*sys.argv[1:])
