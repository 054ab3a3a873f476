"""Which rows an expire run takes, and over what their share is counted: the pair's own, and each version once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import World
from tests.cli.pair_policy import write_policy
from tests.cli.test_expire import compact, keys
from tests.cli.test_expire_places import manifest
from tests.servers import REGION


def pair_rule(world: World, max_share: str) -> dict[str, Any]:
    """An archive whose originals may expire at once."""
    rule = {"name": "all", "older_than": "30d"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    return {"archive": archive | {"expire": {"grace": "1s", "max_share": max_share}}}


def fill_around(world: World) -> list[str]:
    """Two keys of the pair `docs`, and keys between them that are not the pair's: these."""
    for name in ("docs/1", "drafts/2", "docs/tmp/3", "data/4", "d-other/5"):
        world.put(name, b"content of " + name.encode())
    return ["d-other/5", "data/4", "docs/tmp/3"]


@pytest.mark.parametrize("by_manifest", [False, True], ids=["run", "manifest"])
def test_a_pair_expires_only_what_the_policy_says_is_its(world: World, tmp_path: Path, by_manifest: bool) -> None:
    others = fill_around(world)
    run_id = compact(world)
    file = write_policy(world, tmp_path, docs=pair_rule(world, "100%"))
    time.sleep(2)
    rows = ["--manifest", manifest(world, keys(world))] if by_manifest else ["--run", run_id]
    report = world.sealift("expire", *rows, "--pair", "docs", "--policy", file, "--yes-delete", "--json")
    assert report.document["outcomes"] == {"expired": 2}, report.stderr
    assert keys(world) == others
    plan = world.sealift("runs", "show", report.document["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"--pair": 3}


def test_a_share_is_counted_over_what_the_pair_covers(world: World, tmp_path: Path) -> None:
    fill_around(world)
    run_id = compact(world)
    file = write_policy(world, tmp_path, docs=pair_rule(world, "50%"))
    time.sleep(2)
    given = ["--run", run_id, "--pair", "docs", "--policy", file]
    refused = world.sealift("expire", *given, "--yes-delete")
    assert (refused.code, "2 of the 2 current objects" in refused.stderr) == (2, True), refused.stderr
    assert len(keys(world)) == 5
