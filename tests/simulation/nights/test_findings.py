"""What the simulator found in the functions of the nights, each as the shortest scene that shows it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import scheduler.enqueue
import scheduler.follow
import scheduler.submit
from jobs.core.model import Attributes, Location
from jobs.errors import UsageError
from jobs.policy.model import Policy
from jobs.s3.store import UNGUARDED
from scheduler import backlog
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.memory_store import MemoryStore
from tests.simulation.engine.loop import run_at_once
from tests.simulation.nights.course import ARN
from tests.simulation.nights.inputs import NONSENSE, read_policy

RUN = "20231115T000000Z-replicate-001f00"
NIGHT = "sealift-east-nightly-2023-11-15"


class Scene(Runtime):
    """A runtime over a ledger in memory. `mails`: the subjects that people got."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.memory.create_bucket("ledger")
        self.mails: list[str] = []
        super().__init__(FunctionSettings("", Location("ledger", "l/")), open_region=lambda *_: self.memory)

    async def policy(self) -> Policy:
        return read_policy()

    def put(self, name: str, **document: Any) -> None:
        data = json.dumps(document).encode()
        run_at_once(self.memory.put("ledger", f"l/{name}", data, Attributes(), guard=UNGUARDED))

    def start(self, name: str, job: str, once: str, job_id: str | None = "job-1", *command: str) -> None:
        """What submit leaves behind; without an id, it has not come so far."""
        self.put(
            f"starts/{name}.json", pair="" if job == "report" else "east", job=job, once=once, command=[job, *command]
        )
        if job_id:
            self.put(f"starts/{name}.submitted.json", job_id=job_id)

    async def follow(self, name: str, status: str = "FAILED", job_id: str = "job-1", code: int | None = None) -> str:
        detail: dict[str, Any] = {"jobName": name, "jobId": job_id, "status": status}
        detail["container"] = {} if code is None else {"exitCode": code}
        event = {"detail-type": "Batch Job State Change", "detail": detail}
        action: str = (await scheduler.follow.handle(self, event, ARN))["action"]
        return action

    def report(self, bad: int = 0) -> None:
        outcomes = {"copied": 10 - bad, "denied": bad}
        known = {"job": "replicate", "state": "complete", "rows": 10, "accounted": 10, "failures": bad}
        self.put(f"runs/{RUN}/report.json", run_id=RUN, outcomes=outcomes, **known)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    monkeypatch.setattr(scheduler.follow, "publish", lambda topic, subject, body: made.mails.append(subject))
    monkeypatch.setattr(scheduler.follow, "ANNOUNCE_SECONDS", 0.2)
    monkeypatch.setattr(scheduler.follow, "_LOOK_SECONDS", 0.02)
    return made


@pytest.mark.parametrize(
    ("name", "job"),
    [(NIGHT, "nightly"), (f"sealift-report-{RUN}-000", "report"), ("sealift-east-backfill-x", "backfill")],
)
def test_of_two_jobs_of_a_name_the_end_of_the_second_is_not_told_for_the_first(scene: Scene, name: str, job: str):
    """Submit had ended it, follow told people that the night had FAILED, and nobody heard how it really ended."""
    scene.start(name, job, {"report": f"{RUN}-000", "backfill": "x"}.get(job, "2023-11-15"))
    assert asyncio.run(scene.follow(name, job_id="job-2")) == "ignored"
    assert scene.mails == []
    assert asyncio.run(scene.follow(name, job_id="job-1")) == "told"


def test_a_run_without_a_report_that_is_retried_is_told_of_again(scene: Scene):
    """The first mail's note stood for the run: what a retry came to, nobody heard."""
    assert asyncio.run(scene.follow(f"{RUN}-000-report")) == "told"
    scene.report(bad=3)
    for expected in ("told", "told before"):
        assert asyncio.run(scene.follow(f"{RUN}-001-report")) == expected
    assert scene.mails == [
        f"Sealift: {RUN} has no report",
        "Sealift replicate: 3 of 10 rows need attention: 3 denied.",
    ]


