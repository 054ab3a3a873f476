"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 9,
    "jobs": 768,
    "jobs/archives": 1138,
    "jobs/aws": 517,
    "jobs/backup": 191,
    "jobs/checksum_reports": 288,
    "jobs/cli": 3598,
    "jobs/compact": 922,
    "jobs/core": 1344,
    "jobs/doctor": 748,
    "jobs/expire": 1508,
    "jobs/inventory": 553,
    "jobs/ledger": 1720,
    "jobs/local": 487,
    "jobs/nights": 723,
    "jobs/policy": 933,
    "jobs/reconcile": 1238,
    "jobs/replicate": 72,
    "jobs/reports": 833,
    "jobs/restore": 1170,
    "jobs/runs": 2583,
    "jobs/s3": 4435,
    "jobs/sync": 1318,
    "jobs/tables": 477,
    "jobs/verify": 736,
    "names of options": 78,
    "options of one command": 25,
    "scheduler": 974,
    "terraform": 2402,
    "terraform/modules": 487,
    "tests": 45715,
    "the product": 29274,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
