"""Commands on a server that ignores conditions of CopyObject, as moto does: refused, else nothing newer is replaced."""

from __future__ import annotations

import json

import pytest

from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, make_world


@pytest.fixture
def careless(moto_server: Server) -> World:
    """Unversioned buckets on such a server."""
    return make_world(moto_server, versioned=False)


def put_copy(world: World, key: str, body: bytes) -> None:
    world.client.put_object(Bucket=world.destination, Key=key, Body=body)


def test_such_a_server_is_refused_before_the_run_begins(careless: World) -> None:
    world = careless
    world.put("k")
    result = world.sealift("replicate", *world.sides, "--yes")
    assert result.code == 10
    assert "ignores conditions on CopyObject" in result.stderr
    assert "--unguarded" in result.stderr
    assert world.keys(world.destination) == []
    assert world.keys(world.ledger) == []


@pytest.mark.parametrize("overwrite", ["never", "older"])
def test_unguarded_a_newer_object_is_not_replaced(careless: World, overwrite: str) -> None:
    world = careless
    world.put("newer", b"old at the source")
    world.put("absent", b"absent at the destination")
    put_copy(world, "newer", b"written at the destination since")
    report = world.run("replicate", "--overwrite", overwrite, "--unguarded")
    assert report["outcomes"] == {"changed": 1, "done": 1}, json.dumps(report["reasons"])
    assert "CopyObject" in report["ignored_conditions"]
    assert world.copy_of("newer") == b"written at the destination since"
    assert world.copy_of("absent") == b"absent at the destination"
    assert len(world.keys(world.destination)) == 2
