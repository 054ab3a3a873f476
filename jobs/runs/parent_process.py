"""The parent process: when it is gone, this process stops.

A process of Sealift that must not outlive its parent (`jobs.core.parentage`) has a pipe for its
stdin, whose other end the parent holds. The pipe closes whatever ends the parent, `kill -9`
included. Linux could send a signal instead (PR_SET_PDEATHSIG, prctl(2)). But it does so when the
*thread* that has forked ends, and the local executor starts workers from the threads of a pool.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from jobs.core.parentage import PARENT_PIPE
from jobs.errors import ExitCode

PATIENCE_SECONDS = 12.0
"""A process that hangs is killed so long after its parent's end.

By then a new attempt still waits for it.
"""

_gone = threading.Event()


def is_gone() -> bool:
    """True if the parent has ended. False if there is no parent to watch."""
    return _gone.is_set()


def watch_parent(patience_seconds: float = PATIENCE_SECONDS) -> None:
    """End this process as SIGTERM does when stdin closes.

    If it is still there `patience_seconds` later, kill it.
    """
    os.environ.pop(PARENT_PIPE, None)  # what this process starts has another parent
    threading.Thread(target=_watch, args=(patience_seconds,), name="parent", daemon=True).start()


def _watch(patience_seconds: float) -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # as good as closed
    _gone.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_seconds)
    os._exit(ExitCode.TRANSIENT)
