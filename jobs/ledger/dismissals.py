"""Dismissals: a person says why nobody has to act on a run any more.

    runs/<run id>/dismissed/000000.json    written once, a next number for each later one

It is about the run as it was then: one that went on since, or has other bad rows, needs attention
again. `status` and `runs show` show it. Nothing that decides about an object reads it, so what
the run found of copies still counts for expire and for nights.
"""

from __future__ import annotations

import getpass
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.errors import LedgerError, PreconditionFailed, UsageError
from jobs.ledger.ledger import Ledger

FOLDER = "dismissed/"
MAX_CHARACTERS = 500
_NAME = re.compile(r"(\d{6,9})\.json", re.ASCII)
_END_OF_TIME = 1 << 36
"""The times of a calendar end before this (epoch seconds)."""


@dataclass(frozen=True, slots=True)
class Dismissal:
    """Who dismissed a run, when (epoch seconds) and why, and how the run was then."""

    reason: str
    by: str
    at: float
    state: str
    accounted: int
    failures: int

    def is_about(self, summary: Mapping[str, Any]) -> bool:
        """True if the run is still as it was. `summary`: as the list of runs shows it."""
        return (self.state, self.accounted, self.failures) == _state(summary)


async def find_dismissal(ledger: Ledger, summary: Mapping[str, Any]) -> Dismissal | None:
    """Return the dismissal of a run as it is now. One that was altered is none.

    `summary`: the run, as the list of runs shows it.
    """
    run_id = str(summary["run_id"])
    for name in reversed(await ledger.names(run_id, FOLDER)):
        try:
            dismissal = _parse(await ledger.document(run_id, FOLDER + name))
        except LedgerError:
            continue
        if dismissal is not None and dismissal.is_about(summary):
            return dismissal
    return None


async def dismiss(ledger: Ledger, summary: Mapping[str, Any], reason: str) -> Dismissal:
    """Dismiss a run as it is now. Raises UsageError for an unfit reason, or if somebody has."""
    reason, run_id = " ".join(reason.split()), str(summary["run_id"])
    if not reason or len(reason) > MAX_CHARACTERS:
        raise UsageError(
            f"--reason has {len(reason):,} characters", advice=f"write 1 to {MAX_CHARACTERS}, for those who ask later"
        )
    if (earlier := await find_dismissal(ledger, summary)) is not None:
        raise UsageError(f"run {run_id} is dismissed already: {earlier.reason} (by {earlier.by})")
    dismissal = Dismissal(reason, _who(), time.time(), *_state(summary))
    names = await ledger.names(run_id, FOLDER)
    numbers = [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
    number = max(numbers, default=-1) + 1
    try:
        await ledger.write_document(run_id, f"{FOLDER}{number:06d}.json", asdict(dismissal))
    except PreconditionFailed as error:
        raise UsageError(f"run {run_id} was dismissed just now", advice=f"see  sealift runs show {run_id}") from error
    return dismissal


def _parse(document: Mapping[str, Any]) -> Dismissal | None:
    values = {name: document.get(name) for name in Dismissal.__dataclass_fields__}
    texts, counts = ("reason", "by", "state"), ("accounted", "failures")
    is_valid = all(isinstance(values[name], str) and values[name] for name in texts)
    is_valid &= all(type(values[name]) is int for name in counts) and type(values["at"]) in (int, float)
    is_valid = is_valid and 0 <= values["at"] < _END_OF_TIME  # type: ignore[operator]  # a number by now
    return Dismissal(**values) if is_valid else None  # type: ignore[arg-type]  # each was looked at


def _state(summary: Mapping[str, Any]) -> tuple[str, int, int]:
    return summary["state"], summary["accounted"], summary["failures"]


def _who() -> str:
    """The user and the machine, as this machine says."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without names of users
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
