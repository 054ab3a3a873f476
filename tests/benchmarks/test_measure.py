"""The limit of a measured run."""

from __future__ import annotations

import os
import subprocess
import sys

CALL = "import os; from pathlib import Path; from tests.benchmarks.measure import measure; "
CALL += "measure(['sleep', '5'], os.environ, Path('.'))"


def test_a_run_beyond_the_limit_is_no_measurement() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CALL], env=os.environ | {"LIMIT": "0.5"}, capture_output=True, text=True, check=False
    )
    assert "TimeoutExpired" in ended.stderr
