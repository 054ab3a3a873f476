"""The policy file of the world's one pair, as a user writes it."""

from __future__ import annotations

import json
from typing import Any

from tests.simulation.schedule import ARCHIVES, COPIES, DESTINATION, LEDGER, SOURCE, Schedule

PAIR = "pair"
S3 = {"region": "us-east-1"}
PACKING = {"name": "all", "older_than": "0d", "smaller_than": "1MiB", "storage_class": "GLACIER_IR", "format": "tar"}
POLICY_PAIR: dict[str, Any] = {
    "name": PAIR, "source": S3 | {"bucket": SOURCE}, "thresholds": {"lambda_max_size": "24B"},
    "destination": S3 | {"bucket": DESTINATION, "prefix": COPIES},
    "archive": S3 | {"bucket": DESTINATION, "prefix": ARCHIVES, "rules": [PACKING]},
}  # fmt: skip
POLICY: dict[str, Any] = {"version": 1, "name": "sealift", "ledger": S3 | {"bucket": LEDGER, "prefix": "l/"}}


def policy_of(schedule: Schedule) -> str:
    """The file's text."""
    pair = POLICY_PAIR | {"deletes": "mirror" if schedule.mirrors_deletes else "retain"}
    return json.dumps(POLICY | {"pairs": [pair]})
