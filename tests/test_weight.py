"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 24,
    "environment variables": 9,
    "jobs": 634,
    "jobs/archives": 1122,
    "jobs/aws": 510,
    "jobs/backup": 157,
    "jobs/checksum_reports": 275,
    "jobs/cli": 2832,
    "jobs/compact": 851,
    "jobs/core": 1225,
    "jobs/doctor": 692,
    "jobs/expire": 1377,
    "jobs/inventory": 535,
    "jobs/ledger": 1414,
    "jobs/local": 434,
    "jobs/nights": 461,
    "jobs/policy": 887,
    "jobs/reconcile": 1084,
    "jobs/replicate": 60,
    "jobs/reports": 736,
    "jobs/restore": 970,
    "jobs/rollback": 433,
    "jobs/runs": 2130,
    "jobs/s3": 3954,
    "jobs/sync": 965,
    "jobs/tables": 400,
    "jobs/verify": 522,
    "names of options": 78,
    "options of one command": 25,
    "scheduler": 927,
    "terraform": 2402,
    "terraform/modules": 487,
    "tests": 43787,
    "the product": 25671,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
