"""Archives: packing many objects, against what people use today, and reading one member again.

python -m tests.benchmarks.archives s5cmd|aws|smart_open SOURCE DESTINATION     download, tar, upload
python -m tests.benchmarks.archives read LEDGER KEY                             one member, by the index
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import peers, tar_loop
from tests.benchmarks.data import Dataset
from tests.benchmarks.peers import SEALIFT, Client, Run
from tests.benchmarks.workloads import (
    MIB,
    Bench,
    Samples,
    Target,
    Workload,
    cpu_ms_per,
    peak_mib,
    uri,
)
from tests.doubles.servers import REGION

READS = 20
PLAIN = f"{SEALIFT}, plain tar"


def compact(dataset: Dataset, kind: str) -> Client:
    """`sealift compact`, whatever it saves."""

    def command(run: Run) -> list[str]:
        options = ["--pack-all", "--yes", "--json", "--ledger", run.ledger]
        if kind == "tar":  # which a rule of a policy asks for
            options += ["--policy", _policy(dataset, run), "--pair", "all", "--rule", "all"]
            return peers.sealift("compact", *options)
        return peers.sealift("compact", "--source", uri(dataset), "--archives", run.destination, *options)

    return Client(SEALIFT if kind == "tar.zst" else PLAIN, command)


def _policy(dataset: Dataset, run: Run) -> str:
    """A file with a policy that packs all of a dataset into plain tars."""

    def place(where: str) -> dict[str, str]:
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        return {"bucket": bucket, "region": REGION, "prefix": prefix}

    rule = {"name": "all", "older_than": "0s", "format": "tar", "smaller_than": "5GiB"}
    pair = {
        "name": "all",
        "source": {"bucket": dataset.bucket, "region": REGION},
        "destination": {"bucket": f"{dataset.bucket}-copies", "region": REGION},
        "archive": place(run.destination) | {"rules": [rule]},
    }
    policy = {"version": 1, "ledger": place(f"{run.ledger}/"), "pairs": [pair]}
    file = Path(tempfile.mkdtemp(prefix="sealift-bench-")) / "policy.yaml"
    file.write_text(json.dumps(policy))
    return str(file)


def by_shell(name: str, down: str, up: str, rounds_max: int = 99) -> Client:
    """Everything down into a folder, tar, the tar up: as a shell does it."""
    script = f'set -e; folder=$(mktemp -d); cd "$folder"; {down}; tar -cf - . | {up} "$0"; cd /; rm -rf "$folder"'
    return Client(name, lambda run: ["sh", "-c", script, f"{run.destination}peer.tar"], rounds_max=rounds_max)


def s5cmd_tar(dataset: Dataset) -> Client:
    """`s5cmd cp`, `tar`, `s5cmd pipe`."""
    program = f"'{peers.program('s5cmd')}' --log error"
    return by_shell(
        "s5cmd cp, tar, s5cmd pipe", f"{program} --numworkers 256 cp '{uri(dataset)}*' .", f"{program} pipe"
    )


def aws_tar(dataset: Dataset) -> Client:
    """`aws s3 sync`, `tar`, `aws s3 cp`."""
    program = f"'{peers.program('aws')}' s3"
    down = f"{program} sync '{uri(dataset)}' . --only-show-errors"
    return by_shell("aws s3 sync, tar, aws s3 cp", down, f"{program} cp --only-show-errors -", 1)


def loop_tar(dataset: Dataset) -> Client:
    """The loop that one writes first: boto3 threads read ahead, tarfile writes, smart_open streams up."""
    command = [sys.executable, tar_loop.__file__, uri(dataset)]
    return Client("smart_open and tarfile loop", lambda run: [*command, f"{run.destination}peer.tar"], rounds_max=1)


def _speed(own: str) -> Callable[[Samples], float | None]:
    """How many times as fast as the quickest peer the client called `own` is."""

    def value(samples: Samples) -> float | None:
        seconds = {name: median(s.wall_seconds for s in runs) for name, runs in samples.items() if runs}
        others = [each for name, each in seconds.items() if not name.startswith(SEALIFT)]
        return min(others) / seconds[own] if others and own in seconds else None

    return value


def untagged(bench: Bench) -> Dataset:
    """Small objects without tags: whoever keeps tags needs one request for each here, as whoever does not."""
    return replace(bench.small(), name="untagged", is_tagged=False)


def _packing(bench: Bench, dataset: Dataset, name: str, size: str) -> Workload:
    bench.data.key_file(dataset)
    clients = [
        compact(dataset, "tar.zst"),
        compact(dataset, "tar"),
        s5cmd_tar(dataset),
        aws_tar(dataset),
        loop_tar(dataset),
    ]
    targets = [
        Target("objects per second against the best peer", _speed(SEALIFT), at_least=1.5),
        Target("the same, as a plain tar", _speed(PLAIN), at_least=1.5),
        Target("peak MiB of the largest process", peak_mib, at_most=400),
    ]
    if dataset.size_bytes < MIB:
        targets.append(Target("CPU milliseconds per object, all included", cpu_ms_per(dataset.count), at_most=0.5))
    kept = "tags and metadata kept" if dataset.is_tagged else "metadata kept; there are no tags"
    title = f"Pack {dataset.count:,} × {size} into archives, {kept} (peers: content only)"
    return Workload(name, title, dataset.count, dataset.size_bytes, clients, bench.environment, targets)


def one_member(bench: Bench) -> Workload:
    """Out of an archive of 1 GiB, which is made first."""
    dataset = Dataset("mib", bench.scaled(1_000), MIB)
    bench.data.key_file(dataset)
    run = Run("s3://bench-member-archives/", "s3://bench-member-ledger/ledger")
    if "member" not in bench.prepared:
        for name in ("archives", "ledger"):
            bench.data.fresh_bucket(f"bench-member-{name}")
        made = compact(dataset, "tar").command(run)
        subprocess.run(made, env=dict(bench.data.environment), check=True, stdout=subprocess.DEVNULL)
        bench.prepared["member"] = run.ledger
    key = dataset.names()[dataset.count // 2]
    command = [sys.executable, "-m", "tests.benchmarks.archives", run.ledger, key]
    targets = [
        Target("milliseconds a member, after the index", _reported("milliseconds"), at_most=100),
        Target("requests, after the index", _reported("requests"), at_most=2),
        Target("KiB read beyond the member", _reported("extra_kib"), at_most=64),
        Target("requests of the index, once the directory is there", _reported("index_requests"), at_most=5),
    ]
    title = f"Read one member of 1 MiB out of an archive of {dataset.count:,}, {READS} times"
    clients = [Client(SEALIFT, lambda _: command)]
    return Workload("member", title, READS, MIB, clients, bench.environment, targets)


def _reported(name: str) -> Callable[[Samples], float | None]:
    def value(samples: Samples) -> float | None:
        runs = samples.get(SEALIFT)
        return median(json.loads(sample.output)["read"][name] for sample in runs) if runs else None

    return value


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {
    "pack-small": lambda bench: _packing(bench, bench.small(), "pack-small", "4 KiB"),
    "pack-untagged": lambda bench: _packing(bench, untagged(bench), "pack-untagged", "4 KiB"),
    "pack-mib": lambda bench: _packing(bench, Dataset("mib2", bench.scaled(2_000), MIB), "pack-mib", "1 MiB"),
    "member": one_member,
}


async def read_one(ledger: str, key: str) -> dict[str, Any]:
    """Find and read one member; what the last of the reads took."""
    from jobs.archives.files import stream_member
    from jobs.archives.index import ArchiveIndex
    from jobs.core.model import Location
    from jobs.s3.byte_ranges import ByteBudget
    from jobs.s3.sessions import open_store

    store = open_store(None, None, None)
    sizes: list[int] = []
    send = store.transport.send

    async def counted(*given: Any, **more: Any) -> Any:
        answer = await send(*given, **more)
        sizes.append(len(answer.body))
        return answer

    store.transport.send = counted  # type: ignore[method-assign]  # of this one instance
    index = ArchiveIndex(store, Location.parse(ledger))
    await index.records()
    sizes.clear()
    (found,) = await index.find(key)
    index_requests, times = len(sizes), []
    for _ in range(READS):
        sizes.clear()
        began = time.perf_counter()
        pieces = stream_member(store, found.record, found.member, ByteBudget(64 * 1024**2))
        size_bytes = sum([len(data) async for data in pieces])
        times.append(time.perf_counter() - began)
    await store.close()
    return {
        "milliseconds": median(times) * 1000,
        "requests": len(sizes),
        "extra_kib": (sum(sizes) - size_bytes) / 1024,
        "index_requests": index_requests,
    }


if __name__ == "__main__":
    print(json.dumps({"read": asyncio.run(read_one(*sys.argv[1:]))}))
