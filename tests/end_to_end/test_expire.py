"""Expiry through the command line on a real server: what is proven may go, and nothing else ever does."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, NOW, compact, expire, fill, keys, places, reasons, replicate


def table(world: World, uri: str) -> list[dict[str, Any]]:
    bucket, _, key = uri[5:].partition("/")
    data = world.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


def test_packed_originals_go_only_when_it_is_said(versioned: World) -> None:
    world = versioned
    names = fill(world)
    world.put(names[0], b"written again")
    run_id = compact(world, "--versions", "all")
    dry = expire(world, run_id, *NOW)
    assert (dry["code"], dry["dry_run"], dry["outcomes"]) == (0, True, {"skipped": 7})
    assert sum(each["rows"] for each in dry["deletions"]["reasons"]) == dry["deletions"]["rows"] == 7
    assert sum(each["bytes"] for each in dry["deletions"]["reasons"]) == dry["deletions"]["bytes"]
    said = {each["reason"] for each in dry["deletions"]["reasons"]}
    assert said == {"dry run: it would be hidden by a delete marker", "dry run: it would be removed for good"}
    text = world.sealift("expire", "--run", run_id, *places(world), *NOW).stdout
    assert ("7 would be deleted" in text, "skipped" in text) == (True, False)
    assert "it would be hidden by a delete marker, " in text
    assert "would be removed" in reasons(dry)
    listed = table(world, dry["deletions"]["parquet"])
    assert sorted(each["key"] for each in listed) == sorted([*names, names[0]])
    assert {each["evidence"] for each in listed} <= {"checksum", "md5_etag"}
    assert all(each["copy"].startswith(f"s3://{world.destination}/packed/docs/") for each in listed)
    bucket, _, key = dry["deletions"]["csv"][5:].partition("/")
    text = world.client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert [line.split(",")[0] for line in text.splitlines()] == ["key", *(each["key"] for each in listed)]
    assert keys(world) == names
    report = expire(world, run_id, *DELETE)
    assert report["code"] == 0, report["said"]
    assert (report["dry_run"], report["outcomes"]) == (False, {"expired": 7})
    assert keys(world) == []
    for name in names:  # the version that was current lies behind a marker, the older one of names[0] is gone
        assert [each.is_delete_marker for each in world.history(world.source, name)] == [False, True]
    again = expire(world, run_id, *DELETE)
    assert (again["code"], again["outcomes"]) == (0, {"expired": 6})
    left = world.sealift("runs", "show", again["run_id"], "--json").document["plan"]["excluded"]
    assert left == {"earlier_expire_runs": 1}
    assert {each.is_delete_marker for name in names for each in world.history(world.source, name)} == {True}


def test_rows_in_the_grace_period_wait_and_are_no_failures(world: World) -> None:
    names = fill(world)
    report = expire(world, replicate(world), "--max-share", "100%", "--yes-delete")
    assert (report["code"], report["outcomes"], report["failures"]) == (0, {"waiting": 6}, 0)
    assert report["failures_manifest"] is None
    assert "in the grace period" in reasons(report)
    assert (report["deletions"]["rows"], keys(world)) == (0, names)


def forge(world: World, run_id: str, key: str, **values: Any) -> None:
    """Rewrite what the ledger says of one key, as somebody might who wants it gone."""
    prefix = f"runs/runs/{run_id}/outcomes/"
    for entry in world.client.list_objects_v2(Bucket=world.ledger, Prefix=prefix)["Contents"]:
        rows = pq.read_table(io.BytesIO(world.client.get_object(Bucket=world.ledger, Key=entry["Key"])["Body"].read()))
        changed = [row | (values if row["key"] == key else {}) for row in rows.to_pylist()]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(changed, rows.schema), sink)
        world.client.put_object(Bucket=world.ledger, Key=entry["Key"], Body=sink.getvalue())


@pytest.mark.slow
def test_a_replica_lets_its_original_be_hidden_then_removed_but_only_if_it_is_one(versioned: World) -> None:
    world = versioned
    names = fill(world, 5)
    run_id = replicate(world)
    refused = world.sealift("expire", "--run", run_id, *places(world), "--grace", "0s", "--yes-delete")
    assert (refused.code, "5 of the 5 current objects" in refused.stderr) == (2, True)
    in_grace = expire(world, run_id, "--max-share", "100%", "--yes-delete")
    assert (in_grace["code"], in_grace["outcomes"]) == (0, {"waiting": 5})
    assert "in the grace period" in reasons(in_grace)
    lost, forged, changed = names[:3]
    history = world.history(world.destination, lost)
    world.client.delete_object(Bucket=world.destination, Key=lost, VersionId=history[0].version_id)
    other = world.client.put_object(Bucket=world.destination, Key=forged, Body=b"CONTENT of docs/01.json" * 9)
    forge(world, run_id, forged, destination_etag=other["ETag"].strip('"'), destination_version_id=other["VersionId"])
    after = world.put(changed, b"written since")
    assert keys(world) == names
    report = expire(world, run_id, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"expired": 2, "kept": 3})
    assert "nothing is at" in reasons(report)
    assert "is not the same" in reasons(report)
    assert "takes the place of its copy" in reasons(report)
    assert "another `sealift expire`" in world.sealift("runs", "retry", report["run_id"]).stderr
    assert keys(world) == names[:3]
    world.client.delete_object(Bucket=world.source, Key=changed, VersionId=after["VersionId"])
    assert [each.is_delete_marker for each in world.history(world.source, names[4])] == [False, True]
    undo = ["--undo", report["run_id"], "--source", f"s3://{world.source}", "--json"]
    undone = world.sealift("expire", *undo).document
    assert (undone["undone"], undone["problems"]) == (2, [])
    assert keys(world) == names
    world.client.delete_object(Bucket=world.source, Key=names[3])  # hidden again, by somebody
    again = expire(world, run_id, *DELETE)
    assert again["outcomes"] == {"expired": 3, "kept": 2}
    assert [each.is_delete_marker for each in world.history(world.source, names[3])] == [True]
    stones = json.loads(world.sealift("query", "SELECT * FROM tombstones", "--format", "json").stdout)
    assert sorted((each["key"], each["step"]) for each in stones) == sorted(
        [(changed, "hide"), (names[3], "hide"), (names[3], "remove"), (names[4], "hide"), (names[4], "hide")]
    )
    assert {each["copy"] for each in stones} == {f"s3://{world.destination}/{name}" for name in names[2:]}
    assert {each["run_id"] for each in stones if each["key"] == changed} == {again["run_id"]}
