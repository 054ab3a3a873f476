"""What tests of archives do and look at."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any
from unittest import mock

import pyarrow as pa

from jobs.archives.index import ArchiveIndex, IndexedMember
from jobs.core.model import Location
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from jobs.tables.rows import write_parquet
from tests.archives.samples import read_member
from tests.end_to_end.conftest import World

ALL = "--pack-all"


def compact(world: World, *arguments: str, **extra: str) -> dict[str, Any]:
    """A compaction of the whole source; its report, with the exit code as `code`."""
    given = list(arguments)
    if "--manifest" not in given and "--source" not in given:
        given += ["--source", f"s3://{world.source}"]
    result = world.sealift("compact", *given, "--destination", f"s3://{world.destination}/packed", "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def using(world: World, work: Callable[[RestStore, ArchiveIndex], Any]) -> Any:
    """What `work` answers, with a store and the index of the world's ledger."""

    async def run() -> Any:
        store = open_store(None, None, None, max_in_flight=8)
        try:
            return await work(store, ArchiveIndex(store, Location(world.ledger, "runs")))
        finally:
            await store.close()

    with mock.patch.dict(os.environ, world.environment()):
        return asyncio.run(run())


def contents(world: World) -> dict[str, bytes]:
    """Every member of every archive, read by its own range, proven by its SHA-256: key → content."""

    async def work(store: RestStore, index: ArchiveIndex) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for record in await index.records():
            async for members in index.members(record.location):
                for member in members:
                    assert member.key not in found
                    found[member.key] = await read_member(store, record, member)
        return found

    found: dict[str, bytes] = using(world, work)
    return found


def find(world: World, key: str) -> list[IndexedMember]:
    async def work(store: RestStore, index: ArchiveIndex) -> list[IndexedMember]:
        return await index.find(key, await index.records())

    found: list[IndexedMember] = using(world, work)
    return found


def archive_keys(world: World) -> list[str]:
    return world.keys(world.destination, "packed/")


def fill(world: World, count: int = 40) -> dict[str, bytes]:
    rng = random.Random(1)
    objects = {f"docs/{n % 4}/{n:03}.json": rng.randbytes(rng.randrange(3000)) for n in range(count)}
    for key, data in objects.items():
        world.put(key, data, ContentType="application/json", Metadata={"n": key[-8:-5]})
    return objects


def index_keys(world: World) -> list[str]:
    return [key for key in world.keys(world.ledger, "runs/archives/") if key.endswith(".parquet")]


EVERYTHING = ("--include", "*")


def restore(world: World, *arguments: str, **extra: str) -> dict[str, Any]:
    """A restore out of the packed archives, to `back/`; its report, with the exit code as `code`."""
    given = list(arguments)
    if "--source" not in given and "--archives" not in given:
        given += ["--archives", f"s3://{world.destination}/packed"]
    if "--destination" not in given:
        given += ["--destination", f"s3://{world.destination}/back/"]
    result = world.sealift("restore", *given, "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def restored(world: World) -> dict[str, bytes]:
    """The objects below back/: key → content."""
    return {key.removeprefix("back/"): world.copy_of(key) for key in world.keys(world.destination, "back/")}


def manifest(world: World, **columns: list[Any]) -> str:
    world.client.put_object(Bucket=world.ledger, Key="rows.parquet", Body=write_parquet(pa.table(columns)))
    return f"s3://{world.ledger}/rows.parquet"