def test_a_night_that_did_not_end_is_told_of_again_when_it_has(scene: Scene):
    scene.start(NIGHT, "nightly", "2023-11-15", None)
    assert asyncio.run(scene.follow(NIGHT)) == "told"
    summary = {"pair": "east", "night": "2023-11-15", "verdict": "All is well.", "left": 0, "stages": [], "summary": ""}
    scene.put("nights/east/2023-11-15.json", **summary)
    assert asyncio.run(scene.follow(NIGHT, "SUCCEEDED", "job-2", 0)) == "told"
    assert scene.mails == ["Sealift night of east FAILED", "Sealift night of east: All is well."]


def test_two_who_hear_of_one_end_at_once_tell_it_once(scene: Scene):
    """Both looked, neither had told yet: two mails, without a lost answer or a crash."""
    scene.report()

    async def main() -> list[str]:
        return await asyncio.gather(*(scene.follow(f"{RUN}-000-report", "SUCCEEDED") for _ in range(3)))

    assert sorted(asyncio.run(main())) == ["told", "told before", "told before"]
    assert len(scene.mails) == 1


def test_who_was_about_to_tell_and_died_is_not_waited_for_for_ever(scene: Scene):
    scene.report()
    scene.put(f"told/{RUN}.begun.json", token="of the dead")
    assert asyncio.run(scene.follow(f"{RUN}-000-report", "SUCCEEDED")) == "told"
    assert len(scene.mails) == 1


def test_what_a_reconciliation_of_finished_inventories_has_found_is_told(scene: Scene):
    """It makes its report itself, so that no report job tells of it; exit code 3 was taken for "its run tells"."""
    scene.start("sealift-east-reconcile-x", "reconcile", "x")
    assert asyncio.run(scene.follow("sealift-east-reconcile-x", code=3)) == "told"
    assert scene.mails == ["Sealift reconcile of east: rows need attention"]
    assert asyncio.run(scene.follow("sealift-east-reconcile-x", "SUCCEEDED", code=0)) == "ended"


@pytest.mark.parametrize(("function", "event"), NONSENSE)
def test_nonsense_is_a_mistake_of_who_sends_it(scene: Scene, function: str, event: dict[str, Any]):
    """KeyError, TypeError and ValueError left submit and follow; a text of prefixes was taken letter by letter."""
    handle = {
        "submit": lambda: scheduler.submit.handle(scene, event, "request"),
        "enqueue": lambda: scheduler.enqueue.handle(scene, event),
        "follow": lambda: scheduler.follow.handle(scene, event, ARN),
    }[function]
    with pytest.raises(UsageError):
        asyncio.run(handle())
    assert run_at_once(scene.names("")) == []


def numbers(scene: Scene, event: dict[str, Any]) -> list[int]:
    return [each.number for each in asyncio.run(scheduler.enqueue.handle(scene, event)).manifests]


def test_a_manifest_of_which_nobody_was_told_is_not_lost_behind_those_that_a_script_lists(scene: Scene):
    """Only the last five were looked at, and only with the backlog: whoever listed more in between buried it."""

    async def publish() -> None:
        await backlog.publish_listed(scene, "east", [], ["a/lost/"], "its publisher died")

    asyncio.run(publish())
    for number in range(2, 9):
        assert numbers(scene, {"pair": "east", "prefixes": ["a/b/"]}) == [*range(1, number + 1)]
    assert numbers(scene, {"action": "backlog"}) == [*range(1, 9)]
    for number in range(1, 9):
        scene.start(f"sealift-east-backfill-{number:06d}-0", "backfill", f"{number:06d}-0")
    assert numbers(scene, {"action": "backlog"}) == []


def test_a_manifest_of_which_one_run_was_not_started_is_told_again(scene: Scene):
    assert numbers(scene, {"pair": "east", "prefixes": ["a/1/", "a/2/"]}) == [1]
    scene.start("sealift-east-backfill-000001-0", "backfill", "000001-0")
    assert numbers(scene, {"action": "backlog"}) == [1]
    scene.start("sealift-east-backfill-000001-1", "backfill", "000001-1")
    assert numbers(scene, {"action": "backlog"}) == []
