"""What one writes first: boto3 with a pool of threads, or its paginator. No guards, no record of what was done.

python pool.py copy s3://bucket/prefix s3://bucket/prefix [--threads 16]
python pool.py list s3://bucket/prefix
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

PART_BYTES = 64 << 20


def split(uri: str) -> tuple[str, str]:
    """`s3://bucket/prefix` → (bucket, prefix)."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


def listed(client: Any, uri: str) -> Iterator[dict[str, Any]]:
    """Every object under the prefix, page by page."""
    bucket, prefix = split(uri)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def copy(client: Any, source: str, destination: str, threads: int) -> int:
    """Copy each object; multipart above the part size. Returns how many."""
    (bucket, prefix), (target, target_prefix) = split(source), split(destination)
    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=8)

    def one(entry: dict[str, Any]) -> None:
        origin = {"Bucket": bucket, "Key": entry["Key"]}
        key = target_prefix + entry["Key"][len(prefix) :]
        if entry["Size"] > PART_BYTES:
            client.copy(origin, target, key, Config=transfer)
        else:
            client.copy_object(CopySource=origin, Bucket=target, Key=key)

    with ThreadPoolExecutor(threads) as pool:
        return sum(1 for _ in pool.map(one, listed(client, source)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=["copy", "list"])
    parser.add_argument("uris", nargs="+")
    parser.add_argument("--threads", type=int, default=16)
    chosen = parser.parse_args()
    client = boto3.client("s3", config=Config(max_pool_connections=chosen.threads + 16))
    if chosen.act == "copy":
        print(copy(client, chosen.uris[0], chosen.uris[1], chosen.threads))
    else:
        print(sum(1 for _ in listed(client, chosen.uris[0])))


if __name__ == "__main__":
    main()
