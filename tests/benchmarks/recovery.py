"""How soon copies are as fast as before when a storm of SlowDown is over.

    python -m tests.benchmarks.recovery [OBJECTS]

A proxy counts the copies that were made in each fifth of a second: calm, then `STORM_SECONDS` in which most requests
are refused, then calm again. The figures are the median rate before, and the time after the storm until a second has
nine tenths of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.data import Data, Dataset
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.servers import seaweedfs

SLOT_SECONDS = 0.2
CALM_SECONDS, STORM_SECONDS = 4.0, 4.0
STORM_SHARE = 0.6
SLOTS = int(1 / SLOT_SECONDS)


class Counted(Faults):
    """Faults that count what goes through, slot by slot."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.times: list[float] = []

    def draw(self, method: str, path: str) -> str | None:
        """As before; a copy that is let through is counted."""
        fault = super().draw(method, path)
        if fault is None and method == "PUT" and path.startswith("/calm-destination/"):
            self.times.append(time.monotonic())
        return fault


def main(objects: int) -> None:
    """Run it and print the figures."""
    shares = {"slow_down": 0.0}
    with seaweedfs() as server, tempfile.TemporaryDirectory(prefix="sealift-bench-") as folder:
        data, source = (
            Data(server.client(), os.environ | server.environment(), Path(folder)),
            Dataset("calm", objects, 1024),
        )
        data.key_file(source)
        data.fresh_bucket("calm-destination")
        data.fresh_bucket("calm-ledger")
        faults = Counted(shares, seed=1)
        with fault_proxy(server.endpoint, faults) as proxy:
            environment = os.environ | server.environment() | {"SEALIFT_LEDGER": "s3://calm-ledger/l"}
            sides = ["--source", f"s3://{source.bucket}", "--destination", "s3://calm-destination"]
            command = [sys.executable, "-m", "jobs", "replicate", *sides, "--json"]
            process = subprocess.Popen(
                command, env=environment | {"AWS_ENDPOINT_URL_S3": proxy.endpoint}, stdout=subprocess.PIPE, text=True
            )
            while not faults.times:
                time.sleep(0.01)
            began = faults.times[0]
            for share, after in ((STORM_SHARE, CALM_SECONDS), (0.0, CALM_SECONDS + STORM_SECONDS)):
                threading.Timer(after, lambda share=share: shares.update(slow_down=share)).start()
            output, _ = process.communicate(timeout=600)
    show(faults.times, began)
    print(f"exit code {process.returncode}, refused {faults.done['slow_down']:,}; {output[-300:].strip()}")


def show(times: list[float], began: float) -> None:
    """Rates by the second, and how soon it was as fast as before."""
    counts = [0] * (int((times[-1] - began) / SLOT_SECONDS) + 1)
    for each in times:
        counts[int((each - began) / SLOT_SECONDS)] += 1
    storm, calm = int(CALM_SECONDS / SLOT_SECONDS), int((CALM_SECONDS + STORM_SECONDS) / SLOT_SECONDS)
    before = median(counts[SLOTS:storm]) * SLOTS
    print("copies a second:", *(sum(counts[at : at + SLOTS]) for at in range(0, len(counts), SLOTS)))
    print(f"before: {before:,.0f} a second; in the storm: {median(counts[storm:calm]) * SLOTS:,.0f}")
    for at in range(calm, len(counts) - SLOTS):
        if sum(counts[at : at + SLOTS]) >= 0.9 * before:
            print(f"as fast as before {(at - calm) * SLOT_SECONDS:.1f} s after the storm's end")
            return
    print("never as fast as before again")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
