"""A file of failed rows condemns nothing by itself: what a retry overwrites is proven wrong directly before."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forged_runs import Forger


def forge(world: World, report: dict[str, Any], **values: Any) -> None:
    """Other values in the only failed row of a run."""
    forger, name = Forger(world), f"runs/{report['run_id']}/failures.parquet"
    table = forger.table(name)
    rows = [{**table.to_pylist()[0], **values}]
    forger.write_table(name, pa.Table.from_pylist(rows, schema=table.schema))


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
    forge(
        versioned,
        report,
        key="key",
        version_id=old["VersionId"],
        etag=old["ETag"].strip('"'),
        size_bytes=3,
        condemned_etag=there["ETag"].strip('"'),
    )
    again = versioned.run("replicate", "--manifest", f"run:{report['run_id']}")  # a retry has none of these rows
    assert again["outcomes"] == {"same": 1}  # a row says which key is meant, the source what belongs on top
    assert [each.version_id for each in versioned.history(versioned.destination, "key")] == [there["VersionId"]]


@pytest.mark.parametrize(
    "place", ["s3://{ledger}/elsewhere.parquet", "{run}/../x/failures.parquet", "{run}/repair.parquet"]
)
def test_a_report_does_not_name_other_rows_than_its_own(world: World, place: str) -> None:
    report = verified(world)
    forger, name = Forger(world), f"runs/{report['run_id']}/report.json"
    run = f"s3://{world.ledger}/runs/runs/{report['run_id']}"
    forger.write("elsewhere.parquet", forger.read(f"runs/{report['run_id']}/failures.parquet"))
    uri = place.format(ledger=f"{world.ledger}/runs", run=run)
    forger.write_document(name, forger.document(name) | {"failures_manifest": uri})
    retried = world.sealift("runs", "retry", report["run_id"])
    assert (retried.code, "not a file of this run" in retried.stderr) == (10, True), retried.stdout + retried.stderr
    assert world.copy_of("wrong") == b"what it should b3"
