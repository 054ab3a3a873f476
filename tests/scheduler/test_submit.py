"""The submit function over a Batch of its own: one job for each night, manifest and report, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.errors import LedgerError, Rejected, Unavailable, UsageError
from jobs.ledger.claims import CLAIM_SECONDS
from scheduler.batch_starts import TIMEOUT_SECONDS, Start, start
from scheduler.runtime import Runtime
from scheduler.submit import handle
from tests.doubles.batch.server import BatchServer
from tests.scheduler.conftest import command_of
from tests.scheduler.scene import Scene

NIGHT = {"action": "nightly", "pair": "pair", "scheduled_at": "2026-11-25T03:30:00Z"}


def submit(scene: Scene, event: Mapping[str, Any], request_id: str = "request") -> list[dict[str, Any]]:
    started: list[dict[str, Any]] = scene.run(handle(scene.runtime, event, request_id))["started"]
    return started


def manifest() -> dict[str, Any]:
    own = "s3://ledger/l/manifests/pair=pair/000001-0123456789ab.csv"
    taken = {"created_at": 1.0, "taken_before": 0, "taken": []}
    return {"version": 2, "pair": "pair", "number": 1, "manifest": own, "rows": 1, "size_bytes": 0, **taken}


def test_a_night_is_started_once_whoever_asks_again(scene: Scene, jobs: BatchServer) -> None:
    """Scheduler may be a little late, and Lambda repeats a call."""
    first, again, late, next_night = (
        submit(scene, NIGHT | {"scheduled_at": time})[0]
        for time in ("2026-11-25T03:30:00Z", "2026-11-25T03:30:00Z", "2026-11-25T03:42:00Z", "2026-11-26T03:30:00Z")
    )
    assert [each["is_new"] for each in (first, again, late, next_night)] == [True, False, False, True]
    assert first["job_id"] == again["job_id"] == late["job_id"]
    assert jobs.names() == ["sealift-pair-nightly-2026-11-25", "sealift-pair-nightly-2026-11-26"]
    request = jobs.job("sealift-pair-nightly-2026-11-25").request
    assert request["jobDefinition"] == "sealift-nightly"
    assert request["containerOverrides"] == {
        "command": ["nightly", "--pair", "pair", "--night", "2026-11-25"],
        "environment": [{"name": "SEALIFT_LEDGER", "value": "s3://ledger/l"}],
    }
    assert request["timeout"] == {"attemptDurationSeconds": TIMEOUT_SECONDS}  # days, not a worker's hours


def test_a_night_is_the_one_of_the_pairs_time_zone(tmp_path: Path, jobs: BatchServer) -> None:
    scene = Scene(tmp_path, nightly={"hour": "22:30", "time_zone": "America/New_York"})
    assert submit(scene, NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"})[0]["once"] == "2026-11-25"


def test_a_drill_is_started_once_a_day_where_the_policy_has_drills(
    scene: Scene, tmp_path: Path, jobs: BatchServer
) -> None:
    asked = NIGHT | {"action": "drill"}
    with pytest.raises(UsageError, match="add drill"):
        submit(scene, asked)
    place = {"bucket": "source", "region": "us-east-1"}
    pair = {"name": "pair", "source": place, "destination": place | {"bucket": "hotter"}}
    scene.write_policy(tmp_path, [pair], drill=place | {"bucket": "drills"})
    scene.runtime = Runtime(scene.runtime.settings, open_region=lambda *_: scene.store)
    assert [submit(scene, asked)[0]["is_new"] for _ in range(2)] == [True, False]
    assert jobs.names() == [name := "sealift-pair-drill-2026-11-25"]
    assert jobs.job(name).request["jobDefinition"] == "sealift-drill"
    assert command_of(jobs, name) == ["drill", "--pair", "pair", "--name", "2026-11-25", "--yes"]


def test_a_lost_answer_or_a_refusal_starts_a_night_neither_twice_nor_never(scene: Scene, jobs: BatchServer) -> None:
    del jobs.queues["sealift-orchestrators"]
    with pytest.raises(Rejected):
        submit(scene, NIGHT)
    jobs.add_queue("sealift-orchestrators")
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


def test_a_manifest_that_is_not_its_own_starts_nothing(scene: Scene, jobs: BatchServer) -> None:
    own, asked = manifest(), {"action": "manifest", "pair": "pair", "number": 1}
    for forged in (
        {"manifest": "s3://hotter/rows.csv"},
        {"manifest": "s3://ledger/l/manifests/pair=other/000001-0123456789ab.csv"},
        {"manifest": "s3://ledger/l/manifests/pair=pair/../../x.csv"},
        {"pair": "other"},
        {"number": 2},
        {"manifest": None},
    ):
        scene.write("manifests/pair=pair/000001.json", own | forged)
        with pytest.raises(LedgerError, match="altered"):
            submit(scene, asked)
    assert jobs.names() == []
    scene.write("manifests/pair=pair/000001.json", own)
    submit(scene, asked)
    assert command_of(jobs, *jobs.names()) == ["replicate", "--pair", "pair", "--yes", "--manifest", own["manifest"]]


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


def test_what_makes_no_sense_is_refused(scene: Scene) -> None:
    for event, says in (
        ({"action": "nightly", "pair": "other"}, "no pair 'other': name one of pair"),
        ({"action": "nightly"}, "no pair None"),
        ({"action": "dance", "pair": "pair"}, "no action 'dance'"),
        ({"hello": "world"}, "no action None"),
    ):
        with pytest.raises(UsageError, match=says):
            submit(scene, event)
