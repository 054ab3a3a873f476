"""Whether anybody still works at a run."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import claim_run, process_began
from jobs.runs.progress import has_stopped
from jobs.runs.request import new_run_id
from tests.doubles.ledgers import make_ledger

HOUR = 3600.0
DEAD = 2**22 + 1
"""No process has this id: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html (pid_max)"""


@pytest.mark.parametrize(
    ("changed", "hours", "is_over"),
    [
        ({}, 13, False),
        ({"pid": DEAD}, 0, True),
        ({"began": "of another boot 7"}, 0, True),
        ({"began": None}, 0, False),
        ({"began": None}, 13, True),
        ({"host": "another"}, 11, False),
        ({"host": "another", "pid": DEAD}, 13, True),
        (None, 0.1, False),
        (None, 1, True),
    ],
)
async def test_a_run_has_stopped(
    changed: dict[str, Any] | None, hours: float, *, is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: nobody has claimed it. `hours`: since it was written to."""
    if process_began(os.getpid()) is None:
        pytest.skip("this system has no /proc")
    at = time.time() - hours * HOUR
    ledger, run_id = make_ledger(clock=lambda: at), new_run_id("verify", at - HOUR)
    await ledger.write_document(run_id, "plan.json", {})
    if changed is not None:
        whole = ledger.write_document

        async def write(run_id: str, name: str, document: dict[str, Any]) -> None:
            await whole(run_id, name, document | changed)

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "write_document", lambda _, *arguments: write(*arguments))
            await claim_run(ledger, run_id, "a command")
    assert await has_stopped(ledger, run_id) is is_over
