"""The ledger of a released version, kept for the releases after it.

    python -m tests.ledger.keep_release CHECKOUT VERSION

CHECKOUT is a worktree at the version's tag. Its own command plays a small day against a server of
this machine, and `releases/VERSION.zip` keeps what is in the ledger then. `read_release` puts it into
a bucket of the same name.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.doubles.servers import seaweedfs

RELEASES = Path(__file__).parent / "releases"
SOURCE, COPIES, LEDGER = "kept-source", "kept-copies", "kept-ledger"
OBJECTS = {"docs/a": b"a", "docs/b": b"bb", "docs/c": b"ccc", "docs/lost": b"its copy is lost"}
LOST = "docs/lost"
DAY = (
    ("replicate", "--source", f"s3://{SOURCE}/docs/", "--destination", f"s3://{COPIES}/docs/"),
    ("verify", "--source", f"s3://{SOURCE}/docs/", "--destination", f"s3://{COPIES}/docs/"),
    ("reconcile", "--source", f"s3://{SOURCE}/docs/", "--destination", f"s3://{COPIES}/docs/", "--margin", "0s"),
    ("compact", "--source", f"s3://{SOURCE}/docs/", "--archives", f"s3://{COPIES}/archives", "--pack-all"),
    ("catalog", "rebuild"),
    ("nightly", "--pair", "docs", "--policy", "policy.yaml", "--night", "2026-11-24"),
)
"""What the release does, in this order. Before the second command the copy of `LOST` goes away."""
POLICY = f"""\
version: 1
ledger: {{bucket: {LEDGER}, region: us-east-1, prefix: sealift/}}
pairs:
  - name: docs
    source: {{bucket: {SOURCE}, region: us-east-1, prefixes: [docs/]}}
    destination: {{bucket: {COPIES}, region: us-east-1}}
"""


def main(checkout: Path, version: str) -> None:
    """Play the day with the code of the checkout, and keep its ledger."""
    with seaweedfs() as server:
        client = server.client()
        make_buckets(client)
        environment = os.environ | server.environment() | {"SEALIFT_LEDGER": f"s3://{LEDGER}/sealift"}
        (checkout / "policy.yaml").write_text(POLICY)
        for number, command in enumerate(DAY):
            if number == 1:
                client.delete_object(Bucket=COPIES, Key=LOST)
            run = [sys.executable, "-m", "jobs", *command]
            done = subprocess.run(run, cwd=checkout, env=environment, check=False, capture_output=True, text=True)
            print(" ".join(command), "→", done.returncode, done.stderr[-200:])
        RELEASES.mkdir(exist_ok=True)
        (RELEASES / f"{version}.zip").write_bytes(pack(client))


def make_buckets(client: Any) -> None:
    """The buckets of the day, with the objects of the source."""
    for bucket in (SOURCE, COPIES, LEDGER):
        client.create_bucket(Bucket=bucket)
    for key, body in OBJECTS.items():
        client.put_object(Bucket=SOURCE, Key=key, Body=body)


def pack(client: Any) -> bytes:
    """What is in the ledger, and the copies, as a zip file."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target:
        for bucket in (LEDGER, COPIES):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    if entry["Key"].endswith(".html"):  # for people alone
                        continue
                    body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    target.writestr(zipfile.ZipInfo(f"{bucket}/{entry['Key']}"), body, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def read_release(client: Any, version: str) -> None:
    """Put a kept ledger, its copies and its source into buckets of their names, in place of what is there."""
    make_buckets(client)
    for bucket in (COPIES, LEDGER):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=entry["Key"])
    with zipfile.ZipFile(RELEASES / f"{version}.zip") as kept:
        for name in kept.namelist():
            bucket, _, key = name.partition("/")
            client.put_object(Bucket=bucket, Key=key, Body=kept.read(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
