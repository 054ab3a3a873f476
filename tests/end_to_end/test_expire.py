"""Expiry through the command line on a real server: what has a copy may go, and nothing else ever does."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pyarrow.parquet as pq

from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, NOW, compact, declare, expire, fill, keys, places, reasons, replicate


def table(world: World, uri: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(world.fetch(uri))).to_pylist()
    return rows


def test_packed_originals_go_only_when_it_is_said(versioned: World) -> None:
    world = versioned
    names = fill(world)
    world.put(names[0], b"written again")
    compact(world, "--versions", "all")
    dry = expire(world, *NOW)
    assert (dry["code"], dry["dry_run"], dry["outcomes"]) == (0, True, {"left": 7})
    assert dry["expiry"]["warnings"] == []
    assert (dry["deletions"]["rows"], dry["deletions"]["hidden"]) == (7, 6)
    text = world.sealift("expire", *places(world), *NOW).stdout
    assert ("7 would be deleted" in text, " left" in text) == (True, False)
    listed = table(world, dry["deletions"]["parquet"])
    assert sorted(each["key"] for each in listed) == sorted([*names, names[0]])
    assert {each["evidence"] for each in listed} <= {"checksum", "md5_etag"}
    assert all(each["copy"].startswith(f"s3://{world.destination}/packed/docs/") for each in listed)
    assert keys(world) == names
    report = expire(world, *DELETE)
    assert report["code"] == 0, report["said"]
    assert (report["dry_run"], report["outcomes"]) == (False, {"done": 7})
    assert keys(world) == []
    assert (report["deletions"]["rows"], report["deletions"]["hidden"]) == (7, 6)
    for name in names:  # the version that was current lies behind a marker, the older one of names[0] is gone
        assert [each.is_delete_marker for each in world.history(world.source, name)] == [False, True]
    again = expire(world, *DELETE)
    assert (again["code"], again["outcomes"]) == (0, {"done": 6})
    assert {each.is_delete_marker for name in names for each in world.history(world.source, name)} == {True}
    nothing = expire(world, *DELETE)
    assert (nothing["code"], nothing["outcomes"]) == (0, {})
    plan = world.sealift("runs", "show", nothing["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"delete_marker": 6, "sealift_object": 1}


def manifest(world: World, names: list[str]) -> str:
    """A manifest of these keys of the source."""
    rows = "".join(f"{world.source},{name}\n" for name in names)
    world.client.put_object(Bucket=world.ledger, Key="rows.csv", Body=rows.encode())
    return f"s3://{world.ledger}/rows.csv"


def test_grace_is_that_of_places_and_rows(world: World) -> None:
    names = fill(world)
    replicate(world)
    declare(world)
    young = world.sealift("expire", *places(world), "--yes-delete")
    assert (young.code, "declared within the grace period" in young.stderr) == (10, True)
    time.sleep(6)
    world.put(names[0], b"content of docs/00.json" * 9)
    dry = world.sealift("expire", *places(world), *NOW, "--destination-endpoint", world.server.endpoint)
    assert f"destination s3://{world.destination}/, endpoint {world.server.endpoint}\n" in dry.stderr
    assert "(copies_unversioned)" in dry.stderr
    report = expire(world, "--grace", "5s", "--max-share", "100%", "--yes-delete")
    assert (report["code"], report["outcomes"], report["failures"]) == (0, {"left": 1, "done": 5}, 0)
    assert report["expiry"]["warnings"] == [{"uri": f"s3://{world.destination}/", "code": "copies_unversioned"}]
    assert (report["failures_manifest"], reasons(report)) == (None, "deleted | too_new")
    assert (report["deletions"]["rows"], keys(world)) == (5, names[:1])


def test_manifest_narrows_and_accounts_for_its_rows(versioned: World) -> None:
    world = versioned
    names = fill(world, 4)
    replicate(world)
    changed, without_copy = names[:2]
    world.client.delete_object(Bucket=world.destination, Key=without_copy)
    world.put(changed, b"written since")
    rows = manifest(world, [*names[:3], "docs/gone.json"])
    report = expire(world, "--manifest", rows, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"done": 1, "blocked": 2})
    assert reasons(report) == "copy_missing | size_differs | deleted"
    plan = world.sealift("runs", "show", report["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"not_listed": 1}
    assert keys(world) == [*names[:2], names[3]]
    assert "give the same `sealift expire` again" in world.sealift("runs", "retry", report["run_id"]).stderr
    refused = world.sealift("expire", *places(world), "--grace", "0s", "--max-share", "10%", "--yes-delete")
    assert (refused.code, "1 of the 3 current objects" in refused.stderr) == (2, True), refused.stderr
    undone = world.sealift("expire", "--undo", report["run_id"], "--source", f"s3://{world.source}", "--json").document
    assert (undone["undone"], undone["problems"], keys(world)) == (1, [], names)
    stones = json.loads(world.sealift("query", "SELECT * FROM tombstones", "--format", "json").stdout)
    assert [(each["key"], each["step"], each["copy"]) for each in stones] == [
        (names[2], "hide", f"s3://{world.destination}/{names[2]}")
    ]
