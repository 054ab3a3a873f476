"""--json of every verb: one document, with keys in snake_case, also of an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.command_tree import COMMANDS, parameters
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.scenes import settle

ELSEWHERE = {
    "doctor": "tests/doctor, with an account",
    "drill": "tests/end_to_end/test_drill.py, in a bucket that keeps versions",
    "events list": "tests/end_to_end/test_events.py, with queues",
    "events redrive": "tests/end_to_end/test_events.py, with queues",
    "local": "tests/end_to_end/test_local.py: a line for each status",
    "rollback": "tests/end_to_end/test_rollback.py, in a bucket that keeps versions",
    "runs cancel": "tests/end_to_end/test_batch.py, with AWS Batch",
}
"""Verbs whose documents other tests walk."""


def test_the_document_of_every_verb_has_keys_in_snake_case(world: World, tmp_path: Path) -> None:
    walked: set[str] = set()
    source, copies = f"s3://{world.source}/docs/", f"s3://{world.destination}/copies/"
    sides = ("--source", source, "--destination", copies)
    policy = ("--policy", write_policy(world, tmp_path))

    def walk(verb: str, *arguments: str) -> dict[str, Any]:
        result = world.sealift(*verb.split(), *arguments, "--json")
        assert result.code in (0, 3), result.stderr
        walked.add(verb)
        return result.document  # which checks the keys

    for number in range(4):
        world.put(f"docs/{number}", b"content")
    walk("inventory", source, "--destination", f"s3://{world.ledger}/inventories")
    young = walk("reconcile", *sides)
    assert young["categories"]["in_flight"]["rows"] == 4
    stored = world.read(world.ledger, f"runs/runs/{young['run_id']}/report.json")
    assert "in flight" in json.loads(stored)["categories"]
    walk("replicate", *sides, "--dry-run", "--newer-than", "1d")
    walk("replicate", *sides)
    world.put("docs/other", b"content")
    walk("verify", *sides)
    assert walk("status")["problems"]
    failed = walk("runs show", "latest")
    assert walk("runs retry", failed["run_id"], "--dry-run")["retried"]["rows"] == 1
    settle()
    walk("runs retry", failed["run_id"], "--yes")
    assert walk("runs show", failed["run_id"])["since_then"]["is_repaired"]
    walk("runs list")
    walk("runs show", "latest")
    walk("runs show", "latest", "--follow")
    walk("replicate", "--pair", "docs", *policy)
    walk("nightly", "--pair", "docs", *policy)
    walk("policy check", *policy[1:])
    walk("policy explain", *policy, f"{source}1")
    archives = f"s3://{world.destination}/archives"
    walk("compact", "--source", source, "--destination", archives, "--pack-all")
    [archive] = walk("archives list")["archives"]
    walk("archives find", "docs/1")
    walk("archives list", archive["location"])
    walk("archives reindex", "--source", archives)
    walk("restore", "--archives", archives, "--key", "docs/1", "--destination", f"s3://{world.ledger}/back")
    places = ("--source", source, "--destination", f"s3://{world.destination}/archives/")
    walk("expire", *places, "--declare")
    walk("expire", *places, "--grace", "0s")
    assert walked | ELSEWHERE.keys() == {
        path for path in COMMANDS if any("--json" in each.opts for each in parameters(path))
    }
