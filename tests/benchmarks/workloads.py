"""The workloads: what is done, by whom, and what Sealift must reach."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from tests.benchmarks import peers, raw
from tests.benchmarks.data import Data, Dataset
from tests.benchmarks.late_server import late_server
from tests.benchmarks.measure import Sample
from tests.benchmarks.peers import SEALIFT, Client
from tests.doubles.certificates import Certificate

Samples = Mapping[str, list[Sample]]
MIB = 1 << 20
WORKER_MIB_MAX = 200
AGAIN = "sealift, all there already"


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach. `value` is None when a client that it needs did not run."""

    text: str
    value: Callable[[Samples], float | None]
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)


@dataclass(frozen=True, slots=True)
class Workload:
    """`expected` objects must lie in the destination after each run (None: the workload writes none there)."""

    name: str
    title: str
    objects: int
    size_bytes: int
    clients: list[Client]
    environment: Mapping[str, str]
    targets: list[Target] = field(default_factory=list)
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
    stack: ExitStack
    certificate: Certificate
    prepared: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """How the store is reached: http or https."""
        return urlsplit(self.environment["AWS_ENDPOINT_URL_S3"]).scheme

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    def scaled(self, count: int) -> int:
        return max(1, round(count * self.scale))

    def small(self) -> Dataset:
        return Dataset("small", self.scaled(20_000), 4096)

    def tiny(self) -> Dataset:
        return Dataset("tiny", 100, 4096)

    def large(self) -> Dataset:
        return Dataset("large", max(1, round(8 * min(self.scale, 1))), 256 * MIB)

    def many(self) -> Dataset:
        return Dataset("many", self.scaled(100_000), 64)

    def late(self) -> dict[str, str]:
        """The environment whose endpoint is the late server's. Raises Missing."""
        if "late http" not in self.prepared:
            etag = hashlib.md5(raw.content("", 64), usedforsecurity=False).hexdigest()
            store = self.data.environment["AWS_ENDPOINT_URL_S3"]
            endpoints = self.stack.enter_context(late_server(store, etag, self.certificate))
            self.prepared.update({f"late {scheme}": endpoint for scheme, endpoint in endpoints.items()})
        return {**self.environment, "AWS_ENDPOINT_URL_S3": self.prepared[f"late {self.scheme}"]}

    def replica(self, dataset: Dataset) -> str:
        """A copy that `sealift replicate` made, to verify; made once."""
        if dataset.name not in self.prepared:
            self.data.key_file(dataset)
            bucket = self.data.fresh_bucket(f"{dataset.bucket}-replica")
            run = peers.Run(f"s3://{bucket}/", f"s3://{self.data.fresh_bucket(f'{dataset.bucket}-ledger')}/ledger")
            client = peers.sealift_run("replicate", ["--source", uri(dataset)])
            environment = {**self.data.environment, **in_parts(dataset)}
            subprocess.run(client.command(run), env=environment, check=True, stdout=subprocess.DEVNULL)
            self.prepared[dataset.name] = run.destination
        return self.prepared[dataset.name]


def uri(dataset: Dataset) -> str:
    """The dataset's bucket."""
    return f"s3://{dataset.bucket}/"


def in_parts(dataset: Dataset) -> dict[str, str]:
    """Variables with which large objects are copied in parts of the size that the peers use."""
    folder = str(Path(__file__).parents[1] / "doubles" / "small_parts")
    is_large = dataset.size_bytes > raw.PART_BYTES
    return {"PYTHONPATH": folder, "SMALL_PARTS_MIB": str(peers.PART_MIB)} if is_large else {}


def wall(samples: Samples, name: str) -> float | None:
    """Median seconds of the quickest client whose name begins so."""
    medians = [
        median(s.wall_seconds for s in runs) for client, runs in samples.items() if client.startswith(name) and runs
    ]
    return min(medians) if medians else None


def speed_against(name: str) -> Callable[[Samples], float | None]:
    """How many times as fast as the best client whose name begins so Sealift is."""

    def value(samples: Samples) -> float | None:
        own, other = wall(samples, SEALIFT), wall(samples, name)
        return other / own if own and other else None

    return value


def seconds(samples: Samples) -> float | None:
    """Sealift's median wall time."""
    return wall(samples, SEALIFT)


