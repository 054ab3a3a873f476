"""The workloads: what is done, and by whom."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks import inventories, peers
from tests.benchmarks.data import Data, Dataset
from tests.benchmarks.peers import Client, sealift

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Workload:
    """`expected` objects must lie in the destination after each run (None: the workload writes none there)."""

    title: str
    objects: int
    clients: list[Client]
    environment: Mapping[str, str]
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the benchmark runs. `environment` reaches the store as AWS's own variables say.

    `data` is made over plain HTTP where the store has it, and `prepared` has what was made once, whichever way the
    store is reached.
    """

    data: Data
    environment: Mapping[str, str]
    folder: Path
    scale: float
    prepared: dict[str, str] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)
    """The late server's endpoints by scheme; none where it is not installed."""

    @property
    def scheme(self) -> str:
        """How the store is reached: http or https."""
        return urlsplit(self.environment["AWS_ENDPOINT_URL_S3"]).scheme

    def scaled(self, count: int) -> int:
        return max(1, round(count * self.scale))

    def small(self) -> Dataset:
        return Dataset("small", self.scaled(20_000), 4096)

    def large(self) -> Dataset:
        return Dataset("large", max(1, round(8 * min(self.scale, 1))), 256 * MIB)

    def replica(self, dataset: Dataset) -> str:
        """A copy that `sealift replicate` made, to verify; made once."""
        if dataset.name not in self.prepared:
            self.data.key_file(dataset)
            bucket, ledger = (self.data.fresh_bucket(f"{dataset.bucket}-{each}") for each in ("replica", "ledger"))
            run = peers.Run(f"s3://{bucket}/", f"s3://{ledger}/ledger")
            command = sealift("replicate", "--source", uri(dataset), "--yes").command(run)
            environment = {**self.data.environment, **in_parts(dataset)}
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            self.prepared[dataset.name] = run.destination
        return self.prepared[dataset.name]


def uri(dataset: Dataset) -> str:
    """The dataset's bucket."""
    return f"s3://{dataset.bucket}/"


def in_parts(dataset: Dataset) -> dict[str, str]:
    """Variables with which large objects are copied in parts of the size that the peers use."""
    folder, root = (str(Path(__file__).parents[place]) for place in (1, 2))
    is_large = dataset.size_bytes > peers.PART_MIB * MIB
    path = f"{folder}/doubles/small_parts:{root}"
    return {"PYTHONPATH": path, "SMALL_PARTS_MIB": str(peers.PART_MIB)} if is_large else {}


def copies(bench: Bench, dataset: Dataset) -> Workload:
    keys, source, is_large = bench.data.key_file(dataset), uri(dataset), dataset.size_bytes > peers.PART_MIB * MIB
    cutoff = ["--s3-copy-cutoff", f"{peers.PART_MIB}Mi", "--s3-chunk-size", f"{peers.PART_MIB}Mi"]
    clients = [
        sealift("replicate", "--source", source, "--yes"),
        peers.s5cmd_copy(source),
        peers.rclone("copy", source, bench.environment, "--transfers", "8" if is_large else "64", *cutoff),
        *([] if is_large else [peers.awscrt_loop(keys, 64)]),
    ]
    title = f"{dataset.count:,} server-side copies of {size(dataset)}"
    return Workload(title, dataset.count, clients, {**bench.environment, **in_parts(dataset)}, dataset.count)


def late(bench: Bench) -> Workload:
    """Copies that are answered late, so that the client is the limit. They do not arrive."""
    dataset = Dataset("many", bench.scaled(60_000), 64)
    keys, source = bench.data.key_file(dataset), uri(dataset)
    environment = {**bench.environment, "AWS_ENDPOINT_URL_S3": bench.late[bench.scheme]}
    clients = [
        sealift("replicate", "--source", source, "--yes"),
        *(peers.s5cmd_copy(source, workers) for workers in (256, 1024, 2048)),
        peers.awscrt_loop(keys, 1024),
    ]
    title = f"{dataset.count:,} copies of {dataset.size_bytes} bytes, each answered after 40 ms"
    return Workload(title, dataset.count, clients, environment)


