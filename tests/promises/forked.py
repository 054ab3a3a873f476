"""pytest in a process that has what it imports: that takes longer than most tests of a promise.

Nothing of `jobs` or `tests` is loaded before the process is a test's own.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        *("pytest", "_pytest.assertion.rewrite", "hypothesis", "hypothesis.strategies", "boto3", "duckdb"),
        *("asyncio", "click", "ssl", "pyarrow.compute", "pyarrow.parquet", "yaml"),
    ]
)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], output: Path, limit_seconds: float | None
) -> int | None:
    """pytest's exit code, None if it was ended after so long. `output` gets what it says."""
    process = _FORKED.Process(target=_pytest, args=(arguments, environment, output))
    process.start()
    process.join(limit_seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _pytest(arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
    os.environ.update(environment)
    with open(output, "wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    import pytest

    code = int(pytest.main(list(arguments)))
    sys.stdout.flush()
    os._exit(code)  # libraries that were loaded before the fork may crash at exit
