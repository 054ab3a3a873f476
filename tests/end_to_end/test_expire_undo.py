"""Taking an expire run back: delete markers go, and never a version with content, whatever a tombstone names."""

from __future__ import annotations

from typing import Any

from tests.end_to_end import forged_ledger
from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, expire, fill, keys, replicate


def hidden(world: World) -> str:
    """An expire run that has hidden two originals."""
    fill(world, 2)
    replicate(world)
    report = expire(world, *DELETE)
    assert report["outcomes"] == {"done": 2}
    return str(report["run_id"])


def undo(world: World, run_id: str, prefix: str = "", **extra: str) -> dict[str, Any]:
    result = world.sealift("expire", "--undo", run_id, "--source", f"s3://{world.source}/{prefix}", "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code, "said": result.stderr}


def done(world: World, run_id: str) -> str:
    """The file that says what the run hid."""
    (name,) = [
        each
        for each in forged_ledger.names(world, f"tombstones/{world.source}/{run_id}/")
        if each.endswith("-done.parquet")
    ]
    return name


def test_undo_takes_markers_away_once(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    unnamed = world.sealift("expire", "--undo", run_id)
    assert (unnamed.code, keys(world)) == (2, [])  # where to act, the ledger must not say
    mistyped = world.sealift("expire", "--undo", run_id, "--source", f"s3://{world.destination}/")
    assert (mistyped.code, keys(world)) == (2, [])  # it said that 0 delete markers are gone, and ended well
    assert f"{run_id} is the expire run of s3://{world.source}/" in mistyped.stderr
    elsewhere = undo(world, run_id, "logs/")
    assert (elsewhere["code"], elsewhere["undone"], len(elsewhere["problems"])) == (3, 0, 2)
    no_policy = {"SEALIFT_POLICY": f"s3://{world.ledger}/none.yaml"}  # an undo asks none
    assert (undo(world, run_id, **no_policy)["undone"], keys(world)) == (2, ["docs/00.json", "docs/01.json"])
    again = undo(world, run_id)
    assert (again["code"], again["undone"], again["problems"]) == (0, 0, [])
    known = world.sealift("runs", "show", run_id, "--json").document["undone"]
    assert [each["markers"] for each in known] == [0, 2, 0]


def test_a_forged_tombstone_takes_no_version_away(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    only = world.put("unrelated", b"the only version")["VersionId"]
    forged_ledger.edit_rows(world, done(world, run_id), key="unrelated", marker_version_id=only)
    report = undo(world, run_id)
    assert (report["code"], report["undone"], len(report["problems"])) == (3, 0, 2)
    assert [each.version_id for each in world.history(world.source, "unrelated")] == [only]


def test_undo_reports_junk_files_and_goes_on_with_the_rest(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    names = {"7-7-0-done.parquet", "7-7-1-intent.parquet"}
    for name in names:
        forged_ledger.write(world, f"tombstones/{world.source}/{run_id}/{name}", b"junk")
    report = undo(world, run_id)
    assert (report["code"], report["undone"], len(keys(world))) == (3, 2, 2)
    assert f"Run {run_id} was stopped in a delete" in report["said"]  # so it has waited for its last requests
    assert {each["key"] for each in report["problems"]} == names
    assert all("cannot be read" in each["problem"] for each in report["problems"])
