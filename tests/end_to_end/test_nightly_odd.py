"""Nights over unusual worlds: nothing ends as well that is not, and nothing stops for good."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_nightly import counted, nightly, stage
from tests.end_to_end.test_reconcile import settle


def copied(world: World, *names: str) -> None:
    """Objects of the pair `docs`, each with its copy."""
    for name in names:
        world.put(f"docs/{name}", name.encode())
        source = {"Bucket": world.source, "Key": f"docs/{name}"}
        world.client.copy_object(Bucket=world.destination, Key=f"copies/docs/{name}", CopySource=source)


def test_a_lost_copy_is_repaired_where_only_the_destinations_report_lists_markers(
    versioned: World, tmp_path: Path
) -> None:
    copied(versioned, "a", "b")
    versioned.client.delete_object(Bucket=versioned.destination, Key="copies/docs/a")
    settle()
    to = f"s3://{versioned.ledger}/reports"
    made = versioned.sealift("inventory", f"s3://{versioned.destination}", "--versions", "all", "--to", to)
    assert made.code == 0, made.stderr
    night = nightly(versioned, write_policy(versioned, tmp_path, inventory=True))
    notes = stage(night, "reconcile")["notes"]
    assert notes["source_inventory"].startswith("listed, ")
    assert notes["destination_inventory"].startswith("S3 Inventory's report")
    assert (night["code"], counted(night, "repair"), counted(night, "verify")) == (0, {"copied": 1}, {"verified": 1})
    assert versioned.copy_of("copies/docs/a") == b"a"


def report_nothing(world: World, bucket: str) -> None:
    """A fresh report of S3 Inventory that lists no object of the bucket."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H-%MZ", time.gmtime(now))
    folder = f"reports/{bucket}/daily/{stamp}/"
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{world.ledger}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(now * 1000)),
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": [],
    }
    body = json.dumps(manifest).encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}manifest.json", Body=body)
    digest = hashlib.md5(body).hexdigest().encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}manifest.checksum", Body=digest)


def test_an_inventory_that_lists_nothing_is_replaced_by_a_listing(world: World, tmp_path: Path) -> None:
    """A new pair, or a destination that somebody emptied: it heals."""
    world.put("docs/a", b"a")
    for bucket in (world.source, world.destination):
        report_nothing(world, bucket)
    night = nightly(world, write_policy(world, tmp_path, inventory=True))
    for side in ("source_inventory", "destination_inventory"):
        assert "lists no object of the bucket" in stage(night, "reconcile")["notes"][side]
    assert (night["code"], counted(night, "repair"), counted(night, "verify")) == (0, {"copied": 1}, {"verified": 1})


@pytest.mark.slow
def test_a_source_that_somebody_emptied_is_a_finding_until_it_has_objects_again(world: World, tmp_path: Path) -> None:
    copied(world, "a", "b")
    policy = write_policy(world, tmp_path)
    assert nightly(world, policy)["code"] == 0
    for name in ("a", "b"):
        world.client.delete_object(Bucket=world.source, Key=f"docs/{name}")
    for night in ("2026-11-21", "2026-11-22"):
        emptied = nightly(world, policy, "--night", night)
        assert (emptied["code"], emptied["left"], len(emptied["stages"])) == (3, 2, 1)
        assert stage(emptied, "reconcile")["emptied"] == {"night": "2026-11-20", "objects": 2}
        assert "the source has no object, on 2026-11-20 it had 2: all copies stay" in emptied["verdict"]
    assert world.copy_of("copies/docs/a") == b"a"
    world.put("docs/a", b"a")
    assert nightly(world, policy, "--night", "2026-11-23")["code"] == 0
