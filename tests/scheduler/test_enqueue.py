"""The enqueue function: what waits becomes a manifest, once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from jobs.errors import UsageError
from jobs.ledger.backlog import Manifest
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.enqueue import handle
from scheduler.runtime import Runtime
from tests.doubles.lambda_invoke import LambdaApi
from tests.scheduler.conftest import Place
from tests.scheduler.scene import Scene, slow

WITHIN = {"bucket": "source", "region": "us-east-1", "prefixes": ["in/"]}


def test_a_manifest_that_submit_has_not_started_is_told_again(place: Place, api: LambdaApi) -> None:
    api.refuse = 1
    with place.function("enqueue") as enqueue:
        lines = json.dumps(asdict(BacklogRow(place.source, "a", None, 1, None, "large"))).encode()
        name = "backlog/pair=pair/0000000000001-1-1-0123456789ab.json"
        place.client.put_object(Bucket=place.ledger, Key=f"l/{name}", Body=lines)
        assert enqueue.invoke({"action": "backlog"}).error_type == "Denied"
        assert len(enqueue.invoke({"action": "backlog"}).payload["manifests"]) == 1
        name = "starts/pair/backfill/000001/submitted.json"
        place.client.put_object(Bucket=place.ledger, Key=f"l/{name}", Body=b'{"job_id": "1"}')
        assert enqueue.invoke({"action": "backlog"}).payload["manifests"] == []
    assert len(api.calls) == 1


def test_a_pair_that_the_policy_does_not_have_is_refused(scene: Scene) -> None:
    with pytest.raises(UsageError, match="no pair 'other'"):
        enqueue(scene, pair="other")


def test_rows_of_the_backlog_that_are_not_the_pairs_are_refused_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path, source=WITHIN)
    good = asdict(row("in/a"))
    forged = [{**good, "key": "out/a"}, {**good, "bucket": "hotter"}, {"key": 5}, 7, [], None]
    forged += [{**good, "last_modified": time} for time in ("2026-11-25", -1, True, float("nan"), 1e18)]
    newer = {**good, "key": "in/b", "of_a_newer_sealift": 1, "last_modified": 1_795_567_620.125}
    lines = [json.dumps(each) for each in (*forged, good, newer)] + ["no JSON"]
    data = "\n".join(lines).encode()
    scene.run(scene.runtime.write_once("backlog/pair=pair/0000000000001-9-9-0123456789ab.json", data))
    (published,) = enqueue(scene, pair="pair", now=True)
    log = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    left_out = [each for each in log if each.get("event") == "backlog row left out"]
    assert (published.rows, len(left_out)) == (2, 12)
    assert manifest(scene, published) == ["source,in/a,,10,", "source,in/b,,10,2026-11-25T00:47:00.125+00:00"]


def manifest(scene: Scene, published: Manifest) -> list[str]:
    data: bytes = scene.run(scene.runtime.read(published.manifest.removeprefix("s3://ledger/l/")))
    return data.decode().splitlines()


def row(key: str) -> BacklogRow:
    return BacklogRow("source", key, None, 10, None, "large")


def enqueue(scene: Scene, **event: Any) -> list[Manifest]:
    scene.announced = []
    scene.runtime.run(handle(scene.runtime, event, scene.announce))
    return scene.announced


def test_a_day_of_a_backlogs_runs_costs_no_more_than_the_policy_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GiB to another region costs two cents. What does not fit holds up nothing behind it."""
    now, far = [1e9], {"bucket": "hotter", "region": "eu-west-1"}
    scene = Scene(tmp_path, destination=far, limits={"max_cost": 0.05}, thresholds={"backlog_rows": 1})
    scene.runtime.clock = lambda: now[0]
    for key, gib in (("huge", 10), ("a", 1), ("b", 1), ("c", 1)):
        large = BacklogRow("source", key, None, gib * 1024**3, None, "large")
        scene.runtime.run(backlog.add(scene.runtime, "pair", [large]))
        now[0] += 1
    (published,) = enqueue(scene)
    assert [line.split(",")[1] for line in manifest(scene, published)] == ["a", "b"]
    assert len(enqueue(scene, now=True)) == 1
    (told, _) = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("rows")][:2]
    assert (told["event"], told["rows"], "max_cost" in told["reason"]) == ("backlog waits", 2, True)
    now[0] += 86_400
    assert [each.rows for each in enqueue(scene)] == [2, 1]


def test_a_backlog_is_due_by_age_or_on_demand(scene: Scene) -> None:
    now = [1e9]
    scene.runtime.clock = lambda: now[0]
    scene.runtime.run(backlog.add(scene.runtime, "pair", [row("a"), row("b")]))
    assert enqueue(scene) == []
    now[0] += 3_599
    assert enqueue(scene) == []
    now[0] += 1
    (published,) = enqueue(scene)
    assert (published.rows, published.size_bytes) == (2, 20)
    assert scene.runtime.run(backlog.waiting(scene.runtime, "pair")) == []
    scene.runtime.run(backlog.add(scene.runtime, "pair", [row("c")]))
    assert [each.number for each in enqueue(scene, pair="pair", now=True)] == [1, 2]


def test_of_many_at_once_each_row_is_taken_once(scene: Scene) -> None:
    async def main() -> list[Manifest | None]:
        runtimes = [Runtime(scene.runtime.settings, open_region=lambda *_: scene.store) for _ in range(5)]
        for number in range(4):
            await backlog.add(runtimes[0], "pair", [row(f"{number}")])
        scene.store.hook(every=slow(lambda request: 0.001))
        published: list[Manifest | None] = []
        while waiting := await backlog.waiting(runtimes[0], "pair"):
            published += await asyncio.gather(
                *(backlog.publish(each, "pair", waiting[place:], "now") for place, each in enumerate(runtimes))
            )
        return published

    published = [each for each in asyncio.run(main()) if each is not None]
    assert sum(each.rows for each in published) == 4
    assert [each.number for each in sorted(published, key=lambda each: each.number)] == list(
        range(1, len(published) + 1)
    )
