"""`sealift local` in a process of its own, as a user starts it.

with local_process() as local:
    ...  # local.environment points a shell at it; local.process.stdout has a status line a second
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 30


@dataclass(frozen=True)
class LocalProcess:
    """The process, what a shell needs to use it, and the folder of its logs."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    folder: Path


@contextlib.contextmanager
def local_process(*arguments: str, module: Sequence[str] = ("jobs",)) -> Iterator[LocalProcess]:
    """Start it, and end it with the block. `module`: what `python -m` runs, and its first arguments.

    Raises RuntimeError with what it said if it does not come up.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *module, "local", "--json", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        if not first:
            raise RuntimeError(f"sealift local did not come up: {process.stderr.read()[-2000:]}")
        ready = json.loads(first)
        yield LocalProcess(process, ready["environment"], Path(ready["folder"]))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_SECONDS)
