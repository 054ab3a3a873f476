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
    "jobs/backup": 1156,
    "jobs/checksum_reports": 291,
    "jobs/cli": 4836,
    "jobs/compact": 1429,
    "jobs/core": 1724,
    "jobs/doctor": 2326,
    "jobs/expire": 1842,
    "jobs/inventory": 693,
    "jobs/ledger": 1798,
    "jobs/local": 567,
    "jobs/nights": 2033,
    "jobs/policy": 1244,
    "jobs/reconcile": 2538,
    "jobs/replicate": 611,
    "jobs/reports": 1177,
    "jobs/restore": 1491,
    "jobs/runs": 3324,
    "jobs/s3": 4968,
    "jobs/sync": 1233,
    "jobs/tables": 575,
    "jobs/verify": 967,
    "names of options": 124,
    "options of one command": 58,
    "scheduler": 1542,
    "terraform": 3626,
    "terraform/modules": 581,
    "tests": 52011,
    "the product": 42030,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
