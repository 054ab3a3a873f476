"""The weight of the project falls: nothing is heavier than its limit, and the limits are only ever lowered."""

from __future__ import annotations

import pytest

from tests.weight import weigh

LIMITS = {
    "commands": 25,
    "environment variables": 9,
    "jobs": 611,
    "jobs/archives": 1119,
    "jobs/aws": 521,
    "jobs/backup": 157,
    "jobs/checksum_reports": 275,
    "jobs/cli": 2632,
    "jobs/compact": 830,
    "jobs/core": 1153,
    "jobs/doctor": 707,
    "jobs/drill": 676,
    "jobs/expire": 1348,
    "jobs/inventory": 535,
    "jobs/ledger": 1374,
    "jobs/local": 433,
    "jobs/nights": 454,
    "jobs/policy": 895,
    "jobs/reconcile": 1066,
    "jobs/replicate": 60,
    "jobs/reports": 732,
    "jobs/restore": 937,
    "jobs/rollback": 425,
    "jobs/runs": 2129,
    "jobs/s3": 3954,
    "jobs/sync": 963,
    "jobs/tables": 373,
    "jobs/verify": 522,
    "names of options": 82,
    "options of one command": 25,
    "scheduler": 885,
    "terraform": 2440,
    "terraform/modules": 487,
    "tests": 43564,
    "the product": 25766,
}


@pytest.fixture(scope="module")
def weights() -> dict[str, int]:
    return weigh()


def test_nothing_is_heavier_than_its_limit(weights: dict[str, int]) -> None:
    assert weights.keys() == LIMITS.keys(), "a package is new, or is gone: mend LIMITS"
    heavier = {name: f"{weight} of {LIMITS[name]}" for name, weight in weights.items() if weight > LIMITS[name]}
    assert heavier == {}
