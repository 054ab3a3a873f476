"""A bucket pair on a real S3 server, and the command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from jobs.core.model import Listed
from jobs.s3.lookup import key_history
from jobs.s3.sessions import open_store
from tests.doubles.json_documents import check_keys
from tests.doubles.servers import Server
from tests.doubles.tuning import tuned
from tests.end_to_end.commands import call

if TYPE_CHECKING:
    from tests.end_to_end.batch_workers import Fleet


SMALL_PARTS = {"PYTHONPATH": str(Path(__file__).parents[1] / "doubles" / "small_parts")}
"""Variables of a command that copies objects above 5 MiB in parts of 5 MiB. It has a process of its own."""


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, its JSON document (if asked for), stderr."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        check_keys(document)
        return document

    @property
    def has_no_answer(self) -> bool:
        """Nothing is on stdout or, with --json, the error alone."""
        return not self.stdout or self.document.keys() == {"error"}


@dataclass(frozen=True)
class World:
    """A source, a destination and a ledger bucket of one test."""

    server: Server
    client: Any
    source: str
    destination: str
    ledger: str

    @property
    def sides(self) -> list[str]:
        """The options that name both buckets."""
        return ["--source", f"s3://{self.source}", "--destination", f"s3://{self.destination}"]

    def environment(self, **extra: str) -> dict[str, str]:
        return tuned(os.environ | self.server.environment() | {"SEALIFT_LEDGER": f"s3://{self.ledger}/runs"} | extra)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", *arguments],
            env=self.environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sealift(self, *arguments: str, **extra: str) -> Result:
        if "PYTHONPATH" not in extra and threading.current_thread() is threading.main_thread():
            return Result(*call(arguments, self.environment(**extra)))
        process = self.start(*arguments, **extra)
        stdout, stderr = process.communicate(timeout=120)
        return Result(process.returncode, stdout, stderr)

    def run(self, job: str, *arguments: str, **extra: str) -> dict[str, Any]:
        """A replicate or verify run over the whole source; its report, with the exit code as `code`."""
        given = list(arguments)
        if "--manifest" not in given and "--source" not in given:
            given += ["--source", f"s3://{self.source}"]
        if "--destination" not in given:
            given += ["--destination", f"s3://{self.destination}"]
        result = self.sealift(job, *given, "--json", **extra)
        assert not result.has_no_answer, result.stderr
        return result.document | {"code": result.code}

    def put(self, key: str, body: bytes = b"content", **extra: Any) -> Any:
        return self.client.put_object(Bucket=self.source, Key=key, Body=body, **extra)

    def put_in_parts(self, key: str, body: bytes = b"content") -> None:
        """An object whose ETag is no MD5 of its content."""
        upload = {"Bucket": self.source, "Key": key}
        upload |= {"UploadId": self.client.create_multipart_upload(**upload)["UploadId"]}
        part = self.client.upload_part(**upload, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        self.client.complete_multipart_upload(**upload, MultipartUpload=parts)

    def read(self, bucket: str, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def fetch(self, uri: str) -> bytes:
        """What an s3:// address names."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.read(bucket, key)

    def copy_of(self, key: str) -> bytes:
        return self.read(self.destination, key)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def own_keys(self, bucket: str) -> list[str]:
        """Without what a plan or worker that was killed may leave of its trial."""
        return [key for key in self.keys(bucket) if ".sealift/trial-" not in key]

    def history(self, bucket: str, key: str) -> list[Listed]:
        """All versions of a key, oldest first."""
        with mock.patch.dict(os.environ, self.environment()):
            return asyncio.run(key_history(open_store(None, None, None, max_in_flight=2), bucket, key))

    def failed_rows(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of a run that ended badly."""
        import io

        import pyarrow.parquet as pq

        data = self.fetch(report["failures_manifest"])
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
        return rows


def make_world(server: Server, *, versioned: bool) -> World:
    client = server.client()
    name = uuid.uuid4().hex[:10]
    world = World(server, client, f"src-{name}", f"dst-{name}", f"led-{name}")
    for bucket in (world.source, world.destination, world.ledger):
        client.create_bucket(Bucket=bucket)
    if versioned:
        for bucket in (world.source, world.destination):
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return world


def discard(world: World) -> None:
    """Remove the buckets of a test."""
    discard_buckets(world.client, (world.source, world.destination, world.ledger))


def discard_buckets(client: Any, names: Iterable[str]) -> None:
    """Remove buckets, and with them the volumes that SeaweedFS keeps for each."""
    for bucket in names:
        client.delete_bucket(Bucket=bucket)


@pytest.fixture
def world(seaweed: Server) -> Iterator[World]:
    """Unversioned buckets."""
    made = make_world(seaweed, versioned=False)
    yield made
    discard(made)


@pytest.fixture
def versioned(seaweed: Server) -> Iterator[World]:
    """Versioned buckets."""
    made = make_world(seaweed, versioned=True)
    yield made
    discard(made)


@pytest.fixture
def yard(world: World, tmp_path: Path) -> Iterator[Fleet]:
    """A Batch beside the world, with nothing to carry."""
    from tests.end_to_end.batch_workers import open_yard  # which is made of what is here

    with open_yard(world, tmp_path) as fleet:
        yield fleet


@pytest.fixture
def fleet(yard: Fleet) -> Fleet:
    """The same with objects to carry."""
    from tests.end_to_end.batch_workers import fill

    fill(yard)
    return yard
