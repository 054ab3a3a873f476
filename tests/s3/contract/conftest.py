"""The stores under test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from jobs.s3.sessions import open_store
from tests.doubles.ceph_server import is_on_ceph
from tests.doubles.memory_store import MemoryStore
from tests.doubles.servers import Server
from tests.s3.contract.checks import Subject


@pytest.fixture(scope="module")
def subjects(seaweed: Server, moto_server: Server) -> Iterator[dict[str, Subject]]:
    if is_on_ceph():  # Ceph takes the place of SeaweedFS then
        with mock.patch.dict(os.environ):
            yield {"ceph": _subject_on(seaweed), "ceph/botocore": _subject_on(seaweed, "botocore")}
        return
    memory = MemoryStore()
    assert seaweed.over_tls
    with mock.patch.dict(os.environ):
        yield {
            "memory": Subject(memory, memory.create_bucket),
            "moto": _subject_on(moto_server),
            "seaweedfs": _subject_on(seaweed),
            "seaweedfs/tls": _subject_on(seaweed.over_tls),
            "moto/botocore": _subject_on(moto_server, "botocore"),
            "seaweedfs/botocore": _subject_on(seaweed, "botocore"),
        }


def _subject_on(server: Server, client_name: str = "sealift") -> Subject:
    os.environ.update(server.environment() | {"SEALIFT_CLIENT": client_name})
    client = server.client()

    def create_bucket(name: str, *, versioned: bool, object_lock: bool) -> None:
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if object_lock else {}))
        if versioned or object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    return Subject(open_store(server.endpoint, None, None, max_in_flight=16), create_bucket)