def again(bench: Bench, dataset: Dataset) -> Workload:
    replica = bench.replica(dataset)
    own = sealift("replicate", "--source", uri(dataset), "--destination", replica, "--yes", into="")
    rclone = peers.rclone("copy", uri(dataset), bench.environment, "--transfers", "64", destination=replica)
    clients = [own, peers.s5cmd_sync(uri(dataset), replica), rclone]
    return Workload(
        f"{dataset.count:,} copies of {size(dataset)} that are there", dataset.count, clients, bench.environment
    )


def verify(bench: Bench, dataset: Dataset, *, deep: bool) -> Workload:
    replica, how = bench.replica(dataset), ("bytes" if deep else "stored checksums")
    places = ["--source", uri(dataset), "--destination", replica]
    clients = [
        sealift("verify", *places, "--yes", *(["--deep"] if deep else []), into=""),
        peers.rclone("check", uri(dataset), bench.environment, *(["--download"] if deep else []), destination=replica),
    ]
    return Workload(f"verify {dataset.count:,} × {size(dataset)} by {how}", dataset.count, clients, bench.environment)


def listing(bench: Bench) -> Workload:
    dataset = Dataset("many", bench.scaled(100_000), 64)
    bench.data.key_file(dataset)
    clients = [sealift("inventory", uri(dataset), into="--destination"), peers.s5cmd_list(uri(dataset))]
    return Workload(
        f"list {dataset.count:,} keys (Sealift: into an inventory)", dataset.count, clients, bench.environment
    )


def packing(bench: Bench, dataset: Dataset) -> Workload:
    bench.data.key_file(dataset)
    clients = [
        sealift("compact", "--source", uri(dataset), "--pack-all", "--yes", into="--destination"),
        peers.s5cmd_tar(uri(dataset)),
    ]
    return Workload(
        f"pack {dataset.count:,} × {size(dataset)} into archives", dataset.count, clients, bench.environment
    )


def planning(bench: Bench, verb: str, into: str) -> Workload:
    rows = bench.scaled(1_000_000)
    bench.data.key_file(bench.small())  # makes the bucket that the manifest names
    manifest = bench.data.parquet_manifest(rows, 4096, bench.small().bucket, months=24)
    clients = [sealift(verb, "--manifest", manifest, "--dry-run", into=into)]
    return Workload(f"plan {rows:,} rows of a manifest (`{verb} --dry-run`)", rows, clients, bench.environment)


def reconcile(bench: Bench) -> Workload:
    rows = bench.scaled(5_000_000)
    folder = bench.folder / "inventories"
    inventories.make(folder, rows)
    places = [
        each for side in ("source", "destination") for each in (f"--{side}-inventory", str(folder / side / "daily"))
    ]
    own = sealift("reconcile", *places, into="", exit_code=3)
    return Workload(f"reconcile two inventories of {rows:,} rows", rows, [own], bench.environment)


def size(dataset: Dataset) -> str:
    return f"{dataset.size_bytes // MIB} MiB" if dataset.size_bytes >= MIB else f"{dataset.size_bytes // 1024} KiB"


OFFLINE = {"plan", "plan-compact", "reconcile"}
"""Workloads that hardly ask a server: over plain HTTP only."""
WORKLOADS: dict[str, Callable[[Bench], Workload]] = {
    "tiny": lambda bench: copies(bench, replace(bench.small(), name="tiny", count=100)),
    "small": lambda bench: copies(bench, bench.small()),
    "large": lambda bench: copies(bench, bench.large()),
    "late": late,
    "again": lambda bench: again(bench, bench.small()),
    "verify": lambda bench: verify(bench, bench.small(), deep=False),
    "deep": lambda bench: verify(bench, bench.large(), deep=True),
    "list": listing,
    "pack": lambda bench: packing(bench, bench.small()),
    "pack-mib": lambda bench: packing(bench, Dataset("mib", bench.scaled(2_000), MIB)),
    "plan": lambda bench: planning(bench, "replicate", "--destination"),
    "plan-compact": lambda bench: planning(bench, "compact", "--destination"),
    "reconcile": reconcile,
}
