"""Pipe from the parent process: shows that it still runs, and brings the credentials it lends.

A process of Sealift that must not outlive its parent (`jobs.core.parentage`) has a pipe for its
stdin. The parent holds the other end, which closes when the parent ends, by `kill -9` too. Then
this process stops.

A worker asks for credentials on its stdout, and its parent sends them through the pipe.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from jobs.core.parentage import LENDS, PARENT
from jobs.credentials import Loan, borrow_from
from jobs.errors import ConfigError, ExitCode

PATIENCE_SECONDS = 12.0
"""A process that hangs is killed so long after its parent's end."""

IS_GONE = threading.Event()
"""Set when the parent has ended. Never, if there is no parent to watch."""
IS_LENDING = threading.Event()
"""Set if the parent lends this process its credentials."""
_lines = SimpleQueue[bytes]()
"""Lines that the parent has sent and this process has not used yet."""


def watch_parent(patience_seconds: float = PATIENCE_SECONDS) -> None:
    """End this process as SIGTERM does when stdin closes.

    If it is still there `patience_seconds` later, kill it.
    """
    if os.environ.pop(PARENT, None) == LENDS:  # what this process starts has another parent
        IS_LENDING.set()
    threading.Thread(target=_watch, args=(patience_seconds,), name="parent", daemon=True).start()


def borrow_credentials(send: Callable[[Any], None]) -> None:
    """Take this process's credentials from its parent. `send` sends a document to the parent.

    Call `watch_parent` as well: it reads the answers.
    """
    lock = threading.Lock()

    def ask(profile: str | None) -> Loan:
        """Ask the parent, once at a time. An answer may take minutes, since a person may have to type a code first.

        Raises ConfigError with the parent's message.
        """
        with lock:
            send({"credentials_of": profile})
            answer = json.loads(_lines.get())
        if "error" in answer:
            raise ConfigError(answer["error"])
        return Loan(*answer["loan"])

    borrow_from(ask)


def _watch(patience_seconds: float) -> None:
    unfinished = b""
    with suppress(OSError):  # as good as closed
        while data := os.read(0, 4096):
            *lines, unfinished = (unfinished + data).split(b"\n")
            for line in lines:
                _lines.put(line)
    IS_GONE.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_seconds)
    os._exit(ExitCode.TRANSIENT)
