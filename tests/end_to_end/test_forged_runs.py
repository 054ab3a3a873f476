"""A run whose documents do not agree starts nothing, and forged rows replace nothing that is newer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import copy_run, edit_json, edit_rows, read, twin, write


@pytest.fixture
def run(world: World) -> dict[str, Any]:
    """A run that has copied `a` and `b`, whose copy of `b` has become another, newer object since."""
    world.put("a")
    world.put("b")
    report = world.run("replicate", processes="1")
    assert report["outcomes"] == {"done": 2}
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"newer!!")
    return report


def refused(world: World, forged_id: str, *words: str) -> None:
    """`runs retry` ends with exit code 10, names the document and what to do, and has written nothing."""
    result = world.sealift("runs", "retry", forged_id, "--yes")
    assert result.code == 10, result.stdout + result.stderr
    for word in (*words, "start a new run"):
        assert word in result.stderr
    assert world.copy_of("b") == b"newer!!"


def test_a_run_that_is_called_verify_does_not_copy(world: World, run: dict[str, Any]) -> None:
    forged = twin(run["run_id"], "verify")
    copy_run(world, run["run_id"], forged, lambda spec: spec["options"].update(overwrite="always"))
    refused(world, forged, "spec.json", "'replicate'", "verify")


def test_a_shard_with_other_rows_than_planned_is_not_worked_on(world: World, run: dict[str, Any]) -> None:
    forged = twin(run["run_id"])
    copy_run(world, run["run_id"], forged)
    edit_rows(world, f"runs/{forged}/shards/00000.parquet", row=5)
    refused(world, forged, "shards/00000.parquet")


def verified(world: World) -> dict[str, Any]:
    """A verify run that has found one object wrong."""
    world.put("wrong", b"what it should be")
    world.client.put_object(Bucket=world.destination, Key="wrong", Body=b"what it should b3")
    report = world.run("verify")
    assert report["outcomes"]["different"] == 1
    return report


def test_a_condemned_newer_version_is_not_replaced_by_an_older_one(versioned: World) -> None:
    old = versioned.put("key", b"old")
    versioned.put("key", b"new")
    assert versioned.run("replicate")["outcomes"] == {"done": 1}
    report = verified(versioned)
    there = versioned.client.head_object(Bucket=versioned.destination, Key="key")
    forged = {"key": "key", "version_id": old["VersionId"], "etag": old["ETag"].strip('"'), "size_bytes": 3}
    forged["condemned_etag"] = there["ETag"].strip('"')
    edit_rows(versioned, f"runs/{report['run_id']}/failures.parquet", **forged)
    again = versioned.run("replicate", "--manifest", f"run:{report['run_id']}")  # a retry has none of these rows
    assert again["outcomes"] == {"same": 1}  # a row says which key is meant, the source what belongs on top
    assert [each.version_id for each in versioned.history(versioned.destination, "key")] == [there["VersionId"]]


@pytest.mark.parametrize(
    "place", ["s3://{ledger}/elsewhere.parquet", "{run}/../x/failures.parquet", "{run}/repair.parquet"]
)
def test_a_report_does_not_name_other_rows_than_its_own(world: World, place: str) -> None:
    report = verified(world)
    run = f"runs/{report['run_id']}"
    write(world, "elsewhere.parquet", read(world, f"{run}/failures.parquet"))
    uri = place.format(ledger=f"{world.ledger}/runs", run=f"s3://{world.ledger}/runs/{run}")
    edit_json(world, f"{run}/report.json", lambda document: document.update(failures_manifest=uri))
    retried = world.sealift("runs", "retry", report["run_id"])
    assert (retried.code, "not a file of this run" in retried.stderr) == (10, True), retried.stdout + retried.stderr
    assert world.copy_of("wrong") == b"what it should b3"
