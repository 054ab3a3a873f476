"""Which rows an expire run takes, and over what their share is counted: the pair's own, and each version once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.servers import REGION
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_expire import DELETE, compact, expire, keys, places, reasons, replicate
from tests.end_to_end.test_expire_copies import expire_manifest
from tests.end_to_end.test_expire_places import manifest


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
    assert plan["excluded"] == {"pair": 3}


def test_a_share_is_counted_over_what_the_pair_covers(world: World, tmp_path: Path) -> None:
    fill_around(world)
    run_id = compact(world)
    file = write_policy(world, tmp_path, docs=pair_rule(world, "50%"))
    time.sleep(2)
    given = ["--run", run_id, "--pair", "docs", "--policy", file]
    refused = world.sealift("expire", *given, "--yes-delete")
    assert (refused.code, "2 of the 2 current objects" in refused.stderr) == (2, True), refused.stderr
    assert len(keys(world)) == 5


def test_a_row_of_nothing_does_not_widen_what_a_share_is_counted_over(world: World) -> None:
    names = [f"a/{n}" for n in range(2)]
    for name in (*names, *(f"b/{n}" for n in range(8))):
        world.put(name, name.encode())
    replicate(world, "--include", "a/*")
    world.client.delete_object(Bucket=world.source, Key="b/0")
    limits = ["--grace", "0s", "--max-share", "50%", "--yes-delete"]
    for nothing in ("zzz-not-there", "b/0", "b/1"):  # never there, there no more, there without a proof
        rows = manifest(world, [*names, nothing])
        refused = world.sealift("expire", "--manifest", rows, *places(world), *limits)
        assert (refused.code, f"2 of the 2 current objects in s3://{world.source}/a/" in refused.stderr) == (2, True)
    assert len(keys(world)) == 9


def test_a_proven_row_that_is_gone_does_not_widen_what_a_share_is_counted_over(world: World) -> None:
    for name in ("a/0", "a/1", "b/0", "b/1", "b/2", "b/3", "b/4"):
        world.put(name, name.encode())
    replicate(world)
    world.client.delete_object(Bucket=world.source, Key="b/0")
    limits = ["--grace", "0s", "--max-share", "50%", "--yes-delete"]
    rows = manifest(world, ["a/0", "a/1", "b/0"])
    refused = world.sealift("expire", "--manifest", rows, *places(world), *limits)
    assert (refused.code, "of the 2 current objects" in refused.stderr) == (2, True), refused.stderr
    assert len(keys(world)) == 6


def test_a_version_that_a_manifest_names_with_and_without_its_id_counts_once(versioned: World) -> None:
    world = versioned
    ids = {name: world.put(name, name.encode())["VersionId"] for name in ("d/1", "d/2")}
    replicate(world)
    rows = "".join(f"{world.source},{name},{each}\n" for name in ids for each in ("", ids[name], ids[name]))
    world.client.put_object(Bucket=world.ledger, Key="rows.csv", Body=rows.encode())
    done = world.sealift("expire", "--manifest", f"s3://{world.ledger}/rows.csv", *places(world), *DELETE, "--json")
    assert done.document["outcomes"] == {"expired": 2}, done.stderr
    assert done.document["expiry"]["versions"] == {"eligible": 2, "listed": 2}
    for name in ids:
        assert [each.is_delete_marker for each in world.history(world.source, name)] == [False, True]


def test_a_manifest_of_keys_means_their_current_objects(versioned: World) -> None:
    """Old versions were removed for good by the proofs of an archive, and the current objects stayed."""
    world = versioned
    ids = {key: [world.put(key, b"%d" % number)["VersionId"] for number in range(3)] for key in "abcdef"}
    compact(world, "--versions", "all")
    rows = "".join(f"{world.source},{key}\n" for key in ids)
    report = expire_manifest(world, rows, f"s3://{world.destination}/packed")
    assert report["outcomes"] == {"expired": 6}
    assert keys(world) == []
    for key, versions in ids.items():  # nothing is gone for good
        assert [each.version_id for each in world.history(world.source, key)][:3] == versions


@pytest.mark.slow
def test_an_object_that_was_written_again_as_it_was_packed_before_is_packed_again_first(world: World) -> None:
    """Else a restore of its key would bring back what was packed in between, for that is dated later."""
    runs = []
    for content in (b"one", b"two"):
        world.put("k", content)
        runs.append(compact(world))
        time.sleep(1.1)
    world.put("k", b"one")
    kept = expire(world, runs[0], *DELETE)
    assert (kept["outcomes"], keys(world)) == ({"kept": 1}, ["k"]), kept["said"]
    assert "written again after it was packed" in reasons(kept)
    done = expire(world, compact(world), *DELETE)
    assert done["outcomes"] == {"expired": 1}, reasons(done)
    back = [
        "--archives",
        f"s3://{world.destination}/packed",
        "--key",
        "k",
        "--destination",
        f"s3://{world.ledger}/back",
    ]
    assert world.sealift("restore", *back).code == 0
    assert world.client.get_object(Bucket=world.ledger, Key="back/k")["Body"].read() == b"one"
