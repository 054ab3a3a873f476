"""The event path's figures: how soon an object is backed up, a burst, and a storm with duplicates and faults.

python -m tests.benchmarks.events [EVENTS]            10,000 by default; takes some minutes
python -m tests.benchmarks.events --soak MINUTES      what `sealift local` holds under load, over time
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from jobs.cli.local import SAMPLE
from jobs.local.system import System, running
from tests.benchmarks import soak
from tests.doubles.servers import seaweedfs
from tests.local.queue_process import queue_server
from tests.local.storm import storm

QUICK = 100
BURST = 2_000
CLIENTS = 16
POLL_SECONDS = 0.002


def main(events: int = 10_000) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy.yaml").write_text(SAMPLE)
        out = sys.stdout
        with running(folder / "policy.yaml", folder) as system:
            lines = [latency(system), burst(system)]
        print(*lines, sep="\n", file=out)
    with tempfile.TemporaryDirectory() as name, seaweedfs() as s3, queue_server() as port:
        with contextlib.redirect_stdout(io.StringIO()):
            figures = storm(s3, f"http://127.0.0.1:{port}", Path(name), events=events, seed=1, batch=50)
        print(
            f"storm: {figures.messages:,} messages of {figures.events:,} events of {figures.keys:,} keys in "
            f"{figures.seconds:.0f} s, {figures.messages / figures.seconds:.0f}/s; requests refused "
            f"{figures.faults['refused']:,}, answers lost {figures.faults['lost']:,}, invocations crashed "
            f"{figures.crashes:,}, messages that came again {figures.failed:,}, dead letters returned "
            f"{figures.redriven:,}; endings {dict(figures.endings)}; wrong: {figures.wrong or 'nothing'}"
        )
    if figures.wrong:
        sys.exit(1)


def latency(system: System) -> str:
    """From the answer to a PUT until the copy can be read, one after the other."""
    client, took = _client(system), []
    for number in range(QUICK):
        client.put_object(Bucket="freight-in", Key=f"quick/{number}", Body=os.urandom(4096))
        began = time.monotonic()
        while not _has_copy(client, f"quick/{number}"):
            time.sleep(POLL_SECONDS)
        took.append((time.monotonic() - began) * 1000)
    took.sort()
    median, late = statistics.median(took), took[int(len(took) * 0.95)]
    return f"event to backed up: median {median:.0f} ms, 95 % within {late:.0f} ms, at most {took[-1]:.0f} ms"


def burst(system: System) -> str:
    """Many clients at once, until the last object is backed up."""
    client = _client(system)
    before, began = system.status()["backed_up"], time.monotonic()

    def put(number: int) -> None:
        client.put_object(Bucket="freight-in", Key=f"burst/{number}", Body=os.urandom(4096))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(put, range(BURST)))
    written, oldest = time.monotonic() - began, 0.0
    while (status := system.status())["backed_up"] - before < BURST:
        oldest = max(oldest, status["oldest_unhandled_seconds"] or 0.0)
        time.sleep(0.05)
    return (
        f"burst: {BURST:,} objects of {CLIENTS} clients written in {written:.1f} s, all backed up after "
        f"{time.monotonic() - began:.1f} s; the oldest event waited {oldest:.1f} s"
    )


def _client(system: System) -> Any:
    import boto3
    from botocore.config import Config

    with mock.patch.dict(os.environ, system.environment):
        return boto3.Session().client("s3", config=Config(max_pool_connections=CLIENTS))


def _has_copy(client: Any, key: str) -> bool:
    try:
        client.head_object(Bucket="freight-hot", Key=key)
    except client.exceptions.ClientError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1:2] == ["--soak"]:
        soak.main(float(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:2]))
