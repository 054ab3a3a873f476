"""The list of what Ceph does otherwise, as the tests of the command line see it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.end_to_end.ceph_deviations import DEVIATIONS

HERE = Path(__file__).parent


def test_each_deviation_names_one_test_that_runs_on_ceph() -> None:
    """A line for a test that has another name by now would say what nobody looks at."""
    files = [file.read_text() for file in HERE.glob("test_*.py")]
    tests = Counter(name for file in files for name in re.findall(r"^def (test_\w+)", file, re.MULTILINE))
    names = [name.partition("[")[0] for name in DEVIATIONS]
    assert {name: tests[name] for name in names} == dict.fromkeys(names, 1)
