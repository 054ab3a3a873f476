"""Taking an expire run back: delete markers go, and never a version with content, whatever a tombstone names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.end_to_end import forged_ledger
from tests.end_to_end.conftest import World
from tests.end_to_end.test_expire import DELETE, expire, fill, keys, replicate


def hidden(world: World) -> str:
    """An expire run that has hidden two originals."""
    fill(world, 2)
    report = expire(world, replicate(world), *DELETE)
    assert report["outcomes"] == {"expired": 2}
    return str(report["run_id"])


def undo(world: World, run_id: str, prefix: str = "") -> dict[str, Any]:
    result = world.sealift("expire", "--undo", run_id, "--source", f"s3://{world.source}/{prefix}", "--json")
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


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
    claimed = world.sealift("expire", "--undo", run_id)
    assert (claimed.code, keys(world)) == (2, [])
    assert f"sealift expire --undo {run_id} --source s3://{world.source}/" in claimed.stderr
    mistyped = world.sealift("expire", "--undo", run_id, "--source", f"s3://{world.destination}/")
    assert (mistyped.code, keys(world)) == (2, [])  # it said that 0 delete markers are gone, and ended well
    assert f"run {run_id} deleted in s3://{world.source}/" in mistyped.stderr
    elsewhere = undo(world, run_id, "logs/")
    assert (elsewhere["code"], elsewhere["undone"], len(elsewhere["problems"])) == (3, 0, 2)
    assert (undo(world, run_id)["undone"], keys(world)) == (2, ["docs/00.json", "docs/01.json"])
    again = undo(world, run_id)
    assert (again["code"], again["undone"], again["problems"]) == (0, 0, [])


def test_a_forged_tombstone_takes_no_version_away(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    only = world.put("unrelated", b"the only version")["VersionId"]
    forged_ledger.edit_rows(world, done(world, run_id), key="unrelated", marker_version_id=only)
    report = undo(world, run_id)
    assert (report["code"], report["undone"], len(report["problems"])) == (3, 0, 2)
    assert "is not a delete marker but a version" in report["problems"][0]["problem"]
    assert [each.version_id for each in world.history(world.source, "unrelated")] == [only]


def test_a_marker_that_lies_elsewhere_than_the_tombstone_says_stays(versioned: World) -> None:
    """Somebody's delete marker, which hides another version than the one that the tombstone names."""
    world = versioned
    run_id = hidden(world)
    world.put("unrelated", b"old")
    marker = world.client.delete_object(Bucket=world.source, Key="unrelated")["VersionId"]
    forged_ledger.edit_rows(world, done(world, run_id), key="unrelated", marker_version_id=marker)
    report = undo(world, run_id)
    assert (report["code"], report["undone"]) == (3, 0)
    assert "is gone, and its delete marker" in report["problems"][0]["problem"]
    assert [each.is_delete_marker for each in world.history(world.source, "unrelated")] == [False, True]


def test_a_marker_stays_where_somebody_removed_the_hidden_version_and_an_older_one_is_below(versioned: World) -> None:
    """Nobody but a person knows whether the older one should be current."""
    world = versioned
    world.put("docs/00.json", b"older")
    run_id = hidden(world)
    *_, newest, _ = world.history(world.source, "docs/00.json")
    world.client.delete_object(Bucket=world.source, Key="docs/00.json", VersionId=newest.version_id)
    report = undo(world, run_id)
    assert (report["code"], report["undone"], keys(world)) == (3, 1, ["docs/01.json"])
    assert f"{newest.version_id}, which the run hid, is gone" in report["problems"][0]["problem"]


def test_a_marker_with_a_version_between_stays(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    marker = world.history(world.source, "docs/00.json")[-1].version_id
    world.put("docs/00.json", b"newer")
    above = world.client.delete_object(Bucket=world.source, Key="docs/00.json")["VersionId"]
    forged_ledger.edit_rows(world, done(world, run_id), key="docs/00.json", marker_version_id=above)
    report = undo(world, run_id)
    assert (report["code"], report["undone"]) == (3, 0)
    assert f"{above} does not lie directly above" in report["problems"][0]["problem"]
    assert [each.version_id for each in world.history(world.source, "docs/00.json")][1] == marker


def test_tombstones_of_another_run_or_bucket_are_refused(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    for values in ({"run_id": "another"}, {"source_bucket": "another"}):
        name = done(world, run_id)
        honest = forged_ledger.read(world, name)
        forged_ledger.edit_rows(world, name, **values)
        report = undo(world, run_id)
        assert (report["code"], report["undone"]) == (3, 0)
        assert "of another run or bucket" in report["problems"][0]["problem"]
        forged_ledger.write(world, name, honest)
    assert undo(world, run_id)["undone"] == 2


def test_undo_says_how_many_versions_are_gone_for_good(world: World) -> None:
    run_id = hidden(world)  # nothing keeps versions here: what was deleted is gone
    report = undo(world, run_id)
    assert (report["code"], report["undone"], report["lost"], keys(world)) == (0, 0, 2, [])
    text = world.sealift("expire", "--undo", run_id, "--source", f"s3://{world.source}/").stdout
    assert "2 versions that it hid or removed are gone for good and cannot come back" in text


def test_undo_counts_what_a_later_run_removed_behind_its_markers(versioned: World) -> None:
    world = versioned
    fill(world, 2)
    proving = replicate(world)
    first = expire(world, proving, *DELETE)["run_id"]
    second = expire(world, proving, *DELETE)
    assert second["outcomes"] == {"expired": 2}
    for run_id in (first, second["run_id"]):
        report = undo(world, run_id)
        assert (report["lost"], keys(world)) == (2, [])
    world.put("new", b"content")
    assert undo(world, hidden_again(world))["lost"] == 0
    assert keys(world) == ["new"]


def hidden_again(world: World) -> str:
    return str(expire(world, replicate(world), *DELETE)["run_id"])


@pytest.mark.slow
def test_undo_stops_a_run_that_is_still_at_work(versioned: World) -> None:
    """Its workers would hide more after the undo, which would have said that all is well."""
    world = versioned
    names = fill(world, 150)
    given = ["--run", replicate(world), "--source", f"s3://{world.source}", "--copies", f"s3://{world.destination}"]
    process = world.start("expire", *given, *DELETE, "--json", SEALIFT_ROWS_PER_SHARD="10", SEALIFT_PROCESSES="1")
    while process.poll() is None and len(keys(world)) == len(names):
        time.sleep(0.01)
    (run,) = [each for each in world.sealift("runs", "list", "--json").document["runs"] if each["job"] == "expire"]
    report = undo(world, run["run_id"])
    process.communicate()
    assert (report["code"], report["problems"], process.returncode) == (0, [], 75)
    assert (report["lost"], keys(world)) == (0, sorted(names))
    assert report["undone"] > 0
