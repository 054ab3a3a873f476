"""`sealift local` as a user has it: objects dropped into a bucket, and what the hot bucket holds a moment later."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.cli.local import SAMPLE
from tests.doubles.batch.account import await_value
from tests.doubles.local_process import LocalProcess, local_process

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample policy, impatient with its backlog."""
    file = tmp_path_factory.mktemp("local") / "policy.yaml"
    file.write_text(SAMPLE.replace("backlog_age: 2s", "backlog_age: 1s"))
    return str(file)


@pytest.fixture(scope="module")
def local(policy: str) -> Iterator[LocalProcess]:
    with local_process("--policy", policy) as made:
        yield made


def test_each_way_to_write_is_told_and_newer_versions_replace_older_ones(local: LocalProcess) -> None:
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
    assert local.versions_of("ways/put") == {b"one", b"two"}
    client.delete_object(Bucket="freight-in", Key="ways/put")
    client.delete_objects(Bucket="freight-in", Delete={"Objects": [{"Key": "ways/copy"}], "Quiet": True})
    local.await_copy("ways/put", None)
    local.await_copy("ways/copy", None)


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
    with local_process("--policy", policy) as local:
        local.put("k")
        local.put("large", os.urandom(9 * MIB))
        local.await_copy("k", b"body")
        await_value(
            lambda: len(processes_below(local.process.pid)) >= 2, 60
        )  # the server; then the large one's run too
        children = processes_below(local.process.pid)
        local.process.send_signal(signal.SIGTERM)
        local.process.send_signal(signal.SIGTERM)
        assert local.process.wait(timeout=30) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert not local.folder.exists()
