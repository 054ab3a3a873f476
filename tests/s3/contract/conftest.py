"""The store under test."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from jobs.s3.sessions import open_store
from tests.doubles.memory_store import MemoryStore
from tests.doubles.servers import Server
from tests.s3.contract.checks import Subject


@pytest.fixture(scope="session")
def subjects() -> dict[str, Subject]:
    """Those that a test has asked for."""
    memory = MemoryStore()
    return {"memory": Subject(memory, memory.create_bucket)}


@pytest.fixture
def subject(store: str, subjects: dict[str, Subject], request: pytest.FixtureRequest) -> Subject:
    if store not in subjects:
        # With Ceph, that is the server of the fixture `seaweed`.
        server: Server = request.getfixturevalue("moto_server" if store == "moto" else "seaweed")
        subjects[store] = _subject_on(server.over_tls or server if store == "seaweedfs/tls" else server)
    return subjects[store]


def _subject_on(server: Server) -> Subject:
    client = server.client()

    def create_bucket(name: str, *, versioned: bool, object_lock: bool) -> None:
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if object_lock else {}))
        if versioned or object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    with mock.patch.dict(os.environ, server.environment()):
        return Subject(open_store(server.endpoint, None, None, max_in_flight=16), create_bucket)
