"""Nights over unusual worlds: nothing ends as well that is not, and nothing stops for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forged_runs import Forger
from tests.end_to_end.nights import NIGHT, command, counted, nightly, stage
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.scenes import settle


def copied(world: World, *names: str) -> None:
    """Objects of the pair `docs`, each with its copy."""
    for name in names:
        world.put(f"docs/{name}", name.encode())
        source = {"Bucket": world.source, "Key": f"docs/{name}"}
        world.client.copy_object(Bucket=world.destination, Key=f"copies/docs/{name}", CopySource=source)


@pytest.mark.slow
def test_the_only_copy_of_an_older_original_is_kept_and_left_to_people(world: World, tmp_path: Path) -> None:
    """Somebody damaged an original, and a night wrote that over the only copy: all was well."""
    copied(world, "a", "b", "c")
    settle()
    world.put("docs/a", b"damaged by somebody")
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    policy = write_policy(world, tmp_path, keeps_versions=False)
    night = nightly(world, policy)
    assert (night["code"], night["left"], counted(night, "repair")) == (3, 1, {"done": 1, "blocked": 1})
    assert (world.copy_of("copies/docs/a"), world.copy_of("copies/docs/b")) == (b"a", b"b")
    shown = world.sealift("runs", "show", stage(night, "repair")["run_id"], "--json").document
    assert [each["reason"] for each in shown["reasons"]] == ["only_copy"]
    backfill = ["replicate", "--pair", "docs", "--policy", policy, "--json"]
    assert world.sealift(*backfill).document["outcomes"] == {"blocked": 1, "same": 2}
    assert world.copy_of("copies/docs/a") == b"a"
    healed = nightly(world, write_policy(world, tmp_path), "--again")
    assert (healed["code"], counted(healed, "repair")) == (0, {"done": 1})
    assert world.copy_of("copies/docs/a") == b"damaged by somebody"
    kept = world.client.list_object_versions(Bucket=world.destination, Prefix="copies/docs/a")["Versions"]
    assert len(kept) == 2


@pytest.mark.parametrize("change", [{"overwrite": "always"}, "destination"])
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
    forger.write_document(
        f"nights/docs/{NIGHT}/repair-1.json", {"night_version": 2, "stage": "repair", "run_id": forged}
    )
    settle()
    result = world.sealift(*command(write_policy(world, tmp_path)))
    assert world.copy_of("copies/docs/a") == b"newer"
    assert (result.code, f"{forged} is not a run of this night" in result.stderr) == (10, True), result.stderr
    assert world.client.list_objects_v2(Bucket=world.destination)["KeyCount"] == 1
