"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 10,
    "jobs": 876,
    "jobs/archives": 1458,
    "jobs/aws": 521,
    "jobs/backup": 263,
    "jobs/checksum_reports": 291,
    "jobs/cli": 4333,
    "jobs/compact": 1364,
    "jobs/core": 1563,
    "jobs/doctor": 815,
    "jobs/expire": 1625,
    "jobs/inventory": 650,
    "jobs/ledger": 2317,
    "jobs/local": 561,
    "jobs/nights": 813,
    "jobs/policy": 979,
    "jobs/reconcile": 1380,
    "jobs/replicate": 80,
    "jobs/reports": 1118,
    "jobs/restore": 1495,
    "jobs/runs": 3007,
    "jobs/s3": 4898,
    "jobs/sync": 1486,
    "jobs/tables": 580,
    "jobs/verify": 722,
    "names of options": 80,
    "options of one command": 25,
    "scheduler": 1172,
    "terraform": 2378,
    "terraform/modules": 487,
    "tests": 51666,
    "the product": 34367,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
