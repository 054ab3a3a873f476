"""A clock that nobody sets, and requests that must not be sent after a moment of it."""

from __future__ import annotations

import time

from jobs.core.model import ObjectRef
from jobs.errors import Conflict

TOO_LATE = "TooLate"
"""The error's code for a request that was not sent, because its last moment was over."""
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_seconds() -> float:
    """Seconds since some moment. It also runs while the machine sleeps, if the system has such a
    clock.
    """
    return time.clock_gettime(_ELAPSED)


def refuse_late(operation: str, place: ObjectRef, send_by: float | None) -> None:
    """Raise Conflict if the moment is over by which a request had to be sent (`Store.delete`)."""
    if send_by is not None and elapsed_seconds() > send_by:
        raise Conflict(operation, str(place), TOO_LATE, "what it relies on was seen too long ago: nothing was sent")
