"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 23,
    "jobs": 896,
    "jobs/archives": 1495,
    "jobs/aws": 1152,
    "jobs/backup": 263,
    "jobs/checksum_reports": 291,
    "jobs/cli": 4632,
    "jobs/compact": 1429,
    "jobs/core": 1745,
    "jobs/doctor": 2319,
    "jobs/expire": 1680,
    "jobs/inventory": 701,
    "jobs/ledger": 2400,
    "jobs/local": 566,
    "jobs/nights": 806,
    "jobs/policy": 1248,
    "jobs/reconcile": 1381,
    "jobs/replicate": 80,
    "jobs/reports": 1137,
    "jobs/restore": 1499,
    "jobs/runs": 3146,
    "jobs/s3": 4818,
    "jobs/sync": 1491,
    "jobs/tables": 592,
    "jobs/verify": 779,
    "names of options": 123,
    "options of one command": 58,
    "scheduler": 1268,
    "terraform": 3622,
    "terraform/modules": 581,
    "tests": 51966,
    "the product": 37814,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
