"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 24,
    "environment variables": 9,
    "jobs": 644,
    "jobs/archives": 1133,
    "jobs/aws": 516,
    "jobs/backup": 170,
    "jobs/checksum_reports": 278,
    "jobs/cli": 2961,
    "jobs/compact": 851,
    "jobs/core": 1227,
    "jobs/doctor": 721,
    "jobs/expire": 1477,
    "jobs/inventory": 537,
    "jobs/ledger": 1466,
    "jobs/local": 439,
    "jobs/nights": 469,
    "jobs/policy": 887,
    "jobs/reconcile": 1084,
    "jobs/replicate": 61,
    "jobs/reports": 755,
    "jobs/restore": 973,
    "jobs/rollback": 441,
    "jobs/runs": 2092,
    "jobs/s3": 3954,
    "jobs/sync": 1119,
    "jobs/tables": 401,
    "jobs/verify": 616,
    "names of options": 78,
    "options of one command": 25,
    "scheduler": 931,
    "terraform": 2402,
    "terraform/modules": 487,
    "tests": 44458,
    "the product": 26234,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
