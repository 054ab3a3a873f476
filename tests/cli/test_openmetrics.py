"""`sealift status --openmetrics`: the numbers after a night, read by the format's own parser."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jobs.cli import openmetrics, status
from jobs.core.model import Location
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from jobs.policy.reader import read_policy
from tests.nights.night_world import World

MOST_SERIES = 20
PARSER: Any = importlib.import_module("prometheus_client.openmetrics.parser")


def test_the_numbers_after_a_night_are_openmetrics(tmp_path: Path) -> None:
    world = World(tmp_path, "retain", is_versioned=True, has_inventory=False)
    for key in ("a", "b"):
        world.put("source", key, b"one")
        world.copy(key)
    world.pass_night(())
    ledger, policy = Ledger(world.store, Location("ledger", "l/")), read_policy(str(tmp_path / "policy.yaml"))

    async def look() -> str:
        document = await status._look(ledger, None)
        waiting = [("event", "q", 0), ("dead letter", "q-dead", 0), ("undelivered event", "q-undelivered", None)]
        document["queues"] = [dict(zip(("what", "queue", "waiting"), each, strict=True)) for each in waiting]
        document["backlogs"] = [{"pair": "pair", "rows": 3}]
        document["pairs"] = [
            row async for name, row in status._night(ledger, policy, policy.pairs[0]) if name == "pairs"
        ]
        return openmetrics.open_metrics(document, world.now + 3600)

    damaged = patch("jobs.ledger.views.open_views", side_effect=LedgerError("a state file is damaged"))
    text = world.play(look())
    with damaged:
        without = world.play(look())
    families = {each.name: each for each in PARSER.text_string_to_metric_families(text + "\n")}
    assert families.keys() == openmetrics.GAUGES.keys()
    found = {
        (sample.name, sample.labels.get("status")): sample.value
        for each in families.values()
        for sample in each.samples
    }
    assert found["sealift_objects", "same"] == 2
    assert found["sealift_bytes", "same"] == 6
    assert found["sealift_open_findings", None] == found["sealift_waiting_events", None] == 0
    assert found["sealift_backlog_rows", None] == 3
    unknown = {line.split("{")[0] for line in text.splitlines()} - {line.split("{")[0] for line in without.splitlines()}
    assert unknown == {"sealift_problems", "sealift_open_findings"}, "no number of what nobody could read"
    ages = {name: value for (name, _), value in found.items() if name.endswith("_age_seconds")}
    assert len(ages) == 3
    assert 3600 <= ages["sealift_good_night_age_seconds"] < 86_400
    assert sum("pair" in sample.labels for each in families.values() for sample in each.samples) <= MOST_SERIES
