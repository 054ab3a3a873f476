"""The submit function over a Batch of its own: one job for each night, manifest and report, whatever happens."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.aws.batch import Batch
from jobs.core.model import Attributes, Location
from jobs.errors import LedgerError, Rejected, UsageError
from jobs.policy.reader import read_policy
from jobs.s3.store import UNGUARDED
from scheduler.batch_starts import TIMEOUT_SECONDS, Start, start
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from scheduler.submit import handle
from tests.doubles.batch.account import Puppets, make_client, register
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
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
    scene.run(scene.store.put("ledger", f"l/{name}", json.dumps(document).encode(), Attributes(), guard=UNGUARDED))


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
    told = {"SEALIFT_LEDGER": f"s3://{place.ledger}/l", "SEALIFT_START": job.name}
    assert environment == told
    assert job.request["timeout"] == {"attemptDurationSeconds": TIMEOUT_SECONDS}  # days, not a worker's hours


def test_a_night_is_the_one_of_the_pairs_time_zone(tmp_path: Path, jobs: BatchServer) -> None:
    scene = Scene(tmp_path, nightly={"hour": "22:30", "time_zone": "America/New_York"})
    assert submit(scene, NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"})[0]["once"] == "2026-11-25"


def test_a_lost_answer_does_not_start_a_night_twice(scene: Scene, jobs: BatchServer) -> None:
    jobs.lose["SubmitJob"] = 1
    assert submit(scene, NIGHT)[0]["job_id"]
    assert jobs.names() == ["sealift-pair-nightly-2026-11-25"]


def test_a_claim_whose_owner_died_is_taken_over(scene: Scene, jobs: BatchServer) -> None:
    """Before it submitted, and after it did. What the claim wants to have run does not matter: it is a lock."""
    evil = ["replicate", "--source", "s3://evil", "--destination", "s3://hot", "--overwrite", "always"]
    claim = {"pair": "pair", "job": "replicate", "once": "2026-11-25", "command": evil, "at": 0, "token": "other"}
    name = "sealift-pair-nightly-2026-11-25"
    write(scene, f"starts/{name}.json", claim)
    first = submit(scene, NIGHT)[0]
    assert command(jobs) == ["nightly", "--pair", "pair", "--night", "2026-11-25"]
    assert jobs.job(name).request["jobDefinition"] == "sealift-nightly"
    submitted = f"l/starts/{name}.submitted.json"
    [version] = scene.store.stored("ledger", submitted)
    scene.run(scene.store.delete("ledger", submitted, version_id=version.version_id))
    assert submit(scene, NIGHT)[0]["job_id"] == first["job_id"]
    assert len(jobs.names()) == 1


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


def test_of_many_that_start_at_once_one_job_is_left(
    place: Place, batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    policy = read_policy(str(place.policy))
    store = MemoryStore()
    store.create_bucket("ledger")

    async def main() -> list[dict[str, Any]]:
        runtimes = [
            Runtime(FunctionSettings(str(place.policy), Location("ledger")), open_region=lambda *_: store)
            for _ in range(8)
        ]
        what = Start("pair", "nightly", "2026-11-25", ("nightly",))
        return await asyncio.gather(*(start(each, policy, what, Batch()) for each in runtimes))

    answers = asyncio.run(main())
    assert len({each["job_id"] for each in answers}) == 1
    with batch.engine.lock:
        alive = [job.id for job in batch.engine.jobs.values() if job.status not in ("SUCCEEDED", "FAILED")]
    assert alive == [answers[0]["job_id"]]


def test_of_two_jobs_submitted_at_the_same_moment_one_is_ended(place: Place) -> None:
    """Neither finds the other's job in Batch: both have looked before either was there."""

    class Twice(Batch):
        def __init__(self) -> None:
            super().__init__()
            self.submitted: list[str] = []
            self.ended: list[str] = []
            self.both = threading.Barrier(2, timeout=20)

        def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
            self.both.wait()
            self.submitted.append(f"job-{len(self.submitted)}-{threading.get_ident()}")
            return self.submitted[-1]

        def terminate(self, job_id: str, reason: str) -> None:
            self.ended.append(job_id)

    edge, store = Twice(), MemoryStore()
    store.create_bucket("ledger")
    policy = read_policy(str(place.policy))

    async def main() -> list[dict[str, Any]]:
        runtime = Runtime(FunctionSettings(str(place.policy), Location("ledger")), open_region=lambda *_: store)
        what = Start("pair", "nightly", "2026-11-25", ("nightly",))
        return await asyncio.gather(*(start(runtime, policy, what, edge) for _ in range(2)))

    one, other = asyncio.run(main())
    assert one["job_id"] == other["job_id"]
    assert edge.ended == [job_id for job_id in edge.submitted if job_id != one["job_id"]]
    assert len(edge.ended) == 1


PARTS = st.sampled_from(["a", "b", "backfill", "id", "nightly", "a-b", "backfill-id-a"])
STARTS = st.builds(
    lambda pair, job, once: Start(pair, job, once, ()),
    PARTS,
    st.sampled_from(["nightly", "backfill"]),
    st.lists(st.sampled_from(["a", "b", "-", ".", "/", "ü", " ", "backfill", "nightly", "id"]), min_size=1).map(
        "".join
    ),
)


@settings(max_examples=examples(500))
@given(STARTS, STARTS)
@example(Start("a", "backfill", "id-backfill-b", ()), Start("a-backfill-id", "backfill", "b", ()))
def test_two_starts_never_share_a_name(one: Start, other: Start) -> None:
    policy: Any = SimpleNamespace(name="sealift")
    assert (one.name(policy) == other.name(policy)) == (one == other)
    assert re.fullmatch("[A-Za-z0-9_-]{1,128}", one.name(policy))


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
