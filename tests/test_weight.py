"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 23,
    "jobs": 886,
    "jobs/archives": 1495,
    "jobs/aws": 1152,
    "jobs/backup": 263,
    "jobs/checksum_reports": 291,
    "jobs/cli": 4622,
    "jobs/compact": 1429,
    "jobs/core": 1742,
    "jobs/doctor": 2319,
    "jobs/expire": 1661,
    "jobs/inventory": 696,
    "jobs/ledger": 1807,
    "jobs/local": 566,
    "jobs/nights": 800,
    "jobs/policy": 1244,
    "jobs/reconcile": 1377,
    "jobs/replicate": 80,
    "jobs/reports": 1128,
    "jobs/restore": 1499,
    "jobs/runs": 3043,
    "jobs/s3": 4736,
    "jobs/sync": 1472,
    "jobs/tables": 586,
    "jobs/verify": 765,
    "names of options": 122,
    "options of one command": 58,
    "scheduler": 1268,
    "terraform": 3592,
    "terraform/modules": 581,
    "tests": 51372,
    "the product": 37497,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
