"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 23,
    "environment variables": 9,
    "jobs": 707,
    "jobs/archives": 1138,
    "jobs/aws": 518,
    "jobs/backup": 172,
    "jobs/checksum_reports": 288,
    "jobs/cli": 2980,
    "jobs/compact": 918,
    "jobs/core": 1305,
    "jobs/doctor": 724,
    "jobs/expire": 1481,
    "jobs/inventory": 546,
    "jobs/ledger": 1486,
    "jobs/local": 487,
    "jobs/nights": 496,
    "jobs/policy": 935,
    "jobs/reconcile": 1080,
    "jobs/replicate": 62,
    "jobs/reports": 755,
    "jobs/restore": 1163,
    "jobs/runs": 2303,
    "jobs/s3": 3961,
    "jobs/sync": 1219,
    "jobs/tables": 403,
    "jobs/verify": 659,
    "names of options": 78,
    "options of one command": 25,
    "scheduler": 943,
    "terraform": 2402,
    "terraform/modules": 487,
    "tests": 45841,
    "the product": 26729,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