def times_as_long(name: str, other_name: str) -> Callable[[Samples], float | None]:
    """How many times as long as another client one takes, each by its whole name."""

    def value(samples: Samples) -> float | None:
        own, other = samples.get(name), samples.get(other_name)
        return median(s.wall_seconds for s in own) / median(s.wall_seconds for s in other) if own and other else None

    return value


def seconds_per_million(rows: int) -> Callable[[Samples], float | None]:
    """Sealift's median wall time for each million of so many rows."""

    def value(samples: Samples) -> float | None:
        total = seconds(samples)
        return total / rows * 1_000_000 if total else None

    return value


def cpu_ms_per(objects: int) -> Callable[[Samples], float | None]:
    """Sealift's CPU milliseconds for each of so many objects."""

    def value(samples: Samples) -> float | None:
        runs = samples.get(SEALIFT)
        return median(s.cpu_seconds for s in runs) / objects * 1000 if runs else None

    return value


def peak_mib(samples: Samples) -> float | None:
    """The largest process that any of Sealift's runs had."""
    peaks = [s.peak_bytes for name, runs in samples.items() if name.startswith(SEALIFT) for s in runs]
    return max(peaks) / MIB if peaks else None


def worker_peak_mib(samples: Samples) -> float | None:
    """The largest worker that any of Sealift's runs had."""
    peaks = [s.children_peak_bytes for name, runs in samples.items() if name.startswith(SEALIFT) for s in runs]
    return max(peaks) / MIB if any(peaks) else None


def small_copies(bench: Bench) -> Workload:
    dataset = bench.small()
    keys = bench.data.key_file(dataset)
    clients = [
        peers.sealift_run("replicate", ["--source", uri(dataset)]),
        peers.s5cmd_copy(uri(dataset), 256),
        peers.rclone_copy(uri(dataset), bench.environment, 64),
        peers.aws_sync(uri(dataset), bench.folder),
        peers.boto3_copy(uri(dataset)),
        peers.awscrt_loop("copy", keys, 64),
    ]
    targets = [
        Target("objects per second against s5cmd", speed_against("s5cmd"), at_least=1.0),
        Target("objects per second against the boto3 pool", speed_against("boto3"), at_least=2.5),
        Target(
            "objects per second against a bare awscrt loop with the same guards", speed_against("bare"), at_least=0.9
        ),
        Target("CPU milliseconds per object, all included", cpu_ms_per(dataset.count), at_most=0.30),
        Target("peak MiB of the largest worker", worker_peak_mib, at_most=WORKER_MIB_MAX),
    ]
    title = f"{dataset.count:,} server-side copies of 4 KiB, metadata and tags carried"
    return Workload("small", title, dataset.count, 4096, clients, bench.environment, targets, dataset.count)


def tiny_runs(bench: Bench) -> Workload:
    dataset = bench.tiny()
    source, replica = ["--source", uri(dataset)], bench.replica(dataset)
    s5cmd = peers.s5cmd_copy(uri(dataset), 256)
    clients = [
        peers.sealift_run("replicate", source),
        replace(peers.sealift_run("replicate", source, destination=replica), name=AGAIN),
        s5cmd,
    ]
    targets = [
        Target("times as long as s5cmd", times_as_long(SEALIFT, s5cmd.name), at_most=3.0),
        Target("the same again, times as long as the copies", times_as_long(AGAIN, SEALIFT), at_most=1.0),
        Target("CPU milliseconds of the whole run", cpu_ms_per(1), at_most=500),
    ]
    title = f"{dataset.count} server-side copies of 4 KiB, a whole run"
    return Workload("tiny", title, dataset.count, 4096, clients, bench.environment, targets)


def large_copies(bench: Bench) -> Workload:
    dataset = bench.large()
    keys = bench.data.key_file(dataset)
    clients = [
        peers.sealift_run("replicate", ["--source", uri(dataset)]),
        peers.s5cmd_copy(uri(dataset), 256),
        peers.rclone_copy(uri(dataset), bench.environment, 8),
        peers.aws_sync(uri(dataset), bench.folder),
        peers.boto3_copy(uri(dataset), 8),
        peers.awscrt_loop("multipart", keys, 16),
    ]
    title = (
        f"{dataset.count} server-side copies of 256 MiB (multipart, {peers.PART_MIB} MiB parts; s5cmd: one CopyObject)"
    )
    environment = {**bench.environment, **in_parts(dataset)}
    return Workload("large", title, dataset.count, dataset.size_bytes, clients, environment, [], dataset.count)


