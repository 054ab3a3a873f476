"""`sealift verify` with reports of checksums at rest: proof without reading, and of nothing that has changed."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.core.model import Checksum
from jobs.s3.checksums import full_object
from tests.checksum_reports.samples import manifest, result_file, task
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import upload_in_parts

MIB = 1024 * 1024


def report(world: World, bucket: str, name: str, checksums: dict[str, Checksum], **changed: Any) -> str:
    """A report over objects as they are now, in the ledger's bucket; its URI."""
    rows = []
    for key, checksum in checksums.items():
        head = world.client.head_object(Bucket=bucket, Key=key)
        version = head.get("VersionId")
        rows.append(task(bucket, key, checksum, etag=head["ETag"].strip('"'), version_id=version))
    rows += changed.get("more", [])
    data = result_file(rows)
    made = manifest(world.ledger, f"jobs/{name}", {"good.csv": data}, changed.get("created_at", time.time() + 60))
    world.client.put_object(Bucket=world.ledger, Key=f"jobs/{name}/results/good.csv", Body=data)
    world.client.put_object(Bucket=world.ledger, Key=f"jobs/{name}/manifest.json", Body=made)
    return f"s3://{world.ledger}/jobs/{name}/manifest.json"


def outcomes(world: World, run: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Key → status, evidence, detail of the reason."""
    rows: dict[str, tuple[str, str, str]] = {}
    prefix = f"runs/runs/{run['run_id']}/outcomes/"
    for each in world.client.list_objects_v2(Bucket=world.ledger, Prefix=prefix)["Contents"]:
        data = world.client.get_object(Bucket=world.ledger, Key=each["Key"])["Body"].read()
        for row in pq.read_table(io.BytesIO(data)).to_pylist():
            rows[row["key"]] = (row["status"], row["evidence"], row["detail"])
    return rows


@pytest.fixture
def pair(world: World) -> tuple[World, dict[str, Checksum]]:
    """Three objects whose copies were cut into other parts, so that nothing stored is comparable."""
    checksums = {}
    for number, key in enumerate(("a b+c", "line\nbreak", "plain")):
        body = bytes([number]) * (6 * MIB)
        upload_in_parts(world, world.source, key, body, 5 * MIB)
        upload_in_parts(world, world.destination, key, body, 6 * MIB)
        checksums[key] = full_object("CRC32", body)
    assert world.run("verify")["outcomes"] == {"unknown": 3}
    return world, checksums


@pytest.mark.slow
def test_what_both_reports_cover_is_verified_without_reading(pair: tuple[World, dict[str, Checksum]]) -> None:
    world, checksums = pair
    source = report(world, world.source, "source", checksums)
    destination = report(world, world.destination, "destination", checksums)
    given = ["--source-checksums", source, "--destination-checksums", destination]
    for how in ([], ["--deep"]):
        found = world.run("verify", *given, *how)
        assert (found["code"], found["outcomes"], found["evidence"]) == (0, {"verified": 3}, {"checksum": 3})
        for status, evidence, detail in outcomes(world, found).values():
            assert (status, evidence) == ("verified", "checksum")
            assert source in detail
            assert destination in detail
            assert " h old" in detail
    only_one = world.run("verify", "--source-checksums", source, "--deep")
    assert only_one["evidence"] == {"content": 3}, "one side's report leaves the reading to be done"


def test_a_source_that_rotted_is_damaged_and_no_retry_copies_it_over_the_copy(world: World) -> None:
    """It was `mismatched`, which condemned the good copy."""
    value = base64.b64encode(hashlib.sha256(b"content").digest()).decode()
    for bucket in (world.source, world.destination):
        world.client.put_object(Bucket=bucket, Key="k", Body=b"content", ChecksumSHA256=value)
    written = world.client.head_object(Bucket=world.destination, Key="k")["LastModified"]
    rotten = report(world, world.source, "rot", {"k": full_object("SHA256", b"c0ntent")})
    found = world.run("verify", "--source-checksums", rotten)
    assert (found["code"], found["outcomes"]) == (3, {"damaged": 1})
    assert "damaged" in found["reasons"][0]["reason"]
    rot = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.source}/k",))
    with fault_proxy(world.server.endpoint, rot) as disk:
        retry = world.sealift("runs", "retry", found["run_id"], "--json", AWS_ENDPOINT_URL_S3=disk.endpoint)
    assert (retry.code, retry.document["outcomes"]) == (3, {"damaged": 1}), retry
    assert world.client.head_object(Bucket=world.destination, Key="k")["LastModified"] == written
