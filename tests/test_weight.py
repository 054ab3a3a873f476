"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 25,
    "environment variables": 23,
    "jobs": 879,
    "jobs/archives": 1484,
    "jobs/aws": 1148,
    "jobs/backup": 1161,
    "jobs/checksum_reports": 300,
    "jobs/cli": 4929,
    "jobs/compact": 1448,
    "jobs/core": 1369,
    "jobs/doctor": 2321,
    "jobs/expire": 2823,
    "jobs/inventory": 693,
    "jobs/ledger": 1789,
    "jobs/local": 567,
    "jobs/nights": 1673,
    "jobs/policy": 1244,
    "jobs/reconcile": 2450,
    "jobs/replicate": 713,
    "jobs/reports": 1175,
    "jobs/restore": 1516,
    "jobs/runs": 3134,
    "jobs/s3": 4796,
    "jobs/tables": 534,
    "jobs/verify": 989,
    "names of options": 122,
    "options of one command": 59,
    "scheduler": 1539,
    "terraform": 3583,
    "terraform/modules": 561,
    "tests": 50364,
    "the product": 40674,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
