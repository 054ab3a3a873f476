"""A command at a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.conftest import World


class Terminal:
    """A command at a pseudo-terminal: what it shows, and the keys that a person presses."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int):
        self.process, self._terminal, self.shown = process, terminal, ""

    def await_text(self, text: str, times: int = 1) -> None:
        while self.shown.count(text) < times:
            assert self._read(30), self.shown

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def await_end(self) -> int:
        while self._read(60):
            pass
        return self.process.wait(60)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        try:
            data = os.read(self._terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def at_a_terminal(world: World, *arguments: str) -> Iterator[Terminal]:
    above, below = pty.openpty()
    command = [sys.executable, "-m", "jobs", *arguments]
    process = subprocess.Popen(
        command, env=world.environment(), stdin=below, stdout=below, stderr=below, start_new_session=True,
        preexec_fn=lambda: _control(below),
    )  # fmt: skip
    os.close(below)
    try:
        yield Terminal(process, above)
    finally:
        process.kill()
        process.wait()
        os.close(above)


def _control(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
