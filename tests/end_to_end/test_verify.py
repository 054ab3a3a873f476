"""`sealift verify` on a real server: it finds exactly what is wrong, and says what it cannot judge."""

from __future__ import annotations

import time

import pytest

from jobs.s3.checksums import full_object
from tests.checksum_reports.samples import manifest, result_file, task
from tests.end_to_end.conftest import World

MIB = 1024 * 1024


@pytest.fixture
def pair(world: World) -> World:
    """Twelve objects and their copies."""
    for number in range(12):
        world.put(f"k{number:02d}", f"content {number}".encode())
    assert world.run("replicate")["outcomes"] == {"done": 12}
    return world


def flip(world: World, key: str) -> None:
    body = bytearray(world.copy_of(key))
    body[-1] ^= 1
    world.client.put_object(Bucket=world.destination, Key=key, Body=bytes(body))


@pytest.mark.parametrize("how", [[], ["--deep"]])
def test_exactly_the_damaged_copies_are_found_and_repaired(pair: World, how: list[str]) -> None:
    assert pair.run("verify", *how)["outcomes"] == {"verified": 12}
    flip(pair, "k07")
    flip(pair, "k01")
    pair.client.put_object(Bucket=pair.destination, Key="k02", Body=b"another size")
    pair.client.put_object(Bucket=pair.destination, Key="k03", Body=b"content 3", Metadata={"by": "another"})
    pair.client.delete_object(Bucket=pair.destination, Key="k10")
    found = pair.run("verify", *how)
    assert (found["code"], found["outcomes"]) == (3, {"verified": 7, "different": 4, "missing": 1})
    assert {row["key"]: row["status"] for row in pair.failed_rows(found)} == {
        "k07": "different",
        "k01": "different",
        "k02": "different",
        "k03": "different",
        "k10": "missing",
    }
    retried = pair.sealift("runs", "retry", found["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (0, {"done": 5})
    assert pair.run("verify", *how)["outcomes"] == {"verified": 12}


def test_a_repair_replaces_only_what_was_condemned(pair: World) -> None:
    flip(pair, "k07")
    flip(pair, "k08")
    found = pair.run("verify")
    pair.client.put_object(Bucket=pair.destination, Key="k08", Body=b"somebody wrote this since")
    retried = pair.sealift("runs", "retry", found["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (3, {"done": 1, "changed": 1})
    assert pair.copy_of("k08") == b"somebody wrote this since"


def test_a_deep_verify_against_what_the_ledger_knows_needs_no_source(pair: World) -> None:
    proven = pair.run("verify", "--deep")
    for number in range(12):
        pair.client.delete_object(Bucket=pair.source, Key=f"k{number:02d}")
    flip(pair, "k11")
    found = pair.run("verify", "--deep", "--manifest", f"proven:{proven['run_id']}")
    assert (found["code"], found["outcomes"]) == (3, {"verified": 11, "different": 1})
    assert found["evidence"] == {"content": 11}
    assert {each["reason"] for each in found["reasons"]} == {"checksums_at_rest", "checksum_differs"}
    [row] = pair.failed_rows(found)
    assert row["key"] == "k11"


def test_reports_of_checksums_at_rest_decide_what_metadata_cannot(pair: World) -> None:
    """Copies that look alike differ where S3 computed something else of them, under keys that are hard to join."""
    strange = "k " + "ü&+" * 60
    pair.put(strange, b"content")
    assert pair.run("replicate")["outcomes"] == {"done": 1, "same": 12}
    how = []
    for side, bucket in (("source", pair.source), ("destination", pair.destination)):
        rows = []
        for key in ("k07", "k08", strange):
            etag = pair.client.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
            content = b"rotten" if (side, key) == ("destination", "k07") else key.encode()
            rows.append(task(bucket, key, full_object("SHA1", content), etag=etag))
        data = result_file(rows)
        report = manifest(pair.ledger, side, {"good.csv": data}, time.time() + 60)
        pair.client.put_object(Bucket=pair.ledger, Key=f"{side}/results/good.csv", Body=data)
        pair.client.put_object(Bucket=pair.ledger, Key=f"{side}/manifest.json", Body=report)
        how += [f"--{side}-checksums", f"s3://{pair.ledger}/{side}/manifest.json"]
    found = pair.run("verify", *how)
    assert (found["code"], found["outcomes"]) == (3, {"verified": 12, "different": 1})
    assert [row["key"] for row in pair.failed_rows(found)] == ["k07"]
