"""A soak of `sealift local`: writes, duplicates and nights for minutes, and what the process holds meanwhile.

    python -m tests.benchmarks.events --soak MINUTES

Writers overwrite, delete and put in what is too large for a function, events are told twice, a night runs each minute.
Memory, file descriptors, threads and the age of the oldest unhandled event have to be flat, and in the end what is
current in the source is current in the hot bucket.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from jobs.cli.local import SAMPLE
from jobs.local.notifications import Change, to_record

SOURCE, HOT = "freight-in", "freight-hot"
WRITERS, KEYS = 4, 2_000
PAUSE_SECONDS = 0.08
NIGHT_SECONDS = 60.0
LARGE_BYTES = 9 * 1024 * 1024
DELETES, DUPLICATES, LARGE = 0.05, 0.2, 0.001
SAMPLES = 60
SETTLE_SECONDS = 120.0
GROWTH_MAX = 1.10
"""The last third may hold so much more than the middle one; the first is warming up."""


@dataclass(frozen=True)
class Sample:
    """What the process held at one moment, and what its last status said."""

    seconds: float
    rss_bytes: int
    descriptors: int
    threads: int
    status: Mapping[str, Any]

    @property
    def age_seconds(self) -> float:
        return self.status["oldest_unhandled_seconds"] or 0.0


@dataclass
class Soak:
    """A running `sealift local` and its clients."""

    process: subprocess.Popen[str]
    client: Any
    queues: Any
    environment: Mapping[str, str]
    status: dict[str, Any] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    nights: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Keep the latest status."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.status = json.loads(line)

    def write(self, seed: int) -> None:
        """One writer, until it is stopped."""
        dice = random.Random(seed)
        queue = self.queues.get_queue_url(QueueName="local-objects")["QueueUrl"]
        while not self.stop.wait(PAUSE_SECONDS):
            key = f"{seed}/{dice.randrange(KEYS // WRITERS)}"
            if dice.random() < DELETES:
                self.client.delete_object(Bucket=SOURCE, Key=key)
                self.told["deletes"] += 1
                continue
            size = LARGE_BYTES if dice.random() < LARGE else dice.randrange(1, 16_384)
            made = self.client.put_object(Bucket=SOURCE, Key=key, Body=dice.randbytes(size))
            self.told["large" if size == LARGE_BYTES else "puts"] += 1
            if dice.random() < DUPLICATES:
                change = Change("ObjectCreated:Put", SOURCE, key, made["VersionId"], size, made["ETag"].strip('"'))
                record = to_record(change, f"{time.time_ns():018X}", time.time(), "us-east-1")
                self.queues.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))
                self.told["told twice"] += 1

    def spend_nights(self) -> None:
        """A night a minute, each of another date."""
        night = date(2026, 1, 1)
        while not self.stop.wait(NIGHT_SECONDS):
            night += timedelta(days=1)
            command = [sys.executable, "-m", "jobs", "nightly", "--pair", "freight", "--night", str(night)]
            command += ["--margin", "10s", "--json"]
            done = subprocess.run(
                command, env=os.environ | self.environment, capture_output=True, text=True, check=False
            )
            if done.returncode not in (0, 3):
                self.nights.append(f"exit code {done.returncode}: {done.stderr[-500:]}")
                return
            self.nights.append(json.loads(done.stdout)["verdict"])

    def sample(self, began: float) -> Sample:
        pid = self.process.pid
        told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        rss_bytes = int(told["VmRSS"].split()[0]) * 1024
        return Sample(time.monotonic() - began, rss_bytes, descriptors, int(told["Threads"]), self.status)

    def settle(self) -> float:
        """Wait until nothing is left to do; how long that took."""
        began = time.monotonic()
        while any(self.status[name] for name in ("unhandled", "queued", "backlog_rows", "runs")):
            if time.monotonic() - began > SETTLE_SECONDS:
                sys.exit(f"it does not settle: {self.status}")
            time.sleep(0.2)
        return time.monotonic() - began

    def differences(self) -> int:
        """Keys whose current object is not the same on both sides."""
        there, here = self._current(SOURCE), self._current(HOT)
        return sum(there.get(key) != here.get(key) for key in there.keys() | here.keys())

    def _current(self, bucket: str) -> dict[str, str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", [])}


def main(minutes: float) -> None:
    """Soak, print, and exit with 1 when something grew or got lost."""
    samples: list[Sample] = []
    with _running() as soak, ThreadPoolExecutor(WRITERS + 1) as pool:
        began, seconds = time.monotonic(), minutes * 60
        working = [pool.submit(soak.write, number) for number in range(WRITERS)] + [pool.submit(soak.spend_nights)]
        while (now := time.monotonic() - began) < seconds and not any(each.done() for each in working):
            time.sleep(min(seconds / SAMPLES, seconds - now))
            samples.append(soak.sample(began))
        soak.stop.set()
        for each in working:
            each.result()
        settled = soak.settle()
        wrong = soak.differences()
        print(_table(samples))
        print(
            f"{dict(soak.told)} in {samples[-1].seconds:.0f} s; settled {settled:.1f} s after the last; {soak.status}"
        )
        print(*(f"night: {verdict}" for verdict in soak.nights), sep="\n")
    print(f"ended with exit code {soak.process.returncode}; keys that differ: {wrong}")
    grew = _growth(samples)
    print(*grew or ["flat: memory, descriptors, threads"], sep="\n")
    if grew or wrong or soak.process.returncode:
        sys.exit(1)


@contextlib.contextmanager
def _running() -> Iterator[Soak]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(SAMPLE)
        command = [sys.executable, "-m", "jobs", "local", "--json", "--policy", str(policy)]
        process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            environment = json.loads(process.stdout.readline())["environment"]
            with mock.patch.dict(os.environ, environment):
                import boto3
                from botocore.config import Config

                session, config = boto3.Session(), Config(max_pool_connections=2 * WRITERS)
                soak = Soak(process, session.client("s3", config=config), session.client("sqs"), environment)
            soak.status = json.loads(process.stdout.readline())
            following = threading.Thread(target=soak.follow, daemon=True)
            following.start()
            yield soak
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _table(samples: list[Sample]) -> str:
    lines = ["minute   RSS MiB  descriptors  threads  oldest unhandled s  backed up  handed over  failed"]
    shown = samples[:: max(1, len(samples) // 12)]
    lines += [
        f"{each.seconds / 60:6.1f}  {each.rss_bytes / 2**20:8.1f}  {each.descriptors:11}  {each.threads:7}"
        f"  {each.age_seconds:18.2f}  {each.status['backed_up']:9,}  {each.status['handed_over']:11}"
        f"  {each.status['failed']:6}"
        for each in shown
    ]
    ages = sorted(each.age_seconds for each in samples)
    lines.append(f"age of the oldest unhandled event: median {median(ages):.2f} s, at most {ages[-1]:.2f} s")
    return "\n".join(lines)


def _growth(samples: list[Sample]) -> list[str]:
    third = len(samples) // 3
    grew = []
    for name in ("rss_bytes", "descriptors", "threads"):
        middle, last = (
            median(getattr(each, name) for each in some) for some in (samples[third:-third], samples[-third:])
        )
        if last > GROWTH_MAX * middle:
            grew.append(f"{name} grew: {middle:,.0f} in the middle, {last:,.0f} in the end")
    return grew
