"""The submit function over a Batch of its own: one job for each night, manifest and report, whatever happens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import LedgerError, Rejected, Unavailable, UsageError
from jobs.ledger.claims import CLAIM_SECONDS
from jobs.s3.store import UNGUARDED
from scheduler.batch_starts import TIMEOUT_SECONDS, Start, start
from scheduler.runtime import Runtime
from scheduler.submit import handle
from tests.doubles.batch.account import Puppets, make_client, register
from tests.doubles.batch.server import BatchServer, batch_server
from tests.scheduler.conftest import Place
from tests.scheduler.scene import Scene

NIGHT = {"action": "nightly", "pair": "pair", "scheduled_at": "2026-11-25T03:30:00Z"}


@pytest.fixture
def batch(place: Place) -> Iterator[BatchServer]:
    with batch_server(Puppets(), max_running=1) as server:
        server.add_queue("sealift-orchestrators")
        for name in ("nightly", "backfill", "replicate"):
            register(make_client(server), f"sealift-{name}")
        place.more |= {"AWS_ENDPOINT_URL_BATCH": server.endpoint}
        yield server


def submit(scene: Scene, event: Mapping[str, Any], request_id: str = "request") -> list[dict[str, Any]]:
    started: list[dict[str, Any]] = scene.run(handle(scene.runtime, event, request_id))["started"]
    return started


def command(jobs: BatchServer, place: int = 0) -> list[str]:
    found: list[str] = jobs.job(jobs.names()[place]).request["containerOverrides"]["command"]
    return found


def write(scene: Scene, name: str, document: dict[str, Any]) -> None:
    scene.run(
        scene.store.put(ObjectRef("ledger", f"l/{name}"), json.dumps(document).encode(), Attributes(), guard=UNGUARDED)
    )


def manifest() -> dict[str, Any]:
    own = "s3://ledger/l/manifests/pair=pair/000001-0123456789ab.csv"
    taken = {"created_at": 1.0, "taken_before": 0, "taken": []}
    return {"version": 2, "pair": "pair", "number": 1, "manifest": own, "rows": 1, "size_bytes": 0, **taken}


def test_a_night_is_started_once_whoever_asks_again(place: Place, batch: BatchServer) -> None:
    with place.function("submit") as submit:
        answers = [submit.invoke(NIGHT).payload["started"][0] for _ in range(2)]
    with place.function("submit") as submit:  # another runtime, and Scheduler a little late
        late = submit.invoke(NIGHT | {"scheduled_at": "2026-11-25T03:42:00Z"}).payload["started"][0]
        next_night = submit.invoke(NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"}).payload["started"][0]
        answers.append(late)
    assert [each["is_new"] for each in answers] == [True, False, False]
    assert len({each["job_id"] for each in answers}) == 1
    assert next_night["is_new"]
    assert batch.names() == ["sealift-pair-nightly-2026-11-25", "sealift-pair-nightly-2026-11-26"]
    job = batch.job("sealift-pair-nightly-2026-11-25")
    assert job.request["jobDefinition"] == "sealift-nightly"
    assert job.request["containerOverrides"]["command"] == ["nightly", "--pair", "pair", "--night", "2026-11-25"]
    environment = {each["name"]: each["value"] for each in job.request["containerOverrides"]["environment"]}
    assert environment == {"SEALIFT_LEDGER": f"s3://{place.ledger}/l"}
    assert job.request["timeout"] == {"attemptDurationSeconds": TIMEOUT_SECONDS}  # days, not a worker's hours


def test_a_night_is_the_one_of_the_pairs_time_zone(tmp_path: Path, jobs: BatchServer) -> None:
    scene = Scene(tmp_path, nightly={"hour": "22:30", "time_zone": "America/New_York"})
    assert submit(scene, NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"})[0]["once"] == "2026-11-25"


def test_a_lost_answer_does_not_start_a_night_twice(scene: Scene, jobs: BatchServer) -> None:
    jobs.lose["SubmitJob"] = 1
    assert submit(scene, NIGHT)[0]["job_id"]
    assert jobs.names() == ["sealift-pair-nightly-2026-11-25"]


def test_a_claim_whose_maker_died_is_taken_over(scene: Scene, jobs: BatchServer) -> None:
    """By the same call at once, by others a quarter of an hour later. Batch is asked for the job first."""
    folder, name = "starts/pair/nightly/2026-11-25", "sealift-pair-nightly-2026-11-25"
    first = submit(scene, NIGHT)[0]
    submitted = f"l/{folder}/submitted.json"
    for caller in ("request", "another"):
        [version] = scene.store.stored("ledger", submitted)
        scene.run(scene.store.delete(ObjectRef("ledger", submitted, version.version_id)))
        if caller == "another":
            with pytest.raises(Unavailable, match="another call"):
                submit(scene, NIGHT, caller)
            scene.store._buckets.clock = lambda: time.time() + CLAIM_SECONDS + 1
        assert submit(scene, NIGHT, caller)[0]["job_id"] == first["job_id"]
    assert jobs.names() == [name]


@pytest.mark.parametrize(
    "forged",
    [
        {"manifest": "s3://hotter/rows.csv"},
        {"manifest": "s3://ledger/l/manifests/pair=other/000001-0123456789ab.csv"},
        {"manifest": "s3://ledger/l/manifests/pair=pair/../../x.csv"},
        {"pair": "other"},
        {"number": 2},
        {"manifest": None},
    ],
)
def test_a_manifest_that_is_not_its_own_starts_nothing(scene: Scene, jobs: BatchServer, forged: dict[str, Any]) -> None:
    own = manifest()
    asked = {"action": "manifest", "pair": "pair", "number": 1}
    write(scene, "manifests/pair=pair/000001.json", own | forged)
    with pytest.raises(LedgerError, match="altered"):
        submit(scene, asked)
    assert jobs.names() == []
    write(scene, "manifests/pair=pair/000001.json", own)
    submit(scene, asked)
    assert command(jobs) == ["replicate", "--pair", "pair", "--yes", "--manifest", own["manifest"]]


def test_of_many_that_start_at_once_one_submits(scene: Scene, jobs: BatchServer) -> None:
    policy = scene.run(scene.runtime.policy())

    async def main() -> list[Any]:
        what = Start("pair", "nightly", "2026-11-25", ("nightly",))
        runtimes = [Runtime(scene.runtime.settings, open_region=lambda *_: scene.store) for _ in range(8)]
        starts = (start(each, policy, what, f"{number}") for number, each in enumerate(runtimes))
        return await asyncio.gather(*starts, return_exceptions=True)

    answers = scene.run(main())
    assert sum(isinstance(each, dict) and each["is_new"] for each in answers) == 1
    assert all(isinstance(each, dict | Unavailable) for each in answers)
    assert len(jobs.names()) == 1


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"action": "nightly", "pair": "other"}, "no pair 'other' in the policy, only pair"),
        ({"action": "nightly"}, "no pair None"),
        ({"action": "dance", "pair": "pair"}, "no action 'dance'"),
        ({"hello": "world"}, "no action None"),
    ],
)
def test_what_makes_no_sense_is_refused(scene: Scene, event: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        submit(scene, event)


def test_a_queue_that_is_not_there_is_an_error_and_the_night_can_still_begin(scene: Scene, jobs: BatchServer) -> None:
    del jobs.queues["sealift-orchestrators"]
    with pytest.raises(Rejected):
        submit(scene, NIGHT)
    jobs.add_queue("sealift-orchestrators")
    assert submit(scene, NIGHT)[0]["job_id"]
