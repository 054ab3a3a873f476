"""Interrupts: how Ctrl-C and SIGTERM end a command, wherever and however often they come.

Both signals do the same. The first one cancels the coroutine that the command runs, so that it
finishes what it has begun. The second one raises KeyboardInterrupt, and the process ends within
`END_SECONDS`, which is safe since it may be killed at any time. Where the main thread itself waits,
as for what a person types, there is no coroutine to cancel: there the first signal raises
KeyboardInterrupt (`raised`).
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

END_SECONDS = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


class _Process:
    """The state of this process. `end`: ends it at once, None until `install`."""

    count = 0
    end: Callable[[], None] | None = None
    cancel: Callable[[], None] | None = None
    is_ending = False

    def take(self, number: int, frame: object) -> None:
        """Handle a signal. Python calls it in the main thread, between two instructions."""
        if self.is_ending:
            self.count = max(self.count, 1)
            self.note()
            return
        self.note()
        if self.cancel is None:
            raise KeyboardInterrupt
        cancel, self.cancel = self.cancel, None
        cancel()

    def note(self) -> None:
        """Count a signal. From the second one on, the process has `END_SECONDS`."""
        self.count += 1
        if self.count == 2 and self.end is not None:
            late = threading.Timer(END_SECONDS, self.end)
            late.daemon = True
            late.start()


_process = _Process()


def install(end: Callable[[], None]) -> None:
    """Have signals interrupt this process. `end` is called in a thread, and must end the process.

    Where Ctrl-C is ignored, as in the background of a shell, it stays ignored.
    """
    _process.end = end
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(signal.SIGINT, _process.take)
    signal.signal(signal.SIGTERM, _process.take)


def ignore() -> None:
    """Ignore Ctrl-C from now on, since the process is ending: another one would print a traceback.

    After SIGTERM it has `END_SECONDS` left.
    """
    if threading.current_thread() is threading.main_thread():
        _process.is_ending = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_interrupt(error: BaseException) -> bool:
    """True if a library raised this error in the place of a KeyboardInterrupt.

    DuckDB looks for signals while it works. If one raises, it ends the query with an error of its
    own.
    """
    return _process.count > 0 and isinstance(error, RuntimeError) and str(error) == "Query interrupted"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does. An interrupt cancels it: raises KeyboardInterrupt."""

    async def main() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def cancel() -> None:
            task.cancel()
            loop.call_soon_threadsafe(lambda: None)  # wakes the loop, which may wait for an answer

        _process.cancel = cancel
        try:
            return await work
        finally:
            _process.cancel = None

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if _process.count:
            raise KeyboardInterrupt from None
        raise


@contextmanager
def handled(take: Callable[[int], object]) -> Iterator[None]:
    """Call `take` with the number of each SIGTERM or Ctrl-C while the block runs, and do nothing else."""
    before = {each: signal.signal(each, lambda number, _: take(number)) for each in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped_by_signals(stop: Callable[[], None]) -> AbstractContextManager[None]:
    """Call `stop` on the event loop for each SIGTERM or Ctrl-C while the block runs."""
    loop = asyncio.get_running_loop()

    def take(number: int) -> None:
        _process.note()
        loop.call_soon_threadsafe(stop)

    return handled(take)


@contextmanager
def raised() -> Iterator[None]:
    """Have an interrupt raise KeyboardInterrupt in the block, which may wait for a person.

    Does nothing in any thread but the main one, and where a signal calls something else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _process.cancel = _process.cancel, None
    try:
        yield
    finally:
        _process.cancel = before
