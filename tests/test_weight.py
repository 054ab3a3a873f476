"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 9,
    "jobs": 707,
    "jobs/archives": 1138,
    "jobs/aws": 517,
    "jobs/backup": 191,
    "jobs/checksum_reports": 288,
    "jobs/cli": 3483,
    "jobs/compact": 922,
    "jobs/core": 1304,
    "jobs/doctor": 747,
    "jobs/expire": 1482,
    "jobs/inventory": 546,
    "jobs/ledger": 1592,
    "jobs/local": 487,
    "jobs/nights": 541,
    "jobs/policy": 933,
    "jobs/reconcile": 1179,
    "jobs/replicate": 63,
    "jobs/reports": 769,
    "jobs/restore": 1170,
    "jobs/runs": 2339,
    "jobs/s3": 4140,
    "jobs/sync": 1237,
    "jobs/tables": 412,
    "jobs/verify": 686,
    "names of options": 78,
    "options of one command": 25,
    "scheduler": 950,
    "terraform": 2402,
    "terraform/modules": 487,
    "tests": 45260,
    "the product": 27823,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
