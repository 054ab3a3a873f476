"""How soon a container copies its first object, and the batch path beside the local path. `make container-bench`.

    python -m tests.benchmarks.containers [--rounds 3] [--objects 20000] [--shards 8]

Root and podman are needed; the image is built first. Environment: ROUNDS stands for the option, SEALIFT_CONTAINERS
for a folder that keeps the base image. Both paths work through the same objects on the same server, in turn, with
two workers at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.benchmarks.data import Data, Dataset
from tests.containers.podman import Podman, PodmanRunner, build_base, build_image, missing, podman_in
from tests.doubles.batch.runners import Child, Exit, Runner, SubprocessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.servers import REGION, Server, seaweedfs

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
MEMORY_MIB = 2048
LEDGER = "bench-ledgers"


class Held:
    """A runner that starts nothing and keeps what it was to start."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, child: Child) -> Held:
        self.children.append(child)
        return self

    def poll(self) -> Exit | None:
        return Exit(1)

    def terminate(self, grace_seconds: float) -> None:
        return


@dataclass
class Site:
    """An S3 server with objects on it, and the image."""

    server: Server
    data: Data
    podman: Podman
    image: str
    folder: Path

    def environment(self, **extra: str) -> dict[str, str]:
        foreign = ("AWS_", "SEALIFT_")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**plain, "PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull, **self.server.environment(), **extra}

    def podman_runner(self) -> PodmanRunner:
        return PodmanRunner(self.podman, self.server.environment(), self.folder)

    def process_runner(self) -> SubprocessRunner:
        return SubprocessRunner(self.environment(), self.folder)

    def replicate(
        self, dataset: Dataset, destination: str, shards: int, *arguments: str, **extra: str
    ) -> dict[str, Any]:
        """The whole command; its JSON document. Raises RuntimeError unless it exits 0."""
        command = [sys.executable, "-m", "jobs", "replicate", "--source", f"s3://{dataset.bucket}"]
        command += [
            "--destination",
            f"s3://{destination}",
            "--ledger",
            f"s3://{LEDGER}/{destination}",
            "--json",
            *arguments,
        ]
        environment = self.environment(SEALIFT_ROWS_PER_SHARD=str(-(-dataset.count // shards)), **extra)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stderr[-2000:]}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def define(batch: BatchServer, image: str) -> dict[str, str]:
    """A queue and a job definition; the variables that point the command at them."""
    batch.add_queue("queue")
    client = boto3.client(
        "batch", endpoint_url=batch.endpoint, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
    )
    resources = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": str(MEMORY_MIB)}]
    properties: Any = {"image": image, "resourceRequirements": resources}
    client.register_job_definition(jobDefinitionName="sealift", type="container", containerProperties=properties)
    return {
        "AWS_ENDPOINT_URL_BATCH": batch.endpoint,
        "SEALIFT_EXECUTOR": "batch",
        "SEALIFT_BATCH_QUEUE": "queue",
        "SEALIFT_BATCH_JOB_DEFINITION": "sealift",
    }


def measure_start(site: Site, rounds: int) -> None:
    """From `podman run` to the first object at the destination, beside a container that does nothing."""
    dataset = Dataset("start", 2_000, 4096)
    site.data.key_file(dataset)
    bare, whole = [], []
    for number in range(rounds):
        destination = site.data.fresh_bucket(f"bench-start-{number}")
        held = Held()
        with batch_server(held, max_running=1) as batch:
            site.replicate(dataset, destination, 1, "--detach", "--children", "1", **define(batch, site.image))
            while not held.children:
                time.sleep(0.01)
        child = held.children[0]
        began = time.perf_counter()
        site.podman.run(
            "run", "--rm", "--network=host", "--read-only", "--ulimit=host", "--entrypoint=true", site.image
        )
        bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        container = site.podman_runner().start(child)
        while site.data.client.list_objects_v2(Bucket=destination, MaxKeys=1)["KeyCount"] == 0:
            if (end := container.poll()) is not None and end.code:
                raise RuntimeError(f"{end}: {container.log.read_text()[-2000:]}")
            time.sleep(0.005)
        whole.append(time.perf_counter() - began)
        while container.poll() is None:
            time.sleep(0.01)
        site.data.remove(destination)
    first, empty = statistics.median(whole), statistics.median(bare)
    print(f"start to first copy {first:.2f} s ({shown(whole)}); an empty container {empty:.2f} s ({shown(bare)})")
    print(f"the image's own share is {first - empty:.2f} s (to reach: 1.5 s)", flush=True)


@dataclass(frozen=True)
class Timed:
    """Seconds from a command's first request to the last outcome, and to its end (by Batch: the report's own job)."""

    work: float
    command: float


def time_path(site: Site, dataset: Dataset, name: str, shards: int, make_runner: Callable[[], Runner] | None) -> Timed:
    """One run by the local executor (no runner), or by Batch with this one."""
    destination = site.data.fresh_bucket(f"bench-{name}")
    with ExitStack() as stack:
        extra: Mapping[str, str] = {"SEALIFT_PROCESSES": str(WORKERS)}
        arguments: list[str] = []
        if make_runner is not None:
            batch = stack.enter_context(batch_server(make_runner(), max_running=WORKERS))
            extra, arguments = define(batch, site.image), ["--children", str(shards)]
        began = time.perf_counter()
        report = site.replicate(dataset, destination, shards, *arguments, **extra)
        seconds = time.perf_counter() - began
    worked = len(set(checkpointed(site, destination)))
    if report["outcomes"] != {"copied": dataset.count} or worked != shards:
        raise RuntimeError(f"{name}: outcomes {report['outcomes']} in {worked} shards")
    site.data.remove(destination)
    return Timed(report["seconds"], seconds)


def checkpointed(site: Site, destination: str) -> Iterator[str]:
    """The shard of each checkpoint."""
    pages = site.data.client.get_paginator("list_objects_v2").paginate(Bucket=LEDGER, Prefix=f"{destination}/runs/")
    for page in pages:
        for entry in page.get("Contents", []):
            if "/outcomes/" in entry["Key"]:
                yield entry["Key"].split("/outcomes/")[1].split("/")[0]


def compare_paths(site: Site, rounds: int, objects: int, shards: int) -> None:
    """The same objects by the local executor, by Batch with processes, and by Batch with containers, in turn."""
    dataset = Dataset("paths", objects, 4096)
    site.data.key_file(dataset)
    paths: dict[str, Callable[[], Runner] | None] = {
        "local": None,
        "batch, processes": site.process_runner,
        "batch, containers": site.podman_runner,
    }
    times: dict[str, list[Timed]] = {name: [] for name in paths}
    for number in range(rounds):
        order = list(enumerate(paths.items()))  # there and back, so that none always comes after the same one
        for place, (name, make_runner) in order if number % 2 == 0 else order[::-1]:
            timed = time_path(site, dataset, f"path-{number}-{place}", shards, make_runner)
            times[name].append(timed)
            print(
                f"  {number + 1}  {name:20} last outcome after {timed.work:6.2f} s, end after {timed.command:6.2f} s",
                flush=True,
            )
    print(
        f"{objects:,} objects of 4 KiB, {shards} shards, {WORKERS} workers at a time; the median of each round's ratio"
    )
    for name, each in list(times.items())[1:]:
        pairs = list(zip(each, times["local"], strict=True))
        work = statistics.median(own.work / local.work for own, local in pairs)
        command = statistics.median(own.command / local.command for own, local in pairs)
        print(f"  {name:20} last outcome {work - 1:+.1%}, end {command - 1:+.1%} beside local (to reach: +5 %)")


def shown(seconds: list[float]) -> str:
    """`0.91 0.87`."""
    return " ".join(f"{each:.2f}" for each in seconds)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The image and the batch path, measured.")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 3))
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=8)
    chosen = parser.parse_args()
    if why := missing():
        sys.exit(f"containers cannot be measured here: {why}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-bench-")))
        podman = stack.enter_context(podman_in(folder / "podman"))
        image = build_image(podman, build_base(podman))
        size = int(podman.run("image", "inspect", "--format", "{{.Size}}", image))
        print(f"image {image}: {size / 1e6:.0f} MB", flush=True)
        server = stack.enter_context(seaweedfs())
        site = Site(server, Data(server.client(), {}, folder), podman, image, folder)
        site.data.environment = site.environment()
        site.data.fresh_bucket(LEDGER)
        measure_start(site, chosen.rounds)
        compare_paths(site, chosen.rounds, chosen.objects, chosen.shards)


if __name__ == "__main__":
    main()
