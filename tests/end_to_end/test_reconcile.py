"""`sealift reconcile` on a real server: a pair damaged in every way there is, told apart, repaired, clean."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.doubles.report_schema import schema
from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import NOW, settle


def reconcile(world: World, *arguments: str) -> dict[str, Any]:
    settle()
    result = world.sealift("reconcile", *(arguments or world.sides), *NOW, "--json")
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def rows(report: dict[str, Any]) -> dict[str, int]:
    return {name: counts["rows"] for name, counts in report["categories"].items() if counts["rows"]}


def differences(world: World, report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    result = world.sealift(
        "query", "SELECT key, category, reason, detail FROM differences", "--run", report["run_id"], "--format", "json"
    )
    assert result.code == 0, result.stderr
    rows = json.loads(result.stdout)
    return {row["key"]: (row["category"], ": ".join(filter(None, (row["reason"], row["detail"])))) for row in rows}


def test_what_neither_side_has_any_more_is_no_finding(world: World) -> None:
    world.put("same")
    world.put("late")
    for key in ("same", "stray"):
        world.client.put_object(Bucket=world.destination, Key=key, Body=b"same")
    assert reconcile(world)["findings"] == 3
    for bucket, key in ((world.source, "late"), (world.destination, "stray"), (world.destination, "same")):
        world.client.delete_object(Bucket=bucket, Key=key)
    reconcile(world)
    found = world.sealift("query", "SELECT key, finding FROM findings", "--format", "json").stdout
    assert json.loads(found) == [{"key": "same", "finding": "copy_missing"}]


def test_a_prefix_that_was_forgotten_is_named(world: World) -> None:
    for key in ("a", "b/c"):
        world.put(f"docs/{key}")
        world.client.put_object(Bucket=world.destination, Key=f"all/{key}", Body=b"copy")
    source, destination = (f"s3://{bucket}" for bucket in (world.source, world.destination))
    report = reconcile(world, "--source", f"{source}/docs/", "--destination", destination)
    assert report["next_steps"] == [
        f"No key is at both sides. The copies' keys begin with all/: did you mean --destination {destination}/all/?"
    ]


@pytest.fixture
def damaged(world: World) -> World:
    """Ten objects and their copies; some then changed, lost, added, or overwritten."""
    for number in range(10):
        world.put(f"docs/k{number:02d}", f"content {number}".encode())
    assert world.run("replicate")["code"] == 0
    settle()
    client, destination = world.client, world.destination
    client.delete_object(Bucket=destination, Key="docs/k03")
    client.delete_object(Bucket=destination, Key="docs/k04")
    client.put_object(Bucket=destination, Key="docs/k05", Body=b"CONTENT 5")  # the same size
    client.put_object(Bucket=destination, Key="docs/k06", Body=b"another size")
    world.put("docs/k07", b"a newer original")
    world.put("docs/new", b"never copied")
    client.put_object(Bucket=destination, Key="docs/extra", Body=b"nobody's")
    return world


FOUND = {"same": 5, "missing": 3, "different": 2, "stale": 1, "extra": 1}


def test_every_damage_is_told_apart_and_a_repair_leaves_what_nobody_may_delete(damaged: World) -> None:
    found = reconcile(damaged)
    assert (found["code"], found["state"], found["findings"], rows(found)) == (3, "complete", 7, FOUND)
    told = differences(damaged, found)
    assert "etag_differs" in told.pop("docs/k05")[1]
    assert told == {
        "docs/k03": ("missing", "copy_missing"),
        "docs/k04": ("missing", "copy_missing"),
        "docs/new": ("missing", "copy_missing"),
        "docs/k06": ("different", "size_differs"),
        "docs/k07": ("stale", "size_differs"),
        "docs/extra": ("extra", "source_gone"),
    }
    jsonschema.validate(json.loads(damaged.fetch(found["report"]).decode()), schema())
    assert "docs/k05" in damaged.fetch(found["report_html"]).decode()
    assert damaged.fetch(found["differences"]["csv"]).decode().count("\n") == 8

    repaired = reconcile(damaged, *damaged.sides, "--repair", "--yes")
    assert [each["outcomes"] for each in repaired["repair"]] == [{"done": 4, "changed": 2}]
    assert [each["outcomes"] for each in repaired["verification"]] == [{"verified": 4, "different": 2}]
    assert repaired["code"] == 3  # different and extra are still there
    left = reconcile(damaged)
    assert rows(left) == {"same": 9, "different": 2, "extra": 1}
    said = damaged.sealift("reconcile", *damaged.sides, *NOW, "--repair", "--yes").stdout
    assert ("After the repair" in said, "runs retry" in said) == (True, False)  # no advice of the runs themselves

    assert reconcile(damaged, *damaged.sides, "--repair", "--repair-different", "--yes")["repair"][0]["outcomes"] == {
        "done": 2
    }
    damaged.client.delete_object(Bucket=damaged.destination, Key="docs/extra")  # a person's decision
    clean = reconcile(damaged)
    assert (clean["code"], rows(clean)) == (0, {"same": 11})
    assert damaged.copy_of("docs/k05") == b"content 5"


def test_a_repair_that_nothing_proves_keeps_the_advice_of_its_runs(world: World) -> None:
    world.put_in_parts("k")
    settle()
    repaired = world.sealift("reconcile", *world.sides, *NOW, "--repair", "--yes")
    assert (repaired.code, "sealift runs retry" in repaired.stdout) == (3, True)


def test_prefixes_are_mapped_and_what_lies_outside_is_excluded(world: World) -> None:
    for key in ("a/1", "a/2", "b/1", "other"):
        world.put(key)
    for key in ("x/1", "y/1", "elsewhere"):
        world.client.put_object(Bucket=world.destination, Key=key, Body=b"content")
    maps = ["--map", "a/=x/", "--map", "b/=y/", "--map", "c/=z/"]
    found = reconcile(world, *world.sides, *maps, "--repair", "--yes")
    assert rows(found) == {"same": 2, "missing": 1, "excluded": 2}
    assert (found["code"], found["repair"][0]["outcomes"]) == (0, {"done": 1})
    assert world.copy_of("x/2") == b"content"
