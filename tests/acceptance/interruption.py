"""Ctrl-C, SIGTERM and a closed terminal: heard once while there is work, and not while it is destroyed."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody wants this to end. No `except Exception` holds it up."""


class Interruption:
    """Hears signals while its block lasts."""

    def __init__(self) -> None:
        self.is_masked = False
        self.came = ""

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def mask(self) -> None:
        """From here on a signal ends nothing."""
        self.is_masked = True

    def _hear(self, number: int, frame: FrameType | None) -> None:
        is_first, self.came = not self.came, self.came or signal.Signals(number).name
        if self.is_masked or not is_first:
            print("It is being destroyed: please wait, or it stays and costs.", flush=True)
        else:
            raise Interrupted(self.came)
