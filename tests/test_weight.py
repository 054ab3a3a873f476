"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 25,
    "environment variables": 23,
    "jobs": 882,
    "jobs/archives": 1492,
    "jobs/aws": 1148,
    "jobs/backup": 1160,
    "jobs/checksum_reports": 300,
    "jobs/cli": 4857,
    "jobs/compact": 1430,
    "jobs/core": 1720,
    "jobs/doctor": 2326,
    "jobs/expire": 2028,
    "jobs/inventory": 693,
    "jobs/ledger": 1793,
    "jobs/local": 567,
    "jobs/nights": 2033,
    "jobs/policy": 1244,
    "jobs/reconcile": 2520,
    "jobs/replicate": 713,
    "jobs/reports": 1177,
    "jobs/restore": 1503,
    "jobs/runs": 3146,
    "jobs/s3": 4890,
    "jobs/sync": 1550,
    "jobs/tables": 550,
    "jobs/verify": 989,
    "names of options": 125,
    "options of one command": 59,
    "scheduler": 1542,
    "terraform": 3626,
    "terraform/modules": 581,
    "tests": 52500,
    "the product": 42000,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
