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


def test_a_pair_expires_only_what_the_policy_says_is_its(world: World, tmp_path: Path) -> None:
    """The policy names its places. Between its keys are some that are not the pair's, and one has no copy."""
    for name in ("docs/1", "drafts/2", "docs/tmp/3", "data/4", "d-other/5"):
        world.put(name, b"content of " + name.encode())
    compact(world)
    world.put("drafts/kept")
    rule = {"name": "all", "older_than": "30d"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    file = write_policy(world, tmp_path, docs={"archive": archive})
    given = ["expire", "--pair", "docs", "--policy", file, "--json"]
    refused = world.sealift(*given)
    assert (refused.code, "lets nothing of it expire" in refused.stderr) == (2, True)
    write_policy(world, tmp_path, docs={"archive": archive | {"expire": {"grace": "1s", "max_share": "100%"}}})
    declared = world.sealift(*given, "--declare").document["places"]
    packed = f"s3://{world.destination}/packed/"
    assert [(each["uri"], each["rank"]) for each in declared] == [(f"s3://{world.source}/", 0), (packed, 1)]
    time.sleep(2)
    said = world.sealift(*given)
    assert said.document.get("outcomes") == {"left": 2}, said.stderr
    assert said.document["expiry"]["current"] == {"eligible": 2, "listed": 3}
    assert said.document["expiry"]["copies"] == [packed]
    report = world.sealift(*given, "--yes-delete")
    assert report.document["outcomes"] == {"done": 2}, report.stderr
    assert keys(world) == ["d-other/5", "data/4", "docs/tmp/3", "drafts/kept"]
    plan = world.sealift("runs", "show", report.document["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"no_copy": 1, "other_pair": 3, "sealift_object": 1}
