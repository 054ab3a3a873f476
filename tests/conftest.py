"""Servers that live as long as the test session, and buckets on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server, moto, seaweedfs


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Server]:
    """A SeaweedFS of this test session."""
    with seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """A moto server of this test session."""
    with moto() as server:
        yield server
