"""Nights over unusual worlds: nothing ends as well that is not, and nothing stops for good."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forged_runs import Forger
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_nightly import NIGHT, command, counted, nightly, stage
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


def test_the_only_copy_of_an_older_original_is_kept_and_left_to_people(world: World, tmp_path: Path) -> None:
    """Somebody damaged an original, and a night wrote that over the only copy: all was well."""
    copied(world, "a", "b", "c")
    settle()
    world.put("docs/a", b"damaged by somebody")
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    policy = write_policy(world, tmp_path, keeps_versions=False)
    night = nightly(world, policy)
    assert (night["code"], night["left"], counted(night, "repair")) == (3, 1, {"copied": 1, "failed": 1})
    assert (world.copy_of("copies/docs/a"), world.copy_of("copies/docs/b")) == (b"a", b"b")
    shown = world.sealift("runs", "show", stage(night, "repair")["run_id"]).stdout
    assert f"{world.destination} keeps no versions, so the copy would be lost for good: enable" in " ".join(
        shown.split()
    )
    backfill = ["backfill", "--pair", "docs", "--policy", policy, "--json"]
    assert world.sealift(*backfill).document["outcomes"] == {"failed": 1, "same": 2}
    assert world.copy_of("copies/docs/a") == b"a"
    healed = nightly(world, write_policy(world, tmp_path), "--again")
    assert (healed["code"], counted(healed, "repair")) == (0, {"copied": 1})
    assert world.copy_of("copies/docs/a") == b"damaged by somebody"
    kept = world.client.list_object_versions(Bucket=world.destination, Prefix="copies/docs/a")["Versions"]
    assert len(kept) == 2


SCHEMA = "Bucket, Key, Size, LastModifiedDate, ETag"
SELDOM = {"verify": {"rota": "1/1000", "deep": "1/1000"}}
"""No slice of a few objects has any of them."""


def delivered(world: World, bucket: str, rows: Sequence[Sequence[str]] = (), schema: str = SCHEMA) -> None:
    """A fresh report of S3 Inventory, with these rows."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H-%MZ", time.gmtime(now))
    folder = f"reports/{bucket}/daily/{stamp}/"
    files = []
    if rows:
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows((bucket, *row) for row in rows)
        data = gzip.compress(text.getvalue().encode())
        files = [{"key": f"{folder}1.csv.gz", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}]
        world.client.put_object(Bucket=world.ledger, Key=f"{folder}1.csv.gz", Body=data)
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{world.ledger}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(now * 1000)),
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": files,
    }
    body = json.dumps(manifest).encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}manifest.json", Body=body)
    digest = hashlib.md5(body).hexdigest().encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}manifest.checksum", Body=digest)


def listed(world: World, bucket: str, prefix: str) -> list[tuple[str, ...]]:
    """The rows that S3 Inventory reports of the objects below a prefix."""
    entries = world.client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return [
        (each["Key"], str(each["Size"]), f"{each['LastModified']:%Y-%m-%dT%H:%M:%S.000Z}", each["ETag"].strip('"'))
        for each in entries
    ]


def test_reports_without_sizes_and_etags_are_replaced_by_listings(world: World, tmp_path: Path) -> None:
    """They would call each copy unverifiable, also those that somebody emptied."""
    names = [f"k{number}" for number in range(5)]
    copied(world, *names)
    for name in names[:4]:
        world.client.put_object(Bucket=world.destination, Key=f"copies/docs/{name}", Body=b"")
    settle()
    delivered(world, world.source, [(f"docs/{name}",) for name in names], "Bucket, Key")
    delivered(world, world.destination, [(f"copies/docs/{name}",) for name in names], "Bucket, Key")
    night = nightly(world, write_policy(world, tmp_path, inventory=True, docs=SELDOM))
    for side in ("source_inventory", "destination_inventory"):
        assert "has no Size, LastModifiedDate, ETag" in stage(night, "reconcile")["notes"][side]
    assert (night["code"], night["left"]) == (3, 4)
    assert counted(night, "reconcile") == {"same": 1, "different": 4}


@pytest.mark.parametrize("within", ["docs/a", "docs/k", "docs/z", "drafts/"])
def test_reports_of_a_part_of_the_pair_are_replaced_by_listings(world: World, tmp_path: Path, within: str) -> None:
    """As with a filter that is narrower than the pair: what both reports lack would be seen by
    nobody.
    """
    copied(world, "a1", "k1", "z1")
    world.put("drafts/1")
    for name in ("a2", "k2", "z2"):
        world.put(f"docs/{name}")
    world.client.put_object(Bucket=world.destination, Key="copies/drafts/1", Body=b"content")
    settle()
    delivered(world, world.source, listed(world, world.source, within))
    delivered(world, world.destination, listed(world, world.destination, f"copies/{within}"))
    night = nightly(world, write_policy(world, tmp_path, inventory=True, docs=SELDOM))
    notes = stage(night, "reconcile")["notes"]
    assert "which are older than it" in notes["source_inventory"]
    assert (night["code"], counted(night, "repair")) == (0, {"copied": 3})
    assert [world.copy_of(f"copies/docs/{name}") for name in ("a2", "k2", "z2")] == [b"content"] * 3


