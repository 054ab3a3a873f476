"""`sealift local` as a user has it: objects dropped into a bucket, and what the hot bucket holds a moment later."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest

from jobs.cli.local import SAMPLE
from tests.doubles.local_process import local_process
from tests.end_to_end.commands import call

AWAIT_SECONDS = 60.0
MIB = 1024 * 1024


@dataclass
class Local:
    """A running system, and a shell beside it with its environment."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    folder: Path
    client: Any = None
    statuses: list[dict[str, Any]] = field(default_factory=list)

    def sealift(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        code, stdout, stderr = call([*arguments, "--json"], os.environ | self.environment)
        assert stdout, stderr
        return code, json.loads(stdout)

    def copy_of(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket="freight-hot", Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def put(self, key: str, body: bytes = b"body") -> None:
        self.client.put_object(Bucket="freight-in", Key=key, Body=body)

    def await_copy(self, key: str, body: bytes | None) -> float:
        """How long it took until the copy was as it should be."""
        began = time.monotonic()
        while self.copy_of(key) != body:
            assert time.monotonic() - began < AWAIT_SECONDS, f"{key} was not backed up; {self.statuses[-1:]}"
            time.sleep(0.005)
        return time.monotonic() - began

    def await_status(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status, of those to come, that holds."""
        deadline = time.monotonic() + AWAIT_SECONDS
        assert self.process.stdout is not None
        while time.monotonic() < deadline:
            status = json.loads(self.process.stdout.readline())
            self.statuses.append(status)
            if holds(status):
                return status
        raise AssertionError(f"it did not come to that: {self.statuses[-1]}")


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Local]:
    with local_process(*arguments) as started:
        local = Local(started.process, started.environment, started.folder)
        with mock.patch.dict(os.environ, local.environment):
            local.client = boto3.Session().client("s3")  # the default session keeps the keys of an earlier system
        yield local


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample policy, impatient with its backlog."""
    file = tmp_path_factory.mktemp("local") / "policy.yaml"
    file.write_text(SAMPLE.replace("backlog_age: 2s", "backlog_age: 1s"))
    return str(file)


@pytest.fixture(scope="module")
def local(policy: str) -> Iterator[Local]:
    with running("--policy", policy) as made:
        yield made


def test_each_way_to_write_is_told_and_newer_versions_replace_older_ones(local: Local) -> None:
    client = local.client
    local.put("ways/put", b"one")
    local.put("ways/put", b"two")
    client.copy_object(Bucket="freight-in", Key="ways/copy", CopySource={"Bucket": "freight-in", "Key": "ways/put"})
    upload = client.create_multipart_upload(Bucket="freight-in", Key="ways/parts")["UploadId"]
    given = {"Bucket": "freight-in", "Key": "ways/parts", "UploadId": upload}
    part = client.upload_part(**given, PartNumber=1, Body=b"p" * 5 * MIB)
    client.complete_multipart_upload(**given, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    local.await_copy("ways/put", b"two")
    local.await_copy("ways/copy", b"two")
    local.await_copy("ways/parts", b"p" * 5 * MIB)
    versions = client.list_object_versions(Bucket="freight-hot", Prefix="ways/put")["Versions"]
    ids = [each["VersionId"] for each in versions]
    found = [client.get_object(Bucket="freight-hot", Key="ways/put", VersionId=each)["Body"].read() for each in ids]
    assert set(found) == {b"one", b"two"}
    client.delete_object(Bucket="freight-in", Key="ways/put")
    client.delete_objects(Bucket="freight-in", Delete={"Objects": [{"Key": "ways/copy"}], "Quiet": True})
    local.await_copy("ways/put", None)
    local.await_copy("ways/copy", None)


@pytest.mark.slow
def test_what_is_too_large_becomes_a_run_by_itself(local: Local) -> None:
    body = os.urandom(9 * MIB)
    local.put("large", body)
    local.await_copy("large", body)
    local.await_status(lambda status: status["runs"] == 0 and any("backfill" in each for each in status["told"]))
    code, listed = local.sealift("runs", "list")
    assert code == 0
    assert [run["job"] for run in listed["runs"]][:1] == ["replicate"]


def processes_below(parent: int) -> set[int]:
    """The children of a process, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, more = set[int](), {parent}
    while more := {pid for pid, above in parents.items() if above in more}:
        found |= more
    return found


@pytest.mark.slow
def test_it_ends_all_that_it_started_and_leaves_nothing(policy: str) -> None:
    with running("--policy", policy) as local:
        local.put("k")
        local.put("large", os.urandom(9 * MIB))
        local.await_copy("k", b"body")
        deadline = time.monotonic() + AWAIT_SECONDS
        while len(children := processes_below(local.process.pid)) < 2:  # the server; then the large one's run too
            assert time.monotonic() < deadline
            time.sleep(0.01)
        local.process.send_signal(signal.SIGTERM)
        local.process.send_signal(signal.SIGTERM)
        assert local.process.wait(timeout=30) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert not local.folder.exists()
