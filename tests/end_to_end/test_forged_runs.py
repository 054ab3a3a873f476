"""A run whose id, spec, plan and shards do not agree starts nothing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forged_runs import Forger


@pytest.fixture
def forger(world: World) -> Forger:
    return Forger(world)


@pytest.fixture
def run(world: World) -> dict[str, Any]:
    """A run that has copied `a` and `b`, whose copy of `b` has become another, newer object since."""
    world.put("a")
    world.put("b")
    report = world.run("replicate", processes="1")
    assert report["outcomes"] == {"done": 2}
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"newer!!")
    return report


def twin(run_id: str, job: str = "replicate") -> str:
    """Another id of the same second."""
    stamp, _, tail = run_id.split("-")
    return f"{stamp}-{job}-{tail[:-1]}{'0' if tail[-1] != '0' else '1'}"


def refused(world: World, forged_id: str, *words: str) -> None:
    """`runs retry` ends with exit code 10, names the document and what to do, and has written nothing."""
    result = world.sealift("runs", "retry", forged_id, "--yes")
    assert result.code == 10, result.stdout + result.stderr
    for word in (*words, "start a new run"):
        assert word in result.stderr
    assert world.copy_of("b") == b"newer!!"


def test_a_run_that_is_called_verify_does_not_copy(world: World, forger: Forger, run: dict[str, Any]) -> None:
    forged = twin(run["run_id"], "verify")
    options = forger.document(f"runs/{run['run_id']}/spec.json")["options"] | {"overwrite": "always"}
    forger.copy_run(run["run_id"], forged, options=options)
    refused(world, forged, "spec.json", "'replicate'", "verify")


def test_a_shard_with_other_rows_than_planned_is_not_worked_on(
    world: World, forger: Forger, run: dict[str, Any]
) -> None:
    forged = twin(run["run_id"])
    forger.copy_run(run["run_id"], forged)
    shard = forger.table(f"runs/{run['run_id']}/shards/00000.parquet")
    changed = shard.set_column(0, shard.schema.field("row"), pa.array([0, 5], pa.int64()))
    forger.write_table(f"runs/{forged}/shards/00000.parquet", changed)
    refused(world, forged, "shards/00000.parquet")