def test_reports_of_the_pair_are_used_where_others_objects_are_beside_it(world: World, tmp_path: Path) -> None:
    """Keys that the pair leaves out, and objects that are newer than the report."""
    copied(world, "b", "c")
    for key in ("docs/tmp/a", "logs/1", "a", "z"):
        world.put(key)
    settle()
    reports = [listed(world, world.source, "docs/"), listed(world, world.destination, "copies/docs/")]
    world.client.put_object(Bucket=world.destination, Key="copies/docs/tmp/z", Body=b"of nobody")
    settle()
    delivered(world, world.source, [row for row in reports[0] if "/tmp/" not in row[0]])
    delivered(world, world.destination, reports[1])
    settle()
    world.put("docs/newer")
    night = nightly(world, write_policy(world, tmp_path, inventory=True))
    assert stage(night, "reconcile")["notes"]["is_listed"] is False
    assert (night["code"], counted(night, "reconcile")) == (0, {"same": 2})


def test_a_night_that_compared_nothing_says_so_and_is_not_well(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path)
    night = nightly(world, policy)
    assert (night["code"], night["left"]) == (3, 0)
    assert night["verdict"].startswith("Nothing was compared, since the source has no object: ")
    assert night["next_steps"][0].endswith(": sealift policy check")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/kept", Body=b"deleted at the source")
    orphan = nightly(world, policy, "--night", "2026-11-21")  # a copy without an original proves nothing
    assert orphan["code"] == 3
    assert orphan["verdict"].startswith("Nothing was compared, since the source has no object: reconcile 1 extra")
    world.put("docs/young")
    young = nightly(world, policy, "--night", "2026-11-22", "--margin", "30d")
    assert (young["code"], young["left"]) == (3, 0)
    assert young["verdict"].startswith("Nothing was compared, since all 2 objects are in flight: ")
    [step] = young["next_steps"]
    assert step.endswith(": sealift nightly --pair docs --night 2026-11-22 --again --margin 0s")
    again = nightly(world, policy, "--night", "2026-11-22", "--again")
    assert (again["code"], counted(again, "repair")) == (0, {"copied": 1})


@pytest.mark.slow
def test_a_copy_that_was_just_made_is_no_object_of_an_emptied_source(world: World, tmp_path: Path) -> None:
    copied(world, "a", "b")
    policy = write_policy(world, tmp_path)
    assert nightly(world, policy)["code"] == 0
    copied(world, "young")
    for name in ("a", "b", "young"):
        world.client.delete_object(Bucket=world.source, Key=f"docs/{name}")
    night = nightly(world, policy, "--night", "2026-11-21", "--margin", "1h")
    assert stage(night, "reconcile")["emptied"].items() >= {"night": "2026-11-20", "objects": 2}.items()
    assert night["code"] == 3


def test_an_inventory_that_lists_nothing_is_replaced_by_a_listing(world: World, tmp_path: Path) -> None:
    """A new pair, or a destination that somebody emptied: it heals."""
    world.put("docs/a", b"a")
    for bucket in (world.source, world.destination):
        delivered(world, bucket)
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
        assert stage(emptied, "reconcile")["emptied"].items() >= {"night": "2026-11-20", "objects": 2}.items()
        assert "the source has no object, on 2026-11-20 it had 2: all copies stay" in emptied["verdict"]
    assert world.copy_of("copies/docs/a") == b"a"
    world.put("docs/a", b"a")
    assert nightly(world, policy, "--night", "2026-11-23")["code"] == 0


@pytest.mark.parametrize("change", [{"overwrite": "always"}, {"night": "2026-11-19"}, {"pair": "logs"}, "destination"])
def test_a_run_that_the_night_did_not_plan_is_not_started(world: World, tmp_path: Path, change: Any) -> None:
    """A forger who can write into the ledger can name a run in a stage's record before the night does."""
    world.put("docs/a", b"older")
    world.put("docs/b", b"without a copy")
    settle()
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"newer")
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/copies/"]
    planned = world.run("replicate", *places)["run_id"]
    forged, forger = planned[:-6] + "f0f0f0", Forger(world)
    spec = forger.document(f"runs/{planned}/spec.json")
    options = spec["options"] | {"pair": "docs", "night": NIGHT} | (change if isinstance(change, dict) else {})
    to = spec["destination"] | ({"uri": f"s3://{world.ledger}/"} if change == "destination" else {})
    forger.copy_run(planned, forged, options=options, destination=to)
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    record = {"run_id": forged, "refused": None, "notes": {}, "written_at": time.time()}
    forger.write_document(f"nights/docs/{NIGHT}/repair.json", record)
    settle()
    result = world.sealift(*command(write_policy(world, tmp_path)))
    assert world.copy_of("copies/docs/a") == b"newer"
    assert (result.code, f"{forged} is not a run of this night" in result.stderr) == (10, True), result.stderr
    assert world.client.list_objects_v2(Bucket=world.destination)["KeyCount"] == 1
