"""Restores: a tenth of what archives hold, against fetching each member by itself, and against untarring everything.

python -m tests.benchmarks.restores together|apart LEDGER                  read and prove the tenth, write nothing
python -m tests.benchmarks.restores loop LEDGER s3://DESTINATION/          a boto3 pool: a GET and a PUT for each member
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.benchmarks import peers
from tests.benchmarks.archives import compact
from tests.benchmarks.data import Dataset
from tests.benchmarks.peers import SEALIFT, Client, Run
from tests.benchmarks.workloads import Bench, Target, Workload, peak_mib, speed_against

if TYPE_CHECKING:
    from jobs.archives.model import ArchiveRecord, Member

SIZE_BYTES = 4096
PREFIXES = ("current/2020/01/0", "current/2020/01/10/")
"""Ten folders of a thousand each."""

THREADS = 32
APART = "one GET per member"


def _packed(bench: Bench) -> tuple[Dataset, Run, list[str]]:
    """100,000 members, the archives that hold them, made once."""
    dataset = Dataset("packed", bench.scaled(100_000), SIZE_BYTES)
    bench.data.key_file(dataset)
    run = Run("s3://bench-restore-archives/", "s3://bench-restore-ledger/ledger")
    if "restore" not in bench.prepared:
        for bucket in ("bench-restore-archives", "bench-restore-ledger"):
            bench.data.fresh_bucket(bucket)
        made = compact(dataset, "tar").command(run)
        subprocess.run(made, env=dict(bench.data.environment), check=True, stdout=subprocess.DEVNULL)
        bench.prepared["restore"] = run.destination
    pages = bench.data.client.list_objects_v2(Bucket="bench-restore-archives")
    return dataset, run, [entry["Key"] for entry in pages["Contents"]]


def restore(bench: Bench) -> Workload:
    """The tenth, from plan to report."""
    dataset, made, keys = _packed(bench)
    wanted = sum(name.startswith(PREFIXES) for name in dataset.names())
    program = f"'{peers.program('s5cmd')}' --log error"
    upload = f'mkdir out; mv current/2020/01/0? current/2020/01/10 out; {program} --numworkers 256 cp out/ "$0"'
    loop = [sys.executable, "-m", "tests.benchmarks.restores", "loop", made.ledger]

    def command(run: Run) -> list[str]:
        patterns = [word for prefix in PREFIXES for word in ("--include", f"{prefix}*")]
        places = ["--archives", made.destination, "--destination", run.destination, "--ledger", made.ledger]
        return peers.sealift("restore", *places, *patterns, "--yes", "--json")

    clients = [
        Client(SEALIFT, command),
        Client("s5cmd cat, tar, s5cmd cp", lambda run: ["sh", "-c", _untarred(keys, upload), run.destination]),
        Client(f"boto3 pool, {APART}", lambda run: [*loop, run.destination], rounds_max=1),
    ]
    targets = [
        Target("against a pool that reads member by member", speed_against("boto3"), at_least=2),
        Target("against untarring everything", speed_against("s5cmd"), at_least=3),
        Target("peak MiB of the largest process", peak_mib, at_most=400),
    ]
    title = f"Restore {wanted:,} of {dataset.count:,} members of 4 KiB (peers: content only, nothing proven)"
    return Workload("restore", title, wanted, SIZE_BYTES, clients, bench.environment, targets, wanted)


def reading(bench: Bench) -> Workload:
    """The same members read and proven, not written, which takes the most of a restore: what is saved of reading."""
    dataset, made, keys = _packed(bench)
    wanted = sum(name.startswith(PREFIXES) for name in dataset.names())
    program = [sys.executable, "-m", "tests.benchmarks.restores"]
    clients = [
        Client(SEALIFT, lambda _: [*program, "together", made.ledger]),
        Client(APART, lambda _: [*program, "apart", made.ledger], rounds_max=1),
        Client("s5cmd cat, tar", lambda _: ["sh", "-c", _untarred(keys)]),
    ]
    targets = [
        Target("against one GET per member", speed_against(APART), at_least=2),
        Target("against downloading and untarring everything", speed_against("s5cmd"), at_least=3),
    ]
    title = f"Read and prove {wanted:,} of {dataset.count:,} members of 4 KiB"
    return Workload("restore-read", title, wanted, SIZE_BYTES, clients, bench.environment, targets)


def _untarred(keys: list[str], then: str = "true") -> str:
    """A script that downloads and untars all archives into a folder of its own: in memory, where no disk slows it."""
    program = f"'{peers.program('s5cmd')}' --log error"
    cats = "; ".join(f"{program} cat 's3://bench-restore-archives/{key}' | tar -xf -" for key in keys)
    return f'set -e; folder=$(mktemp -d -p /dev/shm || mktemp -d); cd "$folder"; {cats}; {then}; cd /; rm -rf "$folder"'


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {"restore": restore, "restore-read": reading}


async def find_members(ledger: str) -> list[tuple[ArchiveRecord, list[Member]]]:
    """The tenth by archive, out of the index."""
    from jobs.archives.index import ArchiveIndex
    from jobs.core.model import Location
    from jobs.s3.sessions import open_store

    store = open_store(None, None, None)
    index = ArchiveIndex(store, Location.parse(ledger))
    found = []
    for record in await index.records():
        members = [
            each for prefix in PREFIXES async for part in index.members(record.location, prefix) for each in part
        ]
        found.append((record, members))
    await store.close()
    return found


async def read_all(ledger: str, *, is_coalesced: bool) -> dict[str, Any]:
    """How long it takes to read and prove the tenth, and by how many requests."""
    from jobs.archives import reader as archive_reader
    from jobs.archives.spans import GAP_BYTES
    from jobs.s3.byte_ranges import ByteBudget
    from jobs.s3.sessions import open_store

    if not is_coalesced:
        archive_reader.SPANS_AHEAD = 64
    found = await find_members(ledger)
    store = open_store(None, None, None)
    send, requests, members = store.transport.send, 0, 0

    async def counted(*given: Any, **more: Any) -> Any:
        nonlocal requests
        requests += 1
        return await send(*given, **more)

    store.transport.send = counted  # type: ignore[method-assign]  # of this one instance
    began = time.perf_counter()
    for record, wanted in found:
        reader = archive_reader.ArchiveReader(
            store, record, ByteBudget(64 << 20), gap_bytes=GAP_BYTES if is_coalesced else -(1 << 20)
        )
        async for batch in reader.read(wanted):
            members += sum(read.data is not None for read in batch)
    seconds = time.perf_counter() - began
    await store.close()
    return {"seconds": seconds, "requests": requests, "members": members}


def loop(ledger: str, destination: str) -> None:
    """The loop that one writes first, with the index's help: a ranged GET and a PUT for each member."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    bucket = destination.removeprefix("s3://").strip("/")

    def move(given: tuple[ArchiveRecord, Member]) -> None:
        record, member = given
        place = f"bytes={member.offset}-{member.offset + member.size_bytes - 1}"
        body = client.get_object(Bucket=record.location.bucket, Key=record.location.key, Range=place)["Body"].read()
        client.put_object(Bucket=bucket, Key=member.key, Body=body)

    with ThreadPoolExecutor(THREADS) as pool:
        everything = [(record, each) for record, members in asyncio.run(find_members(ledger)) for each in members]
        list(pool.map(move, everything))


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        loop(*sys.argv[2:])
    else:
        print(json.dumps({"read": asyncio.run(read_all(sys.argv[2], is_coalesced=sys.argv[1] == "together"))}))
