"""Documents of a submission in the ledger: they say what was sent, and never what may be sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.batch_workers import Fleet
from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import copy_run, twin, write


@pytest.fixture
def planned(yard: Fleet) -> str:
    """A run that is planned, with one object to copy, and has never been sent to Batch."""
    yard.world.put("a")
    done = yard.world.run("replicate")["run_id"]
    forged = twin(done)
    copy_run(yard.world, done, forged)
    return forged


def write_submission(world: World, run_id: str, other: dict[str, Any]) -> None:
    placement: dict[str, Any] = {"queue": "spot", "job_definition": "sealift-replicate", "system": None}
    document: dict[str, Any] = {"spec_version": 1, "run_id": run_id, "number": 0, "shards": [[0, 0]], "per_child": 1}
    document |= {"ledger": f"s3://{world.ledger}/runs", "after": None, "token": "x", "at": 0}
    for name, value in other.items():
        (placement if name in placement else document)[name] = value
    write(world, f"runs/{run_id}/batch/000.json", json.dumps(document | {"placement": placement}).encode())


@pytest.mark.parametrize(
    ("forged", "code", "says"),
    [
        ({"ledger": "s3://evil/runs"}, 10, "s3://evil/runs"),
        ({"run_id": "20261125T003345Z-expire-1f3a02"}, 10, "20261125T003345Z-expire-1f3a02"),
        ({"shards": [[0, 10**12]]}, 10, "altered"),
    ],
)
def test_a_forged_submission_sends_nothing(
    yard: Fleet, planned: str, forged: dict[str, Any], code: int, says: str
) -> None:
    write_submission(yard.world, planned, forged)
    result = yard.sealift("runs", "retry", planned, "--executor", "detached")
    assert (result.code, says in result.stderr) == (code, True), result.stdout + result.stderr
    assert yard.batch.names() == []


@pytest.mark.parametrize("forged", [{"job_definition": "sealift-expire"}, {"queue": "calm"}])
def test_where_a_run_goes_is_not_the_documents_affair(yard: Fleet, planned: str, forged: dict[str, Any]) -> None:
    write_submission(yard.world, planned, forged)
    result = yard.sealift("runs", "retry", planned, "--executor", "detached")
    assert result.code == 0, result.stdout + result.stderr
    sent = [yard.batch.job(name).request for name in yard.batch.names()]
    assert {(each["jobQueue"], each["jobDefinition"]) for each in sent} == {("spot", "sealift-replicate")}
