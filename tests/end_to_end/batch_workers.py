"""A local Batch that starts real workers against a real S3 server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.batch.account import await_value, make_client, register
from tests.doubles.batch.engine import Job
from tests.doubles.batch.runners import Process, ProcessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.tuning import tuned
from tests.end_to_end.conftest import Result, World

ROWS = 480
SHARDS = 4
SLOW = {"checkpoint_rows": "5", "in_flight": "1"}


@dataclass
class Fleet:
    """A world with a Batch beside it."""

    world: World
    batch: BatchServer
    runner: ProcessRunner
    logs: Path

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_BATCH": self.batch.endpoint,
            "SEALIFT_BATCH_QUEUE": "spot",
            "SEALIFT_BATCH_JOB_DEFINITION": "sealift-{job}",
            "rows_per_shard": str(ROWS // SHARDS),
        } | extra

    def sealift(self, *arguments: str, **extra: str) -> Result:
        return self.world.sealift(*arguments, **self.environment(**extra))

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return self.world.start(*arguments, **self.environment(**extra))

    def replicate(self, *arguments: str, **extra: str) -> Result:
        return self.sealift(*self.replication(*arguments), **extra)

    def replication(self, *arguments: str) -> list[str]:
        sides = ["--source", f"s3://{self.world.source}", "--destination", f"s3://{self.world.destination}"]
        return ["replicate", *sides, "--json", *arguments]

    def slow_down(self, **extra: str) -> None:
        """Workers take their time and checkpoint each few rows, so that things can happen to them."""
        self.runner.environment = tuned({**self.runner.environment, **SLOW, **extra})

    def submitted(self, *arguments: str) -> str:
        """The id of a run that was submitted and left. Its rate leaves time for things to happen to its workers."""
        result = self.replicate("--executor", "detached", "--max-rate", "160", *arguments)
        assert result.code == 0, result.stderr
        document = result.document
        assert document["state"] == "submitted"
        return str(document["run_id"])

    def paused(self, run_id: str, index: int) -> tuple[Job, Process]:
        """A child that has checkpointed some of its rows, and its process, held there."""

        def look() -> tuple[Job, Process] | None:
            job = self.batch.job(f"{run_id}-000-work", index)
            if job.status != "RUNNING" or not self.checkpointed(run_id, index):
                return None
            process = job.attempts[-1].running
            assert isinstance(process, Process)
            process.pause()
            return job, process

        found: tuple[Job, Process] = await_value(look)
        return found

    def checkpointed(self, run_id: str, shard: int) -> int:
        return sum(int(key.rpartition("/")[2].split("-")[2]) for key in self.keys(run_id, f"outcomes/{shard:05d}/"))

    def keys(self, run_id: str, folder: str) -> list[str]:
        return self.world.keys(self.world.ledger, f"runs/runs/{run_id}/{folder}")

    def ended(self, name: str) -> Job:
        found: Job = await_value(lambda: job if (job := self.batch.job(name)).has_ended else None, 60)
        return found

    def show(self, run_id: str) -> dict[str, Any]:
        return self.sealift("runs", "show", run_id, "--json").document


@contextmanager
def open_yard(world: World, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that has nothing to carry."""
    runner = ProcessRunner(world.environment(), tmp_path)
    with batch_server(runner, max_running=4) as batch:
        batch.add_queue("spot")
        batch.add_queue("calm")
        for name in ("sealift", "sealift-replicate", "sealift-verify"):
            register(make_client(batch), name)
        yield Fleet(world, batch, runner, tmp_path)


def fill(yard: Fleet) -> None:
    """Objects to carry: the first empty, each a byte larger than the one before."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: yard.world.put(f"k{number:05d}", b"x" * number), range(ROWS)))


def complete(report: dict[str, Any]) -> None:
    """A complete run of all rows, each with one outcome that ended well."""
    assert report["state"] == "complete"
    assert report["rows"] == report["accounted"] == ROWS
    assert set(report["outcomes"]) <= {"done", "same", "verified"}
    assert report["failures"] == 0
