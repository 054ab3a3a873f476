"""Places of an expire run: its operator names them, and nothing in the ledger does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.core.run import Plan, RunSpec, run_digest
from tests.doubles.servers import REGION
from tests.end_to_end import forged_ledger
from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import NOW, compact, expire, fill, keys, replicate
from tests.end_to_end.pair_policy import write_policy


def test_the_policy_names_the_places_of_a_pair(world: World, tmp_path: Path) -> None:
    fill(world, 2)
    world.put("drafts/kept")
    compact(world, "--include", "docs/*")
    rule = {"name": "all", "older_than": "30d"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    file = write_policy(world, tmp_path, docs={"archive": archive})
    given = ["expire", "--pair", "docs", "--policy", file, "--json"]
    refused = world.sealift(*given)
    assert (refused.code, "lets nothing of it expire" in refused.stderr) == (2, True)
    file = write_policy(world, tmp_path, docs={"archive": archive | {"expire": {"grace": "1s", "max_share": "90%"}}})
    declared = world.sealift(*given, "--declare").document["places"]
    assert [(each["uri"], each["rank"]) for each in declared] == [
        (f"s3://{world.source}/", 0), (f"s3://{world.destination}/packed/", 1)
    ]  # fmt: skip
    time.sleep(2)
    said = world.sealift(*given)
    assert said.document.get("outcomes") == {"left": 2}, said.stderr
    assert said.document["expiry"]["current"] == {"eligible": 2, "listed": 3}
    assert said.document["expiry"]["copies"] == [f"s3://{world.destination}/packed/"]


def forged_expiry(world: World, new_id: str) -> list[str]:
    """A run that says it deletes all originals, and has not ended. The originals."""
    originals = fill(world, 3)
    replicate(world)
    dry = expire(world, *NOW)
    assert dry["outcomes"] == {"left": 3}
    forged_ledger.copy_run(world, dry["run_id"], new_id, lambda spec: spec["options"].update(delete=True, unguarded=[]))
    return originals


def test_a_retry_starts_nothing_that_deletes_whatever_the_run_is_called(world: World) -> None:
    run_id = "29990101T000000Z-verify-ffffff"
    names = forged_expiry(world, run_id)
    result = world.sealift("runs", "retry", run_id, "--yes")
    assert result.code in (2, 10), result.stderr
    assert keys(world) == names


def test_a_worker_deletes_only_what_its_launcher_has_pinned(world: World) -> None:
    run_id = "29990101T000000Z-expire-ffffff"
    names = forged_expiry(world, run_id)
    worker = ["worker", run_id, "--shard", "0"]
    bare = world.sealift(*worker)
    assert (bare.code, "starts its workers" in bare.stderr, keys(world)) == (2, True, names)
    documents = [json.loads(forged_ledger.read(world, f"runs/{run_id}/{name}.json")) for name in ("spec", "plan")]
    digest = run_digest(RunSpec.from_dict(documents[0]), Plan.from_dict(documents[1]))
    (shard,) = forged_ledger.names(world, f"runs/{run_id}/shards/")
    honest = forged_ledger.read(world, shard)
    forged_ledger.edit_rows(world, shard, size_bytes=None)
    other_shard = world.sealift(*worker, "--run-sha256", digest)
    assert (other_shard.code, keys(world)) == (10, names), other_shard.stderr
    forged_ledger.write(world, shard, honest)
    changes: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
        ("spec", lambda spec: spec["destination"].update(endpoint="http://127.0.0.1:1")),
        ("plan", lambda plan: plan["shards"][0].update(sha256="")),
    ]
    for name, change in changes:
        document = f"runs/{run_id}/{name}.json"
        before = forged_ledger.read(world, document)
        forged_ledger.edit_json(world, document, change)
        altered = world.sealift(*worker, "--run-sha256", digest)
        assert (altered.code, keys(world)) == (10, names), altered.stderr
        forged_ledger.write(world, document, before)
    done = world.sealift(*worker, "--run-sha256", digest)
    assert (done.code, keys(world)) == (0, []), done.stderr


def pair_rule(world: World) -> dict[str, Any]:
    """An archive whose originals may expire at once."""
    rule = {"name": "all", "older_than": "30d"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    return {"archive": archive | {"expire": {"grace": "1s", "max_share": "100%"}}}


def fill_around(world: World) -> list[str]:
    """Two keys of the pair `docs`, and keys between them that are not the pair's: these."""
    for name in ("docs/1", "drafts/2", "docs/tmp/3", "data/4", "d-other/5"):
        world.put(name, b"content of " + name.encode())
    return ["d-other/5", "data/4", "docs/tmp/3"]


def test_a_pair_expires_only_what_the_policy_says_is_its(world: World, tmp_path: Path) -> None:
    others = fill_around(world)
    compact(world)
    given = ["expire", "--pair", "docs", "--policy", write_policy(world, tmp_path, docs=pair_rule(world)), "--json"]
    assert world.sealift(*given, "--declare").code == 0
    time.sleep(2)
    report = world.sealift(*given, "--yes-delete")
    assert report.document["outcomes"] == {"done": 2}, report.stderr
    assert keys(world) == others
    plan = world.sealift("runs", "show", report.document["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"other_pair": 3, "sealift_object": 1}