def late_copies(bench: Bench) -> Workload:
    environment = bench.late()
    dataset = bench.many()
    lines = bench.data.key_file(dataset).read_text().splitlines(keepends=True)
    current = [line for line in lines if '"current/' in line]
    keys = bench.folder / "late.jsonl"
    keys.write_text("".join(current))
    source = f"{uri(dataset)}current/"
    clients = [
        peers.sealift_run("replicate", ["--source", source]),
        *(peers.s5cmd_copy(source, workers) for workers in (256, 1024, 2048)),
        peers.awscrt_loop("copy", keys, 1024),
        peers.awscrt_loop("copy", keys, 512, processes=2),
    ]
    targets = [
        Target(
            "objects per second against s5cmd at its best",
            speed_against("s5cmd"),
            at_least=2.5 if bench.is_tls else 1.5,
        ),
        Target("CPU milliseconds per object, all included", cpu_ms_per(len(current)), at_most=0.15),
        Target("peak MiB of the largest worker", worker_peak_mib, at_most=WORKER_MIB_MAX),
    ]
    title = f"{len(current):,} small copies against a server that answers each after 40 ms"
    return Workload("late", title, len(current), dataset.size_bytes, clients, environment, targets)


def _verify(bench: Bench, dataset: Dataset, *, deep: bool) -> Workload:
    keys, replica = bench.data.key_file(dataset), bench.replica(dataset)
    act = "read" if deep else "head"
    inflight = 16 if dataset.size_bytes > raw.RANGE_BYTES else 64
    loop = peers.awscrt_loop(act, keys, inflight, destination=replica)
    clients = [
        peers.sealift_run("verify", ["--source", uri(dataset)], *(["--deep"] if deep else []), destination=replica),
        peers.rclone_check(uri(dataset), replica, bench.environment, download=deep),
        loop,
    ]
    targets = []
    if deep and dataset.size_bytes > raw.RANGE_BYTES:
        text = "speed against reading both sides and throwing the bytes away"
        targets = [Target(text, speed_against("bare"), at_least=0.8)]
    how = (
        "deep (bare loop: reads both sides, throws the bytes away)"
        if deep
        else "by stored checksum (bare loop: HEAD of both)"
    )
    size = "4 KiB" if dataset.size_bytes == 4096 else f"{dataset.size_bytes // MIB} MiB"
    name = f"{'deep' if deep else 'verify'}-{dataset.name}"
    title = f"Verify {dataset.count:,} × {size} {how}"
    return Workload(name, title, dataset.count, dataset.size_bytes, clients, bench.environment, targets)


def listing(bench: Bench) -> Workload:
    dataset = bench.many()
    bench.data.key_file(dataset)
    clients = [
        Client(SEALIFT, lambda run: peers.sealift("inventory", uri(dataset), "--to", run.destination, "--json")),
        peers.s5cmd_list(uri(dataset)),
        peers.boto3_list(uri(dataset)),
    ]
    targets = [
        Target("keys per second against `s5cmd ls`", speed_against("s5cmd"), at_least=1.5),
        Target("keys per second against boto3's paginator", speed_against("boto3"), at_least=3.0),
    ]
    title = f"List {dataset.count:,} keys (Sealift writes an inventory of them)"
    return Workload("listing", title, dataset.count, 0, clients, bench.environment, targets)


def start(bench: Bench) -> Workload:
    clients = [Client(SEALIFT, lambda _: peers.sealift("--help"))]
    targets = [Target("seconds", seconds, at_most=0.3)]
    return Workload("help", "`sealift --help`", 1, 0, clients, bench.environment, targets)


OFFLINE = {"help"}
"""Workloads that hardly ask a server."""

WORKLOADS: dict[str, Callable[[Bench], Workload]] = {
    "help": start,
    "tiny": tiny_runs,
    "small": small_copies,
    "large": large_copies,
    "verify-small": lambda bench: _verify(bench, bench.small(), deep=False),
    "deep-small": lambda bench: _verify(bench, bench.small(), deep=True),
    "verify-large": lambda bench: _verify(bench, bench.large(), deep=False),
    "deep-large": lambda bench: _verify(bench, bench.large(), deep=True),
    "listing": listing,
    "late": late_copies,
}
