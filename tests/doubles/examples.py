"""The number of examples that property tests and state machines play: one setting for all."""

from __future__ import annotations

import os

VARIABLE = "SEALIFT_EXAMPLES"
MOST = 25
"""What `make test` has the time for."""


def examples(usual: int) -> int:
    """`usual`, at most `MOST`, or what the environment asks of every property test, as `make hypothesis` does."""
    return int(os.environ.get(VARIABLE) or min(usual, MOST))
