"""Array jobs in real containers: the command, a Batch API, the image, an S3 server; killed, starved and reclaimed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.containers.conftest import Built
from tests.containers.podman import PodmanRunner
from tests.doubles.batch.engine import Job
from tests.doubles.batch.runners import OUT_OF_MEMORY
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.servers import REGION, Server
from tests.doubles.tuning import tuned
from tests.end_to_end.conftest import Result, World, discard, make_world

ROWS = 1_500
CHILDREN = 3
MEMORY_MIB = 1024
# Slow enough to be met at work, with checkpoints close to each other.
SLOW = {"checkpoint_rows": "20", "in_flight": "1"}


@dataclass(frozen=True)
class Site:
    """A world with a Batch that runs the image."""

    world: World
    batch: BatchServer
    runner: PodmanRunner
    image: str

    def define(self, name: str, image: str, memory_mib: int = MEMORY_MIB) -> None:
        """Register a job definition."""
        client = boto3.client(
            "batch",
            endpoint_url=self.batch.endpoint,
            region_name=REGION,
            aws_access_key_id=self.world.server.access_key,
            aws_secret_access_key=self.world.server.secret_key,
        )
        resources = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": str(memory_mib)}]
        properties: Any = {"image": image, "resourceRequirements": resources, "readonlyRootFilesystem": True}
        client.register_job_definition(jobDefinitionName=name, type="container", containerProperties=properties)

    def environment(self) -> dict[str, str]:
        """What points the command at this Batch."""
        return {
            "AWS_ENDPOINT_URL_BATCH": self.batch.endpoint,
            "SEALIFT_BATCH_QUEUE": "queue",
            "SEALIFT_BATCH_JOB_DEFINITION": "sealift",
            "rows_per_shard": str(ROWS // CHILDREN),
        }

    def replicate(self, *arguments: str) -> Result:
        """`sealift replicate --json` of the whole source, by Batch."""
        return self.sealift("replicate", *self.sides(), *arguments)

    def sealift(self, *arguments: str) -> Result:
        return self.world.sealift(*arguments, "--json", **self.environment())

    def sides(self) -> tuple[str, ...]:
        return "--source", f"s3://{self.world.source}", "--destination", f"s3://{self.world.destination}"

    def children(self) -> list[Job]:
        """The children of the work that was submitted last."""
        [*_, name] = [name for name in self.batch.names() if name.endswith("-work")]
        return self.batch.job(name).children


@pytest.fixture
def site(built: Built, seaweed: Server, tmp_path: Path) -> Iterator[Site]:
    world = make_world(seaweed, versioned=False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.put(f"k{number:05d}", b"content"), range(ROWS)))
    runner = PodmanRunner(built.podman, tuned(seaweed.environment() | SLOW), tmp_path)
    with batch_server(runner, max_running=CHILDREN) as batch:
        batch.add_queue("queue")
        site = Site(world, batch, runner, built.image)
        site.define("sealift", built.image)
        yield site
    discard(world)


def wait(condition: Callable[[], bool]) -> None:
    """Return when it holds. Raises AssertionError after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.02)


def checkpoints(site: Site, child: Job) -> int:
    """How many checkpoints the child's shard has."""
    listed = site.world.client.list_objects_v2(Bucket=site.world.ledger)
    return sum(f"/outcomes/{child.index:05d}/" in entry["Key"] for entry in listed.get("Contents", []))


def ended(child: Job) -> list[int | None]:
    """The exit codes of a child's attempts."""
    return [attempt.exit_code for attempt in child.attempts]


def test_an_array_of_containers_does_the_work_and_reports(site: Site) -> None:
    run = site.replicate()
    assert run.code == 0, run.stderr
    assert run.document["state"] == "complete"
    assert run.document["outcomes"] == {"done": ROWS}
    assert [ended(child) for child in site.children()] == [[0]] * CHILDREN
    # The report was made in a container, too: with DuckDB, on a read-only root file system.
    report = site.batch.job(f"{run.document['run_id']}-000-report")
    wait(lambda: report.has_ended)  # the command is content once the report is in the ledger
    assert (report.status, ended(report)) == ("SUCCEEDED", [0])
    assert site.sealift("runs", "show", run.document["run_id"]).document["accounted"] == ROWS


def test_a_reclaimed_container_checkpoints_and_another_attempt_does_the_rest(site: Site) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(site.replicate, "--max-rate", "300")  # so that it is met at work
        wait(lambda: bool(site.batch.names()))
        victim = site.children()[1]
        wait(lambda: checkpoints(site, victim) > 0)
        site.batch.engine.reclaim(victim)
        run = running.result(timeout=120)
    assert run.code == 0, run.stderr
    assert [ended(child) for child in site.children()] == [[0], [75, 0], [0]]
    assert victim.attempts[0].status_reason.startswith("Host EC2")
    # All that the first attempt did had been written when it ended: nothing was found to be there already.
    assert (run.document["state"], run.document["outcomes"]) == ("complete", {"done": ROWS})
    names = [key.rpartition("/")[2] for key in ledger_keys(site) if f"/outcomes/{victim.index:05d}/" in key]
    assert len({name.partition("-")[0] for name in names}) == 2, "both attempts wrote outcomes"


def test_containers_out_of_memory_end_as_a_failed_run_and_more_memory_finishes_it(site: Site) -> None:
    site.define("sealift", site.image, memory_mib=24)
    starved = site.replicate()
    run_id = starved.document["run_id"]
    assert starved.code != 0
    assert starved.document["state"] == "failed"
    assert starved.document["accounted"] == 0
    assert [ended(child) for child in site.children()] == [[137]] * CHILDREN
    failures = starved.document["failed_children"]
    assert {failure["reason"] for failure in failures} == {OUT_OF_MEMORY}
    assert {failure["exit_code"] for failure in failures} == {137}
    assert not any(key.endswith("/report.json") for key in ledger_keys(site))
    site.define("sealift", site.image)
    again = site.sealift("runs", "retry", run_id)
    assert again.code == 0, again.stderr
    assert (again.document["run_id"], again.document["state"]) == (run_id, "complete")
    assert again.document["outcomes"] == {"done": ROWS}


def ledger_keys(site: Site) -> list[str]:
    pages = site.world.client.get_paginator("list_objects_v2").paginate(Bucket=site.world.ledger)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
