"""The list of deviations itself."""

from __future__ import annotations

import re
from pathlib import Path

from tests.s3.contract.checks import CEPH, FAST, SLOW
from tests.s3.contract.deviations import DEVIATIONS


def test_the_deviations_name_checks_and_stores_that_exist() -> None:
    files = Path(__file__).parent.glob("test_*.py")
    checks = {name for file in files for name in re.findall(r"^async def test_(\w+)", file.read_text(), re.MULTILINE)}
    assert {key[0] for key in DEVIATIONS} <= checks
    assert {key[1] for key in DEVIATIONS} <= {*FAST, *SLOW, *CEPH} - {"memory"}
